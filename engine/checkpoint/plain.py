"""Plain values of what the unpickler describes: scalars, strings, lists and dicts of Python.

Dicts of any class, objects with attributes, NumPy scalars and arrays and small tensors become plain; everything else is
absent. A hostile pickle may share and repeat its objects, so a budget bounds the values that are visited.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checkpoint.unpickler import Inert, TensorView

MAX_VALUES = 1 << 16  # of all hyper-parameters together
MAX_DEPTH = 4
MAX_LIST_VALUES = 10000  # of all hyper-parameters that are tensors

_NUMPY_SCALAR = ("numpy._core.multiarray scalar", "numpy.core.multiarray scalar")
_NUMPY_ARRAY = ("numpy._core.multiarray _reconstruct", "numpy.core.multiarray _reconstruct")
_NUMPY_BUFFER = ("numpy._core.numeric _frombuffer", "numpy.core.numeric _frombuffer")
_NUMPY_DTYPE = "numpy dtype"
_EMPTY_BYTES = ("builtins bytes", "__builtin__ bytes")
_PLAIN_KINDS = "biufSU"  # of a dtype: numbers and strings
_ENTRY_ATTRIBUTES = ("_content", "_fields")  # where omegaconf and ml_collections keep the entries of a configuration
_VALUE_ATTRIBUTE = "_val"  # of a node of omegaconf


def entries_of(value: object) -> dict[Any, Any] | None:
    """Return the entries of a dict of any class, or the attributes of an object; None if it has neither.

    It takes constant time, whatever objects share.

    Args:
        value: a part of an unpickled checkpoint.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, Inert):
        return None
    if value.entries is not None:
        return value.entries
    attributes = _attributes(value)
    content = next((attributes[name] for name in _ENTRY_ATTRIBUTES if isinstance(attributes.get(name), dict)), None)
    return content if content is not None else attributes or None


def plain_dict(values: dict[Any, Any], read_tensor: Callable[[TensorView], Any]) -> dict[Any, Any]:
    """Return the entries of a dict that are plain, with plain values.

    Args:
        values: the dict.
        read_tensor: returns the values of a small tensor as an array.
    """
    result = _Converter(read_tensor).convert(values, MAX_DEPTH)
    return result if isinstance(result, dict) else {}


def _attributes(value: Inert) -> dict[Any, Any]:
    """Return the attributes of an object, which BUILD passes as a dict, or as a pair of dicts for one with slots."""
    states = value.state if isinstance(value.state, tuple) and len(value.state) == 2 else (value.state,)
    return next((state for state in states if isinstance(state, dict) and state), {})


_ABSENT = object()


