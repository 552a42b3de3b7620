"""Loading and saving: round trips, the source of every hyper-parameter, refusals."""

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
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.numpy import save

from engine.checkpoint.load import Checkpoint, expected_shapes, load_checkpoint, save_checkpoint
from engine.config import BASE, Config
from engine.errors import CheckpointError, InputError
from tests.support.checkpoints import assert_network, assert_refused
from tests.support.networks import random_network
from tests.support.paths import ROOT

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2, n_mels=4, upsample_strides=(4, 6))
PLAIN = replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None)
LABELLED = replace(PLAIN, classes=("3 ann", "3 ben", "4 ann"), clip_samples=1000)
NETWORK = random_network(SMALL, 1)
LAYER = "residual_layers.1.dilated_conv.weight"
# The settings that a config.json must give for weights without a configuration, in LMNT's names.
SETTINGS = {"dilation_cycle_length": 2, "sample_rate": 16000, "noise_schedule": [1e-4, 0.01, 0.05]}

Header = dict[str, Any]


def write_file(folder: Path, content: bytes, settings: object = None) -> Path:
    """Write a checkpoint, and a config.json beside it if there are settings."""
    path = folder / "weights.safetensors"
    path.write_bytes(content)
    if settings is not None:
        (folder / "config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return path


def split_header(content: bytes) -> tuple[Header, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_header(header: Header, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.fixture(scope="module")
def sound_file() -> bytes:
    """Return a complete safetensors file."""
    return save(NETWORK, metadata={"diffwave": SMALL.to_json()})


# Roundtrips


@pytest.mark.parametrize("config", [SMALL, PLAIN, replace(PLAIN, mel_kind="lmnt"), LABELLED])
def test_roundtrip(tmp_path: Path, config: Config) -> None:
    checkpoint = Checkpoint(config, random_network(config, 2))
    save_checkpoint(tmp_path / "x.safetensors", checkpoint)
    assert_network(load_checkpoint(tmp_path / "x.safetensors"), checkpoint.config, checkpoint.tensors)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_float16_halves_the_file_and_rounds_once(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "full", Checkpoint(SMALL, NETWORK))
    save_checkpoint(tmp_path / "half", Checkpoint(SMALL, NETWORK), dtype="float16")
    assert 2 * (tmp_path / "half").stat().st_size < (tmp_path / "full").stat().st_size + 20000
    for name, tensor in load_checkpoint(tmp_path / "half").tensors.items():
        np.testing.assert_array_equal(tensor, NETWORK[name].astype(np.float16).astype(np.float32))


def test_the_suffix_does_not_matter(tmp_path: Path, sound_file: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(sound_file)
    assert load_checkpoint(str(path)).config == SMALL


def test_tensors_are_float32_and_contiguous(tmp_path: Path) -> None:
    as64 = {name: tensor.astype(np.float64) for name, tensor in NETWORK.items()}
    path = write_file(tmp_path, save(as64, metadata={"diffwave": SMALL.to_json()}))
    loaded = load_checkpoint(path)
    assert all(t.dtype == np.float32 and t.flags.c_contiguous for t in loaded.tensors.values())
    assert_network(loaded, SMALL, NETWORK)


def test_bfloat16_is_decoded(tmp_path: Path, sound_file: bytes) -> None:
    header, _ = split_header(sound_file)
    data = b""
    for name, tensor in NETWORK.items():
        upper = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}
        data += upper
    loaded = load_checkpoint(write_file(tmp_path, join_header(header, data)))
    for name, tensor in loaded.tensors.items():
        truncated = (NETWORK[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
        np.testing.assert_array_equal(tensor, truncated)


def test_loading_safetensors_does_not_import_torch(tmp_path: Path, sound_file: bytes) -> None:
    program = (
        "import sys; from engine.checkpoint.load import load_checkpoint; load_checkpoint(sys.argv[1]);"
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(write_file(tmp_path, sound_file))]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


# Saving


def test_failed_save_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(InputError, match=rf"dtype: expected 'float32' for {LAYER}, which reaches 70000, got 'float16'"):
        save_checkpoint(tmp_path / "x", Checkpoint(SMALL, large), dtype="float16")
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="dtype: expected 'float32' or 'float16', got 'int8'"):
        save_checkpoint(tmp_path / "x", Checkpoint(SMALL, NETWORK), dtype="int8")


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".BIN", ".wav"])
def test_names_of_other_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"^path: .*: expected a name that ends in .safetensors, .*{suffix.lower()}$"):
        save_checkpoint(tmp_path / f"a{suffix}", Checkpoint(SMALL, NETWORK))
    assert not list(tmp_path.iterdir())


def test_package_exports_the_public_names() -> None:
    from engine import checkpoint

    assert checkpoint.load_checkpoint is load_checkpoint and checkpoint.save_checkpoint is save_checkpoint
    assert checkpoint.Checkpoint is Checkpoint and checkpoint.expected_shapes is expected_shapes


# Tensors of a network


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
        (with_tensor("residual_layers.0.more", NETWORK[LAYER]), "missing: none; unexpected: 'residual_layers.0.more'"),
        (with_tensor("residual_layers." + "x" * 9999, NETWORK[LAYER]), "unexpected: 'residual_layers.xxx"),
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
def test_file_of_another_network_is_refused(tmp_path: Path, tensors: dict[str, Any], match: str) -> None:
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    assert_refused(write_file(tmp_path, save(arrays, metadata={"diffwave": SMALL.to_json()})), match)
    assert_refused(write_file(tmp_path, save(arrays), settings=SETTINGS), match)


def test_file_of_the_engine_has_no_other_tensors(tmp_path: Path) -> None:
    arrays = with_tensor("more", NETWORK[LAYER])
    path = write_file(tmp_path, save(arrays, metadata={"diffwave": SMALL.to_json()}))
    assert_refused(path, "missing: none; unexpected: 'more'")
    assert load_checkpoint(write_file(tmp_path, save(arrays), settings=SETTINGS)).unused == ("more",)


def test_checkpoint_of_arrays_is_checked() -> None:
    strided = np.asfortranarray(NETWORK[LAYER])
    for tensor in (strided, NETWORK[LAYER].astype(np.float64), NETWORK[LAYER] * np.float32(np.inf)):
        with pytest.raises(CheckpointError, match=LAYER):
            Checkpoint(SMALL, with_tensor(LAYER, tensor))


def test_message_about_sizes_names_both_values(tmp_path: Path) -> None:
    for name, recorded, expected in (
        ("residual_channels", 32, 16),
        ("residual_layers", 4, 3),
        ("n_mels", 80, 4),
        ("upsample_strides", (4, 8), r"\(4, 6\)"),
    ):
        text = json.dumps({**asdict(SMALL), name: recorded})
        path = write_file(tmp_path, save(NETWORK, metadata={"diffwave": text}))
        assert_refused(path, rf"{name}: expected {expected} as in the tensors' shapes, got .* in the configuration")


# Sources of the hyper-parameters


def test_config_json_supplies_what_the_file_lacks(tmp_path: Path) -> None:
    path = write_file(tmp_path, save(NETWORK), settings={**SETTINGS, "hop_samples": 24, "comment": {"any": "thing"}})
    config = load_checkpoint(path).config
    assert config == replace(
        SMALL, sample_rate=16000, train_schedule=(1e-4, 0.01, 0.05), fast_schedule=None, mel_kind=None
    )
    own_names = {"dilation_cycle": 2, "sample_rate": 16000, "train_schedule": [0.1], "fast_schedule": [0.2]}
    config = load_checkpoint(write_file(tmp_path, save(NETWORK), settings={**own_names, "mel_kind": "hifigan"})).config
    assert (config.fast_schedule, config.mel_kind) == ((0.2,), "hifigan")
    few = {**SETTINGS, "schedules": [[0.02], [1e-3, 0.03]]}
    assert load_checkpoint(write_file(tmp_path, save(NETWORK), settings=few)).config.schedules == (
        (0.02,),
        (1e-3, 0.03),
    )


@pytest.mark.parametrize("schedules", [[[0.02], [0.03]], [[0.03, 0.02]], [[0.5]], [0.02], [["0.02"]], 3])
def test_impossible_schedules_in_a_config_json_are_refused(tmp_path: Path, schedules: Any) -> None:
    path = write_file(tmp_path, save(NETWORK), settings={**SETTINGS, "schedules": schedules})
    assert_refused(path, "config schedules: ")


@pytest.mark.parametrize("missing", list(SETTINGS))
def test_missing_settings_are_named(tmp_path: Path, missing: str) -> None:
    present = {name: value for name, value in SETTINGS.items() if name != missing}
    path = write_file(tmp_path, save(NETWORK), settings=present)
    assert_refused(path, f": {missing} missing: put it into config.json beside the file")
    (tmp_path / "config.json").unlink()
    assert_refused(path, "dilation_cycle_length, sample_rate, noise_schedule missing")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"hop_samples": 256}, "hop_samples: expected 24 as in the tensors' shapes, got 256 in the configuration"),
        ({"unconditional": True}, "unconditional: expected False as in .*, got True"),
        ({"n_mels": 80}, "n_mels: expected 4 as in .*, got 80"),
        ({"dilation_cycle": 7}, "dilation_cycle: expected 2 as in config.json, got 7 in config.json"),
        ({"sample_rate": "fast"}, "config sample_rate: expected an integer"),
        ({"noise_schedule": [0.1, 2.0]}, "config train_schedule"),
        ({"mel_kind": "griffin"}, "config mel_kind"),
        ({"family": "philsyn"}, "family: expected lmnt or priorgrad or amphion as in .*, got 'philsyn' in config.json"),
        ({"family": 3}, "got 3 in config.json"),
        ({"family": []}, "got a list in config.json"),
        ({"use_prior": True, "family": "lmnt"}, "family: expected priorgrad as in .*, got 'lmnt' in config.json"),
        ({"use_prior": True, "condition_prior": True}, "condition_prior: expected False, got True"),
        ({"padding": "reflect"}, "padding: expected 'zeros' as in family lmnt, got 'reflect' in config.json"),
        ({"use_prior": True, "prior": False}, "prior: expected True as in family priorgrad, got False in config.json"),
    ],
)
def test_contradicting_config_json_is_refused(tmp_path: Path, more: Header, match: str) -> None:
    assert_refused(write_file(tmp_path, save(NETWORK), settings={**SETTINGS, **more}), match)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "[" * 100000])
