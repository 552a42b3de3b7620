"""Mel spectrograms as each family of checkpoints was trained on. The wrong kind gives noise or silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.arguments import check_sample_rate
from engine.arrays import FloatArray, device_of, on_device, to_numpy
from engine.config import MEL_KINDS
from engine.errors import InputError, UnavailableError

BUILT_KINDS = ("lmnt",)

N_FFT = 1024
HOP = 256
N_MELS = 80
BLOCK = 512  # frames per FFT call: bounds the work space to about 10 MB however long the audio
PEAK_LIMIT = 2.0  # resampling overshoots 1 a little; 16-bit integers overshoot it by thousands


def mel(audio: Any, sample_rate: int, kind: str = "lmnt") -> Any:
    """The mel spectrogram that checkpoints of one kind expect.

    Kind "lmnt" (lmnt-com/diffwave, preprocess.py), with M the bands of `filter_bank`, w a periodic Hann
    window of 1024 and frame t centred on sample 256*t (reflect padding 512):

        m[b, t] = sum_k M[b, k] * |rfft(w * clip(audio, -1, 1))[k, t]| / ||w||_2
        mel = clip((20 * log10(max(m, 1e-5)) - 20 + 100) / 100, 0, 1)

    Args:
        audio: [n] in [-1, 1], float32 or float64, n > 512; a numpy array or a torch tensor.
        sample_rate: of the audio, in Hz; nothing is resampled to the checkpoint's own (`Config.sample_rate`).
        kind: one of `engine.config.MEL_KINDS`.

    Returns:
        float32 [80, 1 + n // 256], numpy for numpy, a tensor on the same device for a tensor.

    Raises:
        InputError: audio, sample_rate or kind is impossible.
        UnavailableError: the kind is known but not built yet.
    """
    if kind not in MEL_KINDS:
        raise InputError(f"kind: expected one of {', '.join(MEL_KINDS)}, got {kind!r}")
    if kind not in BUILT_KINDS:
        raise UnavailableError(f"kind {kind!r} is not built yet: expected {' or '.join(map(repr, BUILT_KINDS))}")
    sample_rate = check_sample_rate(sample_rate)
    samples = _check_audio(audio)
    return on_device(_lmnt(samples, sample_rate), device_of(audio))


def filter_bank(sample_rate: int) -> npt.NDArray[np.float64]:
    """Triangles on the HTK mel scale from 20 Hz to half the rate, without area norm: float64 [80, 513].

        hz(m) = 700 * (10^(m / 2595) - 1);  edges e_0 .. e_81 equally spaced in m
        M[b, k] = max(0, min((f_k - e_b) / (e_{b+1} - e_b), (e_{b+2} - f_k) / (e_{b+2} - e_{b+1})))

    As torchaudio.functional.melscale_fbanks(norm=None, mel_scale="htk").
    """
    # torchaudio spaces the bins up to sample_rate // 2 but ends the bands at sample_rate / 2.
    frequencies = np.linspace(0.0, sample_rate // 2, N_FFT // 2 + 1)
    low, high = 2595.0 * np.log10(1.0 + np.array([20.0, sample_rate / 2.0]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(low, high, N_MELS + 2) / 2595.0) - 1.0)
    slopes = (frequencies - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]
    falling = 1.0 - slopes[1:-1]
    bank: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(slopes[:-2], falling))
    return bank


def _check_audio(audio: Any) -> npt.NDArray[Any]:
    samples = to_numpy(audio, "audio", ("float32", "float64"), "; divide 16-bit integers by 32768")
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    if samples.size <= N_FFT // 2:
        raise InputError(
            f"audio: expected more than {N_FFT // 2} samples (it is padded by reflection), got {samples.size}"
        )
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError("audio: expected finite values, got NaN or infinity")
    if max(-low, high) > PEAK_LIMIT:
        raise InputError(
            f"audio: expected values in [-1, 1], got {low:.4g} to {high:.4g}; divide 16-bit integers by 32768"
        )
    return samples


def _lmnt(samples: npt.NDArray[Any], sample_rate: int) -> FloatArray:
    padded = np.pad(samples, N_FFT // 2, mode="reflect")
    np.clip(padded, -1.0, 1.0, out=padded)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)
    bank = filter_bank(sample_rate) / np.sqrt(np.sum(window**2))
    out = np.empty((N_MELS, len(frames)), np.float32)
    for start in range(0, len(frames), BLOCK):
        magnitude = np.abs(np.fft.rfft(frames[start : start + BLOCK] * window))
        decibels = 20.0 * np.log10(np.maximum(bank @ magnitude.T, 1e-5))
        out[:, start : start + BLOCK] = np.clip((decibels - 20.0 + 100.0) / 100.0, 0.0, 1.0)
    return out
