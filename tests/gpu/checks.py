"""Every GPU operation against the reference in float64, on whatever device runs it: one function an operation.

Each returns the relative error over a batch of unequal lengths. Inputs past an item's end are poison, and so is
every output before it is written: a kernel that reads what it should not gives NaN, and one that writes past an end
fails an assertion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from engine.config import Config
from engine.diffusion.embedding import sinusoids, step_biases
from engine.diffusion.noise import normal
from engine.kernels import reference
from engine.kernels.gpu import GRAIN, Buffers, GpuNetwork
from engine.sampling.gpu.windows import padded_length
from tests.support.networks import Arrays
from tests.support.targets import exact, weights
from tests.support.tolerances import relative_error

T = 4.3  # a step on the training scale


def network(device: Any, config: Config, precision: str) -> GpuNetwork:
    return GpuNetwork(config, weights(config), device, precision, getattr(device, "isa", None))


def buffers(device: Any, net: GpuNetwork, lengths: Sequence[int], given: bool = False) -> Buffers:
    made = net.buffers(len(lengths), padded_length(max(lengths) + 1, GRAIN), 1, given)
    device.fill(made.lengths, lengths)
    return made


def random(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(list(shape)).standard_normal(shape, np.float32))


def run(device: Any, launches: Any) -> None:
    for launch in launches if isinstance(launches, list) else [launches]:
        device.bind(launch)()


def fill_rows(device: Any, tensor: Any, lengths: Sequence[int]) -> list[torch.Tensor]:
    """Random rows up to every item's end, poison behind it; returns them as float64 [1,columns,L_i]."""
    rows = []
    for item, length in enumerate(lengths):
        device.fill(tensor[item, :length], random(length, tensor.shape[2]))
        rows.append(tensor[item, :length].cpu().double().T[None].clone())
    return rows


def worst(outputs: Any, expected: Sequence[torch.Tensor], lengths: Sequence[int]) -> float:
    """Outputs [B,L,columns] against [columns,L_i] each, which may have fewer columns."""
    found = []
    for rows, want, length in zip(outputs.cpu(), expected, lengths, strict=True):
        assert rows[length:].isnan().all(), "something was written past an item's end"
        found.append(rows[:length, : len(want)].double().T)
        assert found[-1].isfinite().all(), "something was read that was never written, or not written at all"
    return relative_error(torch.cat(found, dim=1), torch.cat(list(expected), dim=1))


def halves(rows: Any, config: Config) -> Any:
    """[..., 2 * padded] interleaved -> [..., 2C]: the gates, then the filters."""
    pairs = rows.unflatten(-1, (-1, 2))[..., : config.residual_channels, :]
    return pairs.transpose(-1, -2).flatten(-2)


def upsample_mel(device: Any, config: Config, precision: str, frames: Sequence[int], place: int = 0) -> float:
    net, lengths = network(device, config, precision), [n * config.hop for n in frames]
    to = buffers(device, net, lengths)
    expected = []
    for item, count in enumerate(frames):
        mel = random(config.n_mels, count)
        device.fill(to.mel[item, :, :count], mel)
        layer = None if config.shared_upsampler else place
        expected.append(reference.upsample_mel(mel[None].double(), exact(config), config.upsample_strides, layer)[0])
    run(device, net.upsample_mel(to, place))
    for item, length in enumerate(lengths):
        assert not to.stages[-1][item, :length, config.n_mels :].any(), "padded bands are not zero"
    return worst(to.stages[-1], expected, lengths)


def project_conditioner(device: Any, config: Config, precision: str, lengths: Sequence[int]) -> float:
    net = network(device, config, precision)
    to = buffers(device, net, lengths)
    mels = fill_rows(device, to.stages[-1], lengths)
    for item, length in enumerate(lengths):
        device.fill(to.stages[-1][item, :length, config.n_mels :], 0.0)
    run(device, net.project_conditioner(to, 0, config.residual_layers))
    errors = []
    for layer in range(config.residual_layers):
        weight = exact(config)[f"residual_layers.{layer}.conditioner_projection.weight"]
        zero = torch.zeros(len(weight), dtype=torch.float64)
        expected = [reference.project_conditioner(mel[:, : config.n_mels], weight, zero)[0] for mel in mels]
        errors.append(worst(halves(net.in_pairs(to.conditioner[layer]), config), expected, lengths))
    return max(errors)


def input_projection(device: Any, config: Config, precision: str, lengths: Sequence[int]) -> float:
    net, w = network(device, config, precision), exact(config)
    to = buffers(device, net, lengths)
    x = [row[:, 0] for row in fill_rows(device, to.x[..., None], lengths)]
    run(device, net.input_projection(to))
    entry = w["input_projection.weight"], w["input_projection.bias"]
    return worst(to.h[0], [reference.input_projection(row, *entry)[0] for row in x], lengths)


def fold_steps(device: Any, config: Config, precision: str, t: Sequence[float]) -> float:
    net, w = network(device, config, precision), weights(config)
    rows = device.empty((len(t), config.residual_layers, 7 * net.channels), "fp32")
    run(device, net.fold_steps(device.tensor(sinusoids(config, t), "fp32"), rows))
    d, C = step_biases(w, config, t), net.channels
    errors = []
    for step in range(len(t)):
        for layer in range(config.residual_layers):
            found = rows[step, layer].cpu()
            parts = [halves(found[2 * C * k : 2 * C * (k + 1)], config) for k in range(3)]
            expected = _step_rows(w, config, layer, d[step, layer])
            got = torch.cat([*parts, found[6 * C : 6 * C + config.residual_channels]])
            errors.append(relative_error(got, np.concatenate(expected)))
    return max(errors)


