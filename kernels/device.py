"""NVIDIA GPUs: detection, tensors, launches and CUDA graphs. The only file of the engine that calls CUDA."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np

from engine.checks.installation import how_to_install
from engine.kernels.cuda.build import CudaKernel
from engine.kernels.launch import Call, Launch

MIN_CAPABILITY = 80  # Ampere; Triton uses no tensor cores of older architectures

_LOG = logging.getLogger(__name__)
_DRIVERS = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")


def obstacle(index: int = 0) -> str | None:
    """Return why a GPU cannot be used here, with a remedy, or None if it can be used.

    The driver is checked first: without one, neither torch nor triton is imported.

    Args:
        index: the number of the GPU.
    """
    if not _driver_found():
        return "no NVIDIA driver was found (libcuda.so.1)"
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed: {how_to_install('gpu')}"
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} was built without CUDA: install a CUDA build of it"
    if not torch.cuda.is_available():
        return "PyTorch finds no usable GPU: see torch.cuda.is_available() and nvidia-smi"
    if index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} GPUs, numbered from 0"
    capability = _capability(index)
    if capability < MIN_CAPABILITY:
        name = torch.cuda.get_device_name(index)
        return f"{name} has compute capability {capability / 10:g}, the kernels need {MIN_CAPABILITY / 10:g}"
    return None


def describe(index: int = 0) -> str:
    """Describe a usable GPU by name, memory, multiprocessors and architecture. Requires that `obstacle` is None.

    Args:
        index: the number of the GPU.
    """
    import torch

    properties = torch.cuda.get_device_properties(index)
    memory = properties.total_memory / 2**30
    return f"{properties.name}, {memory:.0f} GiB, {properties.multi_processor_count} multiprocessors, {isa(index)}"


def isa(index: int = 0) -> str:
    """Return the architecture that kernels are compiled for, such as "sm_90".

    Args:
        index: the number of the GPU.
    """
    return f"sm_{_capability(index)}"


class CudaDevice:
    """One NVIDIA GPU: the `engine.kernels.launch.Device` of every user."""

    def __init__(self, index: int = 0) -> None:
        import torch

        self._torch = torch
        self.torch_device = torch.device("cuda", index)
        self.capability = _capability(index)
        self.multiprocessors = int(torch.cuda.get_device_properties(index).multi_processor_count)
        self.dtypes: Mapping[str, Any] = {
            "fp32": torch.float32,
            "fp16": torch.float16,
            "bf16": torch.bfloat16,
            "i32": torch.int32,
            "i64": torch.int64,
        }
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        """Allocate an uninitialized tensor."""
        return self._torch.empty(tuple(shape), dtype=self.dtypes[dtype], device=self.torch_device)

    def tensor(self, values: Any, dtype: str) -> Any:
        """Copy values into a contiguous tensor on this device."""
        return as_tensor(values).to(self.torch_device, self.dtypes[dtype]).contiguous()

    def pinned(self, shape: Sequence[int], dtype: str) -> Any:
        """Allocate a tensor in page-locked host memory, from and to which copies are asynchronous."""
        return self._torch.empty(tuple(shape), dtype=self.dtypes[dtype], pin_memory=True)

    def clip(self, values: Any, limits: tuple[float, float] | None, target: Any) -> None:
        """Copy a tensor of this device into another one, limited to an interval if there is one; NaN stays NaN."""
        clip(values, limits, target)

    def extremes(self, values: Any, low: Any, high: Any) -> None:
        """Write the smallest and the largest value of a tensor into two tensors [], NaN if it holds one."""
        self._torch.aminmax(values, out=(low, high))

    def bind(self, launch: Launch) -> Call:
        """Compile the kernel if it is new and fix its arguments."""
        check_tensors(launch, self.torch_device)
        compiled = self._handle(launch.kernel)
        return partial(compiled[launch.grid], *launch_arguments(launch))

    def capture(self, calls: Sequence[Call]) -> Call:
        """Record all calls as one CUDA graph; the result replays it on the current stream."""
        torch = self._torch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for call in calls:
                call()
        replay: Call = graph.replay
        return replay

    def event(self) -> Any:
        """Return a CUDA event that is not recorded yet."""
        return self._torch.cuda.Event()  # type: ignore[no-untyped-call]

    def mark(self) -> Any:
        """Mark the current end of the current stream's work with a CUDA event."""
        event = self.event()
        event.record()
        return event

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make this device the current one, with ordinary tensors and without gradients."""
        torch = self._torch
        with torch.cuda.device(self.torch_device), torch.inference_mode(False), torch.no_grad():
            yield

    def _handle(self, kernel: Any) -> Any:
        with self._lock:
            if kernel not in self._compiled:
                if not self._compiled:
                    _LOG.info("first call on this GPU: compiling kernels for sm_%d", self.capability)
                begin = time.perf_counter()
                compiled = kernel.compile(self.capability)
                _LOG.debug("compiled %s in %.2f s", kernel.name, time.perf_counter() - begin)
                if isinstance(kernel, CudaKernel):
                    compiled = Function(kernel, compiled.asm["cubin"])
                self._compiled[kernel] = compiled
            return self._compiled[kernel]


class Function:
    """A CUDA kernel loaded on the current device; `Function[grid](*arguments)` launches it on torch's current stream.

    With `CudaKernel.dependent` it is a programmatic dependent launch.
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
        cluster, size = driver.CUlaunchAttribute(), driver.CUlaunchAttributeValue()
        size.clusterDim.x, size.clusterDim.y, size.clusterDim.z = self._kernel.cluster
        cluster.id, cluster.value = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, size
        config.attrs = [dependent] * self._kernel.dependent + [cluster] * (self._kernel.cluster != (1, 1, 1))
        config.numAttrs = len(config.attrs)

        def launch(*arguments: Any) -> None:
            import torch

            config.hStream = torch.cuda.current_stream().cuda_stream
            values = [item.data_ptr() if hasattr(item, "data_ptr") else item for item in arguments]
            types = [ctypes.c_void_p if hasattr(item, "data_ptr") else ctypes.c_int for item in arguments]
            _checked(driver.cuLaunchKernelEx(config, self._function, (tuple(values), tuple(types)), 0))

        return launch


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the value of a driver call, which follows its status; raise RuntimeError for a failure."""
    if int(result[0]):
        raise RuntimeError(f"CUDA driver: {result[0].name}")
    return result[1] if len(result) > 1 else None


def as_tensor(values: Any) -> Any:
    """Return values as a tensor. An array that PyTorch cannot share (negative strides, read-only) is copied."""
    import torch

    return torch.as_tensor(np.require(values, requirements=["C", "W"]) if isinstance(values, np.ndarray) else values)


def clip(values: Any, limits: tuple[float, float] | None, target: Any) -> None:
    """Copy a tensor into another one of its shape in one operation, limited to an interval if there is one."""
    import torch

    if limits is None:
        target.copy_(values, non_blocking=True)
    else:
        torch.clamp(values, *limits, out=target)


def launch_arguments(launch: Launch) -> list[Any]:
    """Return the arguments of the kernel's launcher. Triton's launcher expects the constants among them."""
    if isinstance(launch.kernel, CudaKernel):
        return list(launch.arguments)
    constants, arguments = dict(launch.kernel.constants), iter(launch.arguments)
    return [constants[name] if name in constants else next(arguments) for name in launch.kernel.function.arg_names]


def check_tensors(launch: Launch, torch_device: Any) -> None:
    """Raise ValueError unless every tensor is contiguous, 16-byte aligned and on the device.

    The kernels address rows without checks: a wrong tensor would be a silent fault on the GPU.
    """
    for argument in launch.arguments:
        if not hasattr(argument, "data_ptr"):
            continue
        if argument.device != torch_device or argument.data_ptr() % 16 or not argument.is_contiguous():
            got = f"{tuple(argument.shape)} with strides {argument.stride()} on {argument.device}"
            expected = f"contiguous tensors on {torch_device}, 16-byte aligned"
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
