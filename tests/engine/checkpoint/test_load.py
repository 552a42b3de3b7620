from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from engine.checkpoint.load import Checkpoint, expected_shapes, load_checkpoint, save_checkpoint
from engine.config import BASE, Config
from engine.errors import CheckpointError, InputError
from tests.support.networks import random_network
from tests.support.paths import ROOT

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2, n_mels=4, upsample_strides=(4, 6))
PLAIN = replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None)
LABELLED = replace(PLAIN, classes=("3 ann", "3 ben", "4 ann"), clip_samples=1000)
NETWORK = random_network(SMALL, 1)
LAYER = "residual_layers.1.dilated_conv.weight"
# What a config.json needs beside weights alone, in LMNT's names.
BESIDE = {"dilation_cycle_length": 2, "sample_rate": 16000, "noise_schedule": [1e-4, 0.01, 0.05]}

Header = dict[str, Any]


def written(folder: Path, content: bytes, beside: object = None) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(content)
    if beside is not None:
        (folder / "config.json").write_text(beside if isinstance(beside, str) else json.dumps(beside))
    return path


def parts(content: bytes) -> tuple[Header, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Header, data: bytes, claim: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claim is None else claim) + text + data


def refused(path: Path, match: str, **arguments: Any) -> str:
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(path, **arguments)
    message = str(caught.value)
    assert str(path.parent) in message and len(message) < 400 + len(str(path)) and "\n" not in message
    return message


def same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.config == other.config
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name])


@pytest.fixture(scope="module")
def good() -> bytes:
    """A complete safetensors file."""
    return save(NETWORK, metadata={"diffwave": SMALL.to_json()})


# Roundtrips


@pytest.mark.parametrize("config", [SMALL, PLAIN, replace(PLAIN, mel_kind="lmnt"), LABELLED])
def test_roundtrip(tmp_path: Path, config: Config) -> None:
    checkpoint = Checkpoint(config, random_network(config, 2))
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)
    same(load_checkpoint(tmp_path / "x.safetensors"), checkpoint)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_float16_halves_the_file_and_rounds_once(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "full", Checkpoint(SMALL, NETWORK))
    save_checkpoint(tmp_path / "half", Checkpoint(SMALL, NETWORK), dtype="float16")
    assert 2 * (tmp_path / "half").stat().st_size < (tmp_path / "full").stat().st_size + 20000
    for name, tensor in load_checkpoint(tmp_path / "half").tensors.items():
        np.testing.assert_array_equal(tensor, NETWORK[name].astype(np.float16).astype(np.float32))