def test_config_json_without_an_object_is_refused(tmp_path: Path, text: str) -> None:
    assert_refused(write_file(tmp_path, save(NETWORK), settings=text), "config.json: config: expected")


def test_huge_config_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps({**SETTINGS, "comment": " " * (1 << 20)})
    assert_refused(write_file(tmp_path, save(NETWORK), settings=text), "config.json: expected at most 1048576 bytes")


def test_complete_file_ignores_config_json(tmp_path: Path, sound_file: bytes) -> None:
    assert load_checkpoint(write_file(tmp_path, sound_file, settings="rubbish")).config == SMALL


def test_unconditional_ignores_the_mel_in_its_params(tmp_path: Path) -> None:
    settings = {**SETTINGS, "n_mels": 80, "hop_samples": 256, "unconditional": True, "family": "lmnt"}
    config = load_checkpoint(write_file(tmp_path, save(random_network(PLAIN, 1)), settings=settings)).config
    assert (config.n_mels, config.upsample_strides, config.mel_kind) == (0, (), None)


def test_mel_kind(tmp_path: Path, sound_file: bytes) -> None:
    complete = write_file(tmp_path, sound_file)
    assert load_checkpoint(complete, mel_kind="lmnt").config == SMALL
    with pytest.raises(InputError, match=r"mel_kind: expected 'lmnt' as recorded in .*, got 'hifigan'"):
        load_checkpoint(complete, mel_kind="hifigan")
    with pytest.raises(InputError, match=r"expected one of lmnt, .*, got 'griffin'"):
        load_checkpoint(complete, mel_kind="griffin")
    unknown = replace(SMALL, mel_kind=None).to_json()
    write_file(tmp_path, save(NETWORK, metadata={"diffwave": unknown}))
    assert load_checkpoint(complete).config.mel_kind is None
    assert load_checkpoint(complete, mel_kind="hifigan").config.mel_kind == "hifigan"
    write_file(tmp_path, save(NETWORK), settings={**SETTINGS, "family": "lmnt"})
    assert load_checkpoint(complete).config.mel_kind == "lmnt"
    assert load_checkpoint(complete, mel_kind="hifigan").config.mel_kind == "hifigan"
    write_file(tmp_path, save(random_network(PLAIN, 1), metadata={"diffwave": PLAIN.to_json()}))
    with pytest.raises(InputError, match="unconditional"):
        load_checkpoint(complete, mel_kind="lmnt")


