"""The command `engine tune-steps`: schedules of few steps for a checkpoint, found on recordings."""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.audio.mel_files import read_mel
from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.checks.arguments import check_count
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.checks.output_files import check_output
from engine.cli.analysis import mel_of_recording
from engine.cli.messages import add_messages, notice, print_result, progress_stream
from engine.cli.options import (
    CHECKPOINT,
    add_dtype,
    add_energy_min,
    add_execution,
    add_mel_kind,
    add_output,
    add_weights,
    at_rate,
    load,
    read_recording,
)
from engine.cli.parsing import Commands, integer, number
from engine.cli.progress import progress_bar
from engine.config import Config, noise_levels
from engine.errors import InputError, UnavailableError
from engine.tuning.steps import Clip, Tuned, mean_score, tune_steps, with_schedules

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")  # of recordings
MEL_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")
MAX_CLIPS, SECONDS, MIN_SECONDS = 8, 4.0, 0.5
MEL_RATE = 16000  # Hz, at least, for the judge "mel": its highest band ends at 8 kHz


@dataclass(frozen=True)
class JudgeKind:
    """A judge that --judge selects.

    Attributes:
        label: its figure, in the table.
        sign: 1 where a higher figure is better, else -1.
        needs: the modules that it imports.
        build: returns its function, (recording, audio, rate) -> figure.
    """

    label: str
    sign: int
    needs: tuple[str, ...]
    build: Callable[[], Callable[[FloatArray, FloatArray, int], float]]


