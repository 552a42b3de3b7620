"""Who else runs the network on a GPU: LMNT's own code, and the best that PyTorch makes of it.

All take the mel, the noise and the step biases from the GPU's memory and leave the audio there. Compiling, capturing
and cuDNN's search for its algorithms are outside the clock. "Once" as in `peers.py`: the conditioner does not depend on
the step, and was moved out of the loop for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import lmnt
from engine.checkpoint.load import Checkpoint
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule

Call = Callable[[], Tensor]
Predict = Callable[[Tensor, int], Tensor]  # x [B,L] and the number of the step -> eps [B,L]


class Task:
    """What everybody makes audio of, in the memory of `device`.

    Args:
        checkpoint: the network.
        mels: [B,M,T].
        seed: of the first item's noise.
        device: "cuda", or "cpu" for tests.
    """

    def __init__(self, checkpoint: Checkpoint, mels: npt.NDArray[np.float32], seed: int, device: str) -> None:
        config = checkpoint.config
        self.checkpoint, self.device, self.plan = checkpoint, device, build_schedule(config)
        length, S = mels.shape[2] * config.hop, len(self.plan)
        noise = [np.stack([normal(seed + i, n, 0, length) for i in range(len(mels))]) for n in range(S)]
        self.mel = torch.from_numpy(np.ascontiguousarray(mels)).to(device)
        self.noise = [torch.from_numpy(one).to(device) for one in noise]
        self.d = torch.from_numpy(step_biases(checkpoint.tensors, config, self.plan.t).astype(np.float32)).to(device)

    def sample(self, predict: Predict) -> Tensor:
        """The reverse process (paper, algorithm 2): audio [B,L]."""
        plan, x = self.plan, self.noise[0]
        for n in range(len(plan)):
            x = float(plan.a[n]) * x + float(plan.b[n]) * predict(x, n)
            if n + 1 < len(plan):
                x = x + float(plan.sigma[n]) * self.noise[n + 1]
            x = x.clamp(-1.0, 1.0)
        return x


class ChannelsLast(nn.Module):
    """LMNT's network for cuDNN's fast layout: convolutions over a plane of height 1, channels innermost.

    x [B,L], d [N,C], conditioners N x [B,2C,1,L], channels last, to eps [B,L].
    """

    def __init__(self, network: lmnt.Network) -> None:
        super().__init__()
        self.entry, self.exit = _plane(network.input_projection), _plane(network.output_projection)
        self.hidden = _plane(network.skip_projection)
        layers = list(network.residual_layers)
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
        return self.exit(functional.relu(self.hidden(total * math.sqrt(1.0 / len(self.dilated)))))[:, 0, 0]


def _plane(conv: nn.Conv1d) -> nn.Conv2d:
    (kernel,), (dilation,), (padding,) = conv.kernel_size, conv.dilation, conv.padding
    made = nn.Conv2d(
        conv.in_channels, conv.out_channels, (1, kernel), padding=(0, int(padding)), dilation=(1, dilation)
    )
    with torch.no_grad():
        made.weight.copy_(conv.weight[:, :, None])
        made.bias.copy_(conv.bias)
    return made


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


def _half(task: Task, channels_last: bool, compiled: bool = False) -> Call:
    """The conditioner once; all of it in fp16 but x, which is fp32 as ours is."""
    network = lmnt.Network(task.checkpoint).to(task.device).half()
    run: Any = ChannelsLast(network) if channels_last else lmnt.Network(task.checkpoint, hoisted=True)
    run = run.to(task.device).half()
    if compiled:
        run = torch.compile(run, dynamic=False)
    mel, d = task.mel.half(), task.d.half()

    def call() -> Tensor:
        given = network.conditioners(mel)
        if channels_last:
            given = [one[:, :, None].contiguous(memory_format=torch.channels_last) for one in given]
        return task.sample(lambda x, n: run(x.half(), d[n], *given).float())

    return _graph(call) if task.device == "cuda" else call


def _graph(call: Call) -> Call:
    """The whole call as one CUDA graph."""
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

    replay.call = call  # type: ignore[attr-defined]  # what the graph reads lives as long as it
    return replay


@dataclass(frozen=True)
class Peer:
    """One way to run LMNT's model on a GPU.

    Attributes:
        name: of its row.
        precision: "tf32" or "fp16": which of our gates it should pass.
        prepare: makes the call that is timed.
        conditioner: computed in "every step" or "once".
    """

    name: str
    precision: str
    prepare: Callable[[Task], Call]
    conditioner: str


PEERS: Sequence[Peer] = (
    Peer("LMNT, PyTorch eager", "tf32", _published, "every step"),  # cuDNN takes tf32 unless told otherwise
    Peer("LMNT, fp16 autocast", "fp16", _autocast, "every step"),
    Peer("PyTorch fp16, CUDA graph", "fp16", lambda task: _half(task, False), "once"),
    Peer("PyTorch fp16, channels last, CUDA graph", "fp16", lambda task: _half(task, True), "once"),
    Peer("torch.compile fp16, CUDA graph", "fp16", lambda task: _half(task, True, True), "once"),
)
