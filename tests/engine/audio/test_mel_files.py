"""Mel files: every format, and files that are not mels."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from engine.audio import mel_files
from engine.audio.mel_files import is_raw, is_wav, read_mel, read_raw_mel, spooled, write_mel
from engine.checks.file_kinds import START
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


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt"])
def test_a_mel_with_the_suffix_of_a_recording(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save(torch.from_numpy(MEL), path)
    else:
        save_array(path, MEL)
    path = path.rename(tmp_path / "m.wav")
    assert not is_wav(path)
    np.testing.assert_array_equal(read_mel(path), MEL)


@pytest.mark.parametrize("start", [b"RF64", b"BW64", b"RIFX"])
def test_wav_files_of_other_signatures(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "recording").write_bytes(start + b"1234WAVE")
    assert is_wav(tmp_path / "recording")


TENSOR = torch.from_numpy(MEL)
CONTENTS = {
    "a tensor": lambda: TENSOR,
    "a batch": lambda: TENSOR[None],
    "a view": lambda: torch.from_numpy(np.stack([MEL, MEL]))[1],
    "a transposed tensor": lambda: torch.from_numpy(MEL.T.copy()).T,
    "a parameter": lambda: torch.nn.Parameter(TENSOR),
    "float64": lambda: TENSOR.double(),
    "a dict with a tensor": lambda: {"spec": TENSOR},
    "a dict with a tensor and others": lambda: {"spec": TENSOR, "text": "Hello.", "rate": 22050, "ids": [1, 2]},
    "a dict with mel": lambda: {"audio": torch.zeros(99), "mel": TENSOR, "ids": torch.arange(3)},
    "a dict with a number as key": lambda: {0: TENSOR},
    "a list": lambda: [TENSOR],
    "a tuple": lambda: (TENSOR, "LJ001-0001"),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", ["m.pt", "LJ001-0001.wav.pt", "m.npz", "m"])
def test_tensors_of_pytorch(tmp_path: Path, content: Any, name: str) -> None:
    torch.save(content(), tmp_path / name)
    assert not is_wav(tmp_path / name)
    mel = read_mel(tmp_path / name)
    assert mel.dtype == np.float32
    np.testing.assert_array_equal(mel, MEL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_of_pytorch(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"mel": TENSOR.to(dtype)}, tmp_path / "m.pt")
    np.testing.assert_array_equal(read_mel(tmp_path / "m.pt"), TENSOR.to(dtype).float().numpy())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": TENSOR, "b": TENSOR}, "expected one array, or one called 'mel', got 2: 'a', 'b'$"),
        ([TENSOR, TENSOR], "got 2: '0', '1'$"),
        ({"mel": TENSOR.to(torch.int16)}, "'mel': expected float values, got int16$"),
        (torch.zeros(3), r"expected one mel of shape \[M, T\] or \[1, M, T\], got shape \(3,\)$"),
        (torch.zeros(1).expand(5, 700000), "expected at most the file's .* bytes, got 14000000$"),
        (
            {"model": {"a": TENSOR}, "step": 7},
            "expected a tensor, or a dict .* got none; a checkpoint is passed as --model$",
        ),
        ({}, "got none; a checkpoint is passed as --model$"),
        ("text", "got none"),
    ],
)
def test_impossible_contents_of_pytorch(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError, match=rf"^{tmp_path / 'm.pt'}: {message}|m\.pt: .*{message}") as caught:
        read_mel(tmp_path / "m.pt")
    assert str(caught.value).count("m.pt") == 1


def test_truncated_and_legacy_files_of_pytorch(tmp_path: Path) -> None:
    torch.save(TENSOR, tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    for cut in {1, 8, 9, 20, len(content) // 2, len(content) - 4, len(content) - 1}:
        (tmp_path / "m.pt").write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"m\.pt: ") as caught:
            read_mel(tmp_path / "m.pt")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    torch.save(TENSOR, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"got a PyTorch file in the legacy format; save it again with torch\.save"):
        read_mel(tmp_path / "m.pt")


def saved(save: Any) -> bytes:
    """Return what a function writes into a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def files_of_all_formats() -> dict[str, bytes]:
    from safetensors.numpy import save

    return {
        "npy": saved(lambda file: np.save(file, MEL)),
        "npz": saved(lambda file: np.savez(file, mel=MEL)),
        "pt": saved(lambda file: torch.save(TENSOR, file)),
        "safetensors": save({"mel": MEL}),
        "safetensors with metadata": save({"mel": MEL}, {"a": "b"}),
        "WAV": b"RIFF\x24\0\0\0WAVEfmt ",
        "WAV of a pipe": b"RIFF\xff\xff\xff\xffWAVEfmt ",
        "RF64": b"RF64\xff\xff\xff\xffWAVEds64",
        "RIFX": b"RIFX\0\0\0\x24WAVEfmt ",
        "FLAC": b"fLaC\0\0\0\x22\x10\0\x10\0\0\0\0\0",
        "Ogg": b"OggS\0\2" + bytes(10),
        "MP3": b"ID3\4" + bytes(12),
        "AIFF": b"FORM\0\0\1\0AIFFCOMM",
    }


