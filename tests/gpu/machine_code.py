"""Machine code of a kernel: its resources and instructions, read with the tools that come with Triton."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import triton

from engine.config import Config
from engine.kernels.gpu import GpuNetwork
from engine.kernels.launch import GRAIN, Call, Launch
from tests.gpu.devices import HostDevice, compile_once
from tests.support.networks import random_network

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TENSOR_CORES = re.compile(r"HMMA|HGMMA|UTC\w*MMA")


@dataclass(frozen=True)
class Multiprocessor:
    """Capacity of one multiprocessor of an architecture (CUDA programming guide, compute capabilities)."""

    shared_kb: int
    threads: int
    registers: int = 65536

    def programs(self, code: MachineCode) -> int:
        """Return how many programs of a kernel run on the multiprocessor at a time."""
        threads = 32 * code.warps
        # A warp allocates registers in units of 256. A program takes 1 KB of shared memory beside its own.
        registers = code.warps * -(-32 * code.registers // 256) * 256
        shared = code.shared + 1024
        return min(self.registers // registers, self.threads // threads, self.shared_kb * 1024 // shared)


MULTIPROCESSORS = {
    80: Multiprocessor(164, 2048),
    86: Multiprocessor(100, 1536),
    89: Multiprocessor(100, 1536),
    90: Multiprocessor(228, 2048),
    100: Multiprocessor(228, 2048),
    120: Multiprocessor(100, 1536),
}


@dataclass(frozen=True)
class MachineCode:
    """Resources and opcodes of one kernel.

    Attributes:
        registers: registers of a thread.
        stack: stack of a thread in bytes, which holds spilled registers.
        local: local memory of a thread in bytes.
        shared: shared memory of a program in bytes.
        warps: warps of a program.
        opcodes: the number of instructions per opcode, with modifiers ("LDG.E.128").
    """

    registers: int
    stack: int
    local: int
    shared: int
    warps: int
    opcodes: Counter[str]

    def count(self, pattern: str) -> int:
        """Count the instructions whose opcode matches a pattern at its beginning."""
        return sum(n for opcode, n in self.opcodes.items() if re.match(pattern, opcode))


@cache
def machine_code(kernel: Any, capability: int) -> MachineCode:
    """Compile a kernel and disassemble it."""
    compiled = compile_once(kernel, capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage, text = _output("cuobjdump", "-res-usage", file.name), _output("nvdisasm", "-c", file.name)
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert match, usage
    registers, stack, local = map(int, match.groups())
    # "/*0040*/ @!P0 LDG.E.128 R4, ..." and the same without a predicate
    opcodes = Counter(re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", text, re.MULTILINE))
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    return MachineCode(registers, stack, local, shared, warps, opcodes)


def _output(tool: str, *arguments: str) -> str:
    run = subprocess.run([TOOLS / tool, *arguments], capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


class RecordingDevice(HostDevice):
    """Device that records the kernels of launches and runs nothing."""

    def __init__(self, capability: int) -> None:
        super().__init__()
        self.capability = capability
        self.kernels: dict[str, Any] = {}

    def compiled(self, launch: Launch) -> Call:
        self.kernels[launch.kernel.name] = launch.kernel
        return lambda: None


def kernels_of(config: Config, precision: str, capability: int, isa: str | None = None) -> dict[str, Any]:
    """Return every kernel that a network of this configuration launches, by operation."""
    device = RecordingDevice(capability)
    net = GpuNetwork(config, random_network(config, 1), device, precision, isa)
    buffers = net.buffers(1, 2 * GRAIN, 1, False)
    rows = device.empty((1, config.residual_layers, 7 * net.channels), "fp32")
    launches = [
        net.initial_noise(buffers.x, buffers.seeds, buffers.begins, buffers.lengths),
        *net.fold_steps(device.empty((1, 128), "fp32"), rows),
        *net.condition(buffers),
        *net.step(buffers, 0),
    ]
    for launch in launches:
        device.bind(launch)
    return device.kernels
