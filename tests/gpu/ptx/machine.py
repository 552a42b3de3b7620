"""A GPU's memory on the CPU, and launches of parsed programs on it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tests.gpu.ptx.chunk import Chunk
from tests.gpu.ptx.errors import PTXError
from tests.gpu.ptx.memory import WRITTEN, GlobalMemory
from tests.gpu.ptx.parse import Program
from tests.gpu.ptx.shared import BASE

GAP = 4096  # between buffers: an index that runs over the end meets no neighbour
ALIGN = 256  # as cudaMalloc
CHUNK_LANES = 8192  # more lanes amortise the interpreter's cost, until they leave the cache
FLOAT_FORMATS = {"f32": "f", "f64": "d", "f16": "e"}


@dataclass
class Layout:
    """Where a program's variables lie."""

    symbols: dict[str, int] = field(default_factory=dict)
    end: int = BASE
    local: int = 0
    granule: int = 4


@dataclass
class Launch:
    machine: Machine
    program: Program
    grid: tuple[int, int, int]
    threads: int
    parameters: np.ndarray
    shared_bytes: int
    layout: Layout
    checks: bool
    counters: Any
    max_steps: int
    fenced_copies: bool


class Machine:
    """Flat device memory. Tensors from ``empty`` and ``put`` lie inside it: the host reads and writes them directly.

    Attributes:
        worst_approximations: tanh.approx.f32 errs as much as the PTX manual allows, instead of not at all.
    """

    def __init__(self, size_bytes: int = 1 << 26, worst_approximations: bool = False) -> None:
        self.worst_approximations = worst_approximations
        self.memory = GlobalMemory(-(-size_bytes // GAP) * GAP)
        self.bytes = torch.from_numpy(self.memory.data)
        self.top = GAP
        self.tables: dict[int, tuple[Program, dict[str, int]]] = {}

    def allocate(self, size: int) -> int:
        start = self.top
        if start + size + GAP > self.memory.size:
            raise MemoryError(f"the machine has {self.memory.size} bytes, {size} more do not fit")
        self.top = -(-(start + size + GAP) // ALIGN) * ALIGN
        self.memory.allow(start, size)
        return start

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> torch.Tensor:
        """A tensor of poison (every byte 0xFF) that programs must not read before somebody writes it."""
        dtype = dtype if isinstance(dtype, torch.dtype) else torch.from_numpy(np.empty(0, dtype)).dtype
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * dtype.itemsize
        start = self.allocate(size)
        return self.bytes[start : start + size].view(dtype).view(shape)

    def put(self, values: Any) -> torch.Tensor:
        """A copy of an array or tensor in the machine's memory."""
        values = values.detach() if isinstance(values, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(values))
        tensor = self.empty(tuple(values.shape), values.dtype)
        tensor.copy_(values)
        self.mark_written(tensor)
        return tensor

    def address(self, tensor: torch.Tensor) -> int:
        """The device address of a tensor's first element."""
        address = tensor.data_ptr() - self.bytes.data_ptr()
        if not GAP <= address <= self.top:
            raise ValueError("the tensor does not lie in the machine's memory")
        return address

    def mark_written(self, tensor: torch.Tensor) -> None:
        """Say that the host wrote all of a contiguous tensor through its view."""
        if not tensor.is_contiguous():
            raise ValueError("expected a contiguous tensor")
        if tensor.numel():
            start = self.address(tensor)
            self.memory.mark(slice(start, start + tensor.numel() * tensor.element_size()))

    def mark_filled(self, tensor: torch.Tensor) -> None:
        """Say that the host wrote those elements of a contiguous tensor that are no poison any more."""
        if not tensor.numel():
            return
        size, start = tensor.element_size(), self.address(tensor)
        part = slice(start, start + tensor.numel() * size)
        written = (self.memory.data[part].reshape(-1, size) != 0xFF).any(axis=1)
        self.memory.state[part].reshape(-1, size)[written] = WRITTEN

    def launch(
        self,
        program: Program,
        grid: int | tuple[int, ...],
        threads: int,
        arguments: list[Any] | tuple[Any, ...],
        shared_bytes: int = 0,
        checks: bool = True,
        counters: Any = None,
        max_steps: int = 1_000_000,
        fenced_copies: bool = True,
    ) -> None:
        """Run every CTA of the grid. Missing trailing parameters are 0, as Triton's scratch pointers are.

        ``max_steps`` limits the instructions that a chunk of CTAs executes. PTX wants a fence.proxy.async between
        cp.async and a wgmma that reads its data; Triton 3.6 leaves it out, 3.9 does not: say ``fenced_copies=False``.
        """
        if threads % 32 or not 0 < threads <= 1024:
            raise ValueError(f"expected whole warps, up to 1024 threads, got {threads}")
        grid = (grid,) if isinstance(grid, int) else tuple(grid)
        grid = (*grid, 1, 1)[:3]
        parameters = self.parameters(program, arguments)
        layout = self.layout(program, shared_bytes)
        self.memory.begin(math.prod(grid), layout.granule)
        launch = Launch(
            self, program, grid, threads, parameters, shared_bytes, layout, checks, counters, max_steps, fenced_copies
        )
        if counters is not None:
            counters.launches += 1
        ctas = np.arange(math.prod(grid))
        each = max(1, min(CHUNK_LANES // threads, (1 << 28) // (8 * layout.end)))
        for first in range(0, len(ctas), each):
            Chunk(launch, ctas[first : first + each]).run()

    def parameters(self, program: Program, arguments: Any) -> np.ndarray:
        """The bytes that ld.param reads."""
        if len(arguments) > len(program.parameters):
            raise ValueError(f"{program.name} takes {len(program.parameters)} arguments, got {len(arguments)}")
        last = program.parameters[-1] if program.parameters else None
        block = bytearray(last.offset + last.size if last else 0)
        for parameter, value in zip(program.parameters, arguments, strict=False):
            if isinstance(value, torch.Tensor):
                value = self.address(value)
            if isinstance(value, float) or parameter.kind in FLOAT_FORMATS:
                sizes = {2: "e", 4: "f", 8: "d"}
                data = struct.pack("<" + FLOAT_FORMATS.get(parameter.kind, sizes[parameter.size]), value)
            else:
                data = int(value).to_bytes(parameter.size, "little", signed=value < 0)
            block[parameter.offset : parameter.offset + len(data)] = data
        return np.frombuffer(bytes(block), np.uint8)

    def layout(self, program: Program, shared_bytes: int) -> Layout:
        layout = Layout(dict(self.constants(program)))
        shared = [v for v in program.variables.values() if v.space == "shared"]
        for item in shared:
            if item.size is not None:
                layout.symbols[item.name] = -(-layout.end // item.align) * item.align
                layout.end = layout.symbols[item.name] + item.size
        dynamic = [v for v in shared if v.size is None]
        if dynamic:
            start = -(-layout.end // BASE) * BASE
            layout.symbols |= {v.name: start for v in dynamic}
            layout.end = start + shared_bytes
        elif shared_bytes:
            raise PTXError(f"{program.name} declares no dynamic shared memory")
        for item in program.variables.values():
            if item.space == "local":
                layout.symbols[item.name] = -(-layout.local // 16) * 16
                layout.local = layout.symbols[item.name] + item.size
        layout.local = -(-layout.local // 16) * 16
        layout.granule = smallest_access(program)
        return layout

    def constants(self, program: Program) -> dict[str, int]:
        """Addresses of the module's global and constant variables, placed at the first launch."""
        if id(program) not in self.tables:
            addresses = {}
            for item in program.variables.values():
                if item.space in ("global", "const"):
                    data = np.zeros(item.size, np.uint8)
                    data[: len(item.initial)] = np.frombuffer(item.initial, np.uint8)
                    addresses[item.name] = self.address(self.put(data))
            self.tables[id(program)] = (program, addresses)
        return self.tables[id(program)][1]


def smallest_access(program: Program) -> int:
    """Bytes of the narrowest access to memory: races are tracked in units of this, 4 at most."""
    widths = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2}
    return min(
        (widths.get(i.kind, 4) for i in program.instructions if i.name in ("ld", "st", "atom", "red")), default=4
    )
