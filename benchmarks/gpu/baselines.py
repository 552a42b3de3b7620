"""Baselines on a GPU: LMNT's own code, and PyTorch with its best settings.

All read the mel, the noise and the step biases from GPU memory and leave the audio there. Compiling, capturing and
cuDNN's search for its algorithms are outside the clock. "Once" as in `benchmarks.cpu.baselines`: the conditioner does
not depend on the step and is computed before the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import lmnt
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule

Call = Callable[[], Tensor]
Predict = Callable[[Tensor, int], Tensor]  # x [B,L] and the index of the step -> eps [B,L]


class Task:
    """The audio that all entries compute, and its inputs besides the network, in the memory of a device."""

    def __init__(self, checkpoint: Checkpoint, mels: FloatArray, seed: int, device: str) -> None:
        """Draw the noise, compute the step biases and copy both to the device.

        Args:
            checkpoint: the network.
            mels: [B,M,T].
            seed: seed of the first item's noise.
            device: "cuda", or "cpu" for tests.
        """
        config = checkpoint.config
        self.checkpoint, self.device, self.plan = checkpoint, device, build_schedule(config)
        length, S = mels.shape[2] * config.hop, len(self.plan)
        noise = [np.stack([normal(seed + i, n, 0, length) for i in range(len(mels))]) for n in range(S)]
        self.mel = torch.from_numpy(np.ascontiguousarray(mels)).to(device)
        self.noise = [torch.from_numpy(step).to(device) for step in noise]
        self.d = torch.from_numpy(step_biases(checkpoint.tensors, config, self.plan.t).astype(np.float32)).to(device)

    def sample(self, predict: Predict) -> Tensor:
        """Return audio [B,L], by the reverse process (paper, algorithm 2)."""
        plan, x = self.plan, self.noise[0]
        for n in range(len(plan)):
            x = float(plan.a[n]) * x + float(plan.b[n]) * predict(x, n)
            if n + 1 < len(plan):
                x = x + float(plan.sigma[n]) * self.noise[n + 1]
            x = x.clamp(-1.0, 1.0)
        return x


class ChannelsLast(nn.Module):
    """LMNT's network in cuDNN's fast layout: convolutions over a plane of height 1, channels innermost.

    x [B,L], d [N,C] and N conditioners [B,2C,1,L], channels last, to eps [B,L].
    """

    def __init__(self, network: lmnt.Network) -> None:
        super().__init__()
        self.entry, self.exit = _plane(network.input_projection), _plane(network.output_projection)
        self.hidden = _plane(network.skip_projection)
        layers: list[Any] = list(network.residual_layers)
        self.dilated = nn.ModuleList(_plane(layer.dilated_conv) for layer in layers)
        self.projection = nn.ModuleList(_plane(layer.output_projection) for layer in layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, d: Tensor, *conditioners: Tensor) -> Tensor:
        """See `lmnt.Network.forward`."""
        x = x[:, None, None].contiguous(memory_format=torch.channels_last)
        h, total = functional.relu(self.entry(x)), None
        for i, (dilated, projection) in enumerate(zip(self.dilated, self.projection, strict=True)):
            y = dilated(h + d[i][:, None, None]) + conditioners[i]
            gate, filtered = y.chunk(2, dim=1)
            residual, skip = projection(torch.sigmoid(gate) * torch.tanh(filtered)).chunk(2, dim=1)
            h, total = (h + residual) * math.sqrt(0.5), skip if total is None else total + skip
        assert total is not None
        hidden = functional.relu(self.hidden(total * math.sqrt(1.0 / len(self.dilated))))
        eps: Tensor = self.exit(hidden)[:, 0, 0]
        return eps


def _plane(conv: nn.Conv1d) -> nn.Conv2d:
    """Return the same convolution over a plane of height 1."""
    (kernel,), (dilation,), (padding,) = conv.kernel_size, conv.dilation, conv.padding
    plane = nn.Conv2d(
        conv.in_channels, conv.out_channels, (1, kernel), padding=(0, int(padding)), dilation=(1, dilation)
    )
    assert conv.bias is not None and plane.bias is not None
    with torch.no_grad():
        plane.weight.copy_(conv.weight[:, :, None])
        plane.bias.copy_(conv.bias)
    return plane


def _published(task: Task) -> Call:
    model = lmnt.published(task.checkpoint).to(task.device)
    steps = [torch.tensor([t], dtype=torch.float32, device=task.device) for t in task.plan.t]
    return lambda: task.sample(lambda x, n: model(x, task.mel, steps[n])[:, 0].float())


def _autocast(task: Task) -> Call:
    call = _published(task)

    def cast() -> Tensor:
        with torch.autocast(task.device, torch.float16):
            return call()

    return cast


def _same_operations(task: Task) -> Call:
    """Return LMNT's operations in a module of this project, for machines without LMNT's package."""
    network = lmnt.Network(task.checkpoint).to(task.device)
    return lambda: task.sample(lambda x, n: network(x, task.d[n], task.mel).float())


def _same_operations_autocast(task: Task) -> Call:
    call = _same_operations(task)

    def cast() -> Tensor:
        with torch.autocast(task.device, torch.float16):
            return call()

    return cast


def _half(task: Task, channels_last: bool, compile_mode: str | None = None) -> Call:
    """Return a call in fp16 that computes the conditioner once; x stays in fp32, as in this engine."""
    network = lmnt.Network(task.checkpoint).to(task.device).half()
    run: Any = ChannelsLast(network) if channels_last else lmnt.Network(task.checkpoint, hoisted=True)
    run = run.to(task.device).half()
    if compile_mode is not None:
        run = torch.compile(run, dynamic=False, mode=compile_mode)
    mel, d = task.mel.half(), task.d.half()

    def call() -> Tensor:
        conditioners = network.conditioners(mel)
        if channels_last:
            conditioners = [layer[:, :, None].contiguous(memory_format=torch.channels_last) for layer in conditioners]
        return task.sample(lambda x, n: run(x.half(), d[n], *conditioners).float())

    return _graph(call) if task.device == "cuda" else call


def _graph(call: Call) -> Call:
    """Return a call that replays another one as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        audio = call()

    def replay() -> Tensor:
        graph.replay()
        return audio

    replay.call = call  # type: ignore[attr-defined]  # the graph reads tensors that the call keeps alive
    return replay


