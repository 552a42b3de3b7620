"""Class labels: the label row against its formula, and sweeps of every tier against the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.kernels.label import label_row
from engine.sampling.item import Item
from tests.support.networks import CLASSES, SMALL, SMALL_LABELLED, SMALL_UNCONDITIONAL
from tests.support.running import audio_of, evaluated
from tests.support.targets import exact, float64, network, targets, weights
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

WITH_ARM = targets(arm=True)
NETWORKS = {
    "C=32": SMALL_LABELLED,
    "C=64": replace(SMALL_LABELLED, residual_channels=64, residual_layers=4, classes=CLASSES[:2]),
    "C=80": replace(SMALL_LABELLED, residual_channels=80, residual_layers=3, padding="reflect"),
    "step bias in the residual": replace(SMALL_LABELLED, step_bias_in_residual=True, step_embedding="sinusoid"),
}
LENGTH, SEED = 301, 3


@cache
def case(name: str):
    """Return (schedule, d, x, z)."""
    config = NETWORKS[name]
    plan = build_schedule(config)
    x, *z = [normal(SEED, n, 0, LENGTH) for n in range(len(plan))]
    return plan, step_biases(weights(config), config, plan.t), x, np.array(z)


@cache
def expected(name: str):
    """Return (eps, audio) of every class, [classes,L] in float64."""
    config, (plan, _, x, z) = NETWORKS[name], case(name)
    count = len(config.classes)
    labels = torch.arange(count)
    many, noise = float64(x).expand(count, -1), torch.tensor(z).double()[:, None].expand(-1, count, -1)
    eps = reference.predict_noise(exact(config), config, many, plan.t[0], labels=labels)
    return eps, reference.sample(exact(config), config, None, plan, many, noise, labels=labels)


def sampled(name: str, isa: str, precision: str, label: int, threads: int = 1):
    plan, d, x, z = case(name)
    net = network(NETWORKS[name], isa, precision)
    return audio_of(net, Item(LENGTH, x=x, noise=z, label=label), plan, d, threads)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_the_label_row_matches_its_formula(label: int) -> None:
    w = weights(SMALL_LABELLED)
    row = label_row(SMALL_LABELLED, w, label)
    assert row.shape == (9, 64) and row.dtype == np.float64
    for i, c in ((0, 0), (3, 40), (8, 63)):
        weight, bias = (w[f"residual_layers.{i}.label_projection.{part}"] for part in ("weight", "bias"))
        terms = [float(weight[c, k, 0]) * float(w["label_embedding.weight"][label, k]) for k in range(128)]
        assert row[i, c] == pytest.approx(sum(terms) + float(bias[c]), abs=1e-12)
    at_once = reference.conditioners(exact(SMALL_LABELLED), SMALL_LABELLED, None, torch.tensor([label]))
    assert relative_error(row, torch.cat(at_once)[:, :, 0]) < TOLERANCES["reference_float64"]


@pytest.mark.parametrize("label", [-1, len(CLASSES)])
def test_an_unknown_class_raises_an_error(label: int) -> None:
    with pytest.raises(IndexError, match=f"label: expected 0 to 4, got {label}"):
        label_row(SMALL_LABELLED, weights(SMALL_LABELLED), label)


def test_networks_with_guidance_have_a_row_for_no_label() -> None:
    config = replace(SMALL_LABELLED, guidance=2.0)
    row = label_row(config, weights(config), len(CLASSES))
    at_once = reference.conditioners(exact(config), config, None, torch.tensor([len(CLASSES)]))
    assert relative_error(row, torch.cat(at_once)[:, :, 0]) < TOLERANCES["reference_float64"]
    with pytest.raises(IndexError, match="label: expected 0 to 5, got 6"):
        label_row(config, weights(config), len(CLASSES) + 1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("isa", "precision"), WITH_ARM)
def test_sweeps_with_a_label_match_the_reference(isa: str, precision: str, name: str) -> None:
    (_, d, x, _), (eps, audio) = case(name), expected(name)
    net, apart = network(NETWORKS[name], isa, precision), relative_error(audio[0], audio[1])
    assert apart > 5 * TOLERANCES[f"network_audio_{precision}"], "the label has no effect, so this test proves nothing"
    for label in (0, 1):
        got = evaluated(net, x, None, d[:1], threads=2, label=label)
        assert relative_error(got, eps[label]) < TOLERANCES[f"network_eps_{precision}"]
        got = sampled(name, isa, precision, label, threads=2)
        assert relative_error(got, audio[label]) < TOLERANCES[f"network_audio_{precision}"]


@pytest.mark.parametrize("name", ["C=32", "C=64"])
@pytest.mark.parametrize(("isa", "precision"), WITH_ARM)
def test_audio_depends_on_neither_threads_nor_the_label_before(isa: str, precision: str, name: str) -> None:
    """A sweep reuses the memory of the sweep before it, which had another label."""
    once = [sampled(name, isa, precision, label).tobytes() for label in (0, 1)]
    assert once[0] != once[1]
    for label, threads in ((1, 2), (0, 3), (0, 1), (1, 1)):
        assert sampled(name, isa, precision, label, threads).tobytes() == once[label]


def test_a_sweep_requires_a_label_exactly_for_classes() -> None:
    d, terms = np.zeros((1, 9, 32), np.float32), np.ones((1, 3), np.float32)
    for config, label, message in (
        (SMALL_LABELLED, None, "label: expected one for this network"),
        (SMALL_UNCONDITIONAL, 0, "label: expected none for this network"),
        (SMALL, 0, "label: expected none for this network"),
    ):
        with pytest.raises(ValueError, match=message):
            network(config, "generic", "fp32").sweep(d, terms, clamp=True, threads=1, length=256, label=label)
    with pytest.raises(IndexError, match="label: expected 0 to 4, got 5"):
        network(SMALL_LABELLED, "generic", "fp32").sweep(d, terms, clamp=True, threads=1, length=256, label=5)


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (SMALL_UNCONDITIONAL, np.zeros((9, 63), np.float32), "conditioner_rows: expected shape"),
        (SMALL_UNCONDITIONAL, np.zeros((8, 64), np.float32), "conditioner_rows: expected shape"),
        (SMALL_UNCONDITIONAL, np.zeros((9, 64)), "conditioner_rows: expected contiguous float32"),
        (SMALL, np.zeros((9, 64), np.float32), "conditioner_rows: expected None for a network with a mel"),
    ],
)
def test_the_native_module_checks_conditioner_rows(config, rows, message) -> None:
    net = network(config, "generic", "fp32")
    d, terms = np.zeros((1, 9, 32), np.float32), np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        net._sweep(net._native, d, terms, True, 0, 1, 256, 1, 96, rows)
