"""Unpickler for PyTorch checkpoints that imports and calls nothing.

A pickle is a program for a stack machine. This machine implements the operations that torch.save writes with protocols
2 to 5. It builds dicts, lists, tuples, numbers, strings, bytes and tensors. Every other object becomes an `Inert`: a
description with the name of its class and its content. No name is imported, no object of a class is created.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.code_names import runs_code
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
_DICTS = ("collections OrderedDict", "collections Counter", "collections defaultdict")
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
_TYPED_TENSOR = "torch._tensor _rebuild_from_type_v2"
_GETATTR = ("builtins getattr", "__builtin__ getattr")
_OPERATIONS = {operation.code: operation.name for operation in pickletools.opcodes}
_MEMO_WRITES = {pickle.BINPUT: "B", pickle.LONG_BINPUT: "<I"}
_MEMO_READS = {pickle.BINGET: "B", pickle.LONG_BINGET: "<I"}
_NUMBERS = {pickle.BININT1: "B", pickle.BININT2: "<H", pickle.BININT: "<i", pickle.BINFLOAT: ">d"}
# Operations with a length, a layout of the struct module, and then that many bytes.
_TEXTS = {pickle.SHORT_BINUNICODE: "B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q", pickle.SHORT_BINSTRING: "B"}
_BYTES = {pickle.SHORT_BINBYTES: "B", pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q", pickle.BYTEARRAY8: "<Q"}
_INTEGERS = {pickle.LONG1: "B", pickle.LONG4: "<I"}
_SMALL_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_SINGLETONS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
_SKIPPED = "long content that was not read"
_WIDE = 0xC4  # the first byte, in UTF-8, of the characters that take more than one byte in memory
_EARLY_END = "expected a pickle of tensors, got one that ends early"
MAX_AXES = 8
MAX_TEXT = 1 << 22  # bytes of all texts together: in memory, a character may take four times as much as in the file
MAX_BYTES = 1 << 25  # of all bytes, and of texts of single bytes, as which protocol 2 stores bytes


@dataclass(frozen=True)
class GlobalName:
    """A name to which the pickle refers, as "module name"."""

    text: str


class Inert:
    """The description of an object of a class that is neither imported nor created.

    Attributes:
        name: of the class, or of the function that would create the object, as "module name".
        arguments: of the call that would create it.
        state: of the object, usually its attributes by name; None without any.
        entries: of a subclass of dict; None without any.
        members: of a set, or of a subclass of list; None without any.
    """

    __slots__ = ("arguments", "entries", "members", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] = (), members: list[Any] | None = None) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.entries: dict[Any, Any] | None = None
        self.members = members


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


def read_pickle(program: bytes, max_operations: int | None = None) -> Any:
    """Read a pickle into dicts, lists, tuples, numbers, strings, bytes, `TensorView`, and `Inert` for other objects.

    Entries of dicts under keys that are neither strings nor 64-bit integers are dropped: comparing foreign keys can
    take arbitrarily long. The result may refer to itself, so no code may traverse all of it.

    Args:
        program: the bytes of the pickle.
        max_operations: the most operations to execute, a bound of memory and time, where a number counts as a quarter
            of one; None for any number.

    Raises:
        CheckpointError: the pickle refers to code, or uses an operation that no checkpoint needs.
        Exception: any type, if the pickle is damaged.
    """
    return _StackMachine(program).run(max_operations)


class _StackMachine:
    """The state of a pickle's execution."""

    def __init__(self, program: bytes) -> None:
        self.file = io.BytesIO(program)
        self.size = len(program)
        self.remaining_text, self.remaining_bytes = MAX_TEXT, MAX_BYTES
        self.stack: list[Any] = []
        self.stacks_below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, max_operations: int | None) -> Any:
        """Execute the program and return its result."""
        remaining = math.inf if max_operations is None else float(max_operations)
        while (code := self.file.read(1)) != pickle.STOP:
            remaining -= 0.25 if code in _NUMBERS else 1.0
            if remaining < 0:
                raise CheckpointError(f"expected a pickle of at most {max_operations} operations, got more")
            self.step(code)
        return self.stack.pop()

    def step(self, code: bytes) -> None:
        """Execute one operation."""
        stack = self.stack
        if code in _MEMO_WRITES:
            self.memo[self.number(_MEMO_WRITES[code])] = stack[-1]
        elif code in _MEMO_READS:
            stack.append(self.memo[self.number(_MEMO_READS[code])])
        elif code in _NUMBERS:
            stack.append(self.number(_NUMBERS[code]))
        elif code in _TEXTS:
            stack.append(self.text(self.number(_TEXTS[code])))
        elif code in _BYTES:
            stack.append(self.byte_string(self.number(_BYTES[code])))
        elif code in _INTEGERS:
            stack.append(int.from_bytes(self.take(self.number(_INTEGERS[code])), "little", signed=True))
        elif code in _SINGLETONS:
            stack.append(_SINGLETONS[code])
        elif code in _SMALL_TUPLES:
            stack[-_SMALL_TUPLES[code] :] = [tuple(self.top(_SMALL_TUPLES[code]))]
        else:
            self.step_of_an_object(code)

    def step_of_an_object(self, code: bytes) -> None:
        """Execute an operation that builds a container or an object."""
        stack = self.stack
        match code:
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = stack[-1]
            case pickle.EMPTY_LIST:
                stack.append([])
            case pickle.EMPTY_DICT:
                stack.append({})
            case pickle.EMPTY_SET:
                stack.append(Inert("builtins set"))
            case pickle.FROZENSET:
                items = self.since_mark()
                self.stack.append(Inert("builtins frozenset", members=items))
            case pickle.MARK:
                self.stacks_below_marks.append(stack)
                self.stack = []
            case pickle.POP | pickle.POP_MARK:
                if stack and code == pickle.POP:
                    stack.pop()
                else:
                    self.since_mark()
            case pickle.TUPLE:
                items = self.since_mark()
                self.stack.append(tuple(items))
            case pickle.APPEND | pickle.APPENDS | pickle.ADDITEMS:
                items = [stack.pop()] if code == pickle.APPEND else self.since_mark()
                self.members().extend(items)
            case pickle.SETITEM | pickle.SETITEMS:
                items = self.since_mark() if code == pickle.SETITEMS else [stack.pop(), stack.pop()][::-1]
                self.entries().update(_entries(items))
            case pickle.GLOBAL:
                lines = (self.file.readline().removesuffix(b"\n").decode("utf-8") for _ in range(2))
                stack.append(_global_name(*lines))
            case pickle.STACK_GLOBAL:
                name, module = stack.pop(), stack.pop()
                stack.append(_global_name(module, name))
            case pickle.REDUCE | pickle.NEWOBJ:
                arguments, name = stack.pop(), stack.pop()
                stack.append(_describe_call(name, arguments))
            case pickle.NEWOBJ_EX:
                _, arguments, name = stack.pop(), stack.pop(), stack.pop()
                stack.append(_describe_call(name, arguments))
            case pickle.BUILD:
                state = stack.pop()
                if isinstance(stack[-1], Inert):
                    stack[-1].state = state
            case pickle.BINPERSID:
                stack.append(_storage(stack.pop()))
            case pickle.PROTO:
                self.number("B")
            case pickle.FRAME:
                self.number("<Q")
            case _:
                name = _OPERATIONS.get(code.decode("latin-1"))
                reason = f"the operation {name}" if name else f"the byte {code!r}" if code else "no end"
                raise CheckpointError(f"expected a pickle of tensors, got one with {reason}")

    def text(self, count: int) -> Any:
        """Read a text; a very long one is skipped, unless each of its characters takes one byte in memory."""
        if count <= self.remaining_text:
            self.remaining_text -= count
            return self.take(count).decode("utf-8", "surrogatepass")
        content = self.byte_string(count)
        wide = isinstance(content, Inert) or max(content) >= _WIDE
        return Inert(_SKIPPED) if wide else content.decode("utf-8", "surrogatepass")

    def byte_string(self, count: int) -> Any:
        """Read the bytes of a string; a very long one is skipped."""
        if count <= self.remaining_bytes:
            self.remaining_bytes -= count
            return self.take(count)
        if count > self.size - self.file.tell():
            raise CheckpointError(_EARLY_END)
        self.file.seek(count, io.SEEK_CUR)
        return Inert(_SKIPPED)

    def take(self, count: int) -> bytes:
        """Read the next bytes of the program."""
        content = self.file.read(count)
        if len(content) != count:
            raise CheckpointError(_EARLY_END)
        return content

    def number(self, layout: str) -> Any:
        """Read a number in a layout of the struct module."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def since_mark(self) -> list[Any]:
        """Pop all items above the last mark, and the mark."""
        items, self.stack = self.stack, self.stacks_below_marks.pop()
        return items

    def top(self, count: int) -> list[Any]:
        """Return the topmost items without popping them."""
        if len(self.stack) < count:
            raise CheckpointError("expected a pickle of tensors, got one with an empty stack")
        return self.stack[-count:]

    def members(self) -> list[Any]:
        """Return the topmost item, a list, or the members of an object."""
        item = self.stack[-1]
        if isinstance(item, Inert):
            item.members = [] if item.members is None else item.members
            item = item.members
        if not isinstance(item, list):
            raise CheckpointError(f"expected a list in the pickle, got a {type(item).__name__}")
        return item

    def entries(self) -> dict[Any, Any]:
        """Return the topmost item, a dict, or the entries of an object."""
        item = self.stack[-1]
        if isinstance(item, Inert):
            item.entries = {} if item.entries is None else item.entries
            item = item.entries
        if not isinstance(item, dict):
            raise CheckpointError(f"expected a dict in the pickle, got a {type(item).__name__}")
        return item


def _entries(items: list[Any]) -> dict[Any, Any]:
    pairs = zip(items[::2], items[1::2], strict=True)
    return {k: v for k, v in pairs if type(k) is str or (type(k) is int and abs(k) < 2**63)}


def _global_name(module: Any, name: Any) -> GlobalName:
    """Return a name, unless it is that of code."""
    if type(module) is not str or type(name) is not str:
        raise CheckpointError(f"expected a name in the pickle, got one of a {type(module).__name__}")
    if runs_code(module, name):
        raise CheckpointError(f"expected a pickle of tensors, got one that refers to {f'{module} {name}'!r:.80}")
    return GlobalName(f"{module} {name}")


def _describe_call(name: Any, arguments: Any) -> Any:
    """Return a description of the object that a call would create.

    It takes constant time: with a copy of the arguments, a short pickle could take hours.
    """
    if isinstance(name, Inert) and type(arguments) is tuple:
        return Inert(name.name, arguments)  # the result of a call is called, such as a class method
    if not isinstance(name, GlobalName) or type(arguments) is not tuple:
        raise CheckpointError(f"expected a call of a name in the pickle, got one of a {type(name).__name__}")
    text = name.text
    if text == "torch._utils _rebuild_tensor_v2":
        return _view(*arguments[:4])
    if text == _TYPED_TENSOR and type(arguments[2]) is tuple and isinstance(arguments[0], GlobalName):
        return _describe_call(arguments[0], arguments[2]) if arguments[0].text != text else Inert(text)
    if text in _PARAMETERS:
        return arguments[0]
    if text in _DICTS:
        return arguments[0] if arguments and type(arguments[0]) is dict else {}
    if text == "torch Size" and arguments:
        return arguments[0]
    if text in _GETATTR and not (len(arguments) == 2 and isinstance(arguments[0], (GlobalName, Inert))):
        raise CheckpointError("expected a pickle of tensors, got one that refers to an attribute of a value")
    return Inert(text, arguments)


def _view(storage: Any, offset: Any, shape: Any, strides: Any) -> Any:
    """Return a view of a storage; of a storage that cannot hold weights, a description."""
    if isinstance(storage, Inert):
        return Inert(storage.name)
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


def _storage(persistent_id: Any) -> Storage | Inert:
    """Return the storage of ("storage", type, key, device, count); the device is ignored."""
    word, kind, key, _, count = persistent_id
    if word != "storage" or not isinstance(kind, GlobalName) or type(key) is not str or not _is_size(count):
        raise CheckpointError("expected a storage of torch.save in the pickle, got another persistent object")
    return Storage(STORAGES[kind.text], key, count) if kind.text in STORAGES else Inert(kind.text)
