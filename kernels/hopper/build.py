"""From CUDA C++ to machine code by NVRTC, in the process that runs it: no compiler has to be installed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import SimpleNamespace
from typing import Any

from engine.errors import UnavailableError
from engine.kernels.hopper.layout import CHANNELS

CAPABILITY, ISA = 90, "sm_90a"  # what the code is written for; its instructions exist on no other
# Warpgroups of a block. Four have too few registers, two took 0.39 ms where three take 0.34 (1 s, 30 layers, H100).
GROUPS = 3
ROWS = 64  # samples of a tile


@dataclass(frozen=True)
class CudaKernel:
    """One function with all that is fixed when it is compiled; what `engine.kernels.triton.build.Kernel` is for Triton.

    Attributes:
        name: of the operation, the function and the file.
        defines: macros and their values.
        threads: of a block.
        shared: bytes of shared memory of a block.
    """

    name: str
    defines: tuple[tuple[str, int], ...]
    threads: int
    shared: int

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.threads // 32

    def compile(self, capability: int) -> Any:
        """Machine code, in the form of Triton's: `asm` "ptx" and "cubin", `metadata` num_warps and shared in bytes.

        Raises:
            ValueError: another capability than 90.
            RuntimeError: NVRTC refuses the source; its log.
        """
        if capability != CAPABILITY:
            raise ValueError(f"{self.name}: expected compute capability {CAPABILITY}, got {capability}")
        source = resources.files("engine.kernels.hopper").joinpath(f"{self.name}.cu").read_text()
        options = (f"--gpu-architecture={ISA}", "--std=c++17", *(f"-D{name}={value}" for name, value in self.defines))
        ptx, cubin = _compiled(source, f"{self.name}.cu", options)
        metadata = SimpleNamespace(num_warps=self.warps, shared=self.shared)
        return SimpleNamespace(name=self.name, asm={"ptx": ptx, "cubin": cubin}, metadata=metadata)


def residual_block(conditioned: bool, reflect: bool, bf16: bool) -> CudaKernel:
    """`residual_block.cu`; shared memory: weights, two tiles of three taps for each warpgroup, biases."""
    macros = {"CONDITIONED": conditioned, "REFLECT": reflect, "BF16": bf16}
    defines = (("GROUPS", GROUPS), *((name, 1) for name, wanted in macros.items() if wanted))
    weights, inputs, biases = 4 * 2 * CHANNELS * CHANNELS * 2, GROUPS * 6 * ROWS * CHANNELS * 2, 9 * CHANNELS * 4
    return CudaKernel("residual_block", defines, 128 * GROUPS, weights + inputs + biases)


def check(channels: int, storage: str) -> None:
    """Refuse a network whose residual blocks are not made here; channels are padded ones.

    Raises:
        UnavailableError: what there is, and what was asked for.
    """
    if channels != CHANNELS or storage not in ("fp16", "bf16"):
        raise UnavailableError(
            f"isa: {ISA!r} has residual blocks of {CHANNELS} channels in fp16 and bf16, this network wants {channels} "
            f"in {storage}; leave isa out"
        )


@cache
def obstacle() -> str | None:
    """Why NVRTC cannot be used here, and what to do; None if it can."""
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
    """The value of a call to NVRTC, whose status comes first."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"NVRTC: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)
