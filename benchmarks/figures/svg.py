"""Parts of SVG pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

FONT = 'font-family="system-ui,sans-serif" font-size="13"'


def text(x: float, y: float, words: str, attributes: str = "") -> str:
    """Return a text element; `attributes` are written into it as they are."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(words, quote=False)}</text>'


def polyline(points: Sequence[tuple[float, float]], attributes: str) -> str:
    """Return a line through points; `attributes` are written into it as they are."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" {attributes}/>'
