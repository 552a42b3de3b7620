"""Tests that whole networks and the noise give the same bytes on all Arm tiers and on AVX2, in fp32 and int8."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from engine.config import Config
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import cpu
from engine.sampling.item import Item
from tests.arm.proxy import needs_tools
from tests.support.networks import SMALL
from tests.support.running import audio_of
from tests.support.targets import network, weights

pytestmark = [pytest.mark.arm, needs_tools]

FRAMES = 3
SHORT = replace(SMALL, residual_channels=16, residual_layers=4, dilation_cycle=3, n_mels=17, upsample_strides=(4, 8))
NETWORKS = {
    "C=16": SHORT,
    "C=48": replace(SHORT, residual_channels=48, shared_upsampler=False),
    "C=64": replace(SHORT, residual_channels=64),
    "C=128": replace(SHORT, residual_channels=128, n_mels=80),
    "no mel": replace(SHORT, n_mels=0, upsample_strides=(), mel_kind=None),
    "reflect": replace(SHORT, padding="reflect", step_bias_in_residual=True),
    "prior": replace(SHORT, prior=True),
}


@cache
def audio(config: Config, isa: str, precision: str) -> bytes:
    """Return the audio of six steps, with x_T and the noise drawn on the tested processor."""
    rng, plan = np.random.default_rng(5), build_schedule(config, 6)
    length = FRAMES * config.hop if config.n_mels else 97
    mel = rng.random((config.n_mels, FRAMES), np.float32) if config.n_mels else None
    scale = rng.uniform(0.1, 1.0, length).astype(np.float32) if config.prior else None
    item = Item(length, mel, seed=2**63 + 5, scale=scale)
    return audio_of(
        network(config, isa, precision), item, plan, step_biases(weights(config), config, plan.t), 2
    ).tobytes()


@pytest.mark.parametrize(("isa", "precision"), [("neon", "fp32"), ("neon", "int8"), ("dotprod", "int8")])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiers_equal_generic(name, isa, precision):
    values = np.frombuffer(audio(NETWORKS[name], f"arm-{isa}", precision), np.float32)
    assert np.isfinite(values).all() and len(np.unique(values)) > 16
    assert audio(NETWORKS[name], f"arm-{isa}", precision) == audio(NETWORKS[name], "arm-generic", precision)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_neon_equals_avx2(name, precision):
    if ("avx2", True) not in [tier[:2] for tier in cpu.tiers()]:
        pytest.skip("this processor lacks AVX2 and FMA")
    assert audio(NETWORKS[name], "arm-neon", precision) == audio(NETWORKS[name], "avx2", precision)


@pytest.mark.parametrize(("seed", "step", "begin"), [(0, 0, 0), (2**40 + 5, 3, 17), (2**64 - 1, 2**32 - 1, 2**33 - 1)])
def test_the_noise_equals_numpys(seed, step, begin):
    got = network(SHORT, "arm-neon", "fp32").normal(seed, step, begin, 1001)
    np.testing.assert_array_equal(got.view(np.int32), normal(seed, step, begin, 1001).view(np.int32))
