"""Whole `Voice.generate` calls of networks of the paper's SC09 sizes, half a second in 6 steps.

A plain run uses few channels and samples, once.
"""

import pytest

from benchmarks import duel, generating
from engine.errors import UnavailableError
from engine.kernels import cpu

CLIPS, SAMPLES, ROUNDS = 1, 8000, 3
FEW_CHANNELS, FEW_SAMPLES = 16, 40


@pytest.mark.parametrize("name", generating.NETWORKS)
@pytest.mark.benchmark(group="generate, 6 steps")
def test_generate(benchmark, kept, name):
    """Precisions take turns; the accuracy gate goes first."""
    earnest = benchmark.enabled
    config = generating.network(name, None if earnest else FEW_CHANNELS)
    threads, samples = kept["setting"]["threads"] if earnest else 1, SAMPLES if earnest else FEW_SAMPLES
    voices = {}
    for precision in (duel.BF16, duel.FP32):
        try:
            voices[precision] = generating.voice(config, precision, threads)
        except UnavailableError:
            continue
    errors = generating.gate(voices, config, generating.GATED if earnest else FEW_SAMPLES)
    contenders = [contender(config, one, samples, 0.2 if earnest else 0.01) for one in voices.values()]
    laps, audio = benchmark.pedantic(duel.run, (contenders, ROUNDS if earnest else 1))
    work, seconds = duel.layer_work(config, generating.STEPS, CLIPS * samples), CLIPS * samples / config.sample_rate
    for precision in voices:
        assert audio[precision].shape == (CLIPS, samples) and audio[precision].std() > 0
        own = list(laps[precision].values())
        kept["generations"].append(generating.row(name, precision, own, work, seconds, errors[precision]))


def test_the_gate_turns_red():
    config = generating.network("SC09, classes", FEW_CHANNELS)
    voices = {duel.FP32: generating.voice(config, duel.FP32, 1)}
    generating.gate(voices, config, FEW_SAMPLES)
    right = voices[duel.FP32].generate
    for wrong in (
        lambda n, labels, **options: right(n, labels, **options) * 1.001,
        lambda n, labels, **options: right(n, labels[::-1], **options),
    ):
        voices[duel.FP32].generate = wrong
        with pytest.raises(AssertionError, match="fp32 differs from PyTorch"):
            generating.gate(voices, config, FEW_SAMPLES)


def contender(config, voice, samples, peak_seconds):
    labels, choice = generating.labels_of(config, CLIPS), voice.choice
    return duel.Contender(
        choice.precision,
        choice.precision,
        lambda: voice.generate(CLIPS, labels, samples=samples, steps=generating.STEPS, seed=generating.SEED),
        lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
    )
