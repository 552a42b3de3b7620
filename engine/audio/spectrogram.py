"""Mel spectrograms as each family of checkpoints was trained on. The wrong kind gives noise or silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.audio.filterbank import filter_bank
from engine.checks.arguments import check_count, check_sample_rate
from engine.checks.arrays import FloatArray, device_of, on_device, to_numpy
from engine.config import Config
from engine.errors import InputError

Array = npt.NDArray[np.float64]

N_FFT = 1024
HOP = 256
N_MELS = 80
MAX_MELS = 1024  # as in `Config`
BLOCK = 512  # frames per FFT call: bounds the work space to about 15 MB however long the audio
PEAK_LIMIT = 2.0  # resampling overshoots 1 a little; 16-bit integers overshoot it by thousands


def _decibels(m: Array) -> Array:
    return np.clip((20.0 * np.log10(np.maximum(m, 1e-5)) - 20.0 + 100.0) / 100.0, 0.0, 1.0)


def _logarithm(m: Array) -> Array:
    return np.log(np.maximum(m, 1e-5))


@dataclass(frozen=True)
class Kind:
    """How one front-end differs from the others; `mel` has the formula.

    Attributes:
        scale: of the filter bank, one of `engine.audio.filterbank.SCALES`.
        fmin: the lowest band's lower corner, in Hz.
        fmax: the highest band's upper corner, None for half the sample rate.
        pad: samples of reflection at each end: N_FFT / 2 centres frame t on sample HOP * t, less puts it between.
        compress: from the magnitudes of the bands to the values of the mel.
        floor: added to the power, under the root.
        clip: limit the audio to [-1, 1] first.
        unit_window: divide the magnitude by the window's 2-norm.
        whole_nyquist: the bins end at sample_rate // 2, as torchaudio has it, and not at sample_rate / 2: a difference
            for odd rates.
    """

    scale: str
    fmin: float
    fmax: float | None
    pad: int
    compress: Callable[[Array], Array]
    floor: float = 0.0
    clip: bool = False
    unit_window: bool = False
    whole_nyquist: bool = False


CENTRED = N_FFT // 2
KINDS = {
    "lmnt": Kind("htk", 20.0, None, CENTRED, _decibels, clip=True, unit_window=True, whole_nyquist=True),
    "tacotron": Kind("slaney", 0.0, 8000.0, CENTRED, _logarithm),
    "hifigan": Kind("slaney", 0.0, 8000.0, (N_FFT - HOP) // 2, _logarithm, floor=1e-9),
    "speechbrain": Kind("slaney", 0.0, 8000.0, CENTRED, _logarithm, whole_nyquist=True),
}

# Where a family's published configuration departs from its kind's fmax: (kind, sample rate, bands) of Amphion, whose
# front-end 24 kHz BigVGAN and its like share.
PUBLISHED_FMAX = {("hifigan", 24000, 100): 12000.0}


def mel(
    audio: Any,
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> Any:
    """The mel spectrogram that checkpoints of one kind expect.

    With x the audio, padded by reflection, w a periodic Hann window of 1024 and B the kind's filter bank:

        m[b, t] = sum_k B[b, k] * sqrt(|rfft(w * x[256 t : 256 t + 1024])[k]|^2 + floor)

    "lmnt" (lmnt-com/diffwave): x clipped to [-1, 1] and padded by 512, the root divided by ||w||_2, HTK bands without
        area norm from 20 Hz to half the rate; mel = clip((20 log10(max(m, 1e-5)) - 20 + 100) / 100, 0, 1)
    "tacotron" (NVIDIA/tacotron2; philsyn, BDDM): padded by 512, Slaney's bands with area norm from 0 to 8000 Hz;
        mel = ln(max(m, 1e-5))
    "hifigan" (jik876/hifi-gan; PriorGrad, Amphion): as tacotron, but padded by 384, so that T = n // 256, and with
        floor = 1e-9
    "speechbrain" (SpeechBrain's recipe): as tacotron; only for an odd sample rate do the bins differ

    Args:
        audio: [n] in [-1, 1], float32 or float64, longer than the padding; a numpy array or a torch tensor.
        sample_rate: of the audio, in Hz; nothing is resampled to the checkpoint's own (`Config.sample_rate`).
        kind: one of `KINDS`.
        n_mels: M, the checkpoint's number of bands (`Config.n_mels`).
        fmin: the lowest frequency in Hz, None for the kind's.
        fmax: the highest frequency in Hz, at most half the rate, None for the kind's. Amphion's 24 kHz checkpoints
            have n_mels=100, fmax=12000.

    Returns:
        float32 [M, 1 + n // 256], for "hifigan" [M, n // 256]; numpy for numpy, a tensor on the same device for a
        tensor.

    Raises:
        InputError: an argument has an impossible value; the message names it.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r:.80}")
    of = KINDS[kind]
    sample_rate = check_sample_rate(sample_rate)
    n_mels = check_count(n_mels, "n_mels", MAX_MELS)
    low, high = _limits(of, kind, sample_rate, fmin, fmax)
    samples = _check_audio(audio, of.pad)
    nyquist = sample_rate // 2 if of.whole_nyquist else sample_rate / 2
    bank = filter_bank(np.linspace(0.0, nyquist, N_FFT // 2 + 1), of.scale, n_mels, low, high)
    return on_device(_spectrogram(samples, of, bank), device_of(audio))


def settings(config: Config) -> dict[str, Any]:
    """What `mel` takes, beside the audio, to make what a checkpoint wants: kind, n_mels and fmax.

    Raises:
        InputError: the checkpoint takes no mel, does not say which kind, or wants another hop than 256.
    """
    if config.n_mels == 0:
        raise InputError("this network is unconditional and takes no mel")
    if config.mel_kind is None:
        raise InputError("the checkpoint does not say which kind of mel it wants")
    if config.hop != HOP:
        raise InputError(f"this voice wants a mel frame every {config.hop} samples, a recording gives {HOP}")
    published = PUBLISHED_FMAX.get((config.mel_kind, config.sample_rate, config.n_mels))
    return {"kind": config.mel_kind, "n_mels": config.n_mels, "fmax": published}


def _limits(of: Kind, kind: str, sample_rate: int, fmin: Any, fmax: Any) -> tuple[float, float]:
    """The bank's lowest and highest frequency."""
    half = sample_rate / 2
    low = of.fmin if fmin is None else _frequency(fmin, "fmin")
    default = half if of.fmax is None else of.fmax
    high = default if fmax is None else _frequency(fmax, "fmax")
    if high > half:
        whose = f" (of kind {kind!r}; pass a lower one if the checkpoint has it)" if fmax is None else ""
        raise InputError(f"fmax: expected at most half the sample rate, {half:g} Hz, got {high:g}{whose}")
    if not 0.0 <= low < high:
        raise InputError(f"fmin: expected from 0 to less than fmax, {high:g} Hz, got {low:g}")
    return low, high


def _frequency(value: Any, name: str) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(value):
                return float(value)
    raise InputError(f"{name}: expected a frequency in Hz, got {value!r:.80}")


def _check_audio(audio: Any, pad: int) -> npt.NDArray[Any]:
    samples = to_numpy(audio, "audio", ("float32", "float64"), "; divide 16-bit integers by 32768")
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    if samples.size <= pad:
        raise InputError(f"audio: expected more than {pad} samples (it is padded by reflection), got {samples.size}")
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError("audio: expected finite values, got NaN or infinity")
    if max(-low, high) > PEAK_LIMIT:
        raise InputError(
            f"audio: expected values in [-1, 1], got {low:.4g} to {high:.4g}; divide 16-bit integers by 32768"
        )
    return samples


def _spectrogram(samples: npt.NDArray[Any], of: Kind, bank: Array) -> FloatArray:
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)
    if of.unit_window:
        bank = bank / np.sqrt(np.sum(window**2))
    count = 1 + (samples.size + 2 * of.pad - N_FFT) // HOP
    out = np.empty((len(bank), count), np.float32)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        chunk = _reflected(samples, start * HOP - of.pad, (stop - 1) * HOP + N_FFT - of.pad)
        if of.clip:
            chunk = np.clip(chunk, -1.0, 1.0)
        frames = np.lib.stride_tricks.sliding_window_view(chunk, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * window)
        magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + of.floor)
        out[:, start:stop] = of.compress(bank @ magnitude.T)
    return out


def _reflected(samples: npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
    """samples[start:stop] of the signal that goes on as its own mirror image, less than its length, at both ends."""
    last = samples.size - 1
    part: npt.NDArray[Any] = samples[last - np.abs(last - np.abs(np.arange(start, stop)))]
    return part
