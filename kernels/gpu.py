"""The GPU backend: one network's weights on a device, and its operations as launches.

Operations are methods of `GpuNetwork` and do what `kernels/reference.py` says, on the static buffers of a plan. What
runs them, and in which order, is the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import UnavailableError
from engine.kernels import gpu_weights
from engine.kernels.hopper import build as hopper
from engine.kernels.hopper import layout
from engine.kernels.label import label_row
from engine.kernels.launch import Device, Launch, ceil_div
from engine.kernels.triton import table
from engine.kernels.triton.build import kernel
from engine.kernels.triton.input_projection import input_projection
from engine.kernels.triton.noise import initial_noise
from engine.kernels.triton.output_head import output_head
from engine.kernels.triton.project_conditioner import project_conditioner
from engine.kernels.triton.residual_block import residual_block
from engine.kernels.triton.step_embedding import fold_step, linear
from engine.kernels.triton.upsample_mel import upsample_mel

GRAIN = 128  # capacities are multiples of it, and tiles divide it
_ROWS = 64  # of every operation that has no line of its own in the table


@dataclass(frozen=True, eq=False)
class Buffers:
    """The tensors of one plan: its batch B, its capacity L, its steps G. Contents come and go, addresses stay.

    Attributes:
        mel: [B,M,F] fp32; None without a mel, like the next two.
        stages: between the upsampler's stages, [B,*,bands] fp32, and its result, [B,L,bands] storage.
        conditioner: [N,B,L,2C] storage, as `residual_block` reads it (`GpuNetwork.in_pairs`).
        x: [B,L] fp32, the audio of the current step.
        given: [G,B,L] fp32, noise to be used; None to draw it.
        scale: [B,L] fp32, of the noise; None without a prior.
        h: two of [B,L,C] storage, a layer's input and its output in turns.
        skip: [B,L,C] storage.
        terms: [G,4] fp32, a, b, sigma and limit of every step.
        noise_steps: [G,4] int32, the number of every step's noise, in column 0.
        rows: [G,N,7C] fp32, what `GpuNetwork.fold_steps` made of the steps.
        seeds, begins: [B] int64, of the items.
        lengths: [B] int32, in samples.
    """

    mel: Any
    stages: tuple[Any, ...]
    conditioner: Any
    x: Any
    given: Any
    scale: Any
    h: tuple[Any, Any]
    skip: Any
    terms: Any
    noise_steps: Any
    rows: Any
    seeds: Any
    begins: Any
    lengths: Any


class GpuNetwork:
    """One network on one device.

    Precision "fp16" and "bf16": weights, rows of activations and the conditioner are kept in them. "tf32" keeps
    float32 and multiplies its upper 19 bits, "fp32" all of them, without tensor cores. All sum in float32; x, the
    biases and the noise are float32.

    With isa "sm_90a" the residual blocks are those of `engine.kernels.hopper`.

    Raises:
        UnavailableError: the network is wider than the kernels are made for, or not of the width that isa has.
    """

    def __init__(
        self, config: Config, tensors: Mapping[str, FloatArray], device: Device, precision: str, isa: str | None = None
    ) -> None:
        widest = table.CHANNELS[-1]
        if config.residual_channels > widest:
            raise UnavailableError(
                f"device: the GPU's kernels are made for up to {widest} residual channels, this network has "
                f"{config.residual_channels}; use device='cpu'"
            )
        self.config = config
        self.device = device
        self.precision = table.PRECISIONS[precision]
        self.channels = next(c for c in table.CHANNELS if c >= config.residual_channels)
        self.bands = ceil_div(config.n_mels, 16) * 16
        self.tile = table.residual_tile(device.capability, precision, self.channels)
        self._tensors = {key: tensor for key, tensor in tensors.items() if "label_" in key}
        self._label_rows = lru_cache(maxsize=64)(self._compute_label_rows)
        self.on_hopper = isa == hopper.ISA
        if self.on_hopper:
            hopper.check(self.channels, self.precision.storage)
        packed = gpu_weights.packed(config, tensors, self.channels, self.bands)
        if self.on_hopper:
            pairs = zip(packed["dilated"][0], packed["projection"][0], strict=True)
            packed["image"] = np.stack([layout.image(*pair) for pair in pairs]), True
            if self.bands:
                packed["conditioner"] = packed["conditioner"][0][..., layout.conditioner_columns()], True
        self.weights = {
            name: self._stored_tensor(values) if stored else device.tensor(values, "fp32")
            for name, (values, stored) in packed.items()
        }

    def bytes_per_sample(self) -> int:
        """Of a plan's buffers, for every sample of an item's capacity; most of it is the conditioner."""
        size = 4 if self.precision.storage == "fp32" else 2
        rows = 3 * self.channels + (2 * self.channels * self.config.residual_layers + self.bands if self.bands else 0)
        return size * rows + 4 * (self.bands + 8)

    def most_samples(self) -> int:
        """Of one item: within it, kernels count its rows' values in 32 bits."""
        return 2**31 // max(2 * self.channels, self.bands) - GRAIN

    def buffers(self, items: int, capacity: int, steps: int, given: bool) -> Buffers:
        """Those of a plan. Capacity is a multiple of GRAIN."""
        config, empty, storage = self.config, self.device.empty, self.precision.storage
        C, N = self.channels, config.residual_layers
        mel, conditioner, stages = None, None, []
        if config.n_mels:
            rows = capacity // config.hop
            mel = empty((items, config.n_mels, rows), "fp32")
            for stride in config.upsample_strides[:-1]:
                rows *= stride
                stages.append(empty((items, rows, self.bands), "fp32"))
            stages.append(empty((items, capacity, self.bands), storage))
            conditioner = empty((N, items, capacity, 2 * C), storage)
        return Buffers(
            mel=mel,
            stages=tuple(stages),
            conditioner=conditioner,
            x=empty((items, capacity), "fp32"),
            given=empty((steps, items, capacity), "fp32") if given else None,
            scale=empty((items, capacity), "fp32") if config.prior else None,
            h=(empty((items, capacity, C), storage), empty((items, capacity, C), storage)),
            skip=empty((items, capacity, C), storage),
            terms=empty((steps, 4), "fp32"),
            noise_steps=empty((steps, 4), "i32"),
            rows=empty((steps, N, 7 * C), "fp32"),
            seeds=empty((items,), "i64"),
            begins=empty((items,), "i64"),
            lengths=empty((items,), "i32"),
        )

    def initial_noise(self, x: Any, seeds: Any, begins: Any, lengths: Any) -> Launch:
        """x [B,L] <- normal(seed, 0, begin + sample)."""
        types = {"x_ptr": "*fp32", "seeds_ptr": "*i64", "begins_ptr": "*i64", "lengths_ptr": "*i32", "capacity": "i32"}
        made = kernel(initial_noise, types, {"ROWS": 4 * _ROWS}, 4, fused=False)
        items, capacity = x.shape
        return Launch(made, (ceil_div(capacity, 4 * _ROWS), items, 1), (x, seeds, begins, lengths, capacity))

    def fold_steps(self, sinusoids: Any, rows: Any) -> list[Launch]:
        """rows [S,N,7C] <- the biases of every step and layer, from sinusoids [S,128]; see `reference.step_bias`."""
        steps, N, C, w = len(sinusoids), self.config.residual_layers, self.channels, self.weights
        hidden = [self.device.empty((steps, 512), "fp32") for _ in range(2)]
        d = self.device.empty((steps, N, C), "fp32")
        launches = [
            self._linear(sinusoids, "embedding1", hidden[0], silu=True),
            self._linear(hidden[0], "embedding2", hidden[1], silu=True),
            self._linear(hidden[1], "step", d.reshape(steps, N * C), silu=False),
        ]
        types = {"d_ptr": "*fp32", "dilated_ptr": self._stored, "bias_ptr": "*fp32", "rows_ptr": "*fp32"}
        constants = {"CHANNELS": C, "DEPTH": 16, "IN_RESIDUAL": self.config.step_bias_in_residual}
        fold = kernel(fold_step, types, constants, 4, fused=False)
        return [*launches, Launch(fold, (steps, N, 1), (d, w["dilated"], w["bias"], rows))]

    def add_label(self, rows: Any, label: int) -> None:
        """Make rows [S,N,7C] from `fold_steps` those of one class: its conditioner joins the convolution's bias.

        Raises:
            IndexError: there is no such class.
        """
        rows[:, :, : 2 * self.channels] += self.device.tensor(self._label_rows(label), "fp32")

    def upsample_mel(self, to: Buffers, place: int) -> list[Launch]:
        """to.stages <- to.mel, by the upsampler `place`: 0, or a layer where each has its own."""
        config, launches = self.config, []
        source, per_row = to.mel, config.hop
        time, band = 1, to.mel.shape[2]
        for k, stride in enumerate(config.upsample_strides):
            out = to.stages[k]
            items, capacity, bands = out.shape
            types = {"in_ptr": "*fp32", "weight_ptr": "*fp32", "bias_ptr": "*fp32", "lengths_ptr": "*i32"}
            types["out_ptr"] = self._stored if k + 1 == len(config.upsample_strides) else "*fp32"
            whole = ("capacity", "stride_item", "stride_time", "stride_band", "samples_per_row", "stride")
            columns = 1 << (bands - 1).bit_length()
            rows = max(1, 2048 // columns)
            constants = {"BANDS": config.n_mels, "BANDS_PADDED": bands, "COLUMNS": columns, "ROWS": rows}
            made = kernel(upsample_mel, types | dict.fromkeys(whole, "i32"), constants, 4)
            weight, bias = self.weights[f"upsample_weight_{k}"], self.weights[f"upsample_bias_{k}"]
            numbers = (capacity, source.shape[1] * source.shape[2], time, band, per_row, stride)
            arguments = (source, weight[place], bias[place], out, to.lengths, *numbers)
            launches.append(Launch(made, (ceil_div(capacity, rows), items, 1), arguments))
            source, per_row, time, band = out, per_row // stride, bands, 1
        return launches

    def project_conditioner(self, to: Buffers, first: int, last: int) -> Launch:
        """to.conditioner of layers first .. last - 1 <- the last of to.stages."""
        C = self.channels
        columns = min(128, 2 * C)
        types = {"mel_ptr": self._stored, "weight_ptr": self._stored, "conditioner_ptr": self._stored}
        constants = {"CHANNELS": C, "BANDS_PADDED": self.bands, "ROWS": _ROWS, "COLUMNS": columns, "DEPTH": 16}
        made = kernel(
            project_conditioner,
            types | {"lengths_ptr": "*i32", "capacity": "i32"},
            constants | {"STAGES": 2, "PRECISION": self.precision.product},
            4,
        )
        items, capacity, _ = to.stages[-1].shape
        weight, conditioner = self.weights["conditioner"][first:last], to.conditioner[first:last]
        arguments = (to.stages[-1], weight, conditioner, to.lengths, capacity)
        return Launch(made, (ceil_div(capacity, _ROWS), (last - first) * (2 * C // columns), items), arguments)

    def input_projection(self, to: Buffers) -> Launch:
        """to.h[0] <- to.x."""
        types = {"x_ptr": "*fp32", "weight_ptr": "*fp32", "bias_ptr": "*fp32", "h_ptr": self._stored}
        constants = {"CHANNELS": self.channels, "ROWS": _ROWS}
        made = kernel(input_projection, types | {"lengths_ptr": "*i32", "capacity": "i32"}, constants, 4)
        items, capacity = to.x.shape
        arguments = (to.x, self.weights["input_weight"], self.weights["input_bias"], to.h[0], to.lengths, capacity)
        return Launch(made, (ceil_div(capacity, _ROWS), items, 1), arguments)

    def in_pairs(self, conditioner: Any) -> Any:
        """Rows [...,2C] of `Buffers.conditioner` interleaved, whatever order their reader wants."""
        if not self.on_hopper:
            return conditioner
        return conditioner[..., np.argsort(layout.conditioner_columns())]

    def residual_block(self, to: Buffers, layer: int, step: int) -> Launch:
        """to.h of the next layer, and to.skip, <- to.h of this layer, at the plan's step `step`."""
        return (self._hopper_block if self.on_hopper else self._triton_block)(to, layer, step)

    def _hopper_block(self, to: Buffers, layer: int, step: int) -> Launch:
        items, capacity, _ = to.skip.shape
        conditioned, reflect = to.conditioner is not None, self.config.padding == "reflect"
        made = hopper.residual_block(conditioned, reflect, self.precision.storage == "bf16")
        blocks = min(self.device.multiprocessors, ceil_div(items * ceil_div(capacity, hopper.ROWS), hopper.GROUPS))
        tensors = (
            *(to.h[layer % 2], to.h[1 - layer % 2], to.skip),
            *(to.conditioner[layer] if conditioned else to.skip, self.weights["image"][layer]),
            *(to.rows[step, layer], to.lengths),
        )
        numbers = (capacity, self.config.dilations[layer], int(layer > 0), items)
        return Launch(made, (blocks, 1, 1), (*tensors, *numbers))

    def _triton_block(self, to: Buffers, layer: int, step: int) -> Launch:
        tile, w = self.tile, self.weights
        rows = ("h_ptr", "next_ptr", "skip_ptr", "conditioner_ptr", "dilated_ptr", "projection_ptr")
        types = dict.fromkeys(rows, self._stored) | {"bias_ptr": "*fp32", "lengths_ptr": "*i32"}
        constants = {
            "CHANNELS": self.channels,
            "ROWS": tile.rows,
            "PANEL": tile.panel,
            "DEPTH": tile.depth,
            "STAGES": tile.stages,
            "CONDITIONED": to.conditioner is not None,
            "REFLECT": self.config.padding == "reflect",
            "APPROXIMATE": self.precision.approximate,
            "PRECISION": self.precision.product,
            "EARLY": tile.early,
            "DEPENDENT": tile.dependent,
        }
        numbers = dict.fromkeys(("capacity", "dilation", "accumulate"), "i32")
        made = kernel(residual_block, types | numbers, constants, tile.warps, dependent=tile.dependent)
        items, capacity, _ = to.skip.shape
        h, following = to.h[layer % 2], to.h[(layer + 1) % 2]
        conditioner = h if to.conditioner is None else to.conditioner[layer]
        tensors = (h, following, to.skip, conditioner, w["dilated"][layer], w["projection"][layer])
        arguments = (*tensors, to.rows[step, layer], to.lengths, capacity, self.config.dilations[layer], int(layer > 0))
        return Launch(made, (ceil_div(capacity, tile.rows), items, 1), arguments)

    def output_head(self, to: Buffers, step: int) -> Launch:
        """to.x <- the next step's audio, from to.skip, at the plan's step `step`."""
        C, w = self.channels, self.weights
        tensor_cores, wide = self.precision.product != "ieee", self.precision.storage == "fp32"
        floats = ("hidden_bias_ptr", "out_ptr", "out_bias_ptr", "x_ptr", "given_ptr", "scale_ptr", "terms_ptr")
        types = dict.fromkeys(("skip_ptr", "hidden_ptr"), self._stored) | dict.fromkeys(floats, "*fp32")
        types |= {"noise_step_ptr": "*i32", "seeds_ptr": "*i64", "begins_ptr": "*i64", "lengths_ptr": "*i32"}
        constants = {
            "CHANNELS": C,
            "ROWS": _ROWS,
            "PANEL": min(C, 16 if not tensor_cores else 64),
            "DEPTH": min(C, 16 if not tensor_cores else 32 if wide else 64),
            "GIVEN": to.given is not None,
            "SCALED": to.scale is not None,
            "PRECISION": self.precision.product,
        }
        warps = 4 if tensor_cores and C < 256 else 8
        made = kernel(output_head, types | {"capacity": "i32"}, constants, warps, fused=False)
        items, capacity = to.x.shape
        given = to.x if to.given is None else to.given[step]
        scale = to.x if to.scale is None else to.scale
        arguments = (
            *(to.skip, w["hidden"], w["hidden_bias"], w["out"], w["out_bias"], to.x, given, scale),
            *(to.terms[step], to.noise_steps[step], to.seeds, to.begins, to.lengths, capacity),
        )
        return Launch(made, (ceil_div(capacity, _ROWS), items, 1), arguments)

    def _stored_tensor(self, values: npt.NDArray[Any]) -> Any:
        """Weights as they are multiplied; for "tf32" rounded as `engine.kernels.triton.tensor_float` does."""
        values = values.astype(np.float32)
        if (self.precision.storage, self.precision.product) == ("fp32", "tf32"):
            values = ((values.view(np.int32) + 4096) & -8192).view(np.float32)
        return self.device.tensor(values, self.precision.storage)

    def _compute_label_rows(self, label: int) -> FloatArray:
        """[N,2C], the halves interleaved."""
        return gpu_weights.interleaved(label_row(self.config, self._tensors, label), self.channels)

    @property
    def _stored(self) -> str:
        return "*" + self.precision.storage

    def _linear(self, x: Any, name: str, y: Any, silu: bool) -> Launch:
        types = dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "y_ptr"), "*fp32")
        made = kernel(linear, types | {"inputs": "i32", "outputs": "i32"}, {"SILU": silu, "BLOCK": 64}, 4, fused=False)
        weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
        outputs, inputs = weight.shape
        return Launch(made, (ceil_div(outputs, 64), len(x), 1), (x, weight, bias, y, inputs, outputs))
