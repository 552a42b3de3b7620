"""How utterances are laid into plans: cut where they are long, and put together with others of their length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import UnavailableError


@dataclass(frozen=True)
class Window:
    """A stretch of one item. What lies outside the kept part is there so that the kept part comes out exact.

    Attributes:
        item: its number.
        begin, end: the samples that are computed, whole frames and a multiple of 4.
        keep_begin, keep_end: those whose results count; over an item's windows they make up the item.
    """

    item: int
    begin: int
    end: int
    keep_begin: int
    keep_end: int

    @property
    def length(self) -> int:
        """Samples that are computed."""
        return self.end - self.begin


def cut(lengths: Sequence[int], halo: int, hop: int, limit: int, most: int) -> list[Window]:
    """Windows of at most about `limit` samples over every item; an item within the limit is one window.

    A sample depends on nothing further away than `halo`, so seams are exact. A limit below four halos counts as
    four: at most half of the work is then done twice.

    Raises:
        UnavailableError: that makes a window of more than `most` samples.
    """
    unit = math.lcm(hop, 4)
    halo = math.ceil(halo / unit) * unit
    limit = max(min(limit, most) // unit * unit, 4 * halo, unit)
    longest = min(limit, max(lengths, default=0))
    if longest > most:
        raise UnavailableError(
            f"device: a GPU takes up to {most} samples of this network at a time, and this audio needs {longest}, as a "
            f"sample depends on {halo} at either side; use device='cpu'"
        )
    windows = []
    for item, length in enumerate(lengths):
        if length <= limit:
            windows.append(Window(item, 0, length, 0, length))
            continue
        for begin in range(0, length, limit - 2 * halo):
            end = min(begin + limit - 2 * halo, length)
            windows.append(Window(item, max(0, begin - halo), min(length, end + halo), begin, end))
    return windows


def pack(windows: Sequence[Window], budget: int) -> list[list[Window]]:
    """Batches of windows of similar length: items times capacity stays within `budget` samples, or is one item."""
    batches: list[list[Window]] = []
    for window in sorted(windows, key=lambda one: (-one.length, one.item, one.begin)):
        last = batches[-1] if batches else []
        if last and padded_items(len(last) + 1) * padded_length(last[0].length, 1) <= budget:
            last.append(window)
        else:
            batches.append([window])
    return batches


def padded_length(length: int, grain: int) -> int:
    """The next capacity: 8 to 15 times a power of two of grains. Few shapes, at most an eighth of it empty."""
    units = math.ceil(length / grain)
    step = 1 << max(0, units.bit_length() - 4)
    return math.ceil(units / step) * step * grain


def padded_items(count: int) -> int:
    """The next batch size: 1 to 4, then multiples of 4."""
    return count if count <= 4 else math.ceil(count / 4) * 4
