"""Whole `Voice.vocode` calls in 6 steps, alone and in turns with peers. A plain run uses a few frames, once.

There PyTorch, the only peer then, has one thread: its barriers can take seconds beside a busy neighbour.
"""

from contextlib import suppress

import numpy as np
import pytest

from benchmarks import duel, peers
from engine.cli.bench.figures import quantiles
from engine.errors import UnavailableError
from engine.kernels import cpu, registry
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
@pytest.mark.parametrize("precision", registry.CPU_PRECISIONS)
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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.benchmark(group="one duel: all rounds, contenders and measurements of the peak")
def test_duel(benchmark, checkpoint, exported, voice_of, kept, case):
    """The precisions of this engine and its peers; the accuracy gate goes first."""
    earnest = benchmark.enabled
    task = peers.Task(checkpoint, mels_for(case, earnest), SEED, voice_of(duel.FP32).threads if earnest else 1)
    own = contestants(voice_of, task, 0.2 if earnest else 0.01)
    # A peer takes up to half a minute for 4 s of audio, so they sit out most of those rounds.
    others, audio, skipped = rivals(own, exported, task, 3 if case != "0.5 s" else 1, earnest)
    contenders = [*own, *others]
    duel.gate(contenders, {**{one.name: one.call() for one in own}, **audio})
    laps, audio = benchmark.pedantic(duel.run, (contenders, ROUNDS if earnest else 1))
    gated = duel.gate(contenders, audio)  # what was timed must be right, too
    config, samples = checkpoint.config, task.noise[0].size
    work = duel.layer_work(config, len(task), samples)
    rows = duel.rows(contenders, laps, gated, work, samples / config.sample_rate)
    kept["duels"].append({"case": case, "rows": rows, "skipped": skipped})


def contestants(voice_of, task, peak_seconds):
    """This engine in every precision that this machine has."""

    def contender(voice):
        choice = voice.choice
        return duel.Contender(
            choice.precision,
            choice.precision,
            lambda: voice.vocode(task.mels, seed=SEED),
            lambda: cpu.peak(choice.isa, choice.precision, voice.threads, peak_seconds),
        )

    found = []
    for precision in registry.CPU_PRECISIONS:
        with suppress(UnavailableError):
            found.append(contender(voice_of(precision)))
    return found


def rivals(own, exported, task, patience, earnest):
    """The peers, what they made in their first call, and who cannot take part, and why."""
    peaks = {one.precision: one.peak for one in own}
    found, audio, skipped = [], {}, {}
    for peer in peers.PEERS if earnest else peers.PEERS[:1]:
        if peer.precision not in peaks:  # what a processor has to emulate takes minutes and says nothing
            skipped[peer.name] = f"there is no {peer.precision} here, see 'engine doctor'"
            continue
        made = peers.prepared(peer, exported, task)
        if isinstance(made, str):
            skipped[peer.name] = made
            continue
        call, audio[peer.name] = made
        peak = peaks[peer.precision]
        found.append(duel.Contender(peer.name, peer.precision, call, peak, patience, True, peer.conditioner))
    return found, audio, skipped


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
