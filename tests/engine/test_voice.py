from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import engine
from engine import InputError, UnavailableError, Voice
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import cpu, reference
from engine.kernels.processors import default_threads
from engine.kernels.registry import TILES
from engine.sampling.cpu.loop import SHORT
from tests.support.networks import random_network, shared_example, shared_file
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CONFIG = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
PLAIN = replace(CONFIG, n_mels=0, upsample_strides=(), mel_kind=None)
LONG = SHORT // CONFIG.hop + 1  # frames

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[Config, Path]:
    folder, paths = tmp_path_factory.mktemp("voices"), {}
    for number, config in enumerate((CONFIG, PLAIN)):
        paths[config] = folder / f"{number}.safetensors"
        save_checkpoint(paths[config], Checkpoint(config, random_network(config, number)))
    return paths


@pytest.fixture(scope="module")
def voice(paths: dict[Config, Path]) -> Voice:
    return engine.load(paths[CONFIG], threads=2)


@pytest.fixture(scope="module")
def plain(paths: dict[Config, Path]) -> Voice:
    return engine.load(paths[PLAIN], threads=2)


def a_mel(frames: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, frames)).random((CONFIG.n_mels, frames), np.float32)


def gaussian(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


# Forms of input and output


def test_every_form_of_a_mel(voice: Voice) -> None:
    mels = [a_mel(9, 0), a_mel(9, 1)]
    alone = [voice.vocode(mel, seed=5 + i) for i, mel in enumerate(mels)]
    assert all(audio.shape == (9 * voice.hop,) and audio.dtype == np.float32 for audio in alone)
    assert all(isinstance(audio, np.ndarray) and np.abs(audio).max() <= 1.0 for audio in alone)
    batch = voice.vocode(np.stack(mels), seed=5)
    assert batch.shape == (2, 9 * voice.hop) and batch.tobytes() == np.stack(alone).tobytes()
    for kind in (list, tuple):
        listed = voice.vocode(kind(mels), seed=5)
        assert isinstance(listed, list) and [a.tobytes() for a in listed] == [a.tobytes() for a in alone]


def test_torch_in_torch_out(voice: Voice) -> None:
    mels = [a_mel(9, 0), a_mel(9, 1)]
    tensors = [torch.from_numpy(mel).requires_grad_() for mel in mels]
    for mel, tensor in ((mels[0], tensors[0]), (np.stack(mels), torch.stack(tensors))):
        audio = voice.vocode(tensor)
        assert isinstance(audio, torch.Tensor) and audio.dtype == torch.float32 and audio.device == tensor.device
        assert audio.numpy().tobytes() == voice.vocode(mel).tobytes()
    listed = voice.vocode(tensors)
    assert all(isinstance(audio, torch.Tensor) and audio.dtype == torch.float32 for audio in listed)
    assert [a.numpy().tobytes() for a in listed] == [a.tobytes() for a in voice.vocode(mels)]


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_items_of_a_padded_batch_have_the_bytes_they_have_alone(voice: Voice, form: Any) -> None:
    lengths, mel = [3, 9, 5], np.stack([a_mel(9, seed) for seed in range(3)])
    mel[0, :, 3:], mel[2, :, 5:] = np.nan, 7.0  # padding is not read
    alone = [voice.vocode(mel[i, :, :count], seed=5 + i) for i, count in enumerate(lengths)]
    audio = voice.vocode(form(mel), lengths=lengths, seed=5)
    assert isinstance(audio, type(form(mel))) and tuple(audio.shape) == (3, 9 * voice.hop)
    for row, expected in zip(audio, alone, strict=True):
        assert np.asarray(row[: len(expected)]).tobytes() == expected.tobytes() and not row[len(expected) :].any()


def test_strided_mels_are_not_copied(voice: Voice) -> None:
    mel = a_mel(9)
    expected = voice.vocode(mel).tobytes()
    assert voice.vocode(np.asfortranarray(mel)).tobytes() == expected
    assert voice.vocode(np.repeat(mel, 2, axis=1)[:, ::2]).tobytes() == expected
    assert voice.vocode(torch.from_numpy(mel).T.contiguous().T).numpy().tobytes() == expected


def test_attributes(voice: Voice) -> None:
    assert (voice.hop, voice.sample_rate, voice.threads, voice.config) == (16, 22050, 2, CONFIG)


def test_steps(voice: Voice) -> None:
    mel = a_mel(5)
    six, full = voice.vocode(mel), voice.vocode(mel, steps="full")
    assert six.tobytes() == voice.vocode(mel, steps=6).tobytes() != full.tobytes()
    assert six.tobytes() == voice.vocode(mel, schedule=CONFIG.fast_schedule).tobytes()
    assert full.tobytes() == voice.vocode(mel, steps=50).tobytes()
    assert full.tobytes() == voice.vocode(mel, schedule=CONFIG.train_schedule).tobytes()
    assert six.tobytes() != voice.vocode(mel, schedule=[1e-4, 0.01, 0.3]).tobytes()
    audio = {steps: voice.vocode(mel, steps=steps).tobytes() for steps in range(1, 7)}
    assert len(set(audio.values())) == 6 and audio[6] == six.tobytes()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, "full"])
