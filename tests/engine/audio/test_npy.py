"""Headers of .npy files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from engine.audio.npy import check_size, read_header
from engine.errors import InputError


def saved(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_header_is_read_to_its_end(version: tuple[int, int], order: str) -> None:
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)  # type: ignore[call-overload]
    content = saved(array, version)
    file = io.BytesIO(content)
    header = read_header(file)
    assert header == ((2, 3), order == "F", np.dtype("<f8"), 48) and len(content) - file.tell() == 48
    check_size(header, 48, exact=True)
    check_size(header, 50, exact=False)


@pytest.mark.parametrize("cut", [0, 3, 6, 7, 9, 40, 127])
def test_a_header_that_is_cut_off(cut: int) -> None:
    with pytest.raises(InputError, match=r"^expected an \.npy file, got (no bytes|one (that starts|whose header))"):
        read_header(io.BytesIO(saved(np.zeros(3))[:cut]))


def test_a_version_that_is_unknown() -> None:
    with pytest.raises(InputError, match=r"^expected an \.npy file of version 1\.0 or 2\.0, got version 3\.0$"):
        read_header(io.BytesIO(saved(np.zeros(3), (3, 0))))


@pytest.mark.parametrize(("got", "exact"), [(47, False), (47, True), (49, True)])
def test_a_wrong_number_of_bytes(got: int, exact: bool) -> None:
    header = read_header(io.BytesIO(saved(np.zeros((2, 3)))))
    with pytest.raises(InputError, match=rf"^expected 48 bytes of data for shape \(2, 3\), got {got}; "):
        check_size(header, got, exact=exact)
