"""Whole `Voice.vocode` calls in 1 to 6 steps, alternating: what fewer steps gain on this machine.

A plain run of pytest uses two frames, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.cpu import compare, few_steps
from benchmarks.cpu.bench_vocode import PEAK_SECONDS, SEED, VoiceOf, mels_for
from engine import Voice
from engine.checks.arrays import FloatArray
from engine.diffusion.schedule import step_counts
from engine.errors import UnavailableError
from engine.kernels import cpu, registry

CASE, ROUNDS = "4 s", 5
MOST = 6  # steps


@pytest.mark.parametrize("precision", registry.CPU_PRECISIONS)
@pytest.mark.benchmark(group="vocode, 1 to 6 steps: all rounds, numbers of steps and measurements of the peak")
def test_steps(benchmark: Any, voice_of: VoiceOf, results: dict[str, Any], precision: str) -> None:
    try:
        voice = voice_of(precision)
    except UnavailableError as error:
        pytest.skip(str(error))
    counts = [count for count in step_counts(voice.config) if count <= MOST]
    assert counts[-1] == MOST, "the bundled voice has no schedule of so many steps"
    mels = mels_for(CASE, benchmark.enabled)
    entries = [entry(voice, mels, count, PEAK_SECONDS if benchmark.enabled else 0.01) for count in counts]
    for first in entries:
        first.call()
    timings, audio = benchmark.pedantic(compare.run, (entries, ROUNDS if benchmark.enabled else 1))
    for samples in audio.values():
        assert samples.shape == (len(mels), mels.shape[2] * voice.hop) and np.isfinite(samples).all()
    assert len({samples.tobytes() for samples in audio.values()}) == len(counts)
    samples = len(mels) * mels.shape[2] * voice.hop
    results["few_steps"] += few_steps.rows(
        CASE,
        precision,
        {count: timings[item.name] for count, item in zip(counts, entries, strict=True)},
        compare.layer_work(voice.config, 1, samples),
        samples / voice.sample_rate,
    )


def entry(voice: Voice, mels: FloatArray, count: int, peak_seconds: float) -> compare.Entry:
    """Return the calls of one number of steps."""
    choice = voice.choice
    return compare.Entry(
        f"{choice.precision}, {count} steps",
        choice.precision,
        lambda: voice.vocode(mels, steps=count, seed=SEED),
        lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
    )
