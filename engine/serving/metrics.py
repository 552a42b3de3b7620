"""Measurements of the service in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class Histogram:
    """Counts of times by upper bound.

    Attributes:
        name: of the metric.
        meaning: one line about it.
    """

    def __init__(self, name: str, meaning: str) -> None:
        self.name = name
        self.meaning = meaning
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one time.

        Args:
            seconds: the time.
        """
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def lines(self) -> Iterator[str]:
        """Yield the lines of the metric."""
        yield from _head(self.name, "histogram", self.meaning)
        total = 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{bound}"}} {total}'
        yield f"{self.name}_sum {self._sum:.6f}"
        yield f"{self.name}_count {total}"


class Metrics:
    """All measurements of one service.

    Attributes:
        first_audio: seconds from a request to its first audio.
        total: seconds from a request to the end of its answer.
    """

    def __init__(self) -> None:
        self.first_audio = Histogram("diffwave_first_audio_seconds", "Time from a request to its first audio.")
        self.total = Histogram("diffwave_request_seconds", "Time from a request to the end of its answer.")
        self._requests: Counter[tuple[str, int]] = Counter()
        self._audio_seconds = 0.0
        self._work_seconds = 0.0

    def count(self, route: str, code: int, seconds: float) -> None:
        """Count a request that ended.

        Args:
            route: its path.
            code: the status of HTTP; 499 for a client that left. Of a stream, the status of the same meaning.
            seconds: from its begin to its end.
        """
        self._requests[route, code] += 1
        self.total.add(seconds)

    def add_work(self, audio_seconds: float, work_seconds: float) -> None:
        """Add the audio that a call made, and the time for which it held a slot.

        Args:
            audio_seconds: the length of the audio.
            work_seconds: the time.
        """
        self._audio_seconds += audio_seconds
        self._work_seconds += work_seconds

    def text(self, *, working: int, waiting: int, slots: int) -> str:
        """Return all measurements.

        Args:
            working: calls at work.
            waiting: calls that wait for a slot.
            slots: calls that may work at once.
        """
        lines = [*_head("diffwave_requests_total", "counter", "Requests by route and status.")]
        for (route, code), count in sorted(self._requests.items()):
            lines.append(f'diffwave_requests_total{{route="{route}",code="{code}"}} {count}')
        for name, kind, meaning, value in (
            ("requests_working", "gauge", "Calls that hold a slot.", working),
            ("requests_waiting", "gauge", "Calls that wait for a slot.", waiting),
            ("slots", "gauge", "Calls that may work at once.", slots),
            ("audio_seconds_total", "counter", "Seconds of audio that were made.", f"{self._audio_seconds:.6f}"),
            ("work_seconds_total", "counter", "Seconds for which slots were held.", f"{self._work_seconds:.6f}"),
        ):
            lines += [*_head(f"diffwave_{name}", kind, meaning), f"diffwave_{name} {value}"]
        return "\n".join([*lines, *self.first_audio.lines(), *self.total.lines()]) + "\n"


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
