"""Iterators over the chunks of one stream, and of several streams at once."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic

import numpy as np

from engine.checks.arrays import ArrayT, device_of, is_torch, on_device
from engine.errors import InputError
from engine.sampling.streaming.stream import Stream

PIECE = 1024  # frames of a whole mel that are fed at a time


class Chunks(Generic[ArrayT]):
    """The audio of one stream, chunk by chunk, from an iterable of mel pieces. `Voice.stream` makes it.

    Any thread may call `close`. The memory goes with the last reference to the iterator, with its end, and with any
    exception that leaves it.
    """

    def __init__(self, stream: Stream, mels: ArrayT | Iterable[ArrayT], chunk: int | None) -> None:
        self._stream = stream
        # The generators refer to the stream and not to this object: a circle would live until the collector runs.
        self._chunks = _resized(_computed(stream, mels), chunk)
        self._reading = threading.Lock()
        self._reader: int | None = None  # the thread inside `next`
        self._closed = False

    def __iter__(self) -> Iterator[ArrayT]:
        return self

    def __next__(self) -> ArrayT:
        if self._reader == threading.get_ident():  # to wait would be to wait for ever
            raise InputError("stream: expected a source that does not read the stream's own audio")
        with self._reading:
            self._reader = threading.get_ident()
            try:
                if self._closed:
                    raise StopIteration
                return next(self._chunks)  # type: ignore[no-any-return]
            finally:
                self._reader = None

    def close(self) -> None:
        """Stop and free the memory; a `next` in another thread raises Cancelled within one tile.

        A `next` that begins later raises StopIteration.
        """
        self._closed = True
        self._stream.close()

    def __enter__(self) -> Chunks[ArrayT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _computed(stream: Stream, mels: Any) -> Iterator[Any]:
    device = None
    try:
        for number, piece in enumerate(pieces(mels)):
            device = device_of(piece)
            try:
                yield from (on_device(chunk, device) for chunk in stream.chunks(piece))
            except InputError as error:
                raise InputError(f"mels, piece {number}: {error}") from None
        yield from (on_device(chunk, device) for chunk in stream.last_chunks())
    finally:
        stream.close()


def pieces(mels: Any) -> Iterator[Any]:
    """Yield a whole mel piece by piece, so that it need not be in memory at once, or the pieces of an iterable."""
    if isinstance(mels, np.ndarray) or is_torch(mels):
        is_dense = isinstance(mels, np.ndarray) or str(mels.layout) == "torch.strided"
        if not is_dense or mels.ndim != 2 or not mels.shape[1]:
            yield mels  # to be refused, or empty
            return
        for begin in range(0, mels.shape[1], PIECE):
            yield mels[:, begin : begin + PIECE]
        return
    if isinstance(mels, (str, bytes, bytearray, memoryview)) or not isinstance(mels, Iterable):
        raise InputError(f"mels: expected a mel or an iterable of mel pieces, got {type(mels).__name__}")
    yield from mels


def merge_streams(streams: Sequence[Chunks[ArrayT]]) -> Iterator[tuple[int, ArrayT]]:
    """Run streams at once and yield (stream number, chunk) as the chunks become final.

    A source may wait for its mel for ever. Its thread is a daemon: neither the consumer nor the end of the program
    waits for it.
    """
    results: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    turns = [threading.Semaphore(1) for _ in streams]  # each stream is at most one chunk ahead of the consumer
    closed = threading.Event()
    for number, stream in enumerate(streams):
        arguments = (number, stream, results, turns[number], closed)
        threading.Thread(target=_run, args=arguments, name=f"stream {number}", daemon=True).start()
    try:
        running = len(streams)
        while running:
            number, chunk, error = results.get()
            if error is not None:
                raise error
            if chunk is None:
                running -= 1
                continue
            yield number, chunk
            turns[number].release()
    finally:
        closed.set()
        for stream, turn in zip(streams, turns, strict=True):
            stream.close()
            turn.release()


def _run(
    number: int,
    stream: Chunks[Any],
    results: queue.SimpleQueue[tuple[int, Any, BaseException | None]],
    turn: threading.Semaphore,
    closed: threading.Event,
) -> None:
    """Put the chunks of a stream into a queue, then None, or the exception that ended it."""
    chunk: Any = stream
    while chunk is not None:
        turn.acquire()
        if closed.is_set():
            return
        try:
            chunk = next(stream, None)
        except BaseException as error:  # belongs to the consumer
            results.put((number, None, error))
            return
        results.put((number, chunk, None))


def _resized(chunks: Iterator[Any], size: int | None) -> Iterator[Any]:
    """Yield the same samples in chunks of `size`, the last one shorter; unchanged for None."""
    if size is None:
        yield from chunks
        return
    pending: list[Any] = []
    count = 0
    for chunk in chunks:
        pending.append(chunk)
        count += len(chunk)
        if count >= size:
            joined = _concatenated(pending)
            end = count // size * size
            yield from (joined[i : i + size] for i in range(0, end, size))
            pending, count = [joined[end:]], count - end
    if count:
        yield _concatenated(pending)


def _concatenated(parts: list[Any]) -> Any:
    return sys.modules["torch"].cat(parts) if is_torch(parts[0]) else np.concatenate(parts)
