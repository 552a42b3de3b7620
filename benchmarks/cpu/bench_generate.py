"""Whole `Voice.generate` calls of networks of the paper's SC09 sizes: half a second in 6 steps.

A plain run of pytest uses few channels and samples, once.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cpu import compare, generation
from engine import Voice
from engine.config import Config
from engine.errors import UnavailableError
from engine.kernels import cpu

CLIPS, SAMPLES, ROUNDS = 1, 8000, 3
FEW_CHANNELS, FEW_SAMPLES = 16, 40
PEAK_SECONDS = 0.2


@pytest.mark.parametrize("name", generation.NETWORKS)
@pytest.mark.benchmark(group="generate, 6 steps")
def test_generate(benchmark: Any, results: dict[str, Any], name: str) -> None:
    """Time all precisions alternately, after the accuracy gate."""
    timed = benchmark.enabled
    config = generation.network(name, None if timed else FEW_CHANNELS)
    threads, samples = results["setting"]["threads"] if timed else 1, SAMPLES if timed else FEW_SAMPLES
    voices = {}
    for precision in (compare.BF16, compare.FP32):
        try:
            voices[precision] = generation.voice(config, precision, threads)
        except UnavailableError:
            continue
    errors = generation.gate(voices, config, generation.GATED if timed else FEW_SAMPLES)
    entries = [entry(config, voice, samples, PEAK_SECONDS if timed else 0.01) for voice in voices.values()]
    timings, audio = benchmark.pedantic(compare.run, (entries, ROUNDS if timed else 1))
    work = compare.layer_work(config, generation.STEPS, CLIPS * samples)
    seconds = CLIPS * samples / config.sample_rate
    for precision in voices:
        assert audio[precision].shape == (CLIPS, samples) and audio[precision].std() > 0
        calls = list(timings[precision].values())
        results["generations"].append(generation.row(name, precision, calls, work, seconds, errors[precision]))


def test_the_accuracy_gate_rejects_wrong_audio() -> None:
    config = generation.network("SC09, classes", FEW_CHANNELS)
    voices: dict[str, Any] = {compare.FP32: generation.voice(config, compare.FP32, 1)}
    generation.gate(voices, config, FEW_SAMPLES)
    right = voices[compare.FP32].generate
    for wrong in (
        lambda n, label, **options: right(n=n, label=label, **options) * 1.001,
        lambda n, label, **options: right(n=n, label=label[::-1], **options),
    ):
        voices[compare.FP32].generate = wrong
        with pytest.raises(AssertionError, match="fp32 differs from PyTorch"):
            generation.gate(voices, config, FEW_SAMPLES)


def entry(config: Config, voice: Voice, samples: int, peak_seconds: float) -> compare.Entry:
    """Return the calls of one voice."""
    labels, choice = generation.labels_of(config, CLIPS), voice.choice
    return compare.Entry(
        choice.precision,
        choice.precision,
        lambda: voice.generate(n=CLIPS, label=labels, samples=samples, steps=generation.STEPS, seed=generation.SEED),
        lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
    )
