"""The bundled voice, and the one that it was made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.calibration import KEPT
from engine.checkpoint.load import load_checkpoint
from engine.config import BASE
from tests.support.networks import SHARED
from tests.support.paths import ROOT

LAYER = "residual_layers.1.dilated_conv.weight"
ASSETS = ROOT / "engine" / "assets"


def test_the_bundled_voice_is_base_and_the_demo_mel_suits_it() -> None:
    config = load_checkpoint(ASSETS / "voice.safetensors").config
    np.testing.assert_allclose(config.train_schedule, BASE.train_schedule, rtol=1e-12)
    without = {"int8_ranges": (), "int8_mel_range": 0.0, "int8_conditioner_ranges": ()}
    assert replace(config, train_schedule=BASE.train_schedule, **without) == BASE
    kept = sum(value == 0.0 for value in config.int8_ranges)
    assert kept in KEPT[:4] and not any(config.int8_ranges[:kept]) and min(config.int8_ranges[kept:]) > 1.0
    assert min(config.int8_mel_range, *config.int8_conditioner_ranges) > 0.1
    mel = np.load(ASSETS / "demo_mel.npy")
    assert mel.dtype == np.float32 and mel.shape == (80, 324)
    assert mel.min() >= 0.0 and 0.5 < mel.max() <= 1.0


@pytest.mark.parametrize("name", ["voice", "digits"])
def test_the_weights_to_go_on_from_are_those_that_are_bundled(name: str) -> None:
    """Raw weights and their average have met by the end of a training."""
    pytest.importorskip("torch")
    from engine.training.state import read_state

    bundled = load_checkpoint(ASSETS / f"{name}.safetensors").tensors
    raw = read_state(ROOT / "benchmarks" / "training" / f"{name}.safetensors")
    for key, tensor in raw.tensors["weights"].items():
        if key in bundled and bundled[key].shape == tuple(tensor.shape):
            away = np.linalg.norm(bundled[key] - tensor.numpy()) / np.linalg.norm(tensor.numpy())
            assert away < 0.02, key


@pytest.mark.parametrize("name", ["voice", "digits"])
def test_the_weights_to_go_on_from_are_those_of_the_recipe(name: str) -> None:
    pytest.importorskip("torch")
    from engine.training.network import DiffWave
    from engine.training.settings import read_recipe
    from engine.training.state import read_state

    raw = read_state(ROOT / "benchmarks" / "training" / f"{name}.safetensors")
    assert raw.classes == load_checkpoint(ASSETS / f"{name}.safetensors").config.classes
    network = DiffWave(read_recipe(name).network, len(raw.classes))
    network.load_state_dict(dict(raw.tensors["weights"]))
    assert all(tensor.isfinite().all() for tensor in raw.tensors["weights"].values())


def test_the_first_voice_and_its_raw_weights_load() -> None:
    pytest.importorskip("torch")
    folder = SHARED / "weights"
    if not folder.is_dir():
        pytest.skip("no shared weights beside the project")
    one, other = (load_checkpoint(folder / f"base_kerstin{suffix}.pt") for suffix in ("", "_raw"))
    # The schedule in the file comes from another linspace: equal to rounding.
    np.testing.assert_allclose(one.config.train_schedule, BASE.train_schedule, rtol=1e-12)
    assert replace(one.config, train_schedule=BASE.train_schedule) == BASE
    assert one.config == other.config
    assert not np.array_equal(one.tensors[LAYER], other.tensors[LAYER])
