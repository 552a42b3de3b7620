"""The clips in docs/samples: the page lists them, they are small, and their script still writes them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks.paths import RESULTS
from benchmarks.quality import samples
from engine.audio.filterbank import filter_bank
from engine.audio.griffin_lim import griffin_lim
from engine.audio.mel_inversion import magnitudes
from engine.audio.metrics import snr
from engine.audio.wav import read_audio
from engine.checks.arrays import FloatArray
from engine.config import BASE

FILES = sorted(path.name for path in samples.FOLDER.iterdir() if path.suffix != ".md")
LARGEST_TOTAL = 600_000  # bytes
# In dB. 16 bits leave 70 or more; networks in fp32 agree between instruction sets, an FFT between versions of NumPy.
SAME = 55.0


def committed(name: str) -> FloatArray:
    pytest.importorskip("soundfile")
    audio, rate = read_audio(samples.FOLDER / f"{name}.flac")
    assert rate == samples.rate_of(name)
    return audio


def test_the_page_lists_every_file() -> None:
    page = (samples.FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"\]\(([^)/]+\.flac)\)", page)) == FILES
    assert sorted(f"{name}.flac" for name in samples.CLIPS) == FILES
    assert sum((samples.FOLDER / name).stat().st_size for name in FILES) < LARGEST_TOTAL


def test_figures_are_of_the_clips() -> None:
    for row in json.loads((RESULTS / "samples.json").read_text())["rows"]:
        assert samples.mel_error(committed(row["clip"])) == pytest.approx(row["mel_error_db"], abs=0.1)


def test_the_voice_repeats() -> None:
    mel = np.load(samples.DEMO)[:, :90]
    final = mel.shape[1] * BASE.hop - BASE.look_ahead(6)
    assert final > 4000
    assert snr(committed("voice-6-steps")[:final], samples.voice(6, mel)[:final]) > SAME


def test_griffin_lim_repeats() -> None:
    mel = np.load(samples.DEMO)
    assert snr(committed("griffin-lim"), griffin_lim(mel, samples.RATES["voice"])) > SAME
    short = samples.voice(2, draft="griffin-lim")
    assert snr(committed("griffin-lim-refined"), short) > SAME
    short = samples.voice(2, draft="griffin-lim", match_mel=1)
    assert snr(committed("griffin-lim-refined-matched"), short) > SAME


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voice-6-steps", "voice-full-steps", "digits"])
def test_whole_clips_repeat(name: str) -> None:
    assert snr(committed(name), samples.CLIPS[name]()) > SAME


def test_magnitudes_have_the_mel() -> None:
    mel = np.load(samples.DEMO)[:, :50]
    bank = filter_bank(np.linspace(0.0, 11025.0, 513), "htk", 80, 20.0, 11025.0)
    window = np.sin(np.pi * np.arange(1024) / 1024) ** 2
    bands = bank @ magnitudes(mel, 22050) / np.linalg.norm(window)
    assert np.max(np.abs(0.2 * np.log10(bands) + 0.8 - mel)) < 0.02


def test_more_rounds_of_griffin_lim_come_closer() -> None:
    mel = np.load(samples.DEMO)[:, :60]
    errors = [samples.mel_error(griffin_lim(mel, samples.RATES["voice"], rounds=rounds), mel) for rounds in (0, 4, 32)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]
