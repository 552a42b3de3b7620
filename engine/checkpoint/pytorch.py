"""Reader of PyTorch checkpoints that needs no PyTorch and executes nothing in the file.

A .pt, .pkl or .ckpt file is a zip archive of raw tensor bytes (`engine.checkpoint.archive`) and one pickle
(`engine.checkpoint.unpickler`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from engine.checkpoint.archive import TensorRecords, check_entries
from engine.checkpoint.contents import find_weights
from engine.checkpoint.lazy_tensor import BFLOAT16, LazyTensor, as_float32, one_line, unusable
from engine.checkpoint.plain import DescribedArray, described_array, plain_dict
from engine.checkpoint.source import Source, open_source
from engine.checkpoint.unpickler import Inert, TensorView, read_pickle
from engine.checks.arrays import FloatArray
from engine.errors import CheckpointError

MAX_OPERATIONS = 1 << 18  # of the pickle; each takes up to 80 bytes

_FLOAT_DTYPES = ("f2", BFLOAT16, "f4", "f8")


@dataclass(frozen=True)
class Archive:
    """The content of a PyTorch checkpoint.

    Attributes:
        tensors: the weights, under the file's own names.
        average: an average of the weights over the training, {} without one.
        params: the hyper-parameters beside them, as plain values, {} if there are none.
        container: `engine.checkpoint.contents.Weights.container`.
    """

    tensors: dict[str, LazyTensor]
    average: dict[str, LazyTensor]
    params: dict[Any, Any]
    container: str


def read_pytorch(path: str | os.PathLike[str] | Source) -> Archive:
    """Read the weights and hyper-parameters of a PyTorch checkpoint (zip format, torch 1.6 or later).

    The weights are a dict under "model" (LMNT, PriorGrad), "model_state_dict" (philsyn, BDDM), "state_dict" or another
    key, or a bare state_dict. Whatever else the file holds is ignored, and so are storage devices.

    Args:
        path: the file, or its content.

    Raises:
        CheckpointError: the file has another format, is damaged, claims more bytes than it has, or refers to code.
    """
    with _opened(path) as (content, records):
        weights = find_weights(content)
        tensors, average = (_lazy_tensors(records, part) for part in (weights.raw, weights.average))
        params = plain_dict(weights.params, records.values)
        return Archive(tensors, average, params, weights.container)


def read_tensors(path: str | os.PathLike[str] | Source) -> dict[str, LazyTensor]:
    """Read a PyTorch file that contains a tensor, or a dict, list or tuple with tensors.

    Entries that are neither tensors nor NumPy arrays are ignored, and so are dicts inside the dict.

    Args:
        path: the file, or its content.

    Returns:
        The tensors by the keys of the dict or the positions in the list; "" for a single tensor. Reading a tensor of
        integers raises CheckpointError.

    Raises:
        CheckpointError: as `read_pytorch`.
    """
    with _opened(path) as (content, records):
        if isinstance(content, (list, tuple)):
            content = {str(index): value for index, value in enumerate(content)}
        elif not isinstance(content, dict):
            content = {"": content}
        values = {str(name): value for name, value in content.items()}
        kinds = {name: described_array(value) or value for name, value in values.items()}
        tensors = [name for name, kind in kinds.items() if isinstance(kind, (TensorView, DescribedArray))]
        return _lazy_tensors(records, {name: values[name] for name in tensors})


@contextmanager
def _opened(path: str | os.PathLike[str] | Source) -> Iterator[tuple[Any, TensorRecords]]:
    """Yield the content of the pickle and the records of the tensors; errors name the file."""
    source = path if isinstance(path, Source) else open_source(path)
    start = source.start
    try:
        if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError("expected a zip archive, got a legacy pickle; save it again with torch.save")
        if start[:4] != b"PK\x03\x04":
            raise CheckpointError(f"expected a PyTorch zip archive, got a file that begins with {start!r}")
        with source.archive() as archive:
            entries = archive.infolist()
        name = check_entries(entries, source.size)
        records = TensorRecords(source, entries, name.removesuffix("data.pkl"))
        yield _read_pickle(records.read_entry(name)), records
    except CheckpointError as error:
        raise CheckpointError(f"{source.name}: {error}") from None
    except Exception as error:  # zipfile alone raises nine types
        raise CheckpointError(f"{source.name}: expected a zip archive, got a damaged one: {one_line(error)}") from None


def _read_pickle(program: bytes) -> Any:
    try:
        return read_pickle(program, MAX_OPERATIONS)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can fail with any exception
        raise CheckpointError(f"expected a pickle of tensors, got a damaged one: {one_line(error)}") from None


def _lazy_tensors(records: TensorRecords, values: Mapping[Any, Any]) -> dict[str, LazyTensor]:
    return {name: _lazy_tensor(records, name, value) for name, value in values.items() if type(name) is str}


def _lazy_tensor(records: TensorRecords, name: str, value: Any) -> LazyTensor:
    value = described_array(value) or value
    if isinstance(value, DescribedArray):
        if value.dtype.kind != "f":
            return unusable(value.shape, f"{name!r:.80}: expected float values, got {value.dtype.name}")
        return LazyTensor(value.shape, partial(_read_array, records, name, value))
    if not isinstance(value, TensorView):
        kind = repr(value.name) if isinstance(value, Inert) else type(value).__name__
        return unusable((), f"{name!r:.80}: expected a tensor, got a {kind:.80}")
    if value.storage.dtype not in _FLOAT_DTYPES:
        got = np.dtype(value.storage.dtype).name
        return unusable(value.shape, f"{name!r:.80}: expected float values, got {got}")
    records.entry(value)
    return LazyTensor(value.shape, partial(records.read, name, value))


def _read_array(records: TensorRecords, name: str, array: DescribedArray) -> FloatArray:
    try:
        records.spend(array.size * array.dtype.itemsize)  # many names may share one array
        return as_float32(array.read()).copy()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name!r:.80}: expected an array of NumPy, got a damaged one: {error!s:.80}") from None
