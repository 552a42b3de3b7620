"""A plot of streams: audio produced and played against time, from the committed run of `bench_stream.py`."""

from __future__ import annotations

from itertools import pairwise

from benchmarks.committed import Row, load
from benchmarks.figures.streams import STREAMS
from benchmarks.figures.svg import FONT, polyline, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 60, 24, 64, 50
GAP = 60  # between panels
PRODUCED, PLAYED, MEL = "#1b6ca8", "#c0504d", "#999"


def svg() -> str:
    """Return one panel per schedule: the first measured precision, from a mel at the speed of speech."""
    results = load(STREAMS)
    runs = [run for run in results["streams"] if run.get("source") == "paced"]
    runs = [run for run in runs if run["precision"] == runs[0]["precision"]]
    panel = (WIDTH - LEFT - RIGHT - GAP * (len(runs) - 1)) / len(runs)
    machine = results["machine"]
    title = (
        f"Streaming a mel at the speed of speech: {runs[0]['precision']}, {runs[0]['threads']} threads of "
        f"{machine['cpu']} ({machine['tiers'][-1]})"
    )
    turned = f'text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2:.0f})"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, 'font-size="15"'),
        text(18, HEIGHT / 2, "seconds of audio", turned),
    ]
    for number, run in enumerate(runs):
        parts += _panel(run, LEFT + number * (panel + GAP), panel)
    return "\n".join([*parts, "</svg>\n"])


def _panel(run: Row, left: float, width: float) -> list[str]:
    audio: float = run["audio_seconds"]
    end: float = max(run["produced"][-1][0], run["played"][-1][0])

    def x(seconds: float) -> float:
        return left + width * seconds / end

    def y(seconds: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * seconds / audio

    def line(points: list[tuple[float, float]], color: str, style: str = "") -> str:
        return polyline([(x(a), y(b)) for a, b in points], f'stroke="{color}" stroke-width="2" {style}')

    first, underruns = run["first_audio_ms"] / 1000, run["underruns"]
    parts = [text(left, TOP - 16, f"{run['steps']}: first audio {first:.2f} s, {underruns} underruns")]
    for second in range(int(audio) + 1):
        parts.append(f'<path d="M{left:.1f} {y(second):.1f}h{width:.1f}" stroke="#e4e4e4"/>')
        parts.append(text(left - 6, y(second) + 4, str(second), 'text-anchor="end"'))
    for second in range(0, int(end) + 1, max(1, int(end) // 5)):
        parts.append(text(x(second), HEIGHT - BOTTOM + 18, f"{second} s", 'text-anchor="middle"'))
    staircase = [point for (a, b), (c, _) in pairwise(run["produced"]) for point in ((a, b), (c, b))]
    parts.append(line([(0.0, 0.0), (audio, audio)], MEL, 'stroke-dasharray="3 4"'))
    parts.append(line(run["played"], PLAYED))
    parts.append(line([(run["produced"][0][0], 0.0), *staircase, tuple(run["produced"][-1])], PRODUCED))
    for number, (name, color) in enumerate((("mel written", MEL), ("produced", PRODUCED), ("played", PLAYED))):
        label = f'text-anchor="end" fill="{color}"'
        parts.append(text(left + width - 4, HEIGHT - BOTTOM - 44 + 17 * number, name, label))
    return parts
