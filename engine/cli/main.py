"""The command `engine`: what the library does, for files."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

import engine
from engine.audio.mel_files import is_wav, read_mel, read_mel_in_pieces, read_raw_mel, write_mel
from engine.audio.metrics import RealTime
from engine.audio.pcm import writing_pcm, writing_wav
from engine.audio.spectrogram import settings
from engine.audio.wav import is_encoded, write_wav
from engine.bundled import path_of
from engine.calibration import calibrate
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.checks.arrays import FloatArray
from engine.cli.bench.command import add_command as add_bench
from engine.cli.doctor import examine
from engine.cli.generation import add_commands
from engine.cli.info import describe
from engine.cli.options import add_mel_kind, add_output, add_runtime, at_rate, load, read_recording, say, steps
from engine.cli.progress import progress_bar
from engine.config import MEL_KINDS, Config
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.output_files import check_output

FAILED, INTERRUPTED, CLOSED_PIPE = 2, 130, 141  # the last two as shells report SIGINT and SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status. What a user can cause is one line, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have no spelling in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status = _run(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            say("interrupted")
            status = INTERRUPTED
        except BrokenPipeError:
            status = CLOSED_PIPE
        except OSError as error:
            named = f"{error.filename}: " if error.filename is not None else ""
            say(f"error: {named}{error.strerror or error}")
            status = FAILED
        except (CheckpointError, InputError, UnavailableError, MemoryError) as error:
            # An argument's name where its option has another: on the command line the file alone says more.
            say(f"error: {str(error).removeprefix('path: ') or 'not enough memory'}")
            status = FAILED
    _discard_unwritable()
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version or a usage error
        return int(stop.code or 0)
    run: Callable[[argparse.Namespace], None] = arguments.run
    run(arguments)
    return 0


def _vocode(arguments: argparse.Namespace) -> None:
    if arguments.stream or "-" in (str(arguments.input), str(arguments.output)):
        return _vocode_in_chunks(arguments)
    source: Path = arguments.input
    check_output(arguments.output, ".wav", source)
    recording = read_recording(source) if is_wav(source) or is_encoded(source) else None
    mel = read_mel(source) if recording is None else None
    voice = load(arguments)
    if recording is not None:
        mel = _analyse(source, *recording, voice.config, "--mel-kind")
    with progress_bar(sys.stderr) as progress:
        begin = time.perf_counter()
        audio = voice.vocode(mel, arguments.steps, arguments.seed, energy_min=arguments.energy_min, progress=progress)
        seconds = time.perf_counter() - begin
    write_wav(str(arguments.output), audio, voice.sample_rate)
    print(f"wrote {arguments.output}")
    print(RealTime(len(audio) / voice.sample_rate, seconds))


def _vocode_in_chunks(arguments: argparse.Namespace) -> None:
    source: Path = arguments.input
    to_pipe, frames = str(arguments.output) == "-", 0
    if not to_pipe:
        check_output(arguments.output, ".wav", source)
    recording = None
    if str(source) != "-" and (is_wav(source) or is_encoded(source)):
        recording = read_recording(source)
    elif str(source) != "-":
        frames, mels = read_mel_in_pieces(source)
    if arguments.device == "auto":
        arguments.device = "cpu"  # where streams run
    voice = load(arguments)
    if recording is not None:
        mel = _analyse(source, *recording, voice.config, "--mel-kind")
        frames, mels = mel.shape[1], iter([mel])
    elif str(source) == "-":
        mels = read_raw_mel(sys.stdin.buffer, voice.config.n_mels)
    begin, samples = time.perf_counter(), 0
    with (
        progress_bar(sys.stderr if frames else None) as progress,
        writing_pcm(sys.stdout.buffer) if to_pipe else writing_wav(arguments.output, voice.sample_rate) as write,
        voice.stream(mels, arguments.steps, arguments.seed, energy_min=arguments.energy_min) as chunks,
    ):
        for chunk in chunks:
            write(chunk)
            samples += len(chunk)
            if progress is not None:
                progress(samples / (frames * voice.hop))
    factor = RealTime(samples / voice.sample_rate, time.perf_counter() - begin)
    if to_pipe:
        return say(str(factor))
    print(f"wrote {arguments.output}")
    print(factor)


def _mel(arguments: argparse.Namespace) -> None:
    check_output(arguments.output, ".npy", arguments.input)
    recording = read_recording(arguments.input)
    config = load_checkpoint(path_of(arguments.model)).config
    wanted, whose = config.mel_kind, str(arguments.model or "the bundled voice")
    kind = arguments.kind or wanted
    mel = _analyse(arguments.input, *recording, replace(config, mel_kind=kind), "--kind")
    write_mel(arguments.output, mel)
    print(f"wrote {arguments.output}")
    wants = f", as {whose} wants" if kind == wanted else f"; {whose} {f'wants {wanted}' if wanted else 'does not say'}"
    print(f"{mel.shape[0]} bands, {mel.shape[1]} frames of kind {kind} at {config.sample_rate} Hz{wants}")


def _info(arguments: argparse.Namespace) -> None:
    path = path_of(arguments.model)
    print(describe(path, load_checkpoint(path, arguments.mel_kind), load(arguments)))


def _doctor(arguments: argparse.Namespace) -> None:
    print(examine())


def _convert(arguments: argparse.Namespace) -> None:
    path = path_of(arguments.checkpoint)
    check_output(arguments.output, ".safetensors", path)
    checkpoint = load_checkpoint(path, arguments.mel_kind, arguments.config)
    if arguments.calibrate:
        mels = [read_mel(path) for path in arguments.calibrate]
        with progress_bar(sys.stderr) as progress:
            checkpoint, agreement = calibrate(checkpoint, mels, progress)
        print(f"int8 agrees with fp32 by {agreement.eps:.1f} dB (eps) and {agreement.audio:.1f} dB (audio)")
    save_checkpoint(arguments.output, checkpoint, arguments.dtype)
    print(f"wrote {arguments.output}")


def _analyse(path: Path, samples: FloatArray, rate: int, config: Config, option: str) -> FloatArray:
    """The mel of a recording, as a network of this configuration wants it; InputError where there is none."""
    try:
        wanted = settings(config)
    except InputError as error:
        unknown = config.n_mels > 0 and config.mel_kind is None
        raise InputError(f"{path}: {error}{f'; pass {option}' if unknown else ''}") from None
    samples = at_rate(path, samples, rate, config.sample_rate)
    mel: FloatArray = engine.mel(samples, config.sample_rate, **wanted)
    return mel


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"engine: error: {message}; see '{self.prog} --help'\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    style: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    top = _Parser(prog="engine", description=_DESCRIPTION, epilog=_EXAMPLES, **style)
    top.add_argument("--version", action="version", version=f"engine {engine.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str, details: str, examples: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=details, epilog=examples, **style)
        made.set_defaults(run=run)
        return made

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str, details: str
    ) -> argparse.ArgumentParser:
        return add(name, run, text, details, _COMMAND_EXAMPLES[name])

    vocode = command("vocode", _vocode, "turn a mel spectrogram, or a recording, into speech", _VOCODE)
    vocode.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="a mel (.npy, .npz, .safetensors) or a recording (.wav, .flac, .ogg, .mp3); - for raw frames from stdin",
    )
    add_output(vocode, "OUT.wav", "the audio: 16-bit mono WAV; - for raw 16-bit samples to stdout")
    vocode.add_argument(
        "--steps", type=steps, default=6, metavar="6|full", help="the fast schedule (6) or the training's (full)"
    )
    vocode.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise: the same seed, the same audio")
    vocode.add_argument("--model", metavar="CKPT", help="a checkpoint instead of the bundled voice")
    vocode.add_argument(
        "--stream",
        action="store_true",
        help="chunk by chunk, in memory that does not grow with the length; always so where IN or OUT is -",
    )
    vocode.add_argument(
        "--energy-min", type=float, metavar="E", help="for PriorGrad: the smallest frame energy of its training data"
    )
    add_runtime(vocode)
    add_mel_kind(vocode)

    add_commands(add)

    mel = command("mel", _mel, "turn a recording into the mel spectrogram that a voice wants", _MEL)
    mel.add_argument("input", metavar="IN", type=Path, help="a recording (.wav, .flac, .ogg, .mp3)")
    add_output(mel, "OUT.npy", "the mel: float32 [bands, frames]")
    mel.add_argument("--model", metavar="CKPT", help="the voice to make it for (default: the bundled one)")
    mel.add_argument("--kind", choices=MEL_KINDS, help="of which front-end (default: what the voice was trained with)")

    info = command("info", _info, "what a checkpoint is, and how this machine would run it", _INFO)
    info.add_argument("model", metavar="CKPT", nargs="?", help="a checkpoint or bundled network (default: the voice)")
    add_runtime(info)
    add_mel_kind(info)

    command("doctor", _doctor, "what this machine can run, and why not", _DOCTOR)
    add_bench(add)

    convert = command("convert", _convert, "turn any public checkpoint into a .safetensors file", _CONVERT)
    convert.add_argument(
        "checkpoint", metavar="CKPT", help="a checkpoint (.pt, .pkl, .ckpt, .safetensors), or bundled network"
    )
    add_output(convert, "OUT.safetensors", "the converted checkpoint")
    convert.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the stored weights (default: float32)"
    )
    convert.add_argument(
        "--config", metavar="FILE.json", type=Path, help="hyper-parameters (default: config.json beside CKPT, if any)"
    )
    convert.add_argument(
        "--calibrate", metavar="MEL", type=Path, nargs="+", help="mels of typical speech: find the ranges of 'int8'"
    )
    add_mel_kind(convert)
    return top


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")


def _discard_unwritable() -> None:
    """What a stream could not take, a closed pipe or a full disk, would fail again, loudly, when Python exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_DESCRIPTION = "DiffWave on this machine's processor or GPU: a mel spectrogram becomes speech, noise a spoken digit."

