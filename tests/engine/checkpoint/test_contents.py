"""Checkpoints as trainers leave them: wrappers, averages, foreign objects, settings of any class."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
import json
import pathlib
import random
import types
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.checkpoint.load import load_checkpoint
from engine.checkpoint.pytorch import read_pytorch
from engine.errors import CheckpointError
from tests.support.checkpoints import assert_network, assert_refused
from tests.support.contents import (
    CONTAINERS,
    LAYOUTS,
    LMNT,
    NETWORK,
    PROTOCOLS,
    WRAPPERS,
    assert_loads,
    lightning,
    saved,
    tensors,
)
from tests.support.layouts import content_of, layout_config
from tests.support.networks import random_network

torch = pytest.importorskip("torch")

# Wrappers and prefixes


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", WRAPPERS)
def test_wrapped_names(tmp_path: Path, layout: str, prefix: str) -> None:
    config, network = layout_config(layout), random_network(layout_config(layout), 2)
    name, content, settings = content_of(layout, config, network)
    container = next((key for key in CONTAINERS if key in content), "")
    model = content[container] if container else content
    wrapped = {prefix + key: tensor for key, tensor in model.items()}
    if settings is not None:
        (tmp_path / "config.json").write_text(json.dumps(settings))
    torch.save({**content, container: wrapped} if container else wrapped, tmp_path / name)
    assert_network(load_checkpoint(tmp_path / name), config, network)
    if settings is not None:
        save_file({key: tensor.numpy() for key, tensor in wrapped.items()}, tmp_path / "model.safetensors")
        assert_network(load_checkpoint(tmp_path / "model.safetensors"), config, network)


@pytest.mark.parametrize("key", ["generator", "net", "weights", "vocoder", "ddpm"])
def test_weights_under_any_key(tmp_path: Path, key: str) -> None:
    content = {key: tensors(), "params": LMNT["params"], "discriminator": {"conv.weight": torch.zeros(3)}}
    assert_loads(load_checkpoint(saved(tmp_path, content)))
    assert_loads(load_checkpoint(saved(tmp_path, {"model": {key: tensors()}, "params": LMNT["params"]})))


def test_lightning(tmp_path: Path) -> None:
    assert_loads(load_checkpoint(saved(tmp_path, lightning())))
    assert_loads(load_checkpoint(saved(tmp_path, lightning(hyper_parameters={"params": LMNT["params"], "lr": 1e-4}))))
    bare = lightning(state_dict=tensors())
    assert_loads(load_checkpoint(saved(tmp_path, bare)))  # "state_dict" alone would be Amphion's
    del bare["hyper_parameters"]
    assert_refused(saved(tmp_path, bare), "dilation_cycle_length, sample_rate, noise_schedule missing")


def test_several_networks_are_refused(tmp_path: Path) -> None:
    both = {f"{name}.{key}": tensor for name in ("student", "teacher") for key, tensor in tensors().items()}
    assert_refused(saved(tmp_path, {**LMNT, "model": both}), "one network, got 2, .* begin with 'student.', 'teacher.'")


@pytest.mark.parametrize(("layout", "name"), [("speechbrain", "SpeechBrain"), ("philsyn", "philsyn"), ("lmnt", "LMNT")])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_missing_tensors_have_the_names_of_the_likeliest_family(
    tmp_path: Path, layout: str, name: str, prefix: str
) -> None:
    config = layout_config(layout)
    _, content, _ = content_of(layout, config, random_network(config, 2))
    model = dict(next((content[key] for key in CONTAINERS if key in content), content))
    missing = [key for key in model if "dilat" in key][:1] + [key for key in model if "fc_t" in key or "diffu" in key][
        :1
    ]
    for key in missing:
        del model[key]
    if "weight_v" in missing[0] or "weight_g" in missing[0]:
        missing = missing[1:]
    path = saved(tmp_path, {"model": {prefix + key: tensor for key, tensor in model.items()}})
    assert_refused(path, f"in {name}'s names missing: .*")
    for key in missing:
        assert_refused(path, f"missing: .*'{key}'")


# What a network does not use


class Settings(dict):
    """LMNT's AttrDict."""

    def __init__(self, *arguments: Any, **entries: Any) -> None:
        super().__init__(*arguments, **entries)
        self.__dict__ = self

    def override(self, attributes: Any) -> Settings:
        return self


