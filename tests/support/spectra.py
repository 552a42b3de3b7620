"""Work on short-time spectra: how soon an event stops it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import engine
from engine.checks.arrays import FloatArray
from engine.errors import Cancelled


def spectra_before_a_stop(voice: engine.Voice, mel: FloatArray, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """Return the number of spectra that a call computes whose event is set during the first one."""
    event, spectra = threading.Event(), []
    original = engine.audio.overlap.spectrum  # type: ignore[attr-defined]

    def spectrum(audio: Any) -> Any:
        spectra.append(1)
        event.set()
        return original(audio)

    monkeypatch.setattr("engine.audio.overlap.spectrum", spectrum)
    with pytest.raises(Cancelled):
        voice.vocode(mel, cancel=event, **options)
    return len(spectra)
