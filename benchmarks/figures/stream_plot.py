"""The picture of a run of `bench_stream.py`: audio produced and played against time, as one SVG.

python -m benchmarks.stream_plot RESULTS.json docs/streaming.svg
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 60, 24, 64, 50
GAP = 60  # between the two panels
FONT = 'font-family="sans-serif" font-size="13"'
PRODUCED, PLAYED, MEL = "#1b6ca8", "#c0504d", "#999"


def svg(results: dict[str, Any]) -> str:
    """One panel per schedule, of the fastest precision that was measured, from a paced mel."""
    runs = [one for one in results["streams"] if one.get("source") == "paced"]
    runs = [one for one in runs if one["precision"] == runs[0]["precision"]]
    panel = (WIDTH - LEFT - RIGHT - GAP * (len(runs) - 1)) / len(runs)
    machine = results["machine"]
    title = f"a mel written at the speed of speech, {runs[0]['precision']}, {runs[0]['threads']} threads of "
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title + f"{machine['cpu']} ({machine['tiers'][-1]})", 'font-size="15"'),
        _text(18, HEIGHT / 2, "seconds of audio", f'text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})"'),
    ]
    for number, one in enumerate(runs):
        parts += _panel(one, LEFT + number * (panel + GAP), panel)
    return "\n".join([*parts, "</svg>\n"])


def _panel(one: dict[str, Any], left: float, width: float) -> list[str]:
    audio = one["audio_seconds"]
    end = max(one["produced"][-1][0], one["played"][-1][0])

    def x(seconds: float) -> float:
        return left + width * seconds / end

    def y(seconds: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * seconds / audio

    def path(points: list[tuple[float, float]], color: str, style: str = "") -> str:
        drawn = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        return f'<polyline points="{drawn}" fill="none" stroke="{color}" stroke-width="2" {style}/>'

    words = f"{one['steps']}: first audio {one['first_audio_ms'] / 1000:.2f} s, {one['underruns']} underruns"
    parts = [_text(left, TOP - 16, words)]
    for second in range(int(audio) + 1):
        parts.append(f'<path d="M{left:.1f} {y(second):.1f}h{width:.1f}" stroke="#e4e4e4"/>')
        parts.append(_text(left - 6, y(second) + 4, str(second), 'text-anchor="end"'))
    for second in range(0, int(end) + 1, max(1, int(end) // 5)):
        parts.append(_text(x(second), HEIGHT - BOTTOM + 18, f"{second} s", 'text-anchor="middle"'))
    staircase = [point for (a, b), (c, _) in pairwise(one["produced"]) for point in ((a, b), (c, b))]
    parts.append(path([(0.0, 0.0), (audio, audio)], MEL, 'stroke-dasharray="3 4"'))
    parts.append(path(one["played"], PLAYED))
    parts.append(path([(one["produced"][0][0], 0.0), *staircase, tuple(one["produced"][-1])], PRODUCED))
    for row, (name, color) in enumerate((("mel written", MEL), ("produced", PRODUCED), ("played", PLAYED))):
        parts.append(
            _text(left + width - 4, HEIGHT - BOTTOM - 44 + 17 * row, name, f'text-anchor="end" fill="{color}"')
        )
    return parts


def _text(x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{words}</text>'


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(svg(json.loads(Path(sys.argv[1]).read_text())))
