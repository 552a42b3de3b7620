"""A model of GPUs for the kernels as compiled: what `vocode` would take. Everything it says is predicted.

python -m benchmarks.gpu.roofline [--output FILE.json] [--plot FILE.svg]

Instructions, bytes and bank conflicts of a program are counted by executing its PTX (tests/gpu/ptx); registers and
shared memory are read from its machine code. A launch takes as long as the busiest resource of the busiest
multiprocessor or as memory, whichever is longest, and the latencies of its first programs; then comes the next one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton

from benchmarks.gpu.specs import ASSUMPTIONS, GPUS, ISSUE_SLOTS, SHARED_BYTES, SPECIAL_LANES, Gpu, assumed
from benchmarks.paths import ROOT
from engine.cli.bench.machine import commit
from engine.config import BASE, LARGE, Config
from engine.kernels.gpu import GpuNetwork
from engine.kernels.launch import Launch
from engine.kernels.triton.build import Kernel
from engine.sampling.gpu.loop import PLAN_BYTES
from engine.sampling.gpu.plan import conditioner_launches, step_launches
from tests.gpu.devices import SimulatedDevice, compile_once, program_of
from tests.gpu.machine_code import MULTIPROCESSORS, machine_code
from tests.gpu.ptx.counters import Counters
from tests.support.networks import random_network

VERSION = 1
STEPS = 6
CELLS = ((1, 1.0), (1, 5.0), (1, 10.0), (4, 5.0), (16, 5.0))  # items, seconds of each
SAMPLE = 1024  # rows that are executed for counting: sixteen programs, most of them without an end of the audio
NETWORKS = {"BASE": BASE, "LARGE": LARGE}
PAPER = (("BASE, 6 steps", 5.6), ("LARGE, 6 steps", 3.5), ("BASE, 20 steps", 2.1))  # x real time, V100, measured by it
# What a published program measured on an H100: a bf16 product of 8192 x 8192 x 8192, and a copy, read and written.
PUBLISHED = {"product": (790.0, "TFLOP/s"), "copy": (3.0, "TB/s")}


@dataclass(frozen=True)
class Cost:
    """Of one program of a kernel.

    Attributes:
        flops: on tensor cores.
        instructions: that its warps issue.
        special: results of the special-function unit. floats: of fp32 arithmetic.
        shared: wavefronts of shared memory, a clock each, bank conflicts included.
        l2: bytes between the multiprocessor and the second-level cache.
        resident: programs on a multiprocessor at a time.
        rows: samples of a program. panels: programs of one tile and layer.
    """

    flops: float
    instructions: float
    special: float
    floats: float
    shared: float
    l2: float
    resident: int
    rows: int = 1
    panels: int = 1


@dataclass(frozen=True)
class Work:
    """One launch.

    Attributes:
        cost: of a program. programs: how many.
        streamed: bytes that pass to or from device memory in any case.
        kept: bytes that do unless they are still in the L2.
        footprint: bytes that are touched until those come by again.
    """

    cost: Cost
    programs: int
    streamed: float
    kept: float
    footprint: float


def cost_of(kernel: Kernel, capability: int, counters: Counters, programs: int, flops: float) -> Cost:
    """Counts of `programs` executed programs, for one."""
    code = machine_code(kernel, capability)
    memory = sum(32 * traffic.units for traffic in counters.global_memory.values())
    shared = sum(traffic.units for traffic in counters.shared_memory.values())
    return Cost(
        flops,
        counters.instructions / programs,
        32 * counters.classes["mufu"] / programs,
        32 * counters.classes["float"] / programs,
        shared / programs,
        memory / programs,
        MULTIPROCESSORS[capability].programs(code),
    )


def launch_seconds(gpu: Gpu, work: Work) -> tuple[float, str]:
    """How long one launch takes, and what it waits for."""
    cost, clock = work.cost, 1e9 * gpu.ghz * assumed("pipe_efficiency")
    busiest = -(-work.programs // gpu.multiprocessors)
    tensor = 1e12 * gpu.tensor_tflops / gpu.multiprocessors * assumed("pipe_efficiency")
    dram, l2 = 1e9 * gpu.dram_gbytes * assumed("dram_efficiency"), 1e9 * gpu.l2_gbytes * assumed("l2_efficiency")
    hits = min(1.0, assumed("l2_residency") * 1e6 * gpu.l2_mbytes / max(work.footprint, 1.0))
    chain = 1e-6 * assumed("memory_latency_us") * assumed("dependent_accesses")
    times = {
        "tensor cores": busiest * cost.flops / tensor,
        "issue": busiest * cost.instructions / ISSUE_SLOTS / clock,
        "special functions": busiest * cost.special / SPECIAL_LANES / clock,
        "fp32": busiest * cost.floats / gpu.fp32_lanes / clock,
        "shared memory": busiest * cost.shared * 128 / SHARED_BYTES / clock,
        "L2": work.programs * cost.l2 / l2,
        "device memory": (work.streamed + (1.0 - hits) * work.kept) / dram,
        "latency": (-(-busiest // cost.resident) - 1) * chain,
    }
    bound = max(times, key=lambda name: times[name])
    return times[bound] + chain, bound  # the first programs have nothing to hide their latencies behind


class CountingDevice(SimulatedDevice):
    """Executes every kernel once and keeps its counts per program."""

    def __init__(self, capability: int) -> None:
        super().__init__(capability, checks=False)
        self.costs: dict[Kernel, Counters] = {}

    def compiled(self, launch: Launch) -> Any:
        """A call that executes and counts."""
        counters = self.costs.setdefault(launch.kernel, Counters())
        compiled = compile_once(launch.kernel, self.capability)
        return lambda: self.machine.launch(
            program_of(compiled.asm["ptx"]),
            launch.grid,
            32 * launch.kernel.warps,
            launch.arguments,
            shared_bytes=compiled.metadata.shared,
            checks=False,
            counters=counters,
        )


@cache
def counted(name: str, capability: int, precision: str) -> dict[str, Cost]:
    """The cost of a program of each of a network's kernels, by operation; the second layer stands for all."""
    config = replace(NETWORKS[name], residual_layers=2)
    device = CountingDevice(capability)
    net = GpuNetwork(config, random_network(config, 1), device, precision)
    to = net.buffers(1, SAMPLE, 1, False)
    for tensor, value in ((to.lengths, SAMPLE), (to.seeds, 1), (to.begins, 0), (to.noise_steps, 1), (to.terms, 0.5)):
        device.fill(tensor, torch.full(tensor.shape, value))
    for tensor in (to.mel, to.rows, to.x, *to.h, to.skip, to.conditioner):
        device.fill(tensor, torch.zeros(tensor.shape))
    found = {}
    for launch in [*conditioner_launches(net, to), *step_launches(net, to, 1)]:
        device.costs.pop(launch.kernel, None)
        device.bind(launch)()
        programs = int(np.prod(launch.grid))
        layers = config.residual_layers if launch.kernel.name == "project_conditioner" else 1
        flops = operation_flops(config, launch.kernel) * layers / programs * SAMPLE
        cost = cost_of(launch.kernel, capability, device.costs[launch.kernel], programs, flops)
        found[launch.kernel.name] = replace(cost, rows=SAMPLE // launch.grid[0], panels=launch.grid[1] // layers)
    return found


def operation_flops(config: Config, kernel: Kernel) -> float:
    """On tensor cores, of a sample and, for the residual block and the conditioner, a layer."""
    C = config.residual_channels
    each = {"residual_block": 16 * C * C, "project_conditioner": 4 * C * config.n_mels, "output_head": 2 * C * C}
    return float(each.get(kernel.name, 0))


def vocode_work(name: str, capability: int, precision: str, items: int, samples: int) -> list[tuple[Work, int]]:
    """Every launch of a call, and how often."""
    config, costs = NETWORKS[name], counted(name, capability, precision)
    C, N, size = config.residual_channels, config.residual_layers, 2 if precision in ("fp16", "bf16") else 4
    rows = items * samples
    row, bands = float(size * C * rows), 16 * -(-config.n_mels // 16)
    weights = 8.0 * size * C * C

    def work(operation: str, streamed: float, kept: float, footprint: float, layers: int = 1) -> Work:
        cost = costs[operation]
        programs = items * -(-samples // cost.rows) * cost.panels * layers
        return Work(cost, programs, streamed, kept, footprint)

    up = size * bands * rows
    # A layer reads h and the skip sum and writes both; besides these three rows its conditioner passes through the L2.
    block = work("residual_block", 2 * row + weights, 4 * row, 5 * row)
    return [
        (work("upsample_mel", 0.0, up, up), len(config.upsample_strides)),
        (work("project_conditioner", 2 * row * N, up, up), 1),
        (work("input_projection", 0.0, 4.0 * rows + row, 2 * row), STEPS),
        (block, STEPS * N),
        (work("output_head", 0.0, row + 8.0 * rows, 2 * row), STEPS),
    ]


def plans(name: str, precision: str, items: int, samples: int) -> list[int]:
    """How many items each plan of a call takes: buffers are bounded."""
    config, size = NETWORKS[name], 2 if precision in ("fp16", "bf16") else 4
    C, bands = config.residual_channels, 16 * -(-config.n_mels // 16)
    per_sample = size * (3 * C + 2 * C * config.residual_layers + bands) + 4 * (bands + 8)
    most = max(1, PLAN_BYTES // (per_sample * samples))
    return [most] * (items // most) + [items % most] * (items % most > 0)


def predict(gpu: Gpu, name: str, items: int, seconds: float, precision: str = "fp16") -> dict[str, Any]:
    """One row: predicted seconds of a call, beside its floors."""
    config = NETWORKS[name]
    samples = round(seconds * config.sample_rate)
    total, launches, bound = 0.0, 0, {}
    for part in plans(name, precision, items, samples):
        for work, times in vocode_work(name, gpu.capability, precision, part, samples):
            each, why = launch_seconds(gpu, work)
            total += times * each
            launches += times
            bound[why] = bound.get(why, 0.0) + times * each
    gaps = launches * 1e-6 * gpu.launch_us
    audio = items * samples / config.sample_rate
    layers = config.residual_layers * STEPS * items * samples
    C, size = config.residual_channels, 2 if precision in ("fp16", "bf16") else 4
    return {
        "predicted": True,
        "gpu": gpu.name,
        "network": name,
        "precision": precision,
        "steps": STEPS,
        "items": items,
        "seconds": seconds,
        "predicted_seconds": total + gaps,
        "rtf": (total + gaps) / audio,
        "times_real_time": audio / (total + gaps),
        "floor_arithmetic_seconds": 16.0 * C * C * layers / gpu.tensor_tflops / 1e12,
        "floor_conditioner_seconds": 2.0 * C * size * layers / gpu.dram_gbytes / 1e9,
        "launch_share": gaps / (total + gaps),
        "bound": max(bound, key=lambda why: bound[why]),
    }


def validation(gpu: Gpu) -> list[dict[str, Any]]:
    """The same model on a large product and on a copy, beside what was published for them."""
    from benchmarks.gpu.probes import copy_work, product_work

    rows = []
    for name, (work, amount) in {"product": product_work(gpu.capability), "copy": copy_work(gpu.capability)}.items():
        seconds, bound = launch_seconds(gpu, work)
        published, unit = PUBLISHED[name]
        rate = amount / (seconds + 1e-6 * gpu.launch_us) / 1e12
        rows.append(
            {"gpu": gpu.name, "what": name, "predicted": rate, "published": published, "unit": unit, "bound": bound}
        )
    return rows


def results() -> dict[str, Any]:
    """All of it, as it is written to JSON."""
    rows = [predict(gpu, "BASE", *cell) for gpu in GPUS for cell in CELLS]
    rows += [predict(gpu, "LARGE", 1, 5.0) for gpu in GPUS]
    return {
        "version": VERSION,
        "kind": "predicted",
        "commit": commit(),
        "triton": triton.__version__,
        "assumptions": [{"name": n, "value": v, "source": why} for n, (v, why) in ASSUMPTIONS.items()],
        "gpus": [vars(gpu) for gpu in GPUS],
        "validation": validation(next(gpu for gpu in GPUS if gpu.name == "H100")),
        "rows": rows,
        "paper": [{"what": what, "gpu": "V100", "times_real_time": x, "measured_by": "the paper"} for what, x in PAPER],
    }


def measured() -> list[dict[str, Any]]:
    """What real GPUs took, of the committed results."""
    rows: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "results" / "h100.json").read_text())["gpu"]
    return rows


def table(found: dict[str, Any]) -> list[str]:
    """For the terminal, and for the page."""
    lines = ["PREDICTED real-time factors", ""]
    head = ("GPU", "network", "audio", "predicted ms", "x real time", "floor ms", "launches", "bound by")
    lines += ["| " + " | ".join(head) + " |", "|---|---|---|---:|---:|---:|---:|---|"]
    for row in found["rows"]:
        floor = 1e3 * max(row["floor_arithmetic_seconds"], row["floor_conditioner_seconds"])
        cells = (
            row["gpu"],
            row["network"],
            f"{row['items']} x {row['seconds']:g} s",
            f"{1e3 * row['predicted_seconds']:.2f}",
            f"{row['times_real_time']:.0f}",
            f"{floor:.2f}",
            f"{row['launch_share']:.0%}",
            row["bound"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for one in found["validation"]:
        lines.append(
            f"The same model on an {one['gpu']}: {one['what']} {one['predicted']:.3g} {one['unit']}, "
            f"published {one['published']:g}."
        )
    lines += [
        f"{one['what']} on a V100: {one['times_real_time']}x real time, measured by the paper."
        for one in found["paper"]
    ]
    lines += [f"Assumed: {one['name']} {one['value']:g}: {one['source']}." for one in found["assumptions"]]
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args(argv)
    found = results()
    print("\n".join(table(found)))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.plot:
        from benchmarks.gpu.plot import svg

        arguments.plot.write_text(svg(found, measured()))


if __name__ == "__main__":
    main()
