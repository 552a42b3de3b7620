"""One measured point: so much audio in one precision, its time, its share of the peak and its memory.

``python -m engine.cli.bench.point`` reads one as JSON and writes the row: in a process of its own, what another point left
in memory is not counted.
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

from engine.bundled import ASSETS, path_of
from engine.checkpoint.load import Checkpoint, expected_shapes, load_checkpoint
from engine.checks.arrays import FloatArray
from engine.cli.bench import memory
from engine.cli.bench.figures import quantiles
from engine.config import Config
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.kernels import cpu, registry
from engine.voice import Voice

FAST = 6  # steps, by the network's own schedule
WARM_UP = 4  # frames
SPEECH = 100  # where it begins in the demo
Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """What is measured.

    Attributes:
        precision: one of `registry.CPU_PRECISIONS`.
        threads: of the call.
        frames: of each mel.
        items: in the batch.
        steps: 6 for the network's fast schedule, any other number for `even_schedule`.
        channels: C of a network with random weights; None for the model itself.
        model: a checkpoint or a bundled network; None for the voice.
    """

    precision: str
    threads: int
    frames: int
    items: int = 1
    steps: int = FAST
    channels: int | None = None
    model: str | None = None

    def work(self, config: Config) -> float:
        """Multiply-accumulates of the residual layers: 3 taps of C x 2C and one C x 2C per layer, sample and step.

        Counted one by one: Winograd's products in fp32 are fewer, so its share of the peak may pass 1.
        """
        C, samples = self.channels or config.residual_channels, self.items * self.frames * config.hop
        return float(self.steps * config.residual_layers * 8 * C**2 * samples)


def measure(point: Point, rounds: int, peak_seconds: float) -> Row:
    """The row of a point: its fields, seconds of a call, the peak beside each, the memory that the calls took.

    Raises:
        UnavailableError: this machine lacks the precision.
        CheckpointError, InputError: as `engine.load`; the network takes no mel, or noise by a prior.
    """
    checkpoint = _checkpoint(point)
    choice = registry.select("cpu", point.precision, calibrated=bool(checkpoint.config.int8_ranges))
    voice = Voice(checkpoint, choice, point.threads)
    config = voice.config
    mel = np.repeat(mel_of(config, point.frames)[None], point.items, axis=0)
    schedule = None if point.steps == FAST else even_schedule(config, point.steps)
    voice.vocode(mel[:1, :, :WARM_UP], schedule=schedule)
    before = memory.resident()
    memory.forget_most()
    seconds, peaks = [], [cpu.peak(choice.isa, point.precision, point.threads, peak_seconds)]
    for _ in range(rounds):
        begin = time.perf_counter()
        voice.vocode(mel, schedule=schedule)
        seconds.append(time.perf_counter() - begin)
        peaks.append(cpu.peak(choice.isa, point.precision, point.threads, peak_seconds))
    beside = [(a + b) / 2 for a, b in pairwise(peaks)]
    audio = mel.shape[0] * mel.shape[2] * voice.hop / voice.sample_rate
    work = point.work(config)
    return {
        **asdict(replace(point, channels=config.residual_channels)),
        "isa": choice.isa,
        "rounds": rounds,
        "audio_seconds": audio,
        "seconds": quantiles(seconds),
        "rtf": quantiles([one / audio for one in seconds]),
        "peak_gflops": quantiles([2e-9 * one for one in beside]),
        "share_of_peak": quantiles([work / one / peak for one, peak in zip(seconds, beside, strict=True)]),
        "memory_bytes": max(0, memory.most() - before),
    }


def in_fresh_process(point: Point, rounds: int, peak_seconds: float) -> Row:
    """`measure`, in a process of its own. UnavailableError with its last words where it fails."""
    request = {"point": asdict(point), "rounds": rounds, "peak_seconds": peak_seconds}
    command = [sys.executable, "-m", "engine.cli.bench.point"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}: not enough memory?"]
        raise UnavailableError(words[-1])
    row: Row = json.loads(done.stdout)
    return row


def even_schedule(config: Config, steps: int) -> tuple[float, ...]:
    """Betas of any number of steps over the whole training: -log alpha_bar grows by one factor from step to step."""
    decays = -np.cumsum(np.log1p(-np.array(config.train_schedule)))
    wanted = np.geomspace(decays[0], decays[-1], steps)
    return tuple((-np.expm1(-np.diff(wanted, prepend=0.0))).tolist())


def check(config: Config) -> None:
    """InputError where a network cannot be measured."""
    if not config.n_mels or config.prior:
        raise InputError("model: expected a network with a mel and without a prior")


def mel_of(config: Config, frames: int) -> FloatArray:
    """[M,frames] of the demo again and again; silence for another front-end than its own."""
    demo = ASSETS / "demo_mel.npy"
    own = demo.is_file() and config.mel_kind == "lmnt" and config.n_mels == 80
    mel = np.load(demo) if own else np.zeros((config.n_mels, 1), np.float32)
    return np.take(mel, np.arange(SPEECH, SPEECH + frames), axis=1, mode="wrap")


def _checkpoint(point: Point) -> Checkpoint:
    checkpoint = load_checkpoint(path_of(point.model))
    check(checkpoint.config)
    if point.channels is None:
        return checkpoint
    own, rng = checkpoint.config, np.random.default_rng(0)
    widest = own.int8_conditioner_ranges and (max(own.int8_conditioner_ranges),)
    ranges = widest * (own.residual_layers * 2 * point.channels)
    config = replace(own, residual_channels=point.channels, int8_conditioner_ranges=ranges)
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