class HParams:
    """Settings as attributes."""

    def __init__(self, **entries: Any) -> None:
        self.__dict__.update(entries)


class Node:
    """A node of omegaconf."""

    def __init__(self, value: Any) -> None:
        self._val, self._metadata = value, {"key": None}


class DictConfig:
    """A configuration of omegaconf."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self._metadata = {"ref_type": "Any"}
        self._content = {
            key: ListConfig(value) if isinstance(value, list) else Node(value) for key, value in entries.items()
        }


class ListConfig:
    """A list of omegaconf."""

    def __init__(self, values: list[Any]) -> None:
        self._metadata, self._content = {}, [Node(value) for value in values]


class Phase(enum.Enum):
    """An enumeration."""

    TRAIN = "train"


def warm_up(step: int) -> float:
    return min(1.0, step / 1000)


def beside() -> dict[str, Any]:
    """Return values that trainers store beside the weights."""
    return {
        **{
            f"numpy {dtype}": np.dtype(dtype).type(1) for dtype in ("f2", "f4", "f8", "g", "c8", "c16", "?", "U3", "S3")
        },
        **{f"numpy {dtype}": np.dtype(dtype).type(1) for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
        "numpy big-endian": np.arange(3, dtype=">f4"),
        "numpy date": np.datetime64("2026-01-01"),
        "numpy dtype": np.dtype("f4"),
        "numpy array": np.random.default_rng(0).random((3, 4, 5)),
        "numpy array of Fortran's order": np.asfortranarray(np.ones((3, 4))),
        "numpy array of objects": np.array([{}, None], dtype=object),
        "numpy array of strings": np.array(["a", "bc"]),
        "numpy records": np.zeros(2, [("x", "f4"), ("y", "i8")]),
        "numpy masked array": np.ma.masked_array([1.0, 2.0], [True, False]),
        "numpy matrix of 100,000 losses": np.ones((100, 1000)),
        "random states": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
        "random generators": (random.Random(1), np.random.RandomState(1), np.random.default_rng(1)),
        "bit generators": (np.random.MT19937(1), np.random.Philox(1), np.random.SFC64(1)),
        "paths": [pathlib.PurePosixPath("/x"), pathlib.PureWindowsPath("x"), Path("x")],
        "dates": [datetime.datetime(2026, 1, 1), datetime.date(2026, 1, 1), datetime.timedelta(days=1)],
        "zoned date": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        "dicts": [collections.defaultdict(list, a=[1]), collections.OrderedDict(a=1), collections.Counter("aab")],
        "namespaces": [argparse.Namespace(a=1), types.SimpleNamespace(a=1), Settings(a=1), HParams(a=Settings(b=1))],
        "omegaconf": DictConfig({"a": 1}),
        "enum": Phase.TRAIN,
        "partial": functools.partial(warm_up, step=3),
        "function": warm_up,
        "class": Settings,
        "sets": [{1, 2}, frozenset("ab"), set()],
        "complex": 1 + 2j,
        "bytes": [b"", b"\x00\xff" * 100, bytearray(b"abc")],
        "long values": [10**400, "x" * 100000],
        "deque": collections.deque([1.0], maxlen=100),
        "module": torch.nn.Conv1d(2, 3, 1),
        "devices": [torch.device("cuda:0"), torch.float32, torch.Size([1, 2])],
        "tensors": [
            torch.eye(3).to_sparse(),
            torch.zeros(2, dtype=torch.complex64),
            torch.zeros(2, dtype=torch.uint16),
        ],
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", beside())
def test_foreign_values_are_ignored(tmp_path: Path, name: str, protocol: int) -> None:
    value = beside()[name]
    content = {
        "before": value,
        **LMNT,
        "params": {**LMNT["params"], "foreign": value, "nested": {"foreign": value}},
        "after": [value, {"x": value}],
    }
    assert_loads(load_checkpoint(saved(tmp_path, content, pickle_protocol=protocol)))


UNUSED = {
    "num_updates": torch.tensor(5),
    "n_averaged": torch.tensor(5, dtype=torch.int32),
    "epoch": torch.tensor(3.0),
    "flags": torch.zeros(3, dtype=torch.bool),
    "residual_layers.0.num_batches_tracked": torch.tensor(7),
    "diffusion_embedding.embedding": torch.zeros(50, 128),
    "diffusion_embedding.counter": torch.tensor(1, dtype=torch.uint8),
    "betas": torch.linspace(1e-4, 0.05, 50),
    "mel.filter_bank": torch.zeros(80, 513),
    "spectrum": torch.zeros(3, dtype=torch.complex64),
    "sparse": torch.eye(3).to_sparse(),
    "loss.layers.0.conv.weight": torch.zeros(3, 3),
    "_extra_state": {"any": {1, 2}},
    "note": "x",
}


@pytest.mark.parametrize("name", UNUSED)
def test_unused_tensors_among_the_weights(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {**LMNT, "model": {name: UNUSED[name], **tensors()}})
    assert_loads(load_checkpoint(path))
    assert load_checkpoint(path).unused == (name,)
    path = saved(
        tmp_path, {**LMNT, "model": {f"module.{key}": v for key, v in {**tensors(), name: UNUSED[name]}.items()}}
    )
    assert_loads(load_checkpoint(path))


def test_unused_tensors_in_safetensors(tmp_path: Path) -> None:
    more = {name: tensor for name, tensor in UNUSED.items() if isinstance(tensor, torch.Tensor)}
    more = {name: tensor.numpy() for name, tensor in more.items() if not tensor.is_sparse and not tensor.is_complex()}
    save_file({**NETWORK, **more}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(LMNT["params"]))
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert_loads(loaded)
    assert set(loaded.unused) == set(more)


@pytest.mark.parametrize("name", ["residual_layers.0.attention.weight", "input_projection.scale", "skip_projection.x"])
def test_unknown_weights_of_the_network_are_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {**LMNT, "model": {**tensors(), name: torch.zeros(3)}})
    assert_refused(path, f"missing: none; unexpected: '{name}'")


# Settings of any class


def settings_of(kind: str) -> Any:
    params = LMNT["params"]
    schedule = np.array(params["noise_schedule"])
    return {
        "dict": params,
        "AttrDict": Settings(params),
        "ordered": collections.OrderedDict(params),
        "defaultdict": collections.defaultdict(list, params),
        "namespace": argparse.Namespace(**params),
        "simple namespace": types.SimpleNamespace(**params),
        "attributes": HParams(**params),
        "omegaconf": DictConfig(params),
        "array": {**params, "noise_schedule": schedule},
        "array of longdouble": {**params, "noise_schedule": schedule.astype(np.longdouble)},
        "scalars": {
            key: np.float64(value) if type(value) is float else np.int64(value) if type(value) is int else value
            for key, value in params.items()
        },
        "list of scalars": {**params, "noise_schedule": list(schedule)},
        "tensor": {**params, "noise_schedule": torch.from_numpy(schedule)},
        "tuple": {**params, "noise_schedule": tuple(params["noise_schedule"])},
        "bools": {**params, "unconditional": np.bool_(False)},
    }[kind]


KINDS = ("dict", "AttrDict", "ordered", "defaultdict", "namespace", "simple namespace", "attributes", "omegaconf")
KINDS += ("array", "array of longdouble", "scalars", "list of scalars", "tensor", "tuple", "bools")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_any_class(tmp_path: Path, kind: str, protocol: int) -> None:
    content = {**LMNT, "params": settings_of(kind)}
    assert_loads(load_checkpoint(saved(tmp_path, content, pickle_protocol=protocol)))


@pytest.mark.parametrize("key", ["params", "config", "hyper_parameters", "hparams", "args"])
def test_settings_under_any_usual_key(tmp_path: Path, key: str) -> None:
    content = {"model": tensors(), key: LMNT["params"]}
    assert_loads(load_checkpoint(saved(tmp_path, content)))


def test_small_integer_types_stay_integers(tmp_path: Path) -> None:
    for number in (np.int8(2), np.uint64(2), np.int16(2), np.array(2)):
        content = {**LMNT, "params": {**LMNT["params"], "dilation_cycle_length": number}}
        assert_loads(load_checkpoint(saved(tmp_path, content)))
    content["params"]["dilation_cycle_length"] = np.float32(2)
    assert_refused(saved(tmp_path, content), "dilation_cycle")


# Nested containers, settings under other keys


def numbered(depth: int) -> dict[str, Any]:
    """Return weights inside as many dicts."""
    content: dict[str, Any] = tensors()
    for level in range(depth):
        content = {f"level{level}": content}
    return content


@pytest.mark.parametrize(
    "content",
    [
        {"model": [tensors()]},
        {"models": (tensors(), {"discriminator.weight": torch.zeros(3)})},
        {"nets": {0: tensors()}},
        {"state": {"model": {"module": {f"module.{name}": value for name, value in tensors().items()}}}},
        numbered(5),
        {"model": {name: tensor.numpy() for name, tensor in tensors().items()}},
        {"params": tensors(), "hparams": LMNT["params"]},
    ],
    ids=["list", "tuple", "number", "three dicts", "five dicts", "numpy", "weights under params"],
)
def test_weights_in_any_container(tmp_path: Path, content: dict[str, Any]) -> None:
    assert_loads(load_checkpoint(saved(tmp_path, {"params": LMNT["params"], **content})))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_numpy_are_weights(tmp_path: Path, protocol: int) -> None:
    model = {name: tensor.numpy() for name, tensor in tensors().items()}
    model["input_projection.weight"] = np.asfortranarray(model["input_projection.weight"]).astype(">f8")
    path = saved(tmp_path, {**LMNT, "model": model}, pickle_protocol=protocol)
    assert_loads(load_checkpoint(path))


def test_an_array_that_many_names_share_is_read_no_more_often_than_the_file_is_long(tmp_path: Path) -> None:
    shared = np.zeros((32, 16, 3), np.float32)
    model = {name: shared if "dilated_conv.weight" in name else np.zeros(1) for name in tensors()}
    shapes = {name: tensor.shape for name, tensor in tensors().items() if "dilated_conv.weight" in name}
    assert set(shapes.values()) == {shared.shape}
    archive = read_pytorch(saved(tmp_path, {"model": model}))
    with pytest.raises(CheckpointError, match="expected at most the file's"):
        for _ in range(100):
            archive.tensors[next(iter(shapes))].read()


@pytest.mark.parametrize("key", ["opt", "hps", "h", "settings", "model_config", "train_args", "hyper_params"])
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"model": p, "data": {"seed": 1}}, collections.UserDict])
def test_settings_under_any_key(tmp_path: Path, key: str, wrap: Callable[[Any], Any]) -> None:
    assert_loads(load_checkpoint(saved(tmp_path, {"model": tensors(), key: wrap(dict(LMNT["params"]))})))


def test_settings_in_a_section_of_the_usual_key(tmp_path: Path) -> None:
    content = {"model": tensors(), "config": {"seed": 1, "network": {"diffwave": LMNT["params"]}, "n_mels": 20}}
    assert_loads(load_checkpoint(saved(tmp_path, content)))


def test_a_class_method_as_constructor_is_inert(tmp_path: Path) -> None:
    zone = zoneinfo.ZoneInfo("UTC")
    for protocol in PROTOCOLS:
        assert_loads(load_checkpoint(saved(tmp_path, {**LMNT, "zone": [zone, {"of": zone}]}, pickle_protocol=protocol)))
