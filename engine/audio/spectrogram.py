"""Mel spectrograms of the kinds that public DiffWave checkpoints were trained on.

A mel of the wrong kind gives noise or silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, overload

import numpy as np

from engine.audio.filterbank import Float64Array, filter_bank
from engine.audio.pcm import Samples
from engine.checks.arguments import check_count, check_sample_rate
from engine.checks.arrays import FloatArray, device_of, on_device, to_numpy
from engine.config import MAX_MELS, Config
from engine.errors import InputError

if TYPE_CHECKING:
    import torch

N_FFT = 1024
HOP = 256
N_MELS = 80
BLOCK = 512  # frames per FFT call: limits the work space to about 15 MB for audio of any length
PEAK_LIMIT = 2.0  # resampled audio exceeds 1 a little; 16-bit integers exceed it by thousands


def _decibels(magnitude: Float64Array) -> Float64Array:
    return np.clip((20.0 * np.log10(np.maximum(magnitude, 1e-5)) - 20.0 + 100.0) / 100.0, 0.0, 1.0)


def _from_decibels(values: Float64Array) -> Float64Array:
    magnitude: Float64Array = 10.0 ** ((100.0 * values - 80.0) / 20.0)
    return magnitude


def _logarithm(magnitude: Float64Array) -> Float64Array:
    return np.log(np.maximum(magnitude, 1e-5))


WINDOW: Float64Array = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)


@dataclass(frozen=True)
class Kind:
    """The parameters of one front-end; `mel` states the formula.

    Attributes:
        scale: the scale of the filter bank, a key of `engine.audio.filterbank.SCALES`.
        fmin: the lowest band's lower corner in Hz.
        fmax: the highest band's upper corner in Hz, None for half the sample rate.
        pad: samples of reflection at each end. N_FFT / 2 centers frame t on sample HOP * t; a smaller padding places it
            between two centered frames.
        compress: converts the magnitudes of the bands to the values of the mel.
        expand: the inverse of `compress`, for values that it did not clip.
        floor: added to the power, under the root.
        clip: whether the audio is clipped to [-1, 1] first.
        unit_window: whether the magnitude is divided by the window's 2-norm.
        integer_nyquist: whether the bins end at sample_rate // 2, as in torchaudio, and not at sample_rate / 2. The two
            differ for odd rates.
    """

    scale: str
    fmin: float
    fmax: float | None
    pad: int
    compress: Callable[[Float64Array], Float64Array]
    expand: Callable[[Float64Array], Float64Array]
    floor: float = 0.0
    clip: bool = False
    unit_window: bool = False
    integer_nyquist: bool = False


CENTERED = N_FFT // 2
KINDS = {
    "lmnt": Kind(
        "htk", 20.0, None, CENTERED, _decibels, _from_decibels, clip=True, unit_window=True, integer_nyquist=True
    ),
    "tacotron": Kind("slaney", 0.0, 8000.0, CENTERED, _logarithm, np.exp),
    "hifigan": Kind("slaney", 0.0, 8000.0, (N_FFT - HOP) // 2, _logarithm, np.exp, floor=1e-9),
    "speechbrain": Kind("slaney", 0.0, 8000.0, CENTERED, _logarithm, np.exp, integer_nyquist=True),
}

# Published configurations whose fmax is not their kind's: (kind, sample rate, bands). Amphion's front-end is that of
# the 24 kHz BigVGAN networks.
PUBLISHED_FMAX = {("hifigan", 24000, 100): 12000.0}


class MelSettings(TypedDict):
    """The keyword arguments of `mel` for one checkpoint."""

    kind: str
    n_mels: int
    fmax: float | None


@overload
def mel(
    audio: Samples,
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> FloatArray: ...
@overload
def mel(
    audio: torch.Tensor,
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> torch.Tensor: ...
def mel(
    audio: Samples | torch.Tensor,
    sample_rate: int,
    kind: str = "lmnt",
    *,
    n_mels: int = N_MELS,
    fmin: float | None = None,
    fmax: float | None = None,
) -> FloatArray | torch.Tensor:
    """Compute the mel spectrogram that checkpoints of one kind expect.

    Every kind has a hop of 256 samples. The mels of a checkpoint with another hop come from its own code.

    With x the audio, padded by reflection, w a periodic Hann window of 1024 and B the kind's filter bank:

        m[b, t] = sum_k B[b, k] * sqrt(|rfft(w * x[256 t : 256 t + 1024])[k]|^2 + floor)

    - "lmnt" (lmnt-com/diffwave): x is clipped to [-1, 1] and padded by 512. The root is divided by ||w||_2. The bands
      are HTK's without area norm, from 20 Hz to half the rate.
      mel = clip((20 log10(max(m, 1e-5)) - 20 + 100) / 100, 0, 1)
    - "tacotron" (NVIDIA/tacotron2; philsyn, BDDM): x is padded by 512. The bands are Slaney's with area norm, from 0 to
      8000 Hz. mel = ln(max(m, 1e-5))
    - "hifigan" (jik876/hifi-gan; PriorGrad, Amphion): as tacotron, but padded by 384, so that T = n // 256, and with
      floor = 1e-9.
    - "speechbrain" (SpeechBrain's recipe): as tacotron; the bins differ for odd sample rates only.

    Args:
        audio: [n] in [-1, 1], float32 or float64, longer than the padding; a NumPy array or a torch tensor.
        sample_rate: the rate of the audio in Hz. Nothing is resampled to the checkpoint's rate (`Config.sample_rate`).
        kind: a key of `KINDS`.
        n_mels: M, the checkpoint's number of bands (`Config.n_mels`).
        fmin: the lowest frequency in Hz, None for the kind's.
        fmax: the highest frequency in Hz, at most half the rate, None for the kind's. Amphion's 24 kHz checkpoints need
            n_mels=100, fmax=12000.

    Returns:
        float32 [M, 1 + n // 256], for "hifigan" [M, n // 256]; an array for an array, a tensor on the same device for
        a tensor.

    Raises:
        InputError: an argument has an impossible value; the message names it.
    """
    spec = kind_of(kind)
    sample_rate = check_sample_rate(sample_rate)
    n_mels = check_count(n_mels, "n_mels", MAX_MELS)
    bank = bank_of(kind, sample_rate, n_mels, fmin, fmax)
    samples = _check_audio(audio, spec.pad)
    result: FloatArray | torch.Tensor = on_device(_spectrogram(samples, spec, bank), device_of(audio))
    return result


def mel_settings(config: Config) -> MelSettings:
    """Return the keyword arguments with which `mel` computes the mels that a checkpoint expects.

    Args:
        config: the checkpoint's hyper-parameters.

    Raises:
        InputError: the checkpoint takes no mel, does not record its kind, or has another hop than 256.
    """
    if config.n_mels == 0:
        raise InputError("config: expected a network that takes a mel, got an unconditional one")
    if config.mel_kind is None:
        raise InputError("config: expected a checkpoint that records its kind of mel, got one without; pass mel_kind=")
    if config.hop != HOP:
        raise InputError(f"config: expected a hop of {HOP} samples, got {config.hop}; compute its mels elsewhere")
    published = PUBLISHED_FMAX.get((config.mel_kind, config.sample_rate, config.n_mels))
    return {"kind": config.mel_kind, "n_mels": config.n_mels, "fmax": published}


def kind_of(kind: str, name: str = "kind") -> Kind:
    """Return the parameters of a kind.

    Args:
        kind: a key of `KINDS`.
        name: name of the argument, for the message.

    Raises:
        InputError: there is no kind of this name.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{name}: expected one of {', '.join(KINDS)}, got {kind!r:.80}")
    return KINDS[kind]


def frequencies_of(kind: str, sample_rate: int) -> Float64Array:
    """Return the frequencies of the bins in Hz [513], as the kind's library rounds them.

    Args:
        kind: a key of `KINDS`.
        sample_rate: in Hz.
    """
    return np.linspace(0.0, sample_rate // 2 if KINDS[kind].integer_nyquist else sample_rate / 2, N_FFT // 2 + 1)


def bank_of(kind: str, sample_rate: int, n_mels: int, fmin: float | None, fmax: float | None) -> Float64Array:
    """Return the filter bank [M, 513] that gives the bands of a kind from the magnitudes of windowed frames.

    Args:
        kind: a key of `KINDS`.
        sample_rate: in Hz.
        n_mels: M.
        fmin: the lowest frequency in Hz, None for the kind's.
        fmax: the highest frequency in Hz, None for the kind's.

    Raises:
        InputError: a frequency is not possible.
    """
    spec = KINDS[kind]
    low, high = _limits(spec, kind, sample_rate, fmin, fmax)
    bank = filter_bank(frequencies_of(kind, sample_rate), spec.scale, n_mels, low, high)
    return bank / np.sqrt(np.sum(WINDOW**2)) if spec.unit_window else bank


def _limits(spec: Kind, kind: str, sample_rate: int, fmin: object, fmax: object) -> tuple[float, float]:
    """Return the bank's lowest and highest frequency in Hz."""
    half = sample_rate / 2
    low = spec.fmin if fmin is None else _check_frequency(fmin, "fmin")
    default = half if spec.fmax is None else spec.fmax
    high = default if fmax is None else _check_frequency(fmax, "fmax")
    if high > half:
        origin = f" (the default of kind {kind!r}; pass a lower one if the checkpoint has it)" if fmax is None else ""
        raise InputError(f"fmax: expected at most half the sample rate, {half:g} Hz, got {high:g}{origin}")
    if not 0.0 <= low < high:
        raise InputError(f"fmin: expected from 0 to less than fmax, {high:g} Hz, got {low:g}")
    return low, high


def _check_frequency(value: object, name: str) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        with suppress(OverflowError):
            if math.isfinite(value):
                return float(value)
    raise InputError(f"{name}: expected a frequency in Hz, got {value!r:.80}")


def hint_of(audio: object) -> str:
    """Return the remedy of a message about the element type of audio, "" if there is none.

    Args:
        audio: an array, a tensor, or something else.
    """
    dtype = getattr(audio, "dtype", None)
    name, kind = str(dtype).removeprefix("torch."), getattr(dtype, "kind", "")  # NumPy's types have a kind
    if kind in "iu" and (kind or name.startswith(("int", "uint"))):
        return "; divide 16-bit integers by 32768"
    return "; convert it to float32" if kind == "f" or "float" in name else ""


def _check_audio(audio: Samples | torch.Tensor, pad: int) -> Samples:
    samples = to_numpy(audio, "audio", ("float32", "float64"), hint_of(audio))
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


def _spectrogram(samples: Samples, spec: Kind, bank: Float64Array) -> FloatArray:
    count = 1 + (samples.size + 2 * spec.pad - N_FFT) // HOP
    out = np.empty((len(bank), count), np.float32)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        chunk = _reflected(samples, start * HOP - spec.pad, (stop - 1) * HOP + N_FFT - spec.pad)
        if spec.clip:
            chunk = np.clip(chunk, -1.0, 1.0)
        frames = np.lib.stride_tricks.sliding_window_view(chunk, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * WINDOW)
        magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + spec.floor)
        out[:, start:stop] = spec.compress(bank @ magnitude.T)
    return out


def _reflected(samples: Samples, start: int, stop: int) -> Samples:
    """Return samples[start:stop] of the signal that is extended by its mirror image at both ends.

    The extension at each end is shorter than the signal.
    """
    last = samples.size - 1
    part: Samples = samples[last - np.abs(last - np.abs(np.arange(start, stop)))]
    return part
