"""Files per second of 1 and 2 worker processes, and the overhead of a job per file.

    python -m benchmarks.cpu.many_files                       # a table
    python -m benchmarks.cpu.many_files --results=FILE        # and JSON

Every round runs each way once, in turns, into a new folder. The clock of a way is that of `engine.vocode_files`: from
the plan to the last file, with the start of the processes and the loading of the voice. The overhead is timed with a
network that computes nothing: planning, reading, writing and accounting, once with and once without waiting for the
disk (fsync).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

import engine
from benchmarks.report import environment
from engine.checkpoint.bundled import ASSETS
from engine.cli.bench.machine import load_average
from engine.voice import Voice

TINY = 1000  # files of two frames, for the overhead
# Workers, and the threads of all of them together.
WAYS = ((1, 1), (1, 2), (2, 2))


def write_mels(folder: Path, files: int, frames: int) -> None:
    """Write excerpts of the demo mel.

    Args:
        folder: is created.
        files: their number.
        frames: of each.
    """
    demo = np.load(ASSETS / "demo_mel.npy")
    folder.mkdir()
    for number in range(files):
        begin = number * 7 % (demo.shape[1] - frames + 1)
        np.save(folder / f"{number:04}.npy", demo[:, begin : begin + frames])


def measure(mels: Path, scratch: Path, rounds: int, precision: str) -> list[dict[str, Any]]:
    """Return one row per way: workers, threads, files per second, and the audio per second.

    Args:
        mels: the inputs.
        scratch: receives the results.
        rounds: runs of every way, which alternate.
        precision: see `engine.load`.
    """
    seconds: dict[tuple[int, int], list[float]] = {way: [] for way in WAYS}
    audio = files = 0.0
    for number in range(rounds):
        for workers, threads in WAYS:
            folder = scratch / f"{number}-{workers}-{threads}"
            summary = engine.vocode_files(
                mels, folder, device="cpu", precision=precision, workers=workers, threads=threads
            )
            assert not summary.failed
            audio, files = summary.seconds, summary.files
            seconds[workers, threads].append(summary.elapsed)
    return [
        {
            "workers": workers,
            "threads": threads,
            "seconds": median(times),
            "files_per_second": files / median(times),
            "times_real_time": audio / median(times),
        }
        for (workers, threads), times in seconds.items()
    ]


def overhead(scratch: Path, files: int = TINY) -> dict[str, float]:
    """Return the milliseconds per file of a job whose network computes nothing, with and without fsync.

    Args:
        scratch: an existing folder.
        files: their number.
    """
    write_mels(scratch / "tiny", files, 2)
    times = {}
    for name, patches in {"with_fsync": (), "without_fsync": (mock.patch.object(os, "fsync"),)}.items():
        with mock.patch.object(Voice, "vocode", lambda self, mel, **options: np.zeros(512, np.float32)):
            for patch in patches:
                patch.start()
            begin = time.perf_counter()
            engine.vocode_files(scratch / "tiny", scratch / name, device="cpu")
            times[name] = 1e3 * (time.perf_counter() - begin) / files
            for patch in patches:
                patch.stop()
    return times


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table with a row for every way, and write the results.

    Args:
        argv: the arguments; None for those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu.many_files", description=__doc__)
    parser.add_argument("--files", type=int, default=60, metavar="N", help="mels per run (default: 60)")
    parser.add_argument("--frames", type=int, default=86, metavar="N", help="of each mel (default: 86, a second)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs per way (default: 3)")
    parser.add_argument("--precision", default="auto", help="see engine.load (default: auto)")
    parser.add_argument("--tiny", type=int, default=TINY, metavar="N", help="files for the overhead (default: 1000)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    load = load_average()
    precision = engine.load(device="cpu", precision=arguments.precision).choice.precision
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_mels(scratch / "mels", arguments.files, arguments.frames)
        rows = measure(scratch / "mels", scratch, arguments.rounds, precision)
        times = overhead(scratch, arguments.tiny)
    print("workers  threads  files/s  x real time")
    for row in rows:
        print(f"{row['workers']:7}  {row['threads']:7}  {row['files_per_second']:7.2f}  {row['times_real_time']:11.2f}")
    print(f"overhead: {times['without_fsync']:.2f} ms a file, {times['with_fsync']:.2f} ms with fsync")
    if arguments.results:
        setting = {name: getattr(arguments, name) for name in ("files", "frames", "rounds", "tiny")}
        results = {**environment(load), "many_files": {**setting, "precision": precision, "rows": rows}}
        results["many_files"]["overhead_ms"] = times
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
