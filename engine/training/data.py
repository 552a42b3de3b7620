"""Recordings as training examples. What example i of step s is follows from the seed, s and i alone.

So a training that was interrupted goes on with the same examples, and any number of processes share a batch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.audio.spectrogram import mel as mel_of
from engine.audio.spectrogram import settings
from engine.audio.wav import mixed, read_channels, resample
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.prior import frame_energy
from engine.errors import CheckpointError, InputError
from engine.training.settings import Data

SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".ogg", ".wav"})  # other files beside recordings are passed by
FADE = 0.005  # seconds at the ends of a padded clip: a step to the zeros around it would be part of the sound


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording.

    Attributes:
        name: of its file.
        audio: [L] float32.
        mel: [M,T] of the network's kind, or None; T * hop samples or more lie in `audio`.
        label: number of its class, -1 without.
    """

    name: str
    audio: FloatArray
    mel: FloatArray | None
    label: int


@dataclass(frozen=True, eq=False)
class Example:
    """What a network is shown: audio [L], its mel [M,T] or its label."""

    audio: FloatArray
    mel: FloatArray | None
    label: int


@dataclass(frozen=True, eq=False)
class Corpus:
    """The recordings of a training.

    Attributes:
        train: those trained on.
        held_out: those that are not.
        classes: the names of the labels, in the order of their numbers.
        left_out: how many files are longer than a clip may be, or shorter than a crop.
        rates: that they were recorded at, in Hz, the lowest first.
    """

    train: Sequence[Clip]
    held_out: Sequence[Clip]
    classes: tuple[str, ...]
    left_out: int
    rates: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        """How many are trained on, and a hash of their names, lengths and labels: what examples are drawn from."""
        clips = "".join(f"{clip.name}\0{len(clip.audio)}\0{clip.label}\0" for clip in self.train)
        return f"{len(self.train)} {hashlib.sha256(clips.encode()).hexdigest()}"


def read_corpus(folder: str | Path, data: Data, config: Config) -> Corpus:
    """All recordings of a folder, resampled to the network's rate, mixed to one channel.

    Raises:
        InputError: no recording fits the pattern, one has no samples or no label, a label can be no class of a network,
            or none is left to train on.
    """
    if not Path(folder).is_dir():
        raise InputError(f"data: there is no directory {str(folder)!r}")
    files = sorted(path for path in Path(folder).glob(data.pattern) if path.suffix.lower() in SUFFIXES)
    files = [path for path in files if path.is_file()]
    if not files:
        kinds = ", ".join(sorted(SUFFIXES))
        raise InputError(f"data: no recording ({kinds}) below {folder} fits the pattern {data.pattern!r}")
    names = [_label(file.name, data.label) for file in files]
    classes = tuple(sorted(set(names) - {""}))
    try:
        replace(config, classes=classes)
    except CheckpointError as error:
        raise InputError(f"data.label: its groups make names of classes; {error}") from None
    train, held_out, left_out, rates = [], [], 0, set()
    for file, name in zip(files, names, strict=True):
        samples, rate = read_channels(file)
        if not len(samples):
            raise InputError(f"data: {file} has no samples; take it away")
        rates.add(rate)
        audio = resample(mixed(samples), rate, config.sample_rate)
        try:
            clip = _clip(file.name, audio, classes.index(name) if name else -1, data, config)
        except InputError as error:
            raise InputError(f"data: {file}: {error}") from None
        if clip is None:
            left_out += 1
        elif data.held_out and re.search(data.held_out, file.name):
            held_out.append(clip)
        else:
            train.append(clip)
    if config.prior and not config.energy_min and train:
        least = min(float(frame_energy(clip.mel.T.astype(np.float64)).min()) for clip in train if clip.mel is not None)
        raise InputError(
            f"network.energy_min: a network with a prior needs the smallest energy of its recordings; say {least:.4g}, "
            "which is that of these"
        )
    if not train:
        what = f"at least {data.frames} frames" if config.n_mels else f"at most {data.samples} samples"
        raise InputError(f"data: none of the {len(files)} files in {folder} is left to train on ({what}, not held out)")
    return Corpus(train, held_out, classes, left_out, tuple(sorted(rates)))


def draw(corpus: Corpus, data: Data, config: Config, random: np.random.Generator) -> Example:
    """An example, drawn from the recordings that are trained on."""
    clip = corpus.train[int(random.integers(len(corpus.train)))]
    if clip.mel is None:
        return Example(placed(clip, data, int(random.integers(data.lead + 1))), None, clip.label)
    first = int(random.integers(clip.mel.shape[1] - data.frames + 1))
    mel = clip.mel[:, first : first + data.frames]
    audio = clip.audio[first * config.hop : (first + data.frames) * config.hop]
    low, high = data.gain_db
    if (low, high) == (0.0, 0.0):
        return Example(audio, mel, clip.label)
    gain = 10.0 ** (random.uniform(low, high) / 20.0)
    gain = min(gain, 1.0 / max(float(np.abs(clip.audio).max()), 1e-6))
    # The mel is that of the louder or softer audio: analysed again, with a frame's surroundings on both sides.
    begin, end = max(first - 4, 0), first + data.frames + 4
    loud = (clip.audio[begin * config.hop : end * config.hop] * np.float32(gain)).astype(np.float32)
    again = mel_of(loud, config.sample_rate, **settings(config))
    return Example(
        (audio * np.float32(gain)).astype(np.float32), again[:, first - begin :][:, : data.frames], clip.label
    )


def placed(clip: Clip, data: Data, lead: int) -> FloatArray:
    """[samples] a whole clip after at most so many zeros, and zeros behind it."""
    lead = min(lead, data.samples - len(clip.audio))
    audio = np.zeros(data.samples, np.float32)
    audio[lead : lead + len(clip.audio)] = clip.audio
    return audio


def generator(seed: int, step: int, number: int) -> np.random.Generator:
    """The random numbers of one example of one step."""
    return np.random.Generator(np.random.Philox(key=[seed, step << 24 | number]))


def _label(name: str, pattern: str) -> str:
    if not pattern:
        return ""
    match = re.search(pattern, name)
    if match is None:
        raise InputError(f"data.label: expected it in every file's name, got {name!r} without {pattern!r}")
    found = " ".join(group for group in match.groups() if group)
    if not found:
        raise InputError(f"data.label: expected its groups to match a part of every name, got nothing of {name!r}")
    return found


def _clip(name: str, audio: FloatArray, label: int, data: Data, config: Config) -> Clip | None:
    if config.n_mels:
        frames = len(audio) // config.hop
        if frames < data.frames:
            return None
        mel = mel_of(audio, config.sample_rate, **settings(config))
        return Clip(name, audio, np.asarray(mel, np.float32)[:, :frames], label)
    if len(audio) > data.samples:
        return None
    if data.peak:
        audio = audio * np.float32(data.peak / max(float(np.abs(audio).max()), 1e-6))
    ramp = np.linspace(0.0, 1.0, min(int(FADE * config.sample_rate), len(audio) // 2), dtype=np.float32)
    audio = audio.copy()
    audio[: len(ramp)] *= ramp
    audio[len(audio) - len(ramp) :] *= ramp[::-1]
    return Clip(name, audio, None, label)
