"""Batches of a few milliseconds: on a GPU the calls that come together run together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from engine.checks.arrays import FloatArray
from engine.errors import Cancelled
from engine.sampling.item import Event


class Vocoder(Protocol):
    """The method of `Voice` that a batch calls."""

    def vocode(
        self,
        mel: list[FloatArray],
        *,
        steps: int | str | None = ...,
        seed: int | Sequence[int] = ...,
        energy_min: float | None = ...,
        draft: str | None = ...,
        match_mel: float | None = ...,
        cancel: Event | None = ...,
    ) -> list[FloatArray]:
        """Return the audio of every mel."""


@dataclass(eq=False)
class Call:
    """A call that waits for its batch.

    Attributes:
        mel: float32 [M, T].
        steps: see `Voice.vocode`.
        seed: of its noise.
        draft: see `Voice.vocode`.
        match_mel: see `Voice.vocode`.
        audio: its result.
        cancel: is set when nobody waits for it.
    """

    mel: FloatArray
    steps: int | str | None
    seed: int
    draft: str | None
    match_mel: float | None
    audio: asyncio.Future[FloatArray]
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def options(self) -> tuple[object, ...]:
        """The options that the calls of a batch share."""
        return self.steps, self.draft, self.match_mel


class AllSet:
    """An event that is set when all events of a batch are."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events

    def is_set(self) -> bool:
        """Return whether nobody waits for the batch."""
        return all(event.is_set() for event in self._events)


class Batcher:
    """Collects calls for up to `wait` seconds or `frames` mel frames, and runs them as one ragged batch.

    Args:
        voice: the network.
        executor: with one thread.
        frames: of a batch; one longer call is a batch of its own.
        wait: seconds from the first call of a batch to its start, while no other batch runs.
        energy_min: see `Voice.vocode`.
    """

    def __init__(
        self,
        voice: Vocoder,
        executor: Executor,
        *,
        frames: int = 32_768,
        wait: float = 0.005,
        energy_min: float | None = None,
    ) -> None:
        self._voice = voice
        self._executor = executor
        self._frames = frames
        self._wait = wait
        self._energy_min = energy_min
        self._calls: list[Call] = []
        self._loop_task: asyncio.Task[None] | None = None

    async def vocode(
        self,
        mel: FloatArray,
        steps: int | str | None,
        seed: int,
        draft: str | None = None,
        match_mel: float | None = None,
    ) -> FloatArray:
        """Return the audio of one call; cancelling it drops the call from the batches that have not begun.

        Args:
            mel: checked, float32 [M, T].
            steps: see `Voice.vocode`.
            seed: of the noise.
            draft: see `Voice.vocode`.
            match_mel: see `Voice.vocode`.
        """
        call = Call(mel, steps, seed, draft, match_mel, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = asyncio.create_task(self._run())
        try:
            return await call.audio
        finally:
            call.cancel.set()

    async def _run(self) -> None:
        """Run batches until no call waits."""
        while self._calls:
            await asyncio.sleep(self._wait)
            batch = self._next()
            if batch:
                await self._run_batch(batch)

    def _next(self) -> list[Call]:
        """Take the calls of the next batch: those with the options of the first one, within the budget of frames."""
        waiting = [call for call in self._calls if not call.cancel.is_set()]
        batch: list[Call] = []
        frames = 0
        for call in waiting:
            frames += call.mel.shape[1]
            is_other = call.options != waiting[0].options
            if is_other or (batch and frames > self._frames):
                break
            batch.append(call)
        self._calls = waiting[len(batch) :]
        return batch

    async def _run_batch(self, batch: Sequence[Call]) -> None:
        def work() -> list[FloatArray]:
            return self._voice.vocode(
                [call.mel for call in batch],
                steps=batch[0].steps,
                seed=[call.seed for call in batch],
                energy_min=self._energy_min,
                draft=batch[0].draft,
                match_mel=batch[0].match_mel,
                cancel=AllSet([call.cancel for call in batch]),
            )

        try:
            audios = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except Cancelled:
            return  # nobody waits
        except Exception as error:
            for call in batch:
                if not call.audio.done():
                    call.audio.set_exception(error)
            return
        for call, audio in zip(batch, audios, strict=True):
            if not call.audio.done():
                call.audio.set_result(audio)
