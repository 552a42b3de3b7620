"""The copy of a network that rounds one thing at a time: exact without roundings, and with all of them like int8."""

from dataclasses import replace

import numpy as np
import pytest

from engine.calibration import calibrate
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import BASE
from tests.support.networks import random_network

pytest.importorskip("torch")
from benchmarks.quality import rounding

SMALL = replace(BASE, residual_channels=16, residual_layers=6, dilation_cycle=3, upsample_strides=(4, 4))
MELS = [np.random.default_rng(i).random((80, 20), np.float32) for i in range(2)]


@pytest.fixture
def model(tmp_path):
    calibrated, _ = calibrate(Checkpoint(SMALL, random_network(SMALL, 3)), MELS)
    save_checkpoint(tmp_path / "model.safetensors", calibrated)
    return tmp_path / "model.safetensors"


def test_the_copy_is_the_network_and_its_roundings_are_those_of_int8(model):
    found = rounding.measure(model, MELS)
    assert list(found) == ["engine", "none", "all", *rounding.KINDS]
    assert min(found["none"]) > 110.0
    np.testing.assert_allclose(found["all"], found["engine"], atol=0.6)
    for kind in rounding.KINDS:
        assert np.mean(found["all"]) < np.mean(found[kind]) < 100.0, kind


def test_what_the_copy_does_not_know_is_refused(tmp_path):
    save_checkpoint(tmp_path / "plain.safetensors", Checkpoint(SMALL, random_network(SMALL, 3)))
    with pytest.raises(SystemExit, match="expected a calibrated vocoder"):
        rounding.measure(tmp_path / "plain.safetensors", MELS)
