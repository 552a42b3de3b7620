"""Every operation on every tier against the reference in float64, and argument checks of the native module."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from threading import Thread
from unittest import mock

import numpy as np
import pytest
import torch

from engine.config import Config
from engine.kernels import _native, cpu, reference
from tests.support.networks import SMALL
from tests.support.running import run
from tests.support.targets import exact, float64, network, packed, targets, weights
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TARGETS = targets(arm=True)
LENGTHS = (1, 2, 5, 11, 12, 13, 95, 97, 200)
# 64 and 128 have specialized code. The others that are no multiples of 16 are padded with zeros.
CHANNELS = (16, 32, 48, 64, 80, 128, 8, 20, 72)
# All dilations up to 256, more than the longest of the lengths.
WIDE = replace(SMALL, residual_layers=9, dilation_cycle=9)
MELS = {
    "80 bands": SMALL,
    "79 bands": replace(SMALL, n_mels=79, upsample_strides=(4, 8)),
    "100 bands": replace(SMALL, n_mels=100, upsample_strides=(2, 2, 4)),
    "one stage": replace(SMALL, n_mels=33, upsample_strides=(16,)),
    "an upsampler per layer": replace(SMALL, n_mels=17, upsample_strides=(4, 2), shared_upsampler=False),
    "hop 300": replace(SMALL, n_mels=20, upsample_strides=(15, 20)),
    "hop 275": replace(SMALL, n_mels=17, upsample_strides=(11, 25)),
    "three odd stages": replace(SMALL, n_mels=9, upsample_strides=(3, 7, 5), shared_upsampler=False),
}
# Variants of the residual layer in the public families.
VARIANTS = {
    "mel": {},
    "no mel": {"n_mels": 0, "upsample_strides": ()},
    "reflect": {"padding": "reflect"},
    "step bias in residual": {"step_bias_in_residual": True},
    "reflect, no mel, step bias in residual": {
        "n_mels": 0,
        "upsample_strides": (),
        "padding": "reflect",
        "step_bias_in_residual": True,
    },
}


def generator(*seed: int):
    return np.random.default_rng(seed)


def random(rng, *shape):
    return rng.standard_normal(shape, np.float32)


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_upsample_mel(isa, precision, name):
    config = MELS[name]
    for frames, layer in itertools.product((1, 2, 7), (0, 8)):
        mel = random(generator(frames), config.n_mels, frames)
        got = network(config, isa, precision).upsample_mel(mel, layer)
        upsampler_layer = None if config.shared_upsampler else layer
        expected = reference.upsample_mel(float64(mel), exact(config), config.upsample_strides, upsampler_layer)[0]
        assert relative_error(got, expected) < TOLERANCES[f"operation_{precision}"], f"{frames} frames"


@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_upsample_mel_with_any_strides(isa, precision):
    net, mel = network(SMALL, isa, precision), random(generator(0), 80, 6)
    expected = net.upsample_mel(mel)
    wide, backwards = np.zeros((160, 12), np.float32), np.ascontiguousarray(mel[::-1, ::-1])
    wide[::2, ::2] = mel
    for view in (np.asfortranarray(mel), wide[::2, ::2], backwards[::-1, ::-1]):
        np.testing.assert_array_equal(net.upsample_mel(view), expected)


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_project_conditioner_adds_the_bias_of_the_dilated_convolution(isa, precision, channels, name):
    config = replace(MELS[name], residual_channels=channels)
    for layer, length in zip(itertools.cycle((0, 5, 8)), LENGTHS, strict=False):
        mel_up = random(generator(length), config.n_mels, length)
        key, tensors = f"residual_layers.{layer}", exact(config)
        expected = reference.project_conditioner(
            float64(mel_up),
            tensors[f"{key}.conditioner_projection.weight"],
            tensors[f"{key}.conditioner_projection.bias"] + tensors[f"{key}.dilated_conv.bias"],
        )
        got = network(config, isa, precision).project_conditioner(layer, mel_up)
        assert relative_error(got, expected[0]) < TOLERANCES[f"operation_{precision}"], f"{length} samples"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_input_projection(isa, precision, channels):
    config = replace(SMALL, residual_channels=channels)
    tensors = exact(config)
    for length in LENGTHS:
        x = random(generator(length), length)
        got = network(config, isa, precision).input_projection(x)
        expected = reference.input_projection(
            float64(x), tensors["input_projection.weight"], tensors["input_projection.bias"]
        )
        assert relative_error(got, expected[0]) < TOLERANCES[f"operation_{precision}"], f"{length} samples"


def expected_block(config, layer, h, conditioner, d, skip):
    """Compute the result of `CpuNetwork.residual_block`, which adds the skip biases of all layers in layer 0."""
    tensors, key = exact(config), f"residual_layers.{layer}"
    bias = tensors[f"{key}.dilated_conv.bias"]
    skip_biases = torch.stack(
        [
            tensors[f"residual_layers.{i}.output_projection.bias"][config.residual_channels :]
            for i in range(config.residual_layers)
        ]
    )
    h_next, layer_skip = reference.residual_block(
        float64(h),
        float64(conditioner),
        float64(d),
        tensors[f"{key}.dilated_conv.weight"],
        bias if conditioner is None else torch.zeros_like(bias),
        tensors[f"{key}.output_projection.weight"],
        tensors[f"{key}.output_projection.bias"],
        config.dilations[layer],
        config.padding,
        config.step_bias_in_residual,
    )
    start = skip_biases.sum(0)[:, None] if layer == 0 else torch.tensor(skip).double()
    return h_next[0], start + layer_skip[0] - skip_biases[layer][:, None]


@cache
def block_cases(config: Config):
    """Return inputs and exact outputs of all layers at all lengths."""
    cases = []
    for length, layer in itertools.product(LENGTHS, range(config.residual_layers)):
        if config.padding == "reflect" and length <= config.dilations[layer]:
            continue
        rng, C = generator(length, layer), config.residual_channels
        conditioner = random(rng, 2 * C, length) if config.n_mels else None
        inputs = (random(rng, C, length), conditioner, random(rng, C), random(rng, C, length))
        cases.append((length, layer, inputs, expected_block(config, layer, *inputs)))
    return cases


@pytest.mark.parametrize(
    ("channels", "variant"),
    [
        *itertools.product(CHANNELS, ("mel", "no mel")),
        *itertools.product((32, 64), ("reflect", "step bias in residual")),
        (128, "reflect, no mel, step bias in residual"),
    ],
)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_residual_block(isa, precision, channels, variant):
    config = replace(WIDE, residual_channels=channels, **VARIANTS[variant])
    tolerance = TOLERANCES[f"operation_{precision}"]
    for length, layer, inputs, (expected_h, expected_skip) in block_cases(config):
        before = [None if array is None else array.copy() for array in inputs]
        h, skip = network(config, isa, precision).residual_block(layer, *inputs)
        where = f"{length} samples, dilation {config.dilations[layer]}"
        assert relative_error(h, expected_h) < tolerance, where
        assert relative_error(skip, expected_skip) < tolerance, where
        for array, copy in zip(inputs, before, strict=True):
            assert array is None or np.array_equal(array, copy), "an input was written to"


@pytest.mark.parametrize(("isa", "precision"), targets("fp32", "bf16", "int8"))
def test_padded_channels_are_zero_wherever_they_are_used(isa, precision):
    """Weights other than zero on the padded channels, at the inputs of every product, change no bit."""
    config = replace(WIDE, residual_channels=20)
    plain = packed(config, isa, precision)
    reading, leaking = (_packed_with(change, config, isa, precision) for change in (_read_padding, _leak_into_padding))
    rng, C = generator(20), config.residual_channels
    mel, x, skip = random(rng, config.n_mels, 2), random(rng, 97), random(rng, C, 97)
    np.testing.assert_array_equal(plain.output_head(skip), reading.output_head(skip))
    for layer in range(config.residual_layers):
        conditioner = plain.project_conditioner(layer, plain.upsample_mel(mel))[:, :97]
        inputs = plain.input_projection(x), np.ascontiguousarray(conditioner), random(rng, C), skip
        expected = plain.residual_block(layer, *inputs)
        for rows, original, control in zip(
            reading.residual_block(layer, *inputs), expected, leaking.residual_block(layer, *inputs), strict=True
        ):
            np.testing.assert_array_equal(rows, original)
            assert not np.array_equal(control, original), "a gate that is not zero goes unnoticed"


def _packed_with(change, config, isa, precision):
    """Pack a network whose padded weights are changed."""
    make = cpu._arrays

    def changed(config, tensors, channels):
        arrays = make(config, tensors, channels)
        change(arrays, config.residual_channels, channels)
        return arrays

    with mock.patch.object(cpu, "_arrays", changed):
        return packed(config, isa, precision)


def _read_padding(arrays, C, channels):
    """Give padded channels, as inputs of real channels, the weights of the first channels."""
    for name, axis in (("dilated_weight", 2), ("projection_weight", 2), ("skip_weight", 1)):
        weights = np.moveaxis(arrays[name], axis, 0)
        weights[C:] = weights[: channels - C]


def _leak_into_padding(arrays, C, channels):
    """Read padded channels, and make their gates other than zero."""
    _read_padding(arrays, C, channels)
    arrays["dilated_weight"][:, C:channels] = arrays["dilated_weight"][:, channels + C :] = 0.05


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_the_step_bias_is_added_before_the_padding(isa, precision, variant):
    """If h = -d, the convolution reads only zeros, inside and outside. All rows are then equal bit for bit."""
    config = replace(WIDE, **VARIANTS[variant])
    for layer, length in itertools.product(range(config.residual_layers), (1, 5, 97, 200)):
        if config.padding == "reflect" and length <= config.dilations[layer]:
            continue
        rng, C, ones = generator(layer), config.residual_channels, np.ones(length, np.float32)
        d = 3.0 * random(rng, C)
        conditioner = np.outer(random(rng, 2 * C), ones) if config.n_mels else None
        skip = np.outer(random(rng, C), ones)
        for rows in network(config, isa, precision).residual_block(layer, np.outer(-d, ones), conditioner, d, skip):
            np.testing.assert_array_equal(rows, np.broadcast_to(rows[:, length // 2, None], rows.shape))


@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_saturated_gates_match_the_reference(isa, precision):
    rng, C = generator(0), WIDE.residual_channels
    for size in (1e2, 1e4, 1e30):
        h, d, skip = random(rng, C, 40), random(rng, C), random(rng, C, 40)
        conditioner = size * random(rng, 2 * C, 40)
        got = network(WIDE, isa, precision).residual_block(3, h, conditioner, d, skip)
        for values, expected in zip(got, expected_block(WIDE, 3, h, conditioner, d, skip), strict=True):
            assert relative_error(values, expected) < TOLERANCES[f"operation_{precision}"], f"size {size}"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("isa", "precision"), TARGETS)
def test_output_head(isa, precision, channels):
    config = replace(SMALL, residual_channels=channels)
    net, tensors = network(config, isa, precision), exact(config)
    skip = 3.0 * random(generator(channels), channels, LENGTHS[-1])
    expected = reference.output_head(
        float64(skip),
        tensors["skip_projection.weight"],
        tensors["skip_projection.bias"],
        tensors["output_projection.weight"],
        tensors["output_projection.bias"],
        config.residual_layers,
    )
    eps = net.output_head(skip)
    # The head is float32 in every precision.
    assert relative_error(eps, expected[0]) < TOLERANCES["operation_fp32"]
    for length in LENGTHS:
        np.testing.assert_array_equal(net.output_head(skip[:, :length]), eps[:length])


# Argument checks


def zeros(*shape):
    return np.zeros(shape, np.float32)


def run_tile(net, bind=None, advance=None, **sweep):
    """Prepare, bind and advance a sweep over 3 frames, with these arguments instead of valid ones."""
    prepared = net.sweep(
        **{
            "d": zeros(2, 9, 32),
            "coefficients": zeros(2, 3) + 1,
            "clamp": True,
            "threads": 1,
            "length": 3 * net.config.hop,
            **sweep,
        }
    )
    prepared.bind(**{"x": zeros(768), "mel": zeros(80, 3), **(bind or {})})
    prepared.advance(**{"step": 0, "begin": 0, "rows": 96, **(advance or {})})
    return prepared


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"length": 0}, ValueError, "length: expected at least one"),
        ({"d": zeros(2, 9, 16)}, ValueError, "d: expected shape"),
        ({"d": zeros(1, 9, 32)}, ValueError, "d: expected shape"),
        ({"d": zeros(9, 32)}, ValueError, "d: expected shape"),
        ({"coefficients": zeros(2, 2)}, ValueError, "coefficients: expected shape"),
        ({"coefficients": zeros(0, 3), "d": zeros(0, 9, 32)}, ValueError, "expected at least one step"),
        ({"threads": 0, "rows": 12}, ValueError, "threads"),
        ({"threads": 1025, "rows": 12}, ValueError, "threads"),
        ({"rows": 100}, ValueError, "rows a multiple of 12"),
        ({"rows": -12}, ValueError, "rows"),
        ({"seed": -1}, TypeError, "incompatible"),
        ({"bind": {"x": zeros(1, 768)}}, ValueError, "x: expected shape"),
        ({"bind": {"x": zeros(1536)[::2]}}, TypeError, "incompatible"),
        ({"bind": {"x": np.zeros(768)}}, TypeError, "incompatible"),
        ({"bind": {"mel": zeros(79, 3)}}, ValueError, r"mel: expected shape \[80, frames\], got \[79, 3\]"),
        ({"bind": {"mel": zeros(80)}}, ValueError, r"mel: expected shape \[80, frames\]"),
        ({"bind": {"mel": None}}, ValueError, "mel: expected a float32 array"),
        ({"bind": {"mel": np.zeros((80, 3))}}, ValueError, "mel: expected a float32 array"),
        ({"bind": {"noise": zeros(1, 768)}}, ValueError, "noise: expected shape"),
        ({"bind": {"noise": zeros(2, 767)}}, ValueError, "noise: expected shape"),
        ({"bind": {"noise": zeros(768)}}, ValueError, "noise: expected shape"),
        ({"bind": {"noise": np.zeros((2, 768))}}, ValueError, "noise: expected contiguous float32"),
        ({"bind": {"scale": zeros(1, 768)}}, ValueError, "scale: expected shape"),
        ({"bind": {"scale": np.zeros(768)}}, ValueError, "scale: expected contiguous float32"),
        ({"bind": {"origin": -1}}, ValueError, "origins >= 0"),
        ({"bind": {"repeat": 0}}, ValueError, "repeat >= 1"),
        # The windows must hold what a tile needs: samples 0 .. 95 of x and scale, frame 0 of the mel.
        ({"bind": {"x": zeros(95)}}, ValueError, "x: expected a window"),
        ({"bind": {"origin": 1}}, ValueError, "x: expected a window"),
        ({"bind": {"scale": zeros(95)}}, ValueError, "scale: expected a window"),
        ({"bind": {"scale": zeros(768), "scale_origin": 1}}, ValueError, "scale: expected a window"),
        ({"bind": {"scale": zeros(3), "repeat": 31}}, ValueError, "scale: expected a window"),
        ({"bind": {"mel": zeros(80, 0)}}, ValueError, "mel: expected a window"),
        ({"bind": {"first_frame": 1}}, ValueError, "mel: expected a window"),
        ({"bind": {"mel": zeros(80, 1)}, "advance": {"rows": 132}}, ValueError, "mel: expected a window"),
        ({"advance": {"step": -1}}, IndexError, "step"),
        ({"advance": {"step": 2}}, IndexError, "step"),
        ({"advance": {"rows": 0}}, ValueError, "rows"),
        ({"advance": {"rows": 13}}, ValueError, "rows"),
        ({"advance": {"rows": 96 * 96}}, ValueError, "rows"),
        ({"advance": {"begin": 12}}, ValueError, "begin: expected tiles in order"),
        ({"advance": {"begin": -96}}, ValueError, "begin: expected tiles in order"),
    ],
)
@pytest.mark.parametrize(("isa", "precision"), targets())
def test_a_sweep_checks_its_arguments(isa, precision, changes, error, message):
    net = network(SMALL, isa, precision)
    with pytest.raises(error, match=message):
        run_tile(net, **changes)
    run_tile(net, bind={"scale": zeros(4), "repeat": 31, "mel": zeros(80, 1)}, advance={"rows": 120})


@pytest.mark.parametrize(("name", "error"), [("conditioner", ValueError), ("h", TypeError), ("skip", TypeError)])
@pytest.mark.parametrize("other", [np.asfortranarray, lambda array: array.astype(np.float64)])
def test_a_block_does_not_accept_arrays_that_need_a_copy(name, error, other):
    """pybind11 would free a converted copy of an input before it is read, and discard a copy of an output."""
    net = network(SMALL, "generic", "fp32")
    arrays = {"conditioner": zeros(5, 64), "h": zeros(5, 32), "skip": zeros(5, 32)}
    net._native.residual_block(0, arrays["conditioner"], zeros(32), arrays["h"], arrays["skip"])
    arrays[name] = other(arrays[name])
    with pytest.raises(error, match=f"{name}: expected contiguous float32|incompatible"):
        net._native.residual_block(0, arrays["conditioner"], zeros(32), arrays["h"], arrays["skip"])


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_a_sweep_ends_once_and_not_before_its_tiles(isa, precision):
    net = network(SMALL, isa, precision)
    sweep = run_tile(net, length=None)
    for begin in (0, 48, 192):
        with pytest.raises(ValueError, match="begin: expected tiles in order"):
            sweep.advance(0, begin, 96)
    for length in (0, 95):
        with pytest.raises(ValueError, match="length"):
            sweep.end(length)
    sweep.end(256)
    with pytest.raises(ValueError, match="length"):
        sweep.end(256)
    unbound = net.sweep(zeros(1, 9, 32), zeros(1, 3), clamp=True, threads=1)
    with pytest.raises(ValueError, match="advance: expected a bound window, got none; call bind first"):
        unbound.advance(0, 0, 12)


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_operations_check_their_arguments(isa, precision):
    net = network(SMALL, isa, precision)
    good = {"h": zeros(32, 5), "conditioner": zeros(64, 5), "d": zeros(32), "skip": zeros(32, 5)}
    for name, bad in (
        ("h", zeros(16, 5)),
        ("conditioner", None),
        ("conditioner", zeros(32, 5)),
        ("conditioner", zeros(64, 4)),
        ("d", zeros(16)),
        ("d", zeros(1, 32)),
        ("skip", zeros(32, 4)),
    ):
        with pytest.raises(ValueError, match=name):
            net.residual_block(1, **{**good, name: bad})
    for layer in (-1, 9):
        with pytest.raises(IndexError, match="layer"):
            net.residual_block(layer, **good)
        with pytest.raises(IndexError, match="layer"):
            net.project_conditioner(layer, zeros(80, 5))
    for call in (net.upsample_mel, lambda mel: net.project_conditioner(0, mel)):
        with pytest.raises(ValueError, match="mel"):
            call(zeros(79, 5))
    with pytest.raises(ValueError, match="skip: expected shape"):
        net.output_head(zeros(16, 5))


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_reflection_requires_more_samples_than_the_dilation(isa, precision):
    net = network(replace(WIDE, n_mels=0, upsample_strides=(), padding="reflect"), isa, precision)
    terms = {"d": zeros(1, 9, 32), "coefficients": zeros(1, 3), "clamp": True, "threads": 1}
    for length in (1, 256):
        with pytest.raises(ValueError, match="length: expected more samples than the reflected padding"):
            net.sweep(length=length, **terms)
        with pytest.raises(ValueError, match="length: expected more samples than the reflected padding"):
            net.sweep(**terms).end(length)
        with pytest.raises(ValueError, match="h: expected more samples than the reflected padding"):
            net.residual_block(8, zeros(32, length), None, zeros(32), zeros(32, length))
    net.sweep(length=257, **terms)
    net.sweep(**terms).end(257)


def test_a_network_checks_its_arrays():
    def build(arrays, layers=9):
        return _native.Network_fp32("generic", arrays, [1] * layers, [16, 16], 80, False, False)

    with pytest.raises(ValueError, match=r"isa: expected a tier .*, got 'sse9'"):
        cpu.CpuNetwork(SMALL, weights(SMALL), "sse9", "fp32")
    with pytest.raises(ValueError, match="precision: expected one that tier 'generic' has, got bf16"):
        cpu.CpuNetwork(SMALL, weights(SMALL), "generic", "bf16")
    arrays = cpu._arrays(SMALL, weights(SMALL), SMALL.residual_channels)
    build(arrays)
    for name, array in arrays.items():
        with pytest.raises(ValueError, match=f"{name}: |input_weight: "):
            build({**arrays, name: zeros(*array.shape, 3)})
        with pytest.raises(KeyError, match=name):
            build({key: value for key, value in arrays.items() if key != name})
    with pytest.raises(ValueError, match="dilated_weight: expected shape"):
        build(arrays, layers=8)
    with pytest.raises(ValueError, match="multiple of 16"):
        build({**arrays, "input_weight": zeros(24)})


def test_a_sweep_rejects_a_second_call_at_once():
    length, steps = 60000, 2
    net = network(replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None), "generic", "fp32")
    layers, channels = net.config.residual_layers, net.config.residual_channels
    coefficients = np.tile(np.float32([1.0, -0.1, 0.0]), (steps, 1))
    noise = np.random.default_rng(0).standard_normal(length, np.float32)

    def prepared():
        d = np.zeros((steps, layers, channels), np.float32)
        sweep, x = net.sweep(d, coefficients, clamp=False, threads=1, length=length), noise.copy()
        sweep.bind(x=x)
        return sweep, x

    expected = prepared()
    run(expected[0], steps, length, net.config)
    sweep, x = prepared()
    rejected = []
    thread = Thread(target=run, args=(sweep, steps, length, net.config))
    thread.start()
    while thread.is_alive() and not rejected:
        try:
            sweep.end(length)
        except RuntimeError as error:
            rejected.append(str(error))
        except ValueError:
            pass  # the length is known
    thread.join()
    assert rejected == ["sweep: expected calls from one thread at a time, got two calls at once"]
    np.testing.assert_array_equal(x, expected[1])
