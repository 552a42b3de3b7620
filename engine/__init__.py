"""DiffWave inference with custom kernels: mel spectrograms to speech, class labels to sound.

Example:
    import engine
    audio = engine.vocode(mel)
    clips = engine.generate(n=4, label=3)
"""

import logging

from engine.checks.installation import how_to_build
from engine.errors import Cancelled, CheckpointError, InputError, UnavailableError

try:
    from engine.kernels import _native as _native
except ImportError as error:
    raise ImportError(f"engine.kernels._native: {how_to_build()}") from error

from engine import audio as audio
from engine import checkpoint as checkpoint
from engine.audio.spectrogram import mel
from engine.bulk import vocode_files
from engine.voice import Voice
from engine.voice.api import denoise, generate, interpolate, load, vocode

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
    "vocode_files",
]
logging.getLogger("engine").addHandler(logging.NullHandler())
__version__ = "0.1.0"
