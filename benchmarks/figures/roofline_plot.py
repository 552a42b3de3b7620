"""A plot of the predicted and the measured speed on GPUs against the length of the audio."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.committed import Results, Row, load
from benchmarks.figures.roofline import MEASUREMENT, PREDICTION
from benchmarks.figures.svg import FONT, polyline, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 150, 60, 60
COLORS = ("#1b6ca8", "#c0504d", "#4f8f3a", "#8057a5")
SECONDS, TIMES = (1.0, 10.0), (3.0, 10000.0)  # ends of the axes
LABEL_GAP = 15


def svg(prediction: Results | None = None) -> str:
    """Return the plot of BASE in 6 steps, one item: predictions as lines, floors dashed, measurements as points.

    Args:
        prediction: `benchmarks.gpu.roofline.results`; None for the committed ones.
    """
    prediction, measured = prediction or load(PREDICTION), load(MEASUREMENT)["gpu"]
    parts = _frame()
    ends, points = [], []
    for gpu, color in zip(prediction["gpus"], COLORS, strict=True):
        rows = _rows(prediction["rows"], gpu["name"])
        floors = [max(row["floor_arithmetic_seconds"], row["floor_conditioner_seconds"]) for row in rows]
        floor = [(_x(row["seconds"]), _y(row["seconds"] / least)) for row, least in zip(rows, floors, strict=True)]
        line = [(_x(row["seconds"]), _y(row["times_real_time"])) for row in rows]
        parts.append(polyline(floor, f'stroke="{color}" stroke-dasharray="5 4"'))
        parts.append(polyline(line, f'stroke="{color}" stroke-width="2.5"'))
        ends.append((_y(rows[-1]["times_real_time"]), gpu["name"], rows[-1]["times_real_time"], color))
        for row in measured:
            if gpu["name"] in row["gpu"] and (row["network"], row["precision"], row["items"]) == ("BASE", "fp16", 1):
                center = f'cx="{_x(row["seconds"]):.1f}" cy="{_y(row["times_real_time"]):.1f}"'
                points.append(f'<circle {center} r="6" fill="{color}" stroke="white" stroke-width="2"/>')
    label = 0.0
    for y, name, times, color in sorted(ends):
        label = max(y, label + LABEL_GAP)
        parts.append(text(WIDTH - RIGHT + 8, label + 4, f"{name} {times:.0f}x", f'fill="{color}"'))
    paper = prediction["paper"][0]["times_real_time"]
    parts.append(f'<circle cx="{_x(1.0):.1f}" cy="{_y(paper):.1f}" r="5"/>')
    parts.append(text(_x(1.0) + 10, _y(paper) + 4, f"V100, {paper}x: measured by the paper"))
    return "\n".join([*parts, *points, "</svg>\n"])


def _frame() -> list[str]:
    turned = f'text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 26, "PREDICTED lines and measured points: DiffWave BASE, 6 steps, fp16", 'font-size="16"'),
        text(
            LEFT,
            46,
            "solid: model of the compiled kernels; dashed: floor of arithmetic and conditioner bytes; points: an H100",
            'fill="#555"',
        ),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "seconds of audio", 'text-anchor="middle"'),
        text(18, HEIGHT / 2, "times real time", turned),
    ]
    for times in (10, 100, 1000, 10000):
        parts.append(f'<path d="M{LEFT} {_y(times):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, _y(times) + 4, f"{times}x", 'text-anchor="end"'))
    for seconds in (1, 2, 5, 10):
        parts.append(f'<path d="M{_x(seconds):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(text(_x(seconds), HEIGHT - BOTTOM + 18, f"{seconds}", 'text-anchor="middle"'))
    return parts


def _rows(rows: Sequence[Row], gpu: str) -> list[Row]:
    chosen = [row for row in rows if (row["gpu"], row["network"], row["items"]) == (gpu, "BASE", 1)]
    return sorted(chosen, key=lambda row: float(row["seconds"]))


def _x(seconds: float) -> float:
    share = math.log(seconds / SECONDS[0]) / math.log(SECONDS[1] / SECONDS[0])
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(times: float) -> float:
    share = math.log(times / TIMES[0]) / math.log(TIMES[1] / TIMES[0])
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
