"""The time of a call that refines a draft or is matched to its mel, alternating with six steps from noise.

python -m benchmarks.cpu.drafts [--rounds N] [--frames N] [--results FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import engine
from engine.audio.griffin_lim import griffin_lim
from engine.audio.rtisi import rtisi_la
from engine.checkpoint.bundled import BUNDLED
from engine.checks.arrays import device_of, on_device
from engine.cli.bench.machine import environment, load_average

FRAMES = 344  # 4 s
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("six steps", {}),
    ("two steps on Griffin-Lim", {"draft": "griffin-lim"}),
    ("one step on Griffin-Lim", {"draft": "griffin-lim", "steps": 1}),
    ("two steps on Griffin-Lim, matched to the mel", {"draft": "griffin-lim", "match_mel": 1}),
    ("one step on Griffin-Lim, matched to the mel", {"draft": "griffin-lim", "steps": 1, "match_mel": 1}),
    ("two steps on RTISI-LA, matched to the mel", {"draft": "rtisi-la", "match_mel": 1}),
)
ALONE = ["Griffin-Lim alone", "RTISI-LA alone"]


def measure(
    voice: engine.Voice, mel: Any, rounds: int, wait: Callable[[], object] = lambda: None
) -> list[dict[str, Any]]:
    """Return a row per call, the drafts alone included; "times_six" is relative to six steps in the same round.

    Args:
        voice: the timed voice.
        mel: [M, T], an array for a CPU, a tensor on its device for a GPU.
        rounds: timed calls of each.
        wait: called after every call, until its work is done.
    """
    calls = {name: lambda options=options: voice.vocode(mel, seed=1, **options) for name, options in CALLS}
    alone: dict[str, Any] = {"seed": 1, "threads": voice.threads, "device": device_of(mel)}
    calls[ALONE[0]] = lambda: griffin_lim(on_device(mel, None), voice.sample_rate, **alone)
    calls[ALONE[1]] = lambda: rtisi_la(on_device(mel, None), voice.sample_rate, seed=1)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    wait()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            wait()
            seconds[name].append(time.perf_counter() - begin)
    audio, six = mel.shape[1] * voice.hop / voice.sample_rate, seconds["six steps"]
    return [
        {
            "name": name,
            "seconds": statistics.median(values),
            "times_real_time": audio / statistics.median(values),
            "times_six": statistics.median(whole / part for whole, part in zip(six, values, strict=True)),
        }
        for name, values in seconds.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"(default: {FRAMES}, 4 s)")
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    options = parser.parse_args(argv)
    before = environment(load_average())
    voice = engine.load(device="cpu")
    mel = np.resize(np.load(BUNDLED.with_name("demo_mel.npy")).T, (options.frames, 80)).T.copy()
    rows = measure(voice, mel, options.rounds)
    for row in rows:
        print(f"{row['name']:48}{row['seconds']:8.3f} s{row['times_real_time']:8.2f}x{row['times_six']:8.2f}")
    if options.results:
        run = {"rounds": options.rounds, "frames": options.frames, "threads": voice.threads}
        content = {**before, "drafts": {**run, "precision": voice.choice.precision, "rows": rows}}
        options.results.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
