"""Reader of safetensors files: the tensors, and the metadata that the engine writes."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import deserialize, safe_open

from engine.checkpoint.lazy_tensor import (
    BFLOAT16,
    LazyTensor,
    Shape,
    as_float32,
    one_line,
    read_values,
    unusable,
    value_width,
)
from engine.checkpoint.source import Source
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

METADATA_KEY = "diffwave"
STATE_KEY = "recipe"  # of the metadata of `engine.training.state`
MAX_HEADER = 1 << 21  # bytes; 256 layers and the largest Config without ranges for int8 need 0.9 MB

# The element types of safetensors that weights can have, in NumPy's notation.
_DTYPES = {"F16": "f2", "BF16": BFLOAT16, "F32": "f4", "F64": "f8"}


def read_safetensors(source: Source) -> tuple[dict[str, LazyTensor], str | None]:
    """Read the header of a safetensors file.

    Args:
        source: the file.

    Returns:
        The tensors, and the metadata that `engine.checkpoint.load.save_checkpoint` writes; None without it.

    Raises:
        CheckpointError: the header is damaged or false, or the file is the state of a training.
    """
    length = int.from_bytes(source.read(0, 8), "little")
    limit = min(source.size - 8, MAX_HEADER)
    if length > limit:
        raise CheckpointError(f"{source.name}: expected a header of at most {limit} bytes, got {length}")
    try:
        entries = json.loads(source.read(8, length))
        described, metadata = _described(source, entries)
        if STATE_KEY in metadata:
            raise CheckpointError(
                "expected a checkpoint, got a training state; export it with python -m engine.training export FOLDER "
                "-o voice.safetensors"
            )
        tensors = {}
        for name, (shape, dtype) in described.items():
            begin, end = entries[name]["data_offsets"]
            tensors[name] = _lazy_tensor(source, name, shape, dtype, 8 + length + begin, end - begin)
    except CheckpointError as error:
        raise CheckpointError(f"{source.name}: {error}") from None
    except Exception as error:
        raise CheckpointError(f"{source.name}: expected safetensors, got: {one_line(error)}") from None
    return tensors, metadata.get(METADATA_KEY)


def _described(source: Source, entries: Any) -> tuple[dict[str, tuple[Shape, str]], dict[str, str]]:
    """Return the shape and the element type of every tensor, and the metadata, as checked by safetensors itself."""
    if isinstance(source.content, Path):
        with safe_open(source.content, framework="numpy") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 - not a mapping
            described = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
            return described, content.metadata() or {}
    parts = deserialize(source.content)  # type: ignore[no-untyped-call]
    described = {name: (tuple(part["shape"]), part["dtype"]) for name, part in parts}
    return described, entries.get("__metadata__", {})


def _lazy_tensor(source: Source, name: str, shape: Shape, dtype: str, begin: int, size: int) -> LazyTensor:
    if dtype not in _DTYPES:
        return unusable(shape, f"{name!r:.80}: expected float values, got {dtype}")
    if size != math.prod(shape) * value_width(_DTYPES[dtype]):
        raise CheckpointError(f"{name!r:.80}: expected {dtype} values of shape {shape!r:.80}, got {size} bytes")
    return LazyTensor(shape, partial(_read_tensor, source, begin, dtype, shape))


def _read_tensor(source: Source, begin: int, dtype: str, shape: Shape) -> FloatArray:
    values = read_values(source, begin, _DTYPES[dtype], math.prod(shape))
    return as_float32(values).reshape(shape)
