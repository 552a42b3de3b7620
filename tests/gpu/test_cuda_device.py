"""The one file that touches a GPU, with a stand-in for torch.cuda: what it asks for, and in which order."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from engine.config import BASE
from engine.kernels import cuda
from engine.kernels.gpu import GpuNetwork
from engine.kernels.launch import Launch
from engine.kernels.triton import build
from tests.gpu.machine_code import kernels_of
from tests.support.networks import SMALL


@pytest.fixture
def asked(monkeypatch):
    """Everything that was asked of the driver, in order; tensors stay on the CPU."""
    calls = []

    @contextmanager
    def entered(name, *_, **options):
        calls.append((f"enter {name}", options))
        yield
        calls.append((f"leave {name}", {}))

    class Graph:
        def replay(self):
            calls.append(("replay", {}))

    class Event:
        def record(self):
            calls.append(("record", {}))

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
    return calls


@pytest.fixture
def device(asked, monkeypatch):
    made = cuda.CudaDevice(0)
    made.where = torch.device("cpu")

    class Compiled:
        def __getitem__(self, grid):
            return lambda *arguments: asked.append(("launch", {"grid": grid, "arguments": arguments}))

    compiled = []
    monkeypatch.setattr(
        build, "compile_kernel", lambda kernel, capability: compiled.append((kernel, capability)) or Compiled()
    )
    made.compiled = compiled
    return made


def test_what_is_launched(device, asked):
    kernel = kernels_of(SMALL, "fp16", 90)["input_projection"]
    tensors = [torch.zeros(4, 16) for _ in range(5)]
    launch = Launch(kernel, (3, 2, 1), (*tensors, 128))
    call = device.bind(launch)
    device.bind(launch)
    assert device.compiled == [(kernel, 90)] and asked == []  # compiled once, nothing ran
    call()
    [(name, how)] = asked
    assert name == "launch" and how["grid"] == (3, 2, 1)
    assert how["arguments"] == (*tensors, 128, 32, 64)  # Triton's launcher wants the constants, too


def test_a_capture_holds_all_calls_in_order_and_replays(device, asked):
    replay = device.capture([lambda: asked.append(("a", {})), lambda: asked.append(("b", {}))])
    names = [name for name, _ in asked]
    assert names == ["enter graph", "a", "b", "leave graph"]
    assert asked[0][1] == {"capture_error_mode": "thread_local"}  # other threads may go on allocating
    replay()
    assert asked[-1][0] == "replay"


def test_a_scope_is_the_device_outside_inference_mode(device, asked):
    with torch.inference_mode(), device.scope():
        assert not torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        assert not torch.zeros(1).is_inference()
    assert [name for name, _ in asked] == ["enter device", "leave device"]


def test_a_mark_is_an_event(device, asked):
    device.mark()
    assert asked == [("record", {})]


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(8, 16).T, torch.zeros(17)[1:], torch.zeros(4, device="meta")],
    ids=["strides", "address", "place"],
)
def test_tensors_that_would_be_a_fault_on_the_device_are_refused(device, tensor):
    kernel = kernels_of(SMALL, "fp16", 90)["input_projection"]
    with pytest.raises(ValueError, match="input_projection: expected contiguous tensors on cpu, 16-byte aligned, got"):
        device.bind(Launch(kernel, (1, 1, 1), (tensor, *[torch.zeros(16)] * 4, 128)))


def test_all_of_a_plan_is_on_the_device_and_nothing_is_made_when_it_runs(device, asked, monkeypatch):
    """Capture safety: while a plan runs there is no allocation, no copy, no wait; only launches and the graph."""
    from engine.sampling.gpu.plan import Plan, Shape
    from tests.support.networks import random_network

    net = GpuNetwork(SMALL, random_network(SMALL, 1), device, "fp16")
    plan = Plan(net, Shape(2, 1280, False))
    launches = [how for name, how in asked if name == "launch"]
    assert len(launches) == 3 + 6 * (1 + SMALL.residual_layers + 1)
    asked.clear()
    for name in ("empty", "tensor", "bind", "mark"):
        monkeypatch.setattr(device, name, None)
    for name in ("empty", "zeros", "as_tensor", "tensor"):
        monkeypatch.setattr(torch, name, None)
    plan.run()
    plan.prepare()
    plan.run()
    names = [name for name, _ in asked]
    steps, conditioner = 6 * (1 + SMALL.residual_layers + 1), 3
    captured = ["enter graph", *["launch"] * steps, "leave graph", "replay"]
    assert names == [*captured, "enter graph", *["launch"] * conditioner, "leave graph", "replay", "replay"]


def test_a_wide_network_says_so(device):
    with pytest.raises(Exception, match="up to 256 residual channels"):
        GpuNetwork(BASE.__class__(residual_channels=512), {}, device, "fp16")
