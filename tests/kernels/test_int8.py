"""Precision int8 on every tier: against NumPy, and the error of quantization."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.diffusion.embedding import step_biases
from engine.kernels import cpu, reference
from engine.kernels.label import label_row
from tests.support.networks import SMALL
from tests.support.quantized import quantized_block, quantized_conditioner, with_ranges
from tests.support.running import evaluated
from tests.support.targets import targets, weights
from tests.support.tolerances import TOLERANCES, relative_error

WIDE = replace(SMALL, residual_layers=9, dilation_cycle=9)
SHAPES = {
    "mel": WIDE,
    "no mel": replace(WIDE, n_mels=0, upsample_strides=()),
    "reflect": replace(WIDE, padding="reflect"),
    "step bias in residual": replace(WIDE, step_bias_in_residual=True),
    "64 channels": replace(WIDE, residual_channels=64),
    "80 channels": replace(WIDE, residual_channels=80),
    "128 channels": replace(WIDE, residual_channels=128),
    "20 channels": replace(WIDE, residual_channels=20),
    "72 channels, hop 15": replace(WIDE, residual_channels=72, upsample_strides=(3, 5)),
    "hop 300": replace(WIDE, upsample_strides=(15, 20)),
}
CASES = {name: with_ranges(config) for name, config in SHAPES.items()}
LENGTHS = (1, 11, 13, 97)


def inputs(config, layer, length):
    rng, C = np.random.default_rng((layer, length)), config.residual_channels
    h, d, skip = (rng.standard_normal(shape, np.float32) for shape in ((C, length), C, (C, length)))
    conditioner = rng.standard_normal((2 * C, length), np.float32) if config.n_mels else None
    return h, conditioner, d, skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_residual_block(isa, precision, name):
    config = CASES[name]
    net = cpu.CpuNetwork(config, weights(config), isa, precision)
    for layer, length in itertools.product(range(config.residual_layers), LENGTHS):
        if config.padding == "reflect" and length <= config.dilations[layer]:
            continue
        arguments = inputs(config, layer, length)
        got, expected = (
            net.residual_block(layer, *arguments),
            quantized_block(config, weights(config), layer, *arguments),
        )
        y = skip = TOLERANCES["operation_int8"]
        if not config.int8_ranges[layer]:
            y = TOLERANCES[f"operation_{kept(isa)}"]
            skip = y + TOLERANCES["skip_sum_unit"]
        for values, exact, limit in zip(got, expected, (y, skip), strict=True):
            assert relative_error(values, exact) < limit, f"layer {layer}, {length} samples"


@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_values_out_of_range_are_clipped(isa, precision):
    config = replace(CASES["mel"], int8_ranges=(0.0, *[0.5] * 8), int8_mel_range=0.5)
    h, conditioner, d, skip = inputs(config, 1, 40)
    net = cpu.CpuNetwork(config, weights(config), isa, precision)
    arguments = (4.0 * h, 4.0 * conditioner, d, skip)
    got, expected = net.residual_block(1, *arguments), quantized_block(config, weights(config), 1, *arguments)
    for values, exact in zip(got, expected, strict=True):
        assert relative_error(values, exact) < TOLERANCES["operation_int8"]
    mel = np.random.default_rng(0).random((config.n_mels, 40), np.float32)
    exact = quantized_conditioner(config, weights(config), 1, mel)
    assert relative_error(net.project_conditioner(1, mel), exact) < TOLERANCES["operation_fp32"]


@pytest.mark.parametrize("name", CASES)
def test_skip_sums_are_bit_identical_on_every_tier(name):
    """The layer has int8 input and is not the last, so that its skip sum is an integer."""
    config = CASES[name]
    arguments = inputs(config, 1, 97)
    isas = [isa for isa, supported, _, _ in cpu.tiers() if supported]
    if len(isas) < 2:
        pytest.skip(f"this processor supports only {isas}")
    skips = [cpu.CpuNetwork(config, weights(config), isa, "int8").residual_block(1, *arguments)[1] for isa in isas]
    assert all(np.array_equal(skip, skips[0]) for skip in skips)


@pytest.mark.parametrize("name", ["mel", "64 channels", "80 channels", "20 channels"])
@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_conditioner(isa, precision, name):
    """The projection of the int8 mel is in the units of its layer, or unquantized."""
    config = CASES[name]
    net = cpu.CpuNetwork(config, weights(config), isa, precision)
    upsampled = net.upsample_mel(np.random.default_rng(0).random((config.n_mels, 7), np.float32))
    for layer in range(config.residual_layers):
        expected = quantized_conditioner(config, weights(config), layer, upsampled)
        limit = TOLERANCES["operation_int8" if config.int8_ranges[layer] else f"operation_{kept(isa)}"]
        assert relative_error(net.project_conditioner(layer, upsampled), expected) < limit, f"layer {layer}"


@pytest.mark.parametrize("name", ["mel", "72 channels, hop 15", "hop 300"])
@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_upsampled_mel(isa, precision, name):
    config = CASES[name]
    net = cpu.CpuNetwork(config, weights(config), isa, precision)
    mel = np.random.default_rng(0).random((config.n_mels, 7), np.float32)
    exact = reference.upsample_mel(
        torch.from_numpy(mel)[None], reference.to_tensors(weights(config), torch.float32), config.upsample_strides
    )[0].numpy()
    upsampled, unit = net.upsample_mel(mel), config.int8_mel_range / 127.0
    if name == "mel":
        assert np.abs(exact).max() > 128.5 * unit, "no value is clipped, so this test proves nothing"
    assert np.abs(upsampled - np.clip(exact, -128.0 * unit, 127.0 * unit)).max() <= 0.5001 * unit


def kept(isa):
    """Return the precision of the values that are not int8."""
    return "bf16" if "bf16" in cpu.precisions_of(isa) else "fp32"


def network_limit(isa):
    return TOLERANCES["network_eps_int8_bf16" if kept(isa) == "bf16" else "network_eps_int8"]


@pytest.mark.parametrize("name", ["mel", "no mel", "reflect", "64 channels", "20 channels", "hop 300"])
@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_the_sweep_matches_the_operations(isa, precision, name):
    """The rows of a sweep stay int8 and int32 from layer to layer."""
    config = CASES[name]
    net = cpu.CpuNetwork(config, weights(config), isa, precision)
    frames = 3
    rng, length = np.random.default_rng(0), frames * (config.hop if config.n_mels else 256)
    x = rng.standard_normal(length, np.float32)
    mel = rng.random((config.n_mels, frames), np.float32) if config.n_mels else None
    d = step_biases(weights(config), config, (3.0,)).astype(np.float32)
    h, skip = net.input_projection(x), np.zeros((config.residual_channels, length), np.float32)
    for layer in range(config.residual_layers):
        conditioner = None if mel is None else net.project_conditioner(layer, net.upsample_mel(mel))
        h, skip = quantized_block(config, weights(config), layer, h, conditioner, d[0, layer], skip)
    expected = net.output_head(skip.astype(np.float32))
    assert relative_error(evaluated(net, x, mel, d), expected) < network_limit(isa)


@pytest.mark.parametrize("channels", [32, 20])
@pytest.mark.parametrize(("isa", "precision"), targets("int8"))
def test_a_label_is_the_start_value_of_the_sums(isa, precision, channels):
    config = with_ranges(
        replace(WIDE, n_mels=0, upsample_strides=(), classes=("yes", "no"), residual_channels=channels)
    )
    tensors, (rng, length) = weights(config), (np.random.default_rng(0), 300)
    net, x = cpu.CpuNetwork(config, tensors, isa, precision), rng.standard_normal(length, np.float32)
    d = step_biases(tensors, config, (3.0,)).astype(np.float32)
    h, skip = net.input_projection(x), np.zeros((config.residual_channels, length), np.float32)
    for layer, row in enumerate(label_row(config, tensors, 1)):
        conditioner = (row + tensors[f"residual_layers.{layer}.dilated_conv.bias"])[:, None]
        h, skip = quantized_block(config, tensors, layer, h, conditioner, d[0, layer], skip)
    expected = net.output_head(skip.astype(np.float32))
    assert relative_error(evaluated(net, x, None, d, label=1), expected) < network_limit(isa)
    assert relative_error(evaluated(net, x, None, d, label=0), expected) > 2.0 * network_limit(isa)


@pytest.mark.parametrize("ranges", [(1.0,) * 9, (0.0,) * 8])
def test_impossible_ranges_raise_an_error(ranges):
    config = with_ranges(SMALL)
    object.__setattr__(config, "int8_ranges", ranges)
    with pytest.raises(ValueError, match="ranges: "):
        cpu.CpuNetwork(config, weights(SMALL), "generic", "int8")
