"""The one file that touches a GPU: whether there is one, its tensors, its launches, its graphs."""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

from engine.kernels.hopper.build import CudaKernel
from engine.kernels.launch import Call, Launch

MIN_CAPABILITY = 80  # Ampere; Triton has no tensor cores for less

_DRIVERS = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")


def obstacle(index: int = 0) -> str | None:
    """Why no GPU can be used here, and what to do; None if one can.

    Asks for the driver first: without one nothing heavy is imported.
    """
    if not _driver_found():
        return "no NVIDIA driver was found (libcuda.so.1)"
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: pip install -e '.[gpu]' in the source folder"
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} was built without CUDA: install a CUDA build of it"
    if not torch.cuda.is_available():
        return "PyTorch finds no usable GPU: see torch.cuda.is_available() and nvidia-smi"
    if index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} GPUs, numbered from 0"
    found = _capability(index)
    if found < MIN_CAPABILITY:
        name = torch.cuda.get_device_name(index)
        return f"{name} has compute capability {found / 10:g}, the kernels need {MIN_CAPABILITY / 10:g}"
    return None


def describe(index: int = 0) -> str:
    """The GPU by name, memory and architecture; only where there is no `obstacle`."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    memory = properties.total_memory / 2**30
    return f"{properties.name}, {memory:.0f} GiB, {properties.multi_processor_count} multiprocessors, {isa(index)}"


def isa(index: int = 0) -> str:
    """What kernels are compiled for: "sm_90"."""
    return f"sm_{_capability(index)}"


class CudaDevice:
    """One NVIDIA GPU: the `engine.kernels.launch.Device` that a user runs on."""

    def __init__(self, index: int = 0) -> None:
        import torch

        self._torch = torch
        self.where = torch.device("cuda", index)
        self.capability = _capability(index)
        self.multiprocessors = int(torch.cuda.get_device_properties(index).multi_processor_count)
        self._dtypes = {
            "fp32": torch.float32,
            "fp16": torch.float16,
            "bf16": torch.bfloat16,
            "i32": torch.int32,
            "i64": torch.int64,
        }
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        """A tensor, not initialised."""
        return self._torch.empty(tuple(shape), dtype=self._dtypes[dtype], device=self.where)

    def tensor(self, values: Any, dtype: str) -> Any:
        """A tensor with these values."""
        return as_tensor(values).to(self.where, self._dtypes[dtype]).contiguous()

    def bind(self, launch: Launch) -> Call:
        """Compile a kernel that is new, and fix its arguments."""
        check_tensors(launch, self.where)
        compiled = self._handle(launch.kernel)
        return partial(compiled[launch.grid], *launch_arguments(launch))

    def capture(self, calls: Sequence[Call]) -> Call:
        """All calls as one CUDA graph, to be replayed on the current stream."""
        torch = self._torch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for call in calls:
                call()
        replay: Call = graph.replay
        return replay

    def mark(self) -> Any:
        """The current stream's work up to now, as a CUDA event."""
        event: Any = self._torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    @contextmanager
    def scope(self) -> Iterator[None]:
        """This device is the current one; tensors are ordinary ones, without gradients."""
        torch = self._torch
        with torch.cuda.device(self.where), torch.inference_mode(False), torch.no_grad():
            yield

    def _handle(self, kernel: Any) -> Any:
        with self._lock:
            if kernel not in self._compiled:
                made = kernel.compile(self.capability)
                self._compiled[kernel] = Function(kernel, made.asm["cubin"]) if isinstance(kernel, CudaKernel) else made
            return self._compiled[kernel]


class Function:
    """A CUDA kernel in the memory of the current device; `Function[grid](*arguments)` launches it on torch's stream.

    Its launch is a programmatic dependent one: it may begin while the kernel before it ends, and waits by itself
    (griddepcontrol.wait) before it reads what that one writes.
    """

    def __init__(self, kernel: CudaKernel, cubin: bytes) -> None:
        from cuda.bindings import driver

        self._kernel = kernel
        self._module = _checked(driver.cuModuleLoadData(cubin))
        self._function = _checked(driver.cuModuleGetFunction(self._module, kernel.name.encode()))
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(self._function, limit, kernel.shared))

    def __getitem__(self, grid: tuple[int, int, int]) -> Any:
        from cuda.bindings import driver

        config, dependent = driver.CUlaunchConfig(), driver.CUlaunchAttribute()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid
        config.blockDimX, config.blockDimY, config.blockDimZ = self._kernel.threads, 1, 1
        config.sharedMemBytes = self._kernel.shared
        value = driver.CUlaunchAttributeValue()
        value.programmaticStreamSerializationAllowed = 1
        dependent.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        dependent.value = value
        config.attrs, config.numAttrs = [dependent], 1

        def launch(*arguments: Any) -> None:
            import torch

            config.hStream = torch.cuda.current_stream().cuda_stream
            values = [one.data_ptr() if hasattr(one, "data_ptr") else one for one in arguments]
            types = [ctypes.c_void_p if hasattr(one, "data_ptr") else ctypes.c_int for one in arguments]
            _checked(driver.cuLaunchKernelEx(config, self._function, (tuple(values), tuple(types)), 0))

        return launch


def _checked(result: tuple[Any, ...]) -> Any:
    """The value of a call to the driver, whose status comes first."""
    if int(result[0]):
        raise RuntimeError(f"CUDA driver: {result[0].name}")
    return result[1] if len(result) > 1 else None


def as_tensor(values: Any) -> Any:
    """A tensor with these values; of an array that PyTorch cannot share (reversed, or not to be written), a copy."""
    import torch

    return torch.as_tensor(np.require(values, requirements=["C", "W"]) if isinstance(values, np.ndarray) else values)


def launch_arguments(launch: Launch) -> list[Any]:
    """What a launcher takes; Triton's wants the constants, too, between the arguments."""
    if isinstance(launch.kernel, CudaKernel):
        return list(launch.arguments)
    constants, given = dict(launch.kernel.constants), iter(launch.arguments)
    return [constants[name] if name in constants else next(given) for name in launch.kernel.function.arg_names]


def check_tensors(launch: Launch, where: Any) -> None:
    """Kernels take rows of their own device, one after the other, from a multiple of 16 on; no other would be told."""
    for argument in launch.arguments:
        if not hasattr(argument, "data_ptr"):
            continue
        if argument.device != where or argument.data_ptr() % 16 or not argument.is_contiguous():
            got = f"{tuple(argument.shape)} with strides {argument.stride()} on {argument.device}"
            expected = f"contiguous tensors on {where}, 16-byte aligned"
            raise ValueError(f"{launch.kernel.name}: expected {expected}, got {got}")


def _capability(index: int) -> int:
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor


def _driver_found() -> bool:
    for name in _DRIVERS:
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False
