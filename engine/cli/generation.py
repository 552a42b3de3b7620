"""The commands that need no mel: generate, denoise and interpolate."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.audio.metrics import RealTime
from engine.audio.wav import write_wav
from engine.checks.arguments import check_count
from engine.checks.arrays import FloatArray
from engine.cli.options import add_output, add_runtime, at_rate, load, read_recording, steps
from engine.cli.progress import progress_bar
from engine.errors import InputError
from engine.output_files import check_folder, check_output
from engine.voice import Voice

Add = Callable[[str, Callable[[argparse.Namespace], None], str, str, str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add them to the program; `add` takes a name, what runs it, a line, a paragraph and examples."""
    generate = add("generate", _generate, "make sound from nothing: a spoken digit that you name", *_GENERATE)
    generate.add_argument(
        "--label", metavar="NAME", help="what to say: a class of the network or its first word (default: any)"
    )
    generate.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="how far to go towards the label: 1 for no further than the network does (default: the network's own)",
    )
    generate.add_argument("-n", type=int, default=1, metavar="N", help="how many clips (default: 1)")
    output = "a folder for the clips, created if missing; or with -n 1 a .wav file"
    add_output(generate, "OUT", output)
    _add_model(generate, "digits")
    generate.add_argument("--seconds", type=float, metavar="S", help="length of a clip (default: the training clips')")
    generate.add_argument(
        "--steps", type=steps, default="full", metavar="full|6", help="the training's schedule (full) or the fast one"
    )
    _add_seed(generate)
    add_runtime(generate)

    denoise = add("denoise", _denoise, "take noise out of a recording of what a network knows", *_DENOISE)
    denoise.add_argument("input", metavar="IN", type=Path, help="a recording (.wav, .flac, .ogg, .mp3)")
    add_output(denoise, "OUT.wav", "the clean recording: 16-bit mono WAV")
    _add_model(denoise, "digits-unconditional")
    denoise.add_argument(
        "-t", type=int, default=25, metavar="T", help="the step at which to enter (default: 25); higher for more noise"
    )
    _add_known_label(denoise)
    _add_seed(denoise)
    add_runtime(denoise)

    interpolate = add("interpolate", _interpolate, "make a sound between two recordings", *_INTERPOLATE)
    for name in ("a", "b"):
        interpolate.add_argument(name, metavar=name.upper(), type=Path, help="a recording (.wav, .flac, .ogg, .mp3)")
    add_output(interpolate, "OUT.wav", "what lies between: 16-bit mono WAV")
    _add_model(interpolate, "digits-unconditional")
    interpolate.add_argument("--weight", type=float, default=0.5, metavar="W", help="of B, 0 to 1 (default: 0.5)")
    interpolate.add_argument(
        "-t", type=int, default=50, metavar="T", help="the step at which they are mixed (default: 50)"
    )
    _add_known_label(interpolate)
    _add_seed(interpolate)
    add_runtime(interpolate)


def _generate(arguments: argparse.Namespace) -> None:
    target: Path = arguments.output
    count = check_count(arguments.n, "-n")
    alone = target.suffix.lower() == ".wav" and not target.is_dir()
    if alone and count > 1:
        raise InputError(f"-o: expected a folder for {count} clips, got {str(target)!r}")
    if alone:
        check_output(target, ".wav")
    else:
        check_folder(target)
    voice = load(arguments)
    if voice.config.n_mels:
        raise InputError("--model: this network wants a mel; use 'engine vocode'")
    names = voice.classes_of(count, arguments.label, arguments.seed)
    targets = [target] if alone else [target / name for name in _names(names or ["clip"] * count)]
    if not alone and target.is_dir():
        for one in targets:
            check_output(one, ".wav")
    with progress_bar(sys.stderr) as progress:
        begin = time.perf_counter()
        audio = voice.generate(
            count,
            names or None,
            guidance=arguments.guidance,
            seconds=arguments.seconds,
            steps=arguments.steps,
            seed=arguments.seed,
            progress=progress,
        )
        seconds = time.perf_counter() - begin
    if alone:
        write_wav(str(target), audio[0], voice.sample_rate)
    else:
        _write_all(target, targets, audio, voice.sample_rate)
    print(f"wrote {targets[0]}" if count == 1 else f"wrote {count} clips: {targets[0]} to {targets[-1].name}")
    print(RealTime(audio.size / voice.sample_rate, seconds))