@pytest.mark.parametrize(("name", "content"), files_of_all_formats().items(), ids=files_of_all_formats())
def test_files_in_a_pipe_are_not_raw_frames(name: str, content: bytes) -> None:
    assert not is_raw(content[:START])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(lambda file: torch.save(TENSOR, file, _use_new_zipfile_serialization=False)), "legacy format"),
        (pickle.dumps(MEL, protocol=4), "got a pickle; save its mel with numpy.save"),
        (pickle.dumps({"mel": MEL}, protocol=5), "got a pickle"),
        (pickle.dumps(MEL, protocol=2), "got a pickle; save its mel with numpy.save"),
        (pickle.dumps(MEL, protocol=3), "got a pickle"),
        (b"0.5812,0.3391,0.2718\n", "got text; save its mel with numpy.save"),
        (b"[[0.25, -1.5e-3], [1, 2]]", "got text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a pointer of Git LFS; run 'git lfs pull'"),
        (b"<!DOCTYPE html>\n<html>", "got a web page; download the file itself"),
        (b"<HTML><head>", "got a web page"),
        (b"<?xml version='1.0'?>", "got an XML file"),
        (b"Entry not found", "got the error message of a download"),
        (b"\x28\xb5\x2f\xfd" + bytes(12), "got a zstd file"),
        (bz2.compress(b"mel"), "got a bzip2 file; decompress it first"),
        (lzma.compress(b"mel"), "got an xz file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "got an HDF5 file"),
        (b"\x1f\x8b\x08\0" + bytes(12), "got a gzip file; decompress it first"),
        (b"MATLAB 5.0 MAT-file, Platform", "got a MATLAB file"),
        (b"\x1a\x45\xdf\xa3" + bytes(12), "got a Matroska or WebM file"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "got an MP4 file"),
    ],
)
def test_files_of_no_use(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^stdin: expected a mel or a recording, .*{message}"):
        is_raw(content[:START])
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=f"m: expected a mel .* or a WAV file, .*{message}"):
        read_mel(tmp_path / "m")


@given(st.lists(st.one_of(st.floats(-100, 100, width=32), st.just(0.0)), max_size=4), st.binary(max_size=3))
def test_numbers_in_a_pipe_are_raw_frames(values: list[float], rest: bytes) -> None:
    start = np.array(values, "<f4").tobytes() + rest
    # Below 1e-37 a number may look like the start of an archive.
    if all(value == 0 or abs(value) > 1e-30 for value in values) and not rest:
        assert is_raw(start)
    # Three bytes are no number, and tell nothing but the tag of an MP3.
    assert is_raw(start[:3]) or start[:3] == b"ID3"


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 80])
@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_no_raw_frame_is_lost_with_the_start(bands: int, frames: int) -> None:
    mel = np.random.default_rng(0).random((bands, frames)).astype(np.float32)
    file = io.BufferedReader(io.BytesIO(mel.T.tobytes()))  # type: ignore[arg-type]
    start = file.read(START)
    pieces = list(read_raw_mel(file, bands, start))
    np.testing.assert_array_equal(np.concatenate([mel[:, :0], *pieces], axis=1), mel)


def test_a_spooled_pipe(tmp_path: Path) -> None:
    file = io.BytesIO(b"0123456789")
    start = file.read(4)
    with spooled(file, start) as path:
        assert path.read_bytes() == b"0123456789"
    assert not path.exists() and not path.parent.exists()
    with pytest.raises(InputError, match=r"^stdin: wrong") as caught, spooled(file, b"") as path:
        raise InputError(f"{path}: wrong")
    assert caught.value.__suppress_context__ and not path.parent.exists()


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


BESIDE = {
    "an id": np.array(3),
    "a text": np.array("hello"),
    "a pitch contour": np.zeros(7, np.float32),
    "a batch of two": np.zeros((2, 5, 7), np.float32),
    "an alignment": np.zeros((5, 7), np.int64),
}


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7)])
@pytest.mark.parametrize("name", ["Mel", "mel_spec", "feats", "spectrogram"])
def test_the_only_array_that_can_be_a_mel_is_taken(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    mel = MEL.reshape(shape)
    np.savez(tmp_path / "m.npz", **BESIDE, **{name: mel})
    np.testing.assert_array_equal(read_mel(tmp_path / "m.npz"), MEL)
    numbers = {key: value for key, value in BESIDE.items() if value.dtype.kind != "U"}
    save_file({**numbers, name: mel}, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(read_mel(tmp_path / "m.safetensors"), MEL)
    tensors = [torch.from_numpy(value) for value in (*numbers.values(), mel)]
    torch.save(dict(zip((*numbers, name), tensors, strict=True)), tmp_path / "m.pt")
    np.testing.assert_array_equal(read_mel(tmp_path / "m.pt"), MEL)
    torch.save((tensors[-1], torch.tensor([7])), tmp_path / "m.pt")  # a mel and its length
    np.testing.assert_array_equal(read_mel(tmp_path / "m.pt"), MEL)


def test_bfloat16_in_safetensors(tmp_path: Path) -> None:
    tensor = torch.arange(35, dtype=torch.bfloat16).reshape(5, 7)
    save_torch({"mel": tensor}, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(read_mel(tmp_path / "m.safetensors"), tensor.float().numpy())


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
    for name, message in (
        ("m.npy", "got one of objects"),
        ("m.npz", "got one of objects"),
        ("m.pkl", "expected a mel"),
    ):
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
    with pytest.raises(
        InputError, match=r"m\.npy: expected 960000000000000 bytes of data for shape \(80, 3000000000000\), got "
    ):
        read_mel(path)


def test_other_files(tmp_path: Path) -> None:
    save_torch({"mel": torch.zeros(5, 7, dtype=torch.int32)}, tmp_path / "int.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    (tmp_path / "m.mp3").write_bytes(b"ID3 and so on")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "int.safetensors": "'mel': expected float values, got I32",
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
