"""Options that several commands share, and the work behind them: load a network, read a recording."""

from __future__ import annotations

import argparse
from pathlib import Path

import engine
from engine.audio.wav import read_channels, resample, to_mono
from engine.checkpoint.selection import WEIGHTS
from engine.checks.arrays import FloatArray
from engine.cli.messages import notice
from engine.cli.parsing import integer, number, steps
from engine.config import MEL_KINDS
from engine.errors import UnavailableError
from engine.kernels import registry
from engine.voice import Voice

Group = argparse._ArgumentGroup  # what add_argument_group returns


def load(arguments: argparse.Namespace) -> Voice:
    """Load the network that `--model` and the options of `add_execution` select.

    Args:
        arguments: the parsed command line.
    """
    return engine.load(
        arguments.model,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.threads,
        isa=arguments.isa,
        mel_kind=getattr(arguments, "mel_kind", None),
        weights=arguments.weights,
    )


def read_recording(path: Path, name: str | None = None) -> tuple[FloatArray, int]:
    """Read one channel of a recording; several channels are averaged, with a line on stderr.

    Args:
        path: an audio file.
        name: the name of the file in messages; None for its path.

    Returns:
        (float32 [n], sample rate in Hz).
    """
    samples, rate = read_channels(str(path), name)
    if samples.shape[1] > 1:
        notice(f"{name or path}: mixed {samples.shape[1]} channels into one")
    return to_mono(samples), rate


def at_rate(path: Path, samples: FloatArray, rate: int, target: int) -> FloatArray:
    """Return a recording at the sample rate of a network; resampling prints a line on stderr.

    Args:
        path: the recording's file, for messages.
        samples: float32 [n].
        rate: the rate of the samples in Hz.
        target: the rate of the network in Hz.

    Raises:
        UnavailableError: the rates differ, and soxr is not installed.
    """
    if rate == target:
        return samples
    try:
        samples = resample(samples, rate, target)
    except UnavailableError:
        raise UnavailableError(
            f"{path}: expected {target} Hz, the rate of this network, got {rate} Hz; resample it, for example with "
            f"'sox IN.wav -r {target} OUT.wav' or 'ffmpeg -i IN.wav -ar {target} OUT.wav', or install the extra "
            "'audio' (pip install soxr)"
        ) from None
    notice(f"{path}: resampled from {rate} to {target} Hz")
    return samples


RECORDING = "a recording (.wav, .flac, .ogg, .mp3)"


def add_recording(group: Group, destination: str, metavar: str = "IN") -> None:
    """Add a positional argument for a recording.

    Args:
        group: receives the argument.
        destination: the attribute of the parsed arguments.
        metavar: its name in the help.
    """
    group.add_argument(destination, metavar=metavar, type=Path, help=RECORDING)


def add_output(group: Group, metavar: str, text: str, kind: type[Path | str] = Path) -> None:
    """Add the option -o.

    Args:
        group: receives the option.
        metavar: the name of the value in the help.
        text: the help.
        kind: of the value; a text keeps a final "/".
    """
    group.add_argument("-o", "--output", metavar=metavar, type=kind, required=True, help=text)


def add_seed(group: Group, text: str = "seed of the noise; the same seed gives the same audio") -> None:
    """Add the option --seed.

    Args:
        group: receives the option.
        text: the help, without the default.
    """
    group.add_argument("--seed", type=integer, default=0, metavar="N", help=f"{text} (default: 0)")


def add_steps(group: Group, default: str) -> None:
    """Add the option --steps.

    Args:
        group: receives the option.
        default: "fast" or "full".
    """
    meanings = {
        "fast": "fast for CKPT's own fast schedule, else the paper's of 6 steps",
        "full": "full for the training schedule",
    }
    other = "full" if default == "fast" else "fast"
    group.add_argument(
        "--steps",
        type=steps,
        default=default,
        metavar=f"{default}|N|{other}",
        help=f"{meanings[default]}; {meanings[other]}; or a number, such as 1 to 5, which 'engine info CKPT' lists "
        f"(default: {default})",
    )


CHECKPOINT = "a checkpoint or its folder, hf://owner/name, or the name of a bundled network"


def add_model(group: Group, default: str | None) -> None:
    """Add the option --model.

    Args:
        group: receives the option.
        default: the name of a bundled network, None for the voice.
    """
    text = f"{CHECKPOINT} (default: {default or 'voice'})"
    group.add_argument("--model", default=default, metavar="CKPT", help=text)


def add_weights(group: Group) -> None:
    """Add the option --weights.

    Args:
        group: receives the option.
    """
    text = f"{' or '.join(WEIGHTS)}: the average over the training that some files hold beside them (default: raw, or "
    text += "the average of a file that has nothing else)"
    group.add_argument("--weights", choices=WEIGHTS, metavar="WEIGHTS", help=text)


def add_mel_kind(group: Group) -> None:
    """Add the option --mel-kind.

    Args:
        group: receives the option.
    """
    kinds = f"{', '.join(MEL_KINDS[:-1])} or {MEL_KINDS[-1]}"
    text = f"kind of mel of CKPT, if its file does not record it: {kinds}"
    group.add_argument("--mel-kind", choices=MEL_KINDS, metavar="KIND", help=text)


def add_energy_min(group: Group) -> None:
    """Add the option --energy-min.

    Args:
        group: receives the option.
    """
    text = "for PriorGrad: smallest frame energy of the training data (default: that of CKPT, if recorded)"
    group.add_argument("--energy-min", type=number, metavar="E", help=text)


def add_dtype(group: Group) -> None:
    """Add the option --dtype.

    Args:
        group: receives the option.
    """
    text = "float32 or float16, the type of the stored weights (default: float32)"
    group.add_argument("--dtype", choices=("float32", "float16"), default="float32", metavar="DTYPE", help=text)


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the device and the arithmetic.

    Args:
        parser: of a command.
    """
    group = parser.add_argument_group("execution")
    group.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="auto, cpu, cuda or cuda:N; auto is a GPU if there is one (default: auto)",
    )
    on_cpu, on_gpu = (", ".join(reversed(names)) for names in (registry.CPU_PRECISIONS, registry.GPU_PRECISIONS))
    group.add_argument(
        "--precision",
        choices=("auto", *reversed(registry.PRECISIONS)),
        default="auto",
        metavar="PRECISION",
        help=f"on a CPU {on_cpu} (calibrated checkpoints); on a GPU {on_gpu}; auto is the fastest (default: auto)",
    )
    add_threads(group)
    in_groups = " or ".join(registry.GROUPED)
    group.add_argument(
        "--isa",
        metavar="TIER",
        help=f"instruction set of the CPU, or on a GPU {in_groups}: {registry.IN_GROUPS}; 'engine info' lists them "
        "(default: the best of this machine)",
    )


def add_threads(group: Group) -> None:
    """Add the option --threads.

    Args:
        group: receives the option.
    """
    text = "maximum number of CPU threads (default: one per processor, within the CPU quota and OMP_NUM_THREADS)"
    group.add_argument("--threads", type=integer, metavar="N", help=text)
