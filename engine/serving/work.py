"""Work of a call in a thread, and its audio on the way to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import numpy as np

from engine.checks.arrays import FloatArray
from engine.sampling.item import Event, stop_if_set
from engine.serving.options import Options
from engine.voice import Voice

T = TypeVar("T")
POLL = 0.1  # seconds between the looks of a waiting thread at its event
MERGED = 256  # frames of small pieces that are computed together


class Outbox:
    """Audio on its way from a thread to the event loop; a full outbox holds the thread.

    Args:
        most: bytes that may wait.
        cancel: ends the waiting of the thread.
    """

    def __init__(self, most: int, cancel: Event) -> None:
        self._most = most
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._room = threading.Condition()
        self._held = 0

    def put(self, audio: bytes) -> None:
        """Hand audio over, from the thread.

        Args:
            audio: encoded samples.

        Raises:
            Cancelled: the event was set.
        """
        with self._room:
            while self._held and self._held + len(audio) > self._most:
                self._room.wait(POLL)
                stop_if_set(self._cancel)
            stop_if_set(self._cancel)
            self._held += len(audio)
        self._hand_over(audio)

    def run(self, work: Callable[[Outbox], None]) -> None:
        """Run the work of a call in this thread, and hand its end or its exception over.

        Args:
            work: gets this outbox.
        """
        try:
            work(self)
            self._hand_over(None)
        except BaseException as error:  # belongs to the reader
            self._hand_over(error)

    def _hand_over(self, item: bytes | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        item = await self._queue.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        with self._room:
            self._held -= len(item)
            self._room.notify()
        return item


class Inbox:
    """Mel frames on their way from the event loop to a thread, with a bound.

    Attributes:
        frames: all frames that were put in.
    """

    def __init__(self, most: int, cancel: Event) -> None:
        self.frames = 0
        self._most = most
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[FloatArray] = deque()
        self._held = 0
        self._ended = False
        self._arrived = threading.Condition()
        self._room = asyncio.Event()

    async def put(self, piece: FloatArray) -> None:
        """Add frames, and wait while more than the bound wait for the thread.

        Args:
            piece: float32 [M, n].
        """
        with self._arrived:
            self._pieces.append(piece)
            self._held += piece.shape[1]
            self.frames += piece.shape[1]
            self._room.clear()
            is_full = self._held > self._most
            self._arrived.notify()
        if is_full:
            await self._room.wait()

    def end(self) -> None:
        """Say that the mel is complete."""
        with self._arrived:
            self._ended = True
            self._arrived.notify()

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield the frames in the thread, small pieces merged, until the end.

        Raises:
            Cancelled: the event was set.
        """
        while True:
            with self._arrived:
                while not self._pieces and not self._ended:
                    self._arrived.wait(POLL)
                    stop_if_set(self._cancel)
                if not self._pieces:
                    return
                pieces = [self._pieces.popleft()]
                count = pieces[0].shape[1]
                while self._pieces and count + self._pieces[0].shape[1] <= MERGED:
                    count += self._pieces[0].shape[1]
                    pieces.append(self._pieces.popleft())
                self._held -= count
                if self._held <= self._most:
                    with suppress(RuntimeError):  # the loop has ended
                        self._loop.call_soon_threadsafe(self._room.set)
            yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


@asynccontextmanager
async def running(
    executor: Executor, work: Callable[[Outbox], None], cancel: threading.Event, most: int
) -> AsyncIterator[Outbox]:
    """Run work in a thread for the block, and yield its audio; the block ends when the thread has ended.

    Args:
        executor: of the threads.
        work: gets the outbox.
        cancel: is set at the end of the block.
        most: bytes of audio that may wait.
    """
    outbox = Outbox(most, cancel)
    thread = asyncio.get_running_loop().run_in_executor(executor, outbox.run, work)
    try:
        yield outbox
    finally:
        cancel.set()
        await settled(thread)


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return the result of an awaitable that ends in time.

    `asyncio.wait_for` of Python 3.11 and before loses a cancellation that comes when the awaitable has just ended.

    Args:
        seconds: the longest time.
        work: the awaitable; it is cancelled when the time is over or the caller is cancelled.

    Raises:
        asyncio.TimeoutError: the time is over.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()


async def settled(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, even if the waiting task is cancelled meanwhile.

    Args:
        future: the future; its result or exception is left alone.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def vocode(
    voice: Voice,
    pieces: Iterator[FloatArray],
    options: Options,
    *,
    energy_min: float | None,
    streams: int,
    cancel: Event,
) -> Callable[[Outbox], None]:
    """Return work that turns the pieces of a mel into audio, in a stream.

    Args:
        voice: the network, on a CPU.
        pieces: float32 [M, n] each.
        options: of the request.
        energy_min: see `Voice.vocode`.
        streams: calls that may work at once, which share the threads.
        cancel: stops the work.
    """

    def work(outbox: Outbox) -> None:
        with voice.open_stream(
            steps=options.steps,
            seed=options.seed,
            energy_min=energy_min,
            draft=options.draft,
            match_mel=options.match_mel,
            cancel=cancel,
            streams=streams,
        ) as stream:
            for piece in pieces:
                for chunk in stream.chunks(piece):
                    outbox.put(options.encode(chunk))
            for chunk in stream.last_chunks():
                outbox.put(options.encode(chunk))

    return work


def refine(
    voice: Voice, mel: FloatArray, options: Options, *, energy_min: float | None, cancel: Event
) -> Callable[[Outbox], None]:
    """Return work that turns a whole mel into audio by way of a draft.

    Args:
        voice: the network, on a CPU.
        mel: float32 [M, T].
        options: of the request.
        energy_min: see `Voice.vocode`.
        cancel: stops the work.
    """

    def work(outbox: Outbox) -> None:
        audio = voice.vocode(
            mel,
            steps=options.steps,
            seed=options.seed,
            energy_min=energy_min,
            draft=options.draft,
            match_mel=options.match_mel,
            cancel=cancel,
        )
        outbox.put(options.encode(audio))

    return work


def generate(voice: Voice, options: Options, cancel: Event) -> Callable[[Outbox], None]:
    """Return work that generates one sound.

    Args:
        voice: a network without a mel.
        options: of the request.
        cancel: stops the work.
    """

    def work(outbox: Outbox) -> None:
        audio = voice.generate(
            label=options.label,
            steps=options.steps,
            seed=options.seed,
            guidance=options.guidance,
            temperature=options.temperature,
            seconds=options.seconds,
            cancel=cancel,
        )
        outbox.put(options.encode(audio[0]))

    return work
