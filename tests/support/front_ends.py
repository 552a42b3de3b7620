"""Front-ends of text-to-speech systems, restated from their published code: the table in docs/front-ends.md.

The parameters were read from the versions that the page names.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from tests.support.banks import direct_bank

RATE, N_FFT, HOP = 22050, 1024, 256


@dataclass(frozen=True)
class FrontEnd:
    """The front-end of one row of the page.

    Attributes:
        name: the row's first cell.
        kind: the kind of `engine.mel` that the row names.
        limits: fmin and fmax in Hz, of the bands on Slaney's scale.
        base: of the logarithm.
        floor: the smallest magnitude of a band.
        added: added to every band instead.
        guard: added to the power, under the root.
        reflected: whether the ends are padded by reflection; else by zeros.
        centered: whether frame t is centered on sample 256 t; else half a hop behind.
        periodic: whether the window is periodic; else symmetric.
        form: what the model returns, from float32 [80, T].
        seen: the largest difference of its real code from `engine.mel` on four recordings, after the row's line; of
            the frames whose windows lie in the audio.
    """

    name: str
    kind: str
    seen: float
    limits: tuple[float, float] = (0.0, 8000.0)
    base: float = math.e
    floor: float = 1e-5
    added: float = 0.0
    guard: float = 0.0
    reflected: bool = True
    centered: bool = True
    periodic: bool = True
    form: Callable[[np.ndarray], Any] = lambda mel: torch.from_numpy(mel)[None]

    def mel(self, audio: np.ndarray) -> Any:
        """Compute frame by frame what the model was trained to return."""
        bank = bank_of(self.limits)
        pad = N_FFT // 2 if self.centered else (N_FFT - HOP) // 2
        padded = np.pad(audio.astype(np.float64), pad, mode="reflect" if self.reflected else "constant")
        length = N_FFT if self.periodic else N_FFT - 1
        window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / length) for i in range(N_FFT)])
        columns = []
        for start in range(0, len(padded) - N_FFT + 1, HOP):
            spectrum = np.fft.rfft(window * padded[start : start + N_FFT])
            bands = bank @ np.sqrt(np.abs(spectrum) ** 2 + self.guard)
            columns.append(np.log(bands + self.added if self.added else np.maximum(bands, self.floor)))
        return self.form((np.array(columns).T / math.log(self.base)).astype(np.float32))

    @property
    def unlike(self) -> int:
        """Number of frames at each end that differ by their padding."""
        return 0 if self.reflected else 2


@cache
def bank_of(limits: tuple[float, float]) -> np.ndarray:
    """Return Slaney's bank with area norm, [80, 513]."""
    return direct_bank("slaney", RATE, 80, *limits, RATE / 2)


def frames_first(mel: np.ndarray) -> torch.Tensor:
    """Return [1, T, 80]."""
    return torch.from_numpy(mel.T.copy())[None]


def turned(mel: np.ndarray) -> torch.Tensor:
    """Return [T, 80]."""
    return torch.from_numpy(mel.T.copy())


# Coqui's AudioProcessor of the recipes with an audio_config, and of its defaults.
RECIPE = types.SimpleNamespace(base=math.e, spec_gain=1.0, denormalize=lambda mel: mel)
DEFAULTS = types.SimpleNamespace(
    base=10, spec_gain=20.0, denormalize=lambda mel: (np.clip(mel, -4, 4) + 4) * 100 / 8 - 100 + 20
)


def coqui_defaults(mel: np.ndarray) -> np.ndarray:
    """Return decibels from -80 to 20, as [-4, 4], of a logarithm to the base 10, [T, 80]."""
    return np.clip(8 * ((20 * mel.T - 20 + 100) / 100) - 4, -4, 4).astype(np.float32)


FRONT_ENDS = [
    FrontEnd("Tacotron 2 (NVIDIA)", "tacotron", 2.3e-4),
    FrontEnd("FastSpeech 2 (ming024)", "tacotron", 2.3e-4, form=frames_first),
    FrontEnd("Glow-TTS (jaywalnut310)", "tacotron", 9.5e-7),
    FrontEnd("Matcha-TTS", "hifigan", 6.1e-4, centered=False, guard=1e-9),
    FrontEnd("SpeechBrain: Tacotron 2, FastSpeech 2", "speechbrain", 3.4e-4),
    FrontEnd("NeMo: FastPitch", "tacotron", 0.046, added=1e-5, reflected=False, periodic=False),
    FrontEnd("NeMo: Tacotron 2", "hifigan", 0.050, reflected=False, centered=False, periodic=False),
    FrontEnd("Coqui: recipes with `audio_config`", "tacotron", 9.5e-7, floor=1e-8, form=lambda mel: mel.T.copy()),
    FrontEnd(
        "Coqui: Glow-TTS, defaults", "tacotron", 1.8e-6, (0.0, 11025.0), base=10.0, floor=1e-8, form=coqui_defaults
    ),
    FrontEnd("ESPnet2: LJ Speech", "tacotron", 1.7e-3, (80.0, 7600.0), base=10.0, floor=1e-10, form=turned),
    FrontEnd(
        "PaddleSpeech: LJ Speech, but Transformer",
        "tacotron",
        1.9e-6,
        (80.0, 7600.0),
        base=10.0,
        floor=1e-10,
        form=turned,
    ),
]
PROCESSORS = {"Coqui: recipes with `audio_config`": RECIPE, "Coqui: Glow-TTS, defaults": DEFAULTS}
