"""What streaming costs and when its audio comes: measured, and in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.cli.bench.figures import quantiles

Results = dict[str, Any]
Timeline = list[tuple[float, float]]  # seconds since the first frame was wanted, seconds of audio by then


def rows_in_turns(contenders: dict[str, Callable[[], Any]], rounds: int) -> list[Results]:
    """Each contender once per round, in turns; seconds, and their ratio to the first one's of the same round."""
    laps: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            begin = time.perf_counter()
            call()
            laps[name].append(time.perf_counter() - begin)
    first = np.array(laps[next(iter(laps))])
    return [
        {
            "contender": name,
            "rounds": rounds,
            "seconds": quantiles(seconds),
            "times_vocode": quantiles((np.array(seconds) / first).tolist()),
        }
        for name, seconds in laps.items()
    ]


def in_pieces(mel: npt.NDArray[np.float32], frames: int) -> Iterator[npt.NDArray[np.float32]]:
    """A mel, so many frames at a time."""
    for begin in range(0, mel.shape[1], frames):
        yield mel[:, begin : begin + frames]


def paced(
    mel: npt.NDArray[np.float32], frames: int, seconds_per_frame: float, begin: float
) -> Iterator[npt.NDArray[np.float32]]:
    """The same as from a front-end that writes at the speed of speech: a piece comes when its last frame is spoken."""
    for number, piece in enumerate(in_pieces(mel, frames)):
        due = begin + (number * frames + piece.shape[1]) * seconds_per_frame
        time.sleep(max(0.0, due - time.perf_counter()))
        yield piece


def timeline(chunks: Iterator[Any], sample_rate: int, begin: float) -> Timeline:
    """When how much audio was there."""
    found, samples = [], 0
    for chunk in chunks:
        samples += len(chunk)
        found.append((time.perf_counter() - begin, samples / sample_rate))
    return found


def played(line: Timeline) -> Results:
    """A player that starts with the first chunk and plays at 1x, waiting where there is nothing to play.

    Returns:
        first_audio_ms: until the first chunk; underruns: how often it had to wait; waited_ms: for how long in all;
        played: its own timeline.
    """
    clock, position, underruns, waited, path = line[0][0], 0.0, 0, 0.0, [(line[0][0], 0.0)]
    for (_, have), (arrival, _) in pairwise(line):
        empty = clock + have - position  # when what there is will have been played
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
    """For the terminal."""
    made = []
    for one in streams:
        if "rows" in one:
            made += ["", f"{one['title']}: seconds p50, times vocode p50 of ratios"]
            made += [
                f"  {row['contender']:<32} {row['seconds']['p50']:8.3f} {row['times_vocode']['p50']:8.3f}"
                for row in one["rows"]
            ]
        elif "cancelled_ms" in one:
            laps = one["cancelled_ms"]
            made += ["", f"{one['title']}: {np.median(laps):.0f} ms in the median, {max(laps):.0f} ms at most"]
        else:
            made += [
                "",
                f"{one['title']}: first audio after {one['first_audio_ms']:.0f} ms, "
                f"{one['underruns']} underruns, {one['waited_ms']:.0f} ms waited, "
                f"{one['audio_seconds']:.2f} s of audio; the whole-utterance call took {one['vocode_ms']:.0f} ms",
            ]
    return made
