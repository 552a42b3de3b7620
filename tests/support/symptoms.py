"""Wrong mels, vocoded by the bundled voice: the figures in the table of docs/mels.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import engine
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import load_checkpoint
from engine.checks.arrays import FloatArray
from engine.checks.mels import check_mel, fit_to_kind
from engine.kernels import registry
from engine.voice import Voice

RATE = 22050
Make = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Symptom:
    """Measurements of the audio of a wrong mel.

    Attributes:
        noticed: whether the engine refuses the mel.
        level: root mean square in dB of full scale.
        flatness: flatness of the mean spectrum: 1 for white noise, near 0 for speech.
        likeness: correlation of the audio's own mel with the right mel.
        length: length relative to the audio of the right mel.
    """

    noticed: bool
    level: float
    flatness: float
    likeness: float
    length: float

    def row(self) -> str:
        noticed = "refused" if self.noticed else "no"
        return f"{noticed} | {self.level:.0f} | {self.flatness:.2g} | {self.likeness:.2f} | {self.length:.2f}"


def _mel(audio: FloatArray, kind: str = "lmnt", rate: int = RATE) -> FloatArray:
    return engine.mel(audio, rate, kind)


def _other_rate(audio: FloatArray, rate: int) -> FloatArray:
    """Resample by linear interpolation: soxr may be absent."""
    t = np.arange(int(len(audio) * rate / RATE)) * (RATE / rate)
    return np.interp(t, np.arange(len(audio)), audio).astype(np.float32)


def _squeezed(mel: FloatArray) -> FloatArray:
    return (mel - mel.min()) / (mel.max() - mel.min())


# By name, the function that computes the wrong mel from the right mel and its audio. If the engine already refuses the
# audio, a function in NAIVE computes the mel that a user would pass.
CASES: dict[str, Make] = {
    "the right mel, for comparison": lambda mel, audio: mel,
    "a `tacotron`, `hifigan` or `speechbrain` mel": lambda mel, audio: _mel(audio, "hifigan"),
    "decibels from -100 to 0, not scaled to [0, 1]": lambda mel, audio: mel * 100 - 100,
    "the right mel, scaled to [-1, 1]": lambda mel, audio: mel * 2 - 1,
    "the right mel, standardized to mean 0 and deviation 1": lambda mel, audio: (mel - mel.mean()) / mel.std(),
    "a logarithmic mel, scaled to [0, 1]": lambda mel, audio: _squeezed(_mel(audio, "tacotron")),
    "power instead of magnitude: twice the decibels": lambda mel, audio: (mel * 2 - 0.8).clip(0, 1),
    "10 dB too loud": lambda mel, audio: (mel + 0.1).clip(0, 1),
    "30 dB too quiet": lambda mel, audio: (mel - 0.3).clip(0, 1),
    "zeros": lambda mel, audio: 0 * mel,
    "clipped at 0.6": lambda mel, audio: mel.clip(0, 0.6),
    "transposed, with as many frames as bands": lambda mel, audio: mel.T,
    "bands from high to low": lambda mel, audio: mel[::-1],
    "a recording at 16 kHz, read as 22.05 kHz": lambda mel, audio: _mel(_other_rate(audio, 16000)),
    "a mel with a hop of 128: twice the frames": lambda mel, audio: np.repeat(mel, 2, axis=1),
    "a clipped recording: 10 times too loud": lambda mel, audio: _mel((audio * 10).clip(-1, 1)),
    "16-bit integers, not divided by 32768": lambda mel, audio: _mel((audio * 32768).clip(-1, 1)),
}
NAIVE: dict[str, Make] = {"16-bit integers, not divided by 32768": lambda mel, audio: _mel(audio * 32768)}


def refused() -> dict[str, bool]:
    """Return whether each case is refused: the recording by `engine.mel`, the mel by the first checks of `vocode`."""
    correct = np.load(BUNDLED.with_name("demo_mel.npy"))[:, 60:140]
    right = engine.load(precision="fp32").vocode(correct[:, :20])
    config = load_checkpoint(BUNDLED).config

    def is_refused(make: Make) -> bool:
        try:
            fit_to_kind(check_mel(make(correct, right), config), config.mel_kind)
        except engine.InputError:
            return True
        return False

    return {name: is_refused(NAIVE.get(name, make)) for name, make in CASES.items()}


def measure() -> dict[str, Symptom]:
    """Measure every case on half a second of the demo mel: 6 steps, seed 0, fp32, with no check of the mel's range."""
    checkpoint = load_checkpoint(BUNDLED)
    config = replace(checkpoint.config, mel_kind=None)
    voice = Voice(replace(checkpoint, config=config), registry.select("cpu", "fp32", None), 2)
    demo, noticed, measured = np.load(BUNDLED.with_name("demo_mel.npy")), refused(), {}
    for frames in (80, 40):  # only a square mel can be transposed
        correct = demo[:, 60 : 60 + frames]
        right = voice.vocode(correct)
        for name, make in CASES.items():
            if (frames == 80) != ("transposed" in name):
                continue
            audio = voice.vocode(make(correct, right))
            heard = _mel(audio)
            common = min(heard.shape[1], frames)
            measured[name] = Symptom(
                noticed=noticed[name],
                level=float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2))),
                flatness=_flatness(audio),
                likeness=float(np.corrcoef(heard[:, :common].ravel(), correct[:, :common].ravel())[0, 1]),
                length=len(audio) / len(right),
            )
    return {name: measured[name] for name in CASES}


def _flatness(audio: FloatArray) -> float:
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), 1024)[::256] * np.hanning(1024)
    power = (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0)[5:-5]
    return float(np.exp(np.log(power).mean()) / power.mean())