def test_own_noise_gives_the_reference(paths: dict[Config, Path], steps: int | str) -> None:
    voice = engine.load(paths[CONFIG], precision="fp32")
    mel, plan = np.stack([a_mel(9, 0), a_mel(9, 1)]), build_schedule(CONFIG, steps)
    x, z = gaussian(2, 144), gaussian(len(plan) - 1, 2, 144)
    x_before, z_before, mel_before = x.copy(), z.copy(), mel.copy()
    tensors = reference.to_tensors(random_network(CONFIG, 0), torch.float64)
    tensor_inputs = [torch.from_numpy(value).double() for value in (mel, x, z)]
    expected = reference.sample(tensors, CONFIG, tensor_inputs[0], plan, *tensor_inputs[1:])
    audio = voice.vocode(mel, steps=steps, noise=(x, z))
    assert relative_error(audio, expected) < TOLERANCES["network_audio_fp32"]
    assert voice.vocode(mel, steps=steps, noise=[torch.from_numpy(x), torch.from_numpy(z)]).tobytes() == audio.tobytes()
    assert voice.vocode(mel[1], steps=steps, noise=(x[1], z[:, 1])).tobytes() == audio[1].tobytes()
    assert voice.vocode(mel[1], steps=steps, noise=(x[1:], z[:, 1:])).tobytes() == audio[1].tobytes()
    for array, before in ((x, x_before), (z, z_before), (mel, mel_before)):
        np.testing.assert_array_equal(array, before)


def test_a_seed_is_the_noise_it_stands_for(voice: Voice) -> None:
    mel, seed = a_mel(9), 2**63 + 1
    noise = [normal(seed, step, 0, 144) for step in range(6)]
    assert voice.vocode(mel, seed=seed).tobytes() == voice.vocode(mel, noise=(noise[0], np.stack(noise[1:]))).tobytes()


def test_seeds(voice: Voice) -> None:
    mels = np.stack([a_mel(9)] * 3)
    audio = voice.vocode(mels, seed=7)
    assert len({row.tobytes() for row in audio}) == 3
    assert voice.vocode(mels, seed=[7, 8, 9]).tobytes() == audio.tobytes()
    assert voice.vocode(mels, seed=[9, 7, 7]).tobytes() == audio[[2, 0, 0]].tobytes()
    assert voice.vocode(mels[:1], seed=2**64 - 1).shape == (1, 144)
    assert voice.vocode(mels).tobytes() == voice.vocode(mels, seed=0).tobytes()


