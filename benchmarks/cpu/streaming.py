"""Streams: their cost and latency, and the lines of the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from engine.checks.arrays import FloatArray
from engine.cli.bench.figures import quantiles

Results = dict[str, Any]
Timeline = list[tuple[float, float]]  # seconds since the first frame was requested, seconds of audio until then


def time_alternately(calls: dict[str, Callable[[], Any]], rounds: int) -> list[Results]:
    """Time each call once per round.

    Returns:
        A row per call: its seconds, and their ratio to the first call's of the same round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    first = np.array(times[next(iter(times))])
    return [
        {
            "contender": name,
            "rounds": rounds,
            "seconds": quantiles(seconds),
            "times_vocode": quantiles((np.array(seconds) / first).tolist()),
        }
        for name, seconds in times.items()
    ]


def in_pieces(mel: FloatArray, frames: int) -> Iterator[FloatArray]:
    """Yield a mel [M,T] in pieces of this many frames."""
    for begin in range(0, mel.shape[1], frames):
        yield mel[:, begin : begin + frames]


def paced(mel: FloatArray, frames: int, seconds_per_frame: float, begin: float) -> Iterator[FloatArray]:
    """Yield a mel in pieces at the speed of speech: each piece when its last frame has been spoken.

    Args:
        mel: [M,T].
        frames: number of frames in each piece.
        seconds_per_frame: duration of a frame of speech.
        begin: time at which the first frame begins, by `time.perf_counter`.
    """
    for number, piece in enumerate(in_pieces(mel, frames)):
        due = begin + (number * frames + piece.shape[1]) * seconds_per_frame
        time.sleep(max(0.0, due - time.perf_counter()))
        yield piece


def timeline(chunks: Iterator[Any], sample_rate: int, begin: float) -> Timeline:
    """Return when each chunk arrived, and how much audio there was then."""
    points, samples = [], 0
    for chunk in chunks:
        samples += len(chunk)
        points.append((time.perf_counter() - begin, samples / sample_rate))
    return points


def played(line: Timeline) -> Results:
    """Simulate a player that starts with the first chunk, plays at 1x and waits when its buffer is empty.

    Returns:
        first_audio_ms, until the first chunk; underruns, how often it waited; waited_ms, in all; produced, the line
        itself; played, the player's own timeline.
    """
    clock, position, underruns, waited, path = line[0][0], 0.0, 0, 0.0, [(line[0][0], 0.0)]
    for (_, have), (arrival, _) in pairwise(line):
        empty = clock + have - position  # when the player reaches the end of its buffer
        clock, position = empty, have
        if arrival > empty + 1e-3:
            underruns += 1
            waited += arrival - empty
            path += [(empty, position), (arrival, position)]
            clock = arrival
    path.append((clock + line[-1][1] - position, line[-1][1]))
    return {
        "first_audio_ms": 1000 * line[0][0],
        "underruns": underruns,
        "waited_ms": 1000 * waited,
        "produced": line,
        "played": path,
    }


def lines(streams: Sequence[Results]) -> list[str]:
    """Return the lines for the terminal."""
    output = []
    for run in streams:
        if "rows" in run:
            output += ["", f"{run['title']}: seconds (median), time relative to vocode (median of ratios)"]
            output += [
                f"  {row['contender']:<32} {row['seconds']['p50']:8.3f} {row['times_vocode']['p50']:8.3f}"
                for row in run["rows"]
            ]
        elif "cancelled_ms" in run:
            times = run["cancelled_ms"]
            output += ["", f"{run['title']}: median {median(times):.0f} ms, longest {max(times):.0f} ms"]
        else:
            output += [
                "",
                f"{run['title']}: first audio after {run['first_audio_ms']:.0f} ms, {run['underruns']} underruns, "
                f"{run['waited_ms']:.0f} ms of waiting, {run['audio_seconds']:.2f} s of audio; one vocode call takes "
                f"{run['vocode_ms']:.0f} ms",
            ]
    return output
