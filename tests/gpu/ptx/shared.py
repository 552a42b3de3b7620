"""Shared memory of a chunk of CTAs, with the time and the warp of every access.

Lockstep execution hides races. Therefore every access is stamped, and accesses of two warps that no barrier orders
raise an error.
"""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.clocks import Clocks
from tests.gpu.ptx.errors import (
    AsyncError,
    MisalignedError,
    OutOfBoundsError,
    SharedRaceError,
    UnwrittenError,
    WriteConflictError,
)
from tests.gpu.ptx.formats import UNSIGNED

# The system reserves the first 1024 bytes. Dynamic memory begins at a multiple of 1024.
BASE = 1024
# States of a byte; odd states may be read. BEING_READ means by a wgmma that has not been waited for.
UNWRITTEN, WRITTEN, IN_FLIGHT, BEING_READ = 0, 1, 2, 5


class SharedMemory:
    """Bytes of shared memory. Addresses in a CTA run from BASE to ``end``; positions index ``data`` over all CTAs."""

    def __init__(self, ctas: int, warps: int, end: int, granule: int, checks: bool) -> None:
        self.end, self.checks = end, checks
        self.stride = -(-end // 1024) * 1024
        self.shift = granule.bit_length() - 1
        self.clocks = Clocks(ctas, warps)
        size = ctas * self.stride
        self.data = np.zeros(size, np.uint8)
        self.views = {bits // 8: self.data.view(kind) for bits, kind in UNSIGNED.items()}
        if not checks:
            return
        self.state = np.zeros(size, np.uint8)
        self.states = {bits // 8: self.state.view(kind) for bits, kind in UNSIGNED.items()}
        granules = size >> self.shift
        self.write_time = np.zeros(granules, np.int32)
        self.writer = np.zeros(granules, np.uint8)
        self.dirty = np.zeros(granules, bool)  # written by ordinary stores, not yet fenced for wgmma
        self.read_time = np.zeros((granules, warps), np.int32)
        self.last_read = np.zeros(granules, np.int32)

    def positions(self, address: np.ndarray, size: int, ctas: np.ndarray) -> np.ndarray:
        """Return the positions of accesses of ``size`` bytes, after checks of alignment and bounds."""
        if address.size == 0:
            return address
        if (address & (size - 1)).any():
            raise MisalignedError(f"shared address {int(address[(address & (size - 1)) != 0][0]):#x}, {size} bytes")
        low, high = int(address.min()), int(address.max())
        if low < BASE or high > self.end - size:
            wrong = low if low < BASE else high
            raise OutOfBoundsError(f"shared address {wrong:#x}, {size} bytes, outside {BASE:#x}..{self.end:#x}")
        return address + ctas * self.stride

    def granules(self, positions: np.ndarray, size: int, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the granules of accesses, and the warp of each granule."""
        first, count = positions >> self.shift, max(1, size >> self.shift)
        if count == 1:
            return first, warp
        return (first[:, None] + np.arange(count)).ravel(), np.repeat(warp, count)

    def check_written(self, positions: np.ndarray, size: int, access: str) -> None:
        width = min(size, 8)
        states = self.states[width]
        ones = states.dtype.type(int.from_bytes(b"\1" * width, "little"))
        for offset in range(0, size, width):
            state = states.take((positions + offset) // width)
            if ((state & ones) != ones).any():
                indices = (positions[(state & ones) != ones][0] + offset) + np.arange(width)
                byte = int(indices[(self.state[indices] & 1) == 0][0])
                unwritten = self.state[byte] == UNWRITTEN
                reason = "before a write" if unwritten else "before an asynchronous copy has delivered it"
                raise UnwrittenError(f"{access} of shared memory {reason}, address {byte % self.stride:#x}")

    def read(self, positions: np.ndarray, size: int, warp: np.ndarray) -> None:
        """Check and stamp a read."""
        if not self.checks or positions.size == 0:
            return
        self.check_written(positions, size, "read")
        granules, warps = self.granules(positions, size, warp)
        self.check_after_writes(granules, warps, "read")
        self.stamp_read(granules, warps)

    def stamp_read(self, granules: np.ndarray, warps: np.ndarray) -> None:
        now = self.clocks.now[warps]
        self.read_time.reshape(-1)[granules * self.clocks.warps + warps % self.clocks.warps] = now
        self.last_read[granules] = self.clocks.latest

    def check_after_writes(self, granules: np.ndarray, warps: np.ndarray, access: str) -> None:
        times = self.write_time.take(granules)
        if int(times.max()) <= self.clocks.floor:
            return
        writers = self.writer.take(granules)
        wrong = ~self.clocks.ordered(warps, writers, times)
        if wrong.any():
            self.raise_race(granules, warps, writers, wrong, f"{access}s memory that warp {{}} wrote")

    def raise_race(self, granules, warps, others, wrong, message: str) -> None:
        i = np.flatnonzero(wrong)[0]
        cta, address = divmod(int(granules[i]) << self.shift, self.stride)
        raise SharedRaceError(
            f"warp {int(warps[i]) % self.clocks.warps} {message.format(int(others[i]))} without a barrier between, "
            f"shared address {address:#x} of CTA {cta} of its chunk"
        )

    def check_write(self, positions: np.ndarray, size: int, warp: np.ndarray) -> np.ndarray:
        """Check a write against earlier accesses. Return the granules, and the warp of each granule."""
        self.check_idle(positions, size)
        granules, warps = self.granules(positions, size, warp)
        self.check_after_writes(granules, warps, "write")
        if int(self.last_read.take(granules).max()) > self.clocks.floor:
            times, known = self.read_time[granules], self.clocks.known[warps]
            wrong = times > known
            if wrong.any():
                self.raise_race(granules, warps, wrong.argmax(1), wrong.any(1), "writes memory that warp {} read")
        return granules, warps

    def check_idle(self, positions: np.ndarray, size: int) -> None:
        """Check that nothing asynchronous accesses memory that is about to be written."""
        for offset in range(0, size, min(size, 8)):
            state = self.states[min(size, 8)].take((positions + offset) // min(size, 8)).view(np.uint8)
            if int(state.max()) > WRITTEN:
                busy = "cp.async writes it" if (state == IN_FLIGHT).any() else "a wgmma reads it"
                raise AsyncError(f"write to shared memory while {busy}")

    def write(self, positions: np.ndarray, values: list[np.ndarray], warp: np.ndarray) -> None:
        """Check and perform a store of several registers of every lane, one register after the other."""
        width = values[0].dtype.itemsize
        size = width * len(values)
        if positions.size == 0:
            return
        if self.checks:
            granules, warps = self.check_write(positions, size, warp)
            self.stamp_write(granules, warps)
            self.dirty[granules] = True
            self.mark(positions, size, WRITTEN)
        self.put(positions, values)

    def put(self, positions: np.ndarray, values: list[np.ndarray]) -> None:
        width = values[0].dtype.itemsize
        data, cells = self.views[width], positions // width
        for i, value in enumerate(values):
            data[cells + i] = value
            if self.checks and (data.take(cells + i) != value).any():
                raise WriteConflictError("two lanes store different values to one shared address")

    def stamp_write(self, granules: np.ndarray, warps: np.ndarray) -> None:
        self.write_time[granules] = self.clocks.now[warps]
        # Several warps may store the same value to one address in the same instruction, as Triton does in replicated
        # layouts. Different values raise an error in `put`.
        self.writer[granules] = warps % self.clocks.warps

    def mark(self, positions: np.ndarray, size: int, state: int) -> None:
        width = min(size, 8)
        pattern = int.from_bytes(bytes([state]) * width, "little")
        for offset in range(0, size, width):
            self.states[width][(positions + offset) // width] = pattern

    def fence(self, warps: np.ndarray) -> None:
        """Execute fence.proxy.async by these warps: the writes ordered before them become visible to wgmma."""
        if not self.checks:
            return
        ctas = warps // self.clocks.warps
        for cta in np.unique(ctas):
            part = slice(int(cta) * self.stride >> self.shift, (int(cta) + 1) * self.stride >> self.shift)
            dirty = np.flatnonzero(self.dirty[part])
            known = self.clocks.known[warps[ctas == cta]].max(0)
            clean = self.write_time[part][dirty] <= known[self.writer[part][dirty]]
            self.dirty[part][dirty[clean]] = False
