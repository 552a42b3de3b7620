"""Recordings as training examples. The content of example i of step s depends on the seed, s and i alone.

An interrupted training therefore resumes with the same examples, and any number of processes can share a batch.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.audio.folders import SUFFIXES, find_recordings, looks_complete
from engine.audio.griffin_lim import griffin_lim
from engine.audio.spectrogram import mel as compute_mel
from engine.audio.spectrogram import mel_settings
from engine.audio.wav import read_channels, resample, to_mono
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.prior import frame_energy
from engine.errors import CheckpointError, InputError
from engine.training.blur import blurred
from engine.training.broken import BrokenRecordings
from engine.training.packed import read_packed
from engine.training.settings import Data

FADE = 0.005  # seconds at both ends of a padded clip; without it the network would learn the step to the zeros around
SURROUNDINGS = 4  # frames on both sides of a crop, so that its mel does not depend on the edges
LEAST_BLUR, MOST_BLUR = 0.1, 1.5  # strengths of `blurred`, about that of the judges' mels
SILENCE = 1e-6  # the smallest peak that a gain divides by


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording.

    Attributes:
        name: of its file.
        audio: [L] float32.
        mel: [M,T] of the network's kind, or None; `audio` has at least T * hop samples.
        label: the number of its class, -1 without classes.
    """

    name: str
    audio: FloatArray
    mel: FloatArray | None
    label: int


