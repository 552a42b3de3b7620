"""The small inputs of a call: what is sent, and that no call overwrites what an earlier one still reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine.kernels.inputs import count_words, split_block
from engine.sampling.gpu.staging import BLOCKS, DTYPES, BoundsReader, Ring, Rows

ITEMS, STEPS = 3, 6


class Copies:
    """A device whose copies run late: when the host waits for a mark behind them, or at the end."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.received: list[np.ndarray] = []
        self.waits = 0

    def pinned(self, shape: tuple[int, ...], dtype: str) -> Any:
        return torch.empty(shape, dtype={"i32": torch.int32, "fp32": torch.float32}[dtype])

    def copy_(self, memory: Any, non_blocking: bool) -> None:
        assert non_blocking
        self.waiting.append(memory)

    def run(self, count: int) -> None:
        for memory in self.waiting[:count]:
            self.received.append(memory.numpy().copy())
        del self.waiting[:count]

    def event(self) -> Any:
        device = self

        class Mark:
            behind = 0  # copies, counted from the first

            def record(self) -> None:
                self.behind = len(device.received) + len(device.waiting)

            def query(self) -> bool:
                return len(device.received) >= self.behind

            def synchronize(self) -> None:
                device.waits += 1
                device.run(self.behind - len(device.received))

        return Mark()


def parts_of(block: np.ndarray) -> Any:
    return split_block(block, ITEMS, STEPS, DTYPES)


def test_a_call_never_overwrites_the_inputs_of_an_earlier_one() -> None:
    device = Copies()
    ring = Ring(device, device, ITEMS, STEPS)  # type: ignore[arg-type]
    for call in range(3 * BLOCKS):
        terms = np.full((2, 4), call, np.float32)
        ring.send(Rows([2**64 - 1 - call, call], [4 * call, 2**40], [call + 1, 7]), terms, call)
        assert len(device.waiting) <= BLOCKS
    assert device.waits == 2 * BLOCKS  # none for the first round
    device.run(BLOCKS)
    assert len(device.received) == 3 * BLOCKS
    for call, block in enumerate(device.received):
        parts = parts_of(block)
        assert parts.seeds.view(np.uint64)[:2].tolist() == [2**64 - 1 - call, call]
        assert parts.begins[:2].tolist() == [4 * call, 2**40]
        assert parts.lengths.tolist() == [call + 1, 7, 0]
        assert (parts.terms[:2] == call).all()
        assert parts.noise_steps[:2].tolist() == [[call + 1] * 4, [call + 2] * 4]


def test_copies_that_are_done_are_not_waited_for() -> None:
    device = Copies()
    ring = Ring(device, device, ITEMS, STEPS)  # type: ignore[arg-type]
    for call in range(3 * BLOCKS):
        ring.send(Rows([call], [0], [1]), np.zeros((1, 4), np.float32), 0)
        device.run(1)
    assert device.waits == 0


@pytest.mark.parametrize(("items", "steps"), [(1, 1), (1, 6), (3, 6), (4, 2), (7, 5)])
def test_the_parts_of_a_block_are_aligned_and_apart(items: int, steps: int) -> None:
    block = np.zeros(count_words(items, steps), np.int32)
    parts = split_block(block, items, steps, DTYPES)
    shapes = {
        "terms": (steps, 4),
        "noise_steps": (steps, 4),
        "seeds": (items,),
        "begins": (items,),
        "lengths": (items,),
    }
    taken = np.zeros(len(block), int)
    for name, shape in shapes.items():
        part = getattr(parts, name)
        begin = (part.__array_interface__["data"][0] - block.__array_interface__["data"][0]) // 4
        assert part.shape == shape and begin % 4 == 0 and np.shares_memory(part, block)
        taken[begin : begin + part.nbytes // 4] += 1
    assert taken.max() == 1
    # A tensor is split in the same way.
    tensors = split_block(torch.from_numpy(block), items, steps, {"fp32": torch.float32, "i64": torch.int64})
    parts.terms[:], parts.noise_steps[:], parts.seeds[:], parts.begins[:], parts.lengths[:] = 0.5, 3, -2, 2**40, 9
    for name in shapes:
        np.testing.assert_array_equal(getattr(tensors, name).numpy(), getattr(parts, name))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -np.inf])
def test_bounds_are_read_once_they_are_there(value: float) -> None:
    from tests.gpu.devices import SilentDevice

    device = SilentDevice()
    reader, mel = BoundsReader(device), torch.rand(2, 5, 7)
    mel[1, 2, 3] = value
    reader.request(mel)
    assert device.log == []
    np.testing.assert_array_equal(reader.wait(), (float(mel.min()), float(mel.max())))
    assert device.log == ["synchronize"]
