"""The options of `engine bench`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from engine.checks.arguments import check_count
from engine.checks.output_files import check_output, replacing
from engine.cli.messages import add_messages, progress_stream
from engine.cli.options import add_model, add_steps, add_threads
from engine.cli.parsing import Commands
from engine.cli.progress import progress_bar
from engine.cli.wording import names_of, translate

PRECISIONS = ("int8", "bf16", "fp32")  # of a CPU


def add_command(commands: Commands) -> None:
    """Add `bench` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "bench",
        _run,
        usage="[OPTION ...]",
        summary="measure speed and memory on this machine",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    points = parser.add_argument_group("measured points")
    extent = points.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="a few points, at most 20 seconds")
    extent.add_argument(
        "--thorough", action="store_true", help="all points, up to 10 minutes of audio and batches of 64; an hour"
    )
    points.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=PRECISIONS,
        metavar="PRECISION",
        help=f"some of {', '.join(PRECISIONS)} (default: all)",
    )
    add_model(points, None)
    add_steps(points, "fast")
    points.add_argument(
        "--isa", metavar="TIER", help="an instruction set that 'engine info' lists (default: the best of this machine)"
    )
    add_threads(points)
    output = parser.add_argument_group("output")
    output.add_argument("--report", metavar="OUT.html", type=Path, help="write the figures as a page with plots")
    output.add_argument("--json", metavar="OUT.json", type=Path, help="write the figures as JSON")
    add_messages(parser)


def _run(arguments: argparse.Namespace) -> None:
    from engine.cli.bench import curves

    for path, suffix, option in ((arguments.report, ".html", "--report"), (arguments.json, ".json", "--json")):
        if path is not None:
            check_output(path, suffix, option=option)
    threads = None if arguments.threads is None else check_count(arguments.threads, "--threads", 1024)
    extent = curves.QUICK if arguments.quick else curves.THOROUGH if arguments.thorough else curves.DEFAULT
    with progress_bar(progress_stream(arguments)) as progress:
        results = curves.measure_curves(
            extent,
            arguments.model,
            threads,
            progress,
            precisions=arguments.precision,
            steps=arguments.steps,
            isa=arguments.isa,
        )
    names = names_of(arguments)
    left_out = {name: translate(reason, names) for name, reason in results["left_out"].items()}
    print("\n".join(curves.lines({**results, "left_out": left_out})))
    if arguments.json is not None:
        _write(arguments.json, json.dumps(results, indent=1) + "\n")
    if arguments.report is not None:
        from engine.cli.bench.page import html

        _write(arguments.report, html(results))


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
    print(f"wrote {path}")


_DESCRIPTION = """\
Whole vocode calls, from a mel in memory to audio in memory, are timed in every
precision that this machine has, over the length of the audio, threads, batch
size, steps and the size of the network. Beside each time stands the share of
the processor's peak, which is measured next to the call, and the memory of the
call. Each point runs in a process of its own.

Every row names its number of steps: that of --steps, but for the curve over the
steps. A number that the checkpoint has no schedule for is measured with an even
one, which takes the same time; 'engine info' lists the others.

On a busy machine the share is still meaningful; the seconds are not. The
command takes two minutes at most, with --thorough an hour.
"""

_EXAMPLES = """\
engine bench
engine bench --quick --report speed.html
engine bench --steps 3
engine bench --thorough --precision int8 --json speed.json
"""
