"""A training goes on in a wider network, which begins as what the narrow one had learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.config import Config
from engine.training.data import read_corpus
from engine.training.fit import STATE, Options, fit
from engine.training.grow import grown
from engine.training.network import DiffWave
from engine.training.processes import Processes
from engine.training.state import read_state
from engine.training.trainer import Trainer
from tests.engine.training.filled import filled
from tests.engine.training.recordings import digits_recipe, spoken
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES, relative_error


def weights(network: DiffWave) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("channels", [48, 64, 128])
@pytest.mark.parametrize(("config", "classes"), [(SMALL, 0), (SMALL_UNCONDITIONAL, 3)], ids=["mel", "label"])
def test_a_wider_network_begins_as_the_narrow_one(config: Config, classes: int, channels: int) -> None:
    narrow, wide = filled(config, classes), filled(replace(config, residual_channels=channels), classes, seed=4)
    x, t = torch.randn(2, 512), torch.tensor([3.0, 40.0], dtype=torch.float64)
    mel, label = (None, torch.tensor([0, 3])) if classes else (torch.rand(2, 80, 2), None)
    expected, other = (network(x, t, mel, label).detach() for network in (narrow, wide))
    made = grown(weights(narrow), weights(wide))
    assert made is not None
    assert relative_error(other, expected) > 0.01  # else this shows nothing
    wide.load_state_dict(made)
    found = wide(x, t, mel, label)
    assert relative_error(found.detach(), expected) < TOLERANCES["network_eps_fp32"]
    # What reads the new channels is zero, but will not stay so: they carry something.
    (found**2).sum().backward()
    C = config.residual_channels
    layer = wide.residual_layers[2]
    for read in (wide.output_projection.weight, layer.dilated_conv.weight, layer.output_projection.weight):
        assert not read.detach()[:C, C:].any() and read.grad is not None
        assert (read.grad[:C, C:].flatten(2).abs().amax(dim=(0, 2)) > 0).float().mean() > 0.3  # the rest is relu's
    # The random weights are where nothing was: every output of a new channel has them.
    assert torch.equal(made["input_projection.weight"][C:], weights(wide)["input_projection.weight"][C:])
    assert made["residual_layers.0.dilated_conv.weight"][channels + C :].abs().min() > 0


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALL, residual_channels=16),
        replace(SMALL, residual_channels=64, residual_layers=10),
        replace(SMALL, residual_channels=64, n_mels=40),
        replace(SMALL_UNCONDITIONAL, residual_channels=64),
        SMALL,
    ],
    ids=["narrower", "deeper", "another mel", "no mel", "the same"],
)
def test_what_differs_by_more_than_channels_is_not_grown(other: Config) -> None:
    assert grown(weights(filled(SMALL, 0)), weights(filled(other, 0))) is None


def test_what_grows_as_channels_do_is_not_one() -> None:
    wide = replace(SMALL, residual_channels=64)
    for narrow_bands, bands in ((32, 64), (64, 128), (80, 160)):
        one, other = (replace(config, n_mels=n) for config, n in ((SMALL, narrow_bands), (wide, bands)))
        assert grown(weights(filled(one)), weights(filled(other))) is None


@pytest.mark.parametrize("counts", [(3, 4), (31, 63)])  # with "no label" 31 are as many as the channels
def test_other_classes_are_not_grown(counts: tuple[int, int]) -> None:
    wide = replace(SMALL_UNCONDITIONAL, residual_channels=64)
    assert grown(weights(filled(SMALL_UNCONDITIONAL, counts[0])), weights(filled(wide, counts[1]))) is None


def test_a_training_begins_from_a_narrower_one_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = spoken(tmp_path / "data")
    fit(digits_recipe(), data, Options(tmp_path / "narrow"))
    assert "grown" not in capfd.readouterr().err
    init = {"init": str(tmp_path / "narrow" / STATE)}
    recipe = digits_recipe(network={"residual_channels": 32}, training=init)
    trainer = Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, torch.device("cpu")))
    learnt = read_state(tmp_path / "narrow" / STATE).tensors["weights"]["residual_layers.1.dilated_conv.weight"]
    assert torch.equal(trainer.parameters["residual_layers.1.dilated_conv.weight"][:16, :16], learnt[:16])
    assert not fit(recipe, data, Options(tmp_path / "wide", stop_after=3))
    assert "init: a network of 16 channels, grown to 32" in capfd.readouterr().err
    assert fit(recipe, data, Options(tmp_path / "wide"))  # goes on, and does not begin again
    assert "grown" not in capfd.readouterr().err
    made = read_state(tmp_path / "wide" / STATE).tensors["weights"]
    assert made["input_projection.weight"].shape == (32, 1, 1)
    assert made["residual_layers.1.dilated_conv.weight"][:16, 16:].any()  # now they are read
