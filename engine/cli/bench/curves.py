"""Time, speed and memory as work grows: over length, threads, batch, steps and channels, as far as it is affordable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import engine
from engine.audio.metrics import snr
from engine.bundled import path_of
from engine.checkpoint.load import load_checkpoint
from engine.cli.bench.machine import cores, environment, load_average
from engine.cli.bench.point import FAST, Point, Row, check, in_fresh_process, mel_of
from engine.config import Config
from engine.errors import CheckpointError, UnavailableError
from engine.kernels import registry

SEED = 1
# What a point costs besides its calls: a process, packed weights, a first call.
OVERHEAD = 0.6
AXES = ("length", "threads", "batch", "steps", "channels")
Measure = Callable[[Point, int, float], Row]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        values: per axis; seconds, threads (none for 1, 2, 4, ... all), items, steps, channels. All axes but the length
            are about audio of the first length.
        every_precision: on every axis; else the fastest, and of the others one point.
        per_call: seconds that one call may take.
        in_all: seconds that all of it may take.
        rounds: calls of a point, at most; and beyond the first only as many as fit in
        repeated: seconds.
        peak_seconds: of each measurement of the peak.
    """

    values: Mapping[str, Sequence[float]]
    every_precision: bool
    per_call: float
    in_all: float
    rounds: int
    repeated: float
    peak_seconds: float


_ALL: dict[str, Sequence[float]] = {
    "length": (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    "threads": (),
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "steps": (2, 3, 6, 12, 25, 50, 100, 200),
    "channels": (32, 64, 128, 256),
}
_FEW: dict[str, Sequence[float]] = {
    **{"length": (0.5, 1, 2), "threads": (), "batch": (1, 4), "steps": (2, 6), "channels": (32, 64)}
}
QUICK = Extent(_FEW, False, 2.0, 14.0, 1, 0.0, 0.05)
DEFAULT = Extent(_ALL, True, 4.0, 90.0, 3, 4.0, 0.1)
THOROUGH = Extent(_ALL, True, math.inf, math.inf, 5, 20.0, 0.2)


def measured(
    extent: Extent,
    model: str | None = None,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
    measure: Measure | None = None,
    precisions: Sequence[str] = registry.CPU_PRECISIONS,
) -> dict[str, Any]:
    """All of it: the rows of the curves, each precision's SNR, and what was left out and why.

    Raises:
        CheckpointError, InputError: the model cannot be measured.
    """
    measure = measure or in_fresh_process
    load, begin = load_average(), time.perf_counter()
    config = load_checkpoint(path_of(model)).config
    check(config)
    most = cores() if threads is None else threads
    found, left_out, rows = {}, {}, []
    frames = _frames(config, extent.values["length"][0])
    base = {p: Point(p, most, frames, model=model) for p in registry.CPU_PRECISIONS if p in precisions}
    rates: dict[str, float] = {}
    for precision, point in base.items():
        try:
            found[point] = measure(point, extent.rounds, extent.peak_seconds)
            rates[precision] = point.work(config) / most / found[point]["seconds"]["p50"]
        except (UnavailableError, CheckpointError) as error:
            left_out[precision] = str(error)
    places = [place for place in _places(extent, config, base, list(rates)) if place[2].precision in rates]

    def cost(point: Point) -> float:
        return point.work(config) / point.threads / rates[point.precision]

    dear = []
    points = sorted({point for *_, point in places} - set(found), key=cost)
    for number, point in enumerate(points, start=1):
        each, left = cost(point), extent.in_all - (time.perf_counter() - begin) - OVERHEAD
        if each > min(extent.per_call, left):
            dear.append(point)
            continue
        try:
            found[point] = measure(point, max(1, min(extent.rounds, int(extent.repeated / each))), extent.peak_seconds)
        except (UnavailableError, CheckpointError) as error:
            left_out[_name(point, config)] = str(error)
        if progress is not None:
            progress(sum(map(cost, points[:number])) / sum(map(cost, points)))
    for axis, value, point in places:
        if point in found:
            rows.append({"axis": axis, "value": value, **found[point]})
    for point in dear:
        left_out[_name(point, config)] = f"about {cost(point):.0f} s a call: {_DEAR}"
    return {
        **environment(load),
        "network": f"C={config.residual_channels} N={config.residual_layers}, {_whose(model)}",
        "steps": FAST,
        "threads": most,
        "curves": rows,
        "accuracy": _accuracy(model, most, frames, list(rates)),
        "left_out": left_out,
    }


def lines(results: Mapping[str, Any]) -> list[str]:
    """The table for the terminal."""
    machine, versions = results["machine"], results["versions"]
    made = [
        f"{results['network']}, on {machine['cpu']} ({machine['tiers'][-1]}), {machine['cores']} cores, "
        f"load at start {' '.join(map(str, machine['load_at_start']))}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"clock: {results['clock']}",
        "SNR against fp32: "
        + (", ".join(f"{one['precision']} {one['snr_db']:.0f} dB" for one in results["accuracy"]) or "nothing else"),
    ]
    for axis in AXES:
        rows = [row for row in results["curves"] if row["axis"] == axis]
        if rows:
            made += ["", _line(_UNITS[axis], "precision", "seconds", "RTF", "x real time", "share", "peak", "memory")]
            made += [_line(*_cells(row)) for row in rows]
    share = "share: of the residual layers' multiply-accumulates, counted one by one whoever saves some, in the peak"
    made += ["", f"{share} measured beside each call, GFLOP/s"]
    dear = [name for name, why in results["left_out"].items() if why.endswith(_DEAR)]
    made += [f"left out: {name}: {why}" for name, why in results["left_out"].items() if name not in dear]
    return made + ([f"left out: {len(dear)} points that take longer: {_DEAR}"] if dear else [])


_DEAR = "--thorough takes the time"
_UNITS = {"length": "seconds", "threads": "threads", "batch": "items", "steps": "steps", "channels": "channels"}


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row['value']:g}",
        row["precision"],
        f"{row['seconds']['p50']:.3f}",
        f"{row['rtf']['p50']:.3f}",
        f"{1 / row['rtf']['p50']:.2f}",
        f"{row['share_of_peak']['p50']:.0%}",
        f"{row['peak_gflops']['p50']:.0f}",
        f"{row['memory_bytes'] / 2**20:.0f} MiB",
    )