_EXAMPLES = """\
examples:
  engine vocode mel.npy -o speech.wav             a mel becomes speech, with the bundled voice
  engine vocode recording.wav -o again.wav        a recording is analysed and spoken again
  engine generate --label 7 -n 4 -o out           four spoken sevens, from nothing
  engine mel recording.wav -o mel.npy             the analysis alone
  engine info                                     what the bundled voice is, and how this machine would run it
  engine doctor                                   what this machine can run, and why not
  engine bench                                    how fast this machine runs it
  engine convert weights.pt -o voice.safetensors  a public checkpoint, for 'vocode --model'

'engine COMMAND --help' says more about each. Errors leave no file behind; the exit status is then 2.
"""

_VOCODE = """\
Turn a mel spectrogram into speech. IN is one mel [bands, frames], as an array in an .npy file, or in an .npz or
.safetensors file as the only array or the one called "mel"; or a recording, which is analysed first as 'engine mel'
does. The mel must be of the kind that the voice was trained with ('engine info' says which): another kind
gives noise or silence, and is refused where its values show it.

With --stream the audio is made and written chunk by chunk, the same to the last bit; an .npy file is not read as a
whole. OUT may then be -, which gives raw samples (16 bits, little-endian, mono) for another program, and IN may be -,
which takes raw frames (float32, little-endian, all bands of a frame together) while they are being written. Streams
run on the CPU.

The last line says how fast it was, for example
  3.21 s of audio in 0.67 s: RTF 0.21, 4.8x real time
where the time is that of vocoding alone, from a mel in memory to audio in memory: loading the voice, analysing a
recording and writing the file are not in it.
"""

