"""Fuzzing of checkpoint loading: any bytes give a network or one message, in bounded time and memory.

`make fuzz` runs 20,000 cases; the normal tests run a few hundred of them.
"""

from __future__ import annotations

import json
import os
import pickletools
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.config import Config
from engine.errors import CheckpointError
from tests.support.hostile import CONFIG_JSON, sound_files
from tests.support.hostile_watch import MEMORY_LIMIT, SECONDS_LIMIT, forget_peak, status

pytest.importorskip("torch")

BYTES = st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789{}[],:"-.e \x00\xff.QRbc)('))
NUMBERS = st.one_of(
    st.integers(0, 300),
    st.sampled_from([2**k + d for k in (7, 8, 15, 16, 31, 32, 40, 63, 64) for d in (-1, 0, 1)]),
    st.integers(),
    st.floats(),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=10), inner, max_size=5)),
    max_leaves=20,
)
Mutate = Callable[["Files", st.DataObject], None]


class Files:
    """Sound files, and the mutated file of a case."""

    def __init__(self, folder: Path) -> None:
        self.sound = sound_files(folder)
        self.path = folder / "mutated" / "checkpoint"
        self.path.parent.mkdir()
        self.outcomes = {"loaded": 0, "refused": 0}

    def write(self, suffix: str, content: bytes, config_json: str | None = None) -> None:
        self.path.write_bytes(content)
        config = self.path.with_name("config.json")
        config.unlink(missing_ok=True)
        if config_json is None:
            config_json = CONFIG_JSON.get(suffix)
        if config_json is not None:
            config.write_bytes(config_json.encode("utf-8", "surrogatepass"))

    def entries(self, suffix: str) -> dict[str, bytes]:
        self.write(suffix, self.sound[suffix])
        with zipfile.ZipFile(self.path) as archive:
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}

    def pack(self, suffix: str, entries: dict[str, bytes]) -> None:
        self.write(suffix, b"")
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)

    def load(self) -> None:
        """Load the mutated file and check the outcome, the time and the memory."""
        size = self.path.stat().st_size
        watched = Path("/proc/self/clear_refs").exists()
        if watched:
            forget_peak()
            before = status("VmRSS")
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                checkpoint = load_checkpoint(self.path)
        except CheckpointError as error:
            self.outcomes["refused"] += 1
            message = str(error)
            assert message.startswith(str(self.path.parent)) and len(message) < 400 + len(str(self.path))
            assert message.isprintable()
        else:
            self.outcomes["loaded"] += 1
            assert isinstance(checkpoint, Checkpoint)
            assert Config.from_json(checkpoint.config.to_json()) == checkpoint.config
        assert time.perf_counter() - begin < SECONDS_LIMIT
        if watched:
            assert status("VmHWM") - before <= size + MEMORY_LIMIT


ARCHIVES = ("pt", "pkl", "ckpt", "rich")
SUFFIXES = st.sampled_from([*ARCHIVES, "safetensors"])


def _pickle_begin(content: bytes) -> int:
    """Return the position of an archive's pickle, -1 without one."""
    return max(content.find(b"\x80\x02"), content.find(b"\x80\x04\x95"))


def _positions(content: bytes, suffix: str) -> st.SearchStrategy[int]:
    """Draw any position, but mostly one inside a header, the pickle or the directory."""
    end = len(content) - 1
    if suffix == "safetensors":
        length = struct.unpack("<Q", content[:8])[0]
        return st.one_of(st.integers(0, 8), st.integers(0, 8 + length), st.integers(0, end))
    pickled = _pickle_begin(content)
    return st.one_of(st.integers(0, 4096), st.integers(pickled, pickled + 3000), st.integers(end - 2500, end))


def change_bytes(files: Files, data: st.DataObject) -> None:
    suffix = data.draw(SUFFIXES)
    content = bytearray(files.sound[suffix])
    for position, value in data.draw(st.lists(st.tuples(_positions(content, suffix), BYTES), min_size=1, max_size=8)):
        content[position] = value
    files.write(suffix, bytes(content))


def move_pieces(files: Files, data: st.DataObject) -> None:
    """Cut out pieces, double them, or replace them with pieces of another file."""
    suffix, other = data.draw(SUFFIXES), data.draw(SUFFIXES)
    content = files.sound[suffix]
    for _ in range(data.draw(st.integers(1, 3))):
        begin, end = sorted(data.draw(st.tuples(_positions(content, suffix), _positions(content, suffix))))
        foreign = files.sound[other]
        start = data.draw(_positions(foreign, other))
        piece = {"cut": b"", "double": content[begin:end] * 2, "foreign": foreign[start : start + end - begin]}
        content = content[:begin] + piece[data.draw(st.sampled_from(sorted(piece)))] + content[end:]
        if len(content) < 5000 or (suffix != "safetensors" and _pickle_begin(content) < 0):
            break
        if suffix == "safetensors" and struct.unpack("<Q", content[:8])[0] > len(content) - 8:
            break
    files.write(suffix, content)


def change_directory(files: Files, data: st.DataObject) -> None:
    """Change fields in the headers and directory entries of an archive."""
    suffix = data.draw(st.sampled_from(ARCHIVES))
    content = bytearray(files.sound[suffix])
    fields = [(b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22), (b"PK\x06\x06", 56), (b"PK\x06\x07", 20)]
    for _ in range(data.draw(st.integers(1, 4))):
        mark, length = data.draw(st.sampled_from(fields))
        positions = _find_all(content, mark)
        if not positions:
            continue
        position = data.draw(st.sampled_from(positions)) + data.draw(st.integers(4, length - 1))
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        value = data.draw(st.one_of(st.sampled_from([0, 2 ** (8 * width) - 1]), st.integers(0, 2 ** (8 * width) - 1)))
        content[position : position + width] = value.to_bytes(width, "little")
    files.write(suffix, bytes(content))


