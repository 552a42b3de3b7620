"""Mel files: every format, and files that are not mels."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from engine.audio import mel_files
from engine.audio.mel_files import is_wav, read_mel, write_mel
from engine.errors import InputError

MEL = np.random.default_rng(0).random((5, 7)).astype(np.float32)


def save_array(path: Path, array: npt.NDArray[Any], name: str = "mel") -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{name: array})
    else:
        save_file({name: array}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_every_format(tmp_path: Path, suffix: str, dtype: str, lead: tuple[int, ...]) -> None:
    array = MEL.astype(dtype).reshape(lead + MEL.shape)
    mel = read_mel(save_array(tmp_path / f"m{suffix}", array, "anything"))
    assert mel.dtype == np.float32
    np.testing.assert_array_equal(mel, MEL.astype(dtype).astype(np.float32))


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mel(save_array(tmp_path / "m.npy", MEL).rename(tmp_path / "m.safetensors")), MEL)
    assert not is_wav(tmp_path / "m.safetensors")
    (tmp_path / "recording").write_bytes(b"RIFF1234WAVE")
    (tmp_path / "DAMAGED.WAV").write_bytes(b"nothing")
    assert is_wav(tmp_path / "recording") and is_wav(tmp_path / "DAMAGED.WAV")


def test_big_endian_and_fortran_order(tmp_path: Path) -> None:
    mel = read_mel(save_array(tmp_path / "m.npy", np.asfortranarray(MEL.astype(">f8"))))
    assert mel.dtype == np.float32 and mel.dtype.isnative
    np.testing.assert_array_equal(mel, MEL)


def test_values_beyond_float32_become_infinite_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    assert np.isinf(read_mel(save_array(tmp_path / "m.npy", np.full((5, 7), 1e300)))).all()
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_array_called_mel_is_taken(tmp_path: Path, suffix: str) -> None:
    save = np.savez if suffix == ".npz" else lambda path, **arrays: save_file(arrays, path)
    path = tmp_path / f"m{suffix}"
    save(path, other=np.zeros((5, 7), np.float32), mel=MEL)
    np.testing.assert_array_equal(read_mel(path), MEL)
    save(path, a=MEL, b=MEL)
    with pytest.raises(InputError, match=r"m\.\w+: expected one array, or one called 'mel', got 2: 'a', 'b'$"):
        read_mel(path)
    save(path, **{f"x{n}": MEL for n in range(9)})
    with pytest.raises(InputError, match=r"got 9: 'x0', 'x1', 'x2', 'x3', 'x4' and 4 more$"):
        read_mel(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 7), np.int16), "expected float16, float32 or float64, got int16"),
        (np.zeros((5, 7), np.complex64), "got complex64"),
        (np.zeros((5, 7), [("a", "f4")]), r"got \[\('a', '<f4'\)\]"),
        (np.array([["a"]]), "got <U1"),
        (np.zeros(()), r"expected one mel of shape \[M, T\] or \[1, M, T\], got shape \(\)"),
        (np.zeros(5), r"got shape \(5,\)"),
        (np.zeros((2, 5, 7)), r"got shape \(2, 5, 7\)"),
        (np.zeros((1, 1, 5, 7)), r"got shape \(1, 1, 5, 7\)"),
    ],
)
def test_impossible_arrays(tmp_path: Path, array: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"m\.npy: .*{message}"):
        read_mel(save_array(tmp_path / "m.npy", array))


class Trap:
    """An object that records when it is unpickled."""

    sprung: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return self.sprung.append, ("sprung",)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    trap: Any = np.empty((1,), object)
    trap[0] = Trap()
    np.save(tmp_path / "m.npy", trap)
    np.savez(tmp_path / "m.npz", mel=trap)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(MEL))
    for name, message in (("m.npy", "Object arrays"), ("m.npz", "Object arrays"), ("m.pkl", "expected a mel")):
        with pytest.raises(InputError, match=message):
            read_mel(tmp_path / name)
    assert not Trap.sprung


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_every_truncation_raises(tmp_path: Path, suffix: str) -> None:
    path = save_array(tmp_path / f"m{suffix}", MEL)
    content = path.read_bytes()
    for cut in {0, 1, 8, 9, 20, len(content) // 2, len(content) - 4, len(content) - 1}:
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=rf"m{suffix}: ") as caught:
            read_mel(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_header_that_claims_a_petabyte(tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (80, 3000000000000), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + MEL.tobytes())
    with pytest.raises(InputError, match=r"expected an \.npy array, got: "):
        read_mel(path)


def test_other_files(tmp_path: Path) -> None:
    torch.save({"mel": torch.zeros(5, 7)}, tmp_path / "m.pt")
    save_torch({"mel": torch.zeros(5, 7, dtype=torch.bfloat16)}, tmp_path / "bf16.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    (tmp_path / "m.mp3").write_bytes(b"ID3 and so on")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "m.pt": "expected an array, got a file without any",
        "bf16.safetensors": "'mel': expected F16, F32 or F64, got BF16",
        "none.safetensors": "expected an array, got a file without any",
        "empty.zip": "expected an array, got a file without any",
        "m.mp3": "expected a mel .* or a WAV file, got a file that starts with b'ID3 .*ffmpeg",
        "empty": "got an empty file",
        "pipe": "expected a regular file, got a pipe or a device",
        ".": "expected a file, got a directory",
        "absent.npy": "cannot read it: No such file or directory",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_mel(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_write_mel(tmp_path: Path) -> None:
    write_mel(tmp_path / "m.npy", MEL)
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), MEL)
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "m.npy").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, call: str
) -> None:
    (tmp_path / "m.npy").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(mel_files.os, call, fail)
    with pytest.raises(type(error)):
        write_mel(tmp_path / "m.npy", MEL)
    assert [path.name for path in tmp_path.iterdir()] == ["m.npy"]
    assert (tmp_path / "m.npy").read_bytes() == b"old"
