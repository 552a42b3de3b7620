"""The unit of work of the sampling loops: one utterance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from engine.checks.arguments import check_noise, check_seed
from engine.checks.arrays import FloatArray, device_of
from engine.diffusion.noise import normal
from engine.errors import Cancelled, InputError

Progress = Callable[[float], None]  # called with the fraction done, 0 to 1
Prior = tuple[FloatArray | None, int]  # the standard deviation of the noise, and the samples per value


class Event(Protocol):
    """A cancellation flag, for example a `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the audio is no longer needed."""


def check_cancel(cancel: Any) -> Event | None:
    """Return the event of a call, or None.

    Raises:
        InputError: it is no event.
    """
    if cancel is None:
        return None
    if not callable(getattr(cancel, "is_set", None)):
        raise InputError(f"cancel: expected a threading.Event, got {type(cancel).__name__}")
    return cancel  # type: ignore[no-any-return]


def check_callbacks(cancel: Any, progress: Any) -> tuple[Event | None, Progress | None]:
    """Return the event of a call, and the function that hears of its progress.

    Raises:
        InputError: the event is no event, or the function cannot be called.
    """
    if progress is not None and not callable(progress):
        raise InputError(f"progress: expected a function of one float, got {type(progress).__name__}")
    return check_cancel(cancel), progress


def in_parts(progress: Progress | None, *works: float) -> list[Progress | None]:
    """Return a function for each of several parts that follow each other: it hears of the part, and reports the whole.

    Args:
        progress: hears of the whole.
        works: the work of every part, in one unit.
    """
    return [
        None if progress is None else partial(_report, progress, sum(works[:i]), work, sum(works))
        for i, work in enumerate(works)
    ]


def _report(progress: Progress, before: float, work: float, total: float, fraction: float) -> None:
    progress((before + work * fraction) / total)


def stop_if_set(cancel: Event | None) -> None:
    """Raise Cancelled if the event of a call is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("the audio was cancelled")


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance: its length, its condition, its starting point and the noise that its steps add.

    Attributes:
        length: L, samples.
        mel: [M, T] float32, or None.
        seed: seed of x_T and of the noise.
        x: [L] float32, standard normal; replaces the x_T of the seed.
        noise: z [S-1, L] in the order of execution; replaces the noise of the seed.
        scale: the standard deviation of x_T and of the noise, one value for every `repeat` samples; None for 1.
        repeat: samples per value of `scale`.
        label: the number of the class, for a network with classes, or of "no label" (`engine.kernels.label`).
    """

    length: int
    mel: FloatArray | None = None
    seed: int = 0
    x: FloatArray | None = None
    noise: FloatArray | None = None
    scale: FloatArray | None = None
    repeat: int = 1
    label: int | None = None


def cooled(item: Item, temperature: float) -> Item:
    """Return an item whose x_T is so many times standard normal."""
    x: Any = normal(item.seed, 0, 0, item.length) if item.x is None else item.x
    return replace(item, x=x * np.float32(temperature) if device_of(x) is None else x * temperature)


def make_items(
    lengths: Sequence[int],
    steps: int,
    seed: Any,
    noise: Any,
    *,
    mels: Sequence[Any] | None = None,
    priors: Sequence[Prior] | None = None,
    labels: Sequence[int | None] | None = None,
) -> list[Item]:
    """Return one item per length, with the caller's noise or, where that is None, the caller's seeds.

    Args:
        lengths: samples per item, B of them.
        steps: S, the length of the schedule.
        seed: one integer or one per item, see `check_seed`.
        noise: (x_T, z) or None, see `check_noise`.
        mels: one per item, or None.
        priors: one per item, or None for standard deviation 1.
        labels: one per item, or None.

    Raises:
        InputError: the seed or the noise has an impossible value.
    """
    count = len(lengths)
    seeds = check_seed(seed, count) if noise is None else [0] * count
    starts = [(None, None)] * count if noise is None else check_noise(noise, lengths, steps)
    rows = zip(
        lengths,
        seeds,
        starts,
        mels if mels is not None else [None] * count,
        priors if priors is not None else [(None, 1)] * count,
        labels if labels is not None else [None] * count,
        strict=True,
    )
    return [
        Item(length, mel, seed, x, z, scale, repeat, label)
        for length, seed, (x, z), mel, (scale, repeat), label in rows
    ]