def _line(*cells: str) -> str:
    return f"{cells[0]:>9}  {cells[1]:<10}" + "".join(f"{cell:>12}" for cell in cells[2:])


def _places(
    extent: Extent, config: Config, base: Mapping[str, Point], precisions: Sequence[str]
) -> list[tuple[str, float, Point]]:
    """(axis, value, point): a point may stand on several axes and is measured once."""
    found = []
    for axis in AXES:
        for number, precision in enumerate(precisions):
            one = base[precision]
            values = extent.values[axis] or _doubled(one.threads)
            for value in values if extent.every_precision or number == 0 else values[:1]:
                if axis == "length" or extent.every_precision or number == 0:
                    found.append((axis, value, _at(one, axis, value, config)))
    return found


def _at(point: Point, axis: str, value: float, config: Config) -> Point:
    if axis == "length":
        return replace(point, frames=_frames(config, value))
    if axis == "channels":
        return replace(point, channels=None if value == config.residual_channels else int(value))
    if axis == "threads":
        return replace(point, threads=int(value))
    return replace(point, items=int(value)) if axis == "batch" else replace(point, steps=int(value))


def _doubled(most: int) -> list[float]:
    values = [2.0**n for n in range(most.bit_length()) if 2**n < most]
    return [*values, float(most)]


def _frames(config: Config, seconds: float) -> int:
    return max(1, round(seconds * config.sample_rate / config.hop))


def _accuracy(model: str | None, threads: int, frames: int, precisions: Sequence[str]) -> list[dict[str, Any]]:
    """Each precision's audio against that of fp32, from the same noise."""
    audio = {}
    for precision in ("fp32", *(p for p in precisions if p != "fp32")):
        voice = engine.load(model, device="cpu", precision=precision, threads=threads)
        audio[precision] = voice.vocode(mel_of(voice.config, frames), seed=SEED)
    return [{"precision": p, "snr_db": snr(audio["fp32"], one)} for p, one in audio.items() if p != "fp32"]


def _name(point: Point, config: Config) -> str:
    size = f"{point.items} x {point.frames * config.hop / config.sample_rate:.3g} s, {point.steps} steps"
    return f"{point.precision}, {size}, {point.threads} threads, C={point.channels or config.residual_channels}"


def _whose(model: str | None) -> str:
    return "the bundled voice" if model is None else "a network of the user's"
