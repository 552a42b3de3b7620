"""Memory of a simulated GPU, and launches of parsed programs on it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tests.gpu.ptx.chunk import Chunk
from tests.gpu.ptx.clusters import arrange
from tests.gpu.ptx.errors import PTXError
from tests.gpu.ptx.memory import WRITTEN, GlobalMemory
from tests.gpu.ptx.parse import Program
from tests.gpu.ptx.shared import BASE

GAP = 4096  # between buffers, so that an index past the end of one does not reach another
ALIGN = 256  # as in cudaMalloc
CHUNK_LANES = 8192  # more lanes amortize the cost of interpretation until they exceed the cache
FLOAT_FORMATS = {"f32": "f", "f64": "d", "f16": "e"}


@dataclass
class Layout:
    """Addresses of a program's variables."""

    symbols: dict[str, int] = field(default_factory=dict)
    end: int = BASE
    local: int = 0
    granule: int = 4


@dataclass
class Launch:
    """One launch of a program on a machine."""

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
    cluster: tuple[int, int, int]


class Machine:
    """Flat device memory. The host reads and writes the tensors from `empty` and `put` directly.

    Attributes:
        worst_approximations: give tanh.approx.f32 the largest error that the PTX manual allows, instead of none.
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
        """Allocate a tensor of poison (every byte 0xFF), which a program may not read before it is written."""
        dtype = dtype if isinstance(dtype, torch.dtype) else torch.from_numpy(np.empty(0, dtype)).dtype
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(shape) * dtype.itemsize
        start = self.allocate(size)
        return self.bytes[start : start + size].view(dtype).view(shape)

    def put(self, values: Any) -> torch.Tensor:
        """Copy an array or tensor into the machine's memory."""
        values = values.detach() if isinstance(values, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(values))
        tensor = self.empty(tuple(values.shape), values.dtype)
        tensor.copy_(values)
        self.mark_written(tensor)
        return tensor

    def address(self, tensor: torch.Tensor) -> int:
        """Return the device address of a tensor's first element."""
        address = tensor.data_ptr() - self.bytes.data_ptr()
        if not GAP <= address <= self.top:
            raise ValueError("the tensor does not lie in the machine's memory")
        return address

    def mark_written(self, tensor: torch.Tensor) -> None:
        """Mark all of a contiguous tensor as written by the host."""
        if not tensor.is_contiguous():
            raise ValueError("expected a contiguous tensor")
        if tensor.numel():
            start = self.address(tensor)
            self.memory.mark(slice(start, start + tensor.numel() * tensor.element_size()))

    def mark_filled(self, tensor: torch.Tensor) -> None:
        """Mark the elements of a contiguous tensor that are not poison as written by the host."""
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
        cluster: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        """Run every CTA of the grid.

        Args:
            program: the parsed program.
            grid: CTAs in up to three dimensions.
            threads: threads of a CTA, a multiple of 32.
            arguments: tensors of this machine and numbers. Missing trailing parameters are 0, like Triton's scratch
                pointers.
            shared_bytes: dynamic shared memory of a CTA in bytes.
            checks: detect races and reads of unwritten memory.
            counters: a `Counters` that counts instructions and traffic; None for none.
            max_steps: the most instructions that a chunk of CTAs may execute.
            fenced_copies: set to False for PTX without a fence.proxy.async between cp.async and a wgmma that reads its
                data. PTX requires the fence. Triton 3.6 omits it; Triton 3.9 does not.
            cluster: CTAs of a cluster in three dimensions.
        """
        if threads % 32 or not 0 < threads <= 1024:
            raise ValueError(f"expected whole warps, up to 1024 threads, got {threads}")
        grid = (grid,) if isinstance(grid, int) else tuple(grid)
        grid = (*grid, 1, 1)[:3]
        parameters = self.parameters(program, arguments)
        layout = self.layout(program, shared_bytes)
        self.memory.begin(math.prod(grid), layout.granule)
        switches = checks, counters, max_steps, fenced_copies, cluster
        launch = Launch(self, program, grid, threads, parameters, shared_bytes, layout, *switches)
        if counters is not None:
            counters.launches += 1
        ctas, size = arrange(grid, cluster), math.prod(cluster)
        each = max(size, min(CHUNK_LANES // threads, (1 << 28) // (8 * layout.end)) // size * size)
        for first in range(0, len(ctas), each):
            Chunk(launch, ctas[first : first + each]).run()

    def parameters(self, program: Program, arguments: Any) -> np.ndarray:
        """Encode the arguments as the bytes that ld.param reads."""
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
        """Return the addresses of the module's global and constant variables, allocated at the first launch."""
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
    """Return the bytes of the narrowest access to memory, at most 4: the unit in which races are tracked."""
    widths = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2}
    return min(
        (widths.get(i.kind, 4) for i in program.instructions if i.name in ("ld", "st", "atom", "red")), default=4
    )