# Damaged files


def test_path_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.safetensors", "No such file")
    (tmp_path / "folder.safetensors").mkdir()
    assert_refused(tmp_path / "folder.safetensors", "got a directory")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe", "not a regular file")
    (tmp_path / "empty").touch()
    assert_refused(tmp_path / "empty", "got an empty file")
    with pytest.raises(CheckpointError, match="null"):
        load_checkpoint("a\0b")


@pytest.mark.parametrize("content", [b"\0", b"\0" * 8, b"\0" * 9, b"\0" * 5000, b"hello world", b"PK"])
def test_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    assert_refused(write_file(tmp_path, content), "expected safetensors or a PyTorch zip archive, got")


def test_every_truncation_is_refused(tmp_path: Path, sound_file: bytes) -> None:
    size, end = len(sound_file), 8 + struct.unpack("<Q", sound_file[:8])[0]
    for length in (0, 1, 7, 8, 9, 10, end // 2, end - 1, end, end + 1, (end + size) // 2, size - 1):
        assert_refused(write_file(tmp_path, sound_file[:length]), "expected")
    assert_refused(write_file(tmp_path, sound_file + b"\0"), "expected safetensors")


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
    "falsify",
    [
        *(shifted(0, 4), shifted(4, 0), shifted(-4, -4), past_the_end, overlapping),
        *(overflowing, wrong_dtype, no_dtype, negative, extra),
    ],
)
def test_false_header_is_refused(tmp_path: Path, sound_file: bytes, falsify: Callable[[Header, int], None]) -> None:
    header, data = split_header(sound_file)
    load_checkpoint(write_file(tmp_path, join_header(header, data)))
    falsify(header, len(data))
    assert_refused(write_file(tmp_path, join_header(header, data)), "expected")


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 21, 1 << 40, (1 << 64) - 1])
def test_wrong_header_length_is_refused_without_memory(tmp_path: Path, sound_file: bytes, length: int) -> None:
    path = write_file(tmp_path, join_header(*split_header(sound_file), length=length))
    tracemalloc.start()
    assert_refused(path, "expected")
    assert tracemalloc.get_traced_memory()[1] < len(sound_file) + (1 << 23)
    tracemalloc.stop()


