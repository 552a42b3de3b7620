"""From a family's tensors to LMNT's: renamed, weight norm folded, halves and rows in LMNT's order.

All of it happens to tensors still in the file; their shapes can be checked before a byte of their values is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import numpy as np

from engine.checkpoint.families import Family
from engine.checkpoint.lazy_tensor import Stored
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

# Direction and length of a weight, as torch.nn.utils.weight_norm stores them and as its successor does.
_NORMED = (("weight_v", "weight_g"), ("parametrizations.weight.original1", "parametrizations.weight.original0"))
_GATED = re.compile(r"residual_layers\.\d+\.(dilated_conv|conditioner_projection)\.(weight|bias)")


def canonical(stored: Mapping[str, Stored], family: Family) -> dict[str, Stored]:
    """A family's tensors as LMNT's; names that fit no rule stay, for whoever checks them.

    Raises:
        CheckpointError: two tensors become the same, or parts of one do not fit each other.
    """
    tensors: dict[str, Stored] = {}
    for name, tensor in stored.items():
        if re.match(family.ignored, name):
            continue
        new = _renamed(name, family)
        if new in tensors:
            raise CheckpointError(f"{name!r:.80}: expected one tensor to be {new!r:.80}, got two")
        tensors[new] = tensor
    if family.weight_norm:
        tensors = _folded(tensors)
    if family.split_output:
        tensors = _joined(tensors)
    for name, tensor in list(tensors.items()):
        bias = re.sub(r"\.weight$", ".bias", name)
        if bias not in tensors and re.fullmatch(family.optional, bias) and tensor.shape:
            rows = tensor.shape[0]
            tensors[bias] = Stored((rows,), partial(_zeros, rows))
    if family.tanh_first:
        gated = {name: tensor for name, tensor in tensors.items() if _GATED.fullmatch(name)}
        tensors.update({name: Stored(tensor.shape, partial(_swapped, tensor)) for name, tensor in gated.items()})
    return tensors


def fold_weight_norm(v: FloatArray, g: FloatArray) -> FloatArray:
    """``g v / |v|``, the norm over all axes but the first, in float64; in place of v.

    Args:
        v: [rows, ...], C-contiguous.
        g: [rows, 1, ...].

    Returns:
        v.
    """
    rows = v.reshape(len(v), -1)
    # Neither makes a float64 copy: memory stays that of the file.
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # gives what a checkpoint may not hold
        scale = g.reshape(-1).astype(np.float64) / np.sqrt(squares)
        np.multiply(rows, scale[:, None], out=rows, dtype=np.float64, casting="same_kind")
    return v


def _renamed(name: str, family: Family) -> str:
    for pattern, replacement in family.renames:
        if match := re.match(pattern, name):
            return match.expand(replacement) + name[match.end() :]
    return name


def _folded(tensors: dict[str, Stored]) -> dict[str, Stored]:
    folded = dict(tensors)
    for direction, length in _NORMED:
        for name in tensors:
            stem = name.removesuffix(direction)
            if stem == name or stem + length not in tensors:
                continue
            v, g = folded.pop(name), folded.pop(stem + length)
            expected = (*v.shape[:1], *(1 for _ in v.shape[1:]))
            if not v.shape or g.shape != expected:
                raise CheckpointError(f"{stem + length!r:.80}: expected shape {expected}, got {g.shape}")
            if stem + "weight" in folded:
                raise CheckpointError(f"{stem + 'weight'!r:.80}: expected it with weight norm or without, got both")
            folded[stem + "weight"] = Stored(v.shape, partial(_read_folded, v, g))
    return folded


def _joined(tensors: dict[str, Stored]) -> dict[str, Stored]:
    joined = dict(tensors)
    for name in tensors:
        match = re.fullmatch(r"(residual_layers\.\d+\.)res_conv(\.weight|\.bias)", name)
        other = f"{match[1]}skip_conv{match[2]}" if match else ""
        if match and other in tensors:
            first, second = joined.pop(name), joined.pop(other)
            if first.shape[1:] != second.shape[1:] or not first.shape or not second.shape:
                raise CheckpointError(
                    f"{name!r:.80}: expected what fits {other!r:.80}, {second.shape}, got {first.shape}"
                )
            shape = (first.shape[0] + second.shape[0], *first.shape[1:])
            joined[f"{match[1]}output_projection{match[2]}"] = Stored(shape, partial(_stacked, first, second))
    return joined


def _read_folded(v: Stored, g: Stored) -> FloatArray:
    return fold_weight_norm(v.read(), g.read())


def _zeros(rows: int) -> FloatArray:
    return np.zeros(rows, dtype=np.float32)


def _stacked(first: Stored, second: Stored) -> FloatArray:
    return np.concatenate([first.read(), second.read()])


def _swapped(tensor: Stored) -> FloatArray:
    values = tensor.read()
    half = len(values) // 2
    return np.concatenate([values[half:], values[:half]])