def test_global_generators_are_not_touched(voice: Voice) -> None:
    np.random.seed(3)
    torch.manual_seed(3)
    audio, before = voice.vocode(a_mel(5)), (np.random.get_state()[1].copy(), torch.get_rng_state())
    np.random.seed(4)
    torch.manual_seed(4)
    assert voice.vocode(a_mel(5)).tobytes() == audio.tobytes()
    np.random.seed(3)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.manual_seed(3).get_state(), before[1])


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_an_items_audio_does_not_depend_on_its_batch(paths: dict[Config, Path], precision: str) -> None:
    """Short ones are spread over the threads, long ones share them."""
    frames = (3, LONG, 1, 40, 2 * LONG, 7, SHORT // CONFIG.hop)
    mels, seeds = [a_mel(count) for count in frames], [11, 3, 2**40, 0, 5, 6, 7]
    alone = engine.load(paths[CONFIG], precision=precision, threads=1)
    expected = [alone.vocode(mel, seed=seed).tobytes() for mel, seed in zip(mels, seeds, strict=True)]
    for threads in (1, 2, 4):
        voice = engine.load(paths[CONFIG], precision=precision, threads=threads)
        assert [audio.tobytes() for audio in voice.vocode(mels, seed=seeds)] == expected, f"{threads} threads"
        assert [audio.tobytes() for audio in voice.vocode(mels[::-1], seed=seeds[::-1])] == expected[::-1]
        assert voice.vocode(mels[3], seed=seeds[3]).tobytes() == expected[3]


@pytest.mark.parametrize("frames", [(7,), (5, LONG), (5, LONG, 9, 2)])
def test_progress_rises_to_one(voice: Voice, frames: tuple[int, ...]) -> None:
    seen: list[float] = []
    voice.vocode([a_mel(count) for count in frames], steps="full", progress=seen.append)
    assert seen == sorted(seen) and seen[0] > 0.0 and seen[-1] == pytest.approx(1.0)
    assert len(seen) >= len(frames)


def test_exceptions_of_progress_reach_the_caller(voice: Voice) -> None:
    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    expected = voice.vocode(a_mel(5)).tobytes()
    for frames in ((LONG,), (5, 6, LONG)):
        with pytest.raises(KeyboardInterrupt):
            voice.vocode([a_mel(count) for count in frames], progress=stop)
    assert voice.vocode(a_mel(5)).tobytes() == expected


@pytest.mark.parametrize("name", ["lmnt", "lmnt_unconditional"])
@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_the_published_examples(isa: str, precision: str, name: str) -> None:
    _, case = shared_example(name)
    voice = engine.load(shared_file(name), isa=isa, precision=precision)
    mel, noise = case.get("mel"), (case["x0"], case["z"])
    eps = voice.predict_noise(case["x"], float(case["t"]), mel=mel)
    assert relative_error(eps, case["eps"]) < TOLERANCES[f"fixture_eps_{precision}"]
    if mel is None:
        audio = voice.generate(n=1, schedule=case["schedule"], noise=noise)
    else:
        audio = voice.vocode(mel, schedule=case["schedule"], noise=noise)
    assert relative_error(audio, case["audio"]) < TOLERANCES[f"fixture_audio_{precision}"]


def test_the_bundled_voice() -> None:
    mel = np.random.default_rng(0).random((80, 3), np.float32)
    audio = engine.vocode(mel, steps=6, seed=1)
    assert audio.shape == (768,) and audio.tobytes() == engine.load().vocode(mel, seed=1).tobytes()
    for model in ("voice", BUNDLED, str(BUNDLED)):
        assert engine.vocode(mel, steps=6, seed=1, model=model).tobytes() == audio.tobytes()
    with pytest.raises(engine.CheckpointError, match="expected a file or one of"):
        engine.vocode(mel, model="voyce")


# Generation and single evaluations


def test_generate(plain: Voice) -> None:
    audio = plain.generate(n=3, samples=200, seed=4)
    assert audio.shape == (3, 200) and audio.dtype == np.float32 and np.abs(audio).max() <= 1.0
    assert plain.generate(n=3, samples=200, seed=[4, 5, 6]).tobytes() == audio.tobytes()
    assert plain.generate(samples=200, seed=5).tobytes() == audio[1].tobytes()
    assert plain.generate(n=3, samples=200, steps=6, seed=4).tobytes() != audio.tobytes()
    x, z = gaussian(2, 100), gaussian(5, 2, 100)
    noisy = plain.generate(n=2, steps=6, noise=(x, z))
    assert noisy.tobytes() == plain.generate(n=2, samples=100, steps=6, noise=(x, z)).tobytes()
    tensor = plain.generate(n=2, steps=6, noise=(torch.from_numpy(x), torch.from_numpy(z)))
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == noisy.tobytes()


def test_generate_and_vocode_take_different_networks(voice: Voice, plain: Voice) -> None:
    with pytest.raises(InputError, match=r"generate: this network wants a mel; use vocode\(mel\)"):
        voice.generate(n=1, samples=100)
    with pytest.raises(InputError, match="mel: this network takes none; generate makes sound with it"):
        plain.vocode(a_mel(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "samples: expected an integer, or seconds; this network does not tell the length"),
        ({"samples": 0}, "samples: expected an integer from 1"),
        ({"samples": 10.0}, "samples: expected an integer from 1"),
        ({"samples": 10, "n": 0}, "n: expected an integer from 1"),
        ({"samples": 10, "seed": [1, 2]}, r"seed: expected one seed per item \(1\)"),
        ({"samples": 10, "steps": 7}, "steps: expected 1 to 6 or 50"),
        ({"samples": 10, "steps": 3, "schedule": [0.1]}, "steps: expected None beside a schedule, got 3; pass one"),
        ({"noise": 5}, "samples: expected an integer"),
        ({"noise": ()}, "samples: expected an integer"),
        ({"noise": (gaussian(), 1)}, "samples: expected an integer"),
        ({"noise": 5, "samples": 10}, r"noise: expected a pair \(x_T, z\)"),
        ({"noise": (gaussian(1, 9), gaussian(49, 1, 9)), "samples": 10}, "noise x_T: expected shape"),
        ({"noise": (gaussian(1, 9), gaussian(48, 1, 9))}, "noise z: expected shape"),
    ],
)
def test_generate_refuses(plain: Voice, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plain.generate(**arguments)


def test_predict_noise(paths: dict[Config, Path], voice: Voice) -> None:
    exact = engine.load(paths[CONFIG], precision="fp32", threads=3)
    x, mel = gaussian(2, 144), np.stack([a_mel(9, 0), a_mel(9, 1)])
    before = x.copy()
    eps = exact.predict_noise(x, 20.25, mel=mel)
    tensors = reference.to_tensors(random_network(CONFIG, 0), torch.float64)
    inputs = torch.from_numpy(x).double(), 20.25, torch.from_numpy(mel).double()
    assert relative_error(eps, reference.predict_noise(tensors, CONFIG, *inputs)) < TOLERANCES["network_eps_fp32"]
    np.testing.assert_array_equal(x, before)
    assert exact.predict_noise(x[0], 20.25, mel=mel[0]).tobytes() == eps[0].tobytes()
    tensor = exact.predict_noise(torch.from_numpy(x), 20.25, mel=torch.from_numpy(mel))
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == eps.tobytes()


@pytest.mark.parametrize(
    ("x", "t", "mel", "message"),
    [
        (gaussian(143), 0, a_mel(9), r"x: expected \[1, 144\] for this mel"),
        (gaussian(2, 144), 0, a_mel(9), r"x: expected \[1, 144\] for this mel"),
        (gaussian(144), 0, None, r"mel: this network wants one, \[B, 20, T\], got None"),
        (gaussian(144), 50, a_mel(9), "t: expected a step from 0 to 49, got 50"),
        (gaussian(144), -0.5, a_mel(9), "t: expected a step from 0 to 49"),
        (gaussian(144), np.nan, a_mel(9), "t: expected a step from 0 to 49, got nan"),
        (gaussian(144), "x", a_mel(9), "t: expected a number, got 'x'"),
        (gaussian(144), None, a_mel(9), "t: expected a number, got None"),
        (np.full(144, np.nan, np.float32), 0, a_mel(9), "x: expected finite values"),
        (gaussian(144).astype(np.float64), 0, a_mel(9), "x: expected float32, got float64"),
        (gaussian(1, 1, 144), 0, a_mel(9), r"x: expected shape \[B, L\] or \[L\]"),
        ([0.0] * 144, 0, a_mel(9), "x: expected a numpy array or a torch tensor, got list"),
    ],
)
def test_predict_noise_refuses(voice: Voice, x: Any, t: Any, mel: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        voice.predict_noise(x, t, mel=mel)


def test_predict_noise_without_a_mel(plain: Voice) -> None:
    assert plain.predict_noise(gaussian(2, 9), 3).shape == (2, 9)
    with pytest.raises(InputError, match="mel: this network takes none; generate makes sound with it"):
        plain.predict_noise(gaussian(16), 3, mel=a_mel(1))


# Bad input


@pytest.mark.parametrize(
    ("mel", "options", "message"),
    [
        (a_mel(9).T, {}, r"mel: .*looks transposed; pass mel\.T"),
        (np.zeros((3, 9, 20), np.float32), {}, "mel: .*looks transposed"),
        (np.zeros((19, 9), np.float32), {}, r"mel: .*\(20 mel bands\), got shape \(19, 9\)"),
        (np.full((20, 9), np.nan, np.float32), {}, "mel: expected finite values, got nan at band 0, frame 0"),
        (np.zeros((20, 0), np.float32), {}, "mel: expected at least one frame"),
        (np.zeros((0, 20, 9), np.float32), {}, "mel: expected at least one frame"),
        ([], {}, "mel: expected at least one .*, got an empty list"),
        (np.zeros((20, 9), np.int32), {}, "mel: expected float32, got int32"),
        (np.zeros((20, 9)), {}, r"mel: expected float32, got float64; convert with mel\.astype\('float32'\)"),
        (torch.zeros(20, 9, dtype=torch.float64), {}, r"mel: .*convert with mel\.float\(\)"),
        (np.array([a_mel(2), a_mel(3), None], object), {}, r"mel: .*pass unequal lengths as a list of \[M, T\]"),
        ([a_mel(2), np.zeros((20, 3))], {}, r"mel\[1\]: expected float32, got float64"),
        ([a_mel(2), torch.zeros(20, 3)], {}, "mel: expected only numpy arrays or only torch tensors"),
        (np.zeros(20, np.float32), {}, "mel: expected shape"),
        (None, {}, "mel: expected a numpy array or a torch tensor, got NoneType"),
        ("mel.npy", {}, "mel: expected a numpy array or a torch tensor, got str"),
        (-4.0 * a_mel(9), {}, "mel: this checkpoint wants 'lmnt' mels in .* look like a log mel"),
        (40.0 * a_mel(9), {}, "mel: this checkpoint wants 'lmnt' mels in .* fit no kind this engine knows"),
        (a_mel(9), {"seed": -1}, r"seed: expected integers from 0 to 2\*\*64 - 1, got -1"),
        (a_mel(9), {"seed": 2**64}, "seed: expected integers from 0"),
        (a_mel(9), {"seed": 1.5}, "seed: expected an integer or one integer per item, got 1.5"),
        (a_mel(9), {"seed": [1, 2]}, r"seed: expected one seed per item \(1\), got 2"),
        (a_mel(9), {"steps": 7}, 'steps: expected 1 to 6 or 50, "fast"'),
        (a_mel(9), {"steps": "quick"}, "steps: expected 1 to 6 or 50, .*, got 'quick'"),
        (a_mel(9), {"steps": 2, "schedule": [0.1]}, "steps: expected None beside a schedule, got 2; pass one of"),
        (a_mel(9), {"steps": "fast", "schedule": [0.1]}, "steps: expected None beside a schedule, got 'fast'"),
        (a_mel(9), {"schedule": [0.9, 0.9]}, "schedule: beta.* below the training schedule's"),
        (a_mel(9), {"schedule": [0.1, 1.5]}, "schedule: expected a list of betas between 0 and 1"),
        (a_mel(9), {"schedule": np.ma.masked_array([0.1, 0.2], [False, True])}, "schedule: expected a list of betas"),
        (a_mel(9), {"schedule": []}, "schedule: expected a list of betas"),
        (a_mel(9), {"noise": gaussian(144)}, r"noise: expected a pair \(x_T, z\)"),
        (a_mel(9), {"noise": (gaussian(144), gaussian(6, 144))}, "noise z: expected shape"),
        (a_mel(9), {"noise": (gaussian(143), gaussian(5, 143))}, "noise x_T: expected shape"),
        (a_mel(9), {"noise": (gaussian(144) * np.inf, gaussian(5, 144))}, "noise x_T: expected finite values"),
        ([a_mel(2), a_mel(3)], {"noise": (1, 1)}, "noise: expected items of one length"),
    ],
)
def test_bad_input_is_named(voice: Voice, mel: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        voice.vocode(mel, **options)


def test_a_mel_of_another_kind_is_warned_of(tmp_path: Path) -> None:
    config = replace(CONFIG, mel_kind="tacotron")
    save_checkpoint(tmp_path / "voice.safetensors", Checkpoint(config, random_network(config, 0)))
    voice = engine.load(tmp_path / "voice.safetensors")
    with pytest.warns(UserWarning, match="look like an 'lmnt' mel") as caught:
        voice.vocode(a_mel(3))
    assert caught[0].filename == __file__


# Loading


@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_explain_says_what_was_chosen(paths: dict[Config, Path], isa: str, precision: str) -> None:
    text = engine.load(paths[CONFIG], device="cpu", precision=precision, threads=3, isa=isa).explain()
    for part in ("C=16 N=5 cycle=4", "20 mel bands of kind lmnt", "hop 16", "22050 Hz", "device cpu: requested"):
        assert part in text
    for part in (f"isa {isa}: requested", f"precision {precision}: requested", "threads 3: requested"):
        assert part in text
    assert "no mel" in engine.load(paths[PLAIN], isa=isa).explain()


def test_automatic_is_the_fastest_here(paths: dict[Config, Path]) -> None:
    voice = engine.load(paths[CONFIG])
    precision = "bf16" if any(ok and "bf16" in able for _, ok, _, able in cpu.tiers()) else "fp32"
    isa = [name for name, ok, _, able in cpu.tiers() if ok and precision in able and name != TILES][-1]
    assert (voice.choice.device, voice.choice.isa, voice.choice.precision) == ("cpu", isa, precision)
    limit = default_threads()
    assert voice.threads == limit.count and voice.explain().endswith(f"threads {limit.count}: {limit.reason}")
    assert f"isa {isa}: the fastest" in voice.explain()


def test_unavailable_instruction_sets(paths: dict[Config, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = [("generic", True, "any processor", ["fp32"]), ("avx2", False, "AVX2 and FMA", ["fp32", "bf16"])]
    monkeypatch.setattr(cpu, "tiers", lambda: tiers)
    with pytest.raises(UnavailableError, match="'avx2' needs AVX2 and FMA, which this processor does not have"):
        engine.load(paths[CONFIG], isa="avx2")
    with pytest.raises(UnavailableError, match="precision: 'bf16' needs a tier that has it"):
        engine.load(paths[CONFIG], precision="bf16")
    with pytest.raises(UnavailableError, match="device: this build has no backend for 'tpu'"):
        engine.load(paths[CONFIG], device="tpu")
    text = engine.load(paths[CONFIG]).explain()
    assert "isa generic: the fastest tier with fp32; not on this processor: avx2 (AVX2 and FMA)" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isa": "sse9"}, "isa: expected one of 'generic'.*, got 'sse9'"),
        ({"precision": "int3"}, "precision: expected 'auto' or 'int8', 'fp16', 'bf16', 'tf32', 'fp32', got 'int3'"),
        ({"threads": 0}, "threads: expected an integer from 1 to 1024, got 0"),
        ({"threads": 1.5}, "threads: expected an integer from 1 to 1024, got 1.5"),
        ({"threads": 1025}, "threads: expected an integer from 1 to 1024, got 1025"),
        ({"mel_kind": "mp3"}, "mel_kind: expected one of"),
    ],
)
def test_unknown_names_are_refused(paths: dict[Config, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.load(paths[CONFIG], **options)


def test_import_engine_imports_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, engine; print({name.partition('.')[0] for name in sys.modules} & {'torch', 'scipy', 'soundfile'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
