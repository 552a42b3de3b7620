"""Hyper-parameters: presets, limits of every field, JSON, derived values."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.load import expected_shapes
from engine.config import (
    BASE,
    LARGE,
    SC09,
    SC09_THIN,
    Config,
    as_tuples,
    linear_schedule,
    parse_object,
    plain_values,
    upsample_padding,
)
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError

UNCONDITIONAL = replace(BASE, n_mels=0, upsample_strides=(), mel_kind=None, fast_schedule=None)
LABELLED = replace(SC09, classes=("3 ann", "3", "vier µ"), clip_samples=0)


def test_presets_agree_with_the_paper() -> None:
    assert (BASE.residual_channels, BASE.residual_layers, BASE.dilation_cycle) == (64, 30, 10)
    assert (LARGE.residual_channels, len(LARGE.train_schedule)) == (128, 200)
    assert (BASE.train_schedule[0], BASE.train_schedule[-1], len(BASE.train_schedule)) == (1e-4, 0.05, 50)
    assert LARGE.train_schedule[-1] == 0.02
    assert (BASE.hop, BASE.reach, UNCONDITIONAL.hop) == (256, 3069, 1)
    assert BASE.dilations[:11] == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1)


def test_ends_of_a_linear_schedule() -> None:
    assert linear_schedule(0.1, 0.3, 3) == (0.1, 0.2, 0.3)
    assert linear_schedule(0.1, 0.3, 1) == (0.1,)


def test_sc09_presets_agree_with_the_paper() -> None:
    assert (SC09.residual_channels, SC09.residual_layers, SC09.dilation_cycle) == (256, 36, 12)
    assert (SC09_THIN.residual_channels, SC09_THIN.residual_layers, SC09_THIN.dilation_cycle) == (128, 48, 12)
    for config in (SC09, SC09_THIN):
        assert (config.n_mels, config.hop, config.sample_rate, config.clip_samples) == (0, 1, 16000, 16000)
        assert (config.train_schedule[0], config.train_schedule[-1], len(config.train_schedule)) == (1e-4, 0.02, 200)
        assert config.classes == () and config.fast_schedule is None
    assert 2 * SC09.reach + 1 == 24571  # the receptive field
    shapes = expected_shapes(SC09)
    # The paper counts the lengths of weight norm as parameters.
    lengths = sum(shape[0] for shape in shapes.values() if len(shape) == 3)
    assert round((sum(map(math.prod, shapes.values())) + lengths) / 1e6, 1) == 24.1


@pytest.mark.parametrize("config", [BASE, LARGE, SC09, UNCONDITIONAL, LABELLED])
def test_json_roundtrip(config: Config) -> None:
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("channels", [1, 8, 20, 72, 1024])
def test_any_number_of_channels(channels: int) -> None:
    assert replace(BASE, residual_channels=channels).residual_channels == channels


@pytest.mark.parametrize("strides", [(15, 20), (10, 30), (11, 25), (21, 21), (3, 5, 7), (2,), (3,), (63,)])
def test_strides_may_be_odd(strides: tuple[int, ...]) -> None:
    """A sample at t needs the frames up to (t + reach) / hop; the last stage alone reaches its padding."""
    config = replace(BASE, upsample_strides=strides)
    reach = 0
    for stride in strides:
        padding, output_padding = upsample_padding(stride)
        assert (7 - 1) * stride - 2 * padding + 2 * stride + output_padding == 7 * stride
        reach = reach * stride + padding
    assert config.mel_reach == reach and config.hop == int(np.prod(strides))


def test_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        BASE.n_mels = 81  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("residual_channels", 0),
        ("residual_channels", -16),
        ("residual_channels", 1025),
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
        ("upsample_strides", (1, 16)),
        ("upsample_strides", (65, 2)),
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
        ("clip_samples", -1),
        ("clip_samples", 2**31),
        ("clip_samples", 16000.0),
        ("clip_samples", None),
        ("classes", ("3",)),  # a network with a mel
        ("classes", ["3"]),
        ("classes", "3"),
        ("classes", None),
        ("family", "wavegrad"),
        ("family", None),
        ("shared_upsampler", 1),
        ("step_embedding", "learned"),
        ("padding", 0),
        ("step_bias_in_residual", None),
        ("clamp", "no"),
        ("objective", None),
        ("objective", 3),
        ("objective", "two\nlines"),
        ("objective", "x" * 201),
        ("schedules", None),
        ("schedules", 3),
        ("schedules", [(0.1,)]),
        ("schedules", ([0.1],)),
        ("schedules", (0.1, 0.2)),
        ("schedules", ((),)),
        ("schedules", ((0.1, 1.0),)),
        ("schedules", ((0.0,),)),
        ("schedules", ((1,),)),
        ("schedules", ((float("nan"), 0.1),)),
        ("schedules", (("0.1",),)),
        ("schedules", ("0.1",)),
        ("schedules", (None,)),
        ("schedules", ((0.2, 0.1),)),  # descend
        ("schedules", ((0.1,), (0.2,))),  # of the same length
        ("schedules", ((5e-5, 0.2),)),  # above the training's noise levels
        ("schedules", ((0.1,), (0.1, 0.9))),  # below them
        ("schedules", ((0.0001,) * 10001,)),
        ("schedules", tuple((0.001,) * n for n in range(1, 66))),
        ("prior", 1.0),
    ],
)
def test_impossible_values_are_named(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"config {name if name != 'n_mels' else ''}") as refusal:
        replace(BASE, **{name: value})
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "classes",
    [
        (3,),
        ("",),
        (" ",),
        ("3", "3"),
        ("3 ",),
        ("3  ann",),
        ("3 ann marie",),
        ("3\n",),
        ("3\tann",),
        ("3\x1b[2J",),
        ("x" * 65,),
        tuple(str(n) for n in range(1025)),
    ],
)
def test_impossible_classes_are_named(classes: tuple[object, ...]) -> None:
    with pytest.raises(
        CheckpointError, match="config classes: expected a tuple of up to 1024 different names"
    ) as refusal:
        replace(UNCONDITIONAL, classes=classes)
    assert len(str(refusal.value)) < 300 and "\x1b" not in str(refusal.value)


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        (((0.1, 0.9),), "schedules: beta[1] = 0.9 gives alpha_bar 0.09, which is below the training schedule's 0.2796"),
        (((0.1,), (5e-5, 0.1)), "schedules: beta[0] = 5e-05 gives alpha_bar 0.99995, which is above"),
        (((0.3, 0.2),), "schedules: expected betas that ascend, in the order of the diffusion, got (0.3, 0.2)"),
        (((0.1,), (0.1, 0.2), (0.2,)), "schedules: expected schedules of different lengths, got [1, 2, 1]"),
        ((0.1,), "schedules: expected a tuple of up to 64 tuples of 1 to 10000 floats between 0 and 1, got (0.1,)"),
    ],
)
def test_messages_about_schedules(schedules: Any, expected: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        replace(BASE, schedules=schedules)
    assert str(refusal.value).startswith(f"config {expected}")


def test_schedules_are_recorded() -> None:
    schedules = ((1e-4, 0.0604405, 0.6), (0.6,), (0.1, 0.1), (1e-4 / 3,) * 2 + (0.01,) * 9)
    config = replace(BASE, train_schedule=linear_schedule(1e-5, 0.05, 60), schedules=schedules)
    assert Config.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["schedules"] == [list(betas) for betas in schedules]
    assert Config.from_dict(asdict(config)) == Config.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    "value",
    [{}, {"3": [0.1]}, [[[0.1]]], [[0.1], {}], 3, "0.1", [0.1], [[0.1], 3], None, [[None]], [["0.1"]], [[10**30]]],
)
def test_other_values_in_place_of_schedules_are_refused(value: Any) -> None:
    text = json.dumps({**json.loads(BASE.to_json()), "schedules": value})
    with pytest.raises(CheckpointError, match="config schedules: expected"):
        Config.from_json(text)


@pytest.mark.parametrize("name", ["classes", "int8_ranges", "guidance"])
def test_a_value_that_is_not_plain_does_not_pass_for_a_missing_one(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"config {name}: expected plain values, got a dict"):
        Config.from_json(json.dumps({**json.loads(BASE.to_json()), name: {"a": 1}}))


def test_many_classes_are_possible() -> None:
    names = tuple(f"{'x' * 50} {n}" for n in range(1024))
    assert replace(UNCONDITIONAL, classes=names).classes == names


def test_classes_together_with_a_mel_are_refused() -> None:
    with pytest.raises(
        CheckpointError, match=r"classes: expected none in a network with a mel \(both together are not"
    ):
        replace(BASE, classes=("3",))


INT8 = ("int8_ranges", "int8_mel_range", "int8_conditioner_ranges")
LATER = (
    *("classes", "clip_samples", "signal_std", "guidance", "temperature", "energy_min", "schedules", "objective"),
    *INT8,
)


@pytest.mark.parametrize("config", [BASE, LARGE, UNCONDITIONAL])
def test_json_omits_implied_values(config: Config) -> None:
    """A file without the later fields is read, and written with the same bytes."""
    values = asdict(config)
    for name in LATER:
        del values[name]
    assert config.to_json() == json.dumps(values)
    assert Config.from_json(json.dumps(values)) == config
    assert Config.from_json(json.dumps({**values, "classes": [], "clip_samples": 0})) == config
    with pytest.raises(CheckpointError, match=r"unknown keys \['class'\]"):
        Config.from_json(json.dumps({**values, "class": []}))


def test_message_names_unknown_and_missing_keys() -> None:
    values = asdict(BASE)
    del values["sample_rate"]
    values["sample_rte"] = 22050
    with pytest.raises(CheckpointError, match=r"unknown keys \['sample_rte'\], missing keys \['sample_rate'\]"):
        Config.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "[" * 100000, '{"n_mels": ' + "9" * 5000 + "}", b"\xff\xfe{", "{}"]
)
def test_json_without_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        Config.from_json(text)
    assert len(str(refusal.value)) < 300


def test_preconditioned_output_is_normalized_and_uncorrelated_with_x() -> None:
    """For x = sqrt(alpha_bar) s + sqrt(1 - alpha_bar) eps, F has variance 1 and no correlation with x."""
    random = np.random.default_rng(0)
    signal, eps = 0.14 * random.standard_normal(200_000), random.standard_normal(200_000)
    config = replace(BASE, signal_std=0.14)
    for alpha_bar in (0.9999, 0.99, 0.5, 0.05):
        p, q = config.preconditioning(alpha_bar)
        x = np.sqrt(alpha_bar) * signal + np.sqrt(1 - alpha_bar) * eps
        output = (eps - p * x) / q
        assert output.std() == pytest.approx(1, abs=0.01) and abs(np.corrcoef(output, x)[0, 1]) < 0.01
    assert BASE.preconditioning(0.5) == (0.0, 1.0)


def test_alpha_bar_is_interpolated_between_steps() -> None:
    bars = np.cumprod(1 - np.array(BASE.train_schedule))
    assert [BASE.alpha_bar(t) for t in (0, 7, 49)] == pytest.approx([bars[0], bars[7], bars[49]])
    assert np.sqrt(BASE.alpha_bar(7.25)) == pytest.approx(0.75 * np.sqrt(bars[7]) + 0.25 * np.sqrt(bars[8]))
    schedule = build_schedule(BASE, 6)
    assert [BASE.alpha_bar(t) for t in schedule.t] == pytest.approx(schedule.alpha_bar)
    for t in (-0.1, 49.1, float("nan")):
        with pytest.raises(InputError, match="t: expected a step from 0 to 49"):
            BASE.alpha_bar(t)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), 1, "0.1"])
def test_impossible_signal_std_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="signal_std: expected a float from 0 to 1"):
        replace(BASE, signal_std=value)


@pytest.mark.parametrize("value", [-0.1, 4.0, float("nan"), 1, "0.1"])
def test_impossible_energy_min_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="energy_min: expected a float from 0 to below 4"):
        replace(BASE, prior=True, energy_min=value)
    with pytest.raises(CheckpointError, match="and 0 without prior"):
        replace(BASE, energy_min=0.1)


@pytest.mark.parametrize("value", [-0.1, 100.5, float("nan"), 2, "2"])
def test_impossible_guidance_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="guidance: expected a float from 0 to 100"):
        replace(UNCONDITIONAL, guidance=value)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), 1, "1", None])
def test_impossible_temperature_is_refused(value: object) -> None:
    with pytest.raises(CheckpointError, match="temperature: expected a float from 0 to 1"):
        replace(UNCONDITIONAL, temperature=value)
    with pytest.raises(CheckpointError, match="temperature: expected a float from 0 to 1, and 1 with a mel, got 0"):
        replace(BASE, temperature=0.5)
    assert Config.from_json(replace(UNCONDITIONAL, temperature=0.25).to_json()).temperature == 0.25


def test_guidance_adds_a_row_for_no_label() -> None:
    labelled = replace(UNCONDITIONAL, classes=("3", "4"))
    assert [replace(labelled, guidance=value).labels for value in (0.0, 1.0, 2.0)] == [2, 3, 3]
    assert replace(UNCONDITIONAL, guidance=2.0).labels == 0
    assert Config.from_json(replace(labelled, guidance=2.0).to_json()).guidance == 2.0


def test_only_plain_values_are_kept() -> None:
    recursive: list[object] = []
    recursive.append(recursive)
    keep = {"a": 1, "b": [0.1, 2], "c": "x", "d": None, "e": True, "f": (1.0,), "g": ["x", "y z"]}
    drop = {"o": {"x": 1}, "h": [[1]], "i": recursive, "j": object(), "k": 10**5000, 3: 3, "l": [["x"]], "m": [b"x"]}
    assert plain_values({**keep, **drop}) == keep
    schedules = {"schedules": [[0.1], (0.1, 0.2)]}
    assert plain_values(schedules) == schedules and as_tuples(schedules["schedules"]) == ((0.1,), (0.1, 0.2))
    for nested in ([[[0.1]]], recursive, [recursive], [0.1, [0.2]], [[10**5000]], {}):
        assert plain_values({"schedules": nested}) == {}
    assert parse_object('{"a": 1, "b": {"c": 2}}') == {"a": 1, "b": {"c": 2}}


LAYERS = BASE.residual_layers


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"int8_ranges": (0.0,) * LAYERS}, "int8_conditioner_ranges: expected a float per layer and channel, N x 2C"),
        (
            {"int8_ranges": (0.0,) * LAYERS, "int8_conditioner_ranges": (1.0,) * LAYERS},
            "int8_conditioner_ranges: expected a float per layer and channel",
        ),
        ({"int8_conditioner_ranges": (1.0,) * LAYERS * 128}, "int8_conditioner_ranges: expected .*, or none"),
        ({"int8_ranges": (1.0,) * LAYERS}, "int8_ranges: expected one float per residual layer, 0 for the first"),
        ({"int8_ranges": (0.0, -1.0)}, "int8_ranges: expected a tuple of floats from 0 to 1e6"),
        ({"int8_mel_range": -1.0}, "int8_mel_range: expected a float from 0 to 1e6"),
        ({"int8_mel_range": float("nan")}, "int8_mel_range: expected a float from 0 to 1e6"),
    ],
)
def test_impossible_int8_ranges_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        replace(BASE, **values)
