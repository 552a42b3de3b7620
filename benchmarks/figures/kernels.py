"""Measured gains of the levels of the residual block, for docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.committed import EAGER, MACHINES, Machine, Row, before_winograd, caveats, comparison, load, speed
from benchmarks.figures.gpu import GPU
from benchmarks.figures.machines import CASE
from benchmarks.figures.markdown import bullets, table

# The run before fp32 took Winograd, the one after it, and a processor without a dot product of int8.
DIRECT, WINOGRAD, AVX2 = Machine("epyc-zen4-2-cores-direct", "Zen 4"), MACHINES["zen4"], MACHINES["zen3"]
GRAPH, OWN = "PyTorch fp16, CUDA graph", "this engine, fp16"


def fused() -> str:
    """Return the gain of the fused fp32 kernel over PyTorch."""
    return _gain(DIRECT, "fp32", EAGER)


def bf16() -> str:
    """Return the gain of bf16 over fp32 in the same run, both by direct convolution."""
    return _gain(DIRECT, "bf16", "fp32")


def int8() -> str:
    """Return the gain of int8 over bf16 on the same processor."""
    return _gain(WINOGRAD, "int8", "bf16")


def winograd_fp32() -> str:
    """Return the speed of fp32 by Winograd, and the shares of the peak before and after."""
    row, direct = _rows(WINOGRAD)["fp32"], _rows(DIRECT)["fp32"]
    return (
        f"{speed(row):.2f}x real time, {_share(row)} of the peak, which was {_share(direct)} by direct convolution in "
        f"another run ({WINOGRAD.name})"
    )


def winograd_int8() -> str:
    """Return the gain of int8 by Winograd over fp32 on a processor with AVX2 without VNNI."""
    return _gain(AVX2, "int8", "fp32")


def triton() -> str:
    """Return the gain of the Triton kernels over PyTorch in a CUDA graph."""
    rows = {row["contender"]: row for row in load(GPU)["gpu_duels"][0]["rows"]}
    engine_row, graph_row = rows[OWN], rows[GRAPH]
    ratio = graph_row["measured_seconds"]["p50"] / engine_row["measured_seconds"]["p50"]
    return f"{engine_row['times_real_time']:.0f}x real time, {ratio:.1f} times PyTorch fp16 in a CUDA graph (H100)"


LEVELS: dict[str, tuple[str, Callable[[], str]]] = {
    "fused": ("Fused rows and register tiles, fp32", fused),
    "bf16": ("bf16", bf16),
    "winograd-fp32": ("Winograd, fp32", winograd_fp32),
    "int8": ("int8", int8),
    "winograd-int8": ("Winograd in int8, AVX2", winograd_int8),
    "triton": ("Triton, fp16", triton),
}


def levels() -> str:
    """Return every level with its measured gain."""
    links = ", ".join(f"[{name}](benchmarks/results/{file}.json)" for name, file in _sources())
    notes = [
        f"Whole `vocode` calls of BASE in 6 steps, {CASE} of audio on two CPU cores, 5 s on the GPU. Results: {links}.",
        "Share of peak: residual-layer MAC/s of the direct convolution, divided by the measured peak.",
    ]
    for name, file in _sources():
        if short := [caveat.short for caveat in caveats(load(file))]:
            notes.append(f"{name}: {'; '.join(short)}.")
    body = table(("level", "measured"), [(name, gain()) for name, gain in LEVELS.values()], "ll")
    return "\n\n".join([body, bullets(notes)])


def _sources() -> list[tuple[str, str]]:
    runs = [(WINOGRAD.name, WINOGRAD), (f"{DIRECT.name} before Winograd", DIRECT), (AVX2.name, AVX2)]
    return [(name, machine.file) for name, machine in runs] + [("H100", GPU)]


def _rows(machine: Machine) -> dict[str, Row]:
    return comparison(load(machine.file), CASE)


def _gain(machine: Machine, name: str, base: str) -> str:
    rows = _rows(machine)
    ratio = speed(rows[name]) / speed(rows[base])
    of_base = f"{ratio:.1f} times {'PyTorch' if base == EAGER else base}"
    direct = ", direct convolution" if name == "fp32" and before_winograd(load(machine.file)) else ""
    return f"{speed(rows[name]):.2f}x real time, {of_base}, {_share(rows[name])} of the peak ({machine.name}{direct})"


def _share(row: Row) -> str:
    return f"{row['share_of_peak']['p50']:.0%}"
