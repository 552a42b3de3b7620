"""A mel of one kind from a mel of another, for front-ends whose audio does not exist."""

from __future__ import annotations

import math

import numpy as np

from engine.audio.filterbank import Float64Array
from engine.audio.pcm import Samples
from engine.audio.spectrogram import BLOCK, N_MELS, bank_of, frequencies_of, kind_of
from engine.checks.arguments import check_sample_rate
from engine.checks.arrays import ArrayT, device_of, on_device, to_numpy
from engine.checks.callers import warn_caller
from engine.checks.mels import LMNT_MARGIN, LMNT_RANGE, LOG_MARGIN, LOG_RANGE
from engine.config import MAX_MELS
from engine.errors import InputError

ROUNDS = 5  # of the estimate; 30 are hardly closer to the exact mel
# Decibels per kHz by which the spectrum falls beyond the given bands. Recordings of two voices fell by 2 to 8 above
# 8 kHz, and by 270 to 600 below 80 Hz.
FALL_ABOVE, FALL_BELOW = 4.0, 400.0
SMALLEST = 1e-12
USUAL_BANDS = (64, 80, 100, 128)


def convert_mel(
    mel: ArrayT,
    from_kind: str,
    to_kind: str,
    sample_rate: int,
    *,
    fmin: float | None = None,
    fmax: float | None = None,
) -> ArrayT:
    """Estimate the mel of one kind from a mel of another, as from a Tacotron 2 for the bundled voice.

    Between "tacotron", "hifigan" and "speechbrain" only values below ln(1e-5) change. Between bands of other
    frequencies the result is an estimate: the bands of a spectrum that explains the given bands. The spectrum is first
    the envelope of the given bands, interpolated between their centers. Then it takes five multiplicative updates
    (Richardson, 1972; Lucy, 1974), with B the filter bank and m the magnitudes of the bands:

        s <- s * B^T (m / B s) / B^T 1

    No band says anything about the frequencies beyond the highest and the lowest one. There the spectrum falls as
    speech does: by 4 dB per kHz from the center of the highest band on, and by 4 dB in 10 Hz below the lowest band.
    Every frame is converted by itself, so the pieces of a stream have the values of the whole.

    The number of frames stays. Those of "hifigan" are half a hop later than the others, so after a conversion to or
    from it the audio is shifted by 128 samples.

    Args:
        mel: [M, T] or [B, M, T], float32 or float64; a NumPy array or a torch tensor. A log mel may have values below
            ln(1e-5), as ESPnet's and Coqui's do.
        from_kind: the kind of the mel, a key of `KINDS`.
        to_kind: the kind of the result, a key of `KINDS`.
        sample_rate: the rate of the audio in Hz.
        fmin: the lowest frequency of the given mel in Hz, None for the kind's.
        fmax: the highest frequency of the given mel in Hz, None for the kind's.

    Returns:
        float32 [80, T] or [B, 80, T]; an array for an array, a tensor on the same device for a tensor.

    Raises:
        InputError: an argument has an impossible value, or the values are not of the kind.

    Warns:
        UserWarning: a log mel has the values of an lmnt mel.
    """
    source, target = kind_of(from_kind, "from_kind"), kind_of(to_kind, "to_kind")
    sample_rate = check_sample_rate(sample_rate)
    values: Samples = _check_values(to_numpy(mel, "mel", ("float32", "float64")), from_kind)
    bank = bank_of(from_kind, sample_rate, values.shape[-2], fmin, fmax)
    other = bank_of(to_kind, sample_rate, N_MELS, None, None)
    same = np.array_equal(bank, other)
    envelope = _envelope(bank, frequencies_of(from_kind, sample_rate))
    frames = values.shape[-1]
    out = np.empty((*values.shape[:-2], N_MELS, frames), np.float32)
    items, results = values.reshape(-1, values.shape[-2], frames), out.reshape(-1, N_MELS, frames)
    for item in range(len(items)):
        for start in range(0, frames, BLOCK):
            part = slice(start, start + BLOCK)
            bands = source.expand(items[item, :, part].astype(np.float64))
            results[item, :, part] = target.compress(bands if same else other @ _spectrum(bands, bank, envelope))
    converted: ArrayT = on_device(out, device_of(mel))
    return converted


def _check_values(values: Samples, kind: str) -> Samples:
    """Raise InputError unless values are one or several mels of a kind."""
    if values.ndim not in (2, 3) or 0 in values.shape or values.shape[-2] > MAX_MELS:
        raise InputError(f"mel: expected shape [M, T] or [B, M, T] with at most {MAX_MELS} bands, got {values.shape}")
    bands, frames = values.shape[-2:]
    if frames in USUAL_BANDS and bands not in USUAL_BANDS:
        raise InputError(f"mel: expected [M, T] or [B, M, T], got {values.shape}, which looks transposed; transpose it")
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("mel: expected finite values, got NaN or infinity")
    if kind == "lmnt" and (low < LMNT_RANGE[0] - LMNT_MARGIN or high > LMNT_RANGE[1] + LMNT_MARGIN):
        raise InputError(f"mel: expected values in [0, 1], as 'lmnt' mels have, got {low:.4g} to {high:.4g}")
    if kind != "lmnt" and LMNT_RANGE[0] <= low and high <= LMNT_RANGE[1]:
        warn_caller(
            f"mel: expected natural logarithms, as {kind!r} mels have, got {low:.4g} to {high:.4g}, as 'lmnt' has"
        )
    if kind != "lmnt" and high > LOG_RANGE[1] + LOG_MARGIN:
        wanted = f"natural logarithms up to about 2, as {kind!r} mels have"
        raise InputError(f"mel: expected {wanted}, got {low:.4g} to {high:.4g}; undo its normalization first")
    return values


def _envelope(bank: Float64Array, frequencies: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return A [K, M] and b [K, 1], so that ln s = A ln m + b is the envelope s of bands m.

    It is linear between the centers of the bands. Bands without a bin have no center and are left out.

    Args:
        bank: [M, K].
        frequencies: of the bins in Hz, [K].
    """
    area = bank.sum(1)
    seen = np.flatnonzero(area > 0.0)
    centers = bank[seen] @ frequencies / area[seen]
    weights = np.zeros((len(frequencies), len(bank)))
    for band, unit in zip(seen, np.eye(len(seen)), strict=True):
        weights[:, band] = np.interp(frequencies, centers, unit)
    above, below = frequencies - centers[-1], frequencies[np.flatnonzero(bank.sum(0))[0]] - frequencies
    fall = (FALL_ABOVE * np.maximum(above, 0.0) + FALL_BELOW * np.maximum(below, 0.0)) / 1000.0
    offset = -weights[:, seen] @ np.log(area[seen]) - math.log(10.0) / 20.0 * fall
    return weights, offset[:, None]


def _spectrum(bands: Float64Array, bank: Float64Array, envelope: tuple[Float64Array, Float64Array]) -> Float64Array:
    """Return the spectrum [K, T] that explains bands [M, T]; `convert_mel` states the formula."""
    weights, offset = envelope
    spectrum: Float64Array = np.exp(weights @ np.log(np.maximum(bands, SMALLEST)) + offset)
    total = bank.sum(0)[:, None]
    covered = total > 0.0
    for _ in range(ROUNDS):
        ratio = bank.T @ (bands / np.maximum(bank @ spectrum, SMALLEST))
        spectrum *= np.where(covered, ratio / np.where(covered, total, 1.0), 1.0)
    return spectrum
