"""Reader of PyTorch checkpoints: contents, refusals, memory, damaged files."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checkpoint.load import load_checkpoint
from engine.checkpoint.pytorch import read_pytorch
from engine.config import Config
from engine.errors import CheckpointError
from tests.support.checkpoints import assert_short_message
from tests.support.networks import random_network, shared_file
from tests.support.paths import ROOT

torch = pytest.importorskip("torch")

SMALL = Config(residual_channels=16, residual_layers=1, dilation_cycle=1, n_mels=4, upsample_strides=(4, 6))
NETWORK = random_network(SMALL, 3)
PARAMS = {
    "residual_channels": 16,
    "residual_layers": 1,
    "dilation_cycle_length": 1,
    "n_mels": 4,
    "hop_samples": 24,
    "sample_rate": 22050,
    "noise_schedule": list(SMALL.train_schedule),
    "inference_noise_schedule": list(SMALL.fast_schedule or ()),
    "unconditional": False,
    "max_grad_norm": None,
    "learning_rate": 2e-4,
}
KEY = "residual_layers.0.dilated_conv.weight"


def state_dict() -> dict[str, Any]:
    return {name: torch.from_numpy(tensor.copy()) for name, tensor in NETWORK.items()}


def lmnt_content(**changes: Any) -> dict[str, Any]:
    """Return the content of a checkpoint of LMNT's trainer."""
    content = {"step": 7, "model": state_dict(), "optimizer": {}, "params": PARAMS, "scaler": None}
    return {**content, **changes}


