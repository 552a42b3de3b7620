"""The reference against outputs of the published implementations, and each operation against its formula."""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.diffusion.embedding import step_biases
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from tests.support.networks import EXAMPLES, SMALL, SMALL_LABELLED, SMALL_UNCONDITIONAL, random_network, shared_example
from tests.support.tolerances import TOLERANCES, relative_error

CONFIGS = {"lmnt": SMALL, "lmnt_unconditional": SMALL_UNCONDITIONAL}
DTYPES = {"fp32": torch.float32, "float64": torch.float64}
EXACT = TOLERANCES["reference_float64"]


def tensors(case, dtype):
    return {key: torch.as_tensor(value).to(dtype) for key, value in case.items()}


def normal(rng, *shape):
    return rng.standard_normal(shape)


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_one_evaluation_matches_the_published_code(name, precision):
    checkpoint, case = shared_example(name)
    case_tensors = tensors(case, DTYPES[precision])
    eps = reference.predict_noise(
        reference.to_tensors(checkpoint.tensors, DTYPES[precision]),
        checkpoint.config,
        case_tensors["x"],
        float(case["t"]),
        case_tensors.get("mel"),
    )
    assert eps.dtype == DTYPES[precision]
    assert relative_error(eps, case["eps"]) < TOLERANCES[f"fixture_eps_{precision}"]


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_six_steps_match_the_published_code(name, precision):
    checkpoint, case = shared_example(name)
    case_tensors = tensors(case, DTYPES[precision])
    schedule = build_schedule(checkpoint.config, schedule=case["schedule"])
    np.testing.assert_allclose(schedule.t[::-1], case["t_aligned"], rtol=0, atol=TOLERANCES["schedule_t"])
    audio = reference.sample(
        reference.to_tensors(checkpoint.tensors, DTYPES[precision]),
        checkpoint.config,
        case_tensors.get("mel"),
        schedule,
        case_tensors["x0"],
        case_tensors["z"],
        case_tensors.get("std"),
    )
    assert audio.dtype == DTYPES[precision]
    assert relative_error(audio, case["audio"]) < TOLERANCES[f"fixture_audio_{precision}"]


def block_arguments(rng, batch=2, channels=4, length=11, rows_d=1, conditioned=True):
    return {
        "h": normal(rng, batch, channels, length),
        "conditioner": normal(rng, batch, 2 * channels, length) if conditioned else None,
        "d": normal(rng, rows_d, channels),
        "dilated_weight": normal(rng, 2 * channels, channels, 3),
        "dilated_bias": normal(rng, 2 * channels),
        "output_weight": normal(rng, 2 * channels, channels, 1),
        "output_bias": normal(rng, 2 * channels),
    }


def run_block(arguments, dilation, **variant):
    tensors_of_block = {key: None if value is None else torch.tensor(value) for key, value in arguments.items()}
    return reference.residual_block(**tensors_of_block, dilation=dilation, **variant)


