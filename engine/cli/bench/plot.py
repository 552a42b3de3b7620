"""Plots as SVG text: lines, points and bars, without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 320, 58, 16, 58, 46
BAR, NAME, NAMES = 24, 14, 186  # height of a bar with its gap, height of a name, width of the column of names
LETTER = 6.6  # average width of a letter
INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"


@dataclass(frozen=True)
class Series:
    """The points of one color.

    Attributes:
        name: the label.
        points: (x, y), in the order of the line.
        color: of the line, the marks and the name.
        joined: whether a line joins the points.
        dashed: whether the line is dashed.
        marked: whether every point has a mark.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    joined: bool = True
    dashed: bool = False
    marked: bool = True


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: the name of the quantity.
        log: whether the scale is logarithmic.
        zero: whether the axis begins at 0.
    """

    label: str
    log: bool = False
    zero: bool = False

    def range(self, values: Sequence[float]) -> tuple[float, float]:
        """Return the ends of the axis, a little beyond the values.

        Args:
            values: the coordinates of all points.
        """
        low, high = min(values), max(values)
        if self.log:
            return low / 1.15, high * 1.15
        low = 0.0 if self.zero else low
        beyond = 0.08 * ((high - low) or 1.0)
        return (0.0 if self.zero else low - beyond), high + beyond

    def ticks(self, low: float, high: float) -> list[float]:
        """Return round numbers between the ends, seven or fewer.

        Args:
            low: the lower end.
            high: the upper end.
        """
        if not self.log:
            step = _round_step((high - low) / 5)
            return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for multiples in ((1, 2, 5), (1,)):
            ticks = [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]
            if len(ticks) <= 7:
                break
        return ticks

    def place(self, low: float, high: float) -> Callable[[float], float]:
        """Return the function from a value to its position, 0 at the lower end and 1 at the upper.

        Args:
            low: the lower end.
            high: the upper end.
        """
        if self.log:
            return lambda value: math.log(value / low) / math.log(high / low)
        return lambda value: (value - low) / (high - low)


def lines(title: str, x: Axis, y: Axis, series: Sequence[Series], names_at_right: bool = False) -> str:
    """Plot series over common axes.

    Args:
        title: the heading.
        x: the horizontal axis.
        y: the vertical axis.
        series: one or more.
        names_at_right: write each name beside the last point of its series; otherwise the names stand above.

    Returns:
        An svg element.
    """
    points = [point for entry in series for point in entry.points]
    x_ends, y_ends = x.range([a for a, _ in points]), y.range([b for _, b in points])
    across, up = x.place(*x_ends), y.place(*y_ends)
    right = WIDTH - (NAMES if names_at_right else RIGHT)

    def place(a: float, b: float) -> tuple[float, float]:
        return LEFT + across(a) * (right - LEFT), HEIGHT - BOTTOM - up(b) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in y.ticks(*y_ends):
        _, row = place(x_ends[0], tick)
        parts.append(f'<path d="M{LEFT} {row:.1f}H{right}" stroke="{GRID}"/>')
        parts.append(_text(LEFT - 7, row + 4, number(tick), "end", QUIET))
    for tick in x.ticks(*x_ends):
        column, _ = place(tick, y_ends[0])
        parts.append(f'<path d="M{column:.1f} {HEIGHT - BOTTOM}v5" stroke="{QUIET}"/>')
        parts.append(_text(column, HEIGHT - BOTTOM + 19, number(tick), "middle", QUIET))
    parts.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{right}" stroke="{QUIET}"/>')
    parts.append(_text((LEFT + right) / 2, HEIGHT - 8, x.label, "middle", QUIET))
    parts.append(_text(LEFT - 7, TOP - 12, y.label, "end" if len(y.label) < 8 else "start", QUIET))
    places = [[place(*point) for point in entry.points] for entry in series]
    for entry, entry_places in zip(series, places, strict=True):
        parts += _series(entry, entry_places)
    parts += _at_right(series, places, right) if names_at_right else _above(series)
    return _svg(title, HEIGHT, parts)


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Plot horizontal bars with the value at the end of each.

    Args:
        title: the heading.
        unit: appended to each value.
        rows: (name, value, color).

    Returns:
        An svg element.
    """
    most = max(value for _, value, _ in rows)
    width, parts = WIDTH - NAMES - RIGHT - 52, []
    for place, (name, value, color) in enumerate(rows):
        top, length = TOP - 18 + BAR * place, width * value / most
        parts.append(_text(NAMES - 8, top + 13, name, "end", INK))
        parts.append(f'<rect x="{NAMES}" y="{top}" width="{length:.1f}" height="17" fill="{color}"/>')
        parts.append(_text(NAMES + length + 6, top + 13, f"{number(value)}{unit}", "start", INK))
    return _svg(title, TOP + BAR * len(rows), parts)


def number(value: float) -> str:
    """Format a value with at most three significant digits and a comma between thousands.

    Args:
        value: any finite number.
    """
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def _series(series: Series, places: Sequence[tuple[float, float]]) -> list[str]:
    parts = []
    if series.joined and len(places) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{series.color}" stroke-width="2"{dash}/>')
    if series.marked:
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{series.color}"/>' for a, b in places]
    return parts


def _above(series: Sequence[Series]) -> list[str]:
    """Write the names above the plot from the right; the name of the axis stands at the left."""
    parts, column = [], float(WIDTH - RIGHT)
    for entry in reversed(series):
        column -= LETTER * len(entry.name)
        parts.append(_text(column, TOP - 12, entry.name, "start", entry.color))
        parts.append(f'<circle cx="{column - 9:.1f}" cy="{TOP - 16}" r="4" fill="{entry.color}"/>')
        column -= 26
    return parts


def _at_right(series: Sequence[Series], places: Sequence[Sequence[tuple[float, float]]], right: float) -> list[str]:
    """Write the names in a column at the right, with a thin line from each to its last point."""
    parts = []
    order = sorted(range(len(series)), key=lambda i: places[i][-1][1])
    row = 0.0
    bottom = HEIGHT - BOTTOM - NAME * (len(order) - 1)
    for position, i in enumerate(order):
        (a, b), color = places[i][-1], series[i].color
        row = max(row + NAME, min(b, bottom + NAME * position), TOP - 10.0)
        parts.append(f'<path d="M{a:.1f} {b:.1f}L{right:.1f} {row:.1f}" stroke="{color}" stroke-width="0.7"/>')
        parts.append(_text(right + 5, row + 4, series[i].name, "start", INK))
    return parts


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="12.5">'
    )
    return "\n".join([head, _text(8, 20, title, "start", INK, ' font-weight="600" font-size="14"'), *parts, "</svg>"])


def _text(x: float, y: float, words: str, anchor: str, color: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{attributes}>{escape(words)}</text>'


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)
