"""Every operation, graphs, streams and voices on a real GPU. Skipped without one."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import engine
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_match import MelMatch, matched
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.config import BASE
from engine.diffusion.schedule import build_schedule
from engine.kernels import device as gpu_device
from engine.kernels.ampere import stack as ampere
from engine.kernels.cuda import build
from engine.kernels.gpu import GpuNetwork
from engine.kernels.hopper import stack as hopper
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item
from tests.gpu import checks
from tests.support.networks import SMALL
from tests.support.targets import weights
from tests.support.tolerances import TOLERANCES, relative_error

OBSTACLE = gpu_device.obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
WIDE = replace(BASE, residual_layers=10)
# The instruction sets whose residual layers run in groups, if this GPU has NVRTC.
ON_HOPPER = OBSTACLE is None and gpu_device.isa() == "sm_90"
GROUPED = [ampere.ISA, *[hopper.ISA] * ON_HOPPER] * (build.obstacle() is None)
CUDA_BLOCKS = {p: GROUPED * (p in ("fp16", "bf16")) for p in PRECISIONS}
MIDDLE = replace(SMALL, residual_channels=64)
LENGTHS = (4097, 130, 7)


class PoisonedGpu(gpu_device.CudaDevice):
    """GPU whose tensors begin as NaN, so that unwritten values are detected."""

    def empty(self, shape, dtype):
        tensor = super().empty(shape, dtype)
        return tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)

    def fill(self, tensor, values):
        tensor.copy_(torch.as_tensor(values).to(tensor.dtype))


class EagerGpu(gpu_device.CudaDevice):
    """GPU that runs without graphs."""

    def capture(self, calls):
        return lambda: [call() for call in calls] and None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operations(precision):
    device, limit = PoisonedGpu(), TOLERANCES[f"operation_{precision}"]
    for layer in (0, 3, 9):
        assert checks.residual_block(device, WIDE, precision, LENGTHS, layer) < limit
    for changes in ({"padding": "reflect"}, {"n_mels": 0, "upsample_strides": ()}):
        assert checks.residual_block(device, replace(WIDE, **changes), precision, (4097, 130, 9), 3) < limit
    assert checks.project_conditioner(device, replace(BASE, residual_layers=3), precision, LENGTHS) < limit
    assert checks.upsample_mel(device, BASE, precision, (30, 1)) < limit
    assert checks.input_projection(device, BASE, precision, LENGTHS) < limit
    assert checks.fold_steps(device, WIDE, precision, (4.2, 0.0)) < limit
    assert checks.output_head(device, BASE, precision, LENGTHS) < limit
    for channels in (16, 48, 128, 256):
        config = replace(SMALL, residual_channels=channels)
        assert checks.residual_block(device, config, precision, LENGTHS, 2) < limit


@pytest.mark.skipif(not GROUPED, reason=str(build.obstacle()))
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(("isa", "pairs"), [*((isa, False) for isa in GROUPED), *[(hopper.ISA, True)] * ON_HOPPER])
def test_layers_in_groups(precision, isa, pairs, monkeypatch):
    device, limit = PoisonedGpu(), TOLERANCES[f"operation_{precision}"]
    device.isa = isa
    unconditional = replace(WIDE, n_mels=0, upsample_strides=())
    for config in (WIDE, unconditional, replace(MIDDLE, residual_channels=48, step_bias_in_residual=True)):
        assert checks.residual_stack(device, config, precision, LENGTHS, slice(None), pairs) < limit
    for config in (WIDE, unconditional, replace(MIDDLE, prior=True)):
        for options in ({}, {"read_noise": True}, {"sigma": 0.0}):
            assert checks.step_in_groups(device, config, precision, LENGTHS, pairs=pairs, **options) < limit
    module, widths = (hopper, "COLUMNS") if isa == hopper.ISA else (ampere, "WARPS")
    for width in getattr(module, widths):
        monkeypatch.setattr(module, widths, (width,))
        assert checks.residual_stack(device, WIDE, precision, LENGTHS, slice(0, 1), pairs) < limit


@pytest.mark.skipif(not ON_HOPPER, reason="needs compute capability 9.0")
def test_audio_of_groups_depends_on_neither_pairs_nor_the_width_of_tiles(monkeypatch):
    batch, plan = items(100, 3), build_schedule(MIDDLE)
    expected = as_bytes(loop(MIDDLE, hopper.ISA).sample(batch, plan))
    pairs = GpuNetwork(MIDDLE, weights(MIDDLE), gpu_device.CudaDevice(), "fp16", hopper.ISA)
    pairs.pairs = True
    assert as_bytes(GpuLoop(pairs).sample(batch, plan)) == expected
    monkeypatch.setattr(hopper, "COLUMNS", (128,))
    assert as_bytes(loop(MIDDLE, hopper.ISA).sample(batch, plan)) == expected


def test_noise_matches_its_definition_bit_for_bit():
    net = checks.network(PoisonedGpu(), SMALL, "fp16")
    assert checks.initial_noise(PoisonedGpu(), net, (2**64 - 1, 5), (2**34, 2**62), (30000, 1027))


@pytest.mark.parametrize(("precision", "isa"), [(p, isa) for p in PRECISIONS for isa in (None, *CUDA_BLOCKS[p])])
def test_the_bundled_voice_matches_the_cpu(precision, isa):
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))
    gpu, cpu = engine.load(device="cuda", precision=precision, isa=isa), engine.load(device="cpu", precision="fp32")
    assert snr(cpu.vocode(mel, seed=1), gpu.vocode(mel, seed=1)) >= TOLERANCES[f"gpu_audio_{precision}_db"]


def test_drafts_and_matching_agree_with_the_cpu():
    """Griffin-Lim in float64: 32 rounds amplify the rounding of an FFT little. The match changes what it is given."""
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))[:, 100:200]
    device = torch.device("cuda")
    draft = griffin_lim(mel, 22050)
    assert relative_error(griffin_lim(mel, 22050, device=device).cpu().numpy(), draft) < TOLERANCES["on_tensors"]
    match, on_gpu = (MelMatch(80, 22050, device=place) for place in (None, device))
    audio = draft[::-1].copy()
    actual = matched(torch.from_numpy(audio).to(device), mel, on_gpu).cpu().numpy()
    assert relative_error(actual, matched(audio, mel, match)) < TOLERANCES["on_tensors"]
    gpu, cpu = engine.load(device="cuda", precision="fp32"), engine.load(device="cpu", precision="fp32")
    options = {"seed": 1, "draft": "griffin-lim", "match_mel": 1}
    audio = gpu.vocode(torch.from_numpy(mel).to(device), **options)
    assert audio.is_cuda
    assert snr(cpu.vocode(mel, **options), audio.cpu().numpy()) >= TOLERANCES["gpu_audio_fp32_db"]


def items(*frames):
    rng = np.random.default_rng(0)
    batch = []
    for number, count in enumerate(frames):
        batch.append(Item(count * SMALL.hop, rng.random((SMALL.n_mels, count), dtype=np.float32), number))
    return batch


def loop(config, isa, device=None, **options):
    return GpuLoop(GpuNetwork(config, weights(config), device or gpu_device.CudaDevice(), "fp16", isa), **options)


def as_bytes(audio):
    return [item.cpu().numpy().tobytes() for item in audio]


@pytest.mark.parametrize(("config", "isa"), [(SMALL, None), *[(MIDDLE, isa) for isa in (None, *CUDA_BLOCKS["fp16"])]])
def test_audio_depends_on_neither_graphs_nor_windows_nor_batches(config, isa):
    plan, batch = build_schedule(config), items(200, 3, 77)
    whole = as_bytes(loop(config, isa).sample(batch, plan))
    small = loop(config, isa)
    assert as_bytes(small.sample(batch, plan)) == whole
    assert as_bytes(small.sample(batch, plan)) == whole
    assert as_bytes(loop(config, isa, EagerGpu()).sample(batch, plan)) == whole
    alone = [as_bytes(small.sample([item], plan))[0] for item in batch]
    assert alone == whole
    per_sample = small._network.bytes_per_sample()
    assert as_bytes(loop(config, isa, plan_bytes=16384 * per_sample).sample(batch, plan)) == whole


@pytest.mark.parametrize("isa", [None, *CUDA_BLOCKS["fp16"]])
def test_streams_and_threads_give_the_same_audio(isa):
    plan, shared = build_schedule(MIDDLE), loop(MIDDLE, isa)
    batches = [items(n, n + 1) for n in (20, 50, 90)]
    expected = [as_bytes(shared.sample(batch, plan)) for batch in batches]
    audio = [None] * 3

    def work(number):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(5):
                audio[number] = as_bytes(shared.sample(batches[number], plan))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audio == expected


def test_tensors_stay_on_the_gpu():
    mel = torch.rand(80, 40, device="cuda")
    voice = engine.load(device="cuda")
    plain = voice.vocode(mel.cpu().numpy())
    with torch.inference_mode():
        audio = voice.vocode(mel)
    assert audio.is_cuda and audio.cpu().numpy().tobytes() == plain.tobytes()
    assert relative_error(voice.vocode(mel).cpu(), plain) == 0.0


@pytest.mark.parametrize("isa", [None, *CUDA_BLOCKS["fp16"]])
def test_a_stream_is_the_whole(isa):
    voice, mel = engine.load(device="cuda", isa=isa), np.load(BUNDLED.with_name("demo_mel.npy"))
    expected = voice.vocode(mel, seed=3).tobytes()
    for chunk in (None, 8192):
        pieces = (mel[:, begin : begin + 50] for begin in range(0, mel.shape[1], 50))
        assert b"".join(part.tobytes() for part in voice.stream(pieces, seed=3, chunk=chunk)) == expected
    audio = [b""] * 3
    for number, part in voice.stream_batch([mel] * 3, seed=3):
        audio[number] += part.tobytes()
    assert audio[0] == expected and audio[1] == voice.vocode(mel, seed=4).tobytes()
    options = {"seed": 3, "draft": "rtisi-la", "match_mel": 1}
    drafted = b"".join(part.tobytes() for part in voice.stream(mel, chunk=8192, **options))
    assert drafted == voice.vocode(mel, **options).tobytes()


def test_a_call_waits_for_the_bounds_of_its_mel_alone():
    """PyTorch raises an error for whatever waits for the whole stream."""
    voice, mel = engine.load(device="cuda"), torch.rand(4, 80, 40, device="cuda")
    expected = [voice.vocode(mel, seed=seed).cpu() for seed in range(6)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        audio = [voice.vocode(mel, seed=seed) for seed in range(6)]  # no call waits for the audio of another
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a.cpu(), b) for a, b in zip(audio, expected, strict=True))
    bad = mel.clone()
    bad[2, 5, 7] = torch.nan
    with pytest.raises(engine.InputError, match=r"mel\[2\]: expected finite values, got nan at band 5, frame 7"):
        voice.vocode(bad)
    assert torch.equal(voice.vocode(mel, seed=0).cpu(), expected[0])


def test_repeated_calls_use_no_more_memory():
    voice, mel = engine.load(device="cuda"), torch.rand(80, 40, device="cuda")
    voice.vocode(mel)
    before = torch.cuda.memory_allocated()
    for seed in range(20):
        voice.vocode(mel, seed=seed)
    assert torch.cuda.memory_allocated() <= before + (1 << 20)
