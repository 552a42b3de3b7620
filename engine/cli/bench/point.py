"""One measured point: its time, its share of the processor's peak and its memory.

``python -m engine.cli.bench.point`` reads a point as JSON and writes its row. In a process of its own, the memory of
other points is not counted.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from engine.checkpoint.bundled import ASSETS, path_of
from engine.checkpoint.load import Checkpoint, expected_shapes, load_checkpoint
from engine.checks.arrays import FloatArray
from engine.cli.bench import memory
from engine.cli.bench.figures import quantiles
from engine.config import Config
from engine.diffusion.schedule import step_counts
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.kernels import cpu, registry
from engine.voice import Voice

WARM_UP = 4  # frames
SPEECH = 100  # the frame of the demo mel at which speech begins
Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """The parameters of a measured vocode call.

    Attributes:
        precision: one of `registry.CPU_PRECISIONS`.
        threads: the number of threads.
        frames: the frames of each mel.
        items: the batch size.
        steps: the number of denoising steps (`sampling_options`).
        channels: C of a network with random weights; None for the model itself.
        model: a checkpoint or a bundled network; None for the voice.
        isa: the instruction set; None for the best of this processor.
    """

    precision: str
    threads: int
    frames: int
    items: int = 1
    steps: int = 6
    channels: int | None = None
    model: str | None = None
    isa: str | None = None

    def work(self, config: Config) -> float:
        """Return the multiply-accumulates of the residual layers as a direct convolution.

        They are 3 taps of C x 2C and one C x 2C per layer, sample and step. Winograd computes fewer products, so its
        share of the peak may exceed 1.

        Args:
            config: the hyper-parameters of the model.
        """
        C, samples = self.channels or config.residual_channels, self.items * self.frames * config.hop
        return float(self.steps * config.residual_layers * 8 * C**2 * samples)


def measure(point: Point, rounds: int, peak_seconds: float) -> Row:
    """Measure a point.

    Args:
        point: the parameters of the call.
        rounds: the number of timed calls.
        peak_seconds: the duration of each measurement of the peak.

    Returns:
        The row: the fields of the point, the seconds of a call, the peak measured next to each call, the memory of the
        calls.

    Raises:
        UnavailableError: this machine lacks the precision or the instruction set.
        CheckpointError: the model cannot be loaded.
        InputError: the network takes no mel, or has a prior.
    """
    checkpoint = _checkpoint(point)
    choice = registry.select("cpu", point.precision, point.isa, calibrated=bool(checkpoint.config.int8_ranges))
    voice = Voice(checkpoint, choice, point.threads)
    config = voice.config
    mel = np.repeat(mel_of(config, point.frames)[None], point.items, axis=0)
    options = sampling_options(config, point.steps)
    voice.vocode(mel[:1, :, :WARM_UP], **options)
    before = memory.resident()
    memory.reset_peak()
    seconds, peaks = [], [cpu.peak(choice.isa, point.precision, point.threads, peak_seconds)]
    for _ in range(rounds):
        begin = time.perf_counter()
        voice.vocode(mel, **options)
        seconds.append(time.perf_counter() - begin)
        peaks.append(cpu.peak(choice.isa, point.precision, point.threads, peak_seconds))
    adjacent_peaks = [(a + b) / 2 for a, b in pairwise(peaks)]
    audio = mel.shape[0] * mel.shape[2] * voice.hop / voice.sample_rate
    work = point.work(config)
    return {
        **asdict(replace(point, channels=config.residual_channels)),
        "isa": choice.isa,
        "rounds": rounds,
        "audio_seconds": audio,
        "seconds": quantiles(seconds),
        "rtf": quantiles([duration / audio for duration in seconds]),
        "peak_gflops": quantiles([2e-9 * peak for peak in adjacent_peaks]),
        "share_of_peak": quantiles(
            [work / duration / peak for duration, peak in zip(seconds, adjacent_peaks, strict=True)]
        ),
        "memory_bytes": max(0, memory.peak() - before),
    }


def in_fresh_process(point: Point, rounds: int, peak_seconds: float) -> Row:
    """Measure a point in a process of its own.

    Args:
        point: see `measure`.
        rounds: see `measure`.
        peak_seconds: see `measure`.

    Raises:
        UnavailableError: the process failed; the message is the last line of its stderr.
    """
    request = {"point": asdict(point), "rounds": rounds, "peak_seconds": peak_seconds}
    command = [sys.executable, "-m", "engine.cli.bench.point"]
    process = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"ended by signal {-process.returncode}: not enough memory?"]
        raise UnavailableError(lines[-1])
    row: Row = json.loads(process.stdout)
    return row


def sampling_options(config: Config, steps: int) -> dict[str, Any]:
    """Return the arguments of `Voice.vocode` that select any number of steps.

    Args:
        config: the hyper-parameters of the network.
        steps: a number that the network accepts, or else the length of an `even_schedule`.
    """
    return {"steps": steps} if steps in step_counts(config) else {"schedule": even_schedule(config, steps)}


def even_schedule(config: Config, steps: int) -> tuple[float, ...]:
    """Return betas of any number of steps that ascend and cover the training schedule.

    -log(1 - beta) grows by the same factor from step to step.

    Args:
        config: the hyper-parameters of the network.
        steps: the number of betas.
    """
    decays = -np.cumsum(np.log1p(-np.array(config.train_schedule)))
    low, high = 1.0, (decays[-1] / decays[0]) ** (1 / max(steps - 1, 1))  # of the factor
    for _ in range(100):
        factor = (low + high) / 2
        low, high = (factor, high) if np.sum(factor ** np.arange(steps)) * decays[0] < decays[-1] else (low, factor)
    return tuple((-np.expm1(-decays[0] * low ** np.arange(steps))).tolist())


def check(config: Config) -> None:
    """Check that a network can be measured.

    Args:
        config: the hyper-parameters of the network.

    Raises:
        InputError: the network takes no mel, or has a prior.
    """
    if not config.n_mels:
        raise InputError("model: expected a network with a mel, got one without")
    if config.prior:
        raise InputError("model: expected a network without a prior, got PriorGrad's")


def mel_of(config: Config, frames: int) -> FloatArray:
    """Return the speech of the demo mel, repeated; zeros for a network of another kind of mel.

    Args:
        config: the hyper-parameters of the network.
        frames: the number of frames.

    Returns:
        float32 [M, frames].
    """
    demo = ASSETS / "demo_mel.npy"
    fits = demo.is_file() and config.mel_kind == "lmnt" and config.n_mels == 80
    mel = np.load(demo) if fits else np.zeros((config.n_mels, 1), np.float32)
    return np.take(mel, np.arange(SPEECH, SPEECH + frames), axis=1, mode="wrap")


def _checkpoint(point: Point) -> Checkpoint:
    checkpoint = load_checkpoint(path_of(point.model))
    check(checkpoint.config)
    if point.channels is None:
        return checkpoint
    original, rng = checkpoint.config, np.random.default_rng(0)
    widest = original.int8_conditioner_ranges and (max(original.int8_conditioner_ranges),)
    ranges = widest * (original.residual_layers * 2 * point.channels)
    config = replace(original, residual_channels=point.channels, int8_conditioner_ranges=ranges)

    # The time does not depend on the weights, as long as the activations stay near 1.
    def random(shape: tuple[int, ...]) -> FloatArray:
        scale = 0.1 if len(shape) == 1 else math.prod(shape[1:]) ** -0.5
        return rng.standard_normal(shape, np.float32) * np.float32(scale)

    return Checkpoint(config, {key: random(shape) for key, shape in expected_shapes(config).items()})


if __name__ == "__main__":
    _request = json.load(sys.stdin)
    try:
        print(json.dumps(measure(Point(**_request["point"]), _request["rounds"], _request["peak_seconds"])))
    except (CheckpointError, InputError, UnavailableError, MemoryError) as error:
        sys.exit(str(error) or "not enough memory")
