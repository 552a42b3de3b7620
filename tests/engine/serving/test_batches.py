"""The batches of a GPU, with a voice that records what it is called with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engine.errors import Cancelled
from engine.serving.batches import Batcher


class Voice:
    """Returns the seed of every item, and waits for a test before it does."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.steps: list[Any] = []
        self.drafts: list[Any] = []
        self.gains: list[Any] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.cancelled = 0

    def vocode(
        self,
        mel: list[Any],
        *,
        steps: Any = None,
        seed: Any = 0,
        energy_min: Any = None,
        draft: Any = None,
        match_mel: Any = None,
        cancel: Any,
    ) -> Any:
        assert isinstance(seed, Sequence) and len(seed) == len(mel) and energy_min is None
        self.batches.append(list(seed))
        self.steps.append(steps)
        self.drafts.append(draft)
        self.gains.append(match_mel)
        while not self.go.wait(0.005):
            if cancel.is_set():
                self.cancelled += 1
                raise Cancelled("the audio was cancelled")
        if self.error is not None:
            raise self.error
        return [np.full(item.shape[1], number, np.float32) for item, number in zip(mel, seed, strict=True)]


def run(test: Callable[[Voice, Batcher], Awaitable[None]], **options: Any) -> Voice:
    voice = Voice()

    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            try:
                await test(voice, Batcher(voice, executor, **options))
            finally:
                voice.go.set()

    asyncio.run(main())
    return voice


def mel(frames: int) -> Any:
    return np.zeros((80, frames), np.float32)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the state did not come")


def test_calls_that_come_together_are_one_batch() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        audios = await asyncio.gather(*(batcher.vocode(mel(5 + i), 6, i) for i in range(4)))
        assert [(len(audio), audio[0]) for audio in audios] == [(5, 0), (6, 1), (7, 2), (8, 3)]

    assert run(test).batches == [[0, 1, 2, 3]]


def test_a_batch_has_a_budget_of_frames_and_one_number_of_steps() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        calls = [(60, 6), (60, 6), (30, 6), (500, 6), (10, 3), (10, 3)]
        await asyncio.gather(*(batcher.vocode(mel(size), steps, i) for i, (size, steps) in enumerate(calls)))

    voice = run(test, frames=100)
    assert voice.batches == [[0], [1, 2], [3], [4, 5]] and voice.steps == [6, 6, 6, 3]


def test_a_batch_has_one_gain() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        gains = [1.0, 1.0, None, 2.0]
        await asyncio.gather(*(batcher.vocode(mel(5), 2, i, None, gain) for i, gain in enumerate(gains)))

    voice = run(test)
    assert voice.batches == [[0, 1], [2], [3]] and voice.gains == [1.0, None, 2.0]


def test_a_batch_has_one_draft() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        drafts = [None, None, "griffin-lim", "griffin-lim", None]
        audios = await asyncio.gather(*(batcher.vocode(mel(5), 2, i, draft) for i, draft in enumerate(drafts)))
        assert [audio[0] for audio in audios] == [0, 1, 2, 3, 4]

    voice = run(test)
    assert voice.batches == [[0, 1], [2, 3], [4]] and voice.drafts == [None, "griffin-lim", None]


def test_a_call_that_was_cancelled_is_dropped_before_its_batch() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        voice.go.clear()
        first = asyncio.create_task(batcher.vocode(mel(5), 6, 0))
        await until(lambda: len(voice.batches) == 1)
        others = [asyncio.create_task(batcher.vocode(mel(5), 6, i)) for i in (1, 2)]
        await asyncio.sleep(0)
        others[0].cancel()
        await asyncio.sleep(0)
        voice.go.set()
        assert (await first)[0] == 0 and (await others[1])[0] == 2

    assert run(test).batches == [[0], [2]]


def test_a_batch_that_nobody_waits_for_is_stopped() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        voice.go.clear()
        calls = [asyncio.create_task(batcher.vocode(mel(5), 6, i)) for i in range(2)]
        await until(lambda: len(voice.batches) == 1)
        calls[0].cancel()
        await asyncio.sleep(0.05)
        assert not voice.cancelled
        calls[1].cancel()
        await until(lambda: voice.cancelled == 1)
        voice.go.set()
        assert (await batcher.vocode(mel(5), 6, 7))[0] == 7

    run(test)


def test_an_error_reaches_every_call() -> None:
    async def test(voice: Voice, batcher: Batcher) -> None:
        voice.error = MemoryError("full")
        results = await asyncio.gather(*(batcher.vocode(mel(5), 6, i) for i in range(2)), return_exceptions=True)
        assert [type(result) for result in results] == [MemoryError, MemoryError]
        voice.error = None
        with pytest.raises(asyncio.TimeoutError):
            voice.go.clear()
            await asyncio.wait_for(batcher.vocode(mel(5), 6, 3), 0.05)

    run(test)
