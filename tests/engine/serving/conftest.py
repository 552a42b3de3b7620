"""Small networks, and a service of them with one slot and a queue of two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import Voice
from engine.serving import Limits, app
from tests.support.serving import DIGITS, VOCODER, Running, load, serving


@pytest.fixture(scope="package")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return load(tmp_path_factory.mktemp("voice"), VOCODER)


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Voice:
    return load(tmp_path_factory.mktemp("digits"), DIGITS)


@pytest.fixture(scope="package")
def running(voice: Voice, digits: Voice) -> Iterator[Running]:
    limits = Limits(slots=1, queue=2, max_seconds=60.0, body_seconds=2.0, idle_seconds=5.0, stall_seconds=2.0)
    with serving(app(voice, generator=digits, limits=limits)) as service:
        yield service
