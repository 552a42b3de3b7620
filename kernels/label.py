"""The global conditioner: what a class label adds to every layer. It depends on neither time nor step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config


def label_row(config: Config, tensors: Mapping[str, FloatArray], label: int) -> npt.NDArray[np.float64]:
    """Every layer's ``W embedding[label] + bias``; see `reference.label_conditioner` (paper, section 3.2).

    Args:
        config: of a network with classes.
        tensors: LMNT's names, with ``label_embedding.weight`` and every layer's ``label_projection``.
        label: the number of the class; the number of classes is "no label", for a network that knows it.

    Returns:
        float64 [N,2C], the sigmoid half first.

    Raises:
        IndexError: there is no such class.
    """
    if not 0 <= label < config.labels:
        raise IndexError(f"label: expected 0 to {config.labels - 1}, got {label}")
    embedding = tensors["label_embedding.weight"][label].astype(np.float64)
    rows = []
    for i in range(config.residual_layers):
        key = f"residual_layers.{i}.label_projection"
        weight, bias = tensors[f"{key}.weight"][:, :, 0], tensors[f"{key}.bias"]
        rows.append(weight.astype(np.float64) @ embedding + bias)
    return np.stack(rows)
