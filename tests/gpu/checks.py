"""Checks of every GPU operation against the reference in float64, on any device: one function per operation.

Each check returns the relative error over a batch of unequal lengths. Inputs past an item's end are poisoned, and so
are all outputs before they are written: a kernel that reads them gives NaN, and one that writes past an end fails an
assertion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from engine.config import Config
from engine.diffusion.embedding import sinusoids, step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import Schedule
from engine.kernels import reference
from engine.kernels.gpu import Buffers, GpuNetwork
from engine.kernels.launch import GRAIN
from engine.sampling.gpu.windows import padded_length
from engine.sampling.item import Item
from tests.support.networks import Arrays
from tests.support.targets import exact, weights
from tests.support.tolerances import relative_error

T = 4.3  # a step on the training scale


def network(device: Any, config: Config, precision: str) -> GpuNetwork:
    """Pack a network with random weights for a device."""
    return GpuNetwork(config, weights(config), device, precision, getattr(device, "isa", None))


def allocate(device: Any, net: GpuNetwork, lengths: Sequence[int], noise: bool = False) -> Buffers:
    """Allocate the buffers of a plan of one step for items of these lengths."""
    buffers = net.buffers(len(lengths), padded_length(max(lengths) + 1, GRAIN), 1, noise)
    device.fill(buffers.lengths, lengths)
    return buffers


def random(*shape: int) -> torch.Tensor:
    """Return random normal values that depend on the shape alone."""
    return torch.from_numpy(np.random.default_rng(list(shape)).standard_normal(shape, np.float32))


def run(device: Any, launches: Any) -> None:
    """Run a launch or a list of launches."""
    for launch in launches if isinstance(launches, list) else [launches]:
        device.bind(launch)()


def fill_rows(device: Any, tensor: Any, lengths: Sequence[int]) -> list[torch.Tensor]:
    """Fill every item with random rows up to its end. Return the rows as float64 [1,columns,L_i]."""
    rows = []
    for item, length in enumerate(lengths):
        device.fill(tensor[item, :length], random(length, tensor.shape[2]))
        rows.append(tensor[item, :length].cpu().double().T[None].clone())
    return rows


def worst_error(outputs: Any, expected: Sequence[torch.Tensor], lengths: Sequence[int]) -> float:
    """Compare outputs [B,L,columns] with expected [columns,L_i] per item; extra output columns are ignored."""
    actual = []
    for rows, item, length in zip(outputs.cpu(), expected, lengths, strict=True):
        assert rows[length:].isnan().all(), "something was written past an item's end"
        actual.append(rows[:length, : len(item)].double().T)
        assert actual[-1].isfinite().all(), "a value is missing, or unwritten memory was read"
    return relative_error(torch.cat(actual, dim=1), torch.cat(list(expected), dim=1))


def halves(rows: Any, config: Config) -> Any:
    """Convert interleaved [..., 2 * padded] to [..., 2C]: the gates, then the filters."""
    pairs = rows.unflatten(-1, (-1, 2))[..., : config.residual_channels, :]
    return pairs.transpose(-1, -2).flatten(-2)


def upsample_mel(device: Any, config: Config, precision: str, frames: Sequence[int], upsampler: int = 0) -> float:
    """Check `upsample_mel` on mels of these numbers of frames."""
    net, lengths = network(device, config, precision), [n * config.hop for n in frames]
    buffers = allocate(device, net, lengths)
    expected = []
    for item, count in enumerate(frames):
        mel = random(config.n_mels, count)
        device.fill(buffers.mel[item, :, :count], mel)
        layer = None if config.shared_upsampler else upsampler
        expected.append(reference.upsample_mel(mel[None].double(), exact(config), config.upsample_strides, layer)[0])
    run(device, net.upsample_mel(buffers, upsampler))
    for item, length in enumerate(lengths):
        assert not buffers.stages[-1][item, :length, config.n_mels :].any(), "padded bands are not zero"
    return worst_error(buffers.stages[-1], expected, lengths)


def project_conditioner(device: Any, config: Config, precision: str, lengths: Sequence[int]) -> float:
    """Check `project_conditioner` of all layers."""
    net = network(device, config, precision)
    buffers = allocate(device, net, lengths)
    mels = fill_rows(device, buffers.stages[-1], lengths)
    for item, length in enumerate(lengths):
        device.fill(buffers.stages[-1][item, :length, config.n_mels :], 0.0)
    run(device, net.project_conditioner(buffers, 0, config.residual_layers))
    errors = []
    for layer in range(config.residual_layers):
        weight = exact(config)[f"residual_layers.{layer}.conditioner_projection.weight"]
        zero = torch.zeros(len(weight), dtype=torch.float64)
        expected = [reference.project_conditioner(mel[:, : config.n_mels], weight, zero)[0] for mel in mels]
        errors.append(worst_error(halves(buffers.conditioner[layer], config), expected, lengths))
    return max(errors)


def input_projection(device: Any, config: Config, precision: str, lengths: Sequence[int]) -> float:
    """Check `input_projection`."""
    net, w = network(device, config, precision), exact(config)
    buffers = allocate(device, net, lengths)
    x = [row[:, 0] for row in fill_rows(device, buffers.x[..., None], lengths)]
    run(device, net.input_projection(buffers))
    entry = w["input_projection.weight"], w["input_projection.bias"]
    return worst_error(buffers.h[0], [reference.input_projection(row, *entry)[0] for row in x], lengths)


def fold_steps(device: Any, config: Config, precision: str, t: Sequence[float]) -> float:
    """Check `fold_steps` at these steps of the training scale."""
    net, w = network(device, config, precision), weights(config)
    rows = device.empty((len(t), config.residual_layers, 7 * net.channels), "fp32")
    run(device, net.fold_steps(device.tensor(sinusoids(config, t), "fp32"), rows))
    d, C = step_biases(w, config, t), net.channels
    errors = []
    for step in range(len(t)):
        for layer in range(config.residual_layers):
            row = rows[step, layer].cpu()
            parts = [halves(row[2 * C * k : 2 * C * (k + 1)], config) for k in range(3)]
            expected = _step_rows(w, config, layer, d[step, layer])
            actual = torch.cat([*parts, row[6 * C : 6 * C + config.residual_channels]])
            errors.append(relative_error(actual, np.concatenate(expected)))
    return max(errors)


def _step_rows(w: Arrays, config: Config, layer: int, d: Any) -> list[Any]:
    """Compute full bias, W_0 d, W_2 d and residual bias from their definition."""
    prefix = f"residual_layers.{layer}"
    taps = w[f"{prefix}.dilated_conv.weight"].astype(np.float64)
    bias = w[f"{prefix}.dilated_conv.bias"].astype(np.float64)
    if config.n_mels:
        bias = bias + w[f"{prefix}.conditioner_projection.bias"]
    residual = w[f"{prefix}.output_projection.bias"][: config.residual_channels]
    residual = residual + d if config.step_bias_in_residual else residual
    return [np.einsum("oik,i->o", taps, d) + bias, taps[:, :, 0] @ d, taps[:, :, 2] @ d, residual]


def residual_block(device: Any, config: Config, precision: str, lengths: Sequence[int], layer: int) -> float:
    """Check `residual_block` of one layer."""
    net, w, prefix = network(device, config, precision), exact(config), f"residual_layers.{layer}"
    buffers, C, padded = allocate(device, net, lengths), config.residual_channels, net.channels
    run(device, net.fold_steps(device.tensor(sinusoids(config, (T,)), "fp32"), buffers.biases))
    h = fill_rows(device, buffers.h[layer % 2], lengths)
    skip = fill_rows(device, buffers.skip, lengths)
    conditioner: list[Any] = [None] * len(lengths)
    if config.n_mels:
        fill_rows(device, buffers.conditioner[layer], lengths)
        bias = w[f"{prefix}.conditioner_projection.bias"][:, None]
        rows = [buffers.conditioner[layer][item, :length].cpu().double() for item, length in enumerate(lengths)]
        conditioner = [halves(row, config).T[None] + bias for row in rows]
    for item, length in enumerate(lengths):  # padded channels are zero, and must stay zero
        device.fill(buffers.h[layer % 2][item, :length, C:], 0.0)
    run(device, net.residual_block(buffers, layer, 0))

    names = ("dilated_conv.weight", "dilated_conv.bias", "output_projection.weight", "output_projection.bias")
    d = torch.from_numpy(step_biases(weights(config), config, (T,))[0, layer])[None]
    expected_h, expected_skip = [], []
    for item, mel in enumerate(conditioner):
        arguments = (mel, d, *(w[f"{prefix}.{name}"] for name in names), config.dilations[layer])
        variant = config.padding, config.step_bias_in_residual
        h_next, layer_skip = reference.residual_block(h[item][:, :C], *arguments, *variant)
        before = skip[item][:, :C] if layer else 0.0
        expected_h.append(h_next[0])
        expected_skip.append((before + layer_skip - w[f"{prefix}.output_projection.bias"][C:, None])[0])
    h_next = buffers.h[(layer + 1) % 2]
    if padded > C:
        for item, length in enumerate(lengths):
            assert not h_next[item, :length, C:].any(), "padded channels are not zero"
    return max(worst_error(h_next, expected_h, lengths), worst_error(buffers.skip, expected_skip, lengths))


def residual_stack(
    device: Any, config: Config, precision: str, lengths: Sequence[int], groups: slice, pairs: bool = False
) -> float:
    """Check `residual_stack` of these groups of layers, one launch after the other, for isa "sm_90a"."""
    net, w = network(device, config, precision), exact(config)
    net.pairs = pairs
    buffers, C, bands = allocate(device, net, lengths), config.residual_channels, config.n_mels
    run(device, net.fold_steps(device.tensor(sinusoids(config, (T,)), "fp32"), buffers.biases))
    chosen = list(range(len(net.groups)))[groups]
    before, after = chosen[0] % 2, (chosen[-1] + 1) % 2
    h = [row[:, :C] for row in fill_rows(device, buffers.h[before], lengths)]
    skip = fill_rows(device, buffers.skip, lengths)
    mels: list[Any] = [None] * len(lengths)
    if bands:
        mels = [row[:, :bands] for row in fill_rows(device, buffers.stages[-1], lengths)]
    for item, length in enumerate(lengths):  # padding is zero, and must stay zero
        device.fill(buffers.h[before][item, :length, C:], 0.0)
        if bands:
            device.fill(buffers.stages[-1][item, :length, bands:], 0.0)
    for group in chosen:
        run(device, net.residual_stack(buffers, group, 0))

    totals = [row[0, :C] if chosen[0] else torch.zeros_like(row[0, :C]) for row in skip]
    for layer in range(net.groups[chosen[0]].first, net.groups[chosen[-1]].first + net.groups[chosen[-1]].layers):
        prefix = f"residual_layers.{layer}"
        names = ("dilated_conv.weight", "dilated_conv.bias", "output_projection.weight", "output_projection.bias")
        tensors = [w[f"{prefix}.{name}"] for name in names]
        d = torch.from_numpy(step_biases(weights(config), config, (T,))[0, layer])[None]
        for item, mel in enumerate(mels):
            conditioner = None
            if mel is not None:
                names = ("weight", "bias")
                conditioner = reference.project_conditioner(
                    mel, *(w[f"{prefix}.conditioner_projection.{name}"] for name in names)
                )
            variant = config.padding, config.step_bias_in_residual
            arguments = conditioner, d, *tensors, config.dilations[layer], *variant
            h[item], layer_skip = reference.residual_block(h[item], *arguments)
            totals[item] = totals[item] + layer_skip[0] - tensors[3][C:, None]
    for item, length in enumerate(lengths):
        assert not buffers.h[after][item, :length, C:].any(), "padded channels are not zero"
    error = worst_error(buffers.h[after], [row[0] for row in h], lengths)
    return max(error, worst_error(buffers.skip, totals, lengths))


def output_head(
    device: Any, config: Config, precision: str, lengths: Sequence[int], sigma: float = 0.3, read_noise: bool = False
) -> float:
    """Check `output_head`, with noise that the kernel draws or, if `read_noise`, reads."""
    net, w = network(device, config, precision), exact(config)
    buffers, C = allocate(device, net, lengths, read_noise), config.residual_channels
    seeds, begins = [2**63 - 1 - n for n in range(len(lengths))], [4 * n for n in range(len(lengths))]
    a, b, limit, noise_step = 1.1, -0.7, 1.5, 3
    device.fill(buffers.terms, [[a, b, sigma, limit]])
    device.fill(buffers.noise_steps, [[noise_step] * 4])
    device.fill(buffers.seeds, seeds)
    device.fill(buffers.begins, begins)
    skip = fill_rows(device, buffers.skip, lengths)
    for item, length in enumerate(lengths):
        device.fill(buffers.skip[item, :length, C:], 0.0)
    x = [row[:, 0] for row in fill_rows(device, buffers.x[..., None], lengths)]
    items = zip(seeds, begins, lengths, strict=True)
    z = [torch.from_numpy(normal(seed, noise_step, begin, length)) for seed, begin, length in items]
    if read_noise:
        z = [row[0, 0] for row in fill_rows(device, buffers.noise[0][..., None], lengths)]
    scale = [torch.ones(n) for n in lengths]
    if config.prior:
        scale = [row[0, 0] for row in fill_rows(device, buffers.scale[..., None], lengths)]
    run(device, net.output_head(buffers, 0))

    biases = [w[f"residual_layers.{i}.output_projection.bias"][C:] for i in range(config.residual_layers)]
    names = ("skip_projection.weight", "skip_projection.bias", "output_projection.weight", "output_projection.bias")
    expected = []
    for item, row in enumerate(skip):
        total = row[:, :C] + sum(biases)[None, :, None]
        eps = reference.output_head(total, *(w[name] for name in names), config.residual_layers)
        noise = None if sigma == 0.0 else (z[item] * scale[item]).double()[None]
        updated = reference.noise_update(x[item], eps, a, b, sigma, noise, clamp=False)
        expected.append(updated.clamp(-limit, limit))
    return worst_error(buffers.x[..., None], expected, lengths)


def guided_audio(config: Config, item: Item, plan: Schedule, weight: float) -> torch.Tensor:
    """Return the audio [L] of the reverse process with guidance in float64, by its formula."""
    audio = torch.tensor(normal(item.seed, 0, 0, item.length)).double()[None]
    for n, t in enumerate(plan.t):
        labelled, without = (
            reference.predict_noise(exact(config), config, audio, t, labels=torch.tensor([label]))
            for label in (item.label, len(config.classes))
        )
        z = torch.tensor(normal(item.seed, n + 1, 0, item.length)).double()[None]
        eps = without + weight * (labelled - without)
        audio = reference.noise_update(audio, eps, plan.a[n], plan.b[n], plan.sigma[n], z)
    return audio[0]


def initial_noise(
    device: Any, net: GpuNetwork, seeds: Sequence[int], begins: Sequence[int], lengths: Sequence[int]
) -> bool:
    """Return whether x_T equals `engine.diffusion.noise` bit for bit."""
    x = device.empty((len(lengths), padded_length(max(lengths) + 1, GRAIN)), "fp32")
    signed = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
    vectors = device.tensor(signed, "i64"), device.tensor(begins, "i64"), device.tensor(lengths, "i32")
    run(device, net.initial_noise(x, *vectors))
    same = True
    for row, seed, begin, length in zip(x.cpu(), seeds, begins, lengths, strict=True):
        assert row[length:].isnan().all(), "something was written past an item's end"
        same = same and row[:length].numpy().tobytes() == normal(seed, 0, begin, length).tobytes()
    return same


def step_in_groups(
    device: Any,
    config: Config,
    precision: str,
    lengths: Sequence[int],
    sigma: float = 0.3,
    read_noise: bool = False,
    pairs: bool = False,
) -> float:
    """Check a whole step with isa "sm_90a", from buffers.x and the upsampled mel to the next buffers.x."""
    net, w, bands = network(device, config, precision), exact(config), config.n_mels
    net.pairs = pairs
    buffers = allocate(device, net, lengths, read_noise)
    run(device, net.fold_steps(device.tensor(sinusoids(config, (T,)), "fp32"), buffers.biases))
    a, b, limit, noise_step = 1.02, -0.35, 0.9, 3
    items = [(2**64 - 1 - item, 4096 * item, length) for item, length in enumerate(lengths)]
    device.fill(buffers.terms[0], torch.tensor([a, b, sigma, limit]))
    device.fill(buffers.noise_steps[0], torch.full((4,), noise_step))
    device.fill(buffers.seeds, [seed - 2**64 if seed >= 2**63 else seed for seed, _, _ in items])
    device.fill(buffers.begins, [begin for _, begin, _ in items])
    x = [row[:, 0] for row in fill_rows(device, buffers.x[..., None], lengths)]
    mels: list[Any] = [None] * len(lengths)
    if bands:
        mels = [row[:, :bands] for row in fill_rows(device, buffers.stages[-1], lengths)]
        for item, length in enumerate(lengths):
            device.fill(buffers.stages[-1][item, :length, bands:], 0.0)
    z = [torch.from_numpy(normal(seed, noise_step, begin, length)) for seed, begin, length in items]
    if read_noise:
        z = [row[0, 0] for row in fill_rows(device, buffers.noise[0][..., None], lengths)]
    scale = [torch.ones(n) for n in lengths]
    if config.prior:
        scale = [row[0, 0] for row in fill_rows(device, buffers.scale[..., None], lengths)]
    run(device, list(net.step(buffers, 0)))

    expected = []
    for item, mel in enumerate(mels):
        layers = [f"residual_layers.{i}.conditioner_projection" for i in range(config.residual_layers)]
        conditioners: list[Any] = [None] * len(layers)
        if mel is not None:
            pairs = ((w[f"{layer}.weight"], w[f"{layer}.bias"]) for layer in layers)
            conditioners = [reference.project_conditioner(mel, *pair) for pair in pairs]
        eps = reference._evaluate(w, config, x[item], T, None, conditioners)
        noise = None if sigma == 0.0 else (z[item] * scale[item]).double()[None]
        expected.append(reference.noise_update(x[item], eps, a, b, sigma, noise, clamp=False).clamp(-limit, limit))
    return worst_error(buffers.x[..., None], expected, lengths)
