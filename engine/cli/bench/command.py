"""The command ``engine bench`` and its options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from engine.checks.arguments import check_count
from engine.cli.progress import progress_bar
from engine.output_files import check_output, replacing

Add = Callable[[str, Callable[[argparse.Namespace], None], str, str, str], argparse.ArgumentParser]


def add_command(add: Add) -> None:
    """Add it to the program; `add` takes a name, what runs it, a line, a paragraph and examples."""
    bench = add("bench", _bench, "how fast this machine runs it, and how time and memory grow", *_BENCH)
    extent = bench.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="a few points, 20 seconds at most")
    extent.add_argument(
        "--thorough", action="store_true", help="all points, up to 10 minutes of audio and batches of 64"
    )
    names = ("int8", "bf16", "fp32")
    bench.add_argument("--precision", nargs="+", choices=names, default=names, help="of these alone (default: all)")
    bench.add_argument("--report", metavar="OUT.html", type=Path, help="write the figures as a page with plots")
    bench.add_argument("--json", metavar="OUT.json", type=Path, help="and as JSON")
    bench.add_argument("--model", metavar="CKPT", help="a checkpoint instead of the bundled voice")
    bench.add_argument("--threads", type=int, metavar="N", help="at most (default: one per processor it may use)")


def _bench(arguments: argparse.Namespace) -> None:
    from engine.cli.bench import curves

    for path, suffix in ((arguments.report, ".html"), (arguments.json, ".json")):
        if path is not None:
            check_output(path, suffix)
    threads = None if arguments.threads is None else check_count(arguments.threads, "--threads", 1024)
    extent = curves.QUICK if arguments.quick else curves.THOROUGH if arguments.thorough else curves.DEFAULT
    with progress_bar(sys.stderr) as progress:
        results = curves.measured(extent, arguments.model, threads, progress, precisions=arguments.precision)
    print("\n".join(curves.lines(results)))
    if arguments.json is not None:
        _write(arguments.json, json.dumps(results, indent=1) + "\n")
    if arguments.report is not None:
        from engine.cli.bench.page import html

        _write(arguments.report, html(results))


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
    print(f"wrote {path}")


_BENCH = (
    """\
Measure whole vocode calls of every precision that this machine has, from a mel in memory to audio in memory, over
the length of the audio, threads, batches, steps and the size of the network. Beside each call stands the share that it
has of the processor's peak, measured then, and the memory that it took, each point in a process of its own. On a busy
machine the share still means something; the seconds do not. Takes two minutes at most, with --thorough an hour.
""",
    """\
examples:
  engine bench
  engine bench --quick --report speed.html
  engine bench --thorough --precision int8 --report speed.html --json speed.json
""",
)
