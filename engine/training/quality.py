"""Judges of generated audio, with the recording of its mel and without. They need the extra `train` or `quality`."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from engine.audio.spectrogram import mel
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.errors import InputError, UnavailableError

JUDGE_RATE = 16000  # Hz; PESQ-WB and DistillMOS accept no other rate
_IMPORTING = threading.Lock()


def check_installed() -> str | None:
    """Check the modules of the judges before the first step of a training instead of at its first validation.

    Returns:
        The reason why validations will not predict a MOS, or None.

    Raises:
        InputError: a module that `perceptual_scores` imports is not installed.
    """
    for name in ("pesq", "pystoi", "scipy"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"validate_every: {name} is not installed; run {how_to_install('train')}, or set it to 0")
    return None if mos_installed() else _mos_missing()


def perceptual_scores(recording: FloatArray, audio: FloatArray, rate: int) -> tuple[float, float]:
    """Return (PESQ-WB, STOI) of audio against a recording of the same length.

    Either is NaN where it is undefined: PESQ needs a quarter of a second with speech in it, STOI 0.4 s of speech.

    Args:
        recording: [L].
        audio: [L].
        rate: of both, in Hz.
    """
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    reference, degraded = (_at_judge_rate(signal, rate) for signal in (recording, audio))
    if not (reference.any() and degraded.any()):
        return math.nan, math.nan
    try:
        return float(pesq(JUDGE_RATE, reference, degraded, "wb")), _stoi(recording, audio, rate)
    except (BufferTooShortError, NoUtterancesError):
        return math.nan, math.nan


def _stoi(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(recording, audio, rate))
        except RuntimeWarning:  # without the filter it returns 1e-5
            return math.nan


def _at_judge_rate(signal: FloatArray, rate: int) -> Any:
    from scipy.signal import resample_poly

    return resample_poly(signal.astype(np.float64), JUDGE_RATE, rate)


def mos_installed() -> bool:
    """Return whether the modules that `predicted_mos` imports are installed."""
    return all(importlib.util.find_spec(name) for name in ("distillmos", "xls_r_sqa", "scipy", "torch"))


def predicted_mos(audio: FloatArray, rate: int) -> float:
    """Return the mean opinion score that DistillMOS (Stahl & Gamper, 2025) predicts for speech, from 1 to 5.

    It needs no recording of the same sentence, and normalizes the level. Clips shorter than 7.68 s are padded with
    zeros. It takes about a second of a CPU core.

    Args:
        audio: [L].
        rate: in Hz.

    Returns:
        The score; NaN for digital silence.

    Raises:
        UnavailableError: DistillMOS is not installed.
    """
    if not mos_installed():
        raise UnavailableError(_mos_missing())
    import torch

    signal = _at_judge_rate(audio, rate)
    if not signal.any():
        return math.nan
    with torch.inference_mode():
        score = _mos_network()(torch.from_numpy(signal.astype(np.float32))[None])
    return float(score.reshape(()))


def _mos_missing() -> str:
    return f"mos: DistillMOS is not installed; run {how_to_install('quality')}"


@cache
def _mos_network() -> Any:
    """Return DistillMOS's network with the weights of its package."""
    import torch

    with _IMPORTING, _imported_when_used("torchaudio"):
        sqa = importlib.import_module("distillmos.sqa")
    network = sqa.ConvTransformerSQAModel(load_weights=False)  # its own loading prints a line on stdout
    weights = torch.load(sqa.DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)  # executes nothing
    network.load_state_dict(weights["model"])
    return network.eval()


@contextmanager
def _imported_when_used(name: str) -> Iterator[None]:
    """Let `import name` succeed within the block without importing the module before one of its attributes is used.

    DistillMOS reads files with torchaudio, and its network needs nothing of it. torchaudio is large, and fails to
    import beside a PyTorch that it was not compiled for.

    Args:
        name: of a module; one that is already imported stays.
    """
    if name in sys.modules:
        yield
        return
    module = types.ModuleType(name)
    module.__getattr__ = lambda attribute: getattr(importlib.import_module(name), attribute)  # type: ignore[method-assign]
    sys.modules[name] = module
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]


def log_mel_error(recording: FloatArray, audio: FloatArray, rate: int) -> float:
    """Return the mean absolute difference of two log-mels (Tacotron 2's: 80 bands, natural logarithm).

    Args:
        recording: [L].
        audio: [L].
        rate: of both, in Hz.
    """
    expected, actual = (mel(signal, rate, kind="tacotron") for signal in (recording, audio))
    return float(np.abs(expected - actual).mean())
