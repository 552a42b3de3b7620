"""Files that must load although they contain foreign, misleading or expensive objects beside the weights."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from tests.support.hostile import CaseFiles

Make = Callable[[CaseFiles], Any]

INERT: dict[str, Make] = {}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(value: str) -> bytes:
    return b"c" + value.replace(" ", "\n").encode() + b"\n"


def plain(value: object) -> bytes:
    """Return the operations that build a value, without the protocol and the end."""
    return pickle.dumps(value, protocol=2)[2:-1]


def beside(label: str, program: bytes) -> None:
    """Add a case: a sound checkpoint whose dict has one more entry, which a program builds."""

    def make(files: CaseFiles) -> None:
        sound = files.entries[f"{files.folder}/data.pkl"]
        files.program(sound[2:-1] + text("hook") + program + b"s.")

    INERT[label] = make


def in_params(label: str, program: bytes) -> None:
    """Add a case: a sound checkpoint whose hyper-parameters have one more entry."""

    def make(files: CaseFiles) -> None:
        sound = files.entries[f"{files.folder}/data.pkl"]
        begin = sound.index(b"}", sound.index(text("params"))) + 1  # the dict is empty yet
        begin += {b"q": 2, b"r": 5}[sound[begin : begin + 1]]
        files.program(sound[2:begin] + text("hook") + program + b"s" + sound[begin:])

    INERT[label] = make


def call(function: str, *arguments: Any) -> bytes:
    return name(function) + plain(arguments) + b"R"


# Calls that nothing executes

beside("call_of_an_unknown_function", call("antigravity geohash", "x"))
beside("call_of_a_constructor", call("pathlib PosixPath", "/etc/passwd"))
beside("call_of_any_size", call("__builtin__ bytearray", 10 << 30))
beside("partial_call", call("functools partial", "os.system"))
beside("call_of_a_partial", call("functools partial", "x") + plain(("y",)) + b"R")
beside("call_with_keywords", name("x Y") + b")" + plain({"a": 1}) + b"\x92")
beside("state_of_an_object", name("x Y") + b")\x81" + plain({"__dict__": {}, "__class__": "posix.system"}) + b"b")
beside("state_that_is_itself", name("x Y") + b")\x81q\xfeh\xfeb")
beside("entry_that_is_itself", name("x Y") + b")\x81q\xfe" + text("x") + b"h\xfes")
beside("object_in_itself", name("x Y") + b")\x81q\xfe(h\xfeh\xfee")
beside("method_of_an_object", name("builtins getattr") + name("x Y") + text("method") + b"\x86R")
beside("enumeration", name("x Y") + plain(("train",)) + b"R")
beside("code_in_text", plain("cposix\nsystem\n(S'touch x'\ntR."))
beside("reconstructed_object", name("copy_reg _reconstructor") + name("x Y") + name("__builtin__ object") + b"N\x87R")
beside("frames_of_any_length", b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN")
beside("protocol_9", b"\x80\x09N")
beside("set_of_keys_that_collide", b"\x8f(" + b"".join(plain(k * (2**61 - 1)) for k in range(20000)) + b"\x90")
beside("integer_of_a_million_digits", b"\x8b" + struct.pack("<i", 400000) + b"\x7f" * 400000)
beside("deep_tuples", b"N" + b"\x85" * 100000)
beside("deep_dicts", b"}" + b"".join(text("x") + b"}" for _ in range(20000)) + b"s" * 20000)
beside("wide_text_of_a_megabyte", b"X" + struct.pack("<I", 1 << 20) + b"\xf0\x9f\x98\x80" + b"x" * ((1 << 20) - 4))

# Settings that nothing can read in bounded time, or that are not what they claim

LIST = plain(list(range(256)))
DTYPE = call("numpy dtype", "f8", False, True) + plain((3, "<", None, None, None, -1, -1, 0)) + b"b"
ARRAY = name("numpy._core.multiarray _reconstruct") + name("numpy ndarray") + b"(K\x00tU\x01b\x87R"


def array(shape: bytes, dtype: bytes, raw: bytes) -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"


def many(value: bytes, use: bytes, count: int) -> bytes:
    """Return the operations for a dict of many entries that use one shared value."""
    entries = b"".join(text(f"{n:x}") + use for n in range(count))
    return value + b"r\x00\xff\x00\x000}(" + entries + b"u"


SHARED = b"j\x00\xff\x00\x00"
in_params("settings_that_share_a_list", many(plain([1] * 50000), SHARED, 20000))
in_params("settings_that_share_a_dict", many(plain({str(n): n for n in range(20000)}), SHARED, 10000))
in_params("settings_of_shared_dicts", many(b"}" + text("x") + b"}s", SHARED, 10000))
in_params(
    "objects_that_share_their_state",
    many(plain({str(n): n for n in range(20000)}), name("x Y") + b")\x81" + SHARED + b"b", 10000),
)
in_params(
    "tuple_of_tuples", b"K\x01" + b"r\x00\xff\x00\x000" + (b"(" + SHARED * 9 + b"tr\x00\xff\x00\x000") * 60 + SHARED
)
in_params("settings_in_themselves", b"}q\xfe" + text("x") + b"h\xfes")
in_params("array_of_gigabytes", array(plain((2**31 - 1,)), DTYPE, plain("x")))
in_params("array_of_a_negative_shape", array(plain((-1,)), DTYPE, plain("x")))
in_params("array_of_many_axes", array(plain((1,) * 100), DTYPE, plain("x")))
in_params("array_with_too_few_bytes", array(plain((9,)), DTYPE, b"C\x01x"))
in_params("array_of_objects", array(plain((1,)), call("numpy dtype", "O8", False, True), plain([None])))
in_params("array_of_a_wide_type", array(plain((1,)), call("numpy dtype", "U99999999", False, True), plain("x")))
in_params("array_of_a_huge_type", array(plain((1,)), call("numpy dtype", "f99999999999", False, True), plain("x")))
in_params("array_of_an_unknown_type", array(plain((1,)), call("numpy dtype", "f7", False, True), plain("x")))
in_params("array_of_a_subtype", array(plain((1,)), call("numpy dtype", "(9,9)f8", False, True), plain("x")))
in_params("array_of_a_type_without_a_name", array(plain((1,)), name("numpy dtype") + b")R", plain("x")))
in_params(
    "array_with_another_order",
    array(plain((1,)), call("numpy dtype", "f8") + plain((3, "x")) + b"b", b"C\x08" + b"x" * 8),
)
in_params("array_without_a_state", ARRAY)
in_params("array_with_a_short_state", ARRAY + plain((1,)) + b"b")
in_params("scalar_without_a_type", call("numpy._core.multiarray scalar", 1, 2))
in_params("scalar_of_nothing", name("numpy._core.multiarray scalar") + b")R")
in_params("scalar_with_long_bytes", name("numpy.core.multiarray scalar") + DTYPE + plain("x" * 9) + b"\x86R")
in_params("buffer_of_nothing", name("numpy._core.numeric _frombuffer") + b")R")
in_params("text_encoded_otherwise", array(plain((1,)), DTYPE, call("_codecs encode", "x", "rot13")))
in_params("text_beyond_latin_1", array(plain((1,)), DTYPE, call("_codecs encode", "\u20ac" * 8, "latin1")))
in_params(
    "arrays_that_share_their_bytes",
    many(call("_codecs encode", "x" * 80000, "latin1"), array(plain((10000,)), DTYPE, SHARED), 2000),
)
