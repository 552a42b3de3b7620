"""Whole calls on a simulated GPU: the sampling loop with its plans, windows and batches, and the voice."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import engine
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.errors import Cancelled
from engine.kernels import reference
from engine.kernels.gpu import GpuNetwork
from engine.kernels.label import label_row
from engine.sampling import guidance
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice, install
from tests.support.networks import CLASSES, SMALL, SMALL_UNCONDITIONAL
from tests.support.targets import exact, weights
from tests.support.tolerances import TOLERANCES, relative_error

TINY = replace(SMALL, residual_channels=16, residual_layers=4, dilation_cycle=3, n_mels=16, upsample_strides=(4, 4))
VARIANTS = {
    "lmnt": TINY,
    "unconditional": replace(SMALL_UNCONDITIONAL, residual_channels=16, residual_layers=4, dilation_cycle=3),
    "reflect": replace(TINY, padding="reflect"),
    "step bias in the residual": replace(TINY, step_bias_in_residual=True),
    "an upsampler per layer": replace(TINY, shared_upsampler=False),
    "no clamp": replace(TINY, clamp=False),
    "sinusoid": replace(TINY, step_embedding="sinusoid"),
    "prior": replace(TINY, prior=True),
    "48 channels": replace(TINY, residual_channels=48),
    "classes": replace(SMALL_UNCONDITIONAL, residual_channels=16, residual_layers=4, dilation_cycle=3, classes=CLASSES),
    "output is F": replace(TINY, signal_std=0.14),
    "hop 30": replace(TINY, upsample_strides=(6, 5 * 2), n_mels=7),
    "hop 15": replace(TINY, upsample_strides=(3, 5), n_mels=7),
    "hop 21": replace(TINY, upsample_strides=(7, 3), n_mels=7, shared_upsampler=False),
    "20 channels": replace(TINY, residual_channels=20),
}
FEW = (1e-3, 0.01, 0.3)
FRAMES = (9, 3)


@pytest.fixture
def device(one_torch_thread):
    return SimulatedDevice(80, checks=False)


def inputs(config, frames, with_noise=False, betas=None):
    """Return the schedule, items, and the audio of each item in float64."""
    plan = build_schedule(config, schedule=betas)
    items, audio = [], []
    for number, count in enumerate(frames):
        rng, length = np.random.default_rng(number), count * (config.hop if config.n_mels else 16)
        mel = rng.random((config.n_mels, count), dtype=np.float32) if config.n_mels else None
        scale = rng.uniform(0.1, 1.0, length).astype(np.float32) if config.prior else None
        x, *z = [normal(5 + number, n, 0, length) for n in range(len(plan))]
        batch = [None if a is None else torch.tensor(a).double()[None] for a in (mel, x, scale)]
        z = np.array(z, np.float32).reshape(len(plan) - 1, length)
        noise = torch.tensor(z).double()[:, None]
        label = (3 * number + 1) % len(CLASSES) if config.classes else None
        labels = None if label is None else torch.tensor([label])
        expected = reference.sample(
            exact(config), config, batch[0], plan, batch[1], noise, std=batch[2], labels=labels
        )[0]
        items.append(Item(length, mel, 5 + number, x, z if with_noise else None, scale, label=label))
        audio.append(expected)
    return plan, items, audio


def loop_of(device, config, precision="fp16", plan_samples=None):
    net = GpuNetwork(config, weights(config), device, precision)
    return GpuLoop(net) if plan_samples is None else GpuLoop(net, plan_bytes=plan_samples * net.bytes_per_sample())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, "fp16") for name in VARIANTS),
        *(("lmnt", "bf16"), ("lmnt", "tf32"), ("lmnt", "fp32"), ("classes", "fp32")),
        *(pytest.param("classes", precision, marks=pytest.mark.slow) for precision in ("bf16", "tf32")),
    ],
)
def test_variants_match_the_reference(device, name, precision):
    plan, items, audio = inputs(VARIANTS[name], FRAMES)
    for got, want in zip(loop_of(device, VARIANTS[name], precision).sample(items, plan), audio, strict=True):
        assert relative_error(got, want) < TOLERANCES[f"network_audio_{precision}"]


def test_noise_of_the_caller(device):
    plan, items, audio = inputs(TINY, FRAMES, with_noise=True)
    drawn = loop_of(device, TINY).sample(inputs(TINY, FRAMES)[1], plan)
    for got, same, want in zip(loop_of(device, TINY).sample(items, plan), drawn, audio, strict=True):
        assert relative_error(got, want) < TOLERANCES["network_audio_fp16"]
        assert got.numpy().tobytes() == same.numpy().tobytes()


@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("with_noise", [False, True])
def test_few_steps_match_the_reference(device, steps, with_noise):
    plan, items, audio = inputs(TINY, FRAMES, with_noise, build_schedule(TINY, steps).beta[::-1])
    assert len(plan) == steps
    for got, want in zip(loop_of(device, TINY).sample(items, plan), audio, strict=True):
        assert relative_error(got, want) < TOLERANCES["network_audio_fp16"]


def test_predict_noise_matches_the_reference(device):
    plan, items, _ = inputs(TINY, FRAMES)
    for item, got in zip(items, loop_of(device, TINY).predict_noise(items, plan.t[2]), strict=True):
        x, mel = (torch.tensor(a).double()[None] for a in (item.x, item.mel))
        want = reference.predict_noise(exact(TINY), TINY, x, plan.t[2], mel)[0]
        assert relative_error(got, want) < TOLERANCES["network_eps_fp16"]


def test_labels_in_a_batch_are_independent(device):
    """Items of one label share a plan. Neither the other items nor their order change the audio."""
    config = VARIANTS["classes"]
    plan, items, audio = inputs(config, (9, 3, 9), betas=FEW)
    items.append(replace(items[0], label=4))
    loop = loop_of(device, config)
    together = loop.sample(items, plan)
    for got, want in zip(together, audio, strict=False):
        assert relative_error(got, want) < TOLERANCES["network_audio_fp16"]
    assert relative_error(together[3], audio[0]) > 0.1, "the label has no effect, so this test proves nothing"
    eps = loop.predict_noise(items, plan.t[0])
    for i in (3, 0):
        assert loop.sample([items[i]], plan)[0].numpy().tobytes() == together[i].numpy().tobytes()
        assert loop.predict_noise([items[i]], plan.t[0])[0].numpy().tobytes() == eps[i].numpy().tobytes()


@pytest.mark.parametrize("with_noise", [False, True])
def test_guidance_matches_its_formula(device, with_noise):
    config = replace(VARIANTS["classes"], guidance=2.0, signal_std=0.14)
    plan, items, _ = inputs(config, (9, 3), with_noise, FEW)
    guided = guidance.sample(loop_of(device, config, "fp32"), items, plan, config, 2.0, None)
    for item, got in zip(items, guided, strict=True):
        assert isinstance(got, torch.Tensor)
        assert relative_error(got, checks.guided_audio(config, item, plan, 2.0)) < TOLERANCES["network_audio_fp32"]


@pytest.mark.parametrize("channels", [48, 64])
def test_a_label_is_added_to_the_bias_of_the_convolution(device, channels):
    config = replace(VARIANTS["classes"], residual_channels=channels)
    net = GpuNetwork(config, weights(config), device, "fp16")
    rows = torch.full((2, 4, 7 * net.channels), 0.5)
    net.add_label(rows, 3)
    joined, rest = rows[:, :, : 2 * net.channels] - 0.5, rows[:, :, 2 * net.channels :]
    expected = torch.from_numpy(label_row(config, weights(config), 3)).expand(2, -1, -1)
    assert relative_error(checks.halves(joined, config), expected) < TOLERANCES["operation_fp32"]
    assert (rest == 0.5).all() and not joined[:, :, 2 * channels :].any()


@pytest.mark.parametrize(
    ("name", "with_noise"),
    [
        *(("lmnt", True), ("reflect", False), ("prior", True), ("hop 30", False)),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in ("lmnt", "unconditional")),
    ],
)
def test_windows_do_not_change_the_audio(device, name, with_noise):
    """With a hop of 16 the halo is 3 * 8 samples and two frames, so that items of more than 256 samples are cut."""
    config = VARIANTS[name]
    plan, items, _ = inputs(config, (27, 2, 23), with_noise, betas=FEW)
    whole = loop_of(device, config).sample(items, plan)
    before = len(device.launched)
    loop = loop_of(device, config, plan_samples=256)
    cut = loop.sample(items, plan)
    assert len(device.launched) > 2 * before
    assert max(plan.shape.capacity for plan in loop.plans._idle) < max(len(x) for x in whole)  # something was cut
    for a, b in zip(whole, cut, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("name", ["lmnt", "prior"])
def test_a_plan_draws_the_noise_of_the_seed(device, name):
    """In one graph with the steps, in windows, and beside items that bring their own x_T."""
    config = VARIANTS[name]
    plan, items, _ = inputs(config, (27, 3), betas=FEW)
    expected = [audio.numpy().tobytes() for audio in loop_of(device, config).sample(items, plan)]
    seeded = [replace(item, x=None) for item in items]
    for batch, samples in ((seeded, None), ([seeded[0], items[1]], None), (seeded, 256)):
        audio = loop_of(device, config, plan_samples=samples).sample(batch, plan)
        assert [item.numpy().tobytes() for item in audio] == expected


def test_long_schedules_run_in_groups_of_steps(device):
    seven = (0.000135594, 0.0010096, 0.00877838, 0.035964, 0.077557, 0.18931, 0.3)
    plan, items, audio = inputs(TINY, (27,), betas=seven)
    whole = loop_of(device, TINY).sample(items, plan)
    assert relative_error(whole[0], audio[0]) < TOLERANCES["network_audio_fp16"]
    conditioner = [name for name in device.launched if name == "project_conditioner"]
    assert len(conditioner) == 2  # once without a graph, once for all 7 steps
    cut = loop_of(device, TINY, plan_samples=256).sample(items, plan)
    assert cut[0].numpy().tobytes() == whole[0].numpy().tobytes()


def test_an_event_stops_between_groups_of_steps(device):
    class Countdown:
        left = 2

        def is_set(self):
            self.left -= 1
            return self.left < 0

    plan, items, _ = inputs(TINY, (27, 27), betas=FEW)
    loop = loop_of(device, TINY, plan_samples=256)
    with pytest.raises(Cancelled, match="the audio was cancelled"):
        loop.sample(items, plan, None, Countdown())
    expected = loop_of(device, TINY).sample(items, plan)
    for audio, want in zip(loop.sample(items, plan), expected, strict=True):  # its plans are free, and as good as new
        assert audio.numpy().tobytes() == want.numpy().tobytes()


def test_audio_depends_on_neither_batch_nor_capacity_nor_reuse(device):
    plan, items, _ = inputs(TINY, (9, 3, 17, 1, 8), betas=FEW)
    loop = loop_of(device, TINY)
    together = loop.sample(items, plan)
    for item, expected in zip(reversed(items), reversed(together), strict=True):
        assert loop.sample([item], plan)[0].numpy().tobytes() == expected.numpy().tobytes()
    assert device.captured <= 2 * len(loop.plans)


def test_a_plan_is_captured_once_and_reads_new_inputs(device):
    loop = loop_of(device, TINY)
    plan, items, audio = inputs(TINY, (9,))
    loop.sample(items, plan)
    captured = device.captured
    device.bind = None  # nothing is compiled or bound after this
    full = build_schedule(TINY, schedule=[1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4])
    loop._biases.cache_clear()
    with pytest.raises(TypeError):  # except for the tables of a new schedule
        loop.sample(items, full)
    del device.bind
    other = [replace(items[0], mel=items[0].mel[:, ::-1].copy(), seed=77)]
    changed = loop.sample(other, plan)[0]
    again = loop.sample(items, plan)[0]
    assert relative_error(again, audio[0]) < TOLERANCES["network_audio_fp16"]
    assert relative_error(changed, audio[0]) > 0.01 and device.captured == captured


@pytest.fixture
def voice(tmp_path, monkeypatch, device):
    """Return `engine.load` with the simulated GPU as the GPU."""
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(TINY, weights(TINY)))
    install(monkeypatch, device)
    return lambda **options: engine.load(path, **options)


def test_a_voice_on_a_gpu_matches_a_voice_on_a_cpu(voice):
    gpu, cpu = voice(device="cuda", precision="tf32"), voice(device="cpu", precision="fp32")
    audio, eps = TOLERANCES["network_audio_tf32"], TOLERANCES["network_eps_tf32"]
    assert "device cuda:0: a simulated GPU, requested" in gpu.explain()
    mels = [np.random.default_rng(n).random((16, n), dtype=np.float32) for n in (5, 1, 8)]
    for a, b in zip(gpu.vocode(mels, seed=3), cpu.vocode(mels, seed=3), strict=True):
        assert isinstance(a, np.ndarray) and relative_error(a, b) < audio
    batch = np.stack([mels[0], mels[0][:, ::-1]])
    assert relative_error(gpu.vocode(batch, schedule=FEW), cpu.vocode(batch, schedule=FEW)) < audio
    x = normal(1, 0, 0, 80)
    assert relative_error(gpu.predict_noise(x, 3.5, mel=mels[0]), cpu.predict_noise(x, 3.5, mel=mels[0])) < eps
    assert relative_error(gpu.vocode(mels[0], seed=2**64 - 1), cpu.vocode(mels[0], seed=2**64 - 1)) < audio
    noise = normal(2, 0, 0, 80), np.stack([normal(2, n, 0, 80) for n in range(1, 6)])
    assert relative_error(gpu.vocode(mels[0], noise=noise), cpu.vocode(mels[0], noise=noise)) < audio


def test_tensors_return_tensors(voice):
    gpu = voice(device="cuda", precision="fp16")
    mel = torch.rand(16, 5)
    plain = gpu.vocode(mel.numpy())
    with torch.inference_mode():
        audio = gpu.vocode(mel)
    assert isinstance(audio, torch.Tensor) and audio.numpy().tobytes() == plain.tobytes()
    assert gpu.vocode(mel).numpy().tobytes() == plain.tobytes()  # a plan created in inference mode also runs outside it
    assert isinstance(gpu.vocode([mel, mel])[1], torch.Tensor) and gpu.vocode(mel[None]).shape == (1, 80)


def test_values_slightly_outside_are_clipped_on_the_device(voice):
    gpu, mel = voice(device="cuda"), np.random.default_rng(0).random((16, 5), dtype=np.float32)
    mel[3, 2], mel[4, 3], mel[1, 1] = 1.1, -0.2, 1.0 + 1e-6
    expected = gpu.vocode(mel.clip(0, 1)).tobytes()
    for form in (mel, torch.from_numpy(mel)):
        with pytest.warns(UserWarning, match="got values from -0.2 to 1.1; 3 of 80 were clipped to 0 to 1"):
            assert np.asarray(gpu.vocode(form)).tobytes() == expected
    with pytest.raises(engine.InputError, match="wants 'lmnt' mels"):
        gpu.vocode(torch.from_numpy(mel - 5.0))
    assert gpu.vocode(torch.from_numpy(mel.clip(0, 1))).numpy().tobytes() == expected  # its plan is as good as new


def test_mels_may_have_any_strides(voice, recwarn):
    gpu, mel = voice(device="cuda"), np.random.default_rng(0).random((5, 16), dtype=np.float32)
    expected = gpu.vocode(np.ascontiguousarray(mel.T[::-1])).tobytes()
    turned = mel.T[::-1]
    turned.flags.writeable = False
    assert gpu.vocode(turned).tobytes() == expected and not recwarn.list


def test_progress_ends_at_one(voice):
    seen = []
    voice(device="cuda").vocode(np.random.rand(16, 5).astype("f4"), progress=seen.append)
    assert seen[-1] == 1.0 and seen == sorted(seen)


def test_errors_match_those_of_a_cpu(voice):
    gpu = voice(device="cuda", precision="fp16")
    with pytest.raises(engine.InputError, match="mel: expected finite values, got nan at band 2, frame 1"):
        mel = torch.rand(16, 5)
        mel[2, 1] = torch.nan
        gpu.vocode(mel)
    with pytest.raises(engine.InputError, match="which looks transposed"):
        gpu.vocode(torch.rand(5, 16))


def test_too_many_channels_raise_an_error(device):
    wide = replace(TINY, residual_channels=272, residual_layers=1)
    with pytest.raises(engine.UnavailableError, match="up to 256 residual channels, this network has 272"):
        GpuNetwork(wide, {}, device, "fp16")
