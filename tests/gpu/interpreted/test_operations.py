"""Every Triton kernel in Triton's interpreter, against the reference in float64."""

from dataclasses import replace

import pytest

from engine.config import Config
from tests.gpu import checks
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES

slow = pytest.mark.slow
PRECISIONS = ("fp32", "fp16")  # the interpreter computes tf32 as fp32
LENGTHS = ((1, 256, 257), (300, 7, 129))
FRAMES = ((1,), (3, 1, 2))
NARROW = replace(SMALL, residual_layers=2, dilation_cycle=2)
MELS = {
    "80 bands": NARROW,
    "79 bands": replace(NARROW, n_mels=79, upsample_strides=(4, 8)),
    "100 bands, three stages": replace(NARROW, n_mels=100, upsample_strides=(2, 2, 4)),
    "one stage": replace(NARROW, n_mels=33, upsample_strides=(16,)),
    "hop 300": replace(NARROW, n_mels=20, upsample_strides=(10, 30)),
    "hop 300, odd and even": replace(NARROW, n_mels=20, upsample_strides=(15, 20)),
    "hop 105, three odd stages": replace(NARROW, n_mels=20, upsample_strides=(3, 7, 5)),
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


def test_upsample_mel_with_an_upsampler_per_layer(device):
    config = replace(NARROW, shared_upsampler=False)
    for layer in range(2):
        assert checks.upsample_mel(device, config, "fp32", (2, 1), layer) < tolerance("fp32")


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


@pytest.mark.parametrize("channels", [pytest.param(16, marks=slow), 48, 64, pytest.param(128, marks=slow)])
@pytest.mark.parametrize("in_residual", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fold_steps(device, precision, in_residual, channels):
    config = replace(NARROW, residual_channels=channels, step_bias_in_residual=in_residual)
    assert checks.fold_steps(device, config, precision, (0.0, 7.3, 49.0)) < tolerance(precision)


@pytest.mark.parametrize(
    ("variant", "precision", "lengths"),
    [
        *((name, "fp32", LENGTHS[1]) for name in VARIANTS),
        *(("mel", "fp32", LENGTHS[0]), ("mel", "fp16", LENGTHS[1])),
        *(pytest.param(name, "fp32", LENGTHS[0], marks=slow) for name in ("no mel", "step bias in residual")),
        pytest.param("mel", "fp16", LENGTHS[0], marks=slow),
    ],
)
def test_residual_block(device, precision, lengths, variant):
    config = replace(SMALL, residual_layers=10, dilation_cycle=9, **VARIANTS[variant])
    for layer in (0, 1, 5, 8):  # dilations 1, 2, 32, 256
        if config.padding == "zeros" or min(lengths) > config.dilations[layer]:
            assert checks.residual_block(device, config, precision, lengths, layer) < tolerance(precision)


@pytest.mark.parametrize(
    ("precision", "channels"),
    [
        *(("fp32", channels) for channels in (16, 48, 64, 80)),
        *(("fp16", channels) for channels in (48, 128, 256)),
        *(pytest.param("fp32", channels, marks=slow) for channels in (128, 256)),
        *(pytest.param("fp16", channels, marks=slow) for channels in (16, 64, 80)),
    ],
)
def test_residual_block_of_every_width(device, precision, channels):
    config = replace(SMALL, residual_channels=channels, residual_layers=3, dilation_cycle=3, n_mels=20)
    assert checks.residual_block(device, config, precision, (129, 70), 2) < tolerance(precision)


@pytest.mark.parametrize(
    ("sigma", "read_noise", "prior"), [(0.0, False, False), (0.3, False, True), (0.3, True, False)]
)
@pytest.mark.parametrize(
    ("precision", "channels"),
    [
        *(("fp32", channels) for channels in (16, 48, 64)),
        *(("fp16", channels) for channels in (64, 256)),
        pytest.param("fp32", 256, marks=slow),
        *(pytest.param("fp16", channels, marks=slow) for channels in (16, 48)),
    ],
)
def test_output_head(device, precision, channels, sigma, read_noise, prior):
    config = replace(SMALL_UNCONDITIONAL, residual_channels=channels, residual_layers=2, prior=prior)
    for lengths in LENGTHS:
        assert checks.output_head(device, config, precision, lengths, sigma, read_noise) < tolerance(precision)


@pytest.mark.parametrize("begins", [(0, 4, 2**20), (2**34, 2**34 + 1020, 2**62)])
def test_noise_matches_its_definition_bit_for_bit(device, begins):
    net = checks.network(device, Config(residual_channels=16, residual_layers=1, n_mels=0, upsample_strides=()), "fp32")
    assert checks.initial_noise(device, net, (0, 2**64 - 1, 2**63 + 12345), begins, (1, 300, 1027))
