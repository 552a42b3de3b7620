"""Windows and batches: long utterances are cut, and windows of similar length share a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import UnavailableError


@dataclass(frozen=True)
class Window:
    """A stretch of one item. The samples outside the kept part only serve to make the kept part exact.

    Attributes:
        item: the number of the item.
        begin: the first computed sample; a whole frame and a multiple of 4.
        end: the end of the computed samples, likewise.
        keep_begin: the first kept sample. The kept parts of an item's windows make up the item.
        keep_end: the end of the kept samples.
    """

    item: int
    begin: int
    end: int
    keep_begin: int
    keep_end: int

    @property
    def length(self) -> int:
        """The number of computed samples."""
        return self.end - self.begin


def cut(lengths: Sequence[int], halo: int, hop: int, limit: int, most: int) -> list[Window]:
    """Cut every item into windows of about `limit` samples; an item within the limit is one window.

    A sample depends on no other further away than `halo`, so seams are exact. The limit is at least four halos, so
    that at most half of the work is done twice.

    Args:
        lengths: samples per item.
        halo: samples that a sample depends on at either side.
        hop: samples per frame.
        limit: samples per window.
        most: samples per window that the GPU's kernels can address.

    Raises:
        UnavailableError: a window needs more than `most` samples.
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
    """Group windows of similar length into batches of at most `budget` samples, items times capacity, or one window."""
    batches: list[list[Window]] = []
    for window in sorted(windows, key=lambda window: (-window.length, window.item, window.begin)):
        last = batches[-1] if batches else []
        if last and padded_items(len(last) + 1) * padded_length(last[0].length, 1) <= budget:
            last.append(window)
        else:
            batches.append([window])
    return batches


def padded_length(length: int, grain: int) -> int:
    """Return the next capacity, 8 to 15 times a power of two of grains: few shapes, at most an eighth empty."""
    units = math.ceil(length / grain)
    step = 1 << max(0, units.bit_length() - 4)
    return math.ceil(units / step) * step * grain


def padded_items(count: int) -> int:
    """Return the next batch size: 1 to 4, then multiples of 4."""
    return count if count <= 4 else math.ceil(count / 4) * 4
