"""DiffWave inference with custom kernels: mel spectrograms to speech, class labels to sound.

Example:
    import engine
    audio = engine.vocode(mel)
    clips = engine.generate(n=4, label=3)
"""

from engine.errors import Cancelled, CheckpointError, InputError, UnavailableError

try:
    from engine.kernels import _native as _native
except ImportError as error:
    raise ImportError(
        "engine.kernels._native: not built in this source tree, which hides any installed package of that name; "
        "run 'pip install -e .' in it, or leave the folder"
    ) from error

from engine.api import denoise, generate, interpolate, load, vocode
from engine.audio.spectrogram import mel
from engine.voice import Voice

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