def add_command(commands: Commands) -> None:
    """Add `tune-steps` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "tune-steps",
        _run,
        usage="CKPT --clips DIR -o OUT.safetensors [OPTION ...]",
        summary="find a checkpoint's best schedules of few steps",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        names={"mel": "--clips", "config": "CKPT", "model": "CKPT"},
    )
    files = parser.add_argument_group("input and output")
    files.add_argument("model", metavar="CKPT", help=CHECKPOINT)
    files.add_argument(
        "--clips",
        metavar="DIR",
        type=Path,
        required=True,
        help="a folder of recordings (.wav, .flac, .ogg, .mp3); a mel of the same name beside one (.npy, .npz, "
        ".safetensors, .pt) replaces its analysis",
    )
    add_output(files, "OUT.safetensors", "the checkpoint with its schedules")
    add_dtype(files)
    network = parser.add_argument_group("network")
    add_mel_kind(network)
    add_weights(network)
    add_energy_min(network)
    search = parser.add_argument_group("search")
    search.add_argument(
        "--steps",
        type=integer,
        nargs="+",
        default=[1, 2, 3, 4, 5],
        metavar="N",
        help="the numbers of steps (default: 1 2 3 4 5)",
    )
    search.add_argument(
        "--judge",
        choices=tuple(JUDGES),
        default="mel",
        metavar="JUDGE",
        help="mel for the log-mel error; pesq for PESQ-WB; mos for a MOS predicted by DistillMOS; the latter two need "
        "the extra 'quality' (default: mel)",
    )
    search.add_argument(
        "--max-clips", type=integer, default=MAX_CLIPS, metavar="N", help=f"the most recordings (default: {MAX_CLIPS})"
    )
    search.add_argument(
        "--seconds",
        type=number,
        default=SECONDS,
        metavar="S",
        help=f"the length of each, taken from its middle (default: {SECONDS})",
    )
    search.add_argument("--seed", type=integer, default=0, metavar="N", help="seed of the noise (default: 0)")
    add_execution(parser)
    add_messages(parser, quiet=True, json=True)


def read_clips(folder: Path, config: Config, count: int, seconds: float) -> list[Clip]:
    """Read recordings of a folder and their mels.

    Args:
        folder: with recordings, and mels of the same names beside some or all of them.
        config: the network's hyper-parameters.
        count: the most clips; of more recordings, so many are taken, evenly spaced in the order of their names.
        seconds: the most seconds of each.

    Raises:
        InputError: there is no recording, one is too short, or a mel does not belong to its recording.
        UnavailableError: a recording needs an extra to be read.
    """
    if not folder.is_dir():
        raise InputError(f"--clips: expected a folder, got {str(folder)!r}")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not files:
        raise InputError(f"{folder}: expected recordings ({', '.join(SUFFIXES)}), got none")
    if count < len(files):
        files = [files[i * len(files) // count] for i in range(count)]
    return [_excerpt(path, config, seconds) for path in files]


def _excerpt(path: Path, config: Config, seconds: float) -> Clip:
    """Return the middle of a recording and its mel, of so many whole frames."""
    samples = at_rate(path, *read_recording(path), config.sample_rate)
    if len(samples) < MIN_SECONDS * config.sample_rate:
        raise InputError(f"{path}: expected at least {MIN_SECONDS:g} s, got {len(samples) / config.sample_rate:.3g} s")
    mels = [file for suffix in MEL_SUFFIXES if (file := path.with_suffix(suffix)).is_file()]
    if len(mels) > 1:
        raise InputError(f"{path}: expected one mel beside it, got {mels[0].name} and {mels[1].name}")
    mel = read_mel(mels[0]) if mels else mel_of_recording(path, samples, config.sample_rate, config)
    frames, expected = mel.shape[1], len(samples) / config.hop
    if mels and abs(frames - expected) > 2:
        raise InputError(f"{mels[0]}: expected the mel of {path.name}, about {expected:.0f} frames, got {frames}")
    length = min(frames, max(1, round(seconds * config.sample_rate / config.hop)))
    begin = (frames - length) // 2
    audio = np.zeros(length * config.hop, np.float32)
    part = samples[begin * config.hop : (begin + length) * config.hop]
    audio[: len(part)] = part
    return Clip(audio, np.ascontiguousarray(mel[:, begin : begin + length]))


def _run(arguments: argparse.Namespace) -> None:
    path = path_of(arguments.model)
    check_output(arguments.output, ".safetensors", path)
    count = check_count(arguments.max_clips, "--max-clips")
    if not (math.isfinite(arguments.seconds) and arguments.seconds >= MIN_SECONDS):
        raise InputError(f"--seconds: expected at least {MIN_SECONDS:g}, got {arguments.seconds:g}")
    kind = JUDGES[arguments.judge]
    figure = _judge(kind, arguments.judge)
    checkpoint = load_checkpoint(path, arguments.mel_kind, weights=arguments.weights)
    config, voice = checkpoint.config, load(arguments)
    if not config.n_mels:
        raise InputError("CKPT: expected a network that takes a mel, got one without")
    if arguments.judge == "mel" and config.sample_rate < MEL_RATE:
        raise InputError(
            f"--judge: expected pesq or mos for audio of {config.sample_rate} Hz, got mel, which needs {MEL_RATE} Hz"
        )
    clips = read_clips(arguments.clips, config, count, arguments.seconds)

    def judge(recording: FloatArray, audio: FloatArray, rate: int) -> float:
        return kind.sign * figure(recording, audio, rate)

    judged = [clip for clip in clips if not math.isnan(judge(clip.audio, clip.audio, config.sample_rate))]
    if not judged:
        raise InputError(f"--clips: expected recordings that {arguments.judge} can judge, got none with enough speech")
    if len(judged) < len(clips):
        notice(f"left out {len(clips) - len(judged)} recordings with too little speech for {arguments.judge}")
    with progress_bar(progress_stream(arguments)) as progress:
        tuned = tune_steps(
            voice,
            judged,
            judge,
            arguments.steps,
            seed=arguments.seed,
            energy_min=arguments.energy_min,
            progress=progress,
        )
    recordings = mean_score(judge, judged, [clip.audio for clip in judged], config.sample_rate)
    tuned_config = with_schedules(config, tuned)
    save_checkpoint(arguments.output, replace(checkpoint, config=tuned_config), arguments.dtype)
    lines = [*_table(kind, tuned, recordings, judged, config), f"wrote {arguments.output}"]
    print_result(arguments, lines, _as_json(arguments, kind, tuned, recordings, judged, config))


def _judge(kind: JudgeKind, name: str) -> Callable[[FloatArray, FloatArray, int], float]:
    for module in kind.needs:
        if importlib.util.find_spec(module) is None:
            raise UnavailableError(f"--judge: {name} needs {module}, which is not installed; {_install()}")
    return kind.build()


def _install() -> str:
    return f"run {how_to_install('quality')}, or use --judge mel"


def _mel() -> Callable[[FloatArray, FloatArray, int], float]:
    from engine.training.quality import log_mel_error

    return log_mel_error


def _pesq() -> Callable[[FloatArray, FloatArray, int], float]:
    from engine.training.quality import perceptual_scores

    return lambda recording, audio, rate: perceptual_scores(recording, audio, rate)[0]


def _mos() -> Callable[[FloatArray, FloatArray, int], float]:
    from engine.training.quality import predicted_mos

    return lambda recording, audio, rate: predicted_mos(audio, rate)


JUDGES: Mapping[str, JudgeKind] = {
    "mel": JudgeKind("log-mel error", -1, (), _mel),
    "pesq": JudgeKind("PESQ-WB", 1, ("pesq", "pystoi", "scipy"), _pesq),
    "mos": JudgeKind("predicted MOS", 1, ("distillmos", "xls_r_sqa", "scipy", "torch"), _mos),
}


def _table(
    kind: JudgeKind, tuned: Sequence[Tuned], recordings: float, clips: Sequence[Clip], config: Config
) -> list[str]:
    seconds = sum(len(clip.audio) for clip in clips) / config.sample_rate
    better = "higher" if kind.sign > 0 else "lower"
    lines = [
        f"{kind.label} ({better} is better), {len(clips)} clips, {seconds:.1f} s; the recordings: "
        f"{_figure(kind, recordings)}",
        f"{'steps':>5}  {'figure':>7}  {'before':>7}  noise levels; betas",
    ]
    for entry in tuned:
        noise = " ".join(f"{value:.3f}" for value in np.sqrt(1.0 - noise_levels(entry.betas)[0]))
        betas = " ".join(f"{beta:.6g}" for beta in entry.betas)
        before = "-" if entry.before is None else _figure(kind, entry.before)
        lines.append(f"{len(entry):>5}  {_figure(kind, entry.score):>7}  {before:>7}  {noise}; {betas}")
    return lines


def _figure(kind: JudgeKind, score: float) -> str:
    return f"{kind.sign * score + 0.0:.3f}" if math.isfinite(score) else "-"  # + 0.0 turns -0.0 into 0.0


def _as_json(
    arguments: argparse.Namespace,
    kind: JudgeKind,
    tuned: Sequence[Tuned],
    recordings: float,
    clips: Sequence[Clip],
    config: Config,
) -> dict[str, Any]:
    def figure(score: float | None) -> float | None:
        return kind.sign * score + 0.0 if score is not None and math.isfinite(score) else None

    return {
        "file": str(arguments.output),
        "judge": arguments.judge,
        "higher_is_better": kind.sign > 0,
        "clips": len(clips),
        "audio_seconds": sum(len(clip.audio) for clip in clips) / config.sample_rate,
        "recordings": figure(recordings),
        "schedules": [
            {
                "steps": len(entry),
                "betas": list(entry.betas),
                "figure": figure(entry.score),
                "before": figure(entry.before),
            }
            for entry in tuned
        ],
    }


_DESCRIPTION = """\
A schedule of N steps keeps N noise levels of CKPT's fast schedule and merges
the betas between them. Every set of levels vocodes the same recordings with the
same noise; of more than six levels, a beam search tries the most promising. The
judge compares the audio with the recordings. A schedule that CKPT has already
stays unless another one scores better.

The schedules are recorded in OUT.safetensors. 'engine vocode --steps N' then
uses them, and 'engine info' lists them. Use recordings that CKPT was not
trained on. A few clips order the schedules; they do not measure the voice.

With --json the last line is an object with the keys file, judge,
higher_is_better, clips, audio_seconds, recordings and schedules. Each of the
schedules has the keys steps, betas, figure and before.
"""

_EXAMPLES = """\
engine tune-steps weights.pt --clips recordings -o voice.safetensors
engine tune-steps voice --clips recordings -o v.safetensors --judge pesq
engine tune-steps weights.pt --clips pairs -o voice.safetensors --steps 2 3
"""
