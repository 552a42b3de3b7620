"""The numbers of a schedule in the form that a plan reads, computed once per schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.embedding import sinusoids
from engine.diffusion.schedule import Schedule, noise_terms, update_terms

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork


@dataclass(frozen=True, eq=False)
class Table:
    """The steps of one schedule.

    Attributes:
        t: their positions on the training scale.
        terms: [S,4] a, b, sigma and limit.
    """

    t: tuple[float, ...]
    terms: FloatArray


def sampling_table(config: Config, schedule: Schedule) -> Table:
    """Return the steps of the reverse process."""
    return _table(schedule.t, update_terms(config, schedule), 1.0 if config.clamp else math.inf)


def noise_table(config: Config, t: float) -> Table:
    """Return the one step that turns x into eps at step t of the training scale."""
    return _table((t,), noise_terms(config, t), math.inf)


def _table(t: tuple[float, ...], terms: npt.NDArray[np.float64], limit: float) -> Table:
    limits = np.full((len(terms), 1), limit)
    return Table(t, np.concatenate([terms, limits], axis=1).astype(np.float32))


def fold_steps(network: GpuNetwork, t: tuple[float, ...]) -> Any:
    """Return the biases [S, N, 7C] of all S steps, of which a plan's buffer takes some at a time."""
    device, config = network.device, network.config
    table = device.tensor(sinusoids(config, t), "fp32")
    biases = device.empty((len(t), config.residual_layers, 7 * network.channels), "fp32")
    calls: list[Callable[[], None]] = [device.bind(launch) for launch in network.fold_steps(table, biases)]
    for call in calls:
        call()
    device.mark().synchronize()  # they are cached, and other streams will read them
    return biases


def fold_label(
    network: GpuNetwork, biases_of: Callable[[tuple[float, ...]], Any], t: tuple[float, ...], label: int
) -> Any:
    """Return the biases of `fold_steps` with a class's conditioner added."""
    biases = biases_of(t).clone()
    network.add_label(biases, label)
    network.device.mark().synchronize()
    return biases
