"""The picture of `roofline.py`'s predictions and of what was measured: real-time factor against length, as one SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 150, 60, 60
COLORS = ("#1b6ca8", "#c0504d", "#4f8f3a", "#8057a5")
SECONDS, TIMES = (1.0, 10.0), (3.0, 10000.0)
LABEL_GAP = 15
FONT = 'font-family="sans-serif" font-size="13"'


def _x(seconds: float) -> float:
    share = math.log(seconds / SECONDS[0]) / math.log(SECONDS[1] / SECONDS[0])
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(times: float) -> float:
    share = math.log(times / TIMES[0]) / math.log(TIMES[1] / TIMES[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{words}</text>'


def svg(found: dict[str, Any], measured: Sequence[dict[str, Any]]) -> str:
    """Lines of BASE in 6 steps, one item; dashed, the floor of each card; what was measured as points.

    Args:
        found: `roofline.results`.
        measured: rows of `gpu_report.row`.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 26, "PREDICTED lines and measured points: DiffWave BASE, 6 steps, fp16", 'font-size="16"'),
        _text(
            LEFT,
            46,
            "solid: model of the compiled kernels; dashed: floor of arithmetic and conditioner bytes; points: an H100",
            'fill="#555"',
        ),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "seconds of audio", 'text-anchor="middle"'),
        _text(18, HEIGHT / 2, "times real time", f'text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})"'),
    ]
    for times in (10, 100, 1000, 10000):
        parts.append(f'<path d="M{LEFT} {_y(times):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, _y(times) + 4, f"{times}x", 'text-anchor="end"'))
    for seconds in (1, 2, 5, 10):
        parts.append(f'<path d="M{_x(seconds):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(_text(_x(seconds), HEIGHT - BOTTOM + 18, f"{seconds}", 'text-anchor="middle"'))
    ends, points = [], []
    for gpu, color in zip(found["gpus"], COLORS, strict=True):
        rows = [
            row
            for row in found["rows"]
            if (row["gpu"], row["network"], row["items"]) == (gpu["name"], "BASE", 1)
        ]  # fmt: skip
        rows.sort(key=lambda row: row["seconds"])
        floors = [max(row["floor_arithmetic_seconds"], row["floor_conditioner_seconds"]) for row in rows]
        line = " ".join(f"{_x(row['seconds']):.1f},{_y(row['times_real_time']):.1f}" for row in rows)
        floor = " ".join(
            f"{_x(row['seconds']):.1f},{_y(row['seconds'] / least):.1f}"
            for row, least in zip(rows, floors, strict=True)
        )
        parts.append(f'<polyline points="{floor}" fill="none" stroke="{color}" stroke-dasharray="5 4"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        ends.append((_y(rows[-1]["times_real_time"]), gpu["name"], rows[-1]["times_real_time"], color))
        for row in measured:
            if gpu["name"] in row["gpu"] and (row["network"], row["precision"], row["items"]) == ("BASE", "fp16", 1):
                at = f'cx="{_x(row["seconds"]):.1f}" cy="{_y(row["times_real_time"]):.1f}"'
                points.append(f'<circle {at} r="6" fill="{color}" stroke="white" stroke-width="2"/>')
    place = 0.0
    for y, name, times, color in sorted(ends):
        place = max(y, place + LABEL_GAP)
        parts.append(_text(WIDTH - RIGHT + 8, place + 4, f"{name} {times:.0f}x", f'fill="{color}"'))
    paper = found["paper"][0]["times_real_time"]
    parts.append(f'<circle cx="{_x(1.0):.1f}" cy="{_y(paper):.1f}" r="5"/>')
    parts.append(_text(_x(1.0) + 10, _y(paper) + 4, f"V100, {paper}x: measured by the paper"))
    return "\n".join([*parts, *points, "</svg>\n"])
