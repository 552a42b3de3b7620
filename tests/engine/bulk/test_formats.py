"""Formats of results: the same bytes every time, and what other programs read."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine.audio.wav import read_audio, read_wav
from engine.bulk.formats import check_format, write_result
from engine.errors import InputError, UnavailableError

AUDIO = (0.3 * np.sin(np.arange(70000) / 9)).astype(np.float32)


def test_flac_has_the_samples_of_wav(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    for name in ("wav", "flac"):
        write_result(tmp_path / f"a.{name}", name, AUDIO, 22050)
    samples, rate = read_audio(tmp_path / "a.flac")
    assert rate == 22050
    np.testing.assert_array_equal(samples, read_wav(tmp_path / "a.wav")[0])


def test_ogg_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    write_result(tmp_path / "a.ogg", "ogg", AUDIO, 22050)
    time.sleep(1.1)  # libsndfile draws the number of a stream from the time in seconds
    write_result(tmp_path / "b.ogg", "ogg", AUDIO, 22050)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    samples, rate = read_audio(tmp_path / "a.ogg")  # libogg skips pages whose checksum is wrong
    assert rate == 22050 and samples.shape == AUDIO.shape and np.abs(samples - AUDIO).mean() < 0.05


def test_formats_are_checked_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="format: expected one of wav, flac, ogg, got 'mp3'"):
        check_format("mp3")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    check_format("wav")
    with pytest.raises(UnavailableError, match=r"format: 'flac' needs soundfile; pip install .*\[audio\]"):
        check_format("flac")
