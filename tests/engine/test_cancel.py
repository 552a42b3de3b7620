"""An event that stops a call: within a step of a tile on a CPU, at once for many items, and without a trace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine import Cancelled, InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.sampling.cpu.loop import SHORT
from tests.support.networks import random_network

VOCODER = Config(residual_channels=16, residual_layers=4, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
PLAIN = replace(VOCODER, n_mels=0, upsample_strides=(), mel_kind=None)
LABELED = replace(PLAIN, classes=("0", "1"), guidance=2.0)
FRAMES = 4 * SHORT // VOCODER.hop


class Countdown:
    """An event that is set when it has been asked a number of times."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.asked = 0

    def is_set(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    folder, voices = tmp_path_factory.mktemp("voices"), {}
    for name, config in {"vocoder": VOCODER, "plain": PLAIN, "labeled": LABELED}.items():
        path = folder / f"{name}.safetensors"
        save_checkpoint(path, Checkpoint(config, random_network(config, 0)))
        voices[name] = engine.load(path, threads=2)
    return voices


def a_mel(frames: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(frames).random((VOCODER.n_mels, frames), np.float32)


AUDIO = 0.1 * np.random.default_rng(1).standard_normal(5000).astype(np.float32)
CALLS: dict[str, Callable[[dict[str, Voice], Any], Any]] = {
    "vocode": lambda v, event: v["vocoder"].vocode(a_mel(FRAMES), steps=6, cancel=event),
    "a batch of short items": lambda v, event: v["vocoder"].vocode([a_mel(9)] * 20, steps=6, cancel=event),
    "generate": lambda v, event: v["plain"].generate(samples=4 * SHORT, steps=6, cancel=event),
    "guidance": lambda v, event: v["labeled"].generate(label=1, samples=500, steps=6, cancel=event),
    "denoise": lambda v, event: v["plain"].denoise(AUDIO, t=9, cancel=event),
    "interpolate": lambda v, event: v["plain"].interpolate(AUDIO, AUDIO, t=9, cancel=event),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_set_event_stops_the_call(voices: dict[str, Voice], call: Callable[[dict[str, Voice], Any], Any]) -> None:
    event = threading.Event()
    event.set()
    with pytest.raises(Cancelled, match="the audio was cancelled"):
        call(voices, event)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_event_is_asked_between_steps(
    voices: dict[str, Voice], call: Callable[[dict[str, Voice], Any], Any]
) -> None:
    never = Countdown(1 << 30)
    expected = call(voices, never)
    assert never.asked >= 6, "the event is asked before every step"
    last = Countdown(never.asked - 1)
    with pytest.raises(Cancelled):
        call(voices, last)
    again = call(voices, None)  # a call that was stopped leaves nothing behind
    for audio, same in zip(np.atleast_2d(expected), np.atleast_2d(again), strict=True):
        assert audio.tobytes() == same.tobytes()


def test_another_thread_stops_a_long_call(voices: dict[str, Voice]) -> None:
    event, begun = threading.Event(), threading.Event()
    outcome: list[type[BaseException]] = []

    def work() -> None:
        try:
            voices["vocoder"].vocode(a_mel(40 * FRAMES), steps="full", progress=lambda _: begun.set(), cancel=event)
        except BaseException as error:
            outcome.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    event.set()
    thread.join(60)
    assert not thread.is_alive() and outcome == [Cancelled]


@pytest.mark.parametrize("cancel", [True, "event", lambda: True, object()])
def test_what_is_no_event_is_refused(voices: dict[str, Voice], cancel: Any) -> None:
    with pytest.raises(InputError, match=r"cancel: expected a threading.Event, got \w+"):
        voices["vocoder"].vocode(a_mel(2), cancel=cancel)


@pytest.mark.parametrize("progress", [3, "bar", True])
def test_what_cannot_be_called_is_refused(voices: dict[str, Voice], progress: Any) -> None:
    with pytest.raises(InputError, match=r"progress: expected a function of one float, got \w+"):
        voices["vocoder"].vocode(a_mel(2), progress=progress)


def test_the_module_functions_take_an_event(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    save_checkpoint(path, Checkpoint(VOCODER, random_network(VOCODER, 0)))
    event = threading.Event()
    event.set()
    with pytest.raises(Cancelled):
        engine.vocode(a_mel(3), model=path, cancel=event)
