"""The rest of the corpus: truncated files, false headers, impossible weights, configurations and paths."""

from __future__ import annotations

import json
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support.hostile import CASES, PHILSYN_CONFIG, TINY, CaseFiles, Header, case

# Truncations


def _truncated(suffix: str, percent: float) -> None:
    def make(files: CaseFiles) -> None:
        content = files.sound[suffix]
        files.write(content[: int(len(content) * percent / 100)] if percent > 0 else content[: int(percent)])

    CASES[f"{suffix}_truncated_{str(percent).replace('.', '_').replace('-', 'by_')}"] = make


for _suffix in ("pt", "safetensors"):
    for _percent in (0.0005, 0.01, 1, 50, 99, 99.9, -1, -22):
        _truncated(_suffix, _percent)


# False headers of safetensors


def _header(label: str, change: Callable[[Header, bytes], bytes | None]) -> None:
    CASES[label] = lambda files: files.safetensors(change)


WEIGHT = "skip_projection.weight"


def _set(**values: Any) -> Callable[[Header, bytes], None]:
    def change(header: Header, data: bytes) -> None:
        header[WEIGHT].update(values)

    return change


_header("header_ten_gigabytes", _set(shape=[10 << 30], data_offsets=[0, 10 << 30]))
_header("header_overflowing_shape", _set(shape=[1 << 62, 1 << 62]))
_header("header_negative_shape", _set(shape=[-16, 16, 1]))
_header("header_shape_of_floats", _set(shape=[16.0, 16, 1]))
_header("header_offsets_reversed", _set(data_offsets=[512, 0]))
_header("header_offsets_overlap", _set(data_offsets=[0, 512]))
_header("header_wrong_dtype", _set(dtype="F64"))
_header("header_integers", _set(dtype="I16"))
_header("header_unknown_dtype", _set(dtype="F7"))
_header("header_without_offsets", lambda header, data: header[WEIGHT].pop("data_offsets") and None)
_header("header_of_lists", lambda header, data: header.update({WEIGHT: [1, 2]}))
_header("header_metadata_no_dict", lambda header, data: header.update(__metadata__=["x"]))
_header("extra_bytes", lambda header, data: data + b"x")
_header("extra_tensor", lambda header, data: header.update(x={"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}))
_header("empty_network", lambda header, data: header.clear() or b"")
_header("wrong_keys", lambda header, data: header.update({"x": header.pop(WEIGHT)}))
_header(
    "layer_of_a_huge_number",
    lambda header, data: header.update({f"residual_layers.{'9' * 4000}.x": header.pop(WEIGHT)}),
)


def _metadata(label: str, **values: Any) -> None:
    def change(header: Header, data: bytes) -> None:
        config = {**json.loads(TINY.to_json()), **values}
        header["__metadata__"] = {"diffwave": json.dumps(config)}

    _header(label, change)


_metadata("metadata_other_sizes", residual_channels=1024, residual_layers=256)
_metadata("metadata_absurd_sizes", residual_channels=1 << 40)
_metadata("metadata_long_schedule", train_schedule=[1e-4] * 20000)
_metadata("metadata_nan_schedule", train_schedule=[float("nan")])
_metadata("metadata_unknown_family", family="x" * 100000)
_metadata("metadata_more", more=1)


def _length(label: str, length: int) -> None:
    CASES[label] = lambda files: files.write(struct.pack("<Q", length) + files.sound["safetensors"][8:])


_length("header_length_all_ones", (1 << 64) - 1)
_length("header_length_ten_gigabytes", 10 << 30)
_length("header_length_of_the_file", 1 << 20)
_length("header_length_zero", 0)


def _text(label: str, text: bytes) -> None:
    CASES[label] = lambda files: files.write(struct.pack("<Q", len(text)) + text + bytes(100))


_text("header_deep_nesting", b'{"x":' + b"[" * 100000)
_text("header_deep_objects", b'{"x":' * 100000)
_text("header_no_utf8", b'{"\xff\xfe": 1}')
_text("header_spaces", b"{" + b" " * (2 << 20) + b"}")
_text("header_digits", b'{"x": ' + b"9" * 100000 + b"}")
_text("ten_gigabytes_in_100_bytes", b'{"x":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}')


@case
def sparse_gigabyte(files: CaseFiles) -> None:
    files.write(files.sound["safetensors"])
    os.truncate(files.path, 1 << 30)


@case
def sparse_archive(files: CaseFiles) -> None:
    files.write(files.sound["pt"])
    os.truncate(files.path, 1 << 30)


# Weights


def _value(label: str, value: float) -> None:
    raw = np.float16(value).tobytes()

    def in_safetensors(files: CaseFiles) -> None:
        files.write(files.sound["safetensors"][:-2] + raw)

    def in_archive(files: CaseFiles) -> None:
        files.pack({"data/3": raw + files.entries[f"{files.folder}/data/3"][2:]})

    def in_a_length(files: CaseFiles) -> None:
        """Set the length of a philsyn network's weight: the first weight_g."""
        files.write(files.sound["pkl"])
        with zipfile.ZipFile(files.path) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        with zipfile.ZipFile(files.path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, raw * (len(content) // 2) if name.endswith("/data/1") else content)
        files.path.with_name("config.json").write_text(PHILSYN_CONFIG)

    CASES[f"{label}_in_safetensors"], CASES[f"{label}_in_an_archive"] = in_safetensors, in_archive
    CASES[f"{label}_in_a_length"] = in_a_length


_value("nan", float("nan"))
_value("infinity", float("inf"))


# Configurations


def _config(label: str, content: str | bytes) -> None:
    CASES[label] = lambda files: files.config(content)


_config("config_deep", "[" * 200000)
_config("config_deep_section", '{"diffusion_config": ' * 40000)
_config("config_of_two_megabytes", '{"x": "' + "x" * (2 << 20) + '"}')
_config("config_huge_number", '{"total_steps": ' + "9" * 10000 + "}")
_config("config_a_billion_steps", '{"dilation_cycle_length": 1, "total_steps": 1000000000}')
_config("config_infinite_beta", '{"dilation_cycle_length": 1, "total_steps": 50, "beta_end": Infinity}')
_config("config_list_for_a_family", '{"family": ["lmnt"]}')
_config("config_no_utf8", b"\xff\xfe\x00{")
_config("config_absurd_cycle", '{"dilation_cycle_length": 1000000000, "total_steps": 50}')


@case
def config_a_pipe(files: CaseFiles) -> None:
    files.write(files.sound["ckpt"])
    os.mkfifo(files.path.with_name("config.json"))


@case
def config_a_directory(files: CaseFiles) -> None:
    files.write(files.sound["ckpt"])
    files.path.with_name("config.json").mkdir()


# Paths that are not regular files


@case
def absent(files: CaseFiles) -> None:
    pass


@case
def empty(files: CaseFiles) -> None:
    files.write(b"")


@case
def directory(files: CaseFiles) -> None:
    files.path.mkdir()


@case
def pipe(files: CaseFiles) -> None:
    os.mkfifo(files.path)


@case
def unix_socket(files: CaseFiles) -> None:
    previous = os.getcwd()
    os.chdir(files.path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(files.path.name)
    finally:
        os.chdir(previous)


@case
def link_to_an_endless_device(files: CaseFiles) -> None:
    files.path.symlink_to("/dev/zero")


@case
def link_to_nothing(files: CaseFiles) -> None:
    files.path.symlink_to("absent")


@case
def link_to_itself(files: CaseFiles) -> None:
    files.path.symlink_to(files.path.name)
