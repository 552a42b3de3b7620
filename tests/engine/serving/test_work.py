"""The hand-over between the event loop and the threads: time limits, cancellation, order and bounds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine.errors import Cancelled
from engine.serving.work import Inbox, Outbox, running, within


def test_a_result_in_time_and_a_time_that_is_over() -> None:
    async def test() -> None:
        assert await within(60, asyncio.sleep(0, "result")) == "result"
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, asyncio.sleep(60))
        with pytest.raises(ZeroDivisionError):
            await within(60, fail())

    async def fail() -> None:
        raise ZeroDivisionError

    asyncio.run(test())


def test_a_cancellation_is_not_lost_when_the_work_has_just_ended() -> None:
    async def test() -> None:
        inner: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await within(60, _awaited(inner))
            raise AssertionError("the cancellation was lost")

        task = asyncio.create_task(wait())
        for _ in range(3):
            await asyncio.sleep(0)
        inner.set_result(None)
        await asyncio.sleep(0)  # the work ends in this turn of the loop, and its waiter runs in the next
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(test())


async def _awaited(future: Awaitable[None]) -> None:
    await future


def test_an_outbox_keeps_the_order_and_holds_the_thread() -> None:
    async def test() -> None:
        cancel, put = threading.Event(), []

        def work(outbox: Outbox) -> None:
            for number in range(20):
                outbox.put(bytes([number]) * 10)
                put.append(number)

        with ThreadPoolExecutor(1) as executor:
            async with running(executor, work, cancel, most=35) as outbox:
                await asyncio.sleep(0.2)
                assert put == [0, 1, 2], "three chunks of ten bytes are within the bound"
                assert [chunk[0] async for chunk in outbox] == list(range(20))
        assert cancel.is_set()

    asyncio.run(test())


def test_a_thread_that_waits_is_cancelled_with_its_block() -> None:
    async def test() -> None:
        cancel, errors = threading.Event(), []

        def work(outbox: Outbox) -> None:
            try:
                while True:
                    outbox.put(bytes(30))
            except Cancelled as error:
                errors.append(error)
                raise

        with ThreadPoolExecutor(1) as executor:
            async with running(executor, work, cancel, most=40):
                pass
        assert len(errors) == 1

    asyncio.run(test())


def test_an_inbox_merges_small_pieces_and_has_a_bound() -> None:
    async def test() -> None:
        inbox = Inbox(10, threading.Event())
        for number in range(10):
            await inbox.put(np.full((2, 1), number, np.float32))
        full = asyncio.create_task(inbox.put(np.full((2, 3), 10, np.float32)))
        await asyncio.sleep(0.01)
        assert not full.done() and inbox.frames == 13
        inbox.end()
        pieces = await asyncio.get_running_loop().run_in_executor(None, lambda: list(inbox))
        await full
        assert [piece.shape for piece in pieces] == [(2, 13)] and list(pieces[0][0]) == [*range(10), 10, 10, 10]

    asyncio.run(test())
