"""What many laps say in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUIET = 0.9  # p20 of the peak over its p80 on a machine without neighbours, at least


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The 20th, 50th and 80th percentile."""
    return dict(zip(("p20", "p50", "p80"), np.quantile(values, (0.2, 0.5, 0.8)).tolist(), strict=True))


def disturbed(results: Mapping[str, Any]) -> bool:
    """Whether the peak itself varied between the rounds of a row, as it does not on a quiet machine."""
    rows = [row for duel in results.get("duels", ()) for row in duel["rows"]] + list(results.get("curves", ()))
    peaks = [row["peak_gflops"] for row in rows if row["peak_gflops"]]
    return any(peak["p20"] < QUIET * peak["p80"] for peak in peaks)
