"""Audio while the mel is still being written: exactly what the whole mel gives, piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.arrays import device_of, on_device
from engine.errors import Cancelled, InputError
from engine.inputs import check_mel, check_range
from engine.sampler import Journey, Network
from engine.signals import Signals

Array = npt.NDArray[np.float32]

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

    def __init__(self, network: Network, journey: Journey, options: StreamOptions) -> None:
        self.frames = 0
        self.samples = 0
        self._config = network.config
        self._signals: Signals | None = Signals(network, journey, options.seed, options.energy_min)
        self._options = options
        self._device: Any = None  # of the last piece
        self._closing = False
        self._working = threading.Lock()

    @property
    def bytes(self) -> int:
        """Working memory."""
        signals = self._signals
        return 0 if signals is None else sum(sweep.bytes for sweep in signals.journey.sweeps)

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

    def chunks(self, mel: Any) -> Iterator[Array]:
        """As `feed`, in chunks as soon as each is final."""
        piece, self._device = self._checked(mel), device_of(mel)
        for begin in range(0, piece.shape[1], FRAMES):
            self._add(piece[:, begin : begin + FRAMES])
            # Tiles that could still grow wait for the next part, where one is there already.
            last = begin + FRAMES >= piece.shape[1]
            while (chunk := self._advance(whole_tiles=not last)) is not None:
                if len(chunk):
                    yield chunk

    def last_chunks(self) -> Iterator[Array]:
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
            self._signals = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, mel: Any) -> Array:
        if getattr(mel, "shape", None) == (self._config.n_mels, 0):
            return np.empty((self._config.n_mels, 0), np.float32)
        batch = check_mel(mel, self._config)
        if batch.form != "single":
            raise InputError(f"mels: expected pieces of one mel, [{self._config.n_mels}, n] each, got a batch")
        check_range(batch.items, self._config.mel_kind, stacklevel=None)
        piece: Array = batch.items[0]
        return piece

    def _open(self) -> Signals:
        if self._signals is None:
            raise InputError("stream: it is finished or closed; open another")
        return self._signals

    def _add(self, part: Array) -> None:
        with self._working:
            signals = self._open()
            if signals.journey.length is not None:
                raise InputError("stream: it is finished; open another")
            signals.add(part)
            self.frames += part.shape[1]

    def _end(self) -> None:
        with self._working:
            signals, length = self._open(), self.frames * self._config.hop
            if length == 0:
                raise InputError("mels: expected at least one frame, got none")
            self._options.check_length(length)
            signals.journey.end(length)

    def _advance(self, whole_tiles: bool) -> Array | None:
        """One tile: the audio that it made final, maybe none; None where the mel does not reach for a tile."""
        with self._working:
            if self._cancelled():
                self._signals = None
                raise Cancelled("the stream was closed, or its event set, before the audio was complete")
            signals = self._open()
            journey = signals.journey
            available = journey.length
            if available is None:
                available = self.frames * self._config.hop - self._config.mel_reach
                if whole_tiles and available - journey.begin < journey.tile:
                    return None
            signals.prepare(min(journey.begin + journey.tile, available))
            try:
                if not journey.advance(available, self._cancelled):
                    return None
            except BaseException:  # part of a tile is done: going on would give other bytes
                self._signals = None
                raise
            chunk = signals.audio(self.samples, journey.final)
            self.samples = journey.final
            return chunk

    def _joined(self, chunks: Iterator[Array]) -> Any:
        return on_device(np.concatenate([np.empty(0, np.float32), *chunks]), self._device)

    def _cancelled(self) -> bool:
        return self._closing or (self._options.cancel is not None and self._options.cancel.is_set())
