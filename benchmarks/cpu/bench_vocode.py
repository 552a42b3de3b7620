"""Whole `Voice.vocode` calls in 6 steps, alone and compared with baselines.

A plain run of pytest uses a few frames, once, and PyTorch as the only baseline. PyTorch has one thread there: beside a
busy neighbor, the barriers of several threads can take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from benchmarks.cpu import baselines, compare
from engine import Voice
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.cli.bench.figures import quantiles
from engine.errors import UnavailableError
from engine.kernels import cpu, registry

# Items and frames of each, when timed and in a plain run.
CASES = {"4 s": ((1, 344), (1, 2)), "0.5 s": ((1, 43), (1, 1)), "8 x 0.5 s": ((8, 43), (2, 1))}
SEED, ROUNDS = 1, 7
SPEECH = 100  # frame; the demo begins with silence, whose SNR says little
PEAK_SECONDS = 0.2
VoiceOf = Callable[[str], Voice]


def mels_for(case: str, timed: bool) -> FloatArray:
    """Return the mels [B,M,T] of a case; short ones for a plain run."""
    items, frames = CASES[case][0 if timed else 1]
    demo = BUNDLED.with_name("demo_mel.npy")
    mel = np.load(demo) if demo.is_file() else np.random.default_rng(0).random((80, 324), dtype=np.float32)
    starts = [SPEECH + 20 * i for i in range(items)]
    return np.stack([np.take(mel, np.arange(first, first + frames), axis=1, mode="wrap") for first in starts])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", registry.CPU_PRECISIONS)
@pytest.mark.benchmark(group="vocode, 6 steps")
def test_vocode(benchmark: Any, voice_of: VoiceOf, results: dict[str, Any], precision: str, case: str) -> None:
    try:
        voice = voice_of(precision)
    except UnavailableError as error:
        pytest.skip(str(error))
    mels = mels_for(case, benchmark.enabled)
    audio = benchmark(voice.vocode, mels, seed=SEED)
    assert audio.shape == (len(mels), mels.shape[2] * voice.hop)
    assert np.isfinite(audio).all() and audio.std() > 0
    record(benchmark, results, case, precision, audio.size / voice.sample_rate)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.benchmark(group="comparison: all rounds, entries and measurements of the peak")
def test_comparison(
    benchmark: Any,
    checkpoint: Checkpoint,
    exported: baselines.Exported,
    voice_of: VoiceOf,
    results: dict[str, Any],
    case: str,
) -> None:
    """Compare the precisions of this engine with the baselines, after the accuracy gate."""
    timed = benchmark.enabled
    threads = voice_of(compare.FP32).threads if timed else 1
    task = baselines.Task(checkpoint, mels_for(case, timed), SEED, threads)
    engines = engine_entries(voice_of, task, PEAK_SECONDS if timed else 0.01)
    # A baseline takes up to half a minute for 4 s of audio, so it runs in every third round only.
    others, audio, skipped = baseline_entries(engines, exported, task, 3 if case != "0.5 s" else 1, timed)
    entries = [*engines, *others]
    compare.gate(entries, {**{entry.name: entry.call() for entry in engines}, **audio})
    timings, audio = benchmark.pedantic(compare.run, (entries, ROUNDS if timed else 1))
    accuracy = compare.gate(entries, audio)  # the timed audio must be right, too
    config, samples = checkpoint.config, task.noise[0].size
    work = compare.layer_work(config, len(task), samples)
    rows = compare.rows(entries, timings, accuracy, work, samples / config.sample_rate)
    results["duels"].append({"case": case, "rows": rows, "skipped": skipped})


def engine_entries(voice_of: VoiceOf, task: baselines.Task, peak_seconds: float) -> list[compare.Entry]:
    """Return this engine in every precision that this machine has."""

    def entry(voice: Voice) -> compare.Entry:
        choice = voice.choice
        return compare.Entry(
            choice.precision,
            choice.precision,
            lambda: voice.vocode(task.mels, seed=SEED),
            lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
        )

    entries = []
    for precision in registry.CPU_PRECISIONS:
        with suppress(UnavailableError):
            entries.append(entry(voice_of(precision)))
    return entries


def baseline_entries(
    engines: list[compare.Entry], exported: baselines.Exported, task: baselines.Task, every: int, timed: bool
) -> tuple[list[compare.Entry], dict[str, FloatArray], dict[str, str]]:
    """Return the baselines, the audio of their first calls, and the reasons of those that cannot run.

    Args:
        engines: entries of this engine.
        exported: the network.
        task: the audio to compute.
        every: see `compare.Entry`.
        timed: False for PyTorch alone.
    """
    peaks = {entry.precision: entry.peak for entry in engines}
    entries, audio, skipped = [], {}, {}
    for baseline in baselines.BASELINES if timed else baselines.BASELINES[:1]:
        if baseline.precision not in peaks:  # an emulated precision takes minutes and says nothing
            skipped[baseline.name] = f"there is no {baseline.precision} here, see 'engine doctor'"
            continue
        prepared = baselines.prepare(baseline, exported, task)
        if isinstance(prepared, str):
            skipped[baseline.name] = prepared
            continue
        call, audio[baseline.name] = prepared
        peak = peaks[baseline.precision]
        entries.append(compare.Entry(baseline.name, baseline.precision, call, peak, every, True, baseline.conditioner))
    return entries, audio, skipped


def record(benchmark: Any, results: dict[str, Any], case: str, precision: str, audio_seconds: float) -> None:
    """Add the row of a single call to the results."""
    benchmark.extra_info["audio_seconds"] = audio_seconds
    if benchmark.enabled:
        seconds = benchmark.stats["data"]
        results["calls"].append(
            {
                "case": case,
                "contender": precision,
                "rounds": len(seconds),
                "audio_seconds": audio_seconds * len(seconds),
                "work_seconds": sum(seconds),
                "seconds": quantiles(seconds),
            }
        )
