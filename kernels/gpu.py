"""The GPU backend: one network's weights on a device, and its operations as launches.

The operations are methods of `GpuNetwork`. They compute what `kernels/reference.py` specifies, on the static buffers
of a plan. `engine.sampling.gpu` runs them and determines their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import UnavailableError
from engine.kernels import gpu_weights, inputs
from engine.kernels.cuda.groups import CHANNELS, Group, groups, padded_bands
from engine.kernels.label import label_row
from engine.kernels.launch import GRAIN, Device, Launch, ceil_div
from engine.kernels.stacks import STACKS
from engine.kernels.triton import table
from engine.kernels.triton.build import kernel
from engine.kernels.triton.input_projection import input_projection
from engine.kernels.triton.noise import initial_noise
from engine.kernels.triton.output_head import output_head
from engine.kernels.triton.project_conditioner import project_conditioner
from engine.kernels.triton.residual_block import residual_block
from engine.kernels.triton.step_embedding import fold_step, linear
from engine.kernels.triton.upsample_mel import upsample_mel

_ROWS = 64  # samples of a program, for every operation that has no row of its own in the table


@dataclass(frozen=True, eq=False)
class Buffers(inputs.Inputs):
    """Tensors of one plan for a batch B, a capacity L and G steps. Contents change, addresses do not.

    They include the views of `block` (`engine.kernels.inputs.Inputs`).

    Attributes:
        mel: [B,M,F] fp32; None without a mel, like the next two.
        stages: the outputs of the upsampler's stages, [B,*,bands] fp32, and its result, [B,L,bands] storage.
        conditioner: [N,B,L,2C] storage, interleaved; None if the layers compute it from the upsampled mel.
        x: [B,L] fp32, the audio of the current step.
        noise: [G,B,L] fp32, the caller's noise; None if the kernels draw it.
        scale: [B,L] fp32, multiplies the noise; None without a prior.
        h: two tensors [B,L,C] storage, which alternate as a layer's input and output.
        skip: [B,L,C] storage, the skip sum.
        biases: [G,N,7C] fp32, of every step and layer, from `GpuNetwork.fold_steps`.
        block: int32, the memory of terms, noise_steps, seeds, begins and lengths.
    """

    mel: Any
    stages: tuple[Any, ...]
    conditioner: Any
    x: Any
    noise: Any
    scale: Any
    h: tuple[Any, Any]
    skip: Any
    biases: Any
    block: Any


class GpuNetwork:
    """One network on one device.

    "fp16" and "bf16" store weights, rows of activations and the conditioner in 16 bits. "tf32" stores float32 and
    multiplies its upper 19 bits. "fp32" multiplies all bits, without tensor cores. Sums, x, the biases and the noise
    are float32 in every precision.

    With an isa of `engine.kernels.stacks` the residual layers are computed by its kernel, several in a launch.

    Attributes:
        groups: the layers of each launch of `residual_stack`; empty for one layer a launch, `residual_block`.
        pairs: run the blocks of `residual_stack` in pairs that share their weights, on Hopper; to set before a plan is
            built.

    Raises:
        UnavailableError: the kernels do not support the network.
    """

    def __init__(
        self, config: Config, tensors: Mapping[str, FloatArray], device: Device, precision: str, isa: str | None = None
    ) -> None:
        widest = table.CHANNELS[-1]
        if config.residual_channels > widest:
            raise UnavailableError(
                f"device: the GPU's kernels support up to {widest} residual channels, this network has "
                f"{config.residual_channels}; use device='cpu'"
            )
        self.config = config
        self.device = device
        self.precision = table.PRECISIONS[precision]
        self.channels = next(c for c in table.CHANNELS if c >= config.residual_channels)
        self.groups: tuple[Group, ...] = ()
        self.pairs = False
        self._stack = STACKS.get(isa or "")
        if self._stack:
            self._stack.check(config, precision, device.capability)
            self.channels, self.groups = CHANNELS, groups(config.dilations)
        self.bands = padded_bands(config)
        self.tile = table.residual_tile(device.capability, precision, self.channels)
        label_tensors = {key: tensor for key, tensor in tensors.items() if "label_" in key}
        # A cached method would refer to its own object: the weights would live until the cyclic collector runs.
        self._label_rows = lru_cache(maxsize=64)(partial(_compute_label_rows, config, label_tensors, self.channels))
        packed = gpu_weights.packed(config, tensors, self.channels, self.bands)
        if self._stack:
            projection = packed.pop("projection")[0]
            mel = packed.pop("conditioner")[0] if self.bands else [None] * len(projection)
            parts = zip(packed["dilated"][0], mel, projection, strict=True)
            packed["stack"] = np.stack([self._stack.layer_image(*layer) for layer in parts]), True
            packed["stack_head"] = self._stack.head_image(packed.pop("hidden")[0]), True
        self.weights = {
            name: self._weight_tensor(values) if stored else device.tensor(values, "fp32")
            for name, (values, stored) in packed.items()
        }

    def bytes_per_sample(self) -> int:
        """Return the bytes of a plan's buffers per sample of an item's capacity; a conditioner takes most of them."""
        size = 4 if self.precision.storage == "fp32" else 2
        stored = 0 if self.groups else 2 * self.channels * self.config.residual_layers
        rows = 3 * self.channels + (stored + self.bands if self.bands else 0)
        return size * rows + 4 * (self.bands + 8)

    def most_samples(self) -> int:
        """Return the most samples of one item: the kernels index an item's values with 32 bits."""
        return 2**31 // max(2 * self.channels, self.bands) - GRAIN

    def buffers(self, items: int, capacity: int, steps: int, noise: bool) -> Buffers:
        """Allocate the buffers of a plan.

        Args:
            items: B.
            capacity: L in samples, a multiple of GRAIN.
            steps: G.
            noise: whether the caller provides the noise.
        """
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
            if not self.groups:
                conditioner = empty((N, items, capacity, 2 * C), storage)
        block = empty((inputs.count_words(items, steps),), "i32")
        views = inputs.split_block(block, items, steps, self.device.dtypes)
        return Buffers(
            mel=mel,
            stages=tuple(stages),
            conditioner=conditioner,
            x=empty((items, capacity), "fp32"),
            noise=empty((steps, items, capacity), "fp32") if noise else None,
            scale=empty((items, capacity), "fp32") if config.prior else None,
            h=(empty((items, capacity, C), storage), empty((items, capacity, C), storage)),
            skip=empty((items, capacity, C), storage),
            biases=empty((steps, N, 7 * C), "fp32"),
            block=block,
            **vars(views),
        )

    def initial_noise(self, x: Any, seeds: Any, begins: Any, lengths: Any) -> Launch:
        """Return the launch of ``x [B,L] <- normal(seed, 0, begin + sample)``."""
        types = {"x_ptr": "*fp32", "seeds_ptr": "*i64", "begins_ptr": "*i64", "lengths_ptr": "*i32", "capacity": "i32"}
        compiled = kernel(initial_noise, types, {"ROWS": 4 * _ROWS}, 4, fused=False)
        items, capacity = x.shape
        return Launch(compiled, (ceil_div(capacity, 4 * _ROWS), items, 1), (x, seeds, begins, lengths, capacity))

    def fold_steps(self, sinusoids: Any, biases: Any) -> list[Launch]:
        """Return the launches that compute the biases of every step and layer; see `reference.step_bias`.

        Args:
            sinusoids: [S,128] fp32.
            biases: [S,N,7C] fp32, written.
        """
        steps, N, C, w = len(sinusoids), self.config.residual_layers, self.channels, self.weights
        hidden = [self.device.empty((steps, 512), "fp32") for _ in range(2)]
        d = self.device.empty((steps, N, C), "fp32")
        launches = [
            self._linear(sinusoids, "embedding1", hidden[0], silu=True),
            self._linear(hidden[0], "embedding2", hidden[1], silu=True),
            self._linear(hidden[1], "step", d.reshape(steps, N * C), silu=False),
        ]
        types = {"d_ptr": "*fp32", "dilated_ptr": self._pointer, "bias_ptr": "*fp32", "rows_ptr": "*fp32"}
        constants = {"CHANNELS": C, "DEPTH": 16, "IN_RESIDUAL": self.config.step_bias_in_residual}
        fold = kernel(fold_step, types, constants, 4, fused=False)
        return [*launches, Launch(fold, (steps, N, 1), (d, w["dilated"], w["bias"], biases))]

    def add_label(self, biases: Any, label: int) -> None:
        """Add the conditioner of a class to the convolution's bias in the biases [S,N,7C] of `fold_steps`.

        Raises:
            IndexError: the network has no class of this index.
        """
        biases[:, :, : 2 * self.channels] += self.device.tensor(self._label_rows(label), "fp32")

    def condition(self, buffers: Buffers) -> Iterator[Launch]:
        """Yield the launches from the mel to what the layers read of it, which does not depend on the step."""
        config = self.config
        if not config.n_mels:
            return
        for place in range(1 if config.shared_upsampler else config.residual_layers):
            yield from self.upsample_mel(buffers, place)
            layers = (0, config.residual_layers) if config.shared_upsampler else (place, place + 1)
            if not self.groups:
                yield self.project_conditioner(buffers, *layers)

    def step(self, buffers: Buffers, step: int) -> Iterator[Launch]:
        """Yield the launches of one step of the plan, which update buffers.x."""
        # Blocks of one launch must not read the audio while others of it update it.
        entry = len(self.groups) > 1
        if not entry:
            yield self.input_projection(buffers)
        for group in range(len(self.groups)):
            yield self.residual_stack(buffers, group, step, entry and group == 0, group == len(self.groups) - 1)
        if not self.groups:
            for layer in range(self.config.residual_layers):
                yield self.residual_block(buffers, layer, step)
            yield self.output_head(buffers, step)

    def upsample_mel(self, buffers: Buffers, upsampler: int) -> list[Launch]:
        """Return the launches of ``buffers.stages <- buffers.mel``.

        Args:
            buffers: buffers of a plan.
            upsampler: 0 if all layers share one, else the index of the layer.
        """
        config, launches = self.config, []
        source, per_row = buffers.mel, config.hop
        time, band = 1, buffers.mel.shape[2]
        for k, stride in enumerate(config.upsample_strides):
            out = buffers.stages[k]
            items, capacity, bands = out.shape
            types = {"in_ptr": "*fp32", "weight_ptr": "*fp32", "bias_ptr": "*fp32", "lengths_ptr": "*i32"}
            types["out_ptr"] = self._pointer if k + 1 == len(config.upsample_strides) else "*fp32"
            integers = ("capacity", "stride_item", "stride_time", "stride_band", "samples_per_row", "stride")
            columns = 1 << (bands - 1).bit_length()
            rows = max(1, 2048 // columns)
            constants = {"BANDS": config.n_mels, "BANDS_PADDED": bands, "COLUMNS": columns, "ROWS": rows}
            compiled = kernel(upsample_mel, types | dict.fromkeys(integers, "i32"), constants, 4)
            weight, bias = self.weights[f"upsample_weight_{k}"], self.weights[f"upsample_bias_{k}"]
            numbers = (capacity, source.shape[1] * source.shape[2], time, band, per_row, stride)
            arguments = (source, weight[upsampler], bias[upsampler], out, buffers.lengths, *numbers)
            launches.append(Launch(compiled, (ceil_div(capacity, rows), items, 1), arguments))
            source, per_row, time, band = out, per_row // stride, bands, 1
        return launches

    def project_conditioner(self, buffers: Buffers, first: int, last: int) -> Launch:
        """Return the launch that projects the upsampled mel to the conditioner of layers first .. last - 1."""
        C = self.channels
        columns = min(128, 2 * C)
        types = {
            "mel_ptr": self._pointer,
            "weight_ptr": self._pointer,
            "conditioner_ptr": self._pointer,
        }
        constants = {"CHANNELS": C, "BANDS_PADDED": self.bands, "ROWS": _ROWS, "COLUMNS": columns, "DEPTH": 16}
        compiled = kernel(
            project_conditioner,
            types | {"lengths_ptr": "*i32", "capacity": "i32"},
            constants | {"STAGES": 2, "PRECISION": self.precision.product},
            4,
        )
        items, capacity, _ = buffers.stages[-1].shape
        weight, conditioner = self.weights["conditioner"][first:last], buffers.conditioner[first:last]
        arguments = (buffers.stages[-1], weight, conditioner, buffers.lengths, capacity)
        return Launch(compiled, (ceil_div(capacity, _ROWS), (last - first) * (2 * C // columns), items), arguments)

    def input_projection(self, buffers: Buffers) -> Launch:
        """Return the launch that projects buffers.x to buffers.h[0]."""
        types = {"x_ptr": "*fp32", "weight_ptr": "*fp32", "bias_ptr": "*fp32", "h_ptr": self._pointer}
        constants = {"CHANNELS": self.channels, "ROWS": _ROWS}
        compiled = kernel(input_projection, types | {"lengths_ptr": "*i32", "capacity": "i32"}, constants, 4)
        items, capacity = buffers.x.shape
        weights = self.weights["input_weight"], self.weights["input_bias"]
        arguments = (buffers.x, *weights, buffers.h[0], buffers.lengths, capacity)
        return Launch(compiled, (ceil_div(capacity, _ROWS), items, 1), arguments)

    def residual_stack(
        self, buffers: Buffers, group: int, step: int, entry: bool = False, head: bool = False
    ) -> Launch:
        """Return the launch of one of `groups`: as `residual_block`, layer after layer, from buffers.stages[-1].

        Args:
            buffers: buffers of a plan.
            group: the index of the group.
            step: the index of the step within the plan.
            entry: read buffers.x, as `input_projection`, instead of a buffers.h.
            head: update buffers.x, as `output_head`, instead of writing buffers.skip and the other buffers.h.
        """
        assert self._stack
        part, (items, capacity, _) = self.groups[group], buffers.skip.shape
        first, last = part.first, part.first + part.layers
        macros = *("ENTRY",) * entry, *("HEAD",) * head
        if head:
            macros += *("READ_NOISE",) * (buffers.noise is not None), *("SCALED",) * (buffers.scale is not None)
        shape, is_bf16 = (items, capacity), self.precision.storage == "bf16"
        compiled, grid = self._stack.variant(part, self.bands, shape, self.device, is_bf16, macros, self.pairs)
        w = self.weights
        tensors = (
            *((buffers.x, w["input_weight"], w["input_bias"]) if entry else (buffers.h[group % 2],)),
            *(self._head_tensors(buffers, step, w["stack_head"]) if head else (buffers.h[1 - group % 2],)),
            *(buffers.skip, buffers.stages[-1] if self.bands else buffers.skip, w["stack"][first:last]),
            *(buffers.biases[step, first:last], buffers.lengths),
        )
        return Launch(compiled, grid, (*tensors, capacity, part.stride, int(group > 0)))

    def residual_block(self, buffers: Buffers, layer: int, step: int) -> Launch:
        """Return the launch of one layer: it reads its buffers.h, writes the other one and updates buffers.skip.

        Args:
            buffers: buffers of a plan.
            layer: the index of the layer.
            step: the index of the step within the plan.
        """
        tile, w = self.tile, self.weights
        rows = ("h_ptr", "next_ptr", "skip_ptr", "conditioner_ptr", "dilated_ptr", "projection_ptr")
        types = dict.fromkeys(rows, self._pointer) | {"bias_ptr": "*fp32", "lengths_ptr": "*i32"}
        constants = {
            "CHANNELS": self.channels,
            "ROWS": tile.rows,
            "PANEL": tile.panel,
            "DEPTH": tile.depth,
            "STAGES": tile.stages,
            "CONDITIONED": buffers.conditioner is not None,
            "REFLECT": self.config.padding == "reflect",
            "APPROXIMATE": self.precision.approximate,
            "PRECISION": self.precision.product,
            "EARLY": tile.early,
            "DEPENDENT": tile.dependent,
        }
        numbers = dict.fromkeys(("capacity", "dilation", "accumulate"), "i32")
        compiled = kernel(residual_block, types | numbers, constants, tile.warps, dependent=tile.dependent)
        items, capacity, _ = buffers.skip.shape
        h, h_next = buffers.h[layer % 2], buffers.h[(layer + 1) % 2]
        conditioner = h if buffers.conditioner is None else buffers.conditioner[layer]
        tensors = (h, h_next, buffers.skip, conditioner, w["dilated"][layer], w["projection"][layer])
        integers = (capacity, self.config.dilations[layer], int(layer > 0))
        arguments = (*tensors, buffers.biases[step, layer], buffers.lengths, *integers)
        return Launch(compiled, (ceil_div(capacity, tile.rows), items, 1), arguments)

    def output_head(self, buffers: Buffers, step: int) -> Launch:
        """Return the launch that updates buffers.x from buffers.skip at one step of the plan."""
        C, w = self.channels, self.weights
        tensor_cores, wide = self.precision.product != "ieee", self.precision.storage == "fp32"
        floats = ("hidden_bias_ptr", "out_ptr", "out_bias_ptr", "x_ptr", "noise_ptr", "scale_ptr", "terms_ptr")
        types = dict.fromkeys(("skip_ptr", "hidden_ptr"), self._pointer) | dict.fromkeys(floats, "*fp32")
        types |= {"noise_step_ptr": "*i32", "seeds_ptr": "*i64", "begins_ptr": "*i64", "lengths_ptr": "*i32"}
        constants = {
            "CHANNELS": C,
            "ROWS": _ROWS,
            "PANEL": min(C, 16 if not tensor_cores else 64),
            "DEPTH": min(C, 16 if not tensor_cores else 32 if wide else 64),
            "READ_NOISE": buffers.noise is not None,
            "SCALED": buffers.scale is not None,
            "PRECISION": self.precision.product,
        }
        warps = 4 if tensor_cores and C < 256 else 8
        compiled = kernel(output_head, types | {"capacity": "i32"}, constants, warps, fused=False)
        items, capacity = buffers.x.shape
        arguments = (buffers.skip, *self._head_tensors(buffers, step, w["hidden"]), buffers.lengths, capacity)
        return Launch(compiled, (ceil_div(capacity, _ROWS), items, 1), arguments)

    def _head_tensors(self, buffers: Buffers, step: int, hidden: Any) -> tuple[Any, ...]:
        """Return the weights of the output head, and the tensors of the update of buffers.x."""
        w = self.weights
        noise = buffers.x if buffers.noise is None else buffers.noise[step]
        scale = buffers.x if buffers.scale is None else buffers.scale
        weights = hidden, w["hidden_bias"], w["out"], w["out_bias"]
        update = noise, scale, buffers.terms[step], buffers.noise_steps[step], buffers.seeds, buffers.begins
        return *weights, buffers.x, *update

    def _weight_tensor(self, values: npt.NDArray[Any]) -> Any:
        """Store weights on the device; for "tf32" rounded as `engine.kernels.triton.tensor_float` does."""
        values = values.astype(np.float32)
        if (self.precision.storage, self.precision.product) == ("fp32", "tf32"):
            values = ((values.view(np.int32) + 4096) & -8192).view(np.float32)
        return self.device.tensor(values, self.precision.storage)

    @property
    def _pointer(self) -> str:
        return "*" + self.precision.storage

    def _linear(self, x: Any, name: str, y: Any, silu: bool) -> Launch:
        types = dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "y_ptr"), "*fp32")
        constants = {"SILU": silu, "BLOCK": 64}
        compiled = kernel(linear, types | {"inputs": "i32", "outputs": "i32"}, constants, 4, fused=False)
        weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
        outputs, inputs = weight.shape
        return Launch(compiled, (ceil_div(outputs, 64), len(x), 1), (x, weight, bias, y, inputs, outputs))


def _compute_label_rows(config: Config, tensors: Mapping[str, FloatArray], channels: int, label: int) -> FloatArray:
    """Compute the conditioner [N,2C] of a class, with interleaved halves."""
    return gpu_weights.interleaved(label_row(config, tensors, label), channels)
