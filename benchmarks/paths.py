"""Folders of the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Recordings that users of the package do not have.
SHARED = ROOT.parent / "shared" / "data"
