"""Vector clocks: which accesses of other warps are ordered before a warp's own. Barriers advance them.

An access of warp v carries v's clock. It is ordered before the accesses of warp w if its time is ``<= known[w, v]``.
"""

from __future__ import annotations

import numpy as np

FOREVER = np.iinfo(np.int32).max


class Clocks:
    """Vector clocks of the warps of all CTAs of a chunk."""

    def __init__(self, ctas: int, warps: int) -> None:
        self.warps = warps
        self.now = np.ones(ctas * warps, np.int32)
        self.known = np.zeros((ctas * warps, warps), np.int32)
        self.own = (np.arange(ctas * warps), np.arange(ctas * warps) % warps)
        self.known[self.own] = FOREVER
        self.floor = 0  # every warp of a CTA is ordered after all accesses up to this time
        self.latest = 1  # no access is later than this

    def arrive(self, warp: int) -> np.ndarray:
        """Record that a warp of the chunk arrives at a barrier. Return the clocks that the barrier passes on."""
        past = self.known[warp].copy()
        past[warp % self.warps] = self.now[warp]
        self.now[warp] += 1
        self.latest = max(self.latest, int(self.now[warp]))
        return past

    def release(self, warps: np.ndarray, past: np.ndarray) -> None:
        """Order these warps after the accesses up to ``past``."""
        self.known[warps] = np.maximum(self.known[warps], past)
        self.floor = int(self.known.min())

    def join_all(self) -> None:
        """Let all warps of every CTA pass a barrier. Their clocks are then equal but for each warp's own."""
        table = self.now.reshape(-1, self.warps)
        self.known = np.repeat(table, self.warps, 0)
        self.known[self.own] = FOREVER
        self.now = self.now + 1
        self.latest += 1
        self.floor = int(table.min())

    def ordered(self, warp: np.ndarray, other: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return whether ``warp`` of the chunk is ordered after the access of ``other`` of its CTA at ``time``."""
        return time <= self.known[warp, other]
