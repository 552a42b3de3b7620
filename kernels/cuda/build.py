"""Compilation of CUDA C++ by NVRTC, in the process that runs the code: no compiler has to be installed."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

from engine.errors import UnavailableError
from engine.kernels.cuda import cache
from engine.kernels.cuda.cache import Code


@dataclass(frozen=True)
class CudaKernel:
    """A CUDA function with everything that is fixed at compile time, like `engine.kernels.triton.build.Kernel`.

    Attributes:
        name: the name of the operation, the function and the file.
        room: the folder of the file in kernels/.
        architecture: the only one that the code is for, such as "sm_90a"; None for that of every GPU.
        defines: macros and their values.
        threads: threads of a block.
        shared: shared memory of a block in bytes.
        headers: names and texts of files that the source includes.
        cluster: blocks of a cluster in three dimensions.
        dependent: the kernel may begin while the kernel before it ends. It waits (griddepcontrol.wait) before it reads
            the output of that kernel.
    """

    name: str
    room: str
    architecture: str | None
    defines: tuple[tuple[str, int], ...]
    threads: int
    shared: int
    headers: tuple[tuple[str, str], ...] = ()
    cluster: tuple[int, int, int] = (1, 1, 1)
    dependent: bool = False

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.threads // 32

    def source(self) -> str:
        """Return the text of the file."""
        return read(self.room, f"{self.name}.cu")

    def compile(self, capability: int) -> Any:
        """Compile to machine code, or read what was compiled before (`cache`).

        Args:
            capability: 10 * major + minor.

        Returns:
            An object like Triton's CompiledKernel: `asm` holds "ptx" and "cubin", `metadata` holds num_warps and
            shared, in bytes.

        Raises:
            ValueError: the code is for another architecture.
            RuntimeError: NVRTC rejects the source or does not know the architecture; the message holds its log.
            UnavailableError: the machine code spills registers or serializes its products.
        """
        architecture = self.architecture or f"sm_{capability}"
        if architecture.rstrip("af") != f"sm_{capability}":
            raise ValueError(
                f"{self.name}: expected compute capability {architecture[3:].rstrip('af')}, got {capability}"
            )
        defines = (f"-D{name}={value}" for name, value in self.defines)
        # ptxas reports on the registers only if it is asked to. Noise must not be fused; what may be fused says fmaf.
        options = (
            f"--gpu-architecture={architecture}",
            "--std=c++17",
            "--ptxas-options=--verbose",
            "--fmad=false",
            *defines,
        )
        code = _compiled(self.source(), f"{self.name}.cu", options, self.headers)
        if why := slow_code(code.log):
            raise UnavailableError(f"isa: NVRTC {version()} compiles {architecture!r} {why}; leave isa out")
        metadata = SimpleNamespace(num_warps=self.warps, shared=self.shared)
        return SimpleNamespace(name=self.name, asm={"ptx": code.ptx, "cubin": code.cubin}, metadata=metadata)


def slow_code(log: str) -> str | None:
    """Return what makes compiled code slow, from the log of ptxas, or None.

    A new compiler may spill registers into local memory or let products wait for each other where the one that the
    kernels were written with did not. Either costs more than the kernels gain.
    """
    spills = [int(match) for match in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log)]
    if any(spills):
        return f"with {max(spills)} bytes of local memory a thread"
    if re.search(r"wgmma\S* instructions are serialized", log):
        return "with products that wait for each other"
    return None if spills else "without a report on its registers"


def read(room: str, name: str) -> str:
    """Return the text of a file of a folder of kernels/."""
    return resources.files(f"engine.kernels.{room}").joinpath(name).read_text()


@functools.cache
def headers(room: str) -> tuple[tuple[str, str], ...]:
    """Return names and texts of the files that the stack.cu of a folder includes."""
    shared = [(name, read("cuda", name)) for name in ("numbers.cu", "ends.cu", "noise.cu")]
    return *shared, ("instructions.cu", read(room, "instructions.cu"))


@functools.cache
def obstacle() -> str | None:
    """Return why NVRTC cannot be used here, with a remedy, or None if it can be used."""
    try:
        from cuda.bindings import nvrtc

        _checked(nvrtc.nvrtcVersion())
    except (ImportError, RuntimeError) as error:
        why = " ".join(str(error).split())[:120]
        return f"NVRTC cannot be used ({why}): pip install cuda-bindings nvidia-cuda-nvrtc"
    return None


@functools.cache
def knows(capability: int) -> bool:
    """Return whether NVRTC compiles for GPUs of a compute capability. Requires that `obstacle` is None.

    Args:
        capability: 10 * major + minor.
    """
    from cuda.bindings import nvrtc

    return capability in _checked(nvrtc.nvrtcGetSupportedArchs())


def version() -> str:
    """Return the version of NVRTC. Requires that `obstacle` is None."""
    from cuda.bindings import nvrtc

    return ".".join(map(str, _checked(nvrtc.nvrtcVersion())))


@functools.cache
def _compiled(source: str, name: str, options: tuple[str, ...], headers: tuple[tuple[str, str], ...]) -> Code:
    """Return the code of a source, from the cache if it holds it."""
    key = cache.key_of(_compiler(), source, name, options, headers)
    code = cache.load(key)
    if code is None:
        code = _compile(source, name, options, headers)
        cache.store(key, code)
    return code


def _compile(source: str, name: str, options: tuple[str, ...], headers: tuple[tuple[str, str], ...]) -> Code:
    """Compile a source.

    Raises:
        RuntimeError: NVRTC rejects it; the message holds its log.
    """
    from cuda.bindings import nvrtc

    names, texts = (
        [part.encode() for part in parts] for parts in (zip(*headers, strict=True) if headers else ((), ()))
    )
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), len(names), texts, names))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        log = _buffer(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        report = log.decode(errors="replace").strip("\0 \n")
        if int(status):
            raise RuntimeError(f"{name}: {report}")
        ptx = _buffer(_checked(nvrtc.nvrtcGetPTXSize(program)))
        _checked(nvrtc.nvrtcGetPTX(program, ptx))
        size = _checked(nvrtc.nvrtcGetCUBINSize(program))
        cubin = _buffer(size)
        _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Code(ptx.rstrip(b"\0").decode(), cubin[:size], report)


def _buffer(size: int) -> bytes:
    """Return new bytes, which NVRTC overwrites: at least two, as Python shares all objects of one byte or none."""
    return bytes(size + 2)


@functools.cache
def _compiler() -> str:
    """Return the compiler's name for its build, which its version alone does not identify.

    It stands in the comment above any PTX.
    """
    return _compile("", "empty.cu", (), ()).ptx.partition(".version")[0]


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the value of an NVRTC call, which follows its status; raise RuntimeError for a failure."""
    status, *values = result
    if int(status):
        raise RuntimeError(f"NVRTC: {status.name}")
    return values[0] if len(values) == 1 else tuple(values)
