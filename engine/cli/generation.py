"""The commands without a mel: `engine generate`, `engine denoise` and `engine interpolate`."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.audio.metrics import RealTime
from engine.audio.wav import write_wav
from engine.checks.arguments import check_count
from engine.checks.arrays import FloatArray
from engine.checks.output_files import check_folder, check_output
from engine.cli.audio_output import AUDIO_SUFFIXES, check_audio_output, write_audio
from engine.cli.messages import add_messages, audio_result, print_result, progress_stream
from engine.cli.options import (
    Group,
    add_execution,
    add_model,
    add_output,
    add_recording,
    add_seed,
    add_steps,
    add_weights,
    at_rate,
    load,
    read_recording,
)
from engine.cli.parsing import Commands, Parser, integer, number
from engine.cli.progress import progress_bar
from engine.errors import InputError
from engine.sampling.item import Progress
from engine.voice import Voice


def add_command(commands: Commands) -> None:
    """Add `generate`, `denoise` and `interpolate` to the program.

    Args:
        commands: the program's commands.
    """
    _add_generate(commands)
    _add_denoise(commands)
    _add_interpolate(commands)


def _add_generate(commands: Commands) -> None:
    parser = commands.add(
        "generate",
        _generate,
        usage="-o OUT [--label NAME] [OPTION ...]",
        summary="generate sound without a mel, such as spoken digits",
        description=_GENERATE,
        examples=_GENERATE_EXAMPLES,
        names={"samples": "--seconds"},
    )
    files = parser.add_argument_group("output")
    add_output(files, "OUT", "a folder for the clips, created if missing; or a .wav, .flac or .ogg file for one clip")
    files.add_argument("-n", type=integer, default=1, metavar="N", help="number of clips (default: 1)")
    _add_network(parser, "digits")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--label", metavar="NAME", help="a class of the network, or its first word (default: any)")
    sampling.add_argument(
        "--guidance",
        type=number,
        metavar="W",
        help="weight of classifier-free guidance; 1 is none, more strengthens the label (default: that of CKPT)",
    )
    sampling.add_argument(
        "--temperature",
        type=number,
        metavar="T",
        help="0 to 1, scales the noise: less gives clearer clips of less variety (default: that of CKPT)",
    )
    sampling.add_argument(
        "--seconds", type=number, metavar="S", help="length of a clip (default: that of the training clips)"
    )
    add_steps(sampling, "full")
    add_seed(sampling, "seed of the noise; clip i has the seed N + i")
    add_execution(parser)
    add_messages(parser, quiet=True, json=True)


def _add_denoise(commands: Commands) -> None:
    parser = commands.add(
        "denoise",
        _denoise,
        usage="IN -o OUT.wav [OPTION ...]",
        summary="remove noise from a recording of sounds that a network knows",
        description=_DENOISE,
        examples=_DENOISE_EXAMPLES,
        names={"audio": "input"},
    )
    files = parser.add_argument_group("input and output")
    add_recording(files, "input")
    add_output(files, "OUT.wav", "the denoised recording, a 16-bit mono .wav file, or .flac or .ogg")
    _add_network(parser, "digits-unconditional")
    sampling = parser.add_argument_group("sampling")
    _add_step(sampling, 25, "step of the reverse process at which the recording enters; higher for more noise")
    _add_known_label(sampling)
    add_seed(sampling)
    add_execution(parser)
    add_messages(parser, quiet=True, json=True)


def _add_interpolate(commands: Commands) -> None:
    parser = commands.add(
        "interpolate",
        _interpolate,
        usage="A B -o OUT.wav [OPTION ...]",
        summary="interpolate between two recordings",
        description=_INTERPOLATE,
        examples=_INTERPOLATE_EXAMPLES,
    )
    files = parser.add_argument_group("input and output")
    for name in ("a", "b"):
        add_recording(files, name, name.upper())
    add_output(files, "OUT.wav", "the interpolated recording, a 16-bit mono .wav file, or .flac or .ogg")
    _add_network(parser, "digits-unconditional")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--weight", type=number, default=0.5, metavar="W", help="weight of B, 0 to 1 (default: 0.5)")
    _add_step(sampling, 50, "step of the diffusion at which A and B are mixed")
    _add_known_label(sampling)
    add_seed(sampling)
    add_execution(parser)
    add_messages(parser, quiet=True, json=True)


def _add_network(parser: Parser, default: str) -> None:
    network = parser.add_argument_group("network")
    add_model(network, default)
    add_weights(network)


def _add_step(group: Group, default: int, text: str) -> None:
    group.add_argument("-t", type=integer, default=default, metavar="T", help=f"{text} (default: {default})")


def _add_known_label(group: Group) -> None:
    group.add_argument("--label", metavar="NAME", help="the class of the sound; required for a network with classes")


def _generate(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output
    count = check_count(arguments.n, "-n")
    single = output.suffix.lower() in AUDIO_SUFFIXES and not output.is_dir()
    if single and count > 1:
        raise InputError(f"-o: expected a folder for {count} clips, got {str(output)!r}")
    if single:
        check_audio_output(output)
    else:
        check_folder(output)
    voice = _load_without_mel(arguments, "use 'engine vocode'")
    if arguments.seconds is None and not voice.config.clip_samples:
        raise InputError("--seconds: expected the length of a clip, which this checkpoint does not record, got none")
    names = voice.classes_of(n=count, label=arguments.label, seed=arguments.seed)
    files = [output] if single else [output / name for name in _file_names(names or ["clip"] * count)]
    if not single and output.is_dir():
        for file in files:
            check_output(file, ".wav")
    with progress_bar(progress_stream(arguments)) as progress:
        begin = time.perf_counter()
        audio = voice.generate(
            n=count,
            label=names or None,
            guidance=arguments.guidance,
            temperature=arguments.temperature,
            seconds=arguments.seconds,
            steps=arguments.steps,
            seed=arguments.seed,
            progress=progress,
        )
        seconds = time.perf_counter() - begin
    if single:
        write_audio(output, audio[0], voice.sample_rate)
    else:
        _write_clips(output, files, audio, voice.sample_rate)
    real_time = RealTime(audio.size / voice.sample_rate, seconds)
    wrote = f"wrote {files[0]}" if count == 1 else f"wrote {count} clips: {files[0]} to {files[-1].name}"
    result = {**audio_result(voice, files, real_time), "classes": [*names] or count * [None]}
    print_result(arguments, [wrote, str(real_time)], result)


def _denoise(arguments: argparse.Namespace) -> None:
    check_audio_output(arguments.output, arguments.input)
    recording = read_recording(arguments.input)
    voice = _load_without_mel(arguments, "Voice.denoise in Python takes a mel")
    audio = at_rate(arguments.input, *recording, voice.sample_rate)

    def denoise(progress: Progress | None) -> FloatArray:
        return voice.denoise(audio, t=arguments.t, label=arguments.label, seed=arguments.seed, progress=progress)

    _run_and_write(arguments, voice, denoise)


def _interpolate(arguments: argparse.Namespace) -> None:
    check_audio_output(arguments.output, arguments.a)
    check_audio_output(arguments.output, arguments.b)
    recordings = [(path, read_recording(path)) for path in (arguments.a, arguments.b)]
    voice = _load_without_mel(arguments, "use one that needs none")
    a, b = (at_rate(path, *recording, voice.sample_rate) for path, recording in recordings)
    if len(a) != len(b):
        raise InputError(f"{arguments.b}: expected {len(a)} samples, the length of {arguments.a}, got {len(b)}")

    def interpolate(progress: Progress | None) -> FloatArray:
        return voice.interpolate(
            a,
            b,
            weight=arguments.weight,
            t=arguments.t,
            label=arguments.label,
            seed=arguments.seed,
            progress=progress,
        )

    _run_and_write(arguments, voice, interpolate)


def _load_without_mel(arguments: argparse.Namespace, remedy: str) -> Voice:
    voice = load(arguments)
    if voice.config.n_mels:
        raise InputError(f"--model: expected a network without a mel, got one that takes a mel; {remedy}")
    return voice


def _run_and_write(arguments: argparse.Namespace, voice: Voice, work: Callable[[Progress | None], FloatArray]) -> None:
    with progress_bar(progress_stream(arguments)) as progress:
        begin = time.perf_counter()
        audio = work(progress)
        seconds = time.perf_counter() - begin
    write_audio(arguments.output, audio, voice.sample_rate)
    real_time = RealTime(len(audio) / voice.sample_rate, seconds)
    lines = [f"wrote {arguments.output}", str(real_time)]
    print_result(arguments, lines, audio_result(voice, [arguments.output], real_time))


def _write_clips(folder: Path, files: Sequence[Path], audio: FloatArray, rate: int) -> None:
    """Write all clips; on any exception leave no clip, and no folder that did not exist."""
    created = not folder.is_dir()
    written: list[Path] = []
    try:
        if created:
            folder.mkdir()
        for file, clip in zip(files, audio, strict=True):
            write_wav(str(file), clip, rate)
            written.append(file)
    except BaseException:
        for file in written:
            file.unlink(missing_ok=True)
        if created and folder.is_dir():
            folder.rmdir()
        raise


def _file_names(classes: Sequence[str]) -> list[str]:
    """Return the name of each clip's file: its class and its number."""
    width = max(2, len(str(len(classes) - 1)))
    words = [re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or "class" for name in classes]
    return [f"{word}-{number:0{width}}.wav" for number, word in enumerate(words)]


