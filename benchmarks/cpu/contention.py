"""Threads on a machine whose processors are busy with other work.

`python -m benchmarks.cpu.contention` times the bundled voice with one thread and with more, alone and beside processes
that compute without a pause. More threads than free processors must not be slower than one thread by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

import engine
from benchmarks.report import environment
from engine.checks.arrays import FloatArray
from engine.cli.bench.machine import load_average

SEED = 7


def compute_forever() -> None:
    """Keep one processor busy."""
    while True:
        pass


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run processes that compute without a pause during the block.

    Args:
        count: the number of processes.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the voices and their threads
    processes = [context.Process(target=compute_forever, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        if count:
            time.sleep(0.5)  # for their imports
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def seconds_by_threads(mel: FloatArray, threads: Sequence[int], busy: int, rounds: int) -> list[float]:
    """Return the median time of a call for every number of threads; they alternate, so that they meet the same load.

    Args:
        mel: [80, T] of the bundled voice.
        threads: the numbers of threads.
        busy: the number of busy processes beside the calls.
        rounds: calls per number of threads.
    """
    voices = [engine.load(device="cpu", precision="fp32", threads=count) for count in threads]
    times: list[list[float]] = [[] for _ in voices]
    with busy_processes(busy):
        for _ in range(rounds):
            for voice, seconds in zip(voices, times, strict=True):
                begin = time.perf_counter()
                voice.vocode(mel, seed=SEED)
                seconds.append(time.perf_counter() - begin)
    return [median(seconds) for seconds in times]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table with a row for every number of threads.

    Args:
        argv: the arguments; None for those of the process.
    """
    processors = engine.load(device="cpu").threads
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu.contention", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, processors, 2 * processors], metavar="N")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, processors], metavar="N", help="busy processes")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="calls per row (default: 7)")
    parser.add_argument("--frames", type=int, default=86, metavar="N", help="of the mel (default: 86, a second)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    load, rows = load_average(), []
    mel = np.random.default_rng(0).random((80, arguments.frames), np.float32)
    print("busy  threads  seconds  relative to the first")
    for busy in arguments.busy:
        seconds = seconds_by_threads(mel, arguments.threads, busy, arguments.rounds)
        for count, value in zip(arguments.threads, seconds, strict=True):
            print(f"{busy:4}  {count:7}  {value:7.3f}  {value / seconds[0]:5.2f}", flush=True)
            rows.append({"busy": busy, "threads": count, "seconds": value})
    if arguments.results:
        run = {"rounds": arguments.rounds, "frames": arguments.frames, "rows": rows}
        content = {**environment(load), "contention": run}
        arguments.results.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
