"""Conversion of a family's tensors to LMNT's layout: names, weight norm, order of halves and rows.

All conversions are lazy: they apply to tensors that are still in the file, so shapes can be checked before any value
is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import numpy as np

from engine.checkpoint.families import Family
from engine.checkpoint.lazy_tensor import LazyTensor
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

# Names of a weight's direction and length: of torch.nn.utils.weight_norm, and of its successor in parametrizations.
_WEIGHT_NORM_NAMES = (
    ("weight_v", "weight_g"),
    ("parametrizations.weight.original1", "parametrizations.weight.original0"),
)
_GATED = re.compile(r"residual_layers\.\d+\.(dilated_conv|conditioner_projection)\.(weight|bias)")


def to_canonical(file_tensors: Mapping[str, LazyTensor], family: Family) -> dict[str, LazyTensor]:
    """Convert a family's tensors to LMNT's layout.

    Args:
        file_tensors: the tensors under the names of the family's layout.
        family: the rules of conversion.

    Returns:
        The tensors under LMNT's names. A name that fits no rule is kept; checking the names is the caller's task.

    Raises:
        CheckpointError: two tensors get the same name, or the parts of one tensor do not fit each other.
    """
    tensors: dict[str, LazyTensor] = {}
    for file_name, tensor in file_tensors.items():
        name = family.layout.rename(file_name)
        if name in tensors:
            raise CheckpointError(f"{file_name!r:.80}: expected one tensor for {name!r:.80}, got two")
        tensors[name] = tensor
    if family.weight_norm:
        tensors = _fold_weight_norms(tensors)
    if family.split_output:
        tensors = _join_output_projections(tensors)
    for name, tensor in list(tensors.items()):
        bias = re.sub(r"\.weight$", ".bias", name)
        if bias not in tensors and re.fullmatch(family.optional_biases, bias) and tensor.shape:
            rows = tensor.shape[0]
            tensors[bias] = LazyTensor((rows,), partial(_zeros, rows))
    if family.tanh_first:
        gated = {name: tensor for name, tensor in tensors.items() if _GATED.fullmatch(name)}
        tensors.update(
            {name: LazyTensor(tensor.shape, partial(_read_swapped, tensor)) for name, tensor in gated.items()}
        )
    return tensors


def fold_weight_norm(v: FloatArray, g: FloatArray) -> FloatArray:
    """Compute ``g v / |v|`` in float64 and store it in v; the norm is over all axes except the first.

    Args:
        v: the direction, [rows, ...], C-contiguous; overwritten.
        g: the length, [rows, 1, ...].

    Returns:
        v.
    """
    rows = v.reshape(len(v), -1)
    # Neither einsum nor multiply copies to float64: the memory stays bounded by the size of the file.
    # A division by zero gives NaN or infinity, which `engine.checkpoint.load.Checkpoint` refuses.
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = g.reshape(-1).astype(np.float64) / np.sqrt(squares)
        np.multiply(rows, scale[:, None], out=rows, dtype=np.float64, casting="same_kind")
    return v


def _fold_weight_norms(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    folded = dict(tensors)
    for direction, length in _WEIGHT_NORM_NAMES:
        for name in tensors:
            stem = name.removesuffix(direction)
            if stem == name or stem + length not in tensors:
                continue
            v, g = folded.pop(name), folded.pop(stem + length)
            expected = (*v.shape[:1], *(1 for _ in v.shape[1:]))
            if not v.shape or g.shape != expected:
                raise CheckpointError(f"{stem + length!r:.80}: expected shape {expected}, got {g.shape}")
            if stem + "weight" in folded:
                raise CheckpointError(f"{stem + 'weight'!r:.80}: expected it with or without weight norm, got both")
            folded[stem + "weight"] = LazyTensor(v.shape, partial(_read_folded, v, g))
    return folded


def _join_output_projections(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    joined = dict(tensors)
    for name in tensors:
        match = re.fullmatch(r"(residual_layers\.\d+\.)res_conv(\.weight|\.bias)", name)
        skip_name = f"{match[1]}skip_conv{match[2]}" if match else ""
        if match and skip_name in tensors:
            residual, skip = joined.pop(name), joined.pop(skip_name)
            if residual.shape[1:] != skip.shape[1:] or not residual.shape or not skip.shape:
                raise CheckpointError(
                    f"{name!r:.80}: expected a shape that fits {skip.shape} of {skip_name!r:.80}, got {residual.shape}"
                )
            shape = (residual.shape[0] + skip.shape[0], *residual.shape[1:])
            joined[f"{match[1]}output_projection{match[2]}"] = LazyTensor(shape, partial(_read_joined, residual, skip))
    return joined


def _read_folded(v: LazyTensor, g: LazyTensor) -> FloatArray:
    return fold_weight_norm(v.read(), g.read())


def _zeros(rows: int) -> FloatArray:
    return np.zeros(rows, dtype=np.float32)


def _read_joined(residual: LazyTensor, skip: LazyTensor) -> FloatArray:
    return np.concatenate([residual.read(), skip.read()])


def _read_swapped(tensor: LazyTensor) -> FloatArray:
    values = tensor.read()
    half = len(values) // 2
    return np.concatenate([values[half:], values[:half]])
