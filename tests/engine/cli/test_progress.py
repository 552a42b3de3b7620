"""The progress bar."""

from __future__ import annotations

import io
import os

import pytest

from engine.cli.progress import INTERVAL, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


def drawn_lines(terminal: Terminal) -> list[str]:
    """Return the lines in the order in which they replaced each other."""
    assert "\n" not in terminal.getvalue()
    return terminal.getvalue().split("\r")[1:]


def test_percent_elapsed_and_remaining(columns: pytest.MonkeyPatch) -> None:
    terminal, clock = Terminal(), Clock()
    with progress_bar(terminal, clock) as progress:
        assert progress is not None
        progress(0.0)
        clock.now += 30
        progress(0.25)
        clock.now += 3570
        progress(0.5)
        clock.now += 100
        progress(1.0)
    lines = drawn_lines(terminal)
    assert lines[0] == "[" + 30 * "." + "]   0 %, 0:00 elapsed"
    assert lines[1] == "[" + 7 * "#" + 23 * "." + "]  25 %, 0:30 elapsed, 1:30 remaining"
    assert lines[2] == "[" + 15 * "#" + 15 * "." + "]  50 %, 1:00:00 elapsed, 1:00:00 remaining"
    assert lines[3].rstrip() == "[" + 30 * "#" + "] 100 %, 1:01:40 elapsed, 0:00 remaining"


def test_an_exception_erases_the_bar(columns: pytest.MonkeyPatch) -> None:
    terminal, clock = Terminal(), Clock()
    with pytest.raises(KeyboardInterrupt), progress_bar(terminal, clock) as progress:
        assert progress is not None
        clock.now += 40
        progress(0.005)
        clock.now += 1
        progress(0.95)
        raise KeyboardInterrupt
    first, second, blank, end = drawn_lines(terminal)
    assert first.endswith("2:12:40 remaining") and second.rstrip().endswith("0:02 remaining")
    assert len(second) == len(first)  # the shorter line covers the longer one
    assert blank == " " * len(second.rstrip()) and end == ""


def test_the_interval_of_drawings(columns: pytest.MonkeyPatch) -> None:
    terminal, clock = Terminal(), Clock()
    with progress_bar(terminal, clock) as progress:
        assert progress is not None
        for n in range(1000):
            clock.now = 100 + n * 1e-3
            progress(n / 1000)
    assert len(drawn_lines(terminal)) - 2 == pytest.approx(1 / INTERVAL, abs=1)


@pytest.mark.parametrize("width", [1, 10, 40, 50, 79, 200])
def test_the_line_never_wraps(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr("engine.cli.progress.shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    terminal, clock = Terminal(), Clock()
    with progress_bar(terminal, clock) as progress:
        assert progress is not None
        for fraction in (0.0, 0.5, 1.0):
            clock.now += 5000
            progress(fraction)
    assert max(map(len, drawn_lines(terminal))) < max(width, 2)


def test_no_bar_without_a_terminal() -> None:
    pipe = io.StringIO()
    with progress_bar(pipe) as progress:
        assert progress is None
    assert pipe.getvalue() == ""
    with progress_bar(None) as progress:  # a closed stderr
        assert progress is None
