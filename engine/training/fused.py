"""All residual layers with their gradient on a GPU, by the kernels of `engine.kernels.triton.residual_training`.

A layer of `engine.training.block` passes its rows through memory some forty times, forward and backward. These kernels
pass them a few times. With 64 channels, 512 bytes per sample and layer are kept from the forward to the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.kernels.launch import Device, Launch, ceil_div
from engine.kernels.triton.build import kernel
from engine.kernels.triton.residual_training import (
    gate_gradient,
    sum_products,
    tap_gradient,
    train_layer,
    weight_gradient,
)

ROWS, WARPS = 64, 4  # samples and warps of a program
STAGES = 3  # pipeline stages: loads in flight


class ResidualLayers(torch.autograd.Function):
    """The autograd function of `residual_layers`."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        d: Tensor,
        base: Tensor,
        mel: Tensor | None,
        mel_weights: Tensor | None,
        dilated: Tensor,
        projection: Tensor,
        bias: Tensor,
        dilations: Sequence[int],
        gpu: Gpu,
    ) -> Tensor:
        """Compute all layers and keep what their gradient needs; see `residual_layers`."""
        (batch, length, channels), layers = h.shape, len(dilations)
        d, base, bias = gpu.floats(d), gpu.floats(base), gpu.floats(bias)
        taps = gpu.stored(dilated.permute(0, 3, 2, 1))  # [N,3,C,2C]
        into_residual = gpu.stored(projection[:, :channels].transpose(1, 2))  # [N,C,C]
        into_skip = gpu.stored(projection[:, channels:].transpose(1, 2))
        u, y, z = (gpu.rows(layers, batch, length, columns) for columns in (channels, 2 * channels, channels))
        u[0] = h + d[0][:, None]
        h = gpu.floats(h.clone())  # the kernels overwrite it with the next layer's
        bands = 0
        if mel is not None and mel_weights is not None:
            mel, bands = gpu.stored(mel), mel.shape[2]
            projection_of_mel = gpu.stored(mel_weights.transpose(1, 2))  # [N,M,2C]
        for n, dilation in enumerate(dilations):
            above = min(n + 1, layers - 1)
            condition, weights = (mel, projection_of_mel[n]) if bands else (u[n], taps[n])
            parameters = (taps[n], weights, into_residual[n], bias[n], d[above])
            gpu.run(
                train_layer,
                (ceil_div(length, ROWS), batch, 1),
                (u[n], h, condition, base[n], *parameters, y[n], z[n], u[above], length, dilation),
                {"C": channels, "ROWS": ROWS, "BANDS": bands, "PADDED": _padded_size(bands), "LAST": n == layers - 1},
            )
        ctx.save_for_backward(u, y, z, mel, mel_weights, dilated, projection)
        ctx.dilations, ctx.gpu = tuple(dilations), gpu
        return _sum_products(gpu, z, into_skip)

    @staticmethod
    def backward(ctx: Any, d_skip: Tensor) -> tuple[Any, ...]:
        """Compute the gradient of every tensor argument from that of the skip sum."""
        u, y, z, mel, mel_weights, dilated, projection = ctx.saved_tensors
        (layers, batch, length, channels), gpu, dilations = u.shape, ctx.gpu, ctx.dilations
        taps = gpu.stored(dilated.permute(0, 3, 1, 2))  # [N,3,2C,C]
        projections = gpu.stored(projection)  # [N,2C,C]
        skip = gpu.stored(d_skip)
        h = gpu.sums(batch, length, channels).zero_()
        residual = gpu.rows(layers, batch, length, channels)
        residual[-1] = 0.0  # no layer follows the last one
        tiles = ceil_div(length, ROWS)
        base, bias, d = (gpu.sums(layers, batch, tiles, columns) for columns in (2 * channels, channels, channels))
        sizes = {"C": channels, "ROWS": ROWS}
        for n in reversed(range(layers)):
            below = max(n - 1, 0)
            gate_arguments = (residual[n], skip, y[n], projections[n], base[n], bias[n], length)
            gpu.run(gate_gradient, (tiles, batch, 1), gate_arguments, sizes)
            tap_arguments = (y[n], h, taps[n], residual[below], d[n], length, dilations[n])
            gpu.run(tap_gradient, (tiles, batch, 1), tap_arguments, sizes | {"FIRST": n == 0})
        d_taps = _weight_gradient(gpu, u, y, 3)  # [N,3,C,2C]
        d_projection = torch.cat(
            [_weight_gradient(gpu, z, residual), _weight_gradient(gpu, z, skip)], dim=-1
        )  # [N,1,C,2C]
        d_mel = d_mel_weights = None
        if mel is not None:
            d_mel = _sum_products(gpu, y, gpu.stored(mel_weights))
            d_mel_weights = _weight_gradient(gpu, mel, y)[:, 0].transpose(1, 2)
        return (
            h,
            d.sum(2),
            base.sum(2),
            d_mel,
            d_mel_weights,
            d_taps.permute(0, 3, 2, 1),
            d_projection[:, 0].transpose(1, 2),
            bias.sum((1, 2)),
            None,
            None,
        )


