"""The work on items: vocode mels and recordings, or analyze recordings. It knows nothing of the process it runs in."""

from __future__ import annotations

import base64
import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from engine.audio.mel_files import is_wav, read_mel
from engine.audio.spectrogram import mel as mel_of
from engine.audio.spectrogram import mel_settings
from engine.audio.wav import is_encoded, read_channels, resample, to_mono
from engine.bulk.formats import MEL_FORMAT, write_result
from engine.bulk.identity import Network, arithmetic_of, read_network
from engine.bulk.job import ends_the_job
from engine.bulk.paths import without_argument
from engine.bulk.recorded import recorded_warnings
from engine.checkpoint.bundled import source_of
from engine.checks.arrays import FloatArray
from engine.checks.output_files import naming
from engine.config import Config
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.voice import Voice
from engine.voice.api import load

_LOG = logging.getLogger(__name__)
VOCODE, MEL = "vocode", "mel"


@dataclass(frozen=True)
class Settings:
    """Everything that a worker has to know, as values that JSON can represent.

    Attributes:
        task: "vocode" or "mel".
        folder: of the results, absolute.
        format: of the results.
        model: an absolute path, the name of a bundled network, or None for the bundled voice.
        content: the checkpoint itself in base64, in place of `model`.
        sha256: of the file `model`, which a worker has to find; "" for any.
        mel_kind: see `engine.load`; for the task "mel" the kind to compute.
        weights: see `engine.load`.
        device: see `engine.load`; each worker has its own.
        precision: see `engine.load`.
        isa: see `engine.load`.
        threads: of one worker; None for all of its machine.
        steps: see `Voice.vocode`.
        draft: see `Voice.vocode`.
        match_mel: see `Voice.vocode`.
        energy_min: see `Voice.vocode`.
        arithmetic: the class of instruction sets with the same bytes, which a worker has to have; "" for any.
    """

    task: str
    folder: str
    format: str = MEL_FORMAT
    model: str | None = None
    content: str | None = None
    sha256: str = ""
    mel_kind: str | None = None
    weights: str = "raw"
    device: str = "auto"
    precision: str = "auto"
    isa: str | None = None
    threads: int | None = None
    steps: int | str | None = None
    draft: str | None = None
    match_mel: float | None = None
    energy_min: float | None = None
    arithmetic: str = ""

    def source(self) -> str | bytes | None:
        """Return the model as `engine.load` takes it."""
        return base64.b64decode(self.content) if self.content is not None else self.model

    def network(self) -> Network:
        """Read the network, without packing it for this machine."""
        kind = self.mel_kind if self.task == VOCODE else None
        return read_network(self.source(), kind, self.weights)


@dataclass(frozen=True)
class Work:
    """One item of the plan, as values that JSON can represent.

    Attributes:
        id: of the item.
        path: of the input.
        target: the result's name in the folder.
        seed: of the noise.
        frames: of the mel, 0 if unknown.
        problem: why the input cannot be reached; "" if it may be.
    """

    id: str
    path: str
    target: str
    seed: int = 0
    frames: int = 0
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes:
        id: of the item.
        seconds: of audio that was written, or analyzed.
        reason: why there is no result; "" if there is one.
        warnings: about the item.
        notes: conversions of the recording.
    """

    id: str
    seconds: float = 0.0
    reason: str = ""
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {**asdict(self), "warnings": list(self.warnings), "notes": list(self.notes)}


class Task(Protocol):
    """One kind of work, with whatever it has loaded.

    Attributes:
        rate: of the audio in Hz.
        hop: samples per frame of a mel.
    """

    rate: int
    hop: int

    def compute(self, works: Sequence[Work], notes: Sequence[list[str]]) -> list[FloatArray]:
        """Return one result per item.

        Args:
            works: a group of items.
            notes: receives the conversions of every item.
        """
        ...


class Worker:
    """A loaded task, which processes groups.

    Args:
        settings: of the job.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._folders: set[Path] = set()
        self._task: Task = _Vocoding(settings) if settings.task == VOCODE else _Analysis(settings)

    def run(self, group: Sequence[Work]) -> Iterator[Outcome]:
        """Process a group of items and yield what became of each.

        A group that fails is processed again item by item, because the bytes of a result do not depend on its group.

        Args:
            group: items whose mels fit into memory together.

        Raises:
            OSError: no further result can be written, for example because the disk is full.
        """
        reachable = [work for work in group if not work.problem]
        yield from (Outcome(work.id, reason=work.problem) for work in group if work.problem)
        if len(reachable) > 1:
            results, outcomes = self._computed(reachable)
            if results:
                yield from (self._written(*parts) for parts in zip(reachable, results, outcomes, strict=True))
                return
        for work in reachable:
            results, (outcome,) = self._computed([work])
            yield self._written(work, results[0], outcome) if results else outcome

    def _computed(self, works: Sequence[Work]) -> tuple[list[FloatArray], list[Outcome]]:
        """Return the results of a group, none after an error, and the outcome of every item."""
        notes: list[list[str]] = [[] for _ in works]
        reason = ""
        with recorded_warnings() as caught:
            try:
                results = self._task.compute(works, notes)
            except Exception as error:  # one input must not end the job, whatever is wrong with it
                results, reason = [], _reason(error)
                _LOG.debug("%s: %s", works[0].id, reason, exc_info=error)
        texts = tuple(dict.fromkeys(caught))
        rows = zip(works, notes, strict=True)
        return results, [Outcome(work.id, reason=reason, warnings=texts, notes=tuple(note)) for work, note in rows]

    def _written(self, work: Work, result: FloatArray, outcome: Outcome) -> Outcome:
        target = self._folder / work.target
        reason, seconds = "", 0.0
        try:
            with naming(target):
                self._make_folder(target.parent)
                write_result(target, self._settings.format, result, self._task.rate)
            seconds = self._seconds(result)
        except Exception as error:
            if not self._folder.is_dir():
                gone = "the folder of the results is gone"
                raise FileNotFoundError(errno.ENOENT, gone, str(self._folder)) from None
            if ends_the_job(error):
                raise
            reason = f"{target}: cannot write it: {_reason(error)}"
        return Outcome(work.id, seconds, reason, outcome.warnings, outcome.notes)

    def _make_folder(self, folder: Path) -> None:
        """Create a folder below that of the results, which itself is not created again when it disappears."""
        if folder == self._folder or folder in self._folders:
            return
        self._make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{str(folder)!r} is not a directory")
        self._folders.add(folder)

    def _seconds(self, result: FloatArray) -> float:
        samples = len(result) if result.ndim == 1 else result.shape[1] * self._task.hop
        return float(samples / self._task.rate)


