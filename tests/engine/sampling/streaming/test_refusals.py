"""Impossible mels and options of a stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import InputError, Voice
from tests.support.streams import CONFIGS, SMALL, a_mel, load


@pytest.mark.parametrize(
    ("mels", "message"),
    [
        ([], "at least one frame, got none"),
        ([np.zeros((20, 0), np.float32)], "at least one frame, got none"),
        (np.zeros((20, 0), np.float32), "at least one frame, got none"),
        (a_mel(5).T, "piece 0: .*looks transposed"),
        (np.stack([a_mel(5)] * 2), "piece 0: .*got a batch"),
        ([a_mel(5), a_mel(5)[:19]], "piece 1: .*20 mel bands"),
        ([a_mel(5), [1.0]], "piece 1: mel"),
        ([[a_mel(5)]], "piece 0: .*got a batch"),
        ("mel.npy", "expected a mel or an iterable of mel pieces, got str"),
        (5, "expected a mel or an iterable of mel pieces, got int"),
    ],
)
def test_impossible_mels_are_refused(voice: Voice, mels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(voice.stream(mels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk: expected an integer from 1"),
        ({"chunk": 2.5}, "chunk"),
        ({"seed": -1}, "seed"),
        ({"seed": [1, 2]}, "seed"),
        ({"steps": 7}, "steps: expected 1 to 6 or 50"),
        ({"schedule": [0.9]}, "schedule"),
        ({"energy_min": 0.5}, "energy_min: only a PriorGrad network"),
        ({"cancel": True}, "cancel: expected a threading.Event, got bool"),
    ],
)
def test_impossible_options_are_refused_at_once(voice: Voice, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        voice.stream(a_mel(5), **options)


def test_other_refusals(voices: dict[str, Voice], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="energy_min: a PriorGrad network needs"):
        voices["prior"].stream(a_mel(5))
    with pytest.raises(InputError, match="energy_min: expected a number"):
        voices["prior"].stream(a_mel(5), energy_min=5.0)
    with pytest.raises(InputError, match="pads by reflection and needs more than 8 samples"):
        wide = replace(CONFIGS["reflect"], upsample_strides=(4,))
        list(load(tmp_path / "v.safetensors", wide).stream(a_mel(2)))
    plain = load(tmp_path / "p.safetensors", replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None))
    with pytest.raises(InputError, match="unconditional"):
        plain.stream(a_mel(5))
    for mels in ([], a_mel(5)):
        with pytest.raises(InputError, match="mels: expected a list with one mel or iterable per stream"):
            voices["lmnt"].stream_batch(mels)
    with pytest.raises(InputError, match="piece 0"):
        list(voices["lmnt"].stream_batch([a_mel(5), a_mel(5).T]))
