"""What a plan is made of: launches of kernels on a device, by handle, wherever the kernels come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], None]
Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel with its programs and arguments.

    Attributes:
        kernel: an `engine.kernels.triton.build.Kernel` or an `engine.kernels.hopper.build.CudaKernel`.
        grid: programs in three dimensions.
        arguments: tensors and integers, in the order of the kernel's arguments at run time.
    """

    kernel: Any
    grid: Grid
    arguments: tuple[Any, ...]


class Mark(Protocol):
    """A point in a stream's work."""

    def wait(self) -> None:
        """Let the current stream go on only after it."""

    def synchronize(self) -> None:
        """Wait for it here."""


class Device(Protocol):
    """Where launches run: `engine.kernels.cuda.CudaDevice`, or a stand-in on a CPU that proves them.

    Attributes:
        where: the torch.device of its tensors.
        capability: what kernels are compiled for, 10 * major + minor.
        multiprocessors: how many there are.
    """

    where: Any
    capability: int
    multiprocessors: int

    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the device, not initialised."""

    def tensor(self, values: Any, dtype: Any) -> Any:
        """A tensor of the device with these values: a number, nested lists, a NumPy array or a tensor."""

    def bind(self, launch: Launch) -> Call:
        """Compile the kernel if it is new, and fix the arguments; the call enqueues it on the current stream."""

    def capture(self, calls: Sequence[Call]) -> Call:
        """All calls as one, in their order; they have run once before."""

    def mark(self) -> Mark:
        """The current stream's work up to now."""

    def scope(self) -> AbstractContextManager[Any]:
        """Within it this device is the current one, and its tensors are made and changed as usual.

        Whatever mode the caller is in: a tensor made under `torch.inference_mode` could not be changed outside it.
        """


def ceil_div(a: int, b: int) -> int:
    """``a / b``, rounded up."""
    return -(-a // b)
