"""One training on several processes, as torchrun starts them: who takes which examples, and the sum of gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

MAX_WORKERS = 12


@dataclass(frozen=True)
class Processes:
    """This process among the others.

    Attributes:
        rank: its number.
        count: how many there are.
        device: that it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def workers(self) -> int:
        """How many more may make batches for this one: a CPU that trains has no core to spare, beside a GPU all do."""
        if self.device.type != "cuda":
            return 0
        return max(1, min(MAX_WORKERS, (os.cpu_count() or 1) // self.count - 1))

    @property
    def first(self) -> bool:
        """This one writes and reports."""
        return self.rank == 0

    def share(self, batch: int) -> list[int]:
        """The numbers of the examples that this process takes."""
        return list(range(self.rank, batch, self.count))

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Every tensor becomes its sum over all processes, in one exchange."""
        if self.count == 1:
            return
        given = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in given])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in given])
        for tensor, part in zip(given, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        told = torch.tensor([float(flag)], device=self.device)
        self.add([told])
        return bool(told.item() > 0)


def join(device: str) -> Processes:
    """Join the processes of torchrun, if it started this one."""
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(place)
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Processes(rank, count, place)


def leave(processes: Processes) -> None:
    """The end of `join`."""
    if processes.count > 1 and dist.is_initialized():
        dist.destroy_process_group()
