"""For tests of kernels: what to run on, and each network once in every form."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from engine.config import Config
from engine.kernels import cpu, reference
from tests.arm import proxy
from tests.support.networks import Arrays, random_network
from tests.support.quantized import with_ranges


def targets(*precisions: str, arm: bool = False) -> list[Any]:
    """(isa, precision) of all tiers, slowest first; skipped where unsupported. Without precisions: fp32 and bf16.

    With `arm` also "arm-generic" and "arm-neon", marked `arm`, which only `network` and `packed` know.
    """
    found = []
    for isa, supported, requires, available in cpu.tiers():
        marks = [] if supported else [pytest.mark.skip(reason=f"this processor lacks {requires}")]
        for precision in available:
            if precision in (precisions or ("fp32", "bf16")):
                found.append(pytest.param(isa, precision, id=f"{isa}-{precision}", marks=marks))
    if arm:
        marks = [pytest.mark.arm, proxy.needs_tools]
        found += [pytest.param(f"arm-{isa}", "fp32", id=f"arm-{isa}-fp32", marks=marks) for isa in proxy.TIERS]
    return found


@cache
def weights(config: Config) -> Arrays:
    """Random weights, the same for every call with this configuration."""
    return random_network(config, seed=config.residual_channels + config.n_mels)


@cache
def exact(config: Config) -> dict[str, torch.Tensor]:
    """`weights` as float64 tensors, for the reference."""
    return reference.to_tensors(weights(config), torch.float64)


def packed(config: Config, isa: str, precision: str) -> cpu.CpuNetwork:
    """`weights` packed for one tier; for int8 with ranges of `quantized.with_ranges`."""
    made = with_ranges(config) if precision == "int8" else config
    if isa.startswith("arm-"):
        return proxy.ArmNetwork(made, weights(config), isa.removeprefix("arm-"), precision)
    return cpu.CpuNetwork(made, weights(config), isa, precision)


network = cache(packed)


def float64(array: Any) -> Any:
    """An array as a batch of one, for the reference."""
    return None if array is None else torch.tensor(array).double()[None]
