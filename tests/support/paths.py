"""Folders of the checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Data and fixtures that users of the package do not have; tests that need them skip.
SHARED = ROOT.parent / "shared"
