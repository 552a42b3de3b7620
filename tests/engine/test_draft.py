"""Drafts: the last steps of the reverse process on a waveform in place of noise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import engine
from engine import InputError, Voice
from engine.audio.griffin_lim import griffin_lim
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from tests.support.networks import random_network
from tests.support.spectra import spectra_before_a_stop
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

Array = npt.NDArray[np.float32]
CONFIG = Config(residual_channels=16, residual_layers=5, dilation_cycle=4)
NAMED: dict[str, Any] = {"draft": "griffin-lim"}


def load(folder: Path, config: Config) -> Voice:
    save_checkpoint(folder / "draft.safetensors", Checkpoint(config, random_network(config, 0)))
    return engine.load(folder / "draft.safetensors", device="cpu", precision="fp32", threads=2)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return load(tmp_path_factory.mktemp("draft"), CONFIG)


def a_mel(frames: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, frames)).random((80, frames), np.float32)


def a_draft(*shape: int) -> Array:
    return (0.2 * np.random.default_rng(shape).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_the_last_steps_by_their_formula(voice: Voice, steps: int) -> None:
    """Algorithm 2 of the paper from x_n = sqrt(alpha_bar) draft + sqrt(1 - alpha_bar) eps on, in float64."""
    mel, draft, seed = a_mel(9), a_draft(9 * 256), 11
    plan = build_schedule(voice.config, "fast").last(steps)
    assert len(plan) == steps
    level, eps = plan.alpha_bar[0], normal(seed, 0, 0, len(draft))
    x = math.sqrt(level) * draft.astype(float) + math.sqrt(1 - level) * eps
    for n in range(steps):
        eps = voice.predict_noise(x.astype(np.float32), plan.t[n], mel=mel)
        x = plan.a[n] * x + plan.b[n] * eps
        if n + 1 < steps:
            x = x + plan.sigma[n] * normal(seed, n + 1, 0, len(draft))
        x = np.clip(x, -1, 1)
    audio = voice.vocode(mel, draft=draft, steps=steps, seed=seed)
    assert relative_error(audio, x.astype(np.float32)) < TOLERANCES["network_audio_fp32"]


def test_two_steps_are_the_default(voice: Voice) -> None:
    mel, draft = a_mel(9), a_draft(9 * 256)
    two = voice.vocode(mel, draft=draft, steps=2)
    np.testing.assert_array_equal(voice.vocode(mel, draft=draft), two)
    np.testing.assert_array_equal(voice.vocode(mel, draft=draft, steps="fast"), voice.vocode(mel, draft=draft, steps=6))
    plan = build_schedule(voice.config, "fast").last(2)
    own = voice.vocode(mel, draft=draft, schedule=plan.beta[::-1])
    np.testing.assert_array_equal(own, two)
    assert not np.array_equal(voice.vocode(mel, draft=draft, steps=1), two)


def test_griffin_lim_is_a_draft(voice: Voice) -> None:
    mel = a_mel(12)
    draft = griffin_lim(mel, voice.sample_rate, seed=5)
    np.testing.assert_array_equal(voice.vocode(mel, seed=5, **NAMED), voice.vocode(mel, seed=5, draft=draft))
    assert not np.array_equal(voice.vocode(mel, seed=5, **NAMED), voice.vocode(mel, seed=6, **NAMED))


def test_an_item_does_not_depend_on_its_batch(voice: Voice) -> None:
    mels = [a_mel(frames) for frames in (12, 7, 9)]
    alone = [voice.vocode(mel, seed=3 + i, **NAMED) for i, mel in enumerate(mels)]
    for audio, expected in zip(voice.vocode(mels, seed=3, **NAMED), alone, strict=True):
        np.testing.assert_array_equal(audio, expected)
    padded = np.zeros((3, 80, 12), np.float32)
    for row, mel in zip(padded, mels, strict=True):
        row[:, : mel.shape[1]] = mel
    batch = voice.vocode(padded, lengths=[12, 7, 9], seed=3, **NAMED)
    drafts = a_draft(3, 12 * 256)
    own = voice.vocode(padded, lengths=[12, 7, 9], draft=drafts)
    for i, (mel, expected) in enumerate(zip(mels, alone, strict=True)):
        np.testing.assert_array_equal(batch[i, : len(expected)], expected)
        single = voice.vocode(mel, seed=i, draft=drafts[i, : len(expected)])
        np.testing.assert_array_equal(own[i, : len(expected)], single)
        assert not own[i, len(expected) :].any()


def test_tensors_and_lists(voice: Voice) -> None:
    mel, draft = a_mel(9), a_draft(9 * 256)
    expected = voice.vocode(mel, draft=draft)
    tensor = voice.vocode(torch.from_numpy(mel), draft=torch.from_numpy(draft))
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == expected.tobytes()
    (item,) = voice.vocode([mel], draft=[draft])
    (row,) = voice.vocode(mel[None], draft=draft[None])
    assert item.tobytes() == row.tobytes() == expected.tobytes()
    assert engine.vocode(mel, model=voice.origin[1][0], draft=draft).shape == expected.shape  # type: ignore[index]


def test_noise_of_the_caller(voice: Voice) -> None:
    mel, draft = a_mel(9), a_draft(9 * 256)
    noise = normal(4, 0, 0, len(draft)), normal(4, 1, 0, len(draft))[None]
    audio = voice.vocode(mel, draft=draft, noise=noise)
    np.testing.assert_array_equal(audio, voice.vocode(mel, draft=draft, seed=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draft": "hifigan"}, "draft: expected 'griffin-lim' or 'rtisi-la', or audio for vocode, got 'hifigan'"),
        ({"draft": 3}, "draft: expected a numpy array or a torch tensor, got int"),
        (
            {"draft": np.zeros(9 * 256 - 1, np.float32)},
            "draft: expected 2304 samples, .* mel times 256",
        ),
        ({"draft": np.zeros((2, 9 * 256), np.float32)}, r"draft: expected 2304 samples"),
        ({"draft": np.full(9 * 256, np.nan, np.float32)}, "draft: expected finite"),
        ({"draft": np.full(9 * 256, 3e4, np.float32)}, "divide 16-bit samples by 32768"),
        ({**NAMED, "steps": "full"}, "steps: expected 1 to 6 beside a draft, the last steps of fast, got 'full'"),
        ({**NAMED, "steps": 7}, "steps: expected 1 to 6 beside a draft"),
        ({**NAMED, "steps": 0}, "steps: expected 1 to 6 beside a draft"),
        ({**NAMED, "steps": True}, "steps: expected 1 to 6 beside a draft"),
        ({**NAMED, "schedule": [0.5, 0.1]}, "schedule: "),
    ],
    ids=str,
)
def test_impossible_drafts_are_refused(voice: Voice, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        voice.vocode(a_mel(9), **options)


def test_the_memory_of_griffin_lim_is_bounded(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.voice.draft.MOST_FRAMES", 9)
    voice.vocode(a_mel(9), **NAMED)
    with pytest.raises(InputError, match=r"draft: expected at most 9 frames for 'griffin-lim', .* got 10; cut the mel"):
        voice.vocode([a_mel(9), a_mel(10)], **NAMED)
    voice.vocode(a_mel(10), draft=a_draft(10 * 256))
    voice.vocode(a_mel(10), draft="rtisi-la")  # its memory does not grow


def test_forms_must_agree(voice: Voice) -> None:
    mels = [a_mel(9), a_mel(4)]
    for draft, message in (
        ([a_draft(9 * 256)], "draft: expected audio in the form of the mels, a list of 2, got list"),
        ([a_draft(9 * 256), a_draft(9 * 256)], r"draft\[1\]: expected 1024 samples"),
        (a_draft(9 * 256), r"draft: expected audio in the form of the mels, a list of 2, got \[2304\]"),
    ):
        with pytest.raises(InputError, match=message):
            voice.vocode(mels, draft=draft)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"in the form of the mels, \[2, L\], got list"):
        voice.vocode(np.stack([a_mel(9)] * 2), draft=[a_draft(2304)] * 2)  # type: ignore[arg-type]


def test_networks_whose_mels_or_noise_forbid_it(tmp_path: Path) -> None:
    for changes, message in (
        (
            {"mel_kind": None},
            r"draft: 'griffin-lim' cannot invert this mel \(config: .*\); leave it out, or pass audio",
        ),
        ({"upsample_strides": (4, 4)}, r"draft: 'griffin-lim' cannot invert this mel .* hop of 256"),
        ({"prior": True, "energy_min": 0.1}, "draft: PriorGrad's noise is not white"),
    ):
        other = load(tmp_path, replace(CONFIG, **changes))  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message), pytest.warns() if "mel_kind" in changes else nothing():
            other.vocode(a_mel(9), **NAMED)


def test_a_prior_without_its_energy_is_refused_once(tmp_path: Path) -> None:
    other, mel = load(tmp_path, replace(CONFIG, prior=True)), a_mel(9)
    both = r"so its networks take no draft; leave it out, and pass energy_min=, the smallest frame energy"
    with pytest.raises(InputError, match=both):
        other.vocode(mel, **NAMED)
    np.save(tmp_path / "mel.npy", mel)
    with pytest.raises(InputError, match=both):
        engine.vocode_files(
            tmp_path / "mel.npy", tmp_path / "out", model=next(tmp_path.glob("*.safetensors")), draft="griffin-lim"
        )
    for options in ({"energy_min": 0.1}, {"std": np.ones(9 * 256, np.float32)}):
        with pytest.raises(InputError, match=r"so its networks take no draft; leave it out$"):
            other.vocode(mel, **options, **NAMED)  # type: ignore[arg-type]


def nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_phase_retrieval_stops_at_once(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectra_before_a_stop(voice, a_mel(9), monkeypatch, **NAMED) == 1


@pytest.mark.parametrize("frames", [(7,), (5, 70)])
@pytest.mark.parametrize(("options", "before"), [(NAMED, 1 / 3), ({**NAMED, "match_mel": 1.0, "steps": 3}, 1 / 4.2)])
def test_progress_counts_the_work_before_and_after_the_steps(
    voice: Voice, options: dict[str, Any], before: float, frames: tuple[int, ...]
) -> None:
    seen: list[float] = []
    voice.vocode([a_mel(count) for count in frames], progress=seen.append, **options)
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0
    assert sum(fraction < before for fraction in seen) == 32 * len(frames)
