"""Step embedding: agreement with LMNT's table and philsyn's sinusoids, and the formula of the step biases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.diffusion.embedding import step_biases, step_embedding, step_embedding_sinusoid
from engine.errors import InputError
from tests.support.networks import SMALL, random_network
from tests.support.tolerances import TOLERANCES


@pytest.mark.parametrize("steps_T", [1, 2, 50, 200, 1000])
def test_rows_agree_with_lmnt(steps_T):
    torch = pytest.importorskip("torch")
    steps, dims = torch.arange(steps_T).unsqueeze(1), torch.arange(64).unsqueeze(0)
    table = steps * 10.0 ** (dims * 4.0 / 63.0)
    table = torch.cat([torch.sin(table), torch.cos(table)], dim=1).double().numpy()
    for t in range(steps_T):
        row = step_embedding(t, steps_T)
        assert row.shape == (128,)
        assert row.dtype == np.float64
        assert np.abs(row - table[t]).max() < TOLERANCES["embedding_table"]


@settings(deadline=None)
@given(st.integers(0, 48), st.floats(0.0, 1.0))
def test_fractional_step_is_interpolated_between_rows(low, fraction):
    t = low + fraction
    row, first, last = (step_embedding(step, 50) for step in (t, low, low + 1))
    np.testing.assert_allclose(row, first + (last - first) * (t - low), rtol=0, atol=1e-15)


def test_first_and_last_row():
    assert step_embedding(0.0, 50).tolist() == [0.0] * 64 + [1.0] * 64
    np.testing.assert_array_equal(step_embedding(49.0, 50), step_embedding(49, 200))
    np.testing.assert_array_equal(step_embedding(0.0, 1), step_embedding(0.0, 50))


@pytest.mark.parametrize("t", [-1e-9, 49.0 + 1e-9, math.nan, math.inf, -math.inf])
def test_step_outside_the_training_scale_is_refused(t):
    for embed in (step_embedding, step_embedding_sinusoid):
        with pytest.raises(InputError, match="t: expected a step from 0 to 49"):
            embed(t, 50)


@pytest.mark.parametrize("t", [0, 1, 6, 50, 199, 13.430278])
def test_sinusoids_agree_with_philsyn(t):
    torch = pytest.importorskip("torch")
    frequencies = torch.exp(torch.arange(64) * -(np.log(10000) / 63))  # philsyn's roundings, in float32
    angles = t * frequencies
    expected = torch.cat([torch.sin(angles), torch.cos(angles)]).double().numpy()
    row = step_embedding_sinusoid(t, 200)
    assert row.shape == (128,) and row.dtype == np.float64
    assert np.abs(row - expected).max() < (1.0 + t) * TOLERANCES["embedding_table"]
    assert np.abs(row - step_embedding(t, 200)).max() > 0.1 or t == 0


def test_step_biases_agree_with_the_formula():
    """Compare with loops over every layer and step, with another form of the sigmoid."""
    network = {key: value / np.float64(3.0) for key, value in random_network(SMALL, seed=1).items()}
    t = [42.918644, 4.0, 0.0]

    def silu(values):
        return values / (1.0 + np.exp(-values))

    biases = step_biases(network, SMALL, t)
    assert biases.shape == (3, 9, 32)
    assert biases.dtype == np.float64
    for s, step in enumerate(t):
        hidden = step_embedding(step, 50)
        for key in ("diffusion_embedding.projection1", "diffusion_embedding.projection2"):
            hidden = silu(network[f"{key}.weight"] @ hidden + network[f"{key}.bias"])
        for i in range(9):
            key = f"residual_layers.{i}.diffusion_projection"
            expected = network[f"{key}.weight"] @ hidden + network[f"{key}.bias"]
            np.testing.assert_allclose(biases[s, i], expected, rtol=0, atol=TOLERANCES["step_biases"])


def test_step_biases_of_sinusoids_agree_with_the_formula():
    network = random_network(SMALL, seed=4)
    config = replace(SMALL, step_embedding="sinusoid")
    biases = step_biases(network, config, [0.0, 12.5])
    table_bias = step_biases(network, SMALL, [0.0])[0]  # at t = 0 the frequencies have no influence
    np.testing.assert_allclose(biases[0], table_bias, rtol=0, atol=TOLERANCES["step_biases"])
    hidden = step_embedding_sinusoid(12.5, 50)
    for key in ("diffusion_embedding.projection1", "diffusion_embedding.projection2"):
        hidden = network[f"{key}.weight"].astype(np.float64) @ hidden + network[f"{key}.bias"]
        hidden = hidden / (1.0 + np.exp(-hidden))
    key = "residual_layers.8.diffusion_projection"
    expected = network[f"{key}.weight"].astype(np.float64) @ hidden + network[f"{key}.bias"]
    np.testing.assert_allclose(biases[1, 8], expected, rtol=0, atol=TOLERANCES["step_biases"])


def test_step_biases_stay_finite_for_huge_weights():
    network = {key: value * np.float32(1e4) for key, value in random_network(SMALL, seed=2).items()}
    with np.errstate(all="raise"):
        assert np.isfinite(step_biases(network, SMALL, [10.0])).all()


def test_step_biases_use_the_scale_of_the_network():
    network = random_network(SMALL, seed=3)
    longer = replace(SMALL, train_schedule=tuple(np.linspace(1e-4, 0.02, 200).tolist()))
    assert step_biases(network, longer, [199.0]).shape == (1, 9, 32)
    with pytest.raises(InputError, match="t: expected a step from 0 to 49"):
        step_biases(network, SMALL, [0.0, 199.0])
