"""Stand-ins for a GPU on a CPU: each an `engine.kernels.launch.Device`.

One runs the Triton functions in Triton's interpreter, one the PTX that Triton compiles them to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from typing import Any

import torch
import triton

from engine.kernels.cuda import as_tensor, check_tensors
from engine.kernels.launch import Call, Launch, ceil_div
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import Program, parse

# Triton before 3.9 leaves out a fence between cp.async and wgmma that PTX asks for.
FENCED = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9)

DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "i32": torch.int32,
    "i64": torch.int64,
}


class HostDevice(ABC):
    """Tensors in this machine's memory, poisoned where nothing was written: NaN, and huge integers.

    Attributes:
        launched: names of the kernels that ran, in order.
        captured: how many captures there were.
    """

    where = torch.device("cpu")
    capability = 80
    multiprocessors = 1  # so that every program has several tiles to do

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.captured = 0

    def empty(self, shape: Sequence[int], dtype: str) -> torch.Tensor:
        tensor = torch.empty(tuple(shape), dtype=DTYPES[dtype])
        return tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)

    def tensor(self, values: Any, dtype: str) -> torch.Tensor:
        return as_tensor(values).to(DTYPES[dtype]).contiguous()

    def fill(self, tensor: torch.Tensor, values: Any) -> None:
        """Write from the host."""
        tensor.copy_(torch.as_tensor(values).to(tensor.dtype))

    def bind(self, launch: Launch) -> Call:
        check_tensors(launch, self.where)
        run = self.compiled(launch)

        def call() -> None:
            self.launched.append(launch.kernel.name)
            run()

        return call

    @abstractmethod
    def compiled(self, launch: Launch) -> Call:
        """What runs the launch."""

    def capture(self, calls: Sequence[Call]) -> Call:
        self.captured += 1
        return partial(_all, list(calls))

    def mark(self) -> Any:
        return _Mark()

    @contextmanager
    def scope(self) -> Iterator[None]:
        with torch.inference_mode(False), torch.no_grad():
            yield


class InterpretedDevice(HostDevice):
    """Runs the Triton functions themselves, in a process with TRITON_INTERPRET=1. No bf16: it is wrong there.

    Attributes:
        rows: of a program, at least: the interpreter takes as long for few as for many.
    """

    def __init__(self, rows: int = 256) -> None:
        super().__init__()
        self.rows = rows

    def compiled(self, launch: Launch) -> Call:
        constants = dict(launch.kernel.constants)
        if "APPROXIMATE" in constants:  # inline assembly
            constants["APPROXIMATE"] = False
        grid, rows = launch.grid, constants.get("ROWS", self.rows)
        if rows < self.rows:
            grid = (ceil_div(grid[0] * rows, self.rows), *grid[1:])
            constants["ROWS"] = self.rows
        names = [name for name in launch.kernel.function.arg_names if name not in constants]
        arguments: dict[str, Any] = dict(zip(names, launch.arguments, strict=True))
        function: Callable[..., None] = launch.kernel.function[grid]
        return partial(function, **arguments, **constants)


class SimulatedDevice(HostDevice):
    """Runs what Triton compiles for one architecture, instruction by instruction, in `gpu.ptx`.

    Attributes:
        machine: its memory.
        worst_approximations: tanh.approx errs as much as the PTX manual allows it to.
        checks: races, reads of what nobody wrote, and the like are errors; a third of the time goes into that.
        rewrite: (name of the kernel, PTX) -> PTX, to plant faults.
    """

    def __init__(
        self, capability: int = 80, checks: bool = True, worst_approximations: bool = False, size: int = 1 << 27
    ) -> None:
        super().__init__()
        self.capability = capability
        self.checks = checks
        self.machine = Machine(size, worst_approximations)
        self.rewrite: Callable[[str, str], str] = lambda name, ptx: ptx

    def empty(self, shape: Sequence[int], dtype: str) -> torch.Tensor:
        return self.machine.empty(tuple(shape), DTYPES[dtype])

    def tensor(self, values: Any, dtype: str) -> torch.Tensor:
        return self.machine.put(super().tensor(values, dtype))

    def fill(self, tensor: torch.Tensor, values: Any) -> None:
        super().fill(tensor, values)
        for row in [tensor] if tensor.is_contiguous() else tensor:
            self.machine.mark_written(row)

    def compiled(self, launch: Launch) -> Call:
        compiled = compile_once(launch.kernel, self.capability)
        program = program_of(self.rewrite(launch.kernel.name, compiled.asm["ptx"]))
        tensors = [argument for argument in launch.arguments if isinstance(argument, torch.Tensor)]

        def call() -> None:
            if self.checks:
                for tensor in tensors:
                    self.machine.mark_filled(tensor)
            self.machine.launch(
                program,
                launch.grid,
                32 * launch.kernel.warps,
                launch.arguments,
                shared_bytes=compiled.metadata.shared,
                checks=self.checks,
                fenced_copies=FENCED,
            )

        return call


@cache
def compile_once(kernel: Any, capability: int) -> Any:
    """The machine code of one kernel, as users get it."""
    return kernel.compile(capability)


@lru_cache(maxsize=256)
def program_of(ptx: str) -> Program:
    return parse(ptx)


class _Mark:
    def wait(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


def _all(calls: list[Call]) -> None:
    for call in calls:
        call()
