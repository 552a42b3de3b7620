"""What the commands share: reading recordings, loading as the options say, telling the user."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

import engine
from engine.audio.wav import mixed, read_channels, resample
from engine.checks.arrays import FloatArray
from engine.config import MEL_KINDS
from engine.errors import InputError, UnavailableError
from engine.kernels import registry
from engine.voice import Voice


def say(message: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        with suppress(OSError):  # nobody is left to tell
            print("engine: " + " ".join(message.splitlines()), file=sys.stderr)


def load(arguments: argparse.Namespace) -> Voice:
    """The network that the options of `add_runtime` and ``--model`` ask for."""
    return engine.load(
        arguments.model,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
        isa=arguments.isa,
        mel_kind=getattr(arguments, "mel_kind", None),
    )


def read_recording(path: Path) -> tuple[FloatArray, int]:
    """One channel of a recording and its sample rate."""
    samples, rate = read_channels(str(path))
    if samples.shape[1] > 1:
        say(f"{path}: {samples.shape[1]} channels were mixed into one")
    return mixed(samples), rate


def at_rate(path: Path, samples: FloatArray, rate: int, wanted: int) -> FloatArray:
    """The recording at the rate that a network wants; InputError where it cannot be resampled."""
    if rate == wanted:
        return samples
    try:
        samples = resample(samples, rate, wanted)
    except UnavailableError:
        raise InputError(
            f"{path}: this network wants {wanted} Hz and the recording has {rate} Hz; resample it, for example "
            f"with 'sox IN.wav -r {wanted} OUT.wav' or 'ffmpeg -i IN.wav -ar {wanted} OUT.wav', or install the extra "
            "'audio' (pip install soxr)"
        ) from None
    say(f"{path}: resampled from {rate} to {wanted} Hz")
    return samples


def add_output(command: argparse.ArgumentParser, name: str, text: str) -> None:
    """The option -o."""
    text += "; written beside its name first, so it is never half there"
    command.add_argument("-o", "--output", metavar=name, type=Path, required=True, help=text)


def add_runtime(command: argparse.ArgumentParser) -> None:
    """The options that say where and how a network runs."""
    command.add_argument(
        "--device", default="auto", metavar="cpu|cuda", help="where (default: auto, a GPU if one can be used)"
    )
    command.add_argument(
        "--precision",
        choices=("auto", *reversed(registry.PRECISIONS)),
        default="auto",
        help="of the arithmetic (default: auto, the fastest of the device)",
    )
    command.add_argument("--threads", type=int, metavar="N", help="of a CPU (default: one per processor it may use)")
    command.add_argument("--isa", metavar="TIER", help="instruction set (default: the best; see 'engine info')")


def add_mel_kind(command: argparse.ArgumentParser) -> None:
    """The option --mel-kind."""
    text = "the kind of mel that CKPT wants, where its file does not say"
    command.add_argument("--mel-kind", choices=MEL_KINDS, help=text)


def steps(text: str) -> int | str:
    """The type of --steps."""
    try:
        return text if text == "full" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number of steps, or full, got {text!r:.80}") from None
