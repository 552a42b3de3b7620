"""The copy of a network with single roundings: exact without any, and close to int8 with all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import BASE
from engine.tuning.int8 import calibrate
from tests.support.networks import random_network

pytest.importorskip("torch")
from benchmarks.quality import rounding

SMALL = replace(BASE, residual_channels=16, residual_layers=6, dilation_cycle=3, upsample_strides=(4, 4))
MELS = [np.random.default_rng(i).random((80, 20), np.float32) for i in range(2)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    calibrated, _ = calibrate(Checkpoint(SMALL, random_network(SMALL, 3)), MELS)
    save_checkpoint(tmp_path / "model.safetensors", calibrated)
    return tmp_path / "model.safetensors"


def test_the_copy_agrees_with_the_engine(model: Path) -> None:
    snrs = rounding.measure(model, MELS)
    assert list(snrs) == ["engine", "none", "all", *rounding.KINDS]
    assert min(snrs["none"]) > 110.0
    np.testing.assert_allclose(snrs["all"], snrs["engine"], atol=0.6)
    for kind in rounding.KINDS:
        assert np.mean(snrs["all"]) < np.mean(snrs[kind]) < 100.0, kind


def test_an_uncalibrated_network_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "plain.safetensors", Checkpoint(SMALL, random_network(SMALL, 3)))
    with pytest.raises(SystemExit, match="expected a calibrated vocoder"):
        rounding.measure(tmp_path / "plain.safetensors", MELS)
