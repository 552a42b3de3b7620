"""Every Triton function, as Triton's interpreter runs it, against the reference in float64."""

from dataclasses import replace

import pytest

from engine.config import Config
from tests.gpu import checks
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES

PRECISIONS = ("fp32", "fp16")  # tf32 is fp32 here
LENGTHS = ((1, 256, 257), (300, 7, 129))
FRAMES = ((1,), (3, 1, 2))
NARROW = replace(SMALL, residual_layers=2, dilation_cycle=2)
MELS = {
    "80 bands": NARROW,
    "79 bands": replace(NARROW, n_mels=79, upsample_strides=(4, 8)),
    "100 bands, three stages": replace(NARROW, n_mels=100, upsample_strides=(2, 2, 4)),
    "one stage": replace(NARROW, n_mels=33, upsample_strides=(16,)),
    "hop 300": replace(NARROW, n_mels=20, upsample_strides=(10, 30)),
}
VARIANTS = {
    "mel": {},
    "no mel": {"n_mels": 0, "upsample_strides": ()},
    "reflect": {"padding": "reflect"},
    "step bias in residual": {"step_bias_in_residual": True},
    "all": {"n_mels": 0, "upsample_strides": (), "padding": "reflect", "step_bias_in_residual": True},
}


def tolerance(precision):
    return TOLERANCES[f"operation_{precision}"]


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_upsample_mel(device, precision, name, frames):
    assert checks.upsample_mel(device, MELS[name], precision, frames) < tolerance(precision)


def test_upsample_mel_of_a_layer(device):
    config = replace(NARROW, shared_upsampler=False)
    for place in range(2):
        assert checks.upsample_mel(device, config, "fp32", (2, 1), place) < tolerance("fp32")


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_project_conditioner(device, precision, name):
    assert checks.project_conditioner(device, MELS[name], precision, (129, 7)) < tolerance(precision)


@pytest.mark.parametrize("channels", [16, 48, 64, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_input_projection(device, precision, channels):
    config = replace(SMALL_UNCONDITIONAL, residual_channels=channels, residual_layers=1)
    for lengths in LENGTHS:
        assert checks.input_projection(device, config, precision, lengths) < tolerance(precision)


@pytest.mark.parametrize("channels", [16, 48, 64, 128])
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fold_steps(device, precision, carried, channels):
    config = replace(NARROW, residual_channels=channels, step_bias_in_residual=carried)
    assert checks.fold_steps(device, config, precision, (0.0, 7.3, 49.0)) < tolerance(precision)


@pytest.mark.parametrize(("variant", "precision"), [*((name, "fp32") for name in VARIANTS), ("mel", "fp16")])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_residual_block(device, precision, lengths, variant):
    config = replace(SMALL, residual_layers=10, dilation_cycle=9, **VARIANTS[variant])
    for layer in (0, 1, 5, 8):  # dilations 1, 2, 32, 256
        if config.padding == "zeros" or min(lengths) > config.dilations[layer]:
            assert checks.residual_block(device, config, precision, lengths, layer) < tolerance(precision)


@pytest.mark.parametrize("channels", [16, 48, 64, 80, 128, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_residual_block_of_all_widths(device, precision, channels):
    config = replace(SMALL, residual_channels=channels, residual_layers=3, dilation_cycle=3, n_mels=20)
    assert checks.residual_block(device, config, precision, (129, 70), 2) < tolerance(precision)


@pytest.mark.parametrize(("sigma", "given", "prior"), [(0.0, False, False), (0.3, False, True), (0.3, True, False)])
@pytest.mark.parametrize("channels", [16, 48, 64, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_output_head(device, precision, channels, sigma, given, prior):
    config = replace(SMALL_UNCONDITIONAL, residual_channels=channels, residual_layers=2, prior=prior)
    for lengths in LENGTHS:
        assert checks.output_head(device, config, precision, lengths, sigma, given) < tolerance(precision)


@pytest.mark.parametrize("begins", [(0, 4, 2**20), (2**34, 2**34 + 1020, 2**62)])
def test_noise_has_the_bits_of_its_definition(device, begins):
    net = checks.network(device, Config(residual_channels=16, residual_layers=1, n_mels=0, upsample_strides=()), "fp32")
    assert checks.initial_noise(device, net, (0, 2**64 - 1, 2**63 + 12345), begins, (1, 300, 1027))
