"""The command `engine vocode`: a mel or a recording to audio, as a whole or in chunks."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.audio.mel_files import is_raw, is_wav, read_mel, read_mel_in_pieces, read_raw_mel, spooled
from engine.audio.metrics import RealTime
from engine.audio.pcm import writing_pcm, writing_wav
from engine.audio.wav import is_encoded
from engine.checks.arrays import FloatArray
from engine.checks.file_kinds import START
from engine.checks.output_files import check_output
from engine.cli.analysis import mel_of_recording
from engine.cli.audio_output import check_audio_output, write_audio
from engine.cli.many import add_inputs, add_many, take_many, vocode_many
from engine.cli.messages import add_messages, audio_result, notice, print_result, progress_stream
from engine.cli.options import (
    add_energy_min,
    add_execution,
    add_mel_kind,
    add_model,
    add_output,
    add_seed,
    add_steps,
    add_weights,
    load,
    read_recording,
)
from engine.cli.parsing import Commands, largest_gain
from engine.cli.progress import progress_bar
from engine.config import Config
from engine.errors import InputError
from engine.voice import Voice
from engine.voice.draft import DRAFTS, RTISI_LA, STEPS, check_white
from engine.voice.matching import check_match

PIPE = "-"


def add_command(commands: Commands) -> None:
    """Add `vocode` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "vocode",
        _run,
        usage="IN [IN ...] -o OUT [OPTION ...]",
        summary="convert mel spectrograms or recordings to speech",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        names={"mel": "input", "mels": "input", "inputs": "input", "audio": "input", "config": "--model"},
    )
    files = parser.add_argument_group("input and output")
    add_inputs(
        files,
        "a mel (.npy, .npz, .safetensors, .pt) or a recording (.wav, .flac, .ogg, .mp3); a folder, a quoted pattern, "
        "@list.txt or manifest.jsonl; - reads one mel or recording, or raw mel frames, from stdin",
    )
    text = "the audio, a 16-bit mono .wav file, or .flac or .ogg; a folder for many; - writes raw samples to stdout"
    add_output(files, "OUT", text, str)
    files.add_argument(
        "--stream", action="store_true", help="compute and write in chunks, in constant memory; implied by -"
    )
    network = parser.add_argument_group("network")
    add_model(network, None)
    add_mel_kind(network)
    add_weights(network)
    sampling = parser.add_argument_group("sampling")
    add_steps(sampling, "fast")
    parser.set_defaults(steps=None)  # "fast", or fewer beside a draft
    add_seed(sampling)
    sampling.add_argument(
        "--draft",
        choices=DRAFTS,
        metavar="DRAFT",
        help=f"{' or '.join(DRAFTS)}: refine a waveform found by phase retrieval in place of noise, by the last "
        f"{STEPS} steps of the fast schedule, or the last --steps; streams take {RTISI_LA}",
    )
    sampling.add_argument(
        "--match-mel",
        type=largest_gain,
        metavar="G",
        help="after the last step, scale the bands of the audio towards those of the mel by at most G: "
        "1 only attenuates, inf has no limit",
    )
    add_energy_min(sampling)
    add_execution(parser)
    add_many(parser, formats=True)
    add_messages(parser, quiet=True, json=True)


def _run(arguments: argparse.Namespace) -> int | None:
    if take_many(arguments, ".wav"):
        return vocode_many(arguments)
    if arguments.stream or PIPE in (str(arguments.input), str(arguments.output)):
        _vocode_in_chunks(arguments)
    else:
        _vocode(arguments)
    return None


def _vocode(arguments: argparse.Namespace) -> None:
    source: Path = arguments.input
    check_audio_output(arguments.output, source)
    recording = read_recording(source) if is_wav(source) or is_encoded(source) else None
    mel = read_mel(source) if recording is None else None
    voice = _load_vocoder(arguments)
    if mel is None:
        assert recording is not None
        mel = mel_of_recording(source, *recording, voice.config)
    with progress_bar(progress_stream(arguments)) as progress:
        begin = time.perf_counter()
        audio = voice.vocode(
            mel,
            steps=arguments.steps,
            seed=arguments.seed,
            energy_min=arguments.energy_min,
            draft=arguments.draft,
            match_mel=arguments.match_mel,
            progress=progress,
        )
        seconds = time.perf_counter() - begin
    write_audio(arguments.output, audio, voice.sample_rate)
    _print_speed(arguments, voice, RealTime(len(audio) / voice.sample_rate, seconds))


def _vocode_in_chunks(arguments: argparse.Namespace) -> None:
    if arguments.draft not in (None, RTISI_LA):
        raise InputError(
            f"--draft: expected {RTISI_LA} for a stream, got {arguments.draft}, which needs the whole mel: files as IN "
            "and -o, without --stream"
        )
    to_stdout = str(arguments.output) == PIPE
    if to_stdout and arguments.json:
        raise InputError("--json: expected a file as OUT.wav, got -; stdout has the audio")
    if not to_stdout:
        check_output(arguments.output, ".wav", arguments.input)
    if arguments.device == "auto":
        arguments.device = "cpu"  # where the audio follows the mel soonest
    voice, frames, mels = _open(arguments)
    begin, samples = time.perf_counter(), 0
    with (
        progress_bar(progress_stream(arguments) if frames else None) as progress,
        writing_pcm(sys.stdout.buffer) if to_stdout else writing_wav(arguments.output, voice.sample_rate) as write,
        voice.stream(
            mels,
            steps=arguments.steps,
            seed=arguments.seed,
            energy_min=arguments.energy_min,
            draft=arguments.draft,
            match_mel=arguments.match_mel,
        ) as chunks,
    ):
        for chunk in chunks:
            write(chunk)
            samples += len(chunk)
            if progress is not None:
                progress(samples / (frames * voice.hop))
    real_time = RealTime(samples / voice.sample_rate, time.perf_counter() - begin)
    if to_stdout:
        notice(str(real_time))
    else:
        _print_speed(arguments, voice, real_time)