@dataclass(frozen=True)
class Baseline:
    """One way to run LMNT's model on a GPU.

    Attributes:
        name: title of its row.
        precision: "tf32" or "fp16"; selects the accuracy gate.
        build: function that returns the timed call.
        conditioner: when it is computed, in "every step" or "once".
    """

    name: str
    precision: str
    build: Callable[[Task], Call]
    conditioner: str


BASELINES: Sequence[Baseline] = (
    Baseline("LMNT, PyTorch eager", "tf32", _published, "every step"),  # cuDNN's default is tf32
    Baseline("LMNT, fp16 autocast", "fp16", _autocast, "every step"),
    Baseline("PyTorch fp16, CUDA graph", "fp16", lambda task: _half(task, False), "once"),
    Baseline("PyTorch fp16, channels last, CUDA graph", "fp16", lambda task: _half(task, True), "once"),
    Baseline("torch.compile fp16, CUDA graph", "fp16", lambda task: _half(task, True, "default"), "once"),
)
# Searches for the fastest kernels for minutes. The graph around it is that of the other baselines.
AUTOTUNED = Baseline(
    "torch.compile fp16, max-autotune, CUDA graph",
    "fp16",
    lambda task: _half(task, True, "max-autotune-no-cudagraphs"),
    "once",
)
# In place of the entries that need LMNT's package, where it is absent. They take the step biases from a table.
WITHOUT_THE_PACKAGE = {
    "LMNT, PyTorch eager": Baseline("LMNT's operations, PyTorch eager", "tf32", _same_operations, "every step"),
    "LMNT, fp16 autocast": Baseline(
        "LMNT's operations, fp16 autocast", "fp16", _same_operations_autocast, "every step"
    ),
}
