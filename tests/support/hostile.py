"""Files that must be refused: a corpus, generated. `hostile_watch.py` tries to load them."""

from __future__ import annotations

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
Make = Callable[["Corpus"], Any]

TINY = replace(SMALL, residual_layers=1, dilation_cycle=1)
BESIDE_PHILSYN = '{"dilation_cycle": 1, "diffusion_config": {"T": 20, "beta_0": 1e-4, "beta_T": 0.02}}'
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    """Its name becomes the case's; it writes `corpus.path` and perhaps more, or returns another path."""
    CASES[make.__name__] = make
    return make


class Corpus:
    """Where one case writes, and what a sound file of each format holds."""

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
        """A sound archive with some entries changed."""
        entries = {**self.entries, **{f"{self.folder}/{name}": value for name, value in changes.items()}}
        with zipfile.ZipFile(self.path, "w", compression) as archive:
            for name, value in entries.items():
                if value is not None:
                    archive.writestr(name, value)

    def program(self, code: bytes) -> None:
        """An archive whose pickle is this."""
        self.pack({"data.pkl": b"\x80\x02" + code})

    def calls(self, name: str, *arguments: Any) -> None:
        """A sound checkpoint, but for one more entry of its dict, which calls something."""
        call = b"c" + name.replace(" ", "\n").encode() + b"\n" + pickle.dumps(arguments, protocol=2)[2:-1] + b"R"
        sound = self.entries[f"{self.folder}/data.pkl"]
        self.program(sound[2:-1] + pickle.dumps("hook", protocol=2)[2:-1] + call + b"s.")

    def safetensors(self, change: Callable[[Header, bytes], bytes | None]) -> None:
        """A sound safetensors file with a changed header, and data."""
        content = self.sound["safetensors"]
        length = struct.unpack("<Q", content[:8])[0]
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        changed = change(header, data)
        text = json.dumps(header).encode()
        self.write(struct.pack("<Q", len(text)) + text + (data if changed is None else changed))

    def config(self, content: str | bytes) -> None:
        """A sound SpeechBrain checkpoint beside this config.json."""
        self.write(self.sound["ckpt"])
        self.path.with_name("config.json").write_bytes(content.encode() if isinstance(content, str) else content)


def sound_files(folder: Path) -> dict[str, bytes]:
    """A checkpoint of each format that loads (beside `BESIDE`)."""
    import torch

    tensors = {name: tensor.astype(np.float16) for name, tensor in random_network(TINY, 1).items()}
    sound = {"safetensors": save(tensors, metadata={"diffwave": TINY.to_json()})}
    for suffix, layout in (("pt", "lmnt"), ("ckpt", "speechbrain"), ("pkl", "philsyn")):
        config = layout_config(layout, residual_layers=1, dilation_cycle=1)
        _, content, _ = content_of(layout, config, random_network(config, 1))
        for box in (content, content.get("model", {}), content.get("model_state_dict", {})):
            for name, value in box.items():
                if isinstance(value, torch.Tensor):
                    box[name] = value.half()
        torch.save(content, folder / "sound")
        sound[suffix] = (folder / "sound").read_bytes()
    return sound


# Pickles that execute


def _executing(name: str, target: str, *arguments: str) -> None:
    def make(corpus: Corpus) -> None:
        corpus.calls(target, *(argument.format(canary=corpus.canary) for argument in arguments))

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
_executing("partial_call", "functools partial", "os.system")
_executing("dotted_name", "collections OrderedDict.__class__", "x")


@case
def build_with_setstate(corpus: Corpus) -> None:
    corpus.program(b"cfunctools\npartial\n)\x81(cposix\nsystem\nX\x01\x00\x00\x00x\x85}NtbN\x86.")


@case
def inst_opcode(corpus: Corpus) -> None:
    corpus.program(b"(" + pickle.dumps(f"touch {corpus.canary}", protocol=2)[2:-1] + b"iposix\nsystem\n.")


@case
def stack_global(corpus: Corpus) -> None:
    corpus.program(pickle.dumps(_Mkdir(str(corpus.canary)), protocol=4)[2:])


@case
def extension_registry(corpus: Corpus) -> None:
    corpus.program(b"\x82\x01\x85R.")


@case
def legacy_pickle(corpus: Corpus) -> None:
    corpus.write(pickle.dumps(_Mkdir(str(corpus.canary)), protocol=2))


