"""The program `engine`: its commands, its errors and its exit status."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TextIO

import engine
from engine.checkpoint import hub
from engine.checks.output_files import Terminated, unwinding_on_signals
from engine.cli import analysis, convert, doctor, generation, info, serve, tune_steps, vocode
from engine.cli.bench import command as bench
from engine.cli.messages import logging_to_stderr, say
from engine.cli.parsing import BAD_INPUT, FAILED, UNAVAILABLE, Commands, Parser
from engine.cli.wording import Names, names_of, translate
from engine.errors import CheckpointError, InputError, UnavailableError

INTERRUPTED, CLOSED_PIPE = 130, 141  # the status with which a shell reports SIGINT and SIGPIPE
# The errors of the system for a path that the user has to correct.
WRONG_PATH = (
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    An error that a user can cause is one line on stderr, never a traceback.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack characters of a file name
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        try:
            with unwinding_on_signals():
                status = _run(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            say("interrupted")
            status = INTERRUPTED
        except Terminated as signal:
            say(f"ended by {signal.name}")
            status = signal.status
        except BrokenPipeError:
            status = CLOSED_PIPE
        except OSError as error:
            file = f"{error.filename}: " if error.filename is not None else ""
            say(f"error: {file}{error.strerror or error}")
            status = BAD_INPUT if error.errno in WRONG_PATH else FAILED
        except (CheckpointError, InputError) as error:
            say(f"error: {error}")
            status = BAD_INPUT
        except UnavailableError as error:
            say(f"error: {error}")
            status = UNAVAILABLE
        except MemoryError as error:
            say(f"error: {str(error) or 'not enough memory'}")
            status = FAILED
    _discard_unwritable()
    return status


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return BAD_INPUT
    try:
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as stop:  # --help, --version or a usage error
        return int(stop.code or 0)
    names = names_of(arguments)
    warnings.showwarning = partial(_show_warning, names)
    try:
        with logging_to_stderr(arguments):
            _download_models(arguments)
            return arguments.run(arguments) or 0
    except (CheckpointError, InputError, UnavailableError) as error:
        raise type(error)(translate(str(error), names)) from error


def _download_models(arguments: argparse.Namespace) -> None:
    """Replace an address of the hub by its file, once for all parts of a command; `model_name` keeps the address."""
    for name in ("model", "checkpoint"):
        model = getattr(arguments, name, None)
        arguments.model_name = getattr(arguments, "model_name", None) or model
        if isinstance(model, str) and hub.is_address(model):
            path = hub.download(hub.parse_address(model), progress=not getattr(arguments, "quiet", False))
            setattr(arguments, name, str(path))


def build_parser() -> Parser:
    """Return the parser of the program, with all commands."""
    parser = Parser(
        prog="engine",
        usage="%(prog)s COMMAND [ARGUMENT ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"engine {engine.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="engine")
    for command in (vocode, generation, serve, analysis, info, doctor, bench, convert, tune_steps):
        command.add_command(Commands(subparsers))
    return parser


def _show_warning(
    names: Names,
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {translate(str(message), names)}")


def _discard_unwritable() -> None:
    """Discard output that cannot be written, to a closed pipe or a full disk.

    Otherwise Python writes it again when it exits, and prints a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_DESCRIPTION = """\
DiffWave inference on a CPU or GPU: mel spectrograms to speech, and sound
without a mel, such as spoken digits.
"""

_EPILOG = """\
examples:
  engine vocode mel.npy -o speech.wav             # a mel to speech
  engine vocode recording.wav -o again.wav        # a recording, analyzed first
  engine vocode mels -o speech                    # a folder of mels to audio
  engine generate --label 7 -n 4 -o out           # four spoken sevens
  engine serve                                    # a page and a service
  engine mel recording.wav -o mel.npy             # the analysis alone
  engine info                                     # the bundled voice
  engine doctor                                   # this machine's abilities
  engine bench                                    # this machine's speed
  engine convert weights.pt -o voice.safetensors  # for 'vocode --model'
  engine tune-steps weights.pt --clips DIR -o voice.safetensors

'engine COMMAND --help' describes the options of a command. A file appears
only when it is complete; after an error there is none.

exit status:
  0    success
  1    any other error, such as a full disk or too little memory
  2    bad input: a wrong option, argument, file or checkpoint
  3    a device, instruction set, precision or extra is unavailable here
  129  ended by SIGHUP
  130  interrupted by Ctrl-C
  141  stdout was closed
  143  ended by SIGTERM
"""