class _Vocoding:
    """Mels and recordings to audio."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._voice = _voice(settings)
        self.rate, self.hop = self._voice.sample_rate, self._voice.hop

    def compute(self, works: Sequence[Work], notes: Sequence[list[str]]) -> list[FloatArray]:
        mels = [read_as_mel(Path(work.path), self._voice.config, note) for work, note in zip(works, notes, strict=True)]
        settings = self._settings
        names = ("steps", "draft", "match_mel", "energy_min")
        options: dict[str, Any] = {name: getattr(settings, name) for name in names}
        if len(works) == 1:
            return [self._voice.vocode(mels[0], seed=works[0].seed, **options)]
        return self._voice.vocode(mels, seed=[work.seed for work in works], **options)


class _Analysis:
    """Recordings to mels."""

    def __init__(self, settings: Settings) -> None:
        config = settings.network().config
        self._config = with_kind(config, settings.mel_kind)
        self.rate, self.hop = config.sample_rate, config.hop

    def compute(self, works: Sequence[Work], notes: Sequence[list[str]]) -> list[FloatArray]:
        return [_mel_of_recording(Path(work.path), self._config, note) for work, note in zip(works, notes, strict=True)]


def with_kind(config: Config, kind: str | None) -> Config:
    """Return a network's hyper-parameters with another kind of mel.

    Args:
        config: of the network.
        kind: None for its own.
    """
    return config if kind is None else replace(config, mel_kind=kind)


def read_as_mel(path: Path, config: Config, notes: list[str]) -> FloatArray:
    """Read a mel, or a recording whose mel is computed as the network expects it.

    Args:
        path: of either; the content decides.
        config: of the network.
        notes: receives what was converted.

    Raises:
        InputError: the file is unreadable or damaged.
        UnavailableError: an extra is missing.
    """
    if is_wav(path) or is_encoded(path):
        return _mel_of_recording(path, config, notes)
    return read_mel(path)


def _mel_of_recording(path: Path, config: Config, notes: list[str]) -> FloatArray:
    samples, rate = read_channels(str(path))
    if samples.shape[1] > 1:
        notes.append(f"mixed {samples.shape[1]} channels into one")
    audio = to_mono(samples)
    if rate != config.sample_rate:
        notes.append(f"resampled from {rate} to {config.sample_rate} Hz")
        audio = resample(audio, rate, config.sample_rate)
    return mel_of(audio, config.sample_rate, **mel_settings(config))


def _voice(settings: Settings) -> Voice:
    voice = load(
        settings.source(),
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        isa=settings.isa,
        mel_kind=settings.mel_kind,
        weights=settings.weights,
    )
    if settings.sha256 and source_of(settings.model).sha256() != settings.sha256:
        raise CheckpointError(
            f"{settings.model}: expected the checkpoint with which the job began, got another; restore it, or use "
            "--overwrite"
        )
    arithmetic = arithmetic_of(voice.choice)
    if settings.arithmetic not in ("", arithmetic):
        raise UnavailableError(
            f"isa: expected arithmetic of the class {settings.arithmetic!r}, as of the rest of the job, got "
            f"{arithmetic!r} on this machine, which gives other bytes; pass a precision and isa= that all machines have"
        )
    return voice


def _reason(error: Exception) -> str:
    text = without_argument(" ".join(str(error).split()))
    if isinstance(error, (InputError, UnavailableError)):
        return text
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' if text else ''}{text}"
    if isinstance(error, OSError):
        return error.strerror or text
    return f"{type(error).__name__}: {text}"