@case
def text_pickle(corpus: Corpus) -> None:
    corpus.write(pickle.dumps(_Mkdir(str(corpus.canary)), protocol=0))


@case
def legacy_torch(corpus: Corpus) -> None:
    import torch

    torch.save({"model": {"x": torch.zeros(1)}}, corpus.path, _use_new_zipfile_serialization=False)


class _Mkdir:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


# Pickles that lie, or never end


@case
def bytearray_of_any_size(corpus: Corpus) -> None:
    corpus.calls("__builtin__ bytearray", 10 << 30)


@case
def ten_gigabytes_in_a_pickle(corpus: Corpus) -> None:
    """A storage of 10 GB, claimed in 100 bytes."""
    count = b"\x8a\x05\x00\x00\x00\xa0\x00"
    place = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + count + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + b"K\x00" + count + b"\x85K\x01\x85\x89NtR"
    corpus.program(b"}X\x01\x00\x00\x00x" + tensor + b"s.")


@case
def ten_gigabytes_in_a_shape(corpus: Corpus) -> None:
    program = corpus.entries[f"{corpus.folder}/data.pkl"]
    shape = struct.pack("<BBBBB", 0x4B, 16, 0x4B, 1, 0x4B) + b"\x01\x87"  # (16, 1, 1)
    assert shape in program
    corpus.pack({"data.pkl": program.replace(shape, b"J\x00\x00\x00\x70K\x01K\x01\x87")})


def _of_one_record(corpus: Corpus, view: Callable[[Any, tuple[int, ...]], Any], values: int, **sizes: int) -> None:
    """A network of the right names and shapes, all of them views of one record."""
    import torch

    record = torch.full((values,), 0.1)
    config = replace(TINY, **sizes)
    params = {"dilation_cycle": 1, "sample_rate": 22050, "noise_schedule": [1e-4, 0.05]}
    model = {name: view(record, shape) for name, shape in expected_shapes(config).items()}
    torch.save({"model": model, "params": params}, corpus.path)


@case
def gigabytes_of_one_value(corpus: Corpus) -> None:
    """12 GB of weights in 70 KB."""
    _of_one_record(corpus, lambda record, shape: record.expand(shape), 1, residual_channels=1024, residual_layers=256)


