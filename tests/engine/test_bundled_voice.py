"""The bundled voice, its demo mel, and the raw weights to resume its training from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.checkpoint.load import load_checkpoint
from engine.config import BASE
from engine.tuning.int8 import EXCLUDED_COUNTS
from tests.support.networks import SHARED
from tests.support.paths import ROOT

LAYER = "residual_layers.1.dilated_conv.weight"
ASSETS = ROOT / "engine" / "assets"


def test_bundled_voice_is_base_and_the_demo_mel_fits() -> None:
    config = load_checkpoint(ASSETS / "voice.safetensors").config
    np.testing.assert_allclose(config.train_schedule, BASE.train_schedule, rtol=1e-12)
    without = {"int8_ranges": (), "int8_mel_range": 0.0, "int8_conditioner_ranges": ()}
    assert replace(config, train_schedule=BASE.train_schedule, **without) == BASE
    excluded = sum(value == 0.0 for value in config.int8_ranges)
    assert excluded in EXCLUDED_COUNTS[:4] and not any(config.int8_ranges[:excluded])
    assert min(config.int8_ranges[excluded:]) > 1.0
    assert min(config.int8_mel_range, *config.int8_conditioner_ranges) > 0.1
    mel = np.load(ASSETS / "demo_mel.npy")
    assert mel.dtype == np.float32 and mel.shape == (80, 324)
    assert mel.min() >= 0.0 and 0.5 < mel.max() <= 1.0


@pytest.mark.parametrize("name", ["voice", "digits"])
def test_raw_weights_are_close_to_the_bundled_weights(name: str) -> None:
    """Raw weights and their average converge by the end of a training."""
    pytest.importorskip("torch")
    from engine.training.state import read_state

    bundled = load_checkpoint(ASSETS / f"{name}.safetensors").tensors
    raw = read_state(ROOT / "benchmarks" / "training" / f"{name}.safetensors")
    for key, tensor in raw.tensors["weights"].items():
        if key in bundled and bundled[key].shape == tuple(tensor.shape):
            distance = np.linalg.norm(bundled[key] - tensor.numpy()) / np.linalg.norm(tensor.numpy())
            assert distance < 0.02, key


@pytest.mark.parametrize("name", ["voice", "digits"])
def test_raw_weights_fit_the_recipe(name: str) -> None:
    pytest.importorskip("torch")
    from engine.training.network import DiffWave
    from engine.training.settings import read_recipe
    from engine.training.state import read_state

    raw = read_state(ROOT / "benchmarks" / "training" / f"{name}.safetensors")
    assert raw.classes == load_checkpoint(ASSETS / f"{name}.safetensors").config.classes
    network = DiffWave(read_recipe(name).network, len(raw.classes))
    network.load_state_dict(dict(raw.tensors["weights"]))
    assert all(tensor.isfinite().all() for tensor in raw.tensors["weights"].values())


def test_first_voice_and_its_raw_weights_load() -> None:
    pytest.importorskip("torch")
    folder = SHARED / "weights"
    if not folder.is_dir():
        pytest.skip("no shared weights beside the project")
    averaged, raw = (load_checkpoint(folder / f"base_kerstin{suffix}.pt") for suffix in ("", "_raw"))
    # The schedule in the file comes from another linspace, equal within rounding.
    np.testing.assert_allclose(averaged.config.train_schedule, BASE.train_schedule, rtol=1e-12)
    assert replace(averaged.config, train_schedule=BASE.train_schedule) == BASE
    assert averaged.config == raw.config
    assert not np.array_equal(averaged.tensors[LAYER], raw.tensors[LAYER])
