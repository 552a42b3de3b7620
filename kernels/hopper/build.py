"""Compilation of CUDA C++ by NVRTC, in the process that runs the code: no compiler has to be installed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import SimpleNamespace
from typing import Any

from engine.errors import UnavailableError
from engine.kernels.hopper.layout import CHANNELS

CAPABILITY, ISA = 90, "sm_90a"  # the only architecture that has the instructions of the code
# Warpgroups of a block. Four have too few registers. Two take 0.39 ms, three 0.34 ms (1 s, 30 layers, H100).
GROUPS = 3
ROWS = 64  # samples of a tile


@dataclass(frozen=True)
class CudaKernel:
    """A CUDA function with everything that is fixed at compile time, like `engine.kernels.triton.build.Kernel`.

    Attributes:
        name: the name of the operation, the function and the file.
        defines: macros and their values.
        threads: threads of a block.
        shared: shared memory of a block in bytes.
    """

    name: str
    defines: tuple[tuple[str, int], ...]
    threads: int
    shared: int

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.threads // 32

    def compile(self, capability: int) -> Any:
        """Compile to machine code.

        Args:
            capability: 90.

        Returns:
            An object like Triton's CompiledKernel: `asm` holds "ptx" and "cubin", `metadata` holds num_warps and
            shared, in bytes.

        Raises:
            ValueError: the capability is not 90.
            RuntimeError: NVRTC rejects the source; the message holds its log.
        """
        if capability != CAPABILITY:
            raise ValueError(f"{self.name}: expected compute capability {CAPABILITY}, got {capability}")
        source = resources.files("engine.kernels.hopper").joinpath(f"{self.name}.cu").read_text()
        options = (f"--gpu-architecture={ISA}", "--std=c++17", *(f"-D{name}={value}" for name, value in self.defines))
        ptx, cubin = _compiled(source, f"{self.name}.cu", options)
        metadata = SimpleNamespace(num_warps=self.warps, shared=self.shared)
        return SimpleNamespace(name=self.name, asm={"ptx": ptx, "cubin": cubin}, metadata=metadata)


def residual_block(conditioned: bool, reflect: bool, bf16: bool) -> CudaKernel:
    """Build the `CudaKernel` of residual_block.cu.

    Its shared memory holds the weights, two tiles of three taps for each warpgroup, and the biases.

    Args:
        conditioned: add a conditioner.
        reflect: reflect h at the ends instead of padding with 0.
        bf16: store bf16 instead of fp16.
    """
    macros = {"CONDITIONED": conditioned, "REFLECT": reflect, "BF16": bf16}
    defines = (("GROUPS", GROUPS), *((name, 1) for name, is_defined in macros.items() if is_defined))
    weights, inputs, biases = 4 * 2 * CHANNELS * CHANNELS * 2, GROUPS * 6 * ROWS * CHANNELS * 2, 9 * CHANNELS * 4
    return CudaKernel("residual_block", defines, 128 * GROUPS, weights + inputs + biases)


def check(channels: int, storage: str) -> None:
    """Check that the kernel supports a network.

    Args:
        channels: the padded number of channels.
        storage: the storage type in Triton's notation.

    Raises:
        UnavailableError: the kernel does not support these channels or this storage.
    """
    if channels != CHANNELS or storage not in ("fp16", "bf16"):
        raise UnavailableError(
            f"isa: {ISA!r} supports {CHANNELS} channels in fp16 and bf16, this network has {channels} in {storage}; "
            "leave isa out"
        )


@cache
def obstacle() -> str | None:
    """Return why NVRTC cannot be used here, with a remedy, or None if it can be used."""
    try:
        from cuda.bindings import nvrtc

        _checked(nvrtc.nvrtcVersion())
    except (ImportError, RuntimeError) as error:
        why = " ".join(str(error).split())[:120]
        return f"NVRTC cannot be used ({why}): pip install cuda-bindings nvidia-cuda-nvrtc"
    return None


@cache
def _compiled(source: str, name: str, options: tuple[str, ...]) -> tuple[str, bytes]:
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if int(status):
            log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
            _checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"{name}: {log.decode(errors='replace').strip(chr(0))}")
        ptx = b" " * _checked(nvrtc.nvrtcGetPTXSize(program))
        _checked(nvrtc.nvrtcGetPTX(program, ptx))
        cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return ptx.rstrip(b"\0").decode(), cubin


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the value of an NVRTC call, which follows its status; raise RuntimeError for a failure."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"NVRTC: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)
