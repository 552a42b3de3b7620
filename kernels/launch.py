"""Launches of GPU kernels on a device, independent of the compiler that built the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

GRAIN = 128  # samples: capacities of plans are multiples of it, and the rows of every tile divide it

Call = Callable[[], None]
Grid = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel with its grid and arguments.

    Attributes:
        kernel: an `engine.kernels.triton.build.Kernel` or an `engine.kernels.cuda.build.CudaKernel`.
        grid: programs in three dimensions.
        arguments: tensors and integers, in the order of the kernel's arguments at run time.
    """

    kernel: Any
    grid: Grid
    arguments: tuple[Any, ...]


class Mark(Protocol):
    """A point in the work of a stream; may be set anew."""

    def record(self) -> None:
        """Move the mark to the current end of the current stream's work."""

    def query(self) -> bool:
        """Return whether the stream has reached this point, without waiting."""

    def wait(self) -> None:
        """Make the current stream wait for this point before it continues."""

    def synchronize(self) -> None:
        """Block the calling thread until the stream has reached this point."""


class Device(Protocol):
    """A place where launches run: `engine.kernels.device.CudaDevice`, or a stand-in that tests kernels on a CPU.

    Attributes:
        torch_device: the torch.device of its tensors.
        capability: the architecture that kernels are compiled for, 10 * major + minor.
        multiprocessors: the number of multiprocessors.
        dtypes: the element types of its tensors by name: "fp32", "fp16", "bf16", "i32", "i64".
    """

    torch_device: Any
    capability: int
    multiprocessors: int
    dtypes: Mapping[str, Any]

    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        """Allocate an uninitialized tensor on the device."""

    def tensor(self, values: Any, dtype: Any) -> Any:
        """Copy a number, nested lists, a NumPy array or a tensor into a tensor on the device."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> Any:
        """Allocate a tensor in host memory; copies between it and the device need not wait for the host."""

    def clip(self, values: Any, limits: tuple[float, float] | None, target: Any) -> None:
        """Copy a tensor of the device into another one, limited to an interval if there is one; NaN stays NaN."""

    def extremes(self, values: Any, low: Any, high: Any) -> None:
        """Write the smallest and the largest value of a tensor into two tensors [], NaN if it holds one."""

    def bind(self, launch: Launch) -> Call:
        """Compile a new kernel and fix its arguments; calling the result enqueues it on the current stream."""

    def capture(self, calls: Sequence[Call]) -> Call:
        """Record calls, in their order, as one call. Each of them has run once before."""

    def event(self) -> Mark:
        """Return a mark that is not yet in the work of any stream."""

    def mark(self) -> Mark:
        """Mark the current end of the current stream's work."""

    def scope(self) -> AbstractContextManager[Any]:
        """Make this device the current one inside a `with` block, whose tensors are ordinary writable tensors.

        The block leaves any inference mode of the caller: a tensor created under `torch.inference_mode` could not be
        changed outside it.
        """


def ceil_div(a: int, b: int) -> int:
    """Return ``a / b``, rounded up."""
    return -(-a // b)
