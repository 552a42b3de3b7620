"""Streams on a GPU as far as no kernel is needed: shared ticks, errors, closing, cancelling."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import engine
from engine import Cancelled, InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import BASE
from engine.diffusion.schedule import Schedule, build_schedule
from engine.sampling.gpu.stream import GpuWindow, Tick, Ticks
from engine.sampling.item import Item
from tests.gpu.devices import SilentDevice, install
from tests.support.networks import random_network
from tests.support.streams import SMALL, a_mel, cut

SIX, THREE = build_schedule(SMALL, 6), build_schedule(SMALL, 3)


class Sampler:
    """A loop that returns the first sample's number and the seed; its first batch waits for the others to queue up."""

    def __init__(self, others: int) -> None:
        self.ticks = Ticks()
        self.batches: list[int] = []
        self.others = others
        self.failing: BaseException | None = None

    def sample_parts(self, items: Sequence[Item], begins: Sequence[int], schedule: Schedule) -> list[Any]:
        deadline = time.monotonic() + 60
        while not self.batches and len(self.ticks._waiting) <= self.others and time.monotonic() < deadline:
            time.sleep(0.001)
        self.batches.append(len(items))
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error
        return [torch.arange(item.length) + 1000 * item.seed + begin for item, begin in zip(items, begins, strict=True)]

    def plan_bytes(self, length: int) -> int:
        return length


def run_at_once(loop: Sampler, ticks: Sequence[Tick]) -> list[Any]:
    """Return the result of every tick, or the exception that it raised, from a thread each."""
    results: list[Any] = [None] * len(ticks)

    def run(number: int) -> None:
        try:
            results[number] = loop.ticks.run(ticks[number], loop).tolist()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(ticks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and loop.ticks._waiting == []
    return results


def tick(seed: int, schedule: Schedule = SIX) -> Tick:
    return Tick(Item(10, None, seed), 4 * seed, slice(seed, seed + 2), schedule)


def expected(seed: int) -> list[int]:
    return [1005 * seed, 1005 * seed + 1]


def test_ticks_that_wait_share_the_next_batch() -> None:
    loop = Sampler(5)
    assert run_at_once(loop, [tick(seed) for seed in range(6)]) == [expected(seed) for seed in range(6)]
    assert loop.batches == [1, 5]


def test_another_schedule_is_another_batch() -> None:
    loop = Sampler(5)
    ticks = [tick(seed, SIX if seed % 2 else THREE) for seed in range(6)]
    assert run_at_once(loop, ticks) == [expected(seed) for seed in range(6)]
    assert sorted(loop.batches) == [1, 2, 3]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_exception_stays_with_the_thread_that_ran_the_batch(error: type[BaseException]) -> None:
    loop = Sampler(3)
    loop.failing = error()
    results = run_at_once(loop, [tick(seed) for seed in range(4)])
    assert [type(result) for result in results].count(error) == 1
    assert [result for result in results if not isinstance(result, BaseException)] == [
        expected(seed) for seed, result in enumerate(results) if not isinstance(result, BaseException)
    ]


def test_base_in_six_steps_computes_parts_of_two_seconds() -> None:
    """The figures of docs/streaming.md: the first audio after 1.7 s of mel, the parts, and the windows of chunks."""
    loop, sizes = Sampler(0), {}
    for chunk in (None, 1024):
        window = GpuWindow(loop, BASE, build_schedule(BASE, 6), 0, None, chunk)
        parts, frames, first = [], 0, None
        while len(parts) < 40 and frames < 600:
            window.add(np.zeros((80, 1), np.float32))
            frames += 1
            audio = window.advance(False, lambda: False)
            if audio is not None:
                parts.append(len(audio))
                first = first or frames
        sizes[chunk] = first, parts[-1], window._before + window._after + parts[-1]
    assert sizes[None][0] == 145 and 1.6 < 145 * BASE.hop / BASE.sample_rate < 1.7
    assert 1.6 < sizes[None][1] / BASE.sample_rate < 1.75
    assert sizes[1024][1] == 1024 and round(sizes[1024][2] / 1024) == 38


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Voice:
    install(monkeypatch, SilentDevice())
    save_checkpoint(tmp_path / "v.safetensors", Checkpoint(SMALL, random_network(SMALL, 0)))
    return engine.load(tmp_path / "v.safetensors", device="cuda")


def test_an_event_cancels_a_stream(voice: Voice) -> None:
    event = threading.Event()
    chunks = voice.stream(a_mel(600), cancel=event)
    next(chunks)
    event.set()
    with pytest.raises(Cancelled, match="its event set"):
        next(chunks)
    with pytest.raises(StopIteration):
        next(chunks)
    with pytest.raises(Cancelled):
        voice.open_stream(cancel=event).feed(a_mel(30))


def test_an_event_that_is_set_during_a_tick_cancels_it(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    event, run = threading.Event(), voice._loop.ticks.run  # type: ignore[attr-defined]
    monkeypatch.setattr(voice._loop.ticks, "run", lambda *options: event.set() or run(*options))  # type: ignore[attr-defined]
    stream = voice.open_stream(cancel=event)
    with pytest.raises(Cancelled):
        stream.feed(a_mel(60))
    assert stream.bytes == 0


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_stream_ends_after_a_failed_tick(
    voice: Voice, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fails(*_: object) -> None:
        raise error

    with voice.open_stream() as stream:
        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(voice._loop.ticks, "run", fails)  # type: ignore[attr-defined]
            stream.feed(a_mel(200))
        assert stream.bytes == 0
        with pytest.raises(Cancelled, match="closed, or failed"):
            stream.feed(a_mel(1))


def test_close_ends_a_stream(voice: Voice) -> None:
    with voice.stream(a_mel(600)) as chunks:
        next(chunks)
    assert list(chunks) == []
    stream = voice.open_stream()
    stream.close()
    calls: list[Callable[[], Any]] = [lambda: stream.feed(a_mel(5)), stream.finish]
    for call in calls:
        with pytest.raises(Cancelled, match="the stream was closed"):
            call()
    assert stream.bytes == 0


def test_a_bad_piece_leaves_a_stream_unchanged(voice: Voice) -> None:
    mel, stream = a_mel(60), voice.open_stream()
    samples = len(stream.feed(mel[:, :25]))
    for bad, message in (
        (a_mel(3).T, "looks transposed"),
        (a_mel(3) * np.nan, "finite"),
        (a_mel(3)[:19], "20 mel bands"),
    ):
        with pytest.raises(InputError, match=message):
            stream.feed(bad)
    samples += len(stream.feed(mel[:, 25:])) + len(stream.finish())
    assert samples == 60 * voice.hop
    with pytest.raises(InputError, match="finished"):
        stream.feed(mel)


def test_closing_a_batch_does_not_wait_for_its_sources(voice: Voice) -> None:
    go_on = threading.Event()

    def slowly() -> Any:
        go_on.wait(60)
        yield a_mel(5)

    chunks = voice.stream_batch([a_mel(600), slowly()])
    assert next(chunks)[0] == 0
    chunks.close()  # type: ignore[attr-defined]
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("sizes", [(1,), (7, 0, 100), (200,)])
@pytest.mark.parametrize("chunk", [None, 1, 100])
def test_every_sample_comes_once(voice: Voice, sizes: tuple[int, ...], chunk: int | None) -> None:
    mel = a_mel(200)
    assert sum(map(len, voice.stream(cut(mel, *sizes), chunk=chunk))) == 200 * voice.hop
