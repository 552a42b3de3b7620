"""The unpickler agrees with torch on the output of torch.save, and calls nothing."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import functools
import io
import logging
import pathlib
import pickle
import random
import re
import time
import uuid
import zipfile
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.unpickler import STORAGES, Inert, Storage, TensorView, read_pickle
from engine.errors import CheckpointError

KEYS = st.one_of(st.text(), st.integers(-(2**63) + 1, 2**63 - 1))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner)),
)


PROTOCOLS = (2, 3, 4, 5)


@settings(deadline=None)
@given(VALUES, st.sampled_from(PROTOCOLS))
def test_plain_values_agree_with_pickle(value: Any, protocol: int) -> None:
    result = read_pickle(pickle.dumps(value, protocol=protocol))
    assert result == value and repr(result) == repr(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_and_long_values(protocol: int) -> None:
    """Protocol 2 has no bytes; long strings and integers have operations of their own."""
    content = {"text": "x" * 300, "integer": 2**3000, "bytes": b"\x00\xff" * 200, "array": bytearray(b"abc")}
    result = read_pickle(pickle.dumps(content, protocol=protocol))
    assert (result["text"], result["integer"]) == (content["text"], content["integer"])
    if protocol == 2:
        assert result["bytes"].arguments == (content["bytes"].decode("latin-1"), "latin1")
    else:
        assert result["bytes"] == content["bytes"]
    if protocol == 5:
        assert result["array"] == b"abc"


def test_shared_objects_stay_shared() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    result = read_pickle(pickle.dumps([inner, inner, ("x", "x")], protocol=2))
    assert result[0] is result[1] is result[0][1] and result[2][0] is result[2][1]


def test_other_types_of_dicts_become_dicts() -> None:
    content = {
        "ordered": collections.OrderedDict(a=1, b=[2]),
        "counter": collections.Counter("aab"),
        "empty": collections.Counter(),
        "namespace": argparse.Namespace(T=200, beta=0.5),
    }
    content["ordered"]._metadata = {"version": 1}  # type: ignore[attr-defined]  # as torch's state dicts have
    result = read_pickle(pickle.dumps(content, protocol=2))
    assert (result["ordered"], result["counter"], result["empty"]) == ({"a": 1, "b": [2]}, {"a": 2, "b": 1}, {})
    assert isinstance(result["namespace"], Inert) and result["namespace"].state == {"T": 200, "beta": 0.5}


class Settings(dict[str, Any]):
    """LMNT's AttrDict: its attributes are its entries, so its state is the object itself."""

    def __init__(self, *arguments: Any, **entries: Any) -> None:
        super().__init__(*arguments, **entries)
        self.__dict__ = self


class Point:
    """An object with slots."""

    __slots__ = ("x", "y")

    def __init__(self) -> None:
        self.x, self.y = 1, [2]


class Names(list[str]):
    """A subclass of list."""


class Color(enum.Enum):
    """An enumeration."""

    RED = 1


def decay(*_: object) -> float:
    return 0.5