@dataclass(frozen=True, eq=False)
class Example:
    """One training example: audio [L] and its mel [M,T] or its label; perhaps a draft of the audio [L] from the mel."""

    audio: FloatArray
    mel: FloatArray | None
    label: int
    draft: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Corpus:
    """The recordings of a training.

    Attributes:
        train: the recordings to train on.
        held_out: the recordings to validate with.
        classes: the names of the labels, in the order of their numbers.
        left_out: the number of files that are longer than a clip may be, or shorter than a crop.
        rates: the sample rates of the files in Hz, ascending.
        notes: what of the folder was passed by, a line each.
    """

    train: Sequence[Clip]
    held_out: Sequence[Clip]
    classes: tuple[str, ...]
    left_out: int
    rates: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The number of recordings to train on, and a hash of their names, lengths and labels."""
        clips = "".join(f"{clip.name}\0{len(clip.audio)}\0{clip.label}\0" for clip in self.train)
        return f"{len(self.train)} {hashlib.sha256(clips.encode('utf-8', 'surrogateescape')).hexdigest()}"


def read_corpus(folder: str | Path, data: Data, config: Config, skip_broken: bool = False) -> Corpus:
    """Read all recordings of a folder, resampled to the network's rate and mixed to one channel.

    All headers are read before the first recording, so that broken files are found early.

    Args:
        folder: of the recordings; or a file of them (`engine.training.packed`), to which the pattern does not apply.
        data: selects files, held-out files and labels.
        config: the network.
        skip_broken: pass by what cannot be read.

    Raises:
        InputError: no recording matches the pattern, recordings cannot be read (all of them are named), a recording has
            no label, a label cannot be the name of a class, or no recording is left to train on.
    """
    if Path(folder).is_file():
        return _packed_corpus(Path(folder), data, config)
    if not Path(folder).is_dir():
        raise InputError(f"data: there is no directory {str(folder)!r}")
    recordings = find_recordings(Path(folder), data.pattern)
    broken = BrokenRecordings(Path(folder), recordings, skip_broken)
    files = [file for file, _ in broken.results(recordings.files, _check_header)]
    if not files:
        if broken.files:
            raise InputError(f"data: {broken}")
        kinds = ", ".join(sorted(SUFFIXES))
        raise InputError(f"data: no recording ({kinds}) below {folder} matches the pattern {data.pattern!r}")
    classes, rates = _classes([file.name for file in files], data, config), set()

    def read(file: Path) -> Clip | None:
        audio, rate = _read(file, config.sample_rate)
        rates.add(rate)
        return _clip(file.name, audio, _class_number(file.name, classes, data), data, config)

    results = [(file.name, clip) for file, clip in broken.results(files, read)]
    corpus = _sorted_corpus(results, classes, data, config, f"{len(files)} files in {folder}")
    passed_by = [f"passed by: {recordings.passed_by}"] if recordings.passed_by else []
    return replace(corpus, rates=tuple(sorted(rates)), notes=(*passed_by, *broken.notes))


def _packed_corpus(file: Path, data: Data, config: Config) -> Corpus:
    packed = read_packed(file)
    classes = _classes([name for name, _ in packed.recordings], data, config)
    results = []
    for name, samples in packed.recordings:
        audio = resample(samples.astype(np.float32), packed.rate, config.sample_rate)
        results.append((name, _clip(name, audio, _class_number(name, classes, data), data, config)))
    corpus = _sorted_corpus(results, classes, data, config, f"{len(results)} recordings in {file}")
    return replace(corpus, rates=(packed.rate,))


def _classes(names: Sequence[str], data: Data, config: Config) -> tuple[str, ...]:
    """Return the classes that the names of the files give, sorted."""
    classes = tuple(sorted({_label(name, data.label) for name in names} - {""}))
    try:
        replace(config, classes=classes)
    except CheckpointError as error:
        raise InputError(f"data.label: its groups give the names of classes; {error}") from None
    return classes


def _class_number(name: str, classes: Sequence[str], data: Data) -> int:
    label = _label(name, data.label)
    return classes.index(label) if label else -1


def _sorted_corpus(
    results: Sequence[tuple[str, Clip | None]], classes: tuple[str, ...], data: Data, config: Config, source: str
) -> Corpus:
    """Return the recordings to train on and those that are held out."""
    train: list[Clip] = []
    held_out: list[Clip] = []
    for name, clip in results:
        if clip is not None:
            (held_out if data.held_out and re.search(data.held_out, name) else train).append(clip)
    if config.prior and not config.energy_min and train:
        least = min(float(frame_energy(clip.mel.T.astype(np.float64)).min()) for clip in train if clip.mel is not None)
        raise InputError(
            "network.energy_min: expected the smallest energy of the recordings for a network with a prior, got 0; "
            f"set it to {least:.4g}, the smallest of these"
        )
    if not train:
        limit = f"at least {data.frames} frames" if config.n_mels else f"at most {data.samples} samples"
        raise InputError(f"data: none of the {source} can be trained on ({limit}, and not held out)")
    return Corpus(train, held_out, classes, len(results) - len(train) - len(held_out))


def draw(corpus: Corpus, data: Data, config: Config, random: np.random.Generator, with_draft: bool = False) -> Example:
    """Draw an example from the recordings to train on.

    Args:
        corpus: the recordings.
        data: the size of a crop or clip, the range of gains, and the share of blurred mels.
        config: the network.
        random: decides the recording, the position, the gain, the blur, and the first phase of the draft.
        with_draft: whether to compute a draft by Griffin-Lim from the mel of a crop.
    """
    clip = corpus.train[int(random.integers(len(corpus.train)))]
    if clip.mel is None:
        return Example(padded(clip, data, int(random.integers(data.lead + 1))), None, clip.label)
    first = int(random.integers(clip.mel.shape[1] - data.frames + 1))
    # The crop with its surroundings, for whatever depends on the frames beside it.
    begin, end = max(first - SURROUNDINGS, 0), min(first + data.frames + SURROUNDINGS, clip.mel.shape[1])
    audio, mel = clip.audio[begin * config.hop : end * config.hop], clip.mel[:, begin:end]
    low, high = data.gain_db
    if (low, high) != (0.0, 0.0):  # the example needs the mel of the louder or softer audio
        gain = 10.0 ** (random.uniform(low, high) / 20.0)
        gain = min(gain, 1.0 / max(float(np.abs(clip.audio).max()), SILENCE))
        audio = (audio * np.float32(gain)).astype(np.float32)
        mel = compute_mel(audio, config.sample_rate, **mel_settings(config))[:, : end - begin]
    if data.blur and random.random() < data.blur:
        seed, strength = int(random.integers(1 << 62)), random.uniform(LEAST_BLUR, MOST_BLUR)
        mel = blurred(mel, seed, config.mel_kind, strength)
    crop = slice((first - begin) * config.hop, (first - begin + data.frames) * config.hop)
    draft = _draft(mel, config, int(random.integers(1 << 62)))[crop] if with_draft else None
    return Example(audio[crop], mel[:, first - begin :][:, : data.frames], clip.label, draft)


def _draft(mel: FloatArray, config: Config, seed: int) -> FloatArray:
    """Return the audio of a mel by Griffin-Lim, as `Voice.vocode` begins with it (`engine.voice.draft`)."""
    settings = mel_settings(config)
    return griffin_lim(mel, config.sample_rate, kind=settings["kind"], fmax=settings["fmax"], seed=seed)


def padded(clip: Clip, data: Data, lead: int) -> FloatArray:
    """Return a whole clip with zeros before and after it, [samples].

    Args:
        clip: at most `data.samples` long.
        data: holds the length of the result.
        lead: the number of zeros before the clip; fewer if the clip would not fit.
    """
    lead = min(lead, data.samples - len(clip.audio))
    audio = np.zeros(data.samples, np.float32)
    audio[lead : lead + len(clip.audio)] = clip.audio
    return audio


def generator(seed: int, step: int, number: int) -> np.random.Generator:
    """Return the source of random numbers of one example of one step."""
    return np.random.Generator(np.random.Philox(key=[seed, step << 24 | number]))


def _check_header(file: Path) -> None:
    """Check that a recording has audio; its content is read only if the header does not tell."""
    if not file.stat().st_size:
        raise InputError("it is empty")
    if not looks_complete(file):
        _read_channels(file)


def _read(file: Path, sample_rate: int) -> tuple[FloatArray, int]:
    """Return the audio of a recording at a sample rate, and its own rate."""
    samples, rate = _read_channels(file)
    if not np.isfinite(samples).all():
        raise InputError("expected finite values, got NaN or infinity")
    return resample(to_mono(samples), rate, sample_rate), rate


def _read_channels(file: Path) -> tuple[FloatArray, int]:
    """Read a complete recording; one that is cut short ends in the middle of a sound, so training refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            samples, rate = read_channels(file)
        except UserWarning as warning:
            raise InputError(str(warning)) from None
    if not len(samples):
        raise InputError("it has no samples")
    return samples, rate


def _label(name: str, pattern: str) -> str:
    if not pattern:
        return ""
    match = re.search(pattern, name)
    if match is None:
        raise InputError(f"data.label: expected a match in every file's name, got {name!r} without {pattern!r}")
    label = " ".join(group for group in match.groups() if group)
    if not label:
        raise InputError(f"data.label: expected its groups to match a part of every name, got nothing of {name!r}")
    return label


def _clip(name: str, audio: FloatArray, label: int, data: Data, config: Config) -> Clip | None:
    if config.n_mels:
        frames = len(audio) // config.hop
        if frames < data.frames:
            return None
        mel = compute_mel(audio, config.sample_rate, **mel_settings(config))
        return Clip(name, audio, np.asarray(mel, np.float32)[:, :frames], label)
    if len(audio) > data.samples:
        return None
    if data.peak:
        audio = audio * np.float32(data.peak / max(float(np.abs(audio).max()), SILENCE))
    ramp = np.linspace(0.0, 1.0, min(int(FADE * config.sample_rate), len(audio) // 2), dtype=np.float32)
    audio = audio.copy()
    audio[: len(ramp)] *= ramp
    audio[len(audio) - len(ramp) :] *= ramp[::-1]
    return Clip(name, audio, None, label)