def test_huge_header_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path, join_header({"__metadata__": {"x": " " * (1 << 21)}}, b""))
    assert_refused(path, "expected a header of at most 2097152 bytes")


@pytest.mark.parametrize("text", ["", "{}", "[]", "{" * 9999, json.dumps({**asdict(SMALL), "more": 1})])
def test_metadata_without_a_configuration_is_refused(tmp_path: Path, text: str) -> None:
    assert_refused(write_file(tmp_path, save(NETWORK, metadata={"diffwave": text})), "config: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@hypothesis_settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_file_loads_or_is_refused(folder: Path, sound_file: bytes, data: st.DataObject) -> None:
    end = 8 + struct.unpack("<Q", sound_file[:8])[0]
    positions = st.one_of(st.integers(0, 8), st.integers(0, end), st.integers(0, len(sound_file) - 1))
    values = st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789{}[],:"-.e '))
    content = bytearray(sound_file)
    for position, value in data.draw(st.lists(st.tuples(positions, values), min_size=1, max_size=6)):
        content[position] = value
    try:
        load_checkpoint(write_file(folder, bytes(content)))
    except CheckpointError as error:
        assert len(str(error)) < 500 + len(str(folder))


# Class labels


def test_classes_add_tensors() -> None:
    added = {name: shape for name, shape in expected_shapes(LABELLED).items() if name not in expected_shapes(PLAIN)}
    assert added.pop("label_embedding.weight") == (3, 128)
    assert added == {
        f"residual_layers.{i}.label_projection.{part}": shape
        for i in range(3)
        for part, shape in (("weight", (32, 128, 1)), ("bias", (32,)))
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"classes": ()}, "classes: expected 3 names as in the rows of label_embedding.weight, got 0"),
        ({"classes": ("3", "4")}, "classes: expected 3 names as in the rows of label_embedding.weight, got 2"),
        ({"drop": "label_embedding.weight"}, "missing: 'label_embedding.weight'"),
        ({"drop": "residual_layers.1.label_projection.bias"}, "missing: 'residual_layers.1.label_projection.bias'"),
        ({"label_embedding.weight": (3, 64)}, r"label_embedding.weight: expected shape \(3, 128\)"),
        ({"label_embedding.weight": (3, 128, 1)}, "label_embedding.weight: expected 2 dimensions"),
        ({"label_embedding.bias": (3,)}, "unexpected: 'label_embedding.bias'"),
        ({"residual_layers.2.label_projection.weight": (31, 128, 1)}, r"expected shape \(32, 128, 1\)"),
    ],
)
def test_contradicting_classes_are_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    tensors = random_network(LABELLED, 1)
    tensors.pop(change.get("drop", ""), None)
    tensors.update({name: np.zeros(shape, np.float32) for name, shape in change.items() if "." in name})
    config = replace(LABELLED, classes=change.get("classes", LABELLED.classes))
    assert_refused(write_file(tmp_path, save(tensors, metadata={"diffwave": config.to_json()})), match)


def test_classes_without_tensors_are_refused(tmp_path: Path) -> None:
    content = save(random_network(PLAIN, 1), metadata={"diffwave": LABELLED.to_json()})
    assert_refused(write_file(tmp_path, content), "missing: 'label_embedding.weight', .* and 5 more")


def test_config_json_may_name_the_classes(tmp_path: Path) -> None:
    settings = {**SETTINGS, "family": "lmnt", "classes": list(LABELLED.classes), "clip_samples": 1000}
    loaded = load_checkpoint(write_file(tmp_path, save(random_network(LABELLED, 1)), settings))
    assert (loaded.config.classes, loaded.config.clip_samples) == (LABELLED.classes, 1000)


def test_config_that_is_too_long_to_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 has one range per layer and channel, which are megabytes in networks that are too large for a CPU."""
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