def _step_rows(w: Arrays, config: Config, layer: int, d: Any) -> list[Any]:
    """Full bias, W_0 d, W_2 d, residual bias, from their definition."""
    place = f"residual_layers.{layer}"
    taps = w[f"{place}.dilated_conv.weight"].astype(np.float64)
    bias = w[f"{place}.dilated_conv.bias"].astype(np.float64)
    if config.n_mels:
        bias = bias + w[f"{place}.conditioner_projection.bias"]
    residual = w[f"{place}.output_projection.bias"][: config.residual_channels]
    residual = residual + d if config.step_bias_in_residual else residual
    return [np.einsum("oik,i->o", taps, d) + bias, taps[:, :, 0] @ d, taps[:, :, 2] @ d, residual]


def residual_block(device: Any, config: Config, precision: str, lengths: Sequence[int], layer: int) -> float:
    net, w, place = network(device, config, precision), exact(config), f"residual_layers.{layer}"
    to, C, padded = buffers(device, net, lengths), config.residual_channels, net.channels
    run(device, net.fold_steps(device.tensor(sinusoids(config, (T,)), "fp32"), to.rows))
    h = fill_rows(device, to.h[layer % 2], lengths)
    skip = fill_rows(device, to.skip, lengths)
    conditioner: list[Any] = [None] * len(lengths)
    if config.n_mels:
        fill_rows(device, to.conditioner[layer], lengths)
        bias = w[f"{place}.conditioner_projection.bias"][:, None]
        pairs = net.in_pairs(to.conditioner[layer])
        rows = [pairs[item, :length].cpu().double() for item, length in enumerate(lengths)]
        conditioner = [halves(row, config).T[None] + bias for row in rows]
    for item, length in enumerate(lengths):  # padded channels are zero, and stay so
        device.fill(to.h[layer % 2][item, :length, C:], 0.0)
    run(device, net.residual_block(to, layer, 0))

    names = ("dilated_conv.weight", "dilated_conv.bias", "output_projection.weight", "output_projection.bias")
    d = torch.from_numpy(step_biases(weights(config), config, (T,))[0, layer])[None]
    following, total = [], []
    for item, mel in enumerate(conditioner):
        arguments = (mel, d, *(w[f"{place}.{name}"] for name in names), config.dilations[layer])
        variant = config.padding, config.step_bias_in_residual
        made, own = reference.residual_block(h[item][:, :C], *arguments, *variant)
        before = skip[item][:, :C] if layer else 0.0
        following.append(made[0])
        total.append((before + own - w[f"{place}.output_projection.bias"][C:, None])[0])
    if padded > C:
        for item, length in enumerate(lengths):
            assert not to.h[(layer + 1) % 2][item, :length, C:].any(), "padded channels are not zero"
    return max(worst(to.h[(layer + 1) % 2], following, lengths), worst(to.skip, total, lengths))


def output_head(
    device: Any, config: Config, precision: str, lengths: Sequence[int], sigma: float = 0.3, given: bool = False
) -> float:
    net, w = network(device, config, precision), exact(config)
    to, C, begins = buffers(device, net, lengths, given), config.residual_channels, [4 * n for n in range(len(lengths))]
    seeds = [2**63 - 1 - n for n in range(len(lengths))]
    a, b, limit, number = 1.1, -0.7, 1.5, 3
    device.fill(to.terms, [[a, b, sigma, limit]])
    device.fill(to.noise_steps, [[number] * 4])
    device.fill(to.seeds, seeds)
    device.fill(to.begins, begins)
    skip = fill_rows(device, to.skip, lengths)
    for item, length in enumerate(lengths):
        device.fill(to.skip[item, :length, C:], 0.0)
    x = [row[:, 0] for row in fill_rows(device, to.x[..., None], lengths)]
    z = [torch.from_numpy(normal(seed, number, at, n)) for seed, at, n in zip(seeds, begins, lengths, strict=True)]
    if given:
        z = [row[0, 0] for row in fill_rows(device, to.given[0][..., None], lengths)]
    scale = [torch.ones(n) for n in lengths]
    if config.prior:
        scale = [row[0, 0] for row in fill_rows(device, to.scale[..., None], lengths)]
    run(device, net.output_head(to, 0))

    biases = [w[f"residual_layers.{i}.output_projection.bias"][C:] for i in range(config.residual_layers)]
    names = ("skip_projection.weight", "skip_projection.bias", "output_projection.weight", "output_projection.bias")
    expected = []
    for item, row in enumerate(skip):
        total = row[:, :C] + sum(biases)[None, :, None]
        eps = reference.output_head(total, *(w[name] for name in names), config.residual_layers)
        noise = None if sigma == 0.0 else (z[item] * scale[item]).double()[None]
        updated = reference.noise_update(x[item], eps, a, b, sigma, noise, clamp=False)
        expected.append(updated.clamp(-limit, limit))
    return worst(to.x[..., None], expected, lengths)


def initial_noise(
    device: Any, net: GpuNetwork, seeds: Sequence[int], begins: Sequence[int], lengths: Sequence[int]
) -> bool:
    """Whether x_T has the very bits of `engine.diffusion.noise`."""
    x = device.empty((len(lengths), padded_length(max(lengths) + 1, GRAIN)), "fp32")
    signed = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
    vectors = device.tensor(signed, "i64"), device.tensor(begins, "i64"), device.tensor(lengths, "i32")
    run(device, net.initial_noise(x, *vectors))
    same = True
    for row, seed, begin, length in zip(x.cpu(), seeds, begins, lengths, strict=True):
        assert row[length:].isnan().all(), "something was written past an item's end"
        same = same and row[:length].numpy().tobytes() == normal(seed, 0, begin, length).tobytes()
    return same
