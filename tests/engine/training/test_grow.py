"""Training in a wider network starts from the function of the narrow one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint
from engine.config import Config
from engine.errors import CheckpointError
from engine.training.data import read_corpus
from engine.training.fit import STATE, Options, fit
from engine.training.grow import grow_weights
from engine.training.network import DiffWave
from engine.training.processes import Processes
from engine.training.state import read_state
from engine.training.trainer import Trainer, _initialize_from
from tests.engine.training.networks import random_diffwave
from tests.engine.training.recordings import digits_recipe, write_digits
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES, relative_error


def weights(network: DiffWave) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("channels", [48, 64, 128])
@pytest.mark.parametrize(("config", "classes"), [(SMALL, 0), (SMALL_UNCONDITIONAL, 3)], ids=["mel", "label"])
def test_a_wider_network_starts_with_the_function_of_the_narrow_one(
    config: Config, classes: int, channels: int
) -> None:
    narrow = random_diffwave(config, classes)
    wide = random_diffwave(replace(config, residual_channels=channels), classes, seed=4)
    x, t = torch.randn(2, 512), torch.tensor([3.0, 40.0], dtype=torch.float64)
    mel, label = (None, torch.tensor([0, 3])) if classes else (torch.rand(2, 80, 2), None)
    expected, random_eps = (network(x, t, mel, label).detach() for network in (narrow, wide))
    grown = grow_weights(weights(narrow), weights(wide))
    assert grown is not None
    assert relative_error(random_eps, expected) > 0.01  # otherwise the comparison below proves nothing
    wide.load_state_dict(grown)
    eps = wide(x, t, mel, label)
    assert relative_error(eps.detach(), expected) < TOLERANCES["network_eps_fp32"]
    # The weights that read the new channels are zero and have a gradient, because the new channels carry values.
    (eps**2).sum().backward()
    C = config.residual_channels
    layer = wide.residual_layers[2]
    for reader in (wide.output_projection.weight, layer.dilated_conv.weight, layer.output_projection.weight):
        assert not reader.detach()[:C, C:].any() and reader.grad is not None
        assert (reader.grad[:C, C:].flatten(2).abs().amax(dim=(0, 2)) > 0).float().mean() > 0.3  # relu zeroes the rest
    # Every output of a new channel keeps its random weights.
    assert torch.equal(grown["input_projection.weight"][C:], weights(wide)["input_projection.weight"][C:])
    assert grown["residual_layers.0.dilated_conv.weight"][channels + C :].abs().min() > 0


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
def test_networks_that_differ_in_more_than_channels_do_not_grow(other: Config) -> None:
    assert grow_weights(weights(random_diffwave(SMALL)), weights(random_diffwave(other))) is None


def test_bands_do_not_grow_with_the_channels() -> None:
    wide = replace(SMALL, residual_channels=64)
    for narrow_bands, wide_bands in ((32, 64), (64, 128), (80, 160)):
        narrow_weights = weights(random_diffwave(replace(SMALL, n_mels=narrow_bands)))
        assert grow_weights(narrow_weights, weights(random_diffwave(replace(wide, n_mels=wide_bands)))) is None


@pytest.mark.parametrize("counts", [(3, 4), (31, 63)])  # 31 classes and "no label" are as many as the channels
def test_classes_do_not_grow(counts: tuple[int, int]) -> None:
    wide = replace(SMALL_UNCONDITIONAL, residual_channels=64)
    narrow_weights = weights(random_diffwave(SMALL_UNCONDITIONAL, counts[0]))
    assert grow_weights(narrow_weights, weights(random_diffwave(wide, counts[1]))) is None


def test_initial_weights_by_name_and_by_folder(tmp_path: Path) -> None:
    """`--init` takes what `engine.load` takes."""
    checkpoint = load_checkpoint(path_of("voice"))
    (tmp_path / "weights.safetensors").symlink_to(path_of("voice"))
    for model in ("voice", str(tmp_path)):
        network = DiffWave(checkpoint.config)
        with torch.no_grad():
            assert _initialize_from(network, model, ()) == 0
        for name, parameter in weights(network).items():
            np.testing.assert_array_equal(parameter, checkpoint.tensors[name])
    with pytest.raises(CheckpointError, match=r"^init: expected a file or one of 'voice'"):
        _initialize_from(DiffWave(checkpoint.config), "absent", ())


def test_a_training_starts_from_a_narrower_one_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_digits(tmp_path / "data")
    fit(digits_recipe(), data, Options(tmp_path / "narrow"))
    assert "grown" not in capfd.readouterr().err
    init = {"init": str(tmp_path / "narrow" / STATE)}
    recipe = digits_recipe(network={"residual_channels": 32}, training=init)
    trainer = Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, torch.device("cpu")))
    key = "residual_layers.1.dilated_conv.weight"
    narrow_weight = read_state(tmp_path / "narrow" / STATE).tensors["weights"][key]
    assert torch.equal(trainer.parameters[key][:16, :16], narrow_weight[:16])
    assert not fit(recipe, data, Options(tmp_path / "wide", stop_after=3))
    assert "init: a network of 16 channels, grown to 32" in capfd.readouterr().err
    assert fit(recipe, data, Options(tmp_path / "wide"))  # resumes, and does not start again
    assert "grown" not in capfd.readouterr().err
    wide_weights = read_state(tmp_path / "wide" / STATE).tensors["weights"]
    assert wide_weights["input_projection.weight"].shape == (32, 1, 1)
    assert wide_weights[key][:16, 16:].any()  # training made the old channels read the new ones
