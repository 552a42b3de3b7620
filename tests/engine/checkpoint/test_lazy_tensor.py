"""Reading values from a position in a file."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.lazy_tensor import BFLOAT16, as_float32, one_line, read_values, unusable
from engine.checkpoint.source import Source, open_source
from engine.errors import CheckpointError


@pytest.fixture(params=["file", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    content = b"abc" + np.arange(6, dtype="<f4").tobytes()
    (tmp_path / "x").write_bytes(content)
    return open_source(content if request.param == "memory" else tmp_path / "x")


def test_values_at_a_position(source: Source) -> None:
    np.testing.assert_array_equal(read_values(source, 3, "f4", 6), np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(read_values(source, 7, "f4", 2), [1.0, 2.0])
    np.testing.assert_array_equal(
        read_values(source, 3, "f4", 2, big_endian=True), np.frombuffer(bytes(4) + b"\0\0\x80?", ">f4")
    )
    np.testing.assert_array_equal(read_values(source, 3 + 6, BFLOAT16, 1), [1.0])  # the upper half of 1.0
    assert read_values(source, 3, "f4", 0).shape == (0,)


def test_values_beyond_the_end_are_refused(source: Source) -> None:
    with pytest.raises(CheckpointError, match="expected 7 values of f4 at byte 3, got 6"):
        read_values(source, 3, "f4", 7)
    with pytest.raises(CheckpointError, match="expected 1 values of f4 at byte 99999, got 0"):
        read_values(source, 99999, "f4", 1)


def test_checksum_is_checked(source: Source) -> None:
    crc = zlib.crc32(np.arange(6, dtype="<f4"))
    assert len(read_values(source, 3, "f4", 6, crc)) == 6
    with pytest.raises(CheckpointError, match=f"with the CRC {crc ^ 1:08x} at byte 3, got others"):
        read_values(source, 3, "f4", 6, crc ^ 1)


def test_values_belong_to_the_caller(source: Source) -> None:
    read_values(source, 3, "f4", 6)[:] = 7
    np.testing.assert_array_equal(read_values(source, 3, "f4", 6), np.arange(6, dtype=np.float32))


def test_unusable_tensor_has_a_shape_and_no_values() -> None:
    tensor = unusable((2, 3), "it is a counter")
    assert (tensor.shape, tensor.problem) == ((2, 3), "it is a counter")
    with pytest.raises(CheckpointError, match="it is a counter"):
        tensor.read()


def test_float32_is_not_copied() -> None:
    values = np.ones((2, 3), dtype=np.float32)
    assert as_float32(values) is values
    for other in (values.T, values.astype(">f4"), values.astype(np.float16), np.float64([1e300])):
        result = as_float32(other)
        assert result.dtype == np.float32 and result.dtype.isnative
        assert result.flags.c_contiguous and result.shape == other.shape


def test_foreign_message_becomes_one_printable_line() -> None:
    assert one_line(ValueError("a\n\x1b[31m\r  b" + "c" * 999)) == "a ?[31m b" + "c" * 151
    assert one_line(KeyError()) == "KeyError"
