"""Iterators over the chunks of one stream, and of several streams at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Generic

import numpy as np

from engine.checks.arrays import ArrayT, device_of, is_torch, on_device
from engine.errors import InputError
from engine.streaming.stream import Stream

PIECE = 1024  # frames of a whole mel that are fed at a time


class Chunks(Generic[ArrayT]):
    """The audio of one stream, chunk by chunk, from an iterable of mel pieces. `Voice.stream` makes it.

    Any thread may call `close`.
    """

    def __init__(self, stream: Stream, mels: ArrayT | Iterable[ArrayT], chunk: int | None) -> None:
        self._stream = stream
        self._chunks = _resized(self._computed(mels), chunk)

    def __iter__(self) -> Iterator[ArrayT]:
        return self

    def __next__(self) -> ArrayT:
        return next(self._chunks)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop and free the memory; a `next` in another thread raises Cancelled within one tile."""
        self._stream.close()
        self._chunks = iter(())

    def __enter__(self) -> Chunks[ArrayT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _computed(self, mels: Any) -> Iterator[Any]:
        device = None
        for number, piece in enumerate(pieces(mels)):
            device = device_of(piece)
            try:
                yield from (on_device(chunk, device) for chunk in self._stream.chunks(piece))
            except InputError as error:
                self._stream.close()
                raise InputError(f"mels, piece {number}: {error}") from None
        yield from (on_device(chunk, device) for chunk in self._stream.last_chunks())


def pieces(mels: Any) -> Iterator[Any]:
    """Yield a whole mel piece by piece, so that it need not be in memory at once, or the pieces of an iterable."""
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


def merge_streams(streams: Sequence[Chunks[ArrayT]]) -> Iterator[tuple[int, ArrayT]]:
    """Run streams at once and yield (stream number, chunk) as the chunks become final."""
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


def _resized(chunks: Iterator[Any], size: int | None) -> Iterator[Any]:
    """Yield the same samples in chunks of `size`, the last one shorter; unchanged for None."""
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