def foreign_objects() -> dict[str, Any]:
    """Return objects that trainers store beside the weights, and that no network needs."""
    return {
        "path": pathlib.PurePosixPath("/data"),
        "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        "enum": Color.RED,
        "partial": functools.partial(decay, 3, key=[4]),
        "set": {1, (2, 3)},
        "frozenset": frozenset({"x"}),
        "complex": 1 + 2j,
        "deque": collections.deque([1, 2], maxlen=3),
        "generator": random.Random(3),
        "random state": random.getstate(),
        "numpy scalar": np.float64(0.3),
        "numpy array": np.arange(5.0),
        "numpy random state": np.random.RandomState(3).get_state(),
        "numpy generator": np.random.default_rng(3),
        "objects": np.array([{}, None], dtype=object),
        "records": np.zeros(2, [("x", "f4")]),
        "decimal": decimal.Decimal("0.1"),
        "uuid": uuid.UUID(int=3),
        "pattern": re.compile("x+"),
        "exception": ValueError("x"),
        "range": range(3),
        "function": decay,
        "class": Point,
        "slots": Point(),
        "logger": logging.getLogger("x"),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", foreign_objects())
def test_foreign_objects_are_inert(protocol: int, name: str) -> None:
    value = foreign_objects()[name]
    assert read_pickle(pickle.dumps({"before": 1, "foreign": value, "after": [2]}, protocol=protocol)) == {
        "before": 1,
        "foreign": mock.ANY,
        "after": [2],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_content_of_objects_is_kept(protocol: int) -> None:
    shared = Settings(a=1, b=[2.0], c=Settings(d=3))
    result = read_pickle(pickle.dumps([shared, shared, Point(), Names(["x", "y"]), {7}], protocol=protocol))
    settings, again, point, names, numbers = result
    assert settings is again and settings.state is settings and settings.name.endswith("Settings")
    assert {**settings.entries, "c": settings.entries["c"].entries} == {"a": 1, "b": [2.0], "c": {"d": 3}}
    assert point.state == (None, {"x": 1, "y": [2]})
    assert names.members == ["x", "y"]
    assert numbers.members == [7] or numbers.arguments == ([7],)


def test_tensor_with_attributes() -> None:
    torch = pytest.importorskip("torch")
    parameter, file = torch.nn.Parameter(torch.ones(3)), io.BytesIO()
    parameter.note = "x"
    torch.save({"parameter": parameter, "complex": torch.zeros(2, dtype=torch.complex64)}, file)
    with zipfile.ZipFile(file) as archive:
        result = read_pickle(archive.read("archive/data.pkl"))
    assert result["parameter"] == mock.ANY and result["parameter"].shape == (3,)
    assert isinstance(result["complex"], Inert)


def test_operations_are_limited() -> None:
    program = pickle.dumps([None] * 100, protocol=2)
    assert read_pickle(program, 110) == [None] * 100
    with pytest.raises(CheckpointError, match="expected a pickle of at most 100 operations, got more"):
        read_pickle(program, 100)
    assert read_pickle(pickle.dumps([0.5] * 400, protocol=2), 110) == [0.5] * 400  # numbers are small


def test_keys_that_may_compare_slowly_are_dropped() -> None:
    content = {(1, 2): 1, None: 2, 0.5: 3, 2**63: 4, True: 5, "kept": 6, -7: 7}
    assert read_pickle(pickle.dumps(content, protocol=2)) == {"kept": 6, -7: 7}


def test_tensors_are_views_of_storages() -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {"whole": base, "part": base[1, :, 1:3], "turned": base.permute(2, 0, 1), "empty": base[:0]}
    content["parameter"] = torch.nn.Parameter(base)
    content["dtypes"] = {name: torch.zeros(2, dtype=dtype) for name, dtype in _dtypes(torch).items()}
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        result = read_pickle(archive.read("archive/data.pkl"))
    storage = Storage("f4", "0", 24)
    for name in ("whole", "part", "turned", "empty", "parameter"):
        view, tensor = result[name], content[name]
        assert isinstance(view, TensorView) and view.storage == storage
        assert (view.shape, view.strides, view.offset) == (
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
        )
        assert view.size == tensor.numel()
    assert (result["part"].span, result["turned"].span, result["empty"].span) == (10, 24, 0)
    assert {name: view.storage.dtype for name, view in result["dtypes"].items()} == {
        name: STORAGES[f"torch {name}Storage"] for name in result["dtypes"]
    }


def _dtypes(torch: Any) -> dict[str, Any]:
    names = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64"}
    names.update(Int="int32", Short="int16", Char="int8", Byte="uint8", Bool="bool")
    return {name: getattr(torch, dtype) for name, dtype in names.items()}


# Pickles, operation by operation


def name(text: str) -> bytes:
    return b"c" + text.replace(" ", "\n").encode() + b"\n"


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def storage(count: int = 4, kind: str = "torch FloatStorage") -> bytes:
    return b"(" + text("storage") + name(kind) + text("0") + text("cpu") + number(count) + b"tQ"


def tensor(storage_program: bytes, offset: bytes, shape: bytes, strides: bytes) -> bytes:
    return name("torch._utils _rebuild_tensor_v2") + b"(" + storage_program + offset + shape + strides + b"\x89NtR"


def sizes(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (name("posix system") + text("x") + b"\x85R.", "refers to 'posix system'"),
        (name("__builtin__ eval") + b".", "refers to '__builtin__ eval'"),
        (name("torch.storage _load_from_bytes") + b".", "refers to"),
        (name("collections OrderedDict.__init__") + b".", "refers to"),
        (name("os.path join") + b".", "refers to 'os.path join'"),
        (name("types CodeType") + b".", "refers to 'types CodeType'"),
        (name("torch load") + b".", "refers to 'torch load'"),
        (text("os") + text("system") + b"\x93.", "refers to 'os system'"),
        (text("os") + b"N\x93.", "expected a name in the pickle"),
        (b"K\x01" + text("system") + b"\x93.", "expected a name in the pickle, got one of a int"),
        (name("builtins getattr") + text("os") + text("system") + b"\x86R.", "an attribute of a value"),
        (b"\x97.", "operation NEXT_BUFFER"),
        (b"(S'x'\nios\nsystem\n.", "operation STRING"),
        (b"(ios\nsystem\n.", "operation INST"),
        (b"(" + name("collections OrderedDict") + b"o.", "operation OBJ"),
        (b"\x82\x01.", "operation EXT1"),
        (b"\x8b\xff\xff\xff\x7f.", "ends early"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "ends early"),
        (b"I99\n.", "operation INT"),
        (b"N2.", "operation DUP"),
        (b"\xff", r"the byte b'\\xff'"),
        (b"", "no end"),
        (b"NN", "no end"),
        (b"X\xff\xff\xff\xffabc.", "ends early"),
        (b"\x8a\x09abc.", "ends early"),
        (b"N" + text("x") + b"a.", "expected a list in the pickle, got a NoneType"),
        (b"]" + text("x") + text("y") + b"s.", "expected a dict"),
        (text("x") + b")R.", "expected a call of a name in the pickle, got one of a str"),
        (name("torch device") + b"]R.", "expected a call of a name"),
        (b"\x86.", "empty stack"),
        (b"(" + text("module") + name("torch FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ.", "storage"),
        (b"(" + text("storage") + text("x") + text("0") + text("cpu") + number(4) + b"tQ.", "storage"),
        (storage(-1) + b".", "storage"),
        (storage(2**62) + b".", "storage"),
        (tensor(storage(), number(0), sizes(5), sizes(1)), r"inside the 4 values of its record, got shape \(5,\)"),
        (tensor(storage(), number(4), sizes(1), sizes(1)), "inside the 4 values"),
        (tensor(storage(), number(0), sizes(2, 2), sizes(1, 3)), "inside the 4 values"),
        (tensor(storage(), number(-1), sizes(1), sizes(1)), "a view of something else"),
        (tensor(storage(), number(0), sizes(-1), sizes(1)), "a view of something else"),
        (tensor(storage(), number(0), sizes(2), sizes(-1)), "a view of something else"),
        (tensor(storage(), number(0), sizes(*[1] * 9), sizes(*[1] * 9)), "a view of something else"),
        (tensor(storage(), number(0), sizes(1, 1), sizes(1)), "a stride for each axis, got 1 for 2"),
        (tensor(storage(), number(0), text("x"), sizes(1)), "a view of something else"),
        (tensor(storage(), b"\x88", sizes(1), sizes(1)), "a view of something else"),
        (tensor(b"N", number(0), sizes(1), sizes(1)), "a view of something else"),
    ],
)
def test_unneeded_operations_and_names_are_refused(program: bytes, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as refusal:
        read_pickle(program)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "program", [b"t.", b".", b"a.", b"e.", b"u.", b"s.", b"R.", b"b.", b"Q.", b"h\x05.", b"Nq\x00h\x01.", b"(K.", b"t"]
)
def test_damaged_programs_raise(program: bytes) -> None:
    with pytest.raises((IndexError, KeyError, CheckpointError)):
        read_pickle(program)


def _long(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


LONG_LIST = b"](" + b"N" * 100000 + b"eq\x00"

SHORT_PROGRAMS = {
    "tuples of tuples": b"Nq\x00" + (b"(" + b"h\x00" * 50 + b"tq\x00") * 2000 + b".",
    "sizes": LONG_LIST + (name("torch Size") + b"h\x00\x85R") * 10000 + b".",
    "dicts": LONG_LIST + (name("collections OrderedDict") + b"h\x00\x85R") * 10000 + b".",
    "namespaces": LONG_LIST + (name("argparse Namespace") + b")\x81h\x00b") * 10000 + b".",
    "objects": LONG_LIST + (name("x Y") + b"h\x00\x85R" + b"(h\x00h\x00e") * 10000 + b".",
    "sets": b"\x8f" * 500000 + b".",
    "frozen sets": LONG_LIST + b"(h\x00h\x00\x91" * 100000 + b".",
    "keys with one hash": b"}(" + b"".join(b"\x8a\x10%bN" % _long(k * (2**61 - 1), 16) for k in range(50000)) + b"u.",
    "keys with similar hashes": b"}(" + b"".join(b"\x8a\x08%bN" % _long(k << 41, 8) for k in range(50000)) + b"u.",
    "marks": b"(" * 500000 + b"t" * 500000 + b".",
    "depth": b"N" + b"\x85" * 900000 + b".",
}


@pytest.mark.parametrize("program", SHORT_PROGRAMS.values(), ids=SHORT_PROGRAMS)
def test_short_pickles_take_a_short_time(program: bytes) -> None:
    """A reader that copies, traverses or compares shared objects would need hours."""
    begin = time.perf_counter()
    read_pickle(program)
    assert time.perf_counter() - begin < 20.0  # takes about one second
