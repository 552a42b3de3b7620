"""Slots: how many calls work at once, and how many may wait for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

REMEMBERED = 32  # calls whose time predicts that of the next
LONGEST_RETRY = 600  # seconds


class Busy(Exception):  # noqa: N818
    """All slots are taken and the queue is full.

    Attributes:
        retry_after: whole seconds after which a slot is likely to be free.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Slots:
    """Slots and a bounded queue in front of them, first come, first served. For one event loop, so without a lock.

    Attributes:
        slots: calls that may work at once.
        queue: calls that may wait.
        working: calls at work.
    """

    def __init__(self, slots: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self.queue = queue
        self.working = 0
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun: dict[int, float] = {}
        self._number = 0
        self._times: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether another call would find neither a slot nor a place in the queue."""
        return self.working >= self.slots and self.waiting >= self.queue

    @property
    def is_idle(self) -> bool:
        """Whether no call works or waits."""
        return not self.working and not self._waiting

    def check(self) -> None:
        """Raise Busy if the queue is full."""
        if self.is_full:
            raise Busy(self.retry_after())

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a slot for the block; wait in the queue until one is free.

        Raises:
            Busy: the queue is full.
        """
        await self._take()
        number, self._number = self._number, self._number + 1
        self._begun[number] = self._clock()
        try:
            yield
        finally:
            self._times.append(self._clock() - self._begun.pop(number))
            self._hand_on()

    def retry_after(self) -> int:
        """Return the whole seconds until the calls that are here now are likely to have ended.

        The slots are held as long as they were held by the last calls. Before the first call has ended, the time that
        a call at work has taken so far stands for it.
        """
        now = self._clock()
        ages = [now - begun for begun in self._begun.values()]
        typical = sum(self._times) / len(self._times) if self._times else max(ages, default=0.0)
        rest = sum(max(typical - age, 0.0) for age in ages)
        seconds = (rest + typical * self.waiting) / self.slots
        return min(max(math.ceil(seconds), 1), LONGEST_RETRY)

    async def _take(self) -> None:
        if self.working < self.slots and not self._waiting:
            self.working += 1
            return
        self.check()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()  # the slot came in the moment in which the call was cancelled
            else:
                with suppress(ValueError):  # it was passed over already
                    self._waiting.remove(turn)
            raise

    def _hand_on(self) -> None:
        """Give a slot to the first call that waits, or leave it free."""
        self.working -= 1
        while self._waiting and self.working < self.slots:
            turn = self._waiting.popleft()
            if not turn.done():
                self.working += 1
                turn.set_result(None)