class _Converter:
    """The conversion of one checkpoint's hyper-parameters, and what remains of its budget."""

    def __init__(self, read_tensor: Callable[[TensorView], Any]) -> None:
        self._read_tensor = read_tensor
        self._values = MAX_VALUES
        self._tensor_values = MAX_LIST_VALUES

    def convert(self, value: Any, depth: int) -> Any:
        """Return the plain value, or _ABSENT."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return self._spend(1, value)
        if isinstance(value, TensorView):
            return self._tensor(value)
        if depth == 0:
            return _ABSENT
        if isinstance(value, (list, tuple)):
            return self._sequence(value, depth)
        if isinstance(value, Inert):
            array = self._numpy(value)
            if array is not None:
                return array
            attributes = _attributes(value)
            if _VALUE_ATTRIBUTE in attributes:
                return self.convert(attributes[_VALUE_ATTRIBUTE], depth - 1)
            if isinstance(attributes.get("_content"), list):
                return self._sequence(attributes["_content"], depth)
        entries = entries_of(value)
        if entries is None or self._spend(len(entries), value) is _ABSENT:
            return _ABSENT
        pairs = ((key, self.convert(item, depth - 1)) for key, item in entries.items())
        return {key: item for key, item in pairs if item is not _ABSENT}

    def _sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> Any:
        if self._spend(len(value), value) is _ABSENT:
            return _ABSENT
        items = []
        for item in value:
            items.append(self.convert(item, depth - 1))
            if items[-1] is _ABSENT:
                return _ABSENT
        return items

    def _spend(self, count: int, value: Any) -> Any:
        """Return the value if the budget allows `count` more values."""
        if count > self._values:
            return _ABSENT
        self._values -= count
        return value

    def _tensor(self, view: TensorView) -> Any:
        if max(view.size, view.span) > self._tensor_values:
            return _ABSENT
        self._tensor_values -= view.size
        return self._read_tensor(view).tolist()

    def _numpy(self, value: Inert) -> Any:
        """Return the values of a NumPy scalar or array of plain elements; None if it is no such object."""
        array = described_array(value)
        if array is None:
            return None
        if array.size > self._tensor_values or len(array.raw) > 64 * MAX_LIST_VALUES:
            return _ABSENT
        self._tensor_values -= array.size
        try:
            values = array.read()
        except (TypeError, ValueError):
            return _ABSENT  # its bytes are not those of its shape
        return (values.astype(np.float64) if array.dtype.kind == "f" else values).tolist()


@dataclass(frozen=True, eq=False)
class DescribedArray:
    """A NumPy scalar or array in a pickle.

    Attributes:
        dtype: of numbers or strings.
        shape: () for a scalar.
        raw: the bytes, or the text whose Latin-1 encoding they are.
        fortran: whether the first axis is the fastest.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    raw: bytes | str
    fortran: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def read(self) -> npt.NDArray[Any]:
        """Return the values as an array that cannot be written to.

        Raises:
            ValueError: the bytes are not those of the shape.
        """
        raw = self.raw.encode("latin-1") if isinstance(self.raw, str) else self.raw
        if len(raw) != self.size * self.dtype.itemsize:
            raise ValueError(f"expected {self.size} values, got {len(raw)} bytes")
        array = np.frombuffer(raw, self.dtype, self.size) if raw else np.empty(0, self.dtype)
        return array.reshape(self.shape, order="F" if self.fortran else "C")


def is_array(value: object) -> bool:
    """Return whether a value claims to be an array of NumPy.

    Args:
        value: a part of an unpickled checkpoint.
    """
    return isinstance(value, Inert) and value.name in (*_NUMPY_ARRAY, *_NUMPY_BUFFER)


def described_array(value: object) -> DescribedArray | None:
    """Return the NumPy scalar or array of plain elements that a value is; None if it is no such object.

    Args:
        value: a part of an unpickled checkpoint.
    """
    try:
        return _described_array(value) if isinstance(value, Inert) else None
    except (TypeError, ValueError, IndexError):
        return None  # what claims to be NumPy's, but is not


def _described_array(value: Inert) -> DescribedArray | None:
    arguments, state = value.arguments, value.state
    if value.name in _NUMPY_SCALAR:
        dtype, raw = arguments
        return DescribedArray(_dtype_of(dtype), (), _raw(raw), False)
    if value.name in _NUMPY_ARRAY:
        _, shape, dtype, fortran, raw = state
        return DescribedArray(_dtype_of(dtype), _shape(shape), _raw(raw), bool(fortran))
    if value.name in _NUMPY_BUFFER:
        raw, dtype, shape, order = arguments
        return DescribedArray(_dtype_of(dtype), _shape(shape), _raw(raw), order == "F")
    return None


def _dtype_of(value: object) -> np.dtype[Any]:
    """Return the dtype of ``dtype(code, False, True)`` with the state (3, byte order, ...)."""
    if not isinstance(value, Inert) or value.name != _NUMPY_DTYPE or not isinstance(value.arguments[0], str):
        raise TypeError("no dtype")
    code = value.arguments[0]
    if len(code) > 12 or code[:1] not in _PLAIN_KINDS or not code[1:].isdecimal():
        raise TypeError("no plain dtype")
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "="
    return np.dtype(f"{order}{code}" if order in ("<", ">") else code)


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 8 or not all(type(n) is int and 0 <= n < 2**31 for n in value):
        raise TypeError("no shape")
    return value


def _raw(value: object) -> bytes | str:
    """Return bytes, or the text whose Latin-1 encoding they are: protocol 2 has no bytes."""
    if isinstance(value, Inert) and value.name == "_codecs encode" and value.arguments[1:] == ("latin1",):
        value = value.arguments[0]
    if isinstance(value, Inert) and value.name in _EMPTY_BYTES and not value.arguments:
        value = b""
    if not isinstance(value, (bytes, str)):
        raise TypeError("no bytes")
    return value
