"""Execution of a chunk of a launch's CTAs: one lane per thread, all lanes in lockstep.

Of diverged lanes those with the lowest program counter run first, so that they reconverge where their paths meet.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.gpu.ptx.copies import AsyncCopies
from tests.gpu.ptx.decode import UNDEFINED, decode
from tests.gpu.ptx.errors import BarrierError, DivergedError, PTXError, StepLimitError
from tests.gpu.ptx.formats import UNSIGNED
from tests.gpu.ptx.shared import SharedMemory
from tests.gpu.ptx.wgmma import WgmmaState


class Chunk:
    """Registers, memories and program counters of the CTAs that execute together."""

    def __init__(self, launch: Any, ctas: np.ndarray) -> None:
        program, threads, grid = launch.program, launch.threads, launch.grid
        self.launch, self.program, self.machine = launch, program, launch.machine
        self.checks, self.counters = launch.checks, launch.counters
        self.lanes, self.warps = len(ctas) * threads, threads // 32
        self.registers: list[Any] = [UNDEFINED] * program.registers
        thread = np.tile(np.arange(threads, dtype=np.uint32), len(ctas))
        number = np.repeat(ctas.astype(np.uint32), threads)
        self.cta_number = np.repeat(ctas, threads)  # in the grid
        self.cta = np.repeat(np.arange(len(ctas)), threads)  # in this chunk
        self.warp = np.arange(self.lanes) // 32  # in this chunk
        self.lane = np.arange(self.lanes, dtype=np.int64) % 32
        self.special = {
            "%tid.x": thread,
            "%ctaid.x": number % grid[0],
            "%ctaid.y": number // grid[0] % grid[1],
            "%ctaid.z": number // (grid[0] * grid[1]),
            "%laneid": thread % 32,
            "%warpid": thread // 32,
        }
        same = {"%tid.y": 0, "%tid.z": 0, "%ntid.x": threads, "%ntid.y": 1, "%ntid.z": 1, "%nwarpid": self.warps}
        same |= {"%nctaid.x": grid[0], "%nctaid.y": grid[1], "%nctaid.z": grid[2], "WARP_SZ": 32}
        same |= {"%dynamic_smem_size": launch.shared_bytes, "%total_smem_size": launch.layout.end}
        self.special |= {name: np.full(self.lanes, value, np.uint32) for name, value in same.items()}
        self.cluster = math.prod(launch.cluster)
        self.special["%cluster_ctarank"] = (self.cta % self.cluster).astype(np.uint32)
        self.special["%cluster_nctarank"] = np.full(self.lanes, self.cluster, np.uint32)
        self.symbols = launch.layout.symbols
        self.shared = SharedMemory(len(ctas), self.warps, launch.layout.end, launch.layout.granule, self.checks)
        self.local = np.full(self.lanes * launch.layout.local, 0xFF, np.uint8)
        self.local_views = {bits // 8: self.local.view(kind) for bits, kind in UNSIGNED.items()}
        self.copies = AsyncCopies(self)
        self.carry = np.zeros(1, bool)  # the condition code of add.cc
        self.fragments: dict[Any, Any] = {}  # matrix.py's cache of operands in matrix form
        self.wgmma = WgmmaState(self.lanes)
        self.alive = np.ones(self.lanes, bool)
        self.waiting = np.zeros(self.lanes, bool)
        self.arrived: dict[tuple[int, int], Any] = {}  # barriers.py's incomplete barriers: (CTA, barrier)
        self.mbarriers: dict[tuple[int, int], Any] = {}  # mbarriers.py: (CTA, address)
        self.cluster_barriers: dict[int, Any] = {}  # clusters.py
        self.steps = 0

    def rows(self, mask: np.ndarray | None) -> np.ndarray | slice:
        """Return the executing lanes as an index."""
        return slice(None) if mask is None else np.flatnonzero(mask)

    def whole_warps(self, mask: np.ndarray | None, size: int = 32) -> np.ndarray | None:
        """Return which warps (or warpgroups, ``size`` 128) execute, None for all. They must be complete."""
        if mask is None:
            return None
        table = mask.reshape(-1, size)
        if (table.any(1) != table.all(1)).any():
            raise DivergedError(f"some of {size} lanes execute an instruction of them all")
        return table[:, 0]

    def run(self) -> None:
        steps = decode(self.program)
        pc, counters = 0, None  # counters: the program counter of every lane, None while all agree
        with np.errstate(all="ignore"):
            while True:
                try:
                    if counters is None:
                        pc, counters, done = self.run_converged(steps, pc)
                    else:
                        pc, counters, done = self.run_diverged(steps, counters)
                except PTXError as error:
                    ins = steps[self.pc].instruction
                    raise error.with_location(ins.line, ins.text) from None
                if done:
                    return

    def count(self, step: Any, mask: np.ndarray | None) -> None:
        self.steps += 1
        if self.steps > self.launch.max_steps:
            raise StepLimitError(f"more than {self.launch.max_steps} instructions")
        if self.counters is not None:
            self.counters.instruction(self, step.instruction, mask)

    def run_converged(self, steps: list[Any], pc: int) -> tuple[int, np.ndarray | None, bool]:
        """Run all lanes from ``pc`` until they diverge. Return (pc, counters, done)."""
        limit = self.launch.max_steps
        counting = self.counters is not None
        while True:
            flow, handler, guard, target, _ = step = steps[pc]
            self.pc = pc
            if counting:
                self.count(step, None)
            else:
                self.steps += 1
                if self.steps > limit:
                    self.count(step, None)
            mask = None
            if guard is not None:
                mask = guard(self)
                if mask.all():
                    mask = None
                elif not mask.any():
                    pc += 1
                    continue
            if not flow:
                handler(self, mask)
                pc += 1
            elif flow == "branch":
                if mask is not None:
                    return pc, np.where(mask, target, pc + 1), False
                pc = target
            elif flow == "exit":
                if mask is None:
                    return pc, None, True
                self.alive &= ~mask
                return pc, np.full(self.lanes, pc + 1), False
            else:
                handler(self, mask)
                pc += 1
                if self.waiting.any():
                    return pc, np.full(self.lanes, pc), False

    def run_diverged(self, steps: list[Any], counters: np.ndarray) -> tuple[int, np.ndarray | None, bool]:
        """Run the lanes with the lowest program counter until they meet others, branch or end."""
        ready = self.alive & ~self.waiting
        if not ready.any():
            if self.waiting.any():
                raise BarrierError("the CTA's other threads never arrive at the barrier")
            return 0, counters, True
        pc = int(counters[ready].min())
        active = ready & (counters == pc)
        if active.all():
            return pc, None, False
        others = counters[ready & ~active]
        meeting = int(others.min()) if others.size else len(steps)
        while pc < meeting:
            flow, handler, guard, target, _ = step = steps[pc]
            self.pc = pc
            self.count(step, active)
            mask = active if guard is None else active & guard(self)
            if flow == "branch":
                counters[active] = pc + 1
                counters[mask] = target
                return pc, counters, False
            if flow == "exit":
                self.alive &= ~mask
                counters[active] = pc + 1
                return pc, counters, False
            if mask.any():
                handler(self, mask)
            pc += 1
            if flow == "barrier":
                break
        counters[active] = pc
        return pc, counters, False
