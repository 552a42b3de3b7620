from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from engine.config import BASE, LARGE, Config, linear_schedule, parse_object, plain_values
from engine.errors import CheckpointError

UNCONDITIONAL = replace(BASE, n_mels=0, upsample_strides=(), mel_kind=None, fast_schedule=None)


def test_presets_are_the_papers() -> None:
    assert (BASE.residual_channels, BASE.residual_layers, BASE.dilation_cycle) == (64, 30, 10)
    assert (LARGE.residual_channels, len(LARGE.train_schedule)) == (128, 200)
    assert (BASE.train_schedule[0], BASE.train_schedule[-1], len(BASE.train_schedule)) == (1e-4, 0.05, 50)
    assert LARGE.train_schedule[-1] == 0.02
    assert (BASE.hop, BASE.reach, UNCONDITIONAL.hop) == (256, 3069, 1)
    assert BASE.dilations[:11] == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1)


def test_linear_schedules_end_where_they_should() -> None:
    assert linear_schedule(0.1, 0.3, 3) == (0.1, 0.2, 0.3)
    assert linear_schedule(0.1, 0.3, 1) == (0.1,)


@pytest.mark.parametrize("config", [BASE, LARGE, UNCONDITIONAL])
def test_json_roundtrip(config: Config) -> None:
    assert Config.from_json(config.to_json()) == config


def test_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        BASE.n_mels = 81  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("residual_channels", 8),
        ("residual_channels", 72),
        ("residual_channels", 64.0),
        ("residual_channels", True),
        ("residual_channels", "64"),
        ("residual_channels", 10**4000),
        ("residual_layers", 0),
        ("residual_layers", 257),
        ("dilation_cycle", 0),
        ("dilation_cycle", 17),
        ("n_mels", -1),
        ("n_mels", 0),
        ("sample_rate", 0),
        ("sample_rate", None),
        ("upsample_strides", ()),
        ("upsample_strides", [16, 16]),
        ("upsample_strides", (15, 16)),
        ("upsample_strides", (16, 16.0)),
        ("upsample_strides", (0, 16)),
        ("upsample_strides", (64, 64, 64)),
        ("upsample_strides", None),
        ("upsample_strides", (3,) * 100000),
        ("mel_kind", "griffin"),
        ("mel_kind", ["lmnt"]),
        ("train_schedule", None),
        ("train_schedule", ()),
        ("train_schedule", [0.1]),
        ("train_schedule", (0.1, 1)),
        ("train_schedule", (0.1, 1.0)),
        ("train_schedule", (0.0,)),
        ("train_schedule", (float("nan"),)),
        ("train_schedule", ("0.1",)),
        ("train_schedule", (0.1,) * 10001),
        ("fast_schedule", ()),
        ("fast_schedule", 0.1),
        ("family", "wavegrad"),
        ("family", None),
        ("shared_upsampler", 1),
        ("step_embedding", "learned"),
        ("padding", 0),
        ("step_bias_in_residual", None),
        ("clamp", "no"),
        ("prior", 1.0),
    ],
)
def test_impossible_values_are_named(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"config {name if name != 'n_mels' else ''}") as caught:
        replace(BASE, **{name: value})
    assert len(str(caught.value)) < 300


def test_json_with_unknown_and_missing_keys_names_both() -> None:
    values = asdict(BASE)
    del values["sample_rate"]
    values["sample_rte"] = 22050
    with pytest.raises(CheckpointError, match=r"unknown keys \['sample_rte'\], missing keys \['sample_rate'\]"):
        Config.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "[" * 100000, '{"n_mels": ' + "9" * 5000 + "}", b"\xff\xfe{", "{}"]
)
def test_json_that_is_no_config(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Config.from_json(text)
    assert len(str(caught.value)) < 300


def test_only_plain_values_are_kept() -> None:
    loop: list[object] = []
    loop.append(loop)
    keep = {"a": 1, "b": [0.1, 2], "c": "x", "d": None, "e": True, "f": (1.0,)}
    drop = {"g": {"x": 1}, "h": [[1]], "i": loop, "j": object(), "k": 10**5000, 3: 3, "l": ["x"]}
    assert plain_values({**keep, **drop}) == keep
    assert parse_object('{"a": 1, "b": {"c": 2}}') == {"a": 1, "b": {"c": 2}}
