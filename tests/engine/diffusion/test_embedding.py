"""The embeddings are LMNT's table and philsyn's sinusoids, and the step biases are the network's own."""

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
def test_every_row_is_lmnts(steps_T):
    torch = pytest.importorskip("torch")
    steps, dims = torch.arange(steps_T).unsqueeze(1), torch.arange(64).unsqueeze(0)
    table = steps * 10.0 ** (dims * 4.0 / 63.0)
    table = torch.cat([torch.sin(table), torch.cos(table)], dim=1).double().numpy()
    for t in range(steps_T):
        row = step_embedding(t, steps_T)
        assert row.shape == (128,)
        assert row.dtype == np.float64
        assert np.abs(row - table[t]).max() < TOLERANCES["embedding_table"]


@settings(deadline=None)  # a busy machine is not a failure
@given(st.integers(0, 48), st.floats(0.0, 1.0))
def test_fractional_steps_lie_on_the_line_between_rows(low, fraction):
    t = low + fraction
    got, first, last = (step_embedding(at, 50) for at in (t, low, low + 1))
    np.testing.assert_allclose(got, first + (last - first) * (t - low), rtol=0, atol=1e-15)


def test_the_first_row_is_zeros_and_ones_and_the_last_is_reachable():
    assert step_embedding(0.0, 50).tolist() == [0.0] * 64 + [1.0] * 64
    np.testing.assert_array_equal(step_embedding(49.0, 50), step_embedding(49, 200))
    np.testing.assert_array_equal(step_embedding(0.0, 1), step_embedding(0.0, 50))


@pytest.mark.parametrize("t", [-1e-9, 49.0 + 1e-9, math.nan, math.inf, -math.inf])
def test_steps_outside_the_table_are_refused(t):
    for embed in (step_embedding, step_embedding_sinusoid):
        with pytest.raises(InputError, match="t: expected a step from 0 to 49"):
            embed(t, 50)


@pytest.mark.parametrize("t", [0, 1, 6, 50, 199, 13.430278])
def test_sinusoids_are_philsyns(t):
    torch = pytest.importorskip("torch")
    frequencies = torch.exp(torch.arange(64) * -(np.log(10000) / 63))  # its own roundings, in float32
    angles = t * frequencies
    want = torch.cat([torch.sin(angles), torch.cos(angles)]).double().numpy()
    got = step_embedding_sinusoid(t, 200)
    assert got.shape == (128,) and got.dtype == np.float64
    assert np.abs(got - want).max() < (1.0 + t) * TOLERANCES["embedding_table"]
    assert np.abs(got - step_embedding(t, 200)).max() > 0.1 or t == 0


def test_step_biases_are_their_formula():
    """Against loops over every layer and step, with the sigmoid written another way."""
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
            want = network[f"{key}.weight"] @ hidden + network[f"{key}.bias"]
            np.testing.assert_allclose(biases[s, i], want, rtol=0, atol=TOLERANCES["step_biases"])


def test_step_biases_of_sinusoids_are_their_formula():
    network = random_network(SMALL, seed=4)
    frequent = replace(SMALL, step_embedding="sinusoid")
    first = step_biases(network, frequent, [0.0, 12.5])
    origin = step_biases(network, SMALL, [0.0])[0]  # sin 0 and cos 0 have no frequency
    np.testing.assert_allclose(first[0], origin, rtol=0, atol=TOLERANCES["step_biases"])
    hidden = step_embedding_sinusoid(12.5, 50)
    for key in ("diffusion_embedding.projection1", "diffusion_embedding.projection2"):
        hidden = network[f"{key}.weight"].astype(np.float64) @ hidden + network[f"{key}.bias"]
        hidden = hidden / (1.0 + np.exp(-hidden))
    key = "residual_layers.8.diffusion_projection"
    want = network[f"{key}.weight"].astype(np.float64) @ hidden + network[f"{key}.bias"]
    np.testing.assert_allclose(first[1, 8], want, rtol=0, atol=TOLERANCES["step_biases"])


def test_step_biases_stay_finite_for_huge_weights():
    network = {key: value * np.float32(1e4) for key, value in random_network(SMALL, seed=2).items()}
    with np.errstate(all="raise"):
        assert np.isfinite(step_biases(network, SMALL, [10.0])).all()


def test_step_biases_use_the_networks_own_scale():
    network = random_network(SMALL, seed=3)
    longer = replace(SMALL, train_schedule=tuple(np.linspace(1e-4, 0.02, 200).tolist()))
    assert step_biases(network, longer, [199.0]).shape == (1, 9, 32)
    with pytest.raises(InputError, match="t: expected a step from 0 to 49"):
        step_biases(network, SMALL, [0.0, 199.0])