def _denoise(arguments: argparse.Namespace) -> None:
    check_output(arguments.output, ".wav", arguments.input)
    recording = read_recording(arguments.input)
    voice = load(arguments)
    audio = at_rate(arguments.input, *recording, voice.sample_rate)
    options = {"seed": arguments.seed, "label": arguments.label}
    _write(arguments, voice, lambda progress: voice.denoise(audio, arguments.t, progress=progress, **options))


def _interpolate(arguments: argparse.Namespace) -> None:
    check_output(arguments.output, ".wav", arguments.a)
    check_output(arguments.output, ".wav", arguments.b)
    recordings = [(path, read_recording(path)) for path in (arguments.a, arguments.b)]
    voice = load(arguments)
    a, b = (at_rate(path, *recording, voice.sample_rate) for path, recording in recordings)
    if len(a) != len(b):
        raise InputError(f"{arguments.b}: expected {len(a)} samples as {arguments.a} has, got {len(b)}")
    options = {"seed": arguments.seed, "label": arguments.label}
    weight, t = arguments.weight, arguments.t
    _write(arguments, voice, lambda progress: voice.interpolate(a, b, weight, t, progress=progress, **options))


def _write(arguments: argparse.Namespace, voice: Voice, make: Callable[[Any], FloatArray]) -> None:
    with progress_bar(sys.stderr) as progress:
        begin = time.perf_counter()
        audio = make(progress)
        seconds = time.perf_counter() - begin
    write_wav(str(arguments.output), audio, voice.sample_rate)
    print(f"wrote {arguments.output}")
    print(RealTime(len(audio) / voice.sample_rate, seconds))


def _write_all(folder: Path, targets: Sequence[Path], audio: FloatArray, rate: int) -> None:
    """Every clip, or on any exception none, and no folder that was not there."""
    made = not folder.is_dir()
    written: list[Path] = []
    try:
        if made:
            folder.mkdir()
        for target, row in zip(targets, audio, strict=True):
            write_wav(str(target), row, rate)
            written.append(target)
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        if made and folder.is_dir():
            folder.rmdir()
        raise


def _names(classes: Sequence[str]) -> list[str]:
    """Names of files: the class, and the number of the clip."""
    width = max(2, len(str(len(classes) - 1)))
    words = [re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or "class" for name in classes]
    return [f"{word}-{number:0{width}}.wav" for number, word in enumerate(words)]


def _add_model(command: argparse.ArgumentParser, default: str) -> None:
    text = f"a bundled network or a checkpoint (default: {default})"
    command.add_argument("--model", default=default, metavar="NAME|CKPT", help=text)


def _add_known_label(command: argparse.ArgumentParser) -> None:
    command.add_argument("--label", metavar="NAME", help="what is said, for a network with classes")


def _add_seed(command: argparse.ArgumentParser) -> None:
    text = "of the noise: the same seed, the same audio (default: 0); clip i has the seed N + i"
    command.add_argument("--seed", type=int, default=0, metavar="N", help=text)


_GENERATE = (
    """\
Make sound from noise alone. With a network that knows classes, such as the bundled spoken digits, --label says which:
the class's whole name, or its first word, which may mean several, of which each clip gets one by its seed. 'engine
info' says which there are. The clips of a folder are called by class and number, 7-00.wav; files of these names are
replaced. The last line says how fast it was, as 'engine vocode' does.
""",
    """\
examples:
  engine generate --label 7 -n 4 -o out
  engine generate -n 10 -o out --seed 100
  engine generate --label 3 -o three.wav --steps 6
  engine generate -n 2 -o out --model checkpoint.pkl --seconds 1.5
""",
)

_DENOISE = (
    """\
Take noise out of a recording with a network that never learnt to: the recording enters the reverse process T steps
before its end, as if its noise were the process's own. It works for sounds of the kind that the network makes.
The recording is resampled to the network's rate if need be (extra 'audio'). A network with a mel cannot be used here;
Voice.denoise takes one.
""",
    """\
examples:
  engine denoise noisy.wav -o clean.wav
  engine denoise noisy.wav -o clean.wav -t 40
  engine denoise noisy.wav -o clean.wav --model checkpoint.pkl -t 25
""",
)

_INTERPOLATE = (
    """\
Make a sound between two recordings of equal length: noise is added to both as in T steps of training, they are mixed,
and the network takes the noise out again. Recordings are resampled to the network's rate if need be (extra 'audio').
""",
    """\
examples:
  engine interpolate three.wav seven.wav -o between.wav
  engine interpolate three.wav seven.wav -o between.wav --model checkpoint.pkl --weight 0.3 -t 80
""",
)
