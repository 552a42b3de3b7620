"""Checks of the fused training layers against the gradient of the reference in float64, on any device."""

from __future__ import annotations

from typing import Any

import torch

from engine.kernels import reference
from engine.training.fused import Gpu, residual_layers
from tests.support.tolerances import relative_error

NAMES = ("h", "d", "base", "mel", "mel_weights", "dilated", "projection", "bias")


def inputs(channels: int, bands: int, batch: int, length: int, layers: int) -> dict[str, torch.Tensor]:
    """Return random float64 inputs of `residual_layers`, of magnitudes as in a network."""
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64) * scale

    tensors = {
        "h": normal(batch, length, channels),
        "d": normal(layers, batch, channels, scale=0.5),
        "base": normal(layers, batch, 2 * channels, scale=0.5),
        "dilated": normal(layers, 2 * channels, channels, 3, scale=(3 * channels) ** -0.5),
        "projection": normal(layers, 2 * channels, channels, scale=channels**-0.5),
        "bias": normal(layers, channels, scale=0.3),
    }
    if bands:
        tensors["mel"] = normal(batch, length, bands, scale=0.5)
        tensors["mel_weights"] = normal(layers, 2 * channels, bands, scale=bands**-0.5)
    return tensors


def expected(tensors: dict[str, torch.Tensor], dilations: tuple[int, ...]) -> torch.Tensor:
    """Compute the skip sum [B,L,C] with `engine.kernels.reference.residual_block`."""
    h, skip_sum = tensors["h"].transpose(1, 2), torch.zeros(())
    zero_bias = h.new_zeros(2 * h.shape[1])
    for n, dilation in enumerate(dilations):
        conditioner = tensors["base"][n][:, :, None]
        if "mel" in tensors:
            conditioner = conditioner + tensors["mel_weights"][n] @ tensors["mel"].transpose(1, 2)
        bias = torch.cat([tensors["bias"][n], zero_bias[: h.shape[1]]])
        weight = tensors["projection"][n][:, :, None]
        h, skip = reference.residual_block(
            h, conditioner, tensors["d"][n], tensors["dilated"][n], zero_bias, weight, bias, dilation
        )
        skip_sum = skip_sum + skip
    return skip_sum.transpose(1, 2)


def errors(
    device: Any,
    storage: str,
    channels: int = 32,
    bands: int = 0,
    batch: int = 2,
    length: int = 150,
    dilations: tuple[int, ...] = (1, 2, 70, 200),
) -> dict[str, float]:
    """Return the relative errors of the skip sum and of the gradient of every input."""
    exact = inputs(channels, bands, batch, length, len(dilations))
    weight = torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in exact.items()}
    reference_sum = expected(leaves, dilations)
    (reference_sum * weight).sum().backward()
    fused = {name: device.tensor(tensor, "fp32").requires_grad_() for name, tensor in exact.items()}
    skip_sum = residual_layers(*(fused.get(name) for name in NAMES), dilations, Gpu(device, storage, dilations))
    (skip_sum * weight.to(skip_sum)).sum().backward()
    result = {"skip": relative_error(skip_sum.detach().cpu(), reference_sum.detach())}
    for name, leaf in leaves.items():
        gradient = fused[name].grad.float().cpu()
        result[name] = relative_error(gradient, leaf.grad) if leaf.grad.any() else float(gradient.abs().max())
    return result
