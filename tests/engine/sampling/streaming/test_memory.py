"""The memory of a stream and of a voice goes with the last reference."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import Cancelled, InputError, Voice
from engine.config import Config
from tests.support.streams import SMALL, Array, a_mel, load


def leave_by_break(stream: Any) -> None:
    for _ in stream:
        break


def leave_by_exception(stream: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in stream:
            raise ZeroDivisionError


def leave_open(stream: Any) -> None:
    next(stream)


@pytest.mark.parametrize("chunk", [None, 50])
@pytest.mark.parametrize("way", [leave_by_break, leave_by_exception, leave_open])
def test_memory_goes_with_the_last_reference(voice: Voice, way: Any, chunk: int | None) -> None:
    gc.disable()  # as in a server that allocates little in Python
    try:
        stream = voice.stream(a_mel(600), chunk=chunk)
        sweep = weakref.ref(stream._stream._window.pipeline)  # type: ignore[union-attr]
        way(stream)
        del stream
        assert sweep() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["fails", "cancelled", "bad piece"])
def test_memory_goes_while_a_traceback_is_kept(voice: Voice, kind: str) -> None:
    cancel = threading.Event()

    def pieces() -> Iterator[Array]:
        yield a_mel(300)
        if kind == "fails":
            raise ZeroDivisionError
        if kind == "cancelled":
            cancel.set()
        yield a_mel(300)[: 19 if kind == "bad piece" else 20]

    stream = voice.stream(pieces(), cancel=cancel)
    sweeps = stream._stream._window.pipeline.sweeps  # type: ignore[union-attr]
    assert stream._stream.bytes > 0 and len(sweeps) == 1
    with pytest.raises((ZeroDivisionError, Cancelled, InputError)) as caught:
        list(stream)
    assert caught.tb is not None and stream._stream.bytes == 0 and not sweeps


def test_a_batch_that_is_left_early_frees_all_its_streams(voice: Voice) -> None:
    gc.disable()
    try:
        opened: list[Any] = []
        original = voice.open_stream

        class Watched(type(voice)):  # type: ignore[misc]
            def open_stream(self, **options: Any) -> Any:
                opened.append(original(**options))
                return opened[-1]

        watched = Watched.__new__(Watched)
        watched.__dict__.update(voice.__dict__)
        for _ in watched.stream_batch([a_mel(600), a_mel(600)]):
            break
        deadline = time.monotonic() + 30
        while any(stream.bytes for stream in opened) and time.monotonic() < deadline:
            time.sleep(0.01)  # a thread may be within a tile
        assert len(opened) == 2 and [stream.bytes for stream in opened] == [0, 0]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None, classes=("a",))]
)
def test_a_voice_goes_with_its_last_reference(tmp_path: Path, config: Config) -> None:
    gc.disable()
    try:
        voice = load(tmp_path / "v.safetensors", config)
        if config.n_mels:
            voice.vocode(a_mel(3))
            list(voice.stream(a_mel(3)))
        else:
            voice.generate(samples=50, steps=6, label="a")
        network = weakref.ref(voice._loop._network)  # type: ignore[attr-defined]
        del voice
        assert network() is None
    finally:
        gc.enable()
