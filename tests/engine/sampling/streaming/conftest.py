"""Voices of every kind, loaded once per file."""

from __future__ import annotations

import pytest

from engine import Voice
from tests.support.streams import CONFIGS, load


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    folder = tmp_path_factory.mktemp("voices")
    return {name: load(folder / f"{n}.safetensors", config) for n, (name, config) in enumerate(CONFIGS.items())}


@pytest.fixture(scope="module")
def voice(voices: dict[str, Voice]) -> Voice:
    return voices["lmnt"]