def test_the_suffix_does_not_matter(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(good)
    assert load_checkpoint(str(path)).config == SMALL


def test_tensors_are_float32_and_contiguous(tmp_path: Path) -> None:
    as64 = {name: tensor.astype(np.float64) for name, tensor in NETWORK.items()}
    path = written(tmp_path, save(as64, metadata={"diffwave": SMALL.to_json()}))
    loaded = load_checkpoint(path)
    assert all(t.dtype == np.float32 and t.flags.c_contiguous for t in loaded.tensors.values())
    same(loaded, Checkpoint(SMALL, NETWORK))


def test_bfloat16_is_decoded(tmp_path: Path, good: bytes) -> None:
    header, _ = parts(good)
    data = b""
    for name, tensor in NETWORK.items():
        upper = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}
        data += upper
    loaded = load_checkpoint(written(tmp_path, joined(header, data)))
    for name, tensor in loaded.tensors.items():
        truncated = (NETWORK[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
        np.testing.assert_array_equal(tensor, truncated)


def test_loading_safetensors_does_not_import_torch(tmp_path: Path, good: bytes) -> None:
    program = (
        "import sys; from engine.checkpoint.load import load_checkpoint; load_checkpoint(sys.argv[1]);"
        "sys.exit('torch' in sys.modules)"
    )
    root = ROOT
    command = [sys.executable, "-c", program, str(written(tmp_path, good))]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0


# Saving


def test_saving_replaces_a_file_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            save_checkpoint(path, Checkpoint(SMALL, NETWORK))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.safetensors"]
    save_checkpoint(path, Checkpoint(SMALL, NETWORK))
    assert load_checkpoint(path).config == SMALL


def test_float16_overflow_is_refused(tmp_path: Path) -> None:
    large = {**NETWORK, LAYER: NETWORK[LAYER].copy()}
    large[LAYER][0, 0, 0] = 70000.0
    with pytest.raises(InputError, match=rf"{LAYER}, which reaches 70000"):
        save_checkpoint(tmp_path / "x", Checkpoint(SMALL, large), dtype="float16")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="dtype: expected 'float32' or 'float16', got 'int8'"):
        save_checkpoint(tmp_path / "x", Checkpoint(SMALL, NETWORK), dtype="int8")


# What a network is


def test_expected_shapes_of_base_have_its_parameters() -> None:
    shapes = expected_shapes(BASE)
    assert len(shapes) == 254
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 2619971
    assert shapes["spectrogram_upsampler.conv2.weight"] == (1, 1, 3, 32)


def with_tensor(name: str, tensor: Any) -> dict[str, Any]:
    return {**NETWORK, name: tensor}


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({k: v for k, v in NETWORK.items() if k != LAYER}, f"missing: '{LAYER}'; unexpected: none"),
        (with_tensor("more", NETWORK[LAYER]), "missing: none; unexpected: 'more'"),
        (with_tensor("x" * 9999, NETWORK[LAYER]), "unexpected: 'xxx"),
        ({}, "'input_projection.weight', .* and [0-9]+ more; unexpected: none"),
        (with_tensor("residual_layers.7.dilated_conv.bias", NETWORK[LAYER]), r"missing: 'residual_layers.3"),
        (with_tensor("residual_layers." + "9" * 5000 + ".x", NETWORK[LAYER]), r"missing: 'residual_layers.3"),
        (with_tensor(LAYER, NETWORK[LAYER][:, :, :2].copy()), rf"{LAYER}: expected shape \(32, 16, 3\), got"),
        (with_tensor(LAYER, NETWORK[LAYER].reshape(-1)), rf"{LAYER}: expected 3 dimensions, got \(1536,\)"),
        (with_tensor("input_projection.weight", np.float32(1)), "expected 3 dimensions, got"),
        (with_tensor(LAYER, NETWORK[LAYER].astype(np.int32)), f"'{LAYER}': expected float values, got I32"),
        (with_tensor(LAYER, np.full_like(NETWORK[LAYER], np.nan)), f"{LAYER}: expected finite"),
        (with_tensor(LAYER, np.full_like(NETWORK[LAYER], -np.inf)), f"{LAYER}: expected finite"),
        (with_tensor(LAYER, np.full(NETWORK[LAYER].shape, 1e300)), f"{LAYER}: expected finite"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_files_of_another_network(tmp_path: Path, tensors: dict[str, Any], match: str) -> None:
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    refused(written(tmp_path, save(arrays, metadata={"diffwave": SMALL.to_json()})), match)
    refused(written(tmp_path, save(arrays), beside=BESIDE), match)


def test_a_checkpoint_made_by_hand_is_checked_too() -> None:
    strided = np.asfortranarray(NETWORK[LAYER])
    for tensor in (strided, NETWORK[LAYER].astype(np.float64), NETWORK[LAYER] * np.float32(np.inf)):
        with pytest.raises(CheckpointError, match=LAYER):
            Checkpoint(SMALL, with_tensor(LAYER, tensor))


def test_sizes_that_contradict_the_shapes_name_both(tmp_path: Path) -> None:
    for name, wrong, right in (
        ("residual_channels", 32, 16),
        ("residual_layers", 4, 3),
        ("n_mels", 80, 4),
        ("upsample_strides", (4, 8), r"\(4, 6\)"),
    ):
        text = json.dumps({**asdict(SMALL), name: wrong})
        path = written(tmp_path, save(NETWORK, metadata={"diffwave": text}))
        refused(path, rf"{name}: the configuration says .*, the tensors' shapes say {right}")


# Where the hyper-parameters come from


def test_config_json_supplies_what_the_file_lacks(tmp_path: Path) -> None:
    path = written(tmp_path, save(NETWORK), beside={**BESIDE, "hop_samples": 24, "comment": {"any": "thing"}})
    config = load_checkpoint(path).config
    assert config == replace(
        SMALL, sample_rate=16000, train_schedule=(1e-4, 0.01, 0.05), fast_schedule=None, mel_kind=None
    )
    ours = {"dilation_cycle": 2, "sample_rate": 16000, "train_schedule": [0.1], "fast_schedule": [0.2]}
    config = load_checkpoint(written(tmp_path, save(NETWORK), beside={**ours, "mel_kind": "hifigan"})).config
    assert (config.fast_schedule, config.mel_kind) == ((0.2,), "hifigan")


@pytest.mark.parametrize("missing", list(BESIDE))
def test_what_is_still_missing_is_named(tmp_path: Path, missing: str) -> None:
    beside = {name: value for name, value in BESIDE.items() if name != missing}
    path = written(tmp_path, save(NETWORK), beside=beside)
    refused(path, f": {missing} missing: put it into config.json beside the file")
    (tmp_path / "config.json").unlink()
    refused(path, "dilation_cycle_length, sample_rate, noise_schedule missing")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"hop_samples": 256}, "hop_samples: the configuration says 256, the tensors' shapes say 24"),
        ({"unconditional": True}, "unconditional: the configuration says True, .* say False"),
        ({"n_mels": 80}, "n_mels: the configuration says 80, .* say 4"),
        ({"dilation_cycle": 7}, "dilation_cycle: config.json says 2, config.json says 7"),
        ({"sample_rate": "fast"}, "config sample_rate: expected an integer"),
        ({"noise_schedule": [0.1, 2.0]}, "config train_schedule"),
        ({"mel_kind": "griffin"}, "config mel_kind"),
        ({"family": "philsyn"}, "config.json says 'philsyn', .* says lmnt or priorgrad or amphion"),
        ({"family": 3}, "config.json says 3"),
        ({"family": []}, "config.json says a list"),
        ({"use_prior": True, "family": "lmnt"}, "config.json says 'lmnt', the rest of the checkpoint says priorgrad"),
        ({"use_prior": True, "condition_prior": True}, "condition_prior: expected a network without"),
        ({"padding": "reflect"}, "padding: family lmnt says 'zeros', config.json says 'reflect'"),
        ({"use_prior": True, "prior": False}, "prior: family priorgrad says True, config.json says False"),
    ],
)
def test_config_json_that_cannot_be_right(tmp_path: Path, more: Header, match: str) -> None:
    refused(written(tmp_path, save(NETWORK), beside={**BESIDE, **more}), match)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "[" * 100000])