def naive_block(
    h,
    conditioner,
    d,
    dilated_weight,
    dilated_bias,
    output_weight,
    output_bias,
    dilation,
    padding="zeros",
    step_bias_in_residual=False,
):
    batch, channels, length = h.shape
    h_next, skip = np.empty_like(h), np.empty_like(h)
    for n in range(batch):
        step = d[n if len(d) > 1 else 0]
        for sample in range(length):
            y = dilated_bias.copy()
            for k in range(3):
                source = sample + (k - 1) * dilation
                if padding == "reflect":
                    source = length - 1 - abs(length - 1 - abs(source))
                if 0 <= source < length:
                    y += dilated_weight[:, :, k] @ (h[n, :, source] + step)
            if conditioner is not None:
                y += conditioner[n, :, sample]
            z = sigmoid(y[:channels]) * np.tanh(y[channels:])
            o = output_weight[:, :, 0] @ z + output_bias
            carried = h[n, :, sample] + step if step_bias_in_residual else h[n, :, sample]
            h_next[n, :, sample] = (carried + o[:channels]) / math.sqrt(2.0)
            skip[n, :, sample] = o[channels:]
    return h_next, skip


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("rows_d", [1, 2])
@pytest.mark.parametrize(("length", "dilation"), [(11, 1), (11, 4), (1, 1), (5, 4), (5, 5), (5, 16)])
def test_residual_block_matches_its_formula(length, dilation, rows_d, conditioned):
    arguments = block_arguments(
        np.random.default_rng(length + dilation), length=length, rows_d=rows_d, conditioned=conditioned
    )
    h_next, skip = run_block(arguments, dilation)
    want_next, want_skip = naive_block(**arguments, dilation=dilation)
    assert relative_error(h_next, want_next) < EXACT
    assert relative_error(skip, want_skip) < EXACT


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("step_bias_in_residual", [False, True])
@pytest.mark.parametrize(("length", "dilation"), [(11, 1), (11, 10), (2, 1), (20, 7)])
def test_variants_of_the_residual_block_match_their_formulas(length, dilation, padding, step_bias_in_residual):
    arguments = block_arguments(np.random.default_rng(length * dilation), length=length)
    variant = {"padding": padding, "step_bias_in_residual": step_bias_in_residual}
    got = run_block(arguments, dilation, **variant)
    for output, want in zip(got, naive_block(**arguments, dilation=dilation, **variant), strict=True):
        assert relative_error(output, want) < EXACT
    if variant != {"padding": "zeros", "step_bias_in_residual": False}:
        assert relative_error(got[0], run_block(arguments, dilation)[0]) > 0.01


def test_reflection_requires_more_samples_than_the_dilation():
    with pytest.raises(RuntimeError, match=r"[Pp]adding"):
        run_block(block_arguments(np.random.default_rng(0), length=4), 4, padding="reflect")


def test_step_bias_is_added_before_the_zero_padding():
    """The step bias d equals a bias of (sum of taps) d inside, and differs from it within one dilation of each end."""
    arguments = block_arguments(np.random.default_rng(1), length=20)
    exact = run_block(arguments, dilation=3)
    folded = dict(arguments, d=np.zeros_like(arguments["d"]))
    folded["dilated_bias"] = arguments["dilated_bias"] + arguments["dilated_weight"].sum(axis=2) @ arguments["d"][0]
    for got, want in zip(run_block(folded, dilation=3), exact, strict=True):
        assert relative_error(got[:, :, 3:-3], want[:, :, 3:-3]) < EXACT
        for edge in (slice(0, 3), slice(-3, None)):
            assert (got - want)[:, :, edge].abs().amax(dim=(0, 1)).min() > 0.01


