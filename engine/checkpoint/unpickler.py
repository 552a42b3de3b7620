"""Unpickler for PyTorch checkpoints that imports and calls nothing.

A pickle is a program for a stack machine. This machine implements the operations that torch.save writes for dicts of
tensors, with protocol 2. It accepts a short list of names and builds inert descriptions in their place: no name is
imported, no object of a class is created.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.lazy_tensor import BFLOAT16, Shape
from engine.errors import CheckpointError

# The storages of torch.save and their element types. Complex and quantized storages cannot hold weights.
STORAGES = {
    "torch DoubleStorage": "f8",
    "torch FloatStorage": "f4",
    "torch HalfStorage": "f2",
    "torch BFloat16Storage": BFLOAT16,
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_DICTS = ("collections OrderedDict", "collections Counter")
_NAMESPACE = "argparse Namespace"
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
_ALLOWED_NAMES = re.compile(
    r"torch\._utils _rebuild_tensor_v2|torch (Size|device|(bfloat|float|int|uint)\d+|bool)|"
    + "|".join(re.escape(name) for name in (*_DICTS, _NAMESPACE, *_PARAMETERS, *STORAGES))
)
_OPERATIONS = {operation.code: operation.name for operation in pickletools.opcodes}
MAX_AXES = 8


@dataclass(frozen=True)
class GlobalName:
    """A name to which the pickle refers, as "module name"."""

    text: str


@dataclass(eq=False)
class Namespace:
    """The attributes of an argparse.Namespace."""

    values: Any = None


@dataclass(frozen=True)
class Storage:
    """A record of the archive with `count` values; several tensors may share it."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, eq=False)
class TensorView:
    """A tensor as a strided view inside a storage. Offset and strides are in values."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """Number of values of the storage from the view's first to its last value."""
        if not self.size:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


def read_pickle(program: bytes) -> Any:
    """Read a pickle into dicts, lists, tuples, numbers, strings and `TensorView`, with inert objects for other names.

    Entries of dicts under keys that are neither strings nor 64-bit integers are dropped: comparing foreign keys can
    take arbitrarily long. The result may refer to itself, so no code may traverse all of it.

    Args:
        program: the bytes of the pickle.

    Raises:
        CheckpointError: the pickle uses a name or an operation that no checkpoint needs.
        Exception: any type, if the pickle is damaged.
    """
    return _StackMachine(program).run()


