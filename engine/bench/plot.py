"""Plots as SVG text: lines, points and bars. Labels stand beside what they name; nothing is drawn by a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 320, 58, 16, 58, 46
BAR, NAMES = 24, 178  # height of a bar with its gap, width of its name
LETTER = 6.6  # width of one, about
INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"


@dataclass(frozen=True)
class Series:
    """What one colour shows.

    Attributes:
        name: for the legend.
        points: (x, y), in the order in which a line joins them.
        color: of line, marks and name.
        joined: by a line.
        labels: beside the points, "" for none.
        dashed: the line.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    joined: bool = True
    labels: Sequence[str] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: what it says, and whether equal distances are equal factors."""

    label: str
    log: bool = False
    zero: bool = False  # begins at 0

    def ticks(self, values: Sequence[float]) -> list[float]:
        """Round numbers, the outer two just beyond the values."""
        low, high = min(values), max(values)
        if self.log:
            low, high = low / 1.05, high * 1.05
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            fine = [m * 10.0**p for p in powers for m in (1, 2, 5)]
            kept = _around(fine, low, high)
            return kept if len(kept) < 8 else _around([10.0**p for p in powers], low, high)
        low = 0.0 if self.zero else low
        step = _round_step((high - low) / 5 or 1.0)
        first, last = math.floor(low / step), math.ceil(high / step)
        return [step * n for n in range(first, max(last, first + 1) + 1)]

    def place(self, ticks: Sequence[float]) -> Callable[[float], float]:
        """value -> 0 .. 1 between the outer ticks."""
        low, high = ticks[0], ticks[-1]
        if self.log:
            return lambda value: math.log(value / low) / math.log(high / low)
        return lambda value: (value - low) / (high - low)


def lines(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """A plot of series over common axes."""
    points = [point for one in series for point in one.points]
    x_ticks, y_ticks = x.ticks([a for a, _ in points]), y.ticks([b for _, b in points])
    across, up = x.place(x_ticks), y.place(y_ticks)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        a, b = across(point[0]), up(point[1])
        return LEFT + a * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - b * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y_ticks:
        _, row = at((x_ticks[0], tick))
        parts.append(f'<path d="M{LEFT} {row:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 7, row + 4, number(tick), "end", QUIET))
    for tick in x_ticks:
        column, _ = at((tick, y_ticks[0]))
        parts.append(f'<path d="M{column:.1f} {HEIGHT - BOTTOM}v5" stroke="{QUIET}"/>')
        parts.append(_text(column, HEIGHT - BOTTOM + 19, number(tick), "middle", QUIET))
    parts.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="{QUIET}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x.label, "middle", QUIET))
    column = float(LEFT)
    for one in series:
        if one.name:
            parts.append(f'<circle cx="{column:.1f}" cy="{TOP - 20}" r="4.5" fill="{one.color}"/>')
            parts.append(_text(column + 9, TOP - 16, one.name, "start", one.color))
            column += 26 + LETTER * len(one.name)
        parts += _series(one, [at(point) for point in one.points])
    parts.append(_text(WIDTH - RIGHT, TOP - 16, y.label, "end", QUIET))
    return _svg(title, HEIGHT, parts)


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: (name, value, color), the value at the end of each."""
    most = max(value for _, value, _ in rows)
    width, parts = WIDTH - NAMES - RIGHT - 52, []
    for place, (name, value, color) in enumerate(rows):
        top, length = TOP - 18 + BAR * place, width * value / most
        parts.append(_text(NAMES - 8, top + 13, name, "end", INK))
        parts.append(f'<rect x="{NAMES}" y="{top}" width="{length:.1f}" height="17" fill="{color}"/>')
        parts.append(_text(NAMES + length + 6, top + 13, f"{number(value)}{unit}", "start", INK))
    return _svg(title, TOP + BAR * len(rows), parts)


def number(value: float) -> str:
    """With three significant digits at most, thousands apart."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def _series(one: Series, places: Sequence[tuple[float, float]]) -> list[str]:
    parts = []
    if one.joined and len(places) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        dash = ' stroke-dasharray="5 4"' if one.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{one.color}" stroke-width="2.2"{dash}/>')
    r = 3.5 if one.joined else 5.0
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{r}" fill="{one.color}"/>' for a, b in places]
    for (a, b), label in zip(places, one.labels, strict=False):
        # On the side where there is room.
        left = a + 9 + LETTER * len(label) > WIDTH
        parts.append(_text(a - 9 if left else a + 9, b + 4, label, "end" if left else "start", one.color))
    return parts


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="12.5">'
    )
    return "\n".join([head, _text(8, 20, title, "start", INK, ' font-weight="600" font-size="14"'), *parts, "</svg>"])


def _text(x: float, y: float, words: str, anchor: str, color: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{more}>{escape(words)}</text>'


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)


def _around(ticks: Sequence[float], low: float, high: float) -> list[float]:
    first = max((tick for tick in ticks if tick <= low), default=ticks[0])
    last = min((tick for tick in ticks if tick >= high), default=ticks[-1])
    return [tick for tick in ticks if first <= tick <= last]
