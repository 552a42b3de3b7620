"""Audio while the mel is still being written: exactly what the whole mel gives, piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.checks.arrays import FloatArray, device_of, on_device
from engine.checks.mels import check_mel, check_range
from engine.errors import Cancelled, InputError
from engine.sampling.cpu.pipeline import StepPipeline
from engine.streaming.window import Window

FRAMES = 64  # of a piece that are taken in at a time


class Event(Protocol):
    """What can tell that the audio is no longer wanted: a `threading.Event`, for example."""

    def is_set(self) -> bool:
        """Whether it is so."""


@dataclass(frozen=True)
class StreamOptions:
    """Of one stream.

    Attributes:
        seed: of its noise.
        energy_min: for a PriorGrad network, the smallest frame energy of its training data.
        cancel: set when the audio is no longer wanted.
        check_length: raises InputError for a length in samples that the network cannot have.
    """

    seed: int
    energy_min: float | None
    cancel: Event | None
    check_length: Callable[[int], None]


class Stream:
    """One utterance on its way: mel frames go in, the audio that they made final comes out.

    A network looks ahead by `Config.look_ahead` samples, so the audio follows the mel at that distance; `finish` gives
    the rest. A stream may be closed from another thread while it works. Several may work at once.

    Attributes:
        frames: mel frames that went in.
        samples: audio that came out.
        bytes: working memory, for as long as it is open.
    """

    def __init__(self, pipeline: StepPipeline, options: StreamOptions) -> None:
        self.frames = 0
        self.samples = 0
        self._config = pipeline.network.config
        self._window: Window | None = Window(pipeline, options.seed, options.energy_min)
        self._options = options
        self._device: Any = None  # of the last piece
        self._closing = False
        self._working = threading.Lock()

    @property
    def bytes(self) -> int:
        """Working memory."""
        window = self._window
        return 0 if window is None else sum(sweep.bytes for sweep in window.pipeline.sweeps)

    def feed(self, mel: Any) -> Any:
        """Take in mel frames [M,n], n >= 0; returns the audio that they made final, float32, often empty.

        Raises:
            InputError: they are not frames of this voice's mel. The stream stays as it was.
            Cancelled: the stream was closed meanwhile, or its event set.
        """
        return self._joined(self.chunks(mel))

    def finish(self) -> Any:
        """The mel is complete: the rest of the audio. Closes the stream.

        Raises:
            InputError: the mel was too short.
            Cancelled: as in `feed`.
        """
        return self._joined(self.last_chunks())

    def chunks(self, mel: Any) -> Iterator[FloatArray]:
        """As `feed`, in chunks as soon as each is final."""
        piece, self._device = self._checked(mel), device_of(mel)
        for begin in range(0, piece.shape[1], FRAMES):
            self._add(piece[:, begin : begin + FRAMES])
            # Tiles that could still grow wait for the next part, where one is there already.
            last = begin + FRAMES >= piece.shape[1]
            while (chunk := self._advance(whole_tiles=not last)) is not None:
                if len(chunk):
                    yield chunk

    def last_chunks(self) -> Iterator[FloatArray]:
        """As `finish`, in chunks as soon as each is final."""
        self._end()
        while (chunk := self._advance(whole_tiles=False)) is not None:
            if len(chunk):
                yield chunk
        self.close()

    def close(self) -> None:
        """Stop, now: a `feed` in another thread raises Cancelled within one tile. Frees the memory. May be repeated."""
        self._closing = True
        with self._working:
            self._window = None

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
        check_range(batch.items, self._config.mel_kind, stacklevel=None)
        piece: FloatArray = batch.items[0]
        return piece

    def _open(self) -> Window:
        if self._window is None:
            raise InputError("stream: it is finished or closed; open another")
        return self._window

    def _add(self, part: FloatArray) -> None:
        with self._working:
            window = self._open()
            if window.pipeline.length is not None:
                raise InputError("stream: it is finished; open another")
            window.add(part)
            self.frames += part.shape[1]

    def _end(self) -> None:
        with self._working:
            window, length = self._open(), self.frames * self._config.hop
            if length == 0:
                raise InputError("mels: expected at least one frame, got none")
            self._options.check_length(length)
            window.pipeline.end(length)

    def _advance(self, whole_tiles: bool) -> FloatArray | None:
        """One tile: the audio that it made final, maybe none; None where the mel does not reach for a tile."""
        with self._working:
            if self._cancelled():
                self._window = None
                raise Cancelled("the stream was closed, or its event set, before the audio was complete")
            window = self._open()
            pipeline = window.pipeline
            available = pipeline.length
            if available is None:
                available = self.frames * self._config.hop - self._config.mel_reach
                if whole_tiles and available - pipeline.begin < pipeline.tile:
                    return None
            window.prepare(min(pipeline.begin + pipeline.tile, available))
            try:
                if not pipeline.advance(available, self._cancelled):
                    return None
            except BaseException:  # part of a tile is done: going on would give other bytes
                self._window = None
                raise
            chunk = window.audio(self.samples, pipeline.final)
            self.samples = pipeline.final
            return chunk

    def _joined(self, chunks: Iterator[FloatArray]) -> Any:
        return on_device(np.concatenate([np.empty(0, np.float32), *chunks]), self._device)

    def _cancelled(self) -> bool:
        return self._closing or (self._options.cancel is not None and self._options.cancel.is_set())
