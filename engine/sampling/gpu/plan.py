"""The T-step loop on a GPU as data: static buffers, and the launches of every step in order.

To run a plan takes no allocation, no wait and no arithmetic in Python. Mels, seeds, noise, schedules and lengths reach
it through its buffers, weights through the network's.
"""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork

# Steps of one plan. Longer schedules run it several times. Windows of long audio lose the reach of this many steps at
# either end.
STEPS = 6
NOTHING: tuple[Any, ...] = ((0, 0), ())  # no steps of any table


@dataclass(frozen=True)
class Shape:
    """The shape that a plan is built for; its graph serves every batch that fits.

    Attributes:
        items: B.
        capacity: L, in samples.
        own_noise: whether the noise comes from the caller, through a buffer.
    """

    items: int
    capacity: int
    own_noise: bool


class Plan:
    """The launches of one shape, and their graphs.

    Attributes:
        shape: the shape that it is built for.
        buffers: `engine.kernels.gpu.Buffers`.
        bytes: size of the buffers in bytes.
    """

    def __init__(self, network: GpuNetwork, shape: Shape) -> None:
        self.shape = shape
        self.bytes = size_of(network, shape)
        self.buffers = network.buffers(shape.items, shape.capacity, STEPS, shape.own_noise)
        self._device = network.device
        self._conditioner = [self._device.bind(launch) for launch in conditioner_launches(network, self.buffers)]
        self._steps = [self._device.bind(launch) for launch in step_launches(network, self.buffers, STEPS)]
        self._graphs: dict[int, Callable[[], None]] = {}
        self._loaded = NOTHING
        # Run once outside a capture, on items without samples: this loads the kernels, which a capture must not.
        self.buffers.lengths.zero_()
        for call in (*self._conditioner, *self._steps):
            call()

    def prepare(self) -> None:
        """Compute buffers.conditioner from buffers.mel; to call before `run` whenever mels or lengths are new."""
        self._replay(0)

    def load(self, part: tuple[int, int], tables: tuple[Any, Any, Any]) -> None:
        """Copy steps [first, last) of the tables into buffers.rows, .terms and .noise_steps, unless they are there."""
        if self._loaded[0] == part and all(map(operator.is_, self._loaded[1], tables)):
            return
        first, last = part
        self._loaded = NOTHING  # in case a copy is interrupted
        buffers = (self.buffers.rows, self.buffers.terms, self.buffers.noise_steps)
        for buffer, table in zip(buffers, tables, strict=True):
            buffer[: last - first].copy_(table[first:last])
        self._loaded = part, tables

    def run(self, steps: int = STEPS) -> None:
        """Advance buffers.x by the first `steps` steps of the plan."""
        self._replay(steps)

    def _replay(self, steps: int) -> None:
        calls = self._steps[: len(self._steps) // STEPS * steps] if steps else self._conditioner
        if calls and steps not in self._graphs:
            self._graphs[steps] = self._device.capture(calls)
        if calls:
            self._graphs[steps]()


def size_of(network: GpuNetwork, shape: Shape) -> int:
    """Return the bytes of a plan's buffers."""
    return int((network.bytes_per_sample() + 4 * STEPS * shape.own_noise) * shape.items * shape.capacity)


def conditioner_launches(network: GpuNetwork, buffers: Any) -> Iterator[Any]:
    """Yield the launches before the first step, from the mel to what the layers read of it."""
    yield from network.condition(buffers)


def step_launches(network: GpuNetwork, buffers: Any, steps: int) -> Iterator[Any]:
    """Yield the launches of the reverse process (paper, algorithm 2), noisiest step first."""
    for step in range(steps):
        yield from network.step(buffers, step)


class PlanCache:
    """Plans by shape, each lent to one call at a time; the least recently used are evicted.

    Attributes:
        limit: bytes that idle plans may hold together, the next plan included.
    """

    def __init__(self, network: GpuNetwork, limit: int) -> None:
        self.limit = limit
        self._network = network
        self._idle: OrderedDict[Plan, Any] = OrderedDict()  # with a mark behind its last work
        self._lock = threading.Lock()

    @contextmanager
    def plan(self, shape: Shape) -> Iterator[Plan]:
        """Borrow a plan of this shape; a new one if all are in use."""
        with self._lock:
            idle = next((plan for plan in reversed(self._idle) if plan.shape == shape), None)
            if idle is None:
                self._make_room(size_of(self._network, shape))
            else:
                self._idle.pop(idle).wait()
        plan = idle or Plan(self._network, shape)
        try:
            yield plan
        finally:
            with self._lock:
                self._make_room(plan.bytes)
                self._idle[plan] = self._network.device.mark()

    def __len__(self) -> int:
        return len(self._idle)

    def _make_room(self, size: int) -> None:
        while self._idle and sum(plan.bytes for plan in self._idle) + size > self.limit:
            _, mark = self._idle.popitem(last=False)
            mark.synchronize()  # its memory may go to another stream