@pytest.mark.parametrize(("frames", "strides"), [(5, (4, 2)), (1, (16, 16)), (3, (8,)), (2, (2, 4, 6))])
def test_upsample_mel_matches_its_formula(frames, strides):
    rng = np.random.default_rng(frames)
    mel, weights = normal(rng, 2, 6, frames), {}
    want = mel
    for number, stride in enumerate(strides, start=1):
        weight, bias = normal(rng, 1, 1, 3, 2 * stride), normal(rng, 1)
        weights[f"spectrogram_upsampler.conv{number}.weight"] = weight
        weights[f"spectrogram_upsampler.conv{number}.bias"] = bias
        batch, bands, columns = want.shape
        full = np.zeros((batch, bands + 2, (columns + 1) * stride))
        for band in range(bands):
            for column in range(columns):
                patch = want[:, band, column, None, None] * weight[0, 0]
                full[:, band : band + 3, column * stride : (column + 2) * stride] += patch
        kept = full[:, 1:-1, stride // 2 : stride // 2 + columns * stride] + bias
        want = np.where(kept > 0.0, kept, 0.4 * kept)
    got = reference.upsample_mel(torch.tensor(mel), reference.to_tensors(weights, torch.float64), strides)
    assert got.shape == (2, 6, frames * math.prod(strides))
    assert relative_error(got, want) < EXACT


def test_layers_may_have_their_own_upsamplers():
    config = replace(SMALL, shared_upsampler=False, upsample_strides=(4, 2))
    weights = reference.to_tensors(random_network(config, seed=1), torch.float64)
    mel = torch.tensor(np.random.default_rng(1).random((1, 80, 3)))
    for i, conditioner in enumerate(reference.conditioners(weights, config, mel)):
        shared = {
            key.removeprefix(f"residual_layers.{i}."): value
            for key, value in weights.items()
            if key.startswith(f"residual_layers.{i}.spectrogram_upsampler")
        }
        mel_up = reference.upsample_mel(mel, shared, config.upsample_strides)
        key = f"residual_layers.{i}.conditioner_projection"
        want = reference.project_conditioner(mel_up, weights[f"{key}.weight"], weights[f"{key}.bias"])
        assert torch.equal(conditioner, want)


def test_pointwise_operations_match_their_formulas():
    rng = np.random.default_rng(2)
    x, mel_up, skip_sum = normal(rng, 2, 7), normal(rng, 2, 5, 7), normal(rng, 2, 4, 7)
    w_in, w_mel, w_skip, w_out = normal(rng, 4, 1), normal(rng, 8, 5), normal(rng, 4, 4), normal(rng, 1, 4)
    b_in, b_mel, b_skip, b_out = normal(rng, 4), normal(rng, 8), normal(rng, 4), normal(rng, 1)

    def conv(weight, bias):
        return torch.tensor(weight[:, :, None]), torch.tensor(bias)

    h = reference.input_projection(torch.tensor(x), *conv(w_in, b_in))
    assert relative_error(h, np.maximum(w_in * x[:, None] + b_in[:, None], 0.0)) < EXACT
    conditioner = reference.project_conditioner(torch.tensor(mel_up), *conv(w_mel, b_mel))
    assert relative_error(conditioner, w_mel @ mel_up + b_mel[:, None]) < EXACT
    eps = reference.output_head(torch.tensor(skip_sum), *conv(w_skip, b_skip), *conv(w_out, b_out), 9)
    hidden = np.maximum(w_skip @ skip_sum / 3.0 + b_skip[:, None], 0.0)
    assert relative_error(eps, (w_out @ hidden)[:, 0] + b_out) < EXACT


@pytest.mark.parametrize("kind", ["table", "sinusoid"])
@pytest.mark.parametrize("t", [0.0, 0.894134, 24.0, 48.999, 49.0])
def test_step_bias_matches_the_engine(t, kind):
    network = random_network(SMALL, seed=3)
    weights = reference.to_tensors(network, torch.float64)
    embed = {"table": reference.step_embedding, "sinusoid": reference.step_embedding_sinusoid}[kind]
    embedding = embed(t, 50, torch.float64)
    mlp = [weights[f"diffusion_embedding.projection{n}.{part}"] for n in (1, 2) for part in ("weight", "bias")]
    features = reference.step_features(embedding, *mlp)
    want = step_biases(network, replace(SMALL, step_embedding=kind), [t])[0]
    for i in range(SMALL.residual_layers):
        key = f"residual_layers.{i}.diffusion_projection"
        d = reference.step_bias(features, weights[f"{key}.weight"], weights[f"{key}.bias"])
        assert d.shape == (1, 32)
        assert relative_error(d[0], want[i]) < TOLERANCES["step_biases"]


@pytest.mark.parametrize("t", [-0.001, 49.001, math.inf])
def test_a_step_outside_the_table_raises_an_error(t):
    for embed in (reference.step_embedding, reference.step_embedding_sinusoid):
        with pytest.raises((IndexError, OverflowError)):
            embed(t, 50, torch.float64)


def test_sinusoids_match_their_formula():
    for t in (0.0, 7.25, 199.0):
        got = reference.step_embedding_sinusoid(t, 200, torch.float64)
        angles = [t * 10.0 ** (-4.0 * k / 63.0) for k in range(64)]
        want = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def test_noise_update_matches_its_formula():
    x, eps, z = torch.tensor([[0.5, -0.5]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, 1.0]])
    free = reference.noise_update(x, eps, 2.0, -0.5, 0.25, z, clamp=False)
    assert free.tolist() == [[0.25, -1.75]]
    assert reference.noise_update(x, eps, 2.0, -0.5, 0.25, z).tolist() == [[0.25, -1.0]]
    assert reference.noise_update(x, eps, 4.0, -0.5, 0.0, None).tolist() == [[1.0, -1.0]]
    with pytest.raises(ValueError, match="z: expected noise"):
        reference.noise_update(x, eps, 2.0, -0.5, 0.25, None)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_float32_is_near_float64_and_items_are_independent(config):
    rng = np.random.default_rng(4)
    network = random_network(config, seed=5)
    length = 512
    mel = rng.random((2, 80, 2)) if config.n_mels else None
    x, z = normal(rng, 2, length), normal(rng, 5, 2, length)

    def run(dtype, items):
        return reference.sample(
            reference.to_tensors(network, dtype),
            config,
            None if mel is None else torch.tensor(mel[items], dtype=dtype),
            build_schedule(config),
            torch.tensor(x[items], dtype=dtype),
            torch.tensor(z[:, items], dtype=dtype),
            clamp=False,
        )

    batch = run(torch.float64, slice(0, 2))
    assert relative_error(run(torch.float32, slice(0, 2)), batch) < TOLERANCES["reference_fp32"]
    for item in range(2):
        assert relative_error(run(torch.float64, slice(item, item + 1)), batch[item : item + 1]) < EXACT


