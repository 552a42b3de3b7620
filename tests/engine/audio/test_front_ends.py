"""The table of front-ends in docs/front-ends.md: its lines of Python make published mels fit."""

from __future__ import annotations

import math
import re
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

import engine
from engine.checks.mels import check_mel, fit_to_kind
from engine.config import BASE
from tests.support.front_ends import FRONT_ENDS, PROCESSORS, RATE, FrontEnd
from tests.support.paths import ROOT
from tests.support.tolerances import TOLERANCES

PAGE = (ROOT / "docs" / "front-ends.md").read_text()
# front-end | what its mel is | kind | difference | line
ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| [^|]+ \| (?P<kind>[^|]+) \| (?P<seen>[\d.e-]+) \| `(?P<line>[^`]+)` \|$", re.MULTILINE
)
ROWS = {row["name"]: row for row in ROW.finditer(PAGE)}
each_front_end = pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda front_end: front_end.name)


@cache
def recording() -> np.ndarray:
    """Return a second of a voice-like sound, from loud to silent: pulses, noise, and zeros at the end."""
    rng, t = np.random.default_rng(0), np.arange(22000) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 60 * np.sin(5 * t)) / RATE
    voiced = sum(np.sin(k * pitch) / k for k in range(1, 60))
    audio = 10 ** (-3 * t) * (0.1 * voiced + 0.02 * rng.standard_normal(len(t)))
    audio[17000:20000] = 0.0
    return audio.astype(np.float32)


@cache
def written(name: str) -> Any:
    """Return the mel of `recording` as the front-end writes it."""
    return next(front_end for front_end in FRONT_ENDS if front_end.name == name).mel(recording())


def expected(front_end: FrontEnd) -> np.ndarray:
    fmin, fmax = front_end.limits
    mel = engine.mel(recording(), RATE, front_end.kind, fmin=fmin, fmax=fmax)
    return np.maximum(mel, np.log(1e-4)) if "defaults" in front_end.name else mel


def fitted(front_end: FrontEnd) -> np.ndarray:
    """Return what the line of the page makes of the mel."""
    scope = {"mel": written(front_end.name), "ap": PROCESSORS.get(front_end.name), "np": np, "math": math}
    return np.asarray(eval(ROWS[front_end.name]["line"], scope))


def test_every_front_end_has_a_row() -> None:
    assert list(ROWS) == [front_end.name for front_end in FRONT_ENDS]


@each_front_end
def test_the_line_gives_the_mel_of_the_engine(front_end: FrontEnd) -> None:
    got, want = fitted(front_end), expected(front_end)
    got = got[0] if got.ndim == 3 else got
    inside = slice(front_end.unlike, want.shape[1] - front_end.unlike)
    limit = TOLERANCES["front_end" if front_end.periodic else "front_end_symmetric"]
    assert got.dtype == np.float32 and got.shape == want.shape
    np.testing.assert_allclose(got[:, inside], want[:, inside], rtol=0, atol=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_to_kind(check_mel(fitted(front_end), BASE), front_end.kind)


@each_front_end
def test_the_line_is_needed(front_end: FrontEnd) -> None:
    line, mel = ROWS[front_end.name]["line"], written(front_end.name)
    if line == "mel":
        return
    mel = np.asarray(mel)
    if mel.shape[-1] == 80:
        assert mel.shape[-2] != 80  # the engine wants the bands first
        mel = mel.swapaxes(-1, -2)
    if front_end.name.startswith("FastSpeech"):
        return
    difference = np.abs(mel - expected(front_end))[..., 2:-2].max()
    assert difference > 0.5


@each_front_end
def test_the_row_states_the_kind_and_the_difference(front_end: FrontEnd) -> None:
    row, limits = ROWS[front_end.name], front_end.limits
    named = "" if limits == (0.0, 8000.0) else f", fmin={limits[0]:g}, fmax={limits[1]:g}".replace(", fmin=0,", ",")
    assert row["kind"] == f"`{front_end.kind}`{named and f' with `{named[2:]}`'}"
    assert float(row["seen"]) == front_end.seen


def test_frames_of_hifigan_lie_half_a_hop_later() -> None:
    """So one kind's mel is the other's, of audio that begins 128 samples later."""
    mel, other = engine.mel(recording()[128:], RATE, "tacotron"), engine.mel(recording(), RATE, "hifigan")
    difference = np.abs(mel[:, 2:80] - other[:, 2:80])
    assert difference.max() < TOLERANCES["front_end_symmetric"] < np.abs(mel[:, 3:81] - other[:, 2:80]).max()