_MEL = """\
Turn a recording into the mel spectrogram that a voice wants: of its kind, with its bands, at its sample rate. The last
line says which kind that is, for example
  80 bands, 323 frames of kind lmnt at 22050 Hz, as the bundled voice wants
WAV files are read as they are; FLAC, Ogg, MP3 and other sample rates need the extra 'audio' (soundfile and soxr).
Several channels are averaged. A line on stderr says so when samples were mixed or resampled.
"""

_INFO = """\
Say what a checkpoint is, which instruction set and precision this machine would run it with and why, and which other
tiers there are. The options are those of 'engine vocode': see what they would choose.
"""

_DOCTOR = """\
Say which instruction sets, GPUs and optional packages this machine has, what is missing and how to get it, and what
'engine vocode' would choose. Nothing is loaded or run.
"""

_CONVERT = """\
Turn a checkpoint of LMNT, PriorGrad, Amphion, SpeechBrain, philsyn or BDDM into one .safetensors file that says
everything about itself. Hyper-parameters that CKPT lacks are taken from a config.json; what is still missing is named.
PyTorch is not needed, and nothing in CKPT is run. float16 halves the file; the network is computed as before.
"""

_COMMAND_EXAMPLES = {
    "vocode": """\
examples:
  engine vocode mel.npy -o speech.wav
  engine vocode mel.npy -o best.wav --steps full
  engine vocode recording.wav -o again.wav --seed 7
  engine vocode mel.npy -o speech.wav --model voice.safetensors --precision fp32 --threads 4
  engine vocode audiobook.npy -o audiobook.wav --stream
  tts --mel-frames | engine vocode - -o - | aplay -f S16_LE -r 22050
""",
    "mel": """\
examples:
  engine mel recording.wav -o mel.npy
  engine mel recording.flac -o mel.npy --model weights.pt
  engine mel recording.wav -o mel.npy --kind hifigan
  sox recording.mp3 -r 22050 -c 1 -b 16 recording.wav    (or: ffmpeg -i recording.mp3 -ar 22050 -ac 1 recording.wav)
""",
    "info": """\
examples:
  engine info
  engine info voice.safetensors
  engine info digits
  engine info --precision fp32 --isa avx2
""",
    "doctor": """\
examples:
  engine doctor
""",
    "convert": """\
examples:
  engine convert weights.pt -o voice.safetensors
  engine convert weights.pt -o small.safetensors --dtype float16
  engine convert 1000000.pkl -o voice.safetensors --config config_64.json
  engine convert other.safetensors -o voice.safetensors --mel-kind lmnt
  engine convert weights.pt -o voice.safetensors --calibrate speech1.npy speech2.npy
""",
}
