"""The model of one launch: counts of a compiled program, and the time that a GPU takes for all of its programs.

A launch takes as long as the busiest resource of the busiest multiprocessor, or as memory, whichever is longer, plus
the latencies of its first programs. The next launch begins after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gpu.specs import ISSUE_SLOTS, SHARED_BYTES, SPECIAL_LANES, Gpu, assumed
from engine.kernels.triton.build import Kernel
from tests.gpu.machine_code import MULTIPROCESSORS, machine_code
from tests.gpu.ptx.counters import Counters


@dataclass(frozen=True)
class Cost:
    """The counts of one program of a kernel.

    Attributes:
        flops: operations on tensor cores.
        instructions: instructions that its warps issue.
        special: results of the special-function unit.
        floats: results of fp32 arithmetic.
        shared: wavefronts of shared memory, one clock each, bank conflicts included.
        l2: bytes between the multiprocessor and the second-level cache.
        resident: programs on a multiprocessor at a time.
        rows: samples of a program.
        panels: programs per tile and layer.
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
        cost: cost of a program.
        programs: number of programs.
        streamed: bytes that always pass between the L2 and device memory.
        kept: bytes that pass between them unless they are still in the L2.
        footprint: bytes that are touched before those in `kept` are needed again.
    """

    cost: Cost
    programs: int
    streamed: float
    kept: float
    footprint: float


def cost_of(kernel: Kernel, capability: int, counters: Counters, programs: int, flops: float) -> Cost:
    """Return the counts of one program.

    Args:
        kernel: the executed kernel.
        capability: compute capability for which the kernel was compiled.
        counters: counts of all executed programs.
        programs: number of executed programs.
        flops: operations of one program on tensor cores.
    """
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
    """Return the time of one launch and the name of the resource that bounds it."""
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
    return times[bound] + chain, bound  # no other program hides the latencies of the first ones
