"""The command `engine mel`: the mel spectrogram of a recording."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import engine
from engine.audio.mel_files import write_mel
from engine.audio.spectrogram import mel_settings
from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint
from engine.checks.arrays import FloatArray
from engine.checks.output_files import check_output
from engine.cli.many import add_inputs, add_many, mel_many, take_many
from engine.cli.messages import add_messages, print_result
from engine.cli.options import RECORDING, add_model, add_output, at_rate, read_recording
from engine.cli.parsing import Commands
from engine.config import MEL_KINDS, Config


def add_command(commands: Commands) -> None:
    """Add `mel` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "mel",
        _run,
        usage="IN [IN ...] -o OUT [OPTION ...]",
        summary="compute the mel spectrograms of recordings",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        names={"audio": "input", "inputs": "input", "config": "--model", "mel_kind": "--kind"},
    )
    files = parser.add_argument_group("input and output")
    add_inputs(files, f"{RECORDING}; a folder, a quoted pattern, @list.txt or manifest.jsonl")
    add_output(files, "OUT", "the mel, an .npy file of float32 [bands, frames], or a folder for many", str)
    network = parser.add_argument_group("network")
    add_model(network, None)
    network.add_argument(
        "--kind",
        choices=MEL_KINDS,
        metavar="KIND",
        help=f"{', '.join(MEL_KINDS[:-1])} or {MEL_KINDS[-1]} (default: that of CKPT)",
    )
    add_many(parser, formats=False)
    add_messages(parser, quiet=True, json=True)


def mel_of_recording(path: Path, samples: FloatArray, rate: int, config: Config) -> FloatArray:
    """Compute the mel of a recording as a network expects it.

    Args:
        path: the recording's file, for messages.
        samples: float32 [n].
        rate: the rate of the samples in Hz.
        config: the network's hyper-parameters.

    Returns:
        float32 [M, T].

    Raises:
        InputError: the network takes no mel, or the engine does not compute its kind.
    """
    settings = mel_settings(config)
    return engine.mel(at_rate(path, samples, rate, config.sample_rate), config.sample_rate, **settings)


def _run(arguments: argparse.Namespace) -> int | None:
    if take_many(arguments, ".npy"):
        return mel_many(arguments)
    check_output(arguments.output, ".npy", arguments.input)
    recording = read_recording(arguments.input)
    config = load_checkpoint(path_of(arguments.model)).config
    model, kind = arguments.model_name or "the bundled voice", arguments.kind or config.mel_kind
    mel = mel_of_recording(arguments.input, *recording, replace(config, mel_kind=kind))
    write_mel(arguments.output, mel)
    if kind == config.mel_kind:
        origin = f"as {model} expects"
    else:
        origin = f"{model} {f'expects {config.mel_kind}' if config.mel_kind else 'does not record its kind'}"
    summary = f"{mel.shape[0]} bands, {mel.shape[1]} frames of kind {kind} at {config.sample_rate} Hz; {origin}"
    result = {"file": str(arguments.output), "bands": mel.shape[0], "frames": mel.shape[1], "kind": kind}
    print_result(arguments, [f"wrote {arguments.output}", summary], {**result, "sample_rate": config.sample_rate})
    return None


_DESCRIPTION = """\
The mel has the kind, the bands and the sample rate that the voice expects. The
last line names them, for example
  80 bands, 323 frames of kind lmnt at 22050 Hz; as the bundled voice expects
WAV files need no extra. FLAC, Ogg, MP3 and other sample rates need the extra
'audio' (soundfile and soxr). Several channels are averaged. A line on stderr
reports averaging and resampling.

Several inputs, a folder, a pattern, a list or a manifest become a folder of
mels, as in 'engine vocode'; 'engine vocode' then reads that folder.

With --json the output is an object with the keys file, bands, frames, kind and
sample_rate; for many files with those of 'engine vocode'.
"""

_EXAMPLES = """\
engine mel recording.wav -o mel.npy
engine mel recording.flac -o mel.npy --model weights.pt
engine mel recording.wav -o mel.npy --kind hifigan
engine mel recordings -o mels
ffmpeg -i recording.mp3 -ar 22050 -ac 1 recording.wav
sox recording.mp3 -r 22050 -c 1 -b 16 recording.wav
"""