def _find_all(content: bytearray, mark: bytes) -> list[int]:
    positions, position = [], content.find(mark)
    while position >= 0:
        positions.append(position)
        position = content.find(mark, position + 1)
    return positions


def change_pickle(files: Files, data: st.DataObject) -> None:
    """Change the pickle in a sound archive: drop, double, replace, insert, swap or damage operations."""
    suffix = data.draw(st.sampled_from(ARCHIVES))
    entries = files.entries(suffix)
    name = next(name for name in entries if name.endswith("/data.pkl"))
    program = entries[name]
    starts = [position for _, _, position in pickletools.genops(program)]
    operations = [program[begin:end] for begin, end in zip(starts, [*starts[1:], len(program)], strict=True)]
    snippets = [*(code.code.encode("latin-1") for code in pickletools.opcodes), *operations[:40], b"K\xff", b"h\x00"]
    snippets += [b"cx\nY\n)\x81", b"cnumpy\ndtype\n(U\x02f8\x89\x88tR", b"cnumpy._core.multiarray\nscalar\n", b"\x8f"]
    for _ in range(data.draw(st.integers(1, 6))):
        index = data.draw(st.integers(0, len(operations) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "replace", "insert", "swap", "byte"]))
        if change == "drop":
            operations[index] = b""
        elif change == "double":
            operations[index] *= 2
        elif change == "replace":
            operations[index] = data.draw(st.sampled_from(snippets))
        elif change == "insert":
            operations[index] += data.draw(st.sampled_from(snippets))
        elif change == "swap":
            other = data.draw(st.integers(0, len(operations) - 1))
            operations[index], operations[other] = operations[other], operations[index]
        elif operations[index]:
            damaged = bytearray(operations[index])
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(BYTES)
            operations[index] = bytes(damaged)
    files.pack(suffix, {**entries, name: b"".join(operations)})


def change_header(files: Files, data: st.DataObject) -> None:
    """Change the header of a safetensors file, including the metadata of the engine."""
    content = files.sound["safetensors"]
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    config = json.loads(header["__metadata__"]["diffwave"])
    for _ in range(data.draw(st.integers(1, 3))):
        change = data.draw(st.sampled_from(["config", "tensor", "field", "name", "more"]))
        names = sorted(set(header) - {"__metadata__"})
        if change == "config":
            config[data.draw(st.sampled_from(sorted(config)))] = data.draw(JSON)
        elif change == "more" or not names:
            header[data.draw(st.text(max_size=20))] = data.draw(JSON)
        elif change == "tensor":
            header[data.draw(st.sampled_from(names))] = data.draw(JSON)
        elif change == "name":
            renamed = data.draw(st.one_of(st.text(max_size=50), st.sampled_from(names)))
            header[renamed] = header.pop(data.draw(st.sampled_from(names)))
        else:
            entry = header[data.draw(st.sampled_from(names))]
            if isinstance(entry, dict) and entry:
                key = data.draw(st.sampled_from(sorted(entry)))
                entry[key] = data.draw(st.one_of(JSON, st.lists(NUMBERS, max_size=4)))
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["diffwave"] = json.dumps(config)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    files.write("safetensors", struct.pack("<Q", len(text)) + text + content[8 + length :])


def change_settings(files: Files, data: st.DataObject) -> None:
    """Change the config.json beside a sound file: values under known names, and unknown names."""
    suffix = data.draw(st.sampled_from(ARCHIVES))
    values = json.loads(CONFIG_JSON.get(suffix, "{}"))
    known = ["family", "mel_kind", "T", "beta_0", "total_steps", "dilation_cycle", "noise_schedule", "sample_rate"]
    known += ["use_prior", "condition_prior", "wavenet_config", "diffusion_config", "preprocess", "model", "n_mels"]
    known += [
        "noise_schedule_factors",
        "upsample_factors",
        "hop_length",
        "unconditional",
        "beta_start",
        "clamp",
        "prior",
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        section = values
        if isinstance(values.get("diffusion_config"), dict) and data.draw(st.booleans()):
            section = values["diffusion_config"]
        name = data.draw(st.one_of(st.sampled_from(known), st.text(max_size=10)))
        families = st.sampled_from(["lmnt", "priorgrad", "amphion", "speechbrain", "philsyn"])
        section[name] = data.draw(st.one_of(JSON, families, st.lists(st.floats(), max_size=5)))
    files.write(suffix, files.sound[suffix], json.dumps(values))


MUTATIONS = (change_bytes, move_pieces, change_directory, change_pickle, change_header, change_settings)
MANY = 3500  # cases of each mutation


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


def run(files: Files, mutate: Mutate, examples: int) -> None:
    files.outcomes = {"loaded": 0, "refused": 0}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(st.data())
    def mutate_and_load(data: st.DataObject) -> None:
        mutate(files, data)
        files.load()

    handles = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    mutate_and_load()
    assert not handles or len(os.listdir("/proc/self/fd")) <= handles + 2
    print(f"{mutate.__name__}: {files.outcomes['loaded']} loaded, {files.outcomes['refused']} refused")


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_damaged_file_loads_or_is_refused(files: Files, mutate: Mutate) -> None:
    run(files, mutate, 50)
    assert files.outcomes["refused"] > 0


@pytest.mark.fuzz
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_many_damaged_files_load_or_are_refused(files: Files, mutate: Mutate) -> None:
    run(files, mutate, MANY)
    assert sum(files.outcomes.values()) >= 0.95 * MANY  # hypothesis skips repeated cases
