"""Many files on the command line: `engine vocode IN... -o DIR` and `engine mel IN... -o DIR`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.bulk.api import PATIENCE, mel_files, vocode_files
from engine.bulk.formats import AUDIO_FORMATS, MEL_FORMAT
from engine.bulk.inputs import is_many
from engine.bulk.summary import Summary, counted, span
from engine.checks.output_files import Terminated
from engine.cli.messages import notice, print_result, progress_stream, say
from engine.cli.options import Group
from engine.cli.parsing import FAILED, integer, number, path
from engine.cli.progress import bar, changing_line, clock_time
from engine.errors import InputError

PIPE = "-"
SHOWN = 3  # failures that are printed; _failed.jsonl has all
SUFFIXES = tuple(f".{name}" for name in (*AUDIO_FORMATS, MEL_FORMAT))  # an -o that ends so is meant to be a file
# Options that need a folder as -o, and their values where they are absent.
OPTIONS = {
    "format": None,
    "workers": None,
    "shard": None,
    "overwrite": False,
    "dry_run": False,
    "ray": None,
    "patience": None,
}


def add_inputs(group: Group, text: str) -> None:
    """Add the positional arguments IN.

    Args:
        group: receives the argument.
        text: the help.
    """
    group.add_argument("input", metavar="IN", type=path, nargs="+", help=text)


def add_many(parser: argparse.ArgumentParser, *, formats: bool) -> None:
    """Add the options for many files.

    Args:
        parser: of a command.
        formats: whether the results have formats to choose from.
    """
    group = parser.add_argument_group("many files")
    if formats:
        names = f"{', '.join(AUDIO_FORMATS[:-1])} or {AUDIO_FORMATS[-1]}"
        text = f"{names}; flac and ogg need the extra 'audio' (default: {AUDIO_FORMATS[0]})"
        group.add_argument("--format", choices=AUDIO_FORMATS, metavar="FORMAT", help=text)
    text = "number of processes, which share the threads (default: 1)"
    if formats:
        text = "number of processes, which share the threads and a --device such as cuda:0,cuda:1"
        text += " (default: one per device)"
    group.add_argument("--workers", type=integer, metavar="N", help=text)
    text = "do the I-th of N parts alone, for job arrays: --shard 3/16; all parts may write into one folder"
    group.add_argument("--shard", type=_shard, metavar="I/N", help=text)
    text = "start the job anew: replace results, also those of another job"
    group.add_argument("--overwrite", action="store_true", help=text)
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print how much there is to do and what cannot be read, and write nothing",
    )
    text = "run on a Ray cluster (extra 'ray'): that of this machine, host:port, or local to start one"
    group.add_argument("--ray", nargs="?", const="auto", metavar="ADDRESS", help=text)
    text = f"with --ray: give up when nothing was finished for so many minutes (default: {PATIENCE / 60:.0f})"
    group.add_argument("--patience", type=number, metavar="MINUTES", help=text)


def take_many(arguments: argparse.Namespace, suffix: str) -> bool:
    """Return whether a command line means many files; otherwise make `input` the one file.

    It does with several inputs, with an input that may mean several files, or where -o is a folder or ends in "/". A
    folder whose name ends as that of a single result is refused by the check of that result.

    Args:
        arguments: the parsed command line, whose `output` is a text.
        suffix: of a single result.

    Raises:
        InputError: the options, -o and the inputs contradict each other.
    """
    inputs, text = arguments.input, arguments.output
    if not text:
        raise InputError("-o: expected a path, got an empty text")
    ends = text.endswith(("/", os.sep))
    is_folder = ends or (os.path.isdir(text) and Path(text).suffix.lower() != suffix)
    many = len(inputs) > 1 or is_folder or (str(inputs[0]) != PIPE and is_many(inputs[0]))
    arguments.output = Path(text)
    if not many:
        arguments.input = inputs[0]
        if str(inputs[0]) != PIPE and not os.path.lexists(inputs[0]):
            raise InputError(f"{inputs[0]}: cannot read it: No such file or directory")
        if Path(inputs[0]).suffix.lower() == ".txt":
            raise InputError(f"{inputs[0]}: expected a mel or a recording, got a text; a list of paths is @{inputs[0]}")
        for name, absent in OPTIONS.items():
            if getattr(arguments, name, absent) != absent:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag}: expected a folder as -o, such as out/, got {text!r:.80}")
        return False
    if PIPE in map(str, inputs):
        raise InputError("IN: expected - alone and a file as -o, got several inputs or a folder")
    if text == PIPE or (not ends and Path(text).suffix.lower() in SUFFIXES and not os.path.isdir(text)):
        raise InputError(
            f"-o: expected a folder for several inputs, got {text!r:.80}; {text!r:.80} with a final / is one"
        )
    if getattr(arguments, "stream", False):
        raise InputError(f"--stream: expected one input and a name that ends in {suffix} as -o, got a folder")
    return True


def vocode_many(arguments: argparse.Namespace) -> int:
    """Run `engine vocode` of many files, and return the exit status.

    Args:
        arguments: the parsed command line.
    """
    return _run(
        arguments,
        lambda progress: vocode_files(
            arguments.input,
            arguments.output,
            model=arguments.model,
            steps=arguments.steps,
            draft=arguments.draft,
            match_mel=arguments.match_mel,
            seed=arguments.seed,
            energy_min=arguments.energy_min,
            device=arguments.device.split(","),
            precision=arguments.precision,
            threads=arguments.threads,
            isa=arguments.isa,
            mel_kind=arguments.mel_kind,
            weights=arguments.weights,
            format=arguments.format or AUDIO_FORMATS[0],
            **_job_options(arguments),
            progress=progress,
        ),
    )


def mel_many(arguments: argparse.Namespace) -> int:
    """Run `engine mel` of many files, and return the exit status.

    Args:
        arguments: the parsed command line.
    """
    return _run(
        arguments,
        lambda progress: mel_files(
            arguments.input,
            arguments.output,
            model=arguments.model,
            kind=arguments.kind,
            **_job_options(arguments),
            progress=progress,
        ),
    )


def _job_options(arguments: argparse.Namespace) -> dict[str, Any]:
    patience = arguments.patience
    if patience is not None and arguments.ray is None:
        raise InputError("--patience: expected --ray beside it, got none")
    if patience is not None and not patience > 0:
        raise InputError(f"--patience: expected minutes above 0, got {patience}")
    return {
        "workers": arguments.workers,
        "shard": arguments.shard or (1, 1),
        "overwrite": arguments.overwrite,
        "ray": arguments.ray,
        "patience": PATIENCE if patience is None else 60 * patience,
        "dry_run": arguments.dry_run,
    }


def _run(arguments: argparse.Namespace, work: Callable[[Callable[[Summary], None]], Summary]) -> int:
    last: list[Summary] = []
    with _resumable(last), changing_line(progress_stream(arguments)) as draw:

        def progress(summary: Summary) -> None:
            last[:] = [summary]
            if draw is not None:
                draw(lambda columns: line_of(summary, columns))

        summary = work(progress)
    for text, count in sorted(summary.notes.items()):
        notice(f"{text}: {counted(count)}")
    if summary.warnings > 1:
        notice(f"{counted(summary.warnings)} with warnings, of which the first is shown; -v shows all")
    for name, reason in list(summary.failures.items())[: None if arguments.dry_run else SHOWN]:
        say(f"{name}: {reason}")
    result = as_json(summary)
    if arguments.dry_run:  # nothing was written
        result["failures"] = dict(summary.failures)
    print_result(arguments, [_preview(summary) if arguments.dry_run else str(summary)], result)
    return FAILED if summary.failed else 0


@contextmanager
def _resumable(last: list[Summary]) -> Iterator[None]:
    """Say how to resume when the work ends before its end."""
    try:
        yield
    except (KeyboardInterrupt, Terminated, OSError):
        for summary in last:
            done = summary.done_before + summary.files
            say(f"{done:,} of {counted(summary.total)} are done; the same command resumes")
        raise


def line_of(summary: Summary, columns: int) -> str:
    """Return the line of the progress bar.

    Args:
        summary: of the work so far.
        columns: of the terminal.
    """
    done = summary.done_before + summary.files + summary.failed
    text = f" {done:,}/{summary.total:,} files, {span(summary.seconds)}"
    if summary.seconds and summary.elapsed:
        text += f", {summary.seconds / summary.elapsed:.3g}x"
        text += f", {clock_time(summary.elapsed * summary.seconds_left / summary.seconds)} remaining"
    total = summary.seconds + summary.seconds_left
    return bar(summary.seconds / total if total else 0.0, text, columns)


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the JSON object of a job.

    Args:
        summary: of the work.
    """
    failed = str(summary.folder / "_failed.jsonl") if summary.failed else None
    return {
        "folder": str(summary.folder),
        "total": summary.total,
        "done_before": summary.done_before,
        "files": summary.files,
        "failed": summary.failed,
        "failures": failed,
        "audio_seconds": summary.seconds,
        "audio_seconds_left": summary.seconds_left,
        "work_seconds": summary.elapsed,
    }


def _preview(summary: Summary) -> str:
    left = summary.total - summary.done_before
    text = (
        f"{counted(summary.total)}: {summary.done_before:,} done, {left:,} to do, {span(summary.seconds_left)} of audio"
    )
    return f"{text}; {summary.failed:,} cannot be read" if summary.failed else text


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, such as 3/16, got {text!r:.80}")
    return int(match[1]), int(match[2])
