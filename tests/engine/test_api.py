"""The calls of the module: those of a voice, on networks that are loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import engine
from engine.checkpoint import bundled
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.config import Config
from engine.voice import api
from tests.support.networks import random_network

PLAIN = Config(16, 3, 2, n_mels=0, upsample_strides=(), mel_kind=None, sample_rate=8000, clip_samples=60)
LABELLED = replace(PLAIN, classes=("3 ann", "3 ben", "4 ann"))
BUNDLED_DIGITS = [
    name for name in bundled.NAMES if name != "voice" and (bundled.ASSETS / f"{name}.safetensors").is_file()
]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Small networks in place of the bundled ones."""
    for name, config in (("digits", LABELLED), ("digits-unconditional", PLAIN)):
        save_checkpoint(tmp_path / f"{name}.safetensors", Checkpoint(config, random_network(config, 1)))
    monkeypatch.setattr(bundled, "ASSETS", tmp_path)
    api.bundled_voice.cache_clear()
    yield tmp_path
    api.bundled_voice.cache_clear()


def test_generate(stand_ins: Path) -> None:
    voice = engine.load("digits")
    audio = engine.generate(n=4, label=3, seed=5)
    assert audio.shape == (4, 60) and audio.tobytes() == voice.generate(n=4, label=3, seed=5).tobytes()
    six = engine.generate(n=2, label=["4", 3], model="digits", seed=5, steps=6, seconds=0.01)
    assert six.tobytes() == voice.generate(n=2, label=["4", 3], steps=6, seed=5, seconds=0.01).tobytes()
    assert engine.generate(model="digits-unconditional").shape == (1, 60)
    assert engine.generate(n=4, label=3, seed=5, guidance=1).tobytes() == audio.tobytes()
    path = stand_ins / "digits.safetensors"
    for model in (path, str(path)):
        assert engine.generate(n=4, label=3, model=model, seed=5).tobytes() == audio.tobytes()


def test_denoise_and_interpolate(stand_ins: Path) -> None:
    voice, (a, b) = engine.load("digits-unconditional"), np.float32(0.2 * np.random.default_rng(0).random((2, 60)))
    assert engine.denoise(a, seed=2).tobytes() == voice.denoise(a, t=25, seed=2).tobytes()
    assert (
        engine.denoise(a, t=9, model="digits", label=4).tobytes()
        == engine.load("digits").denoise(a, t=9, label=4).tobytes()
    )
    assert engine.interpolate(a, b, seed=2).tobytes() == voice.interpolate(a, b, weight=0.5, t=50, seed=2).tobytes()
    assert engine.interpolate(a, b, weight=0.1, t=9).tobytes() == voice.interpolate(a, b, weight=0.1, t=9).tobytes()


def test_bundled_networks_are_loaded_once_and_files_anew(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counting(path: object) -> object:
        seen.append(path)
        return engine.load(path)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "load", counting)
    for _ in range(2):
        engine.generate(n=1, label=3, steps=6)
        engine.generate(n=1, label=3, model=stand_ins / "digits.safetensors", steps=6)
    assert seen == ["digits", stand_ins / "digits.safetensors", stand_ins / "digits.safetensors"]


@pytest.mark.skipif("digits" not in BUNDLED_DIGITS, reason="the bundled digits are not beside the package yet")
def test_the_bundled_digits() -> None:
    config = load_checkpoint(bundled.path_of("digits")).config
    assert {name.split()[0] for name in config.classes} == set("0123456789") and config.clip_samples
    audio = engine.generate(n=1, label=3, steps=6, samples=config.clip_samples // 8)
    assert np.isfinite(audio).all() and audio.std() > 0


@pytest.mark.skipif("digits-unconditional" not in BUNDLED_DIGITS, reason="they are not beside the package yet")
def test_the_bundled_digits_without_labels() -> None:
    config = load_checkpoint(bundled.path_of("digits-unconditional")).config
    assert not config.classes and config.clip_samples


@pytest.mark.parametrize("name", ["vocode", "generate", "denoise", "interpolate"])
def test_every_argument_reaches_the_voice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    voice = SimpleNamespace(**{name: lambda *subject, **options: calls.append((subject, options))})
    monkeypatch.setattr(api, "_voice", lambda model: voice)
    parameters = inspect.signature(getattr(engine, name)).parameters
    passed = {key: object() for key in parameters if key != "model"}
    subject = [key for key in parameters if parameters[key].kind is not inspect.Parameter.KEYWORD_ONLY]
    getattr(engine, name)(*(passed[key] for key in subject), **{k: v for k, v in passed.items() if k not in subject})
    assert calls == [(tuple(passed[key] for key in subject), {k: v for k, v in passed.items() if k not in subject})]
    assert set(passed) == set(inspect.signature(getattr(engine.Voice, name)).parameters) - {"self"}
