"""Generated corpus of hostile files that must be refused; `hostile_watch.py` tries to load them."""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from engine.checkpoint.load import expected_shapes
from tests.support.layouts import SMALL, content_of, layout_config
from tests.support.networks import random_network

Header = dict[str, Any]
Make = Callable[["CaseFiles"], Any]

TINY = replace(SMALL, residual_layers=1, dilation_cycle=1)
PHILSYN_CONFIG = '{"dilation_cycle": 1, "diffusion_config": {"T": 20, "beta_0": 1e-4, "beta_T": 0.02}}'
# The config.json that a sound file needs beside it, by suffix.
CONFIG_JSON = {"ckpt": '{"dilation_cycle_length": 1, "total_steps": 50}', "pkl": PHILSYN_CONFIG}
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    """Add a case, named after its function; the function writes `files.path`, and other files if needed."""
    CASES[make.__name__] = make
    return make


class CaseFiles:
    """The files of one case, and the content of a sound file of each format."""

    def __init__(self, folder: Path, sound: dict[str, bytes]) -> None:
        self.path = folder / "checkpoint"
        self.canary = folder / "canary"
        self.sound = sound
        with zipfile.ZipFile(self.write(sound["pt"])) as archive:
            self.entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        self.path.unlink()
        self.folder = next(iter(self.entries)).split("/")[0]

    def write(self, content: bytes) -> Path:
        self.path.write_bytes(content)
        return self.path

    def pack(self, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> None:
        """Write a sound archive with some entries changed, or removed by None."""
        entries = {**self.entries, **{f"{self.folder}/{name}": value for name, value in changes.items()}}
        with zipfile.ZipFile(self.path, "w", compression) as archive:
            for name, value in entries.items():
                if value is not None:
                    archive.writestr(name, value)

    def program(self, code: bytes) -> None:
        """Write an archive with this pickle."""
        self.pack({"data.pkl": b"\x80\x02" + code})

    def calls(self, name: str, *arguments: Any) -> None:
        """Write a sound checkpoint with one more entry in its dict, which calls a function."""
        call = b"c" + name.replace(" ", "\n").encode() + b"\n" + pickle.dumps(arguments, protocol=2)[2:-1] + b"R"
        sound = self.entries[f"{self.folder}/data.pkl"]
        self.program(sound[2:-1] + pickle.dumps("hook", protocol=2)[2:-1] + call + b"s.")

    def safetensors(self, change: Callable[[Header, bytes], bytes | None]) -> None:
        """Write a sound safetensors file with a changed header or changed data."""
        content = self.sound["safetensors"]
        length = struct.unpack("<Q", content[:8])[0]
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        changed = change(header, data)
        text = json.dumps(header).encode()
        self.write(struct.pack("<Q", len(text)) + text + (data if changed is None else changed))

    def config(self, content: str | bytes) -> None:
        """Write a sound SpeechBrain checkpoint beside this config.json."""
        self.write(self.sound["ckpt"])
        self.path.with_name("config.json").write_bytes(content.encode() if isinstance(content, str) else content)


def sound_files(folder: Path) -> dict[str, bytes]:
    """Return a checkpoint of each format that loads, with `CONFIG_JSON` beside it."""
    import torch

    tensors = {name: tensor.astype(np.float16) for name, tensor in random_network(TINY, 1).items()}
    sound = {"safetensors": save(tensors, metadata={"diffwave": TINY.to_json()})}
    for suffix, layout in (("pt", "lmnt"), ("ckpt", "speechbrain"), ("pkl", "philsyn")):
        config = layout_config(layout, residual_layers=1, dilation_cycle=1)
        _, content, _ = content_of(layout, config, random_network(config, 1))
        for entries in (content, content.get("model", {}), content.get("model_state_dict", {})):
            for name, value in entries.items():
                if isinstance(value, torch.Tensor):
                    entries[name] = value.half()
        torch.save(content, folder / "sound")
        sound[suffix] = (folder / "sound").read_bytes()
        if suffix == "pt":
            torch.save(_with_foreign_objects(content), folder / "sound", pickle_protocol=4)
            sound["rich"] = (folder / "sound").read_bytes()
    return sound


def _with_foreign_objects(content: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint with wrapped names, an average, and settings and values of many classes."""
    params = argparse.Namespace(**content["params"])
    params.noise_schedule, params.sample_rate = np.array(params.noise_schedule), np.int64(params.sample_rate)
    return {
        "model": {f"module.{name}": tensor for name, tensor in content["model"].items()},
        "ema": {"decay": np.float32(0.999), "shadow": {f"_orig_mod.{k}": v for k, v in content["model"].items()}},
        "params": params,
        "foreign": [Path("x"), {1, 2}, frozenset("a"), 1 + 2j, b"abc", bytearray(b"x"), collections.deque([1])],
        "history": collections.defaultdict(list, loss=[np.float64(0.5), 0.25]),
        "random": np.random.RandomState(1).get_state(),
    }


# Pickles that execute


def _executing(name: str, target: str, *arguments: str) -> None:
    def make(files: CaseFiles) -> None:
        files.calls(target, *(argument.format(canary=files.canary) for argument in arguments))

    CASES[name] = make


_executing("os_system", "posix system", "touch {canary}")
_executing("nt_system", "nt system", "touch {canary}")
_executing("os_mkdir", "posix mkdir", "{canary}")
_executing("builtin_eval", "__builtin__ eval", "open('{canary}', 'w')")
_executing("builtins_exec", "builtins exec", "open('{canary}', 'w')")
_executing("builtin_open", "builtins open", "{canary}", "w")
_executing("builtin_getattr", "__builtin__ getattr", "os", "system")
_executing("subprocess_popen", "subprocess check_output", "touch {canary}")
_executing("import_module", "importlib import_module", "antigravity")
_executing("run_module", "runpy run_module", "antigravity")
_executing("open_a_socket", "socket create_connection", "localhost:9")
_executing("nested_pickle", "torch.storage _load_from_bytes", "cposix\nsystem\n(S'touch {canary}'\ntR.")
_executing("numpy_load", "numpy load", "{canary}")
_executing("dynamic_code", "types CodeType", "x")
_executing("attribute_of_a_function", "posix system.__globals__", "x")
_executing("bound_method", "types MethodType", "x")
_executing("loaded_library", "ctypes CDLL", "x")
_executing("setattr_call", "builtins setattr", "x")
_executing("dotted_name", "collections OrderedDict.__class__", "x")


@case
def build_with_setstate(files: CaseFiles) -> None:
    files.program(b"cfunctools\npartial\n)\x81(cposix\nsystem\nX\x01\x00\x00\x00x\x85}NtbN\x86.")


@case
def inst_opcode(files: CaseFiles) -> None:
    files.program(b"(" + pickle.dumps(f"touch {files.canary}", protocol=2)[2:-1] + b"iposix\nsystem\n.")


@case
def stack_global(files: CaseFiles) -> None:
    files.program(pickle.dumps(_Mkdir(str(files.canary)), protocol=4)[2:])


@case
def partial_of_code(files: CaseFiles) -> None:
    files.program(b"cfunctools\npartial\ncposix\nsystem\n\x85R.")


@case
def factory_of_a_defaultdict(files: CaseFiles) -> None:
    files.program(b"ccollections\ndefaultdict\ncposix\nsystem\n\x85R.")


@case
def attribute_by_getattr(files: CaseFiles) -> None:
    files.program(b"cbuiltins\ngetattr\ncx\nY\nX\x08\x00\x00\x00__init__\x86RX\x01\x00\x00\x00x\x85R.")


@case
def buffer_out_of_band(files: CaseFiles) -> None:
    files.program(b"\x97\x98.")


@case
def extension_registry(files: CaseFiles) -> None:
    files.program(b"\x82\x01\x85R.")


@case
def legacy_pickle(files: CaseFiles) -> None:
    files.write(pickle.dumps(_Mkdir(str(files.canary)), protocol=2))


@case
def text_pickle(files: CaseFiles) -> None:
    files.write(pickle.dumps(_Mkdir(str(files.canary)), protocol=0))


@case
def legacy_torch(files: CaseFiles) -> None:
    import torch

    torch.save({"model": {"x": torch.zeros(1)}}, files.path, _use_new_zipfile_serialization=False)


class _Mkdir:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


# Pickles with false sizes, or without an end


@case
def ten_gigabytes_in_a_pickle(files: CaseFiles) -> None:
    """Describe a storage of 10 GB in 100 bytes."""
    count = b"\x8a\x05\x00\x00\x00\xa0\x00"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + count + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + count + b"\x85K\x01\x85\x89NtR"
    files.program(b"}X\x01\x00\x00\x00x" + tensor + b"s.")


@case
def ten_gigabytes_in_a_shape(files: CaseFiles) -> None:
    program = files.entries[f"{files.folder}/data.pkl"]
    shape = struct.pack("<BBBBB", 0x4B, 16, 0x4B, 1, 0x4B) + b"\x01\x87"  # (16, 1, 1)
    assert shape in program
    files.pack({"data.pkl": program.replace(shape, b"J\x00\x00\x00\x70K\x01K\x01\x87")})


def _of_one_record(files: CaseFiles, view: Callable[[Any, tuple[int, ...]], Any], values: int, **sizes: int) -> None:
    """Write a network with the right names and shapes; all tensors are views of one record."""
    import torch

    record = torch.full((values,), 0.1)
    config = replace(TINY, **sizes)
    params = {"dilation_cycle": 1, "sample_rate": 22050, "noise_schedule": [1e-4, 0.05]}
    model = {name: view(record, shape) for name, shape in expected_shapes(config).items()}
    torch.save({"model": model, "params": params}, files.path)


@case
def gigabytes_of_one_value(files: CaseFiles) -> None:
    """Describe 12 GB of weights in 70 KB."""
    _of_one_record(files, lambda record, shape: record.expand(shape), 1, residual_channels=1024, residual_layers=256)


@case
def many_views_of_one_record(files: CaseFiles) -> None:
    """Spread every tensor over the same record: reading all spans would read the record 50 times."""

    def spread(record: Any, shape: tuple[int, ...]) -> Any:
        count = math.prod(shape)
        return record[:: (len(record) - 1) // max(count - 1, 1)][:count].reshape(shape)

    _of_one_record(files, spread, 1 << 20, residual_layers=16)


def _of_names(files: CaseFiles, names: list[str], more: dict[str, Any] | None = None) -> None:
    """Write a checkpoint whose tensors, all views of one value, have these names."""
    import torch

    value = torch.zeros(1, dtype=torch.float16)
    torch.save({"model": dict.fromkeys(names, value), **(more or {})}, files.path)


@case
def every_name_with_another_prefix(files: CaseFiles) -> None:
    """Make a search that compares every name with every prefix take an hour."""
    _of_names(files, [f"{n:x}.input_projection.weight" for n in range(30000)])


@case
def every_name_an_average_of_the_others(files: CaseFiles) -> None:
    flat = [f"ema{n:x}.input_projectionweight" for n in range(15000)]
    _of_names(files, ["input_projection.weight", *(f"residual_layers.{n}.x" for n in range(15000)), *flat])


@case
def names_of_dots(files: CaseFiles) -> None:
    _of_names(files, ["." * 10**6, *(f"{'a.' * 140}{n}" for n in range(10000))])


@case
def averages_that_share_a_list(files: CaseFiles) -> None:
    import torch

    shadow = {"shadow_params": [torch.zeros(1)] * 20000}
    _of_names(files, [f"input_projection.{n}" for n in range(20000)], {f"{n:x}": shadow for n in range(20000)})


@case
def names_that_cannot_be_printed(files: CaseFiles) -> None:
    value = b"X\x05\x00\x00\x00a\n\x1b[mX\x05\x00\x00\x00b\r\x07\x00\x7f\x93)\x81"
    key = b"X\x17\x00\x00\x00input_projection.weight"
    files.program(b"}X\x05\x00\x00\x00model}" + key + value + b"ss.")


@case
def module_that_cannot_be_printed(files: CaseFiles) -> None:
    files.program(b"X\x05\x00\x00\x00a\n\x1b[mX\x05\x00\x00\x00b\r\x07\x00\x7f\x93)\x81.")


@case
def billion_laughs(files: CaseFiles) -> None:
    files.program(b"(NNNNNNNNtq\x00" + b"(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00tq\x00" * 60 + b"\x85.")


@case
def keys_that_collide(files: CaseFiles) -> None:
    keys = (b"\x8a\x10" + (k * (2**61 - 1)).to_bytes(16, "little") + b"N" for k in range(25000))
    files.program(b"}(" + b"".join(keys) + b"u.")


@case
def half_a_million_marks(files: CaseFiles) -> None:
    files.program(b"(" * 500000 + b".")


@case
def half_a_million_dicts(files: CaseFiles) -> None:
    files.program(b"}" * 500000 + b"]" + b".")


@case
def endless_string(files: CaseFiles) -> None:
    files.program(b"X\xff\xff\xff\xff.")


@case
def endless_bytes(files: CaseFiles) -> None:
    files.program(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.")


@case
def endless_bytearray(files: CaseFiles) -> None:
    files.program(b"\x96\x00\x00\x00\x00\x00\x00\x00\x40.")


@case
def half_a_million_sets(files: CaseFiles) -> None:
    files.program(b"\x8f" * 500000 + b".")


@case
def wide_text(files: CaseFiles) -> None:
    """Take four bytes per character of a text in which one character needs them."""
    files.program(b"X\x00\x00\x40\x00" + b"\xf0\x9f\x98\x80" + b"x" * ((1 << 22) - 4) + b".")


@case
def memo_of_any_index(files: CaseFiles) -> None:
    files.program(b"]r\xff\xff\xff\xff.")


@case
def huge_pickle(files: CaseFiles) -> None:
    files.program(b"N" * (2 << 20) + b".")


@case
def recursive_dict(files: CaseFiles) -> None:
    files.program(b"}q\x00X\x05\x00\x00\x00modelh\x00s.")
