"""Simulated GPUs on a CPU, each an `engine.kernels.launch.Device`.

`InterpretedDevice` runs Triton functions in Triton's interpreter. `SimulatedDevice` runs the PTX that the kernels
compile to, in the interpreter of `tests.gpu.ptx`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from typing import Any

import torch
import triton

from engine.kernels import device as gpu_device
from engine.kernels.cuda.build import CudaKernel
from engine.kernels.device import as_tensor, check_tensors, clip
from engine.kernels.launch import Call, Launch, ceil_div
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import Program, parse

# Triton before 3.9 omits a fence between cp.async and wgmma that PTX requires.
FENCED = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9)

DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "i32": torch.int32,
    "i64": torch.int64,
}


class HostDevice(ABC):
    """Device with tensors in host memory. Unwritten values are poison: NaN, or the largest integer.

    Attributes:
        launched: the names of the kernels that ran, in order.
        captured: the number of captures.
    """

    torch_device = torch.device("cpu")
    capability = 80
    multiprocessors = 1  # so that every persistent program processes several tiles
    dtypes = DTYPES

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.captured = 0

    def empty(self, shape: Sequence[int], dtype: str) -> torch.Tensor:
        tensor = torch.empty(tuple(shape), dtype=DTYPES[dtype])
        return tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)

    def tensor(self, values: Any, dtype: str) -> torch.Tensor:
        return as_tensor(values).to(DTYPES[dtype]).contiguous()

    def pinned(self, shape: Sequence[int], dtype: str) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=DTYPES[dtype])

    def clip(self, values: torch.Tensor, limits: tuple[float, float] | None, target: torch.Tensor) -> None:
        clip(values, limits, target)

    def extremes(self, values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
        torch.aminmax(values, out=(low, high))

    def fill(self, tensor: torch.Tensor, values: Any) -> None:
        """Write values from the host."""
        tensor.copy_(torch.as_tensor(values).to(tensor.dtype))

    def bind(self, launch: Launch) -> Call:
        check_tensors(launch, self.torch_device)
        run = self.compiled(launch)

        def call() -> None:
            self.launched.append(launch.kernel.name)
            run()

        return call

    @abstractmethod
    def compiled(self, launch: Launch) -> Call:
        """Return a function that runs the launch."""

    def capture(self, calls: Sequence[Call]) -> Call:
        self.captured += 1
        return partial(_run_all, list(calls))

    def event(self) -> Any:
        return _Mark()

    def mark(self) -> Any:
        return self.event()

    @contextmanager
    def scope(self) -> Iterator[None]:
        with torch.inference_mode(False), torch.no_grad():
            yield


class InterpretedDevice(HostDevice):
    """Device that runs Triton functions in Triton's interpreter, in a process with TRITON_INTERPRET=1.

    It does not support bf16, which Triton's interpreter computes wrongly.

    Attributes:
        rows: the fewest rows of a program. The interpreter takes as long for few rows as for many.
    """

    def __init__(self, rows: int = 256) -> None:
        super().__init__()
        self.rows = rows

    def compiled(self, launch: Launch) -> Call:
        constants = dict(launch.kernel.constants)
        if "APPROXIMATE" in constants:  # inline assembly, which the interpreter does not run
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
    """Device that runs the PTX compiled for one architecture, instruction by instruction, in `tests.gpu.ptx`.

    Attributes:
        machine: the memory, and the PTX interpreter. Its `worst_approximations` give tanh.approx the largest error that
            the PTX manual allows.
        checks: raise an error for races, reads of unwritten memory and the like. This takes a third of the time.
        rewrite: (name of the kernel, PTX) -> PTX, used to plant faults.
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
                fenced_copies=FENCED or isinstance(launch.kernel, CudaKernel),
                cluster=getattr(launch.kernel, "cluster", (1, 1, 1)),
            )

        return call


class SilentDevice(HostDevice):
    """Device whose kernels do nothing: for what the host does in a call.

    Attributes:
        log: "replay" of a graph and "synchronize" of a mark, in order.
    """

    capability = 90
    multiprocessors = 132

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def compiled(self, launch: Launch) -> Call:
        return lambda: None

    def capture(self, calls: Sequence[Call]) -> Call:
        self.captured += 1
        return partial(self.log.append, "replay")

    def event(self) -> Any:
        return _LoggedMark(self.log)


def install(monkeypatch: Any, device: HostDevice) -> None:
    """Let `engine.load(device="cuda")` find this device as the GPU."""
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: None)
    monkeypatch.setattr(gpu_device, "describe", lambda index=0: "a simulated GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index=0: f"sm_{device.capability}")
    monkeypatch.setattr(gpu_device, "CudaDevice", lambda index=0: device)


@cache
def compile_once(kernel: Any, capability: int) -> Any:
    """Compile one kernel as the engine does, once per process."""
    return kernel.compile(capability)


@lru_cache(maxsize=256)
def program_of(ptx: str) -> Program:
    return parse(ptx)


class _Mark:
    def record(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def wait(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _LoggedMark(_Mark):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def synchronize(self) -> None:
        self.log.append("synchronize")


def _run_all(calls: list[Call]) -> None:
    for call in calls:
        call()
