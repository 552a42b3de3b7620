"""The command `engine convert`: any public checkpoint to one .safetensors file."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.audio.mel_files import read_mel
from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.checks.output_files import check_output
from engine.cli.messages import add_messages, print_result, progress_stream
from engine.cli.options import CHECKPOINT, add_dtype, add_mel_kind, add_output, add_weights
from engine.cli.parsing import Commands
from engine.cli.progress import progress_bar
from engine.tuning.int8 import calibrate


def add_command(commands: Commands) -> None:
    """Add `convert` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "convert",
        _run,
        usage="CKPT -o OUT.safetensors [OPTION ...]",
        summary="convert a public checkpoint to one .safetensors file",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        names={"mel": "calibrate", "model": "CKPT"},
    )
    files = parser.add_argument_group("input and output")
    files.add_argument(
        "checkpoint",
        metavar="CKPT",
        help=CHECKPOINT,
    )
    add_output(files, "OUT.safetensors", "the converted checkpoint")
    add_dtype(files)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="hyper-parameters that CKPT lacks: a config.json or a hyperparams.yaml (default: the one beside CKPT)",
    )
    add_mel_kind(network)
    add_weights(network)
    network.add_argument(
        "--calibrate",
        metavar="MEL",
        type=Path,
        nargs="+",
        help="mels of typical speech, from which the ranges for precision int8 are computed",
    )
    add_messages(parser, quiet=True)


def _run(arguments: argparse.Namespace) -> None:
    path = path_of(arguments.checkpoint)
    check_output(arguments.output, ".safetensors", path)
    checkpoint = load_checkpoint(path, arguments.mel_kind, arguments.config, arguments.weights)
    if arguments.calibrate:
        mels = [read_mel(file) for file in arguments.calibrate]
        with progress_bar(progress_stream(arguments)) as progress:
            checkpoint, agreement = calibrate(checkpoint, mels, progress)
        line = f"int8 agrees with fp32 by {agreement.eps:.1f} dB (eps) and {agreement.audio:.1f} dB (audio)"
        print_result(arguments, [line], {})
    save_checkpoint(arguments.output, checkpoint, arguments.dtype)
    print_result(arguments, [f"wrote {arguments.output}"], {})


_DESCRIPTION = """\
CKPT is a checkpoint of LMNT, PriorGrad, Amphion, SpeechBrain, philsyn or BDDM.
The result holds all hyper-parameters and needs no other file. Hyper-parameters
that CKPT lacks are read from a config.json; an error names those that are
still missing. PyTorch is not needed, and no code in CKPT is run. float16
halves the file; the arithmetic does not change.
"""

_EXAMPLES = """\
engine convert weights.pt -o voice.safetensors
engine convert weights.pt -o small.safetensors --dtype float16
engine convert 1000000.pkl -o voice.safetensors --config config_64.json
engine convert other.safetensors -o voice.safetensors --mel-kind lmnt
engine convert weights.pt -o voice.safetensors --calibrate one.npy two.npy
"""
