"""The fused layers of training against the reference's own gradient in float64, on whatever runs them."""

from __future__ import annotations

from typing import Any

import torch

from engine.kernels import reference
from engine.training.fused import Gpu, residual_layers
from tests.support.tolerances import relative_error

NAMES = ("h", "d", "base", "mel", "mel_weights", "dilated", "projection", "bias")


def inputs(channels: int, bands: int, batch: int, length: int, layers: int) -> dict[str, torch.Tensor]:
    """Of `residual_layers`, float64, about as large as in a network."""
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64) * scale

    made = {
        "h": normal(batch, length, channels),
        "d": normal(layers, batch, channels, scale=0.5),
        "base": normal(layers, batch, 2 * channels, scale=0.5),
        "dilated": normal(layers, 2 * channels, channels, 3, scale=(3 * channels) ** -0.5),
        "projection": normal(layers, 2 * channels, channels, scale=channels**-0.5),
        "bias": normal(layers, channels, scale=0.3),
    }
    if bands:
        made["mel"] = normal(batch, length, bands, scale=0.5)
        made["mel_weights"] = normal(layers, 2 * channels, bands, scale=bands**-0.5)
    return made


def expected(given: dict[str, torch.Tensor], dilations: tuple[int, ...]) -> torch.Tensor:
    """The skip sum of `engine.kernels.reference.residual_block`; [B,L,C]."""
    h, skip = given["h"].transpose(1, 2), torch.zeros(())
    nothing = h.new_zeros(2 * h.shape[1])
    for n, dilation in enumerate(dilations):
        conditioner = given["base"][n][:, :, None]
        if "mel" in given:
            conditioner = conditioner + given["mel_weights"][n] @ given["mel"].transpose(1, 2)
        bias = torch.cat([given["bias"][n], nothing[: h.shape[1]]])
        weight = given["projection"][n][:, :, None]
        h, more = reference.residual_block(
            h, conditioner, given["d"][n], given["dilated"][n], nothing, weight, bias, dilation
        )
        skip = skip + more
    return skip.transpose(1, 2)


def errors(
    device: Any,
    storage: str,
    channels: int = 32,
    bands: int = 0,
    batch: int = 2,
    length: int = 150,
    dilations: tuple[int, ...] = (1, 2, 70, 200),
) -> dict[str, float]:
    """Relative errors of the skip sum and of the gradient of every input."""
    exact = inputs(channels, bands, batch, length, len(dilations))
    weight = torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in exact.items()}
    wanted = expected(leaves, dilations)
    (wanted * weight).sum().backward()
    mine = {name: device.tensor(tensor, "fp32").requires_grad_() for name, tensor in exact.items()}
    got = residual_layers(*(mine.get(name) for name in NAMES), dilations, Gpu(device, storage, dilations))
    (got * weight.to(got)).sum().backward()
    found = {"skip": relative_error(got.detach().cpu(), wanted.detach())}
    for name, leaf in leaves.items():
        mine_of = mine[name].grad.float().cpu()
        found[name] = relative_error(mine_of, leaf.grad) if leaf.grad.any() else float(mine_of.abs().max())
    return found
