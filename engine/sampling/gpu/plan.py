"""The T-step loop on a GPU as data: static buffers, and the launches of every step in order.

To run a plan takes no allocation, no wait and no arithmetic in Python. Mels, seeds, noise, schedules and lengths reach
it through its buffers, weights through the network's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from engine.checks.arrays import FloatArray
from engine.sampling.gpu.staging import BoundsReader, Ring, Rows

if TYPE_CHECKING:
    from engine.kernels.gpu import GpuNetwork

# Steps of one plan. Longer schedules run it several times. Windows of long audio lose the reach of this many steps at
# either end.
STEPS = 6


@dataclass(frozen=True)
class Shape:
    """The shape that a plan is built for; its graphs serve every batch that fits.

    Attributes:
        items: B.
        capacity: L, in samples.
        own_noise: whether the noise comes from the caller, through a buffer.
    """

    items: int
    capacity: int
    own_noise: bool


class Plan:
    """The launches of one shape, and their graphs: one per number of steps and way to begin.

    Attributes:
        shape: the shape that it is built for.
        buffers: `engine.kernels.gpu.Buffers`.
        bytes: size of the buffers in bytes.
        mark: behind the plan's last work; its user records it.
        bounds: reads the bounds of a mel; None for a network without mels.
        views: function of the items, their frames, and whether there is one item without a batch axis; it returns the
            parts of buffers.mel and buffers.x that these mels fill.
    """

    def __init__(self, network: GpuNetwork, shape: Shape) -> None:
        self.shape = shape
        self.bytes = size_of(network, shape)
        self.buffers = network.buffers(shape.items, shape.capacity, STEPS, shape.own_noise)
        self._device = network.device
        self.mark = self._device.event()
        self.bounds = BoundsReader(self._device) if network.config.n_mels else None
        self.views = lru_cache(maxsize=16)(partial(_views_of, self.buffers, network.config.hop))
        self._ring = Ring(self._device, self.buffers.block, shape.items, STEPS)
        self._start = list(self._start_calls(network))
        self._conditioner = [self._device.bind(launch) for launch in network.condition(self.buffers)]
        steps = (launch for step in range(STEPS) for launch in network.step(self.buffers, step))
        self._steps = [self._device.bind(launch) for launch in steps]
        self._graphs: dict[tuple[bool, bool, int], Callable[[], None]] = {}
        self._loaded: tuple[tuple[int, int], Any] = (0, 0), None
        # Run once outside a capture, on items without samples: this loads the kernels, which a capture must not.
        self.buffers.lengths.zero_()
        for call in (*self._start, *self._conditioner, *self._steps):
            call()

    def load(self, part: tuple[int, int], biases: Any) -> None:
        """Copy steps [first, last) of biases [S,N,7C] into buffers.biases, unless they are there."""
        if self._loaded[0] == part and self._loaded[1] is biases:
            return
        first, last = part
        self._loaded = (0, 0), None  # in case the copy is interrupted
        self.buffers.biases[: last - first].copy_(biases[first:last])
        self._loaded = part, biases

    def send(self, rows: Rows, terms: FloatArray, first: int) -> None:
        """Enqueue the copy of the small inputs of the next steps; see `Ring.send`."""
        self._ring.send(rows, terms, first)

    def run(self, steps: int = STEPS, *, start: bool = False, prepare: bool = False) -> None:
        """Advance buffers.x by the first `steps` steps of the plan.

        Args:
            steps: 1 to STEPS.
            start: draw x_T into buffers.x first, times buffers.scale if the network has a prior.
            prepare: compute the conditioner from buffers.mel first, as is needed whenever mels or lengths are new.
        """
        key = start, prepare, steps
        if key not in self._graphs:
            calls = [*self._start * start, *self._conditioner * prepare]
            self._graphs[key] = self._device.capture([*calls, *self._steps[: len(self._steps) // STEPS * steps]])
        self._graphs[key]()

    def _start_calls(self, network: GpuNetwork) -> Iterator[Callable[[], None]]:
        buffers = self.buffers
        yield self._device.bind(network.initial_noise(buffers.x, buffers.seeds, buffers.begins, buffers.lengths))
        if buffers.scale is not None:
            yield partial(buffers.x.mul_, buffers.scale)


def _views_of(buffers: Any, hop: int, items: int, frames: int, is_single: bool) -> tuple[Any, Any]:
    if is_single:
        return buffers.mel[0, :, :frames], buffers.x[0, : frames * hop]
    return buffers.mel[:items, :, :frames], buffers.x[:items, : frames * hop]


def size_of(network: GpuNetwork, shape: Shape) -> int:
    """Return the bytes of a plan's buffers."""
    return int((network.bytes_per_sample() + 4 * STEPS * shape.own_noise) * shape.items * shape.capacity)


class PlanCache:
    """Plans by shape, each lent to one call at a time; the least recently used are evicted.

    Attributes:
        limit: bytes that idle plans may hold together, the next plan included.
    """

    def __init__(self, network: GpuNetwork, limit: int) -> None:
        self.limit = limit
        self._network = network
        self._idle: OrderedDict[Plan, None] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def plan(self, shape: Shape) -> Iterator[Plan]:
        """Borrow a plan of this shape; a new one if all are in use."""
        with self._lock:
            idle = next((plan for plan in reversed(self._idle) if plan.shape == shape), None)
            if idle is None:
                self._make_room(size_of(self._network, shape))
            else:
                self._idle.pop(idle)
                idle.mark.wait()
        plan = idle or Plan(self._network, shape)
        try:
            yield plan
        finally:
            with self._lock:
                self._make_room(plan.bytes)
                plan.mark.record()
                self._idle[plan] = None

    def __len__(self) -> int:
        return len(self._idle)

    def _make_room(self, size: int) -> None:
        while self._idle and sum(plan.bytes for plan in self._idle) + size > self.limit:
            plan, _ = self._idle.popitem(last=False)
            plan.mark.synchronize()  # its memory may go to another stream
