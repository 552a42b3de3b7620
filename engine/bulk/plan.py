"""The plan of a job: lengths from headers alone, groups of items, and what is still to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.audio.lengths import count_samples
from engine.audio.mel_files import count_frames, is_wav
from engine.audio.wav import is_encoded
from engine.bulk.items import Item, seed_of
from engine.bulk.paths import without_argument
from engine.bulk.tasks import Work
from engine.checks.installation import how_to_install
from engine.config import Config
from engine.errors import InputError, UnavailableError

# Frames of a group whose mels are one batch on a GPU: 48 s of speech, which fill several plans of any GPU.
GPU_FRAMES = 4096
# Frames of a group that a cluster schedules as one: 12 s of speech, seconds of work on a CPU. Scheduling takes 16 ms.
CLUSTER_FRAMES = 1024


@dataclass(frozen=True)
class Length:
    """The length of an input, from its header.

    Attributes:
        frames: of the mel; 0 if the header cannot be read, which is an error when the input is read.
        rate: of a recording in Hz; 0 for a mel.
        problem: why the header cannot be read.
    """

    frames: int
    rate: int = 0
    problem: str = ""


def length_of(path: Path, config: Config) -> Length:
    """Return the length of an input from its header alone.

    Args:
        path: a mel or a recording.
        config: of the network.

    Raises:
        UnavailableError: the format of a recording needs an extra that is missing.
    """
    try:
        if is_wav(path) or is_encoded(path):
            samples, rate = count_samples(path)
            return Length(-(-samples * config.sample_rate // (max(rate, 1) * config.hop)), rate)
        return Length(count_frames(path))
    except InputError as error:
        return Length(0, problem=without_argument(str(error)))


def plan_works(items: Sequence[tuple[Item, str]], config: Config, seed: int) -> list[Work]:
    """Return the work on items, longest first.

    Args:
        items: the items and the names of their results.
        config: of the network.
        seed: of the job.

    Raises:
        UnavailableError: a recording has another format or sample rate, and the extra for it is missing.
    """
    works = []
    for item, target in items:
        length = Length(0) if item.problem else length_of(item.path, config)
        if length.rate not in (0, config.sample_rate):
            _check_resampling(item.path, length.rate, config.sample_rate)
        path = str(item.path.absolute())
        works.append(Work(item.id, path, target, seed_of(item, seed), length.frames, item.problem))
    return sorted(works, key=lambda work: (-work.frames, work.id))


def grouped(works: Sequence[Work], budget: int) -> list[list[Work]]:
    """Divide work into groups, in its order.

    Args:
        works: longest first, so that the items of a group have similar lengths, and workers end at the same time.
        budget: the most frames of a group of several items; 0 for groups of one.
    """
    groups: list[list[Work]] = []
    frames = 0
    for work in works:
        if not groups or frames + work.frames > budget:
            groups.append([])
            frames = 0
        groups[-1].append(work)
        frames += max(work.frames, 1)
    return groups


def _check_resampling(path: Path, rate: int, target: int) -> None:
    try:
        import soxr  # noqa: F401
    except ImportError:
        raise UnavailableError(
            f"{path}: expected {target} Hz, the rate of this network, got {rate} Hz; {how_to_install('audio')}, or "
            f"resample it first, for example with 'ffmpeg -i IN.wav -ar {target} OUT.wav'"
        ) from None
