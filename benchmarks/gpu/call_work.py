"""The launches of a whole call, with counts from executing the PTX of its kernels (tests/gpu/ptx)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.launch_model import Cost, Work, cost_of
from engine.config import BASE, LARGE, Config
from engine.kernels.cuda.groups import padded_bands
from engine.kernels.gpu import GpuNetwork
from engine.kernels.launch import Launch
from engine.kernels.triton.build import Kernel
from engine.sampling.gpu.loop import PLAN_BYTES
from tests.gpu.devices import SimulatedDevice, compile_once, program_of
from tests.gpu.ptx.counters import Counters
from tests.support.networks import random_network

STEPS = 6
SAMPLE = 1024  # rows executed for counting: sixteen programs, most of them without an end of the audio
NETWORKS = {"BASE": BASE, "LARGE": LARGE}


class CountingDevice(SimulatedDevice):
    """A device that executes kernels and keeps the counts of each."""

    def __init__(self, capability: int) -> None:
        super().__init__(capability, checks=False)
        self.costs: dict[Kernel, Counters] = {}

    def compiled(self, launch: Launch) -> Any:
        """Return a call that executes a launch and counts it."""
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
def program_costs(name: str, capability: int, precision: str) -> dict[str, Cost]:
    """Return the cost of a program of each kernel of a network, by operation; the second layer stands for all.

    Args:
        name: a key of NETWORKS.
        capability: compute capability for which the kernels are compiled.
        precision: precision of the network.
    """
    config = replace(NETWORKS[name], residual_layers=2)
    device = CountingDevice(capability)
    net = GpuNetwork(config, random_network(config, 1), device, precision)
    buffers = net.buffers(1, SAMPLE, 1, False)
    for tensor, value in (
        (buffers.lengths, SAMPLE),
        (buffers.seeds, 1),
        (buffers.begins, 0),
        (buffers.noise_steps, 1),
        (buffers.terms, 0.5),
    ):
        device.fill(tensor, torch.full(tensor.shape, value))
    for tensor in (buffers.mel, buffers.biases, buffers.x, *buffers.h, buffers.skip, buffers.conditioner):
        device.fill(tensor, torch.zeros(tensor.shape))
    costs = {}
    for launch in [*net.condition(buffers), *net.step(buffers, 0)]:
        device.costs.pop(launch.kernel, None)
        device.bind(launch)()
        programs = int(np.prod(launch.grid))
        layers = config.residual_layers if launch.kernel.name == "project_conditioner" else 1
        flops = operation_flops(config, launch.kernel) * layers / programs * SAMPLE
        cost = cost_of(launch.kernel, capability, device.costs[launch.kernel], programs, flops)
        costs[launch.kernel.name] = replace(cost, rows=SAMPLE // launch.grid[0], panels=launch.grid[1] // layers)
    return costs


def operation_flops(config: Config, kernel: Kernel) -> float:
    """Return the tensor-core operations per sample; per layer for the residual block and the conditioner."""
    C = config.residual_channels
    flops = {"residual_block": 16 * C * C, "project_conditioner": 4 * C * config.n_mels, "output_head": 2 * C * C}
    return float(flops.get(kernel.name, 0))


def vocode_work(name: str, capability: int, precision: str, items: int, samples: int) -> list[tuple[Work, int]]:
    """Return every launch of a call, with the number of its repetitions.

    Args:
        name: a key of NETWORKS.
        capability: compute capability for which the kernels are compiled.
        precision: precision of the network.
        items: number of items in the batch.
        samples: number of samples of each item.
    """
    config, costs = NETWORKS[name], program_costs(name, capability, precision)
    C, N, size = config.residual_channels, config.residual_layers, 2 if precision in ("fp16", "bf16") else 4
    rows = items * samples
    row, bands = float(size * C * rows), padded_bands(config)
    weights = 8.0 * size * C * C

    def work(operation: str, streamed: float, kept: float, footprint: float, layers: int = 1) -> Work:
        cost = costs[operation]
        programs = items * -(-samples // cost.rows) * cost.panels * layers
        return Work(cost, programs, streamed, kept, footprint)

    up = size * bands * rows
    # A layer reads h and the skip sum and writes both; its conditioner, two rows more, passes through the L2.
    block = work("residual_block", 2 * row + weights, 4 * row, 5 * row)
    return [
        (work("upsample_mel", 0.0, up, up), len(config.upsample_strides)),
        (work("project_conditioner", 2 * row * N, up, up), 1),
        (work("input_projection", 0.0, 4.0 * rows + row, 2 * row), STEPS),
        (block, STEPS * N),
        (work("output_head", 0.0, row + 8.0 * rows, 2 * row), STEPS),
    ]


def plan_sizes(name: str, precision: str, items: int, samples: int) -> list[int]:
    """Return the number of items in each plan of a call; the buffers of a plan are bounded.

    Args:
        name: a key of NETWORKS.
        precision: precision of the network.
        items: number of items in the batch.
        samples: number of samples of each item.
    """
    config, size = NETWORKS[name], 2 if precision in ("fp16", "bf16") else 4
    C, bands = config.residual_channels, padded_bands(config)
    per_sample = size * (3 * C + 2 * C * config.residual_layers + bands) + 4 * (bands + 8)
    most = max(1, PLAN_BYTES // (per_sample * samples))
    return [most] * (items // most) + [items % most] * (items % most > 0)
