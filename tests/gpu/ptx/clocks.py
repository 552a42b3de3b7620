"""Which warp knows of which other warp's past: vector clocks, advanced by barriers.

Warp v's accesses carry v's clock at that moment. Warp w may rely on one with time t when ``t <= known[w, v]``.
"""

from __future__ import annotations

import numpy as np

FOREVER = np.iinfo(np.int32).max


class Clocks:
    def __init__(self, ctas: int, warps: int) -> None:
        self.warps = warps
        self.now = np.ones(ctas * warps, np.int32)
        self.known = np.zeros((ctas * warps, warps), np.int32)
        self.own = (np.arange(ctas * warps), np.arange(ctas * warps) % warps)
        self.known[self.own] = FOREVER
        self.floor = 0  # every access up to this time is known to every warp of its CTA
        self.latest = 1  # no access is later than this

    def arrive(self, warp: int) -> np.ndarray:
        """A warp (of the chunk) arrives at a barrier. Returns what those who pass it will know."""
        past = self.known[warp].copy()
        past[warp % self.warps] = self.now[warp]
        self.now[warp] += 1
        self.latest = max(self.latest, int(self.now[warp]))
        return past

    def release(self, warps: np.ndarray, past: np.ndarray) -> None:
        self.known[warps] = np.maximum(self.known[warps], past)
        self.floor = int(self.known.min())

    def join_all(self) -> None:
        """Every CTA's warps meet. Known pasts are then equal but for the warp's own."""
        table = self.now.reshape(-1, self.warps)
        self.known = np.repeat(table, self.warps, 0)
        self.known[self.own] = FOREVER
        self.now = self.now + 1
        self.latest += 1
        self.floor = int(table.min())

    def ordered(self, warp: np.ndarray, other: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether ``warp`` (of the chunk) knows what ``other`` (of its CTA) did at ``time``."""
        return time <= self.known[warp, other]
