"""Whole `Voice.vocode` calls in 6 steps, alone and in turns with PyTorch. A plain run uses a few frames, once.

There PyTorch has one thread: its barriers can take seconds beside a busy neighbour.
"""

from contextlib import suppress

import duel
import numpy as np
import pytest
from report import quantiles

from engine.errors import UnavailableError
from engine.kernels import cpu
from engine.voice import BUNDLED

# Items, frames of each, frames in a plain run.
CASES = {"4 s": (1, 344, 4), "0.5 s": (1, 43, 2), "8 x 0.5 s": (8, 43, 1)}
SEED, ROUNDS = 1, 7
SPEECH = 100  # the demo begins with silence, whose SNR says little


def mels_for(case, earnest):
    items, frames, few = CASES[case]
    frames = frames if earnest else few
    demo = BUNDLED.with_name("demo_mel.npy")
    mel = np.load(demo) if demo.is_file() else np.random.default_rng(0).random((80, 324), dtype=np.float32)
    starts = [SPEECH + 20 * i for i in range(items)]
    return np.stack([np.take(mel, np.arange(first, first + frames), axis=1, mode="wrap") for first in starts])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", [duel.BF16, duel.FP32])
@pytest.mark.benchmark(group="vocode, 6 steps")
def test_vocode(benchmark, voice_of, kept, precision, case):
    try:
        voice = voice_of(precision)
    except UnavailableError as error:
        pytest.skip(str(error))
    mels = mels_for(case, benchmark.enabled)
    audio = benchmark(voice.vocode, mels, seed=SEED)
    assert audio.shape == (len(mels), mels.shape[2] * voice.hop)
    assert np.isfinite(audio).all() and audio.std() > 0
    keep(benchmark, kept, case, precision, audio.size / voice.sample_rate)


@pytest.mark.benchmark(group="vocode, 6 steps")
def test_eager(benchmark, checkpoint, voice_of, kept):
    """Only the short case: the longer ones take half a minute each and are timed in the duel."""
    case = "0.5 s"
    mels = mels_for(case, benchmark.enabled)
    eager = duel.Eager(checkpoint, voice_of("fp32").threads if benchmark.enabled else 1)
    audio = benchmark.pedantic(eager.prepare(mels, SEED), rounds=5, warmup_rounds=1)
    keep(benchmark, kept, case, duel.EAGER, audio.size / checkpoint.config.sample_rate)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.benchmark(group="one duel: all rounds, contenders and measurements of the peak")
def test_duel(benchmark, checkpoint, voice_of, kept, case):
    mels = mels_for(case, benchmark.enabled)
    # PyTorch takes half a minute for 4 s of audio, so it sits out most of those rounds.
    patience = 1 if case == "0.5 s" else 3
    eager = duel.Eager(checkpoint, voice_of(duel.FP32).threads if benchmark.enabled else 1)
    contenders = contestants(eager, voice_of, mels, 0.2 if benchmark.enabled else 0.01, patience)
    starters = contestants(eager, voice_of, mels[:1, :, :40])
    duel.gate({one.name: one.call() for one in starters})  # also wakes everybody up
    laps, audio = benchmark.pedantic(duel.run, (contenders, ROUNDS if benchmark.enabled else 1))
    figures = duel.gate(audio)  # what was timed must be right, too
    config, samples = checkpoint.config, mels.shape[0] * mels.shape[2] * checkpoint.config.hop
    work = duel.layer_work(config, 6, samples)
    rows = duel.rows(laps, work, samples / config.sample_rate)
    kept["duels"].append({"case": case, "gate": figures, "rows": rows})


@pytest.mark.parametrize(
    ("name", "error", "message"), [(duel.FP32, 4e-4, "fp32 differs"), (duel.BF16, 0.05, "bf16 has an SNR")]
)
def test_gate_turns_red(name, error, message):
    right = np.random.default_rng(0).standard_normal((1, 1000), dtype=np.float32)
    audio = {duel.EAGER: right, duel.FP32: right, duel.BF16: right}
    duel.gate(audio)
    for wrong in (right * (1 + error), right * np.nan):
        with pytest.raises(AssertionError, match=message):
            duel.gate({**audio, name: wrong})


def contestants(eager, voice_of, mels, peak_seconds=0.2, patience=1):
    def contender(voice):
        choice = voice.choice
        return duel.Contender(
            choice.precision,
            lambda: voice.vocode(mels, seed=SEED),
            lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
        )

    found = [contender(voice_of(duel.FP32))]
    with suppress(UnavailableError):
        found.insert(0, contender(voice_of(duel.BF16)))
    return [*found, duel.Contender(duel.EAGER, eager.prepare(mels, SEED), found[-1].peak, patience)]


def keep(benchmark, kept, case, contender, audio_seconds):
    benchmark.extra_info["audio_seconds"] = audio_seconds
    if benchmark.enabled:
        seconds = benchmark.stats["data"]
        kept["calls"].append(
            {
                "case": case,
                "contender": contender,
                "rounds": len(seconds),
                "audio_seconds": audio_seconds * len(seconds),
                "work_seconds": sum(seconds),
                "seconds": quantiles(seconds),
            }
        )
