"""Global conditioner of a class label (paper, section 3.2).

A label adds one row to the gate of every layer. The row depends on neither time nor diffusion step.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config


def label_row(config: Config, tensors: Mapping[str, FloatArray], label: int) -> npt.NDArray[np.float64]:
    """Compute every layer's ``W embedding[label] + bias``; see `reference.label_conditioner`.

    Args:
        config: the configuration of a network with classes.
        tensors: LMNT's names, with ``label_embedding.weight`` and every layer's ``label_projection``.
        label: the index of the class. For a network trained with guidance, the number of classes means "no label".

    Returns:
        float64 [N,2C], the sigmoid half first.

    Raises:
        IndexError: the network has no class of this index.
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
