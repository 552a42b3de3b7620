"""The networks, mels and entries that the comparisons on a GPU time, and their rehearsal on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import engine
from benchmarks.gpu import timing
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.config import BASE
from engine.kernels import device as gpu_device
from engine.kernels import registry
from engine.kernels.ampere import stack as ampere
from engine.kernels.cuda import build
from engine.kernels.hopper import stack as hopper
from tests.support.networks import random_network
from tests.support.tolerances import TOLERANCES

if TYPE_CHECKING:
    import torch

SPEECH = 100  # frame; the demo begins with silence, whose SNR says little
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
LAYERS = 4  # of the network of a rehearsal


@dataclass(frozen=True)
class Setting:
    """What is timed, and where.

    Attributes:
        device: "cuda", or "cpu" for a rehearsal: a small network in fp32 on a CPU stands for every precision. It shows
            that a stage runs, and measures nothing.
        rounds: timed calls of every entry.
        warm_up: calls before the timed ones.
    """

    device: str = "cuda"
    rounds: int = 20
    warm_up: int = 3

    @property
    def is_rehearsal(self) -> bool:
        """Whether a CPU stands in for the GPU."""
        return self.device == "cpu"

    @property
    def clock(self) -> timing.Clock:
        """How calls are timed."""
        return timing.host_seconds if self.is_rehearsal else timing.event_seconds

    def checkpoint(self) -> Checkpoint:
        """Return the bundled voice, or the small network of a rehearsal."""
        if not self.is_rehearsal:
            return load_checkpoint(BUNDLED)
        config = replace(BASE, residual_layers=LAYERS, residual_channels=16)
        return Checkpoint(config, random_network(config, 1))

    def voice(self, precision: str, isa: str | None = None) -> engine.Voice:
        """Load the network on the device."""
        if self.is_rehearsal:
            return engine.Voice(self.checkpoint(), registry.select("cpu", "fp32"), 1)
        return engine.load(device="cuda", precision=precision, isa=isa)

    def isas(self) -> list[str]:
        """Return the instruction sets of this GPU beside its default."""
        return [] if self.is_rehearsal else gpu_isas()

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if not self.is_rehearsal:
            import torch

            torch.cuda.synchronize()

    def gpu(self) -> str:
        """Return the name of the device."""
        if self.is_rehearsal:
            return "rehearsal on a CPU"
        import torch

        return torch.cuda.get_device_name()


def gpu_isas() -> list[str]:
    """Return the values of `isa=` that this GPU takes beside None."""
    is_hopper = gpu_device.isa() == f"sm_{hopper.CAPABILITY}"
    return [] if build.obstacle() else [hopper.ISA if is_hopper else ampere.ISA]


def mels(items: int, seconds: float, voice: engine.Voice, device: str = "cuda") -> torch.Tensor:
    """Return mels [B,M,T] on a device: the demo's frames, repeated."""
    import torch

    frames = round(seconds * voice.sample_rate / voice.hop)
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))
    mel = np.take(demo, np.arange(SPEECH, SPEECH + frames), axis=1, mode="wrap")
    return torch.from_numpy(mel).expand(items, -1, -1).to(device)


def engine_entries(
    mel: torch.Tensor, precisions: Sequence[str], setting: Setting | None = None
) -> tuple[list[timing.Entry], dict[str, float]]:
    """Return this engine in some precisions and every instruction set, and the least SNR of each entry."""
    setting = setting or Setting()
    entries, floors = [], {}
    variants: list[tuple[str, str | None, bool]] = [(precision, None, False) for precision in precisions]
    variants += [("fp16", isa, pairs) for isa in setting.isas() for pairs in (False, True)[: 1 + (isa == hopper.ISA)]]
    for precision, isa, pairs in variants:
        voice = setting.voice(precision, isa)
        if pairs:  # blocks that share their weights by multicast
            voice._loop._network.pairs = True  # type: ignore[attr-defined]
        name = f"{timing.ENGINE}{precision}" + (f", {isa}" if isa else "") + (", pairs" if pairs else "")
        entries.append(timing.Entry(name, "once", partial(voice.vocode, mel, seed=1)))
        floors[name] = TOLERANCES[f"gpu_audio_{precision}_db"] - 3.0  # its frames differ from those of the gate
    return entries, floors


@contextlib.contextmanager
def cudnn_search() -> Iterator[None]:
    """Let cuDNN search for the baselines' fastest algorithms."""
    import torch

    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