def _print_speed(arguments: argparse.Namespace, voice: Voice, real_time: RealTime) -> None:
    lines = [f"wrote {arguments.output}", str(real_time)]
    print_result(arguments, lines, audio_result(voice, [arguments.output], real_time))


def _open(arguments: argparse.Namespace) -> tuple[Voice, int, Iterable[FloatArray]]:
    """Return the voice, the number of frames (0 if unknown) and the pieces of the mel."""
    source: Path = arguments.input
    if str(source) == PIPE:
        voice = _load_vocoder(arguments)
        return voice, 0, _mels_of_stdin(voice.config)
    if is_wav(source) or is_encoded(source):
        recording = read_recording(source)
        voice = _load_vocoder(arguments)
        mel = mel_of_recording(source, *recording, voice.config)
        return voice, mel.shape[1], iter([mel])
    frames, mels = read_mel_in_pieces(source)
    return _load_vocoder(arguments), frames, mels


def _mels_of_stdin(config: Config) -> Iterator[FloatArray]:
    """Yield the pieces of the mel: raw frames as they arrive, or those of a file after its end."""
    start = sys.stdin.buffer.read(START)
    if is_raw(start):
        yield from read_raw_mel(sys.stdin.buffer, config.n_mels, start)
        return
    with spooled(sys.stdin.buffer, start) as path:
        if is_wav(path) or is_encoded(path):
            yield mel_of_recording(Path("stdin"), *read_recording(path, "stdin"), config)
        else:
            yield from read_mel_in_pieces(path)[1]


def _load_vocoder(arguments: argparse.Namespace) -> Voice:
    voice = load(arguments)
    if not voice.config.n_mels:
        raise InputError("--model: expected a network that takes a mel, got one without; use 'engine generate'")
    if arguments.draft is not None:
        check_white(voice.config, arguments.energy_min)
    check_match(arguments.match_mel, voice.config)
    if voice.config.prior and arguments.energy_min is None and not voice.config.energy_min:
        raise InputError(
            "--energy-min: expected the smallest frame energy of the training data, because this PriorGrad checkpoint "
            "does not record it, got none"
        )
    return voice


_DESCRIPTION = """\
IN is one mel [bands, frames]: the array of an .npy file, or the only array or
the one called "mel" in an .npz, .safetensors or .pt file. Or it is a recording,
whose mel is computed first, as by 'engine mel'. The content decides the format.

The mel must be of the kind that the voice was trained on; 'engine info' names
it. Another kind gives noise or silence; it is an error where the values of the
mel show it.

With --stream the audio is computed and written in chunks. It is bit-identical
to the audio of a whole call. An .npy file is not read as a whole.

With several inputs, or with a folder, a quoted pattern ("mels/**/*.npy"), a
list (@list.txt, a path per line) or a manifest (manifest.jsonl) as IN, or with
a folder as -o, every input becomes a file of that folder. Subfolders are kept.
The same command resumes after an interruption, and gives the same bytes with
any number of workers. A bad input is listed in _failed.jsonl and does not end
the work; the exit status is 1 then. A line of a manifest is an object with the
keys id and mel (or audio), and optionally seed and out, and notes under text,
speaker, language, duration or meta; paths are relative to the manifest.

With - as OUT, raw samples (16-bit, little-endian, mono) go to stdout. With
- as IN, raw frames (float32, little-endian, all bands of a frame together) are
read from stdin as they arrive. Files of the other formats are recognized by
their first bytes and are read to the end first. Streams run on the CPU.

The last line reports the speed, for example
  3.21 s of audio in 0.67 s: RTF 0.21, 4.8x real time
The time is that of vocoding, from a mel in memory to audio in memory. Loading
the voice, analyzing a recording and writing the file are not included.

With --json the last line is an object with the keys files, sample_rate,
audio_seconds, work_seconds, rtf, times_real_time, device, isa, precision and
threads; for many files with the keys folder, total, done_before, files, failed,
failures, audio_seconds, audio_seconds_left and work_seconds. There failures is
the path of _failed.jsonl or null, and with --dry-run the reasons by id.
"""

_EXAMPLES = """\
engine vocode mel.npy -o speech.wav
engine vocode mel.npy -o best.wav --steps full
engine vocode mel.npy -o quick.wav --steps 3
engine vocode recording.wav -o again.wav --seed 7
engine vocode mel.npy -o speech.wav --model voice.safetensors --threads 4
engine vocode audiobook.npy -o audiobook.wav --stream
engine vocode mels -o speech --workers 2
engine vocode "mels/**/*.npy" -o speech --format flac --shard 3/16
tts --mel-frames | engine vocode - -o - | aplay -f S16_LE -r 22050
"""
