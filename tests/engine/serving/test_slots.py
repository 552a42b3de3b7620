"""Slots: first come, first served, a bounded queue, and a Retry-After of the measured times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine.errors import InputError
from engine.serving import Limits
from engine.serving.slots import Busy, Slots


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


async def held(slots: Slots, order: list[int], number: int, release: asyncio.Event) -> None:
    async with slots.place():
        order.append(number)
        await release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_calls_come_in_their_order() -> None:
    async def test() -> None:
        slots, order = Slots(2, 3), list[int]()
        releases = [asyncio.Event() for _ in range(5)]
        tasks = [asyncio.create_task(held(slots, order, i, releases[i])) for i in range(5)]
        await settle()
        assert order == [0, 1] and (slots.working, slots.waiting, slots.is_full) == (2, 3, True)
        with pytest.raises(Busy):
            async with slots.place():
                pass
        releases[1].set()
        await settle()
        assert order == [0, 1, 2] and (slots.working, slots.waiting) == (2, 2)
        for release in releases:
            release.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4] and slots.is_idle

    run(test)


@pytest.mark.parametrize("at_once", [False, True], ids=["waiting", "in the moment of its turn"])
def test_a_cancelled_call_leaves_its_place(at_once: bool) -> None:
    async def test() -> None:
        slots, order = Slots(1, 2), list[int]()
        releases = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(held(slots, order, i, releases[i])) for i in range(3)]
        await settle()
        if at_once:
            slots._hand_on()  # as at the end of call 0: the turn of call 1 has come, but it has not run yet
            slots.working += 1
            slots.working -= 1
        tasks[1].cancel()
        await settle()
        assert slots.waiting == (0 if at_once else 1)
        releases[0].set()
        releases[2].set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 2] and slots.waiting == 0

    run(test)


def test_retry_after_is_that_of_the_measured_times() -> None:
    async def test() -> None:
        clock = Clock()
        slots = Slots(1, 0, clock)
        assert slots.retry_after() == 1
        for seconds in (10.0, 20.0):
            async with slots.place():
                clock.now += seconds
        async with slots.place():
            assert slots.retry_after() == 15
            clock.now += 9.5
            assert slots.retry_after() == 6
            clock.now += 50
            assert slots.retry_after() == 1
            slots._waiting.append(asyncio.get_running_loop().create_future())
            assert slots.retry_after() == 15
            slots._waiting.clear()
            with pytest.raises(Busy) as busy:
                slots.check()
            assert busy.value.retry_after == 1

    run(test)


@pytest.mark.parametrize(
    "options",
    [{"slots": 0}, {"queue": -1}, {"max_seconds": 0}, {"max_seconds": float("nan")}, {"body_bytes": 0}],
)
def test_impossible_limits(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}: expected"):
        Limits(**options)  # type: ignore[arg-type]