class _StackMachine:
    """The state of a pickle's execution."""

    def __init__(self, program: bytes) -> None:
        self.file = io.BytesIO(program)
        self.stack: list[Any] = []
        self.stacks_below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Execute the program and return its result."""
        while (code := self.file.read(1)) != pickle.STOP:
            self.step(code)
        return self.stack.pop()

    def step(self, code: bytes) -> None:
        """Execute one operation."""
        stack = self.stack
        match code:
            case pickle.BINPUT | pickle.LONG_BINPUT:
                self.memo[self.number("B" if code == pickle.BINPUT else "<I")] = stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                stack.append(self.memo[self.number("B" if code == pickle.BINGET else "<I")])
            case pickle.BININT1:
                stack.append(self.number("B"))
            case pickle.BININT2:
                stack.append(self.number("<H"))
            case pickle.BININT:
                stack.append(self.number("<i"))
            case pickle.BINFLOAT:
                stack.append(self.number(">d"))
            case pickle.LONG1:
                stack.append(int.from_bytes(self.take(self.number("B")), "little", signed=True))
            case pickle.BINUNICODE:
                stack.append(self.take(self.number("<I")).decode("utf-8", "surrogatepass"))
            case pickle.SHORT_BINSTRING:
                stack.append(self.take(self.number("B")).decode("utf-8"))
            case pickle.NONE:
                stack.append(None)
            case pickle.NEWTRUE | pickle.NEWFALSE:
                stack.append(code == pickle.NEWTRUE)
            case pickle.EMPTY_TUPLE:
                stack.append(())
            case pickle.EMPTY_LIST:
                stack.append([])
            case pickle.EMPTY_DICT:
                stack.append({})
            case pickle.MARK:
                self.stacks_below_marks.append(stack)
                self.stack = []
            case pickle.TUPLE:
                items = self.since_mark()
                self.stack.append(tuple(items))
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                count = 1 + (pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3).index(code)
                self.stack[-count:] = [tuple(self.top(count))]
            case pickle.APPEND | pickle.APPENDS:
                items = self.since_mark() if code == pickle.APPENDS else [stack.pop()]
                self.expect(list).extend(items)
            case pickle.SETITEM | pickle.SETITEMS:
                items = self.since_mark() if code == pickle.SETITEMS else [stack.pop(), stack.pop()][::-1]
                self.expect(dict).update(_entries(items))
            case pickle.GLOBAL:
                stack.append(self.name())
            case pickle.REDUCE | pickle.NEWOBJ:
                arguments, name = stack.pop(), stack.pop()
                stack.append(_describe_call(name, arguments))
            case pickle.BUILD:
                state = stack.pop()
                if isinstance(stack[-1], Namespace):
                    stack[-1].values = state
            case pickle.BINPERSID:
                stack.append(_storage(stack.pop()))
            case pickle.PROTO:
                self.number("B")
            case _:
                name = _OPERATIONS.get(code.decode("latin-1"))
                reason = f"the operation {name}" if name else f"the byte {code!r}" if code else "no end"
                raise CheckpointError(f"expected a pickle of tensors, got one with {reason}")

    def take(self, count: int) -> bytes:
        """Read the next bytes of the program."""
        content = self.file.read(count)
        if len(content) != count:
            raise CheckpointError("expected a pickle of tensors, got one that ends early")
        return content

    def number(self, layout: str) -> Any:
        """Read a number in a layout of the struct module."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def name(self) -> GlobalName:
        """Read a name and check that it is allowed."""
        text = " ".join(self.file.readline().removesuffix(b"\n").decode("utf-8") for _ in range(2))
        if not _ALLOWED_NAMES.fullmatch(text):
            raise CheckpointError(f"expected a pickle of tensors, got one that refers to {text!r:.80}")
        return GlobalName(text)

    def since_mark(self) -> list[Any]:
        """Pop all items above the last mark, and the mark."""
        items, self.stack = self.stack, self.stacks_below_marks.pop()
        return items

    def top(self, count: int) -> list[Any]:
        """Return the topmost items without popping them."""
        if len(self.stack) < count:
            raise CheckpointError("expected a pickle of tensors, got one with an empty stack")
        return self.stack[-count:]

    def expect(self, kind: type) -> Any:
        """Return the topmost item after checking its type."""
        if not isinstance(self.stack[-1], kind):
            raise CheckpointError(f"expected a {kind.__name__} in the pickle, got a {type(self.stack[-1]).__name__}")
        return self.stack[-1]


def _entries(items: list[Any]) -> dict[Any, Any]:
    pairs = zip(items[::2], items[1::2], strict=True)
    return {k: v for k, v in pairs if type(k) is str or (type(k) is int and abs(k) < 2**63)}


def _describe_call(name: Any, arguments: Any) -> Any:
    """Return an inert description of the object that a call would create.

    It takes constant time: with a copy of the arguments, a short pickle could take hours.
    """
    if not isinstance(name, GlobalName) or type(arguments) is not tuple:
        raise CheckpointError(f"expected a call of a name in the pickle, got one of a {type(name).__name__}")
    if name.text == "torch._utils _rebuild_tensor_v2":
        return _view(*arguments[:4])
    if name.text in _PARAMETERS:
        return arguments[0]
    if name.text == _NAMESPACE:
        return Namespace()
    if name.text in _DICTS:
        return arguments[0] if arguments and type(arguments[0]) is dict else {}
    if name.text == "torch Size":
        return arguments[0]
    return name


def _view(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorView:
    if not isinstance(storage, Storage) or not _are_sizes((offset,), shape, strides):
        raise CheckpointError("expected a tensor in the pickle, got a view of something else")
    if len(shape) != len(strides):
        raise CheckpointError(f"expected a stride for each axis, got {len(strides)} for {len(shape)}")
    view = TensorView(storage, offset, tuple(shape), tuple(strides))
    if view.offset + view.span > storage.count:
        raise CheckpointError(
            f"expected a tensor inside the {storage.count} values of its record, got shape {view.shape!r:.80}"
        )
    return view


def _are_sizes(*sequences: Any) -> bool:
    return all(
        type(values) in (tuple, list) and len(values) <= MAX_AXES and all(_is_size(n) for n in values)
        for values in sequences
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _storage(persistent_id: Any) -> Storage:
    """Return the storage of ("storage", type, key, device, count); the device is ignored."""
    word, kind, key, _, count = persistent_id
    known = isinstance(kind, GlobalName) and kind.text in STORAGES
    if word != "storage" or not known or type(key) is not str or not _is_size(count):
        raise CheckpointError("expected a storage of torch.save in the pickle, got another persistent object")
    return Storage(STORAGES[kind.text], key, count)