class Gpu:
    """The device that runs the kernels, and the element type of the rows.

    Args:
        device: runs the kernels.
        storage: the type in which rows are kept and multiplied, in Triton's notation ("bf16").
        dilations: of the network's layers.
    """

    def __init__(self, device: Device, storage: str, dilations: Sequence[int]) -> None:
        self.dilations = device.tensor(list(dilations), "i32")
        self._device, self._storage = device, storage

    def stored(self, values: Tensor) -> Tensor:
        """Return values in the type of the rows, on the device."""
        return self._tensor(values, self._storage)

    def floats(self, values: Tensor) -> Tensor:
        """Return values in fp32, on the device."""
        return self._tensor(values, "fp32")

    def rows(self, *shape: int) -> Tensor:
        """Return an uninitialized tensor in the type of the rows."""
        return self._empty(shape, self._storage)

    def sums(self, *shape: int) -> Tensor:
        """Return an uninitialized tensor in fp32."""
        return self._empty(shape, "fp32")

    def run(
        self,
        function: Any,
        grid: tuple[int, int, int],
        arguments: tuple[Any, ...],
        constants: Mapping[str, Any],
        warps: int = WARPS,
    ) -> None:
        """Launch one kernel.

        Args:
            function: the Triton function.
            grid: programs along each axis.
            arguments: the tensors and integers of the launch, in order.
            constants: the compile-time constants by name.
            warps: per program.
        """
        names = [name for name in function.arg_names if name not in constants]
        types = {
            name: "i32" if isinstance(argument, int) else f"*{_KINDS[argument.dtype]}"
            for name, argument in zip(names, arguments, strict=True)
        }
        self._device.bind(Launch(kernel(function, types, constants, warps), grid, arguments))()

    def _tensor(self, values: Tensor, kind: str) -> Tensor:
        tensor: Tensor = self._device.tensor(values, kind)
        return tensor

    def _empty(self, shape: Sequence[int], kind: str) -> Tensor:
        tensor: Tensor = self._device.empty(shape, kind)
        return tensor


_KINDS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.int32: "i32"}


def residual_layers(
    h: Tensor,
    d: Tensor,
    base: Tensor,
    mel: Tensor | None,
    mel_weights: Tensor | None,
    dilated: Tensor,
    projection: Tensor,
    bias: Tensor,
    dilations: Sequence[int],
    gpu: Gpu,
) -> Tensor:
    """Compute all residual layers (paper, section 3.1 and figure 2a), with a gradient.

    Args:
        h: [B,L,C] float32, the input of the first layer.
        d: [N,B,C] float32, the step biases.
        base: [N,B,2C] float32, the terms before the gate that are constant along an item: biases and labels.
        mel: [B,L,M] float32, upsampled, or None.
        mel_weights: [N,2C,M] float32, or None.
        dilated: [N,2C,C,3] float32.
        projection: [N,2C,C] float32, the residual's rows first.
        bias: [N,C] float32, of the residual's rows.
        dilations: of the outer taps, in samples, by layer.
        gpu: runs the kernels.

    Returns:
        [B,L,C] float32, the skip sum without its biases.
    """
    skip: Tensor = ResidualLayers.apply(  # type: ignore[no-untyped-call]
        h, d, base, mel, mel_weights, dilated, projection, bias, dilations, gpu
    )
    return skip


def _sum_products(gpu: Gpu, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum rows [N,B,L,K] times weights [N,K,columns] over all layers, to [B,L,columns] fp32."""
    (layers, batch, length, k), columns = rows.shape, weights.shape[2]
    out = gpu.sums(batch, length, columns)
    constants = {"K": k, "ROWS": ROWS, "COLUMNS": columns, "PADDED": _padded_size(columns), "STAGES": STAGES}
    count = batch * length
    gpu.run(sum_products, (ceil_div(count, ROWS), 1, 1), (rows, weights, out, count, layers), constants)
    return out


def _weight_gradient(gpu: Gpu, a: Tensor, b: Tensor, taps: int = 1) -> Tensor:
    """Sum products of rows over items and samples.

    Args:
        gpu: runs the kernel.
        a: [N,B,L,A]; `a` or `b` may lack the axis N.
        b: [N,B,L,columns].
        taps: 3 for the taps of the dilated convolution, which shift `a`.

    Returns:
        [N,taps,A,columns] fp32.
    """
    (batch, length, width), columns, layers = a.shape[-3:], b.shape[-1], len(gpu.dilations)
    parts = gpu.sums(batch, layers, taps, width, columns)
    block = min(columns, 128)
    constants = {
        "TAPS": taps,
        "WIDTH": width,
        "PADDED": _padded_size(width),
        "COLUMNS": columns,
        "BLOCK": block,
        "ONE_A": a.ndim == 3,
        "ONE_B": b.ndim == 3,
        "DEPTH": ROWS,
        "STAGES": STAGES,
    }
    warps = 2 * WARPS if taps == 3 or width > 64 else WARPS
    gpu.run(weight_gradient, (layers, batch, columns // block), (a, b, gpu.dilations, parts, length), constants, warps)
    return parts.sum(0)


def _padded_size(count: int) -> int:
    """Return the smallest power of two that is at least 16 and at least `count`."""
    return max(16, 1 << (count - 1).bit_length())
