"""What wgmma reads from a tile whose start is shifted, and how fast: the launches of wgmma_probe.cu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.kernels.cuda.build import CudaKernel
from engine.kernels.hopper.stack import CAPABILITY, ISA

COLUMNS, DEPTH, ROWS = 128, 64, 144  # as in wgmma_probe.cu
SHIFTS = (0, 1, 2, 3, 4, 7, 8, 12)  # rows
ROUNDS = 2000
RIGHT = 1e-3  # absolute error of a sum of 64 products of values up to 1
IDEAL = COLUMNS / 2  # clocks of an m64n128k16
SHARED = 64 * DEPTH * 2 + ROWS * 128 + 4096  # bytes


@dataclass(frozen=True)
class ProbeKernel(CudaKernel):
    """The kernel of wgmma_probe.cu, a file of the benchmarks."""

    def source(self) -> str:
        """See `CudaKernel.source`."""
        return Path(__file__).with_suffix(".cu").read_text()


def probe_kernel(groups: int, timed: bool = True) -> ProbeKernel:
    """Return the kernel for 1 or 2 warpgroups a block; without clocks for an interpreter."""
    return ProbeKernel("wgmma_probe", "", ISA, (("TIMED", 1),) if timed else (), 128 * groups, SHARED)


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights [64,DEPTH] and samples [ROWS,DEPTH] in fp16, between -1 and 1."""
    generator = torch.Generator().manual_seed(0)
    return tuple((2 * torch.rand(rows, DEPTH, generator=generator) - 1).half() for rows in (64, ROWS))  # type: ignore[return-value]


def worst_error(weights: torch.Tensor, samples: torch.Tensor, shift: int, result: torch.Tensor) -> float:
    """Return the largest error of a result [64,COLUMNS] against float64; infinite if a value is missing."""
    expected = weights.double() @ samples[shift : shift + COLUMNS].double().T
    error = (result.double() - expected).abs().max()
    return float(error) if torch.isfinite(error) else float("inf")


def cases() -> list[tuple[bool, int, int]]:
    """Return (swizzled, shift, warpgroups) of every launch."""
    return [(swizzled, shift, groups) for swizzled in (False, True) for shift in SHIFTS for groups in (1, 2)]


def run(report: Callable[[dict[str, Any]], None]) -> None:
    """Run every case on the current GPU, and report each as soon as it is known."""
    from engine.kernels.device import Function

    blocks = torch.cuda.get_device_properties(0).multi_processor_count
    functions = {
        groups: Function(kernel, kernel.compile(CAPABILITY).asm["cubin"])
        for groups, kernel in ((groups, probe_kernel(groups)) for groups in (1, 2))
    }
    on_host = operands()
    weights, samples = (values.cuda() for values in on_host)
    for swizzled, shift, groups in cases():
        result = torch.full((64, COLUMNS), torch.nan, device="cuda")
        clocks = torch.zeros(blocks, dtype=torch.int64, device="cuda")
        torch.cuda.synchronize()  # `Function` lets a kernel begin before the one before it has ended
        functions[groups][blocks, 1, 1](weights, samples, result, clocks, shift, int(swizzled), ROUNDS)
        torch.cuda.synchronize()
        error = worst_error(*on_host, shift, result.cpu())
        report(
            {
                "layout": "128-byte swizzle" if swizzled else "no swizzle",
                "shift": shift,
                "warpgroups": groups,
                "worst_error": error,
                "right": error < RIGHT,
                "clocks": float(clocks.double().median()) / ROUNDS / (DEPTH / 16) / groups,
                "ideal_clocks": IDEAL,
            }
        )
