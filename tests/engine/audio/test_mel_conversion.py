"""Mels that are converted to another kind, against those of the same audio and against the formula."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import engine
from engine import InputError
from engine.audio import convert_mel, mel_conversion
from engine.audio.griffin_lim import griffin_lim
from engine.audio.spectrogram import KINDS
from engine.checkpoint.bundled import ASSETS
from engine.checks.arrays import FloatArray
from engine.checks.mels import LOG_KINDS, check_mel, fit_to_kind
from engine.config import BASE
from tests.support.banks import direct_bank
from tests.support.tolerances import TOLERANCES

RATE = 22050
DECIBELS = {kind: 100.0 if kind == "lmnt" else 20.0 / math.log(10.0) for kind in KINDS}  # per unit of a mel
BELOW_8_KHZ = {kind: 71 if kind == "lmnt" else 80 for kind in KINDS}  # bands


@cache
def speech() -> FloatArray:
    """Return the bundled demo as audio, with harmonics, noise and a pause, up to 11 kHz."""
    return griffin_lim(np.load(ASSETS / "demo_mel.npy")[:, 40:120], RATE, rounds=2)


CASES = [(kind, "lmnt", limits) for kind in LOG_KINDS for limits in ((None, None), (80.0, 7600.0), (0.0, 11025.0))]


@pytest.mark.parametrize(("kind", "other", "limits"), [*CASES, ("lmnt", "tacotron", (None, None))])
def test_the_result_is_near_the_mel_of_the_audio(kind: str, other: str, limits: tuple[float, float]) -> None:
    fmin, fmax = limits
    mel = engine.mel(speech(), RATE, kind, fmin=fmin, fmax=fmax)
    exact = engine.mel(speech()[128:] if kind == "hifigan" else speech(), RATE, other)[:, : mel.shape[1]]
    converted = convert_mel(mel, kind, other, RATE, fmin=fmin, fmax=fmax)
    error = DECIBELS[other] * np.abs(converted - exact)[: BELOW_8_KHZ[other], 2:-2]
    assert error.mean() < TOLERANCES["converted_mel_db"]
    renamed = (mel - mel.mean()) / mel.std() * exact.std() + exact.mean()  # the same values in the other range
    assert DECIBELS[other] * np.abs(renamed - exact)[:, 2:-2].mean() > 3 * error.mean()


@pytest.mark.parametrize(("fmin", "fmax"), [(0.0, 8000.0), (80.0, 7600.0)])
def test_the_formula(fmin: float, fmax: float) -> None:
    """The estimate of one frame, bin by bin: five updates; beyond the bands 4 dB per kHz, and 4 dB in 10 Hz."""
    mel = engine.mel(speech(), RATE, "tacotron", fmin=fmin, fmax=fmax)[:, 20]
    source, target = direct_bank("slaney", RATE, 80, fmin, fmax, 11025), direct_bank("htk", RATE, 80, 20, 11025, 11025)
    frequencies = [k * 11025 / 512 for k in range(513)]
    centers = [sum(w * f for w, f in zip(row, frequencies, strict=True)) / sum(row) for row in source]
    levels = [float(value) - math.log(sum(row)) for value, row in zip(mel, source, strict=True)]
    lowest = next(f for k, f in enumerate(frequencies) if any(row[k] for row in source))
    spectrum = []
    for f in frequencies:
        level = float(np.interp(f, centers, levels)) - math.log(10) / 20 * 0.4 * max(0.0, lowest - f)
        spectrum.append(math.exp(level) * 10 ** (-4.0 / 20 * max(0.0, f - centers[-1]) / 1000))
    for _ in range(5):
        bands = [sum(w * s for w, s in zip(row, spectrum, strict=True)) for row in source]
        ratio = [math.exp(value) / band for value, band in zip(mel, bands, strict=True)]
        for k in range(513):
            if total := sum(row[k] for row in source):
                spectrum[k] *= sum(row[k] * r for row, r in zip(source, ratio, strict=True)) / total
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / 1024) for i in range(1024)]
    norm = math.sqrt(sum(w * w for w in window))
    bands = [sum(w * s for w, s in zip(row, spectrum, strict=True)) / norm for row in target]
    expected = [min(max((20 * math.log10(max(band, 1e-5)) - 20 + 100) / 100, 0), 1) for band in bands]
    converted = convert_mel(mel[:, None], "tacotron", "lmnt", RATE, fmin=fmin, fmax=fmax)[:, 0]
    np.testing.assert_allclose(converted, expected, rtol=0, atol=TOLERANCES["mel_formula"])


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize("other", LOG_KINDS)
def test_kinds_of_the_same_bands_share_their_values(kind: str, other: str) -> None:
    mel = engine.mel(speech(), RATE, kind)
    mel[3, 5] = -18.4
    expected = np.maximum(mel, np.log(1e-5))
    converted = convert_mel(mel, kind, other, RATE)
    np.testing.assert_allclose(converted, expected, rtol=0, atol=TOLERANCES["mel_formula_log"])


def test_the_bundled_voice_takes_the_result() -> None:
    mel = convert_mel(engine.mel(speech(), RATE, "hifigan"), "hifigan", "lmnt", RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_to_kind(check_mel(mel, BASE), "lmnt").items[0] is mel


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_form_of_mel(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mel_conversion, "BLOCK", 8)
    rng = np.random.default_rng(0)
    mels = rng.uniform(-11.5, 1.5, (2, 60, 19)).astype(dtype)
    whole = convert_mel(mels, "tacotron", "lmnt", 24000)
    assert whole.shape == (2, 80, 19) and whole.dtype == np.float32 and whole.flags.c_contiguous
    for mel, expected in zip(mels, whole, strict=True):
        pieces = [convert_mel(piece, "tacotron", "lmnt", 24000) for piece in np.array_split(mel, 3, axis=1)]
        np.testing.assert_allclose(np.concatenate(pieces, 1), expected, rtol=0, atol=TOLERANCES["stream_mel"])
    tensor = convert_mel(torch.from_numpy(mels.copy()).requires_grad_(), "tacotron", "lmnt", 24000)
    assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
    np.testing.assert_array_equal(tensor.numpy(), whole)


def test_silence_stays_silence() -> None:
    silence = np.full((80, 3), np.log(1e-10), np.float32)  # of ESPnet
    assert np.all(convert_mel(silence, "tacotron", "lmnt", RATE) == 0.0)
    assert np.all(convert_mel(np.zeros((80, 3), np.float32), "lmnt", "tacotron", RATE) < np.log(1e-2))


def test_bands_narrower_than_a_bin_are_left_out() -> None:
    mel = np.full((300, 2), -3.0, np.float32)
    bank = direct_bank("slaney", RATE, 300, 0, 8000, 11025)
    assert (bank.sum(1) == 0).any()
    assert np.isfinite(convert_mel(mel, "tacotron", "lmnt", RATE)).all()


MEL = np.full((80, 4), 0.5, np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((MEL, "mel", "lmnt", RATE), {}, "from_kind: expected one of lmnt, .*, got 'mel'"),
        ((MEL, "lmnt", None, RATE), {}, "to_kind: expected one of lmnt, .*, got None"),
        ((MEL, "lmnt", "tacotron", 0), {}, "sample_rate: "),
        ((MEL, "lmnt", "tacotron", 8000), {}, "fmax: expected at most half the sample rate"),
        ((MEL, "lmnt", "tacotron", RATE), {"fmin": -1.0}, "fmin: expected from 0"),
        ((MEL, "lmnt", "tacotron", RATE), {"fmax": 12000.0}, "fmax: expected at most"),
        ((MEL[0], "lmnt", "tacotron", RATE), {}, r"mel: expected shape \[M, T\] or \[B, M, T\] .*, got \(4,\)"),
        ((MEL[:, :0], "lmnt", "tacotron", RATE), {}, r"mel: expected shape .*, got \(80, 0\)"),
        ((MEL.tolist(), "lmnt", "tacotron", RATE), {}, "mel: expected a numpy array or a torch tensor, got list"),
        ((MEL.astype(int), "lmnt", "tacotron", RATE), {}, "mel: expected float32 or float64, got int64"),
        ((MEL * np.nan, "lmnt", "tacotron", RATE), {}, "mel: expected finite values"),
        (
            (MEL - 1, "lmnt", "tacotron", RATE),
            {},
            r"mel: expected values in \[0, 1\], as 'lmnt' mels have, got -0.5 to",
        ),
        ((MEL * 20, "hifigan", "lmnt", RATE), {}, "mel: expected natural logarithms .* 'hifigan' .*; undo its norm"),
    ],
)
def test_impossible_arguments(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        convert_mel(*arguments, **options)


def test_a_transposed_mel_is_refused() -> None:
    for shape in ((47, 80), (1, 47, 80), (2, 33, 100)):
        with pytest.raises(InputError, match=r"mel: expected .* which looks transposed"):
            convert_mel(np.full(shape, -3.0, np.float32), "tacotron", "lmnt", 22050)
    assert convert_mel(np.full((80, 80), -3.0, np.float32), "tacotron", "lmnt", 22050).shape == (80, 80)


def test_values_of_an_lmnt_mel_are_worth_a_warning() -> None:
    with pytest.warns(UserWarning, match="mel: expected natural logarithms, .* as 'lmnt' has"):
        convert_mel(np.full((80, 9), 0.4, np.float32), "tacotron", "lmnt", 22050)
