"""DiffWave inference with custom kernels: a mel spectrogram becomes speech, and noise a word that was asked for.

import engine
audio = engine.vocode(mel)
clips = engine.generate(n=4, label=3)
"""

from engine.errors import Cancelled, CheckpointError, InputError, UnavailableError

try:
    from engine.kernels import _native as _native
except ImportError as error:
    raise ImportError(
        "engine.kernels._native is not built here: this is the source tree, which hides an installed package of that name; "
        "run 'pip install -e .' in it, or leave it"
    ) from error

from engine.api import denoise, generate, interpolate, vocode
from engine.audio.spectrogram import mel
from engine.voice import Voice, load

__all__ = [
    "Cancelled",
    "CheckpointError",
    "InputError",
    "UnavailableError",
    "Voice",
    "denoise",
    "generate",
    "interpolate",
    "load",
    "mel",
    "vocode",
]
__version__ = "0.1.0"