def test_config_json_that_is_none(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path, save(NETWORK), beside=text), "config.json: config: expected")


def test_a_huge_config_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps({**BESIDE, "comment": " " * (1 << 20)})
    refused(written(tmp_path, save(NETWORK), beside=text), "config.json: expected at most 1048576 bytes")


def test_a_complete_file_needs_no_config_json(tmp_path: Path, good: bytes) -> None:
    assert load_checkpoint(written(tmp_path, good, beside="rubbish")).config == SMALL


def test_unconditional_ignores_the_mel_in_its_params(tmp_path: Path) -> None:
    beside = {**BESIDE, "n_mels": 80, "hop_samples": 256, "unconditional": True, "family": "lmnt"}
    config = load_checkpoint(written(tmp_path, save(random_network(PLAIN, 1)), beside=beside)).config
    assert (config.n_mels, config.upsample_strides, config.mel_kind) == (0, (), None)


def test_mel_kind(tmp_path: Path, good: bytes) -> None:
    complete = written(tmp_path, good)
    assert load_checkpoint(complete, mel_kind="lmnt").config == SMALL
    with pytest.raises(InputError, match="'lmnt' mels, got 'hifigan'"):
        load_checkpoint(complete, mel_kind="hifigan")
    with pytest.raises(InputError, match=r"expected one of lmnt, .*, got 'griffin'"):
        load_checkpoint(complete, mel_kind="griffin")
    unknown = replace(SMALL, mel_kind=None).to_json()
    written(tmp_path, save(NETWORK, metadata={"diffwave": unknown}))
    assert load_checkpoint(complete).config.mel_kind is None
    assert load_checkpoint(complete, mel_kind="hifigan").config.mel_kind == "hifigan"
    written(tmp_path, save(NETWORK), beside={**BESIDE, "family": "lmnt"})
    assert load_checkpoint(complete).config.mel_kind == "lmnt"
    assert load_checkpoint(complete, mel_kind="hifigan").config.mel_kind == "hifigan"
    written(tmp_path, save(random_network(PLAIN, 1), metadata={"diffwave": PLAIN.to_json()}))
    with pytest.raises(InputError, match="unconditional"):
        load_checkpoint(complete, mel_kind="lmnt")