def save(folder: Path, content: object, **arguments: Any) -> Path:
    torch.save(content, folder / "weights.pt", **arguments)
    return folder / "weights.pt"


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pack(path: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def assert_refused(path: Path, match: str) -> None:
    for read in (read_pytorch, load_checkpoint):
        with pytest.raises(CheckpointError, match=match) as refusal:
            read(path)
        assert_short_message(refusal.value, path)


def read_tensors(path: Path) -> dict[str, Any]:
    return {name: tensor.read() for name, tensor in read_pytorch(path).tensors.items()}


def assert_tensors(tensors: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
        np.testing.assert_array_equal(tensor, expected[name])


# Contents


def test_checkpoint_with_optimizer_state(tmp_path: Path) -> None:
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in state_dict().items()}
    optimizer = torch.optim.Adam(parameters.values())
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    path = save(tmp_path, lmnt_content(model=parameters, optimizer=optimizer.state_dict()))
    archive = read_pytorch(path)
    assert_tensors(read_tensors(path), {name: parameter.detach().numpy() for name, parameter in parameters.items()})
    assert (archive.params, archive.container) == (PARAMS, "model")
    assert load_checkpoint(path).config == SMALL


def test_caller_may_override_the_kind_of_mel(tmp_path: Path) -> None:
    path = save(tmp_path, lmnt_content())
    assert load_checkpoint(path).config.mel_kind == "lmnt"
    assert load_checkpoint(path, mel_kind="hifigan").config.mel_kind == "hifigan"


def test_bare_state_dict_needs_config_json(tmp_path: Path) -> None:
    path = save(tmp_path, state_dict())
    assert_tensors(read_tensors(path), NETWORK)
    with pytest.raises(CheckpointError, match="dilation_cycle_length, sample_rate, noise_schedule missing"):
        load_checkpoint(path)
    (tmp_path / "config.json").write_text('{"dilation_cycle_length": 1, "sample_rate": 8000, "noise_schedule": [0.1]}')
    config = load_checkpoint(path).config
    assert (config.sample_rate, config.train_schedule, config.mel_kind) == (8000, (0.1,), None)


def test_config_json_fills_gaps_but_may_not_contradict(tmp_path: Path) -> None:
    params = {name: value for name, value in PARAMS.items() if name != "dilation_cycle_length"}
    path = save(tmp_path, lmnt_content(params=params))
    (tmp_path / "config.json").write_text('{"dilation_cycle_length": 1, "n_mels": 4}')
    assert load_checkpoint(path).config == SMALL
    (tmp_path / "config.json").write_text('{"dilation_cycle_length": 1, "sample_rate": 8000}')
    with pytest.raises(CheckpointError, match="sample_rate: expected 22050 as in the checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float_types_are_converted(tmp_path: Path, dtype: Any) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in state_dict().items()}
    expected = {name: tensor.to(torch.float32).numpy() for name, tensor in tensors.items()}
    assert_tensors(read_tensors(save(tmp_path, lmnt_content(model=tensors))), expected)


def test_views_are_copied(tmp_path: Path) -> None:
    tensors = state_dict()
    large = torch.zeros(2, 16, 3, 64)
    large[1, :, :, 5:37] = tensors[KEY].permute(1, 2, 0)
    tensors[KEY] = large[1, :, :, 5:37].permute(2, 0, 1)
    assert not tensors[KEY].is_contiguous()
    assert_tensors(read_tensors(save(tmp_path, lmnt_content(model=tensors))), NETWORK)


def test_storage_devices_are_ignored(tmp_path: Path) -> None:
    content = entries(save(tmp_path, lmnt_content()))
    name = "weights/data.pkl"
    assert content[name].count(b"X\x03\x00\x00\x00cpu") == 1  # the other storages refer to it
    content[name] = content[name].replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert_tensors(read_tensors(pack(tmp_path / "weights.pt", content)), NETWORK)


def test_big_endian_archive_is_read(tmp_path: Path) -> None:
    """On a big-endian machine, torch.save writes this byte order."""
    content = entries(save(tmp_path, lmnt_content()))
    assert content["weights/byteorder"] == b"little"
    content["weights/byteorder"] = b"big"
    for name, record in content.items():
        if "/data/" in name:
            content[name] = np.frombuffer(record, "<f4").astype(">f4").tobytes()
    assert_tensors(read_tensors(pack(tmp_path / "weights.pt", content)), NETWORK)


def test_hyper_parameters_in_tensors_are_read(tmp_path: Path) -> None:
    params = {**PARAMS, "noise_schedule": torch.tensor(SMALL.train_schedule, dtype=torch.float64)}
    assert load_checkpoint(save(tmp_path, lmnt_content(params=params))).config == SMALL
    params.update(unused=torch.zeros(1).expand(10**10), apart=torch.zeros(20000)[::19999])
    archived = read_pytorch(save(tmp_path, lmnt_content(params=params))).params
    assert "unused" not in archived and "apart" not in archived
    many = {f"list{n}": torch.zeros(4000) for n in range(9)}
    archived = read_pytorch(save(tmp_path, lmnt_content(params=many))).params
    assert sum(isinstance(value, list) for value in archived.values()) == 2


# Refusals


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "expected a dict with 'model', .* or a state_dict, got list"),
        ({}, "got \\[\\]"),
        ({"model": 3}, "got \\['model'\\]"),
        (lmnt_content(model={**state_dict(), KEY: [1.0]}), f"'{KEY}': expected a tensor, got a list"),
        (
            lmnt_content(model={**state_dict(), KEY: torch.zeros(32, 16, 3).to_sparse()}),
            "got a 'torch._utils _rebuild_sp",
        ),
        (lmnt_content(model={**state_dict(), KEY: torch.zeros(2, dtype=torch.complex64)}), "a 'torch ComplexFloatStor"),
        (torch.nn.Linear(2, 3), "got 'torch.nn.modules.linear Linear'; save model.state_dict"),
        (lmnt_content(model=torch.nn.Linear(2, 3)), "got 'torch.nn.modules.linear Linear'; save model.state_dict"),
        (lmnt_content(model={**state_dict(), KEY: torch.zeros(32, 16, 3).int()}), "float values, got int32"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_foreign_content_is_refused(tmp_path: Path, content: object, match: str) -> None:
    path = save(tmp_path, content)
    with pytest.raises(CheckpointError, match=match) as refusal:
        load_checkpoint(path)
    assert_short_message(refusal.value, path)


def test_only_what_is_read_counts(tmp_path: Path) -> None:
    """A view that repeats a value may describe gigabytes. Reading it is refused, ignoring it is free."""
    content = lmnt_content(model={**state_dict(), "unused": torch.zeros(1).expand(10**10), 5: torch.zeros(1)})
    path = save(tmp_path, content)
    assert load_checkpoint(path).unused == ("unused",)
    with pytest.raises(CheckpointError, match=r"'unused': expected at most the file's \d+ bytes, got 40000000000"):
        read_pytorch(path).tensors["unused"].read()


@pytest.mark.parametrize("change", [{"hop_samples": 256}, {"n_mels": 80}, {"unconditional": True}])
def test_params_that_contradict_the_shapes_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=f"{next(iter(change))}: expected .* as in the tensors' shapes"):
        load_checkpoint(save(tmp_path, lmnt_content(params={**PARAMS, **change})))


class Hostile:
    """An object whose unpickling creates a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    path = save(tmp_path, lmnt_content(scaler=Hostile(canary)), pickle_protocol=protocol)
    assert_refused(path, "refers to 'posix mkdir'")
    with pytest.raises(CheckpointError):
        load_checkpoint(pack(path, {**entries(path), "weights/data.pkl": pickle.dumps(Hostile(canary))}))
    assert not canary.exists()
    pickle.loads(pickle.dumps(Hostile(canary)))  # the control: pickle itself does run it
    assert canary.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_legacy_pickles_are_refused(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Hostile(canary), protocol=protocol))
    assert_refused(tmp_path / "x.pkl", "got a legacy pickle")
    assert not canary.exists()
    assert_refused(save(tmp_path, lmnt_content(), _use_new_zipfile_serialization=False), "got a legacy pickle")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    content = entries(save(tmp_path, lmnt_content()))
    assert_refused(pack(tmp_path / "x.pt", {**content, "weights/constants.pkl": b"."}), "constants.pkl")


def test_zip_bombs_are_refused_without_memory(tmp_path: Path) -> None:
    content = entries(save(tmp_path, lmnt_content()))
    bomb = pack(tmp_path / "bomb.pt", {**content, "weights/data/999": bytes(200 << 20)}, zipfile.ZIP_DEFLATED)
    overlapping = pack(tmp_path / "overlapping.pt", content)
    crowded = pack(tmp_path / "crowded.pt", content)
    for path, count in ((overlapping, 100), (crowded, 30000)):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("weights/data/1000", bytes(100000))
            for number in range(count):  # each refers to the same bytes
                clone = copy.copy(archive.infolist()[-1])
                clone.filename = f"weights/data/{2000 + number}"
                archive.filelist.append(clone)
    tracemalloc.start()
    assert_refused(bomb, "compressed or encrypted")
    assert_refused(overlapping, "bytes of content, got [0-9]+ in its directory")
    assert_refused(crowded, "expected a directory of at most")
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


def test_huge_pickle_is_refused(tmp_path: Path) -> None:
    assert_refused(save(tmp_path, lmnt_content(scaler="x" * (1 << 26))), "expected a pickle of at most 67108864 bytes")
    assert_refused(save(tmp_path, lmnt_content(scaler=[None] * (1 << 18))), "expected a pickle of at most 262144 op")
    assert load_checkpoint(save(tmp_path, lmnt_content(history=[0.5] * 10**6))).config == SMALL


@pytest.mark.parametrize("protocol", [2, 5])
def test_long_values_are_skipped(tmp_path: Path, protocol: int) -> None:
    values = {"history": [0.5] * 200000, "text": "x" * 10**7, "array": np.ones(10**6), "bytes": bytes(10**7)}
    path = save(tmp_path, {**values, **lmnt_content(params={**PARAMS, **values})}, pickle_protocol=protocol)
    assert load_checkpoint(path).config == SMALL


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("weights/data/0", "twice"),
        ("weights/VERSION", "twice"),
        ("other/version", "expected one folder with one data.pkl, got 2 with 1"),
        ("../data/7", "expected the entries of torch.save"),
        ("/etc/passwd", "expected the entries of torch.save"),
        ("weights/../../x", "expected the entries of torch.save"),
        ("weights\\x", "expected the entries of torch.save"),
        ("x" * 9999, "expected the entries of torch.save"),
    ],
)
def test_foreign_entries_are_refused(tmp_path: Path, name: str, match: str) -> None:
    path = pack(tmp_path / "x.pt", entries(save(tmp_path, lmnt_content())))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    assert_refused(path, match)


def test_archive_without_a_pickle_is_refused(tmp_path: Path) -> None:
    content = entries(save(tmp_path, lmnt_content()))
    del content["weights/data.pkl"]
    assert_refused(pack(tmp_path / "x.pt", content), "got 1 with 0")


@pytest.mark.parametrize(("key", "value"), [("3", None), ("6", b""), ("6", bytes(60)), ("0", bytes(68))])
def test_record_of_the_wrong_size_is_refused(tmp_path: Path, key: str, value: bytes | None) -> None:
    content = entries(save(tmp_path, lmnt_content()))
    name = f"weights/data/{key}"
    changed = {**content, name: value} if value is not None else {k: v for k, v in content.items() if k != name}
    assert_refused(pack(tmp_path / "x.pt", changed), f"{name}: expected [0-9]+ bytes as in the pickle, got")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path, lmnt_content()).read_bytes()
    for length in (4, 30, 1000, 10000, len(whole) // 2, len(whole) - 5000, len(whole) - 30, len(whole) - 1):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        assert_refused(tmp_path / "x.pt", "zip archive")
    for content, match in ((b"", "empty"), (b"\0" * 5000, "expected"), (b"PK\x03\x04" + bytes(99), "zip")):
        (tmp_path / "x.pt").write_bytes(content)
        assert_refused(tmp_path / "x.pt", match)
    assert_refused(tmp_path, "a directory")


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = save(tmp_path, lmnt_content())
    program = (
        "import sys; sys.modules['torch'] = None; from engine.checkpoint.load import load_checkpoint;"
        "print(len(load_checkpoint(sys.argv[1]).tensors))"
    )
    process = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert (process.stdout, process.stderr) == (f"{len(NETWORK)}\n", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@pytest.fixture(scope="module")
def sound_file(folder: Path) -> bytes:
    half = {name: tensor.half() for name, tensor in state_dict().items()}
    return save(folder, lmnt_content(model=half)).read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_file_loads_or_is_refused(folder: Path, sound_file: bytes, data: st.DataObject) -> None:
    end = len(sound_file) - 1
    positions = st.one_of(st.integers(0, 5000), st.integers(end - 2500, end), st.integers(0, end))
    changes = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=6)
    content = bytearray(sound_file)
    for position, value in data.draw(changes):
        content[position] = value
    (folder / "x.pt").write_bytes(content)
    try:
        load_checkpoint(folder / "x.pt")
    except CheckpointError as error:
        assert len(str(error)) < 500 + len(str(folder))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_pickle_loads_or_is_refused(folder: Path, sound_file: bytes, data: st.DataObject) -> None:
    """The archive itself is sound, so the unpickler reads every change."""
    (folder / "y.pt").write_bytes(sound_file)
    content = entries(folder / "y.pt")
    program = bytearray(content["weights/data.pkl"])
    positions = st.integers(0, len(program) - 1)
    changes = st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4)
    for position, value in data.draw(changes):
        program[position] = value
    pack(folder / "y.pt", {**content, "weights/data.pkl": bytes(program)})
    try:
        load_checkpoint(folder / "y.pt")
    except CheckpointError as error:
        assert len(str(error)) < 500 + len(str(folder))


# The shared examples


@pytest.mark.parametrize(("name", "n_mels", "kind"), [("lmnt", 80, "lmnt"), ("lmnt_unconditional", 0, None)])
def test_shared_examples(tmp_path: Path, name: str, n_mels: int, kind: str | None) -> None:
    source = shared_file(name)
    expected = torch.load(source, weights_only=True)
    loaded = load_checkpoint(source)
    config = loaded.config
    assert (config.residual_channels, config.residual_layers, config.dilation_cycle) == (32, 9, 5)
    assert (config.n_mels, config.mel_kind, config.sample_rate) == (n_mels, kind, 22050)
    assert list(config.train_schedule) == expected["params"]["noise_schedule"]
    assert_tensors(loaded.tensors, {key: tensor.numpy() for key, tensor in expected["model"].items()})
    copy_alone = tmp_path / "weights.pt"  # without the config.json beside the original
    copy_alone.write_bytes(source.read_bytes())
    assert load_checkpoint(copy_alone).config == config
