"""engine.kernels.device with a replacement of torch.cuda: its calls, and their order."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from engine.config import BASE
from engine.kernels import device as gpu_device
from engine.kernels.gpu import GpuNetwork
from engine.kernels.launch import Launch
from engine.kernels.triton.build import Kernel
from engine.sampling.gpu.plan import Plan, Shape
from engine.sampling.gpu.staging import Rows
from tests.gpu.machine_code import kernels_of
from tests.support.networks import SMALL, random_network


@pytest.fixture
def calls(monkeypatch):
    """Record the calls to CUDA, in order. Tensors stay on the CPU."""
    recorded = []

    @contextmanager
    def entered(name, *_, **options):
        recorded.append((f"enter {name}", options))
        yield
        recorded.append((f"leave {name}", {}))

    class Graph:
        def replay(self):
            recorded.append(("replay", {}))

    class Event:
        def record(self):
            recorded.append(("record", {}))

        def query(self):
            return True

    fake = {
        "get_device_capability": lambda index: (9, 0),
        "get_device_properties": lambda index: SimpleNamespace(multi_processor_count=132),
        "device": lambda where: entered("device"),
        "CUDAGraph": Graph,
        "graph": lambda graph, **options: entered("graph", **options),
        "Event": Event,
    }
    for name, value in fake.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return recorded


@pytest.fixture
def device(calls, monkeypatch):
    simulated = gpu_device.CudaDevice(0)
    simulated.torch_device = torch.device("cpu")
    simulated.pinned = lambda shape, dtype: torch.empty(tuple(shape), dtype=simulated.dtypes[dtype])  # needs a driver

    class Compiled:
        def __getitem__(self, grid):
            return lambda *arguments: calls.append(("launch", {"grid": grid, "arguments": arguments}))

    compiled = []
    monkeypatch.setattr(
        Kernel, "compile", lambda kernel, capability: compiled.append((kernel, capability)) or Compiled()
    )
    simulated.compiled = compiled
    return simulated


def test_launches_pass_arguments_and_constants(device, calls):
    kernel = kernels_of(SMALL, "fp16", 90)["input_projection"]
    tensors = [torch.zeros(4, 16) for _ in range(5)]
    launch = Launch(kernel, (3, 2, 1), (*tensors, 128))
    call = device.bind(launch)
    device.bind(launch)
    assert device.compiled == [(kernel, 90)] and calls == []  # compiled once, not launched
    call()
    [(name, how)] = calls
    assert name == "launch" and how["grid"] == (3, 2, 1)
    assert how["arguments"] == (*tensors, 128, 32, 64)  # Triton's launcher expects the constants too


def test_a_capture_records_calls_in_order_and_replays_them(device, calls):
    replay = device.capture([lambda: calls.append(("a", {})), lambda: calls.append(("b", {}))])
    names = [name for name, _ in calls]
    assert names == ["enter graph", "a", "b", "leave graph"]
    assert calls[0][1] == {"capture_error_mode": "thread_local"}  # other threads may allocate meanwhile
    replay()
    assert calls[-1][0] == "replay"


def test_a_scope_selects_the_device_and_leaves_inference_mode(device, calls):
    with torch.inference_mode(), device.scope():
        assert not torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        assert not torch.zeros(1).is_inference()
    assert [name for name, _ in calls] == ["enter device", "leave device"]


def test_a_mark_is_an_event(device, calls):
    device.mark()
    assert calls == [("record", {})]


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(8, 16).T, torch.zeros(17)[1:], torch.zeros(4, device="meta")],
    ids=["strides", "address", "device"],
)
def test_unsuitable_tensors_raise_an_error(device, tensor):
    kernel = kernels_of(SMALL, "fp16", 90)["input_projection"]
    with pytest.raises(ValueError, match="input_projection: expected contiguous tensors on cpu, 16-byte aligned, got"):
        device.bind(Launch(kernel, (1, 1, 1), (tensor, *[torch.zeros(16)] * 4, 128)))


def test_running_a_plan_only_launches_and_replays(device, calls, monkeypatch):
    """Capture safety: a running plan neither allocates nor copies nor waits."""
    net = GpuNetwork(SMALL, random_network(SMALL, 1), device, "fp16")
    plan = Plan(net, Shape(2, 1280, False))
    launches = [how for name, how in calls if name == "launch"]
    steps, before = 6 * (1 + SMALL.residual_layers + 1), 1 + 3  # the noise, the upsampler, the conditioner
    assert len(launches) == before + steps
    calls.clear()
    for name in ("empty", "tensor", "bind", "mark", "event", "pinned"):
        monkeypatch.setattr(device, name, None)
    for name in ("empty", "zeros", "as_tensor", "tensor"):
        monkeypatch.setattr(torch, name, None)
    plan.run(start=True, prepare=True)
    plan.run()
    plan.run(start=True, prepare=True)
    names = [name for name, _ in calls]
    first = ["enter graph", *["launch"] * (before + steps), "leave graph", "replay"]
    assert names == [*first, "enter graph", *["launch"] * steps, "leave graph", "replay", "replay"]


def test_inputs_and_bounds_pass_without_a_synchronization(device, calls):
    """Of CUDA, a call's inputs take one event behind their copy, and the bounds of a mel another one."""
    net = GpuNetwork(SMALL, random_network(SMALL, 1), device, "fp16")
    plan = Plan(net, Shape(2, 1280, False))
    calls.clear()
    plan.send(Rows([2**64 - 1], [0], [256]), np.ones((6, 4), np.float32), 0)
    plan.bounds.request(torch.tensor([0.25, 0.5]))
    assert calls == [("record", {})] * 2


def test_too_many_channels_raise_an_error(device):
    with pytest.raises(Exception, match="up to 256 residual channels"):
        GpuNetwork(BASE.__class__(residual_channels=512), {}, device, "fp16")
