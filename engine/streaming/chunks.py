"""Audio chunk by chunk, from a mel piece by piece: iterators over `engine.streaming.stream.Stream`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from engine.checks.arrays import device_of, is_torch, on_device
from engine.errors import InputError
from engine.streaming.stream import Stream

PIECE = 1024  # frames of a whole mel that make a piece


class Chunks(Iterator[Any]):
    """The audio of one stream, chunk by chunk, from an iterable of mel pieces. Made by `Voice.stream`.

    `close` may be called from any thread.
    """

    def __init__(self, stream: Stream, mels: Any, chunk: int | None) -> None:
        self._stream = stream
        self._made = _cut(self._produce(mels), chunk)

    def __next__(self) -> Any:
        return next(self._made)

    def close(self) -> None:
        """Stop, now, and free the memory. A `next` in another thread raises Cancelled within one tile."""
        self._stream.close()
        self._made = iter(())

    def __enter__(self) -> Chunks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _produce(self, mels: Any) -> Iterator[Any]:
        where = None
        for number, piece in enumerate(pieces(mels)):
            where = device_of(piece)
            try:
                yield from (on_device(chunk, where) for chunk in self._stream.chunks(piece))
            except InputError as error:
                self._stream.close()
                raise InputError(f"mels, piece {number}: {error}") from None
        yield from (on_device(chunk, where) for chunk in self._stream.last_chunks())


def pieces(mels: Any) -> Iterator[Any]:
    """A mel in pieces, so that it need not be in memory at once, or what an iterable of pieces gives."""
    if isinstance(mels, np.ndarray) or is_torch(mels):
        if mels.ndim != 2 or not mels.shape[1]:
            yield mels
            return
        for begin in range(0, mels.shape[1], PIECE):
            yield mels[:, begin : begin + PIECE]
        return
    if isinstance(mels, (str, bytes)) or not isinstance(mels, Iterable):
        raise InputError(f"mels: expected a mel or an iterable of mel pieces, got {type(mels).__name__}")
    yield from mels


def merge_streams(streams: Sequence[Chunks]) -> Iterator[tuple[int, Any]]:
    """(number, chunk) of several streams that run at once, as the chunks come."""
    pool = ThreadPoolExecutor(len(streams))
    try:
        waiting = {pool.submit(next, stream, None): number for number, stream in enumerate(streams)}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                number = waiting.pop(future)
                chunk = future.result()
                if chunk is not None:
                    waiting[pool.submit(next, streams[number], None)] = number
                    yield number, chunk
    finally:
        for stream in streams:
            stream.close()
        pool.shutdown(wait=False, cancel_futures=True)  # a source may be waiting for its mel


def _cut(chunks: Iterator[Any], size: int | None) -> Iterator[Any]:
    """The same samples in chunks of `size`, the last one shorter; as they come for None."""
    if size is None:
        yield from chunks
        return
    kept: list[Any] = []
    count = 0
    for chunk in chunks:
        kept.append(chunk)
        count += len(chunk)
        if count >= size:
            joined = _concatenated(kept)
            whole = count // size * size
            yield from (joined[i : i + size] for i in range(0, whole, size))
            kept, count = [joined[whole:]], count - whole
    if count:
        yield _concatenated(kept)


def _concatenated(parts: list[Any]) -> Any:
    return sys.modules["torch"].cat(parts) if is_torch(parts[0]) else np.concatenate(parts)
