"""Curves of time, speed and memory over the length of the audio, threads, batch size, steps and channels.

Points that would take too long are left out and named.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import engine
from engine.audio.metrics import snr
from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint
from engine.cli.bench.figures import BUSY, FLAG_ROUNDS, disturbed
from engine.cli.bench.machine import cores, environment, load_average
from engine.cli.bench.point import Point, Row, check, in_fresh_process, mel_of
from engine.config import Config
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, UnavailableError
from engine.kernels import registry

SEED = 1
OVERHEAD = 0.6  # seconds of a point besides its calls: starting a process, packing weights, a first call
SLOWER = 2.0  # the time of a precision is at most about this multiple of the next faster one's
AXES = ("length", "threads", "batch", "steps", "channels")
Measure = Callable[[Point, int, float], Row]


@dataclass(frozen=True)
class Extent:
    """The points to measure, and the time for them.

    Attributes:
        values: per axis: seconds, threads (empty for 1, 2, 4, ... all), items, steps, channels. All axes but the
            length use audio of the first length, and all but the steps one number of steps.
        every_precision: whether every precision is measured on every axis. Otherwise the fastest is, and one point of
            each other precision.
        call_seconds: the most seconds of one call.
        total_seconds: the most seconds of the whole measurement.
        rounds: the most calls of a point; the first point of each precision has as many.
        repeat_seconds: the most seconds of all calls of a point after its first.
        peak_seconds: the duration of each measurement of the peak.
    """

    values: Mapping[str, Sequence[float]]
    every_precision: bool
    call_seconds: float
    total_seconds: float
    rounds: int
    repeat_seconds: float
    peak_seconds: float


_ALL: dict[str, Sequence[float]] = {
    "length": (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    "threads": (),
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "steps": (1, 2, 3, 4, 5, 6, 12, 25, 50, 100, 200),
    "channels": (32, 64, 128, 256),
}
_FEW: dict[str, Sequence[float]] = {
    "length": (0.25, 0.5, 1),
    "threads": (),
    "batch": (1, 4),
    "steps": (3, 6),
    "channels": (32, 64),
}
QUICK = Extent(_FEW, False, 2.0, 14.0, FLAG_ROUNDS, math.inf, 0.05)
DEFAULT = Extent(_ALL, True, 4.0, 90.0, FLAG_ROUNDS, 4.0, 0.1)
THOROUGH = Extent(_ALL, True, math.inf, math.inf, 5, 20.0, 0.2)


def measure_curves(
    extent: Extent,
    model: str | None = None,
    threads: int | None = None,
    progress: Callable[[float], None] | None = None,
    measure: Measure | None = None,
    precisions: Sequence[str] = registry.CPU_PRECISIONS,
    steps: int | str = "fast",
    isa: str | None = None,
) -> dict[str, Any]:
    """Measure the curves of all precisions, and their SNR.

    Args:
        extent: the points, and the time for them.
        model: a checkpoint or a bundled network; None for the voice.
        threads: the most threads; None for all processors.
        progress: called with the fraction done.
        measure: measures one point; None for `in_fresh_process`.
        precisions: those to measure.
        steps: of all points that are not on the axis of the steps, see `Voice.vocode`.
        isa: the instruction set; None for the best of this processor.

    Returns:
        A result file: the rows of the curves, each precision's SNR, and the points left out with the reasons.

    Raises:
        CheckpointError: the model cannot be loaded.
        InputError: the model cannot be measured, has no schedule of so many steps, or the instruction set is unknown.
        UnavailableError: no precision can be measured on this machine.
    """
    measure = measure or in_fresh_process
    load, begin = load_average(), time.perf_counter()
    config = load_checkpoint(path_of(model)).config
    check(config)
    count = len(build_schedule(config, steps))
    threads = cores() if threads is None else threads
    rows: dict[Point, Row] = {}
    left_out: dict[str, str] = {}
    frames = _frames(config, extent.values["length"][0])
    point = Point("", threads, frames, steps=count, model=model, isa=isa)
    base = {p: replace(point, precision=p) for p in registry.CPU_PRECISIONS if p in precisions}
    rates: dict[str, float] = {}
    estimate = 0.0
    for precision, point in base.items():
        left = extent.total_seconds - (time.perf_counter() - begin) - OVERHEAD
        if rates and extent.rounds * estimate > left:
            left_out[precision] = f"about {estimate:.0f} s a call; {_TOO_LONG}"
            continue
        try:
            rows[point] = measure(point, extent.rounds, extent.peak_seconds)
            rates[precision] = point.work(config) / threads / rows[point]["seconds"]["p50"]
            estimate = SLOWER * rows[point]["seconds"]["p50"]
        except (UnavailableError, CheckpointError) as error:
            left_out[precision] = str(error)
    if not rates:
        raise UnavailableError(next(iter(left_out.values())))
    places = [place for place in _places(extent, config, base, list(rates)) if place[2].precision in rates]

    def cost(point: Point) -> float:
        return point.work(config) / point.threads / rates[point.precision]

    too_long = []
    points = sorted({point for *_, point in places} - set(rows), key=cost)
    for number, point in enumerate(points, start=1):
        estimate, left = cost(point), extent.total_seconds - (time.perf_counter() - begin) - OVERHEAD
        rounds = max(1, int(min(extent.rounds, extent.repeat_seconds / estimate)))
        if estimate > extent.call_seconds or rounds * estimate > left:
            too_long.append(point)
            continue
        try:
            rows[point] = measure(point, rounds, extent.peak_seconds)
        except (UnavailableError, CheckpointError) as error:
            left_out[_name(point, config)] = str(error)
        if progress is not None:
            progress(sum(map(cost, points[:number])) / sum(map(cost, points)))
    for point in too_long:
        left_out[_name(point, config)] = f"about {cost(point):.0f} s a call; {_TOO_LONG}"
    about = environment(load)
    return {
        **about,
        "isa": isa or about["machine"]["tiers"][-1],
        "network": f"C={config.residual_channels} N={config.residual_layers}, {_origin(model)}",
        "steps": count,
        "threads": threads,
        "curves": [{"axis": axis, "value": value, **rows[point]} for axis, value, point in places if point in rows],
        "accuracy": _accuracy(model, threads, frames, list(rates), count, isa),
        "left_out": left_out,
    }


def lines(results: Mapping[str, Any]) -> list[str]:
    """Return the table for the terminal.

    Args:
        results: the return value of `measure_curves`.
    """
    machine, versions = results["machine"], results["versions"]
    accuracy = [f"{entry['precision']} {entry['snr_db']:.0f} dB" for entry in results["accuracy"]]
    table = [
        f"{results['network']}, {results['steps']} steps, on {machine['cpu']} ({results['isa']}), "
        f"{machine['cores']} cores, load at start {' '.join(map(str, machine['load_at_start']))}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"clock: {results['clock']}",
        f"SNR against fp32: {', '.join(accuracy) or 'no other precision'}",
    ]
    if disturbed(results):
        table.append(BUSY)
    for axis in AXES:
        rows = [row for row in results["curves"] if row["axis"] == axis]
        if rows:
            table += [
                "",
                _line(_UNITS[axis], "precision", "steps", "seconds", "RTF", "x real time", "share", "peak", "memory"),
            ]
            table += [_line(*_cells(row)) for row in rows]
    table += [
        "",
        "share: residual-layer multiply-accumulates per second, divided by the peak measured next to each call.",
        "They are those of the direct convolution, so Winograd's savings count as speed. peak: in GFLOP/s.",
    ]
    too_long = [name for name, reason in results["left_out"].items() if reason.endswith(_TOO_LONG)]
    table += [f"left out: {name}: {reason}" for name, reason in results["left_out"].items() if name not in too_long]
    return table + (
        [f"left out: {len(too_long)} points that take too long; pass --thorough to measure them"] if too_long else []
    )


_TOO_LONG = "pass --thorough to measure it"
_UNITS = {"length": "seconds", "threads": "threads", "batch": "items", "steps": "steps", "channels": "channels"}


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row['value']:g}",
        row["precision"],
        f"{row['steps']}",
        f"{row['seconds']['p50']:.3f}",
        f"{row['rtf']['p50']:.3f}",
        f"{1 / row['rtf']['p50']:.2f}",
        f"{row['share_of_peak']['p50']:.0%}",
        f"{row['peak_gflops']['p50']:.0f}",
        f"{row['memory_bytes'] / 2**20:.0f} MiB",
    )


def _line(*cells: str) -> str:
    return f"{cells[0]:>9}  {cells[1]:<10}{cells[2]:>6}" + "".join(f"{cell:>12}" for cell in cells[3:])


def _places(
    extent: Extent, config: Config, base: Mapping[str, Point], precisions: Sequence[str]
) -> list[tuple[str, float, Point]]:
    """Return the points of every axis as (axis, value, point); a point on several axes is measured once."""
    places = []
    for axis in AXES:
        for number, precision in enumerate(precisions):
            point = base[precision]
            values = extent.values[axis] or _doubled(point.threads)
            for value in values if extent.every_precision or number == 0 else values[:1]:
                if axis == "length" or extent.every_precision or number == 0:
                    places.append((axis, value, _point_on(axis, value, point, config)))
    return places


def _point_on(axis: str, value: float, point: Point, config: Config) -> Point:
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


def _accuracy(
    model: str | None, threads: int, frames: int, precisions: Sequence[str], steps: int, isa: str | None = None
) -> list[dict[str, Any]]:
    """Return the SNR of each precision's audio against that of fp32, from the same noise."""
    audio = {}
    for precision in ("fp32", *(p for p in precisions if p != "fp32")):
        tier = None if precision == "fp32" else isa
        voice = engine.load(model, device="cpu", precision=precision, threads=threads, isa=tier)
        audio[precision] = voice.vocode(mel_of(voice.config, frames), steps=steps, seed=SEED)
    return [{"precision": p, "snr_db": snr(audio["fp32"], samples)} for p, samples in audio.items() if p != "fp32"]


def _name(point: Point, config: Config) -> str:
    size = f"{point.items} x {point.frames * config.hop / config.sample_rate:.3g} s, {point.steps} steps"
    return f"{point.precision}, {size}, {point.threads} threads, C={point.channels or config.residual_channels}"


def _origin(model: str | None) -> str:
    return "the bundled voice" if model is None else "a network of the user's"
