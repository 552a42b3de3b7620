"""One training on several processes, as torchrun starts them: the shares of a batch and the sum of gradients."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from engine.kernels.processors import available

MAX_WORKERS = 12


@dataclass(frozen=True)
class Processes:
    """The position of this process among the others.

    Attributes:
        rank: the number of this process, from 0.
        count: the number of processes.
        device: the device of this process.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def workers(self) -> int:
        """The number of worker processes that compute batches for this one.

        None beside a CPU, whose cores all train; beside a GPU all cores are free.
        """
        if self.device.type != "cuda":
            return 0
        return max(1, min(MAX_WORKERS, available().count // self.count - 1))

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, batch: int) -> list[int]:
        """Return the numbers of the examples that this process takes of a batch."""
        return list(range(self.rank, batch, self.count))

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, in one exchange."""
        if self.count == 1:
            return
        terms = list(tensors)
        flat = torch.cat([term.reshape(-1) for term in terms])
        dist.all_reduce(flat)
        sums = torch.split(flat, [term.numel() for term in terms])
        for term, total in zip(terms, sums, strict=True):
            term.copy_(total.view_as(term))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        count = torch.tensor([float(flag)], device=self.device)
        self.add([count])
        return bool(count.item() > 0)


def join(device: str) -> Processes:
    """Join the processes of torchrun, if it started this one.

    Args:
        device: "cpu" or "cuda".
    """
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    torch_device = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if device == "cuda":
        torch.cuda.set_device(torch_device)
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Processes(rank, count, torch_device)


def leave(processes: Processes) -> None:
    """Leave the processes that `join` joined."""
    if processes.count > 1 and dist.is_initialized():
        dist.destroy_process_group()
