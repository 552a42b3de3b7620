"""Statistics of repeated measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FLAG_ROUNDS = 3  # the fewest rounds whose spread shows a busy machine
BUSY = "The machine was not quiet: its peak varied by more than a tenth."
QUIET = 0.9  # least ratio of the peak's p20 to its p80 on a machine without other load


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return the 20th, 50th and 80th percentile under the keys p20, p50 and p80.

    Args:
        values: measurements, at least one.
    """
    return dict(zip(("p20", "p50", "p80"), np.quantile(values, (0.2, 0.5, 0.8)).tolist(), strict=True))


def disturbed(results: Mapping[str, Any]) -> bool:
    """Return whether the processor's peak varied between the rounds of a row more than on a quiet machine.

    Args:
        results: the JSON of `engine bench` or of benchmarks/.
    """
    rows = [row for comparison in results.get("duels", ()) for row in comparison["rows"]]
    peaks = [row["peak_gflops"] for row in [*rows, *results.get("curves", ())] if row["peak_gflops"]]
    return any(peak["p20"] < QUIET * peak["p80"] for peak in peaks)
