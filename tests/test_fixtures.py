"""Every public family from its file to its audio, on every tier.

The shared examples contain the outputs of each implementation for a checkpoint that its own code wrote. Generated
checkpoints of the same layouts are compared with the reference in float64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import engine
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.voice import Voice
from tests.support.layouts import LAYOUTS, random_checkpoint
from tests.support.networks import SHARED
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("one_torch_thread")

FAMILIES = ("lmnt", "lmnt_unconditional", "priorgrad", "speechbrain", "philsyn_vocoder", "philsyn_unconditional")


def voices(path, tmp_path, **options) -> list[Voice]:
    """Load a checkpoint and its conversion."""
    save_checkpoint(tmp_path / "converted.safetensors", load_checkpoint(path))
    loaded = [engine.load(file, **options) for file in (path, tmp_path / "converted.safetensors")]
    for voice in loaded:
        voice.config = replace(voice.config, mel_kind=None)  # the examples' mels are random in [0, 1]
    return loaded


def audio_of(voice: Voice, case) -> np.ndarray:
    arguments = {"schedule": case["schedule"], "noise": (case["x0"], case["z"])}
    if "mel" not in case:
        return voice.generate(**arguments)
    return voice.vocode(case["mel"], **arguments, **({"std": case["std"]} if "std" in case else {}))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("isa", "precision"), targets("fp32"))
def test_published_examples(family, isa, precision, tmp_path):
    folder = SHARED / "fixtures" / family
    if not folder.is_dir():
        pytest.skip(f"no shared examples beside the project ({family})")
    path = next(p for p in folder.iterdir() if p.suffix in (".pt", ".pkl", ".ckpt"))
    original, converted = voices(path, tmp_path, isa=isa, precision=precision)
    with np.load(folder / "case.npz") as file:
        case = dict(file)
    eps = original.predict_noise(case["x"], float(case["t"]), mel=case.get("mel"))
    assert relative_error(eps, case["eps"]) < TOLERANCES["fixture_eps_fp32"]
    audio = audio_of(original, case)
    assert relative_error(audio, case["audio"]) < TOLERANCES["fixture_audio_fp32"]
    assert audio_of(converted, case).tobytes() == audio.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("isa", "precision"), targets("fp32"))
def test_generated_checkpoints(layout, isa, precision, tmp_path):
    checkpoint = random_checkpoint(tmp_path, layout, seed=5)
    original, converted = voices(checkpoint.path, tmp_path, isa=isa, precision=precision)
    config, rng = checkpoint.config, np.random.default_rng(1)
    schedule = build_schedule(config, "full")
    length = 3 * config.hop if config.n_mels else 100
    case = {
        "schedule": np.array(config.train_schedule),
        "x0": rng.standard_normal((2, length)).astype(np.float32),
        "z": rng.standard_normal((len(schedule) - 1, 2, length)).astype(np.float32),
    }
    if config.n_mels:
        case["mel"] = rng.random((2, config.n_mels, 3), dtype=np.float32)
    if config.prior:
        case["std"] = rng.uniform(0.1, 1.0, (2, length)).astype(np.float32)
    if not config.n_mels:
        options = {"n": 2, "schedule": case["schedule"], "noise": (case["x0"], case["z"])}
        audio, converted_audio = original.generate(**options), converted.generate(**options)
    else:
        audio, converted_audio = audio_of(original, case), audio_of(converted, case)
    exact = {key: torch.tensor(value, dtype=torch.float64) for key, value in case.items()}
    weights = reference.to_tensors(checkpoint.tensors, torch.float64)
    expected = reference.sample(
        weights, config, exact.get("mel"), schedule, exact["x0"], exact["z"], std=exact.get("std")
    )
    assert relative_error(audio, expected) < TOLERANCES["network_audio_fp32"]
    assert converted_audio.tobytes() == audio.tobytes()