@case
def many_views_of_one_record(corpus: Corpus) -> None:
    """Reading each from its first value to its last would read the record 50 times."""

    def spread(record: Any, shape: tuple[int, ...]) -> Any:
        count = math.prod(shape)
        return record[:: (len(record) - 1) // max(count - 1, 1)][:count].reshape(shape)

    _of_one_record(corpus, spread, 1 << 20, residual_layers=16)


@case
def billion_laughs(corpus: Corpus) -> None:
    corpus.program(b"(NNNNNNNNtq\x00" + b"(h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00tq\x00" * 60 + b"\x85.")


@case
def keys_that_collide(corpus: Corpus) -> None:
    keys = (b"\x8a\x10" + (k * (2**61 - 1)).to_bytes(16, "little") + b"N" for k in range(25000))
    corpus.program(b"}(" + b"".join(keys) + b"u.")


@case
def half_a_million_marks(corpus: Corpus) -> None:
    corpus.program(b"(" * 500000 + b".")


@case
def half_a_million_dicts(corpus: Corpus) -> None:
    corpus.program(b"}" * 500000 + b"]" + b".")


@case
def endless_string(corpus: Corpus) -> None:
    corpus.program(b"X\xff\xff\xff\xff.")


@case
def memo_of_any_index(corpus: Corpus) -> None:
    corpus.program(b"]r\xff\xff\xff\xff.")


@case
def huge_pickle(corpus: Corpus) -> None:
    corpus.program(b"N" * (2 << 20) + b".")


@case
def recursive_dict(corpus: Corpus) -> None:
    corpus.program(b"}q\x00X\x05\x00\x00\x00modelh\x00s.")


# Archives


@case
def zip_bomb(corpus: Corpus) -> None:
    corpus.pack({"data/999": bytes(300 << 20)}, zipfile.ZIP_DEFLATED)


@case
def zip_bomb_in_the_pickle(corpus: Corpus) -> None:
    corpus.pack({"data.pkl": b"N" * (300 << 20) + b"."}, zipfile.ZIP_DEFLATED)


@case
def lzma_bomb(corpus: Corpus) -> None:
    corpus.pack({"data/999": bytes(100 << 20)}, zipfile.ZIP_LZMA)


@case
def nested_zip(corpus: Corpus) -> None:
    inner = corpus.sound["pt"]
    for _ in range(3):
        corpus.pack({"data.pkl": inner})
        inner = corpus.path.read_bytes()


@case
def overlapping_records(corpus: Corpus) -> None:
    _claim(corpus, 3000, "data/{}", 3000)


@case
def crowded_directory(corpus: Corpus) -> None:
    _claim(corpus, 30000, "data/{}", 3000)


def _claim(corpus: Corpus, count: int, name: str, first: int) -> None:
    """Many entries for the same bytes."""
    import copy

    corpus.pack({"data/1000": bytes(100000)})
    with zipfile.ZipFile(corpus.path, "a") as archive:
        archive.comment = b"changed"
        last = archive.infolist()[-1]
        for number in range(first, first + count):
            clone = copy.copy(last)
            clone.filename = f"{corpus.folder}/{name.format(number)}"
            archive.filelist.append(clone)


def _directory(corpus: Corpus, change: Callable[[bytearray, int], None]) -> None:
    """A sound archive, the directory entry of its first tensor changed."""
    corpus.pack({})
    content = bytearray(corpus.path.read_bytes())
    place = content.index(b"PK\x01\x02", content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0")))
    change(content, place)
    corpus.write(bytes(content))


@case
def ten_gigabytes_in_a_directory(corpus: Corpus) -> None:
    """Sizes of 4 GB in the directory of a small archive, as many as entries."""

    def change(content: bytearray, place: int) -> None:
        content[place + 20 : place + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)

    _directory(corpus, change)


@case
def record_beyond_the_end(corpus: Corpus) -> None:
    def change(content: bytearray, place: int) -> None:
        content[place + 42 : place + 46] = struct.pack("<I", len(content) - 10)

    _directory(corpus, change)


@case
def wrong_checksum(corpus: Corpus) -> None:
    def change(content: bytearray, place: int) -> None:
        content[place + 16 : place + 20] = b"none"

    _directory(corpus, change)


@case
def encrypted_record(corpus: Corpus) -> None:
    def change(content: bytearray, place: int) -> None:
        content[place + 8] |= 1

    _directory(corpus, change)


@case
def shifted_record(corpus: Corpus) -> None:
    """Its own header sends its bytes beyond the end."""
    corpus.pack({})
    content = bytearray(corpus.path.read_bytes())
    place = content.index(b"PK\x03\x04", content.index(b"/data/0") - 60)
    content[place + 28 : place + 30] = b"\xff\xff"
    corpus.write(bytes(content))


def _entry(label: str, name: str) -> None:
    def make(corpus: Corpus) -> None:
        corpus.pack({})
        import warnings

        with zipfile.ZipFile(corpus.path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(name.format(folder=corpus.folder), corpus.entries[f"{corpus.folder}/data.pkl"])

    CASES[label] = make


_entry("entry_twice", "{folder}/data.pkl")
_entry("entry_twice_in_capitals", "{folder}/DATA.PKL")
_entry("second_folder", "other/data.pkl")
_entry("path_upwards", "../{folder}/data.pkl")
_entry("path_from_the_root", "/etc/passwd")
_entry("path_of_windows", "C:\\x")
_entry("name_of_60000_letters", "{folder}/" + "x/" * 30000)
_entry("torchscript", "{folder}/constants.pkl")


@case
def no_pickle(corpus: Corpus) -> None:
    corpus.pack({"data.pkl": None})


@case
def record_too_short(corpus: Corpus) -> None:
    corpus.pack({"data/3": b"12"})


@case
def prepended_archive(corpus: Corpus) -> None:
    corpus.write(corpus.sound["pt"] + b"PK\x03\x04" + corpus.sound["pt"][4:-22])


@case
def gzip_file(corpus: Corpus) -> None:
    import gzip

    corpus.write(gzip.compress(corpus.sound["pt"]))


@case
def tar_file(corpus: Corpus) -> None:
    import tarfile

    with tarfile.open(corpus.path, "w") as archive:
        archive.add(__file__)