def test_sample_adds_noise_in_the_order_given_and_clamps_every_step():
    config = SMALL_UNCONDITIONAL
    weights = reference.to_tensors(random_network(config, seed=6), torch.float64)
    rng = np.random.default_rng(7)
    x, z = torch.tensor(normal(rng, 1, 64)), torch.tensor(normal(rng, 2, 1, 64))
    schedule = build_schedule(config, schedule=[0.01, 0.1, 0.4])
    want = x
    for n in range(3):
        eps = reference.predict_noise(weights, config, want, schedule.t[n])
        want = schedule.a[n] * want + schedule.b[n] * eps
        if n < 2:
            want = want + schedule.sigma[n] * z[n]
        want = want.clamp(-1.0, 1.0)
    assert torch.equal(reference.sample(weights, config, None, schedule, x, z), want)
    with pytest.raises(ValueError, match="z: expected the noise of 2 steps, got 3"):
        reference.sample(weights, config, None, schedule, x, torch.zeros(3, 1, 64))


def test_a_prior_scales_all_noise():
    config = replace(SMALL_UNCONDITIONAL, prior=True)
    weights = reference.to_tensors(random_network(config, seed=6), torch.float64)
    rng = np.random.default_rng(8)
    x, z = torch.tensor(normal(rng, 2, 64)), torch.tensor(normal(rng, 2, 2, 64))
    std = torch.tensor(rng.uniform(0.1, 1.0, (2, 64)))
    schedule = build_schedule(config, schedule=[0.01, 0.1, 0.4])
    got = reference.sample(weights, config, None, schedule, x, z, std)
    assert torch.equal(got, reference.sample(weights, SMALL_UNCONDITIONAL, None, schedule, x * std, z * std))
    with pytest.raises(ValueError, match="std: expected one"):
        reference.sample(weights, config, None, schedule, x, z)
    with pytest.raises(ValueError, match="std: expected none"):
        reference.sample(weights, SMALL_UNCONDITIONAL, None, schedule, x, z, std)


