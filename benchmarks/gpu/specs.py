"""The GPUs that `roofline.py` models: datasheet figures and assumptions, each with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One card.

    Attributes:
        name: NVIDIA's name of the card, without "NVIDIA".
        capability: compute capability for which kernels are compiled.
        multiprocessors: number of multiprocessors.
        ghz: boost clock, for which the datasheet's rates hold.
        tensor_tflops: rate of dense products in fp16 or bf16 with fp32 sums.
        dram_gbytes: bandwidth of device memory in 1e9 bytes per second.
        l2_mbytes: size of the second-level cache in 1e6 bytes.
        l2_gbytes: read bandwidth of that cache in 1e9 bytes per second, an assumption. A100: 5120 bytes per clock, the
            whitepaper's peak; H100: the same per clock, microbenchmarks range from 5700 up; RTX 4090: microbenchmarks;
            L4: scaled in proportion.
        fp32_lanes: fp32 results per clock and multiprocessor.
        launch_us: microseconds from the end of one kernel to the first instruction of the next inside a CUDA graph, an
            assumption; published traces show 1 to 2.
        source: source of the datasheet's figures.
    """

    name: str
    capability: int
    multiprocessors: int
    ghz: float
    tensor_tflops: float
    dram_gbytes: float
    l2_mbytes: float
    l2_gbytes: float
    fp32_lanes: int
    launch_us: float
    source: str


GPUS = (
    Gpu("A100", 80, 108, 1.41, 312, 2039, 40, 7219, 64, 1.6, "NVIDIA A100 80GB SXM datasheet; GA100 whitepaper"),
    Gpu("H100", 90, 132, 1.83, 989, 3350, 50, 9370, 128, 1.3, "NVIDIA H100 SXM datasheet; GH100 whitepaper"),
    Gpu("RTX 4090", 89, 128, 2.52, 165.2, 1008, 72, 5000, 128, 1.3, "NVIDIA Ada architecture whitepaper, appendix A"),
    Gpu("L4", 89, 58, 2.04, 121, 300, 48, 2000, 128, 1.5, "NVIDIA L4 datasheet (half of its figure with sparsity)"),
)

# Per clock and multiprocessor, the same for all of these (CUDA C++ programming guide, arithmetic instructions).
ISSUE_SLOTS = 4
SPECIAL_LANES = 16
SHARED_BYTES = 128

# Assumptions by name: value and source. They hold for every kernel.
ASSUMPTIONS = {
    "pipe_efficiency": (
        0.85,
        "no pipe is busy all the time, and clocks drop under load; large products reach 0.8 of the datasheet",
    ),
    "dram_efficiency": (0.9, "published copies: 3.0 of 3.35 TB/s on an H100, 1.8 of 2.04 on an A100"),
    "l2_efficiency": (0.9, "as for device memory; a guess, 0.6 to 0.9"),
    "l2_residency": (
        0.7,
        "share of the L2 in which data of one launch, rows and conditioner, stays for the next; a guess",
    ),
    "memory_latency_us": (0.6, "one dependent access to device memory under load; microbenchmarks, 0.4 to 0.8"),
    "dependent_accesses": (
        4,
        "accesses of a program one after the other: its length, the first rows, the conditioner, the skip sum",
    ),
}


def assumed(name: str) -> float:
    """Return the value of an assumption."""
    return float(ASSUMPTIONS[name][0])
