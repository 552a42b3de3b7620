"""Diffusion-step embedding: the sinusoids of a step and the step bias of every layer, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import Config, check_step


def step_embedding(t: float, steps_T: int) -> NDArray[np.float64]:
    """Return the sinusoids of a diffusion step in LMNT's form (paper, section 3.1).

    ``[sin(f_0 t) .. sin(f_63 t) | cos(f_0 t) .. cos(f_63 t)]``, ``f_k = 10^(4k/63)``

    LMNT's published weights were trained with a table of one row per training step 0 .. T-1. A fractional t is
    interpolated linearly between two rows.

    Args:
        t: the step on the training scale, 0 <= t <= steps_T - 1, fractions allowed.
        steps_T: the number of training steps.

    Returns:
        [128], float64; within 1e-7 of the table that PyTorch builds in float32.

    Raises:
        InputError: t is not a number on the training scale.
    """
    check_step(t, steps_T)
    low, high = _table_rows(math.floor(t), math.ceil(t))
    row: NDArray[np.float64] = low + (high - low) * (t - math.floor(t))
    return row


def step_embedding_sinusoid(t: float, steps_T: int) -> NDArray[np.float64]:
    """Return the sinusoids of a diffusion step in philsyn's form.

    ``[sin(f_k t) | cos(f_k t)]``, ``f_k = 10^(-4k/63)``, computed from t itself, fractional or not, without a table.

    Args:
        t: the step on the training scale, 0 <= t <= steps_T - 1, fractions allowed.
        steps_T: the number of training steps.

    Returns:
        [128], float64.

    Raises:
        InputError: t is not a number on the training scale.
    """
    check_step(t, steps_T)
    angle = t * 10.0 ** (-4.0 * np.arange(64) / 63.0)
    row: NDArray[np.float64] = np.concatenate([np.sin(angle), np.cos(angle)])
    return row


def sinusoids(config: Config, t: Sequence[float]) -> NDArray[np.float64]:
    """Return the sinusoids of S steps in the network's form (`Config.step_embedding`).

    Args:
        config: the network; its `train_schedule` is the scale.
        t: S steps on the training scale.

    Returns:
        [S,128], float64.

    Raises:
        InputError: a t is not on the training scale.
    """
    embed = {"table": step_embedding, "sinusoid": step_embedding_sinusoid}[config.step_embedding]
    return np.array([embed(step, len(config.train_schedule)) for step in t]).reshape(-1, 128)


def step_biases(tensors: Mapping[str, NDArray[Any]], config: Config, t: Sequence[float]) -> NDArray[np.float64]:
    """Compute the step bias that each layer adds to its input at each step (paper, section 3.1).

    ``d[s,i] = W_i silu(W_2 silu(W_1 e(t[s]) + bias_1) + bias_2) + bias_i``; e are the sinusoids of
    `Config.step_embedding`.

    Args:
        tensors: the weights under LMNT's key names: ``diffusion_embedding.projection1`` (512,128) and
            ``projection2`` (512,512), ``residual_layers.i.diffusion_projection`` (C,512), each a weight and a
            bias; any floating dtype.
        config: sizes, number of training steps and form of the sinusoids.
        t: S steps on the training scale.

    Returns:
        d [S,N,C], computed in float64.

    Raises:
        InputError: a t is not on the training scale.
    """

    def linear(rows: NDArray[np.float64], key: str) -> NDArray[np.float64]:
        weight, bias = (tensors[f"{key}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        return rows @ weight.T + bias

    hidden = sinusoids(config, t)
    for number in (1, 2):
        hidden = _silu(linear(hidden, f"diffusion_embedding.projection{number}"))
    keys = [f"residual_layers.{i}.diffusion_projection" for i in range(config.residual_layers)]
    return np.stack([linear(hidden, key) for key in keys], axis=1)


def _table_rows(*steps: int) -> NDArray[np.float64]:
    # Arguments reach 4.9e5, so the roundings are part of the definition: exponent in float32, power correctly rounded
    # to float32 (NumPy's float32 power is not), product in float32. Only the sine may be more precise than LMNT's.
    exponent = np.arange(64, dtype=np.float32) * np.float32(4.0) / np.float32(63.0)
    frequency = np.power(10.0, exponent.astype(np.float64)).astype(np.float32)
    angle = (np.array(steps, dtype=np.float32)[:, None] * frequency).astype(np.float64)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def _silu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # x * sigmoid(x), by tanh because tanh cannot overflow.
    return values * (0.5 + 0.5 * np.tanh(0.5 * values))