def test_the_configuration_determines_clamping():
    config = replace(SMALL_UNCONDITIONAL, clamp=False)
    weights = reference.to_tensors(random_network(config, seed=6), torch.float64)
    x, schedule = 3.0 * torch.ones(1, 64, dtype=torch.float64), build_schedule(config, schedule=[0.4])
    arguments = None, schedule, x, torch.zeros(0, 1, 64)
    free = reference.sample(weights, config, *arguments)
    assert free.abs().max() > 1.0
    assert torch.equal(reference.sample(weights, SMALL_UNCONDITIONAL, *arguments), free.clamp(-1.0, 1.0))
    assert torch.equal(reference.sample(weights, config, *arguments, clamp=True), free.clamp(-1.0, 1.0))


def test_an_unsuitable_mel_raises_an_error():
    x = torch.zeros(1, 256)
    weights = reference.to_tensors(random_network(SMALL, seed=8), torch.float32)
    with pytest.raises(ValueError, match="mel: expected one for this network, got none"):
        reference.predict_noise(weights, SMALL, x, 0.0)
    with pytest.raises(ValueError, match="mel: expected none for this network, got one"):
        reference.predict_noise(weights, SMALL_UNCONDITIONAL, x, 0.0, torch.zeros(1, 80, 1))


def test_to_tensors_copies_and_converts():
    array = np.ones(3, dtype=np.float32)
    tensor = torch.ones(3, dtype=torch.float64, requires_grad=True)
    copied = reference.to_tensors({"array": array, "tensor": tensor}, torch.float64)
    copied["array"][0] = copied["tensor"][0] = 5.0
    assert array[0] == 1.0
    assert tensor[0] == 1.0
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in copied.values())


@pytest.mark.parametrize("config", [SMALL, SMALL_UNCONDITIONAL, replace(SMALL, upsample_strides=(10, 6, 4))])
def test_random_networks_keep_the_signal_near_one(config):
    """Relative errors are meaningful only if eps neither vanishes nor explodes, and depends on x."""
    rng = np.random.default_rng(9)
    mel = torch.tensor(rng.random((1, 80, 4))) if config.n_mels else None
    x = torch.tensor(normal(rng, 1, 4 * config.hop if config.n_mels else 1000))
    for seed in range(3):
        weights = reference.to_tensors(random_network(config, seed), torch.float64)
        eps = reference.predict_noise(weights, config, x, 20.5, mel)
        moved = reference.predict_noise(weights, config, x + 1e-3, 20.5, mel)
        assert 0.2 < eps.std() < 3.0
        assert 1e-5 < (moved - eps).std() < 1e-2


def test_label_conditioner_matches_its_formula():
    rng = np.random.default_rng(0)
    embedding, weight, bias = normal(rng, 3, 128), normal(rng, 8, 128, 1), normal(rng, 8)
    got = reference.label_conditioner(*(torch.tensor(value) for value in (embedding, weight, bias)))
    assert relative_error(got, (embedding @ weight[:, :, 0].T + bias)[:, :, None]) < EXACT


def test_a_label_is_a_bias_of_every_dilated_convolution():
    """A network with a label equals the unconditional network with other biases, item by item."""
    weights = reference.to_tensors(random_network(SMALL_LABELLED, 3), torch.float64)
    x = torch.tensor(normal(np.random.default_rng(1), 2, 50))
    labels = torch.tensor([4, 1])
    both = reference.predict_noise(weights, SMALL_LABELLED, x, 7.5, labels=labels)
    for item, label in enumerate(labels):
        plain = {key: tensor for key, tensor in weights.items() if "label_" not in key}
        for i in range(SMALL_LABELLED.residual_layers):
            key, embedding = f"residual_layers.{i}", weights["label_embedding.weight"][label]
            projection = weights[f"{key}.label_projection.weight"][:, :, 0]
            label_bias = projection @ embedding + weights[f"{key}.label_projection.bias"]
            plain[f"{key}.dilated_conv.bias"] = plain[f"{key}.dilated_conv.bias"] + label_bias
        want = reference.predict_noise(plain, SMALL_UNCONDITIONAL, x[item : item + 1], 7.5)
        assert relative_error(both[item : item + 1], want) < EXACT