_GENERATE = """\
The sound starts from noise. For a network with classes, such as the bundled
spoken digits, --label selects a class: its whole name, or its first word. A
first word may select several classes; each clip gets one of them by its seed.
'engine info CKPT' lists the classes.

The files of a folder are named by class and number, such as 7-00.wav. Files of
these names are replaced. The last line reports the speed, as 'engine vocode'
does. With --json it is an object with the same keys and the key classes: the
class of every file, or null.
"""

_GENERATE_EXAMPLES = """\
engine generate --label 7 -n 4 -o out
engine generate -n 10 -o out --seed 100
engine generate --label 3 -o three.wav --steps 6
engine generate -n 2 -o out --model checkpoint.pkl --seconds 1.5
"""

_DENOISE = """\
The network needs no training for this. The recording enters the reverse
process T steps before its end, as if its noise were that of the process. It
works for sounds of the kind that the network generates.

The recording is resampled to the network's rate if needed (extra 'audio').
Networks that take a mel cannot be used here; Voice.denoise in Python takes a
mel.
"""

_DENOISE_EXAMPLES = """\
engine denoise noisy.wav -o clean.wav
engine denoise noisy.wav -o clean.wav -t 40
engine denoise noisy.wav -o clean.wav --model checkpoint.pkl -t 25
"""

_INTERPOLATE = """\
A and B are recordings of equal length. Both are diffused to step T with the
same noise and mixed, and the reverse process removes the noise. The recordings
are resampled to the network's rate if needed (extra 'audio').
"""

_INTERPOLATE_EXAMPLES = """\
engine interpolate three.wav seven.wav -o between.wav
engine interpolate three.wav seven.wav -o between.wav --weight 0.3 -t 80
engine interpolate a.wav b.wav -o between.wav --model checkpoint.pkl
"""
