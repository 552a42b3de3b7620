"""A bar chart of the speed on every measured CPU: this engine above its baselines.

Nothing is filled behind the bars, and every color has enough contrast on white and on black, so that the picture is
readable on light and on dark pages.
"""

from __future__ import annotations

from benchmarks.committed import EAGER, MACHINES, Results, before_winograd, comparison, load, speed
from benchmarks.figures.machines import CASE
from benchmarks.figures.svg import FONT, text
from engine.cli.bench.figures import disturbed

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 212, 62, 58, 44
BAR, STEP, GAP = 15, 20, 24  # height of a bar, from bar to bar, from machine to machine
INK = "#7d8590"
COLORS = {"int8": "#2f9e63", "bf16": "#3b82c4", "fp32": "#b9822a"}
BASELINE = "#8b949e"
RUNTIMES = ("OpenVINO", "ONNX Runtime", EAGER)


def svg() -> str:
    """Return the picture."""
    groups = {}
    for machine in MACHINES.values():
        results = load(machine.file)
        groups[machine.name + " *" * disturbed(results)] = _bars(results)
    longest = max(value for bars in groups.values() for _, value, _ in bars)
    height = TOP + BOTTOM + sum(STEP * len(bars) + GAP for bars in groups.values()) - GAP // 2
    title = f"DiffWave BASE, 6 steps, {CASE} of audio on two cores: times real time (higher is better)"

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / longest

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT} role="img"',
        f' aria-label="{title}">',
        text(8, 22, title, f'fill="{INK}" font-size="15" font-weight="600"'),
        f'<path d="M{x(1):.1f} {TOP - 14}V{height - BOTTOM + 4}" stroke="{INK}" stroke-dasharray="4 4"/>',
        text(x(1), height - 22, "1x: real time", f'fill="{INK}" text-anchor="middle"'),
        text(8, height - 22, "* the measured peak varied by more than a tenth", f'fill="{INK}" font-size="11"'),
        text(8, height - 8, "\u2020 measured before Winograd (direct convolution)", f'fill="{INK}" font-size="11"'),
    ]
    top = float(TOP)
    for name, bars in groups.items():
        parts.append(text(8, top + 12, name, f'fill="{INK}" font-weight="600"'))
        for label, value, color in bars:
            parts.append(text(LEFT - 8, top + 12, label, f'fill="{INK}" text-anchor="end"'))
            parts.append(
                f'<rect x="{LEFT}" y="{top:.0f}" width="{x(value) - LEFT:.1f}" height="{BAR}" rx="2" fill="{color}"/>'
            )
            parts.append(text(x(value) + 6, top + 12, f"{value:.2f}x", f'fill="{INK}"'))
            top += STEP
        top += GAP
    return "\n".join([*parts, "</svg>\n"])


def _bars(results: Results) -> list[tuple[str, float, str]]:
    """Return (label, speed, color): every precision of this engine, then each runtime at its fastest."""
    rows, marks = comparison(results, CASE), {"fp32": " \u2020" * before_winograd(results)}
    bars = [
        (f"this engine, {name}{marks.get(name, '')}", speed(rows[name]), color)
        for name, color in COLORS.items()
        if name in rows
    ]
    for runtime in RUNTIMES:
        entries = [row for name, row in rows.items() if name.startswith(runtime) and row["passed"] is not False]
        if entries:
            fastest = max(entries, key=speed)
            bars.append((fastest["contender"].replace("eager fp32", "eager"), speed(fastest), BASELINE))
    return bars
