"""Names of tensors: layouts and their inverses, wrappers and prefixes, several networks in one file."""

from __future__ import annotations

import itertools

import pytest

from engine.checkpoint.layouts import LAYOUTS, LMNT, PHILSYN, SPEECHBRAIN, find_networks, is_average, renamed
from engine.checkpoint.load import expected_shapes
from engine.config import Config
from tests.support.layouts import content_of, layout_config
from tests.support.networks import random_network

SMALL = Config(residual_channels=16, residual_layers=2, dilation_cycle=1, n_mels=4, upsample_strides=(4, 6))
NAMES = list(expected_shapes(SMALL))
OF_LAYOUT = {LMNT: "lmnt", SPEECHBRAIN: "speechbrain", PHILSYN: "philsyn"}


def names_of(layout: str) -> list[str]:
    """Return the names that the implementation's own code writes, from tests.support.layouts."""
    config = layout_config(layout)
    _, content, _ = content_of(layout, config, random_network(config, 1))
    return list(next((content[key] for key in ("model", "model_state_dict") if key in content), content))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_name_of_a_layout_is_one_of_its_parameters(layout) -> None:
    for name in names_of(OF_LAYOUT[layout]):
        assert layout.parameter.fullmatch(name), name
        assert layout.original(layout.rename(name)) == name
    assert layout.rename("residual_layers.3.more.weight") == "residual_layers.3.more.weight"


def test_labels_are_parameters_of_the_engines_own_layout() -> None:
    for name in ("label_embedding.weight", "residual_layers.11.label_projection.bias"):
        assert LMNT.parameter.fullmatch(name) and LMNT.rename(name) == name


PREFIXES = ("", "model.", "net.", "a.b.c.", "generator.vocoder.", "model.module.", "_orig_mod.", "module._orig_mod.")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_and_wrappers_are_removed(layout, prefix: str) -> None:
    names = names_of(OF_LAYOUT[layout])
    (network,) = find_networks([prefix + name for name in names])
    assert network.layout is layout and network.parameters == len(names) and not network.averaged
    assert network.names == {prefix + name: name for name in names}


@pytest.mark.parametrize(
    "wrappers",
    [
        *itertools.permutations(("module.", "_orig_mod.", "model."), 3),
        ("_orig_mod.", "_orig_mod."),
        ("module.", "module.", "module."),
        ("_forward_module.", "model.", "_fsdp_wrapped_module."),
    ],
    ids="".join,
)
def test_wrappers_of_any_order_and_depth(wrappers: tuple[str, ...]) -> None:
    prefix = "".join(wrappers)
    (network,) = find_networks([prefix + name for name in NAMES])
    assert list(network.names.values()) == NAMES
    inside = [name.replace("residual_layers.1.", "residual_layers.1._checkpoint_wrapped_module.") for name in NAMES]
    (network,) = find_networks(inside)
    assert list(network.names.values()) == NAMES


def test_most_complete_network_and_layout_come_first() -> None:
    foreign = ["encoder.output_projection.weight", "encoder.output_projection.bias", "step", "decoder.x.weight"]
    (network,) = find_networks([*foreign, *(f"vocoder.{name}" for name in NAMES)])
    assert network.prefix == "vocoder." and list(network.names.values()) == NAMES
    (network,) = find_networks(names_of("speechbrain")[:-4])
    assert network.layout is SPEECHBRAIN
    assert find_networks(foreign[2:]) == [] and find_networks([]) == []


def test_foreign_names_without_a_prefix_belong_to_the_network_without_one() -> None:
    (network,) = find_networks([*NAMES, "step", "x" * 5000])
    assert list(network.names.values()) == [*NAMES, "step", "x" * 5000]


@pytest.mark.parametrize("prefix", ["ema.", "ema_model.", "model_ema.", "ema_model.module.", "swa_model.", "shadow."])
def test_averages_are_networks_of_their_own(prefix: str) -> None:
    raw, average = find_networks([*(f"model.{name}" for name in NAMES), *(prefix + name for name in NAMES), "step"])
    assert (raw.prefix, raw.averaged, average.averaged) == ("model.", False, True)
    numbers = {name: number for number, name in enumerate(NAMES)}
    assert renamed({prefix + name: number for name, number in numbers.items()}, average) == numbers
    raw, average = find_networks([*NAMES, *(prefix + name for name in NAMES)])
    assert (raw.prefix, raw.averaged, average.averaged) == ("", False, True)
    assert list(raw.names.values()) == NAMES == list(average.names.values())


def test_averages_without_dots() -> None:
    """LitEma registers buffers under the names of the parameters without their dots."""
    flat = [f"model_ema.{name.replace('.', '')}" for name in NAMES]
    raw, average = find_networks([*(f"model.{name}" for name in NAMES), "model_ema.decay", *flat])
    assert not raw.averaged and average.averaged and average.names == dict(zip(flat, NAMES, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ema", True),
        ("state_dict_ema", True),
        ("ema_0.999", True),
        ("swa_state_dict", True),
        ("averaged_model", True),
        ("modelEMA", True),
        ("model", False),
        ("remainder", False),
        ("schema", False),
        ("emanuel", False),
        ("swan", False),
    ],
)
def test_words_for_an_average(name: str, expected: bool) -> None:
    assert is_average(name) is expected


def test_wrappers_stay_where_names_would_collide() -> None:
    bare, wrapped = find_networks([*NAMES, *(f"module.{name}" for name in NAMES)])
    assert {bare.prefix, wrapped.prefix} == {"", "module."}
