"""A diagram of the sweep: tiles of time that travel through the layers of two steps.

Nothing is filled behind the tiles, and every color has enough contrast on white and on black, so that the picture is
readable on light and on dark pages.
"""

from __future__ import annotations

from benchmarks.figures.svg import FONT, text

DILATIONS = (1, 2, 4, 8)  # of a small network
STEPS, TILES, ROWS = 2, 4, 30  # steps, tiles, and samples of a tile
CURRENT = 2  # the tile that is computed now
LEFT, TOP, UNIT, BAR, STEP, GAP = 196, 84, 4.4, 17, 21, 16  # pixels; UNIT is one sample
INK, DONE, NOW = "#7d8590", "#3b82c4", "#2f9e63"


def svg() -> str:
    """Return the picture."""
    reach = sum(DILATIONS)
    width = int(LEFT + UNIT * ROWS * TILES + 24)
    height = TOP + STEPS * (STEP * (len(DILATIONS) + 2) + GAP) + 44
    title = "A sweep: tiles of time travel through all layers of all steps"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT} role="img"',
        f' aria-label="{title}">',
        text(8, 22, title, f'fill="{INK}" font-size="15" font-weight="600"'),
        text(8, 42, "Each layer looks ahead by its dilation, so its tiles lag by the dilations up to it.", _ink()),
        text(LEFT, TOP - 14, "time of the audio", _ink()),
        f'<path d="M{LEFT + 124} {TOP - 18}h{UNIT * ROWS * TILES - 132:.0f}" stroke="{INK}"/>',
        f'<path d="M{LEFT + UNIT * ROWS * TILES - 14:.0f} {TOP - 22}l8 4l-8 4" fill="none" stroke="{INK}"/>',
    ]
    top, lag = float(TOP), 0
    for step in range(STEPS):
        parts.append(text(8, top + 13, f"step {step + 1}", f'fill="{INK}" font-weight="600"'))
        parts += _row("input projection", top, lag)
        for layer, dilation in enumerate(DILATIONS, start=1):
            top += STEP
            lag += dilation
            parts += _row(f"layer {layer}, dilation {dilation}", top, lag)
        top += STEP
        parts += _row("output head, noise update", top, lag)
        top += STEP + GAP
    final = LEFT + UNIT * (ROWS * (CURRENT + 1) - STEPS * reach)
    parts += [
        f'<path d="M{final:.1f} {top - GAP + 4:.1f}v12M{LEFT} {top - GAP + 10:.1f}H{final:.1f}" stroke="{INK}"/>',
        text(LEFT, top + 16, "final audio: it leaves while the rest is not yet computed", _ink()),
        _key(8, top + 16, DONE, "done"),
        _key(66, top + 16, NOW, "current tile"),
    ]
    return "\n".join([*parts, "</svg>\n"])


def _row(label: str, top: float, lag: int) -> list[str]:
    """Return one operation: its tiles, the current one and those before it filled, the next one outlined."""
    parts = [text(LEFT - 8, top + 13, label, f'fill="{INK}" text-anchor="end"')]
    for tile in range(TILES):
        begin, end = (max(ROWS * number - lag, 0) for number in (tile, tile + 1))
        if begin == end:
            continue
        color = NOW if tile == CURRENT else DONE if tile < CURRENT else "none"
        style = f'fill="{color}"' if tile <= CURRENT else f'fill="none" stroke="{INK}" stroke-dasharray="3 3"'
        x, width = LEFT + UNIT * begin, UNIT * (end - begin) - 2
        parts.append(f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" rx="2" {style}/>')
    return parts


def _key(x: float, y: float, color: str, label: str) -> str:
    box = f'<rect x="{x}" y="{y - 10:.1f}" width="11" height="11" rx="2" fill="{color}"/>'
    return box + text(x + 16, y, label, _ink())


def _ink() -> str:
    return f'fill="{INK}"'