# Bad files


def test_what_is_not_a_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.safetensors", "No such file")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "got a directory")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "got an empty file")
    with pytest.raises(CheckpointError, match="null"):
        load_checkpoint("a\0b")


@pytest.mark.parametrize("content", [b"\0", b"\0" * 8, b"\0" * 9, b"\0" * 5000, b"hello world", b"PK"])
def test_what_is_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    refused(written(tmp_path, content), "expected safetensors or a PyTorch zip archive, got")


def test_every_truncation_is_refused(tmp_path: Path, good: bytes) -> None:
    end = 8 + struct.unpack("<Q", good[:8])[0]
    for length in (0, 1, 7, 8, 9, 10, end // 2, end - 1, end, end + 1, (end + len(good)) // 2, len(good) - 1):
        refused(written(tmp_path, good[:length]), "expected")
    refused(written(tmp_path, good + b"\0"), "expected safetensors")


def shifted(begin: int, end: int) -> Callable[[Header, int], None]:
    def change(header: Header, size: int) -> None:
        first, last = header[LAYER]["data_offsets"]
        header[LAYER]["data_offsets"] = [first + begin, last + end]

    return change


def past_the_end(header: Header, size: int) -> None:
    header[LAYER].update(shape=[1 << 40], data_offsets=[header[LAYER]["data_offsets"][0], 1 << 42])


def overlapping(header: Header, size: int) -> None:
    header[LAYER]["data_offsets"] = header["residual_layers.0.dilated_conv.weight"]["data_offsets"]


def overflowing(header: Header, size: int) -> None:
    header[LAYER]["shape"] = [1 << 62, 1 << 62, 3]


def wrong_dtype(header: Header, size: int) -> None:
    header[LAYER]["dtype"] = "F64"


def no_dtype(header: Header, size: int) -> None:
    header[LAYER]["dtype"] = "F77"


def negative(header: Header, size: int) -> None:
    header[LAYER]["shape"][0] *= -1


def extra(header: Header, size: int) -> None:
    header["empty"] = {"dtype": "F32", "shape": [0], "data_offsets": [size, size]}


@pytest.mark.parametrize(
    "lie",
    [
        *(shifted(0, 4), shifted(4, 0), shifted(-4, -4), past_the_end, overlapping),
        *(overflowing, wrong_dtype, no_dtype, negative, extra),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, good: bytes, lie: Callable[[Header, int], None]) -> None:
    header, data = parts(good)
    load_checkpoint(written(tmp_path, joined(header, data)))
    lie(header, len(data))
    refused(written(tmp_path, joined(header, data)), "expected")


@pytest.mark.parametrize("claim", [0, 1, 1 << 20, 1 << 21, 1 << 40, (1 << 64) - 1])
def test_a_wrong_header_length_is_refused_without_memory(tmp_path: Path, good: bytes, claim: int) -> None:
    path = written(tmp_path, joined(*parts(good), claim=claim))
    tracemalloc.start()
    refused(path, "expected")
    assert tracemalloc.get_traced_memory()[1] < len(good) + (1 << 23)
    tracemalloc.stop()


def test_a_header_larger_than_any_network_needs_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, joined({"__metadata__": {"x": " " * (1 << 21)}}, b""))
    refused(path, "expected a header of at most 2097152 bytes")


@pytest.mark.parametrize("text", ["", "{}", "[]", "{" * 9999, json.dumps({**asdict(SMALL), "more": 1})])
def test_metadata_that_is_no_config(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path, save(NETWORK, metadata={"diffwave": text})), "config: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_bytes_never_surprise(folder: Path, good: bytes, data: st.DataObject) -> None:
    end = 8 + struct.unpack("<Q", good[:8])[0]
    places = st.one_of(st.integers(0, 8), st.integers(0, end), st.integers(0, len(good) - 1))
    values = st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789{}[],:"-.e '))
    content = bytearray(good)
    for place, value in data.draw(st.lists(st.tuples(places, values), min_size=1, max_size=6)):
        content[place] = value
    try:
        load_checkpoint(written(folder, bytes(content)))
    except CheckpointError as error:
        assert len(str(error)) < 500 + len(str(folder))


# Class labels


def test_the_tensors_of_labels() -> None:
    more = {name: shape for name, shape in expected_shapes(LABELLED).items() if name not in expected_shapes(PLAIN)}
    assert more.pop("label_embedding.weight") == (3, 128)
    assert more == {
        f"residual_layers.{i}.label_projection.{part}": shape
        for i in range(3)
        for part, shape in (("weight", (32, 128, 1)), ("bias", (32,)))
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": ()}, "classes: expected the names of the 3 that label_embedding.weight has, got 0"),
        ({"classes": ("3", "4")}, "classes: expected the names of the 3 that label_embedding.weight has, got 2"),
        ({"drop": "label_embedding.weight"}, "missing: 'label_embedding.weight'"),
        ({"drop": "residual_layers.1.label_projection.bias"}, "missing: 'residual_layers.1.label_projection.bias'"),
        ({"label_embedding.weight": (3, 64)}, r"label_embedding.weight: expected shape \(3, 128\)"),
        ({"label_embedding.weight": (3, 128, 1)}, "label_embedding.weight: expected 2 dimensions"),
        ({"label_embedding.bias": (3,)}, "unexpected: 'label_embedding.bias'"),
        ({"residual_layers.2.label_projection.weight": (31, 128, 1)}, r"expected shape \(32, 128, 1\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    tensors = random_network(LABELLED, 1)
    tensors.pop(change.get("drop", ""), None)
    tensors.update({name: np.zeros(shape, np.float32) for name, shape in change.items() if "." in name})
    config = replace(LABELLED, classes=change.get("classes", LABELLED.classes))
    refused(written(tmp_path, save(tensors, metadata={"diffwave": config.to_json()})), match)


def test_labels_without_their_tensors_are_refused(tmp_path: Path) -> None:
    content = save(random_network(PLAIN, 1), metadata={"diffwave": LABELLED.to_json()})
    refused(written(tmp_path, content), "missing: 'label_embedding.weight', .* and 4 more")


def test_names_of_classes_may_stand_in_a_config_json(tmp_path: Path) -> None:
    beside = {**BESIDE, "family": "lmnt", "classes": list(LABELLED.classes), "clip_samples": 1000}
    loaded = load_checkpoint(written(tmp_path, save(random_network(LABELLED, 1)), beside))
    assert (loaded.config.classes, loaded.config.clip_samples) == (LABELLED.classes, 1000)


def test_a_config_too_long_to_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8's ranges are one per layer and channel: of networks far beyond what a CPU runs, they are megabytes."""
    config = replace(BASE, residual_channels=16, residual_layers=3)
    checkpoint, size = Checkpoint(config, random_network(config, 0)), len(config.to_json())
    monkeypatch.setattr("engine.checkpoint.load.MAX_CONFIG", size - 1)
    with pytest.raises(
        InputError, match=f"checkpoint: expected a config of at most {size - 1} bytes as JSON, got {size}"
    ):
        save_checkpoint(tmp_path / "x.safetensors", checkpoint)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("engine.checkpoint.load.MAX_CONFIG", size)
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)
    assert load_checkpoint(tmp_path / "x.safetensors").config == config
