"""A stream: audio while the mel is still being written, identical to that of the whole mel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.checks.arguments import check_reflection
from engine.checks.arrays import AnyArray, ArrayT, FloatArray, device_of, on_device
from engine.checks.mels import check_mel, fit_to_kind, is_outside
from engine.config import Config
from engine.errors import Cancelled, InputError
from engine.sampling.item import Event
from engine.sampling.loops import StreamWindow

if TYPE_CHECKING:
    import torch

FRAMES = 64  # frames of a piece that are processed at a time


class _Turn:
    """A lock around the work of a stream, that the working thread itself cannot enter again.

    A signal handler may run in the middle of the work, in the same thread.

    Attributes:
        taken: whether a thread works.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.taken = False

    def __enter__(self) -> None:
        self._lock.acquire()
        if self.taken:
            self._lock.release()
            raise InputError("stream: it is at work in this thread; expected the call after its end")
        self.taken = True

    def __exit__(self, *_: object) -> None:
        self.taken = False
        self._lock.release()

    def end(self, release: Callable[[], None], is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Call `release` once no thread works; not at all if a thread will never leave its work.

        A signal handler leaves it to the work that it interrupted. A daemon thread that the end of the interpreter
        stopped keeps the lock for ever.

        Args:
            release: frees the memory.
            is_finalizing: whether the interpreter ends; bound early, because its module may be gone by then.
        """
        if self._lock.acquire(blocking=not is_finalizing()):
            try:
                if not self.taken:
                    release()
            finally:
                self._lock.release()


class Stream:
    """One utterance in progress: takes mel frames and returns the audio that became final.

    A network looks ahead by `Config.look_ahead` samples, so the audio follows the mel at that distance; a draft and
    `match_mel` add theirs (`Voice.stream`). `finish` returns the rest. Another thread may close a stream while it
    works. Several streams may work at once.

    Attributes:
        frames: mel frames taken so far.
        samples: audio samples returned so far.
    """

    def __init__(self, config: Config, window: StreamWindow, cancel: Event | None) -> None:
        self.frames = 0
        self.samples = 0
        self._config = config
        self._window: StreamWindow | None = window
        self._cancel = cancel
        self._device: torch.device | None = None  # of the last piece
        self._warned = False  # of clipped values
        self._finished = False
        self._closing = False
        self._working = _Turn()

    @property
    def bytes(self) -> int:
        """Working memory in bytes; 0 once the stream is closed."""
        window = self._window
        return 0 if window is None else window.bytes

    def feed(self, mel: ArrayT) -> ArrayT:
        """Take mel frames [M, n], n >= 0, and return the float32 audio that became final, often empty.

        Raises:
            InputError: they are not frames of this voice's mel. The stream is unchanged.
            InputError: the stream is finished.
            Cancelled: the stream was closed, or its event was set.
        """
        return self._joined(self.chunks(mel))  # type: ignore[no-any-return]

    def finish(self) -> AnyArray:
        """Return the rest of the audio once the mel is complete, and close the stream.

        Raises:
            InputError: the mel was too short, or the stream is finished already.
            Cancelled: the stream was closed, or its event was set.
        """
        return self._joined(self.last_chunks())  # type: ignore[no-any-return]

    def chunks(self, mel: AnyArray) -> Iterator[FloatArray]:
        """Take mel frames as `feed` does, and yield each chunk of audio as soon as it is final."""
        piece, self._device = self._checked(mel), device_of(mel)
        for begin in range(0, piece.shape[1], FRAMES):
            self._add(piece[:, begin : begin + FRAMES])
            # A tile that could still grow waits for the next frames of the piece.
            last = begin + FRAMES >= piece.shape[1]
            while (chunk := self._advance(whole_tiles=not last)) is not None:
                if len(chunk):
                    yield chunk

    def last_chunks(self) -> Iterator[FloatArray]:
        """Complete the audio as `finish` does, and yield each chunk as soon as it is final."""
        self._end()
        while (chunk := self._advance(whole_tiles=False)) is not None:
            if len(chunk):
                yield chunk
        self._finished = True
        self.close()

    def close(self) -> None:
        """Stop and free the memory; a `feed` in another thread raises Cancelled within one tile. May be repeated.

        In a signal handler that interrupts a `feed` of the same thread, it makes this `feed` raise Cancelled.
        """
        self._closing = True
        self._working.end(self._release)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, mel: Any) -> FloatArray:
        if getattr(mel, "shape", None) == (self._config.n_mels, 0):
            return np.empty((self._config.n_mels, 0), np.float32)
        batch = check_mel(mel, self._config)
        if batch.form != "single":
            raise InputError(f"mels: expected pieces of one mel, [{self._config.n_mels}, n] each, got a batch")
        kind = self._config.mel_kind
        fitted = fit_to_kind(batch, kind, piece=True, continues=self.frames > 0, quiet=self._warned)
        self._warned = self._warned or is_outside(batch.bounds, kind)
        piece: FloatArray = fitted.items[0]
        return piece

    def _open(self) -> StreamWindow:
        if self._finished:
            raise InputError("stream: it is finished; open another")
        if self._closing or self._window is None:
            raise Cancelled("the stream was closed, or failed, before the audio was complete")
        return self._window

    def _release(self) -> None:
        """Free the native memory now, even if a traceback or another thread still refers to parts of the stream."""
        if self._window is not None:
            self._window.release()
        self._window = None

    def _add(self, part: FloatArray) -> None:
        with self._working:
            window = self._open()
            if window.has_ended:
                raise InputError("stream: it is finished; open another")
            with self._closed_by_failure():
                window.add(part)
                self.frames += part.shape[1]

    def _end(self) -> None:
        with self._working:
            window, length = self._open(), self.frames * self._config.hop
            if window.has_ended:
                raise InputError("stream: it is finished; open another")
            if length == 0:
                raise InputError("mels: expected at least one frame, got none")
            check_reflection(self._config, length)
            with self._closed_by_failure():
                window.end(length)

    def _advance(self, whole_tiles: bool) -> FloatArray | None:
        """Run one tile and return the audio that became final, maybe none; None if the mel does not fill a tile yet."""
        with self._working:
            if not self._finished and self._cancelled():
                self._release()
                raise Cancelled("the stream was closed, or its event set, before the audio was complete")
            window = self._open()
            with self._closed_by_failure():
                chunk = window.advance(whole_tiles, self._cancelled)
            self.samples += 0 if chunk is None else len(chunk)
            return chunk

    @contextmanager
    def _closed_by_failure(self) -> Iterator[None]:
        """Close the stream if the block fails: part of its work is done, and to continue would give other bytes."""
        try:
            yield
        except BaseException:
            self._release()
            raise

    def _joined(self, chunks: Iterator[FloatArray]) -> Any:
        return on_device(np.concatenate([np.empty(0, np.float32), *chunks]), self._device)

    def _cancelled(self) -> bool:
        return self._closing or (self._cancel is not None and self._cancel.is_set())