def test_unsuitable_labels_raise_an_error():
    x, labels = torch.zeros(1, 20), torch.tensor([0])
    for config, arguments, message in (
        (SMALL_LABELLED, None, "labels: expected some for this network, got none"),
        (SMALL_UNCONDITIONAL, labels, "labels: expected none for this network, got some"),
    ):
        weights = reference.to_tensors(random_network(config, 0), torch.float32)
        with pytest.raises(ValueError, match=message):
            reference.predict_noise(weights, config, x, 0.0, labels=arguments)


def operation_arguments() -> dict[Callable[..., torch.Tensor], dict[str, Any]]:
    """Return every operation whose docstring shows equivalent PyTorch, with random arguments."""
    rng = np.random.default_rng(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.tensor(normal(rng, *shape))

    upsampler = {}
    for number, stride in enumerate((4, 2), start=1):
        upsampler[f"spectrogram_upsampler.conv{number}.weight"] = values(1, 1, 3, 2 * stride)
        upsampler[f"spectrogram_upsampler.conv{number}.bias"] = values(1)
    block = {name: torch.tensor(value) for name, value in block_arguments(rng).items()}
    head = {"skip_weight": values(4, 4, 1), "skip_bias": values(4), "output_weight": values(1, 4, 1)}
    mlp = {"weight1": values(8, 6), "bias1": values(8), "weight2": values(8, 8), "bias2": values(8)}
    return {
        reference.upsample_mel: {"mel": values(2, 5, 3), "weights": upsampler, "strides": (4, 2)},
        reference.project_conditioner: {"mel_up": values(2, 5, 7), "weight": values(8, 5, 1), "bias": values(8)},
        reference.label_conditioner: {"embedding": values(2, 6), "weight": values(8, 6, 1), "bias": values(8)},
        reference.input_projection: {"x": values(2, 7), "weight": values(4, 1, 1), "bias": values(4)},
        reference.step_embedding_sinusoid: {"t": 7.25, "steps_T": 50, "dtype": torch.float64},
        reference.step_features: {"embedding": values(6), **mlp},
        reference.step_bias: {"features": values(8), "weight": values(4, 8), "bias": values(4)},
        reference.residual_block: {**block, "dilation": 3},
        reference.output_head: {"skip_sum": values(2, 4, 7), **head, "output_bias": values(1), "n_layers": 9},
        reference.noise_update: {"x": values(2, 7), "eps": values(2, 7), "a": 1.1, "b": -0.2, "sigma": 0.3}
        | {"z": values(2, 7)},
    }


OPERATIONS = operation_arguments()
EQUIVALENT = re.compile(r"quivalent to::\n\n(.*?)\n\n", re.DOTALL)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_docstrings_show_equivalent_pytorch(operation: Callable[..., torch.Tensor]) -> None:
    """The lines run with the arguments of the operation; the last line assigns its result."""
    lines = EQUIVALENT.search(inspect.getdoc(operation) or "")
    assert lines, operation
    code = textwrap.dedent(lines[1])
    scope = {"torch": torch, "F": torch.nn.functional, **OPERATIONS[operation]}
    exec(code, scope)
    *_, assignment = ast.parse(code).body
    names = [node.id for node in ast.walk(assignment.targets[0]) if isinstance(node, ast.Name)]
    results = operation(**OPERATIONS[operation])
    for name, result in zip(names, results if isinstance(results, tuple) else (results,), strict=True):
        assert relative_error(scope[name], result) < EXACT, name


def test_every_equivalent_is_tested() -> None:
    documented = {
        function
        for _, function in inspect.getmembers(reference, inspect.isfunction)
        if EQUIVALENT.search(inspect.getdoc(function) or "")
    }
    assert documented == set(OPERATIONS)
