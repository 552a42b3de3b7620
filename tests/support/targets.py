"""Instruction sets and packed networks for tests of the CPU kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from engine.config import Config
from engine.kernels import cpu, reference
from engine.kernels.registry import TILES
from tests.arm import proxy
from tests.support.networks import Arrays, random_network
from tests.support.quantized import with_ranges


def targets(*precisions: str, arm: bool = False, tiles: bool = True) -> list[Any]:
    """Return test parameters (isa, precision) of all tiers, slowest first. Unsupported tiers are skipped.

    Args:
        precisions: precisions of the tiers; fp32 and bf16 by default.
        arm: also return the tiers of an emulated Arm processor, "arm-generic" and others, marked `arm`. Only `network`
            and `packed` accept them.
        tiles: also return the tier of tile registers. `engine.load` refuses it for networks of few channels.
    """
    parameters = []
    for isa, supported, requires, available in cpu.tiers():
        if isa == TILES and not tiles:
            continue
        marks = [] if supported else [pytest.mark.skip(reason=f"this processor lacks {requires}")]
        for precision in available:
            if precision in (precisions or ("fp32", "bf16")):
                parameters.append(pytest.param(isa, precision, id=f"{isa}-{precision}", marks=marks))
    if arm:
        marks = [pytest.mark.arm, proxy.needs_tools]
        parameters += [pytest.param(f"arm-{isa}", "fp32", id=f"arm-{isa}-fp32", marks=marks) for isa in proxy.TIERS]
    return parameters


@cache
def weights(config: Config) -> Arrays:
    """Return random weights, the same for every call with this configuration."""
    return random_network(config, seed=config.residual_channels + config.n_mels)


@cache
def exact(config: Config) -> dict[str, torch.Tensor]:
    """Return `weights` as float64 tensors for the reference."""
    return reference.to_tensors(weights(config), torch.float64)


def packed(config: Config, isa: str, precision: str) -> cpu.CpuNetwork:
    """Pack `weights` for one tier; for int8 with the ranges of `quantized.with_ranges`."""
    tensors = weights(config)
    if precision == "int8":
        config = with_ranges(config)
    if isa.startswith("arm-"):
        return proxy.ArmNetwork(config, tensors, isa.removeprefix("arm-"), precision)
    return cpu.CpuNetwork(config, tensors, isa, precision)


network = cache(packed)


def float64(array: Any) -> Any:
    """Return an array as a float64 batch of one item for the reference."""
    return None if array is None else torch.tensor(array).double()[None]
