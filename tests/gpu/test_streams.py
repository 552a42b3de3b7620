"""Streams on a simulated GPU: the bytes of `vocode`, the work of every tick, and many streams at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

import engine
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.sampling.gpu.loop import GpuLoop
from tests.gpu.devices import SimulatedDevice, install
from tests.support.networks import SMALL
from tests.support.streams import cut
from tests.support.targets import weights

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TINY = replace(SMALL, residual_channels=16, residual_layers=3, dilation_cycle=3, n_mels=16, upsample_strides=(4, 4))
CONFIGS = {
    "lmnt": TINY,
    "reflect": replace(TINY, padding="reflect"),
    "prior": replace(TINY, prior=True, mel_kind="hifigan", energy_min=0.5),
    "hop 15": replace(TINY, upsample_strides=(3, 5), n_mels=7),
    "an upsampler per layer": replace(TINY, shared_upsampler=False),
}
FEW = (1e-3, 0.3)
SEVEN = (0.000135594, 0.0010096, 0.00877838, 0.035964, 0.077557, 0.18931, 0.3)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function from a configuration to a voice on a simulated GPU."""
    install(monkeypatch, SimulatedDevice(80, checks=False))

    def loaded(config, plan_samples=None):
        path = tmp_path / "v.safetensors"
        save_checkpoint(path, Checkpoint(config, weights(config)))
        voice = engine.load(path, device="cuda")
        if plan_samples is not None:
            net = voice._loop._network
            voice._loop = GpuLoop(net, plan_bytes=plan_samples * net.bytes_per_sample())
        return voice

    return loaded


def a_mel(config, frames, seed=0):
    mel = np.random.default_rng((seed, frames)).random((config.n_mels, frames), np.float32)
    return mel * np.float32(3) - np.float32(2) if config.prior else mel


def watched(voice, monkeypatch):
    """Record the (samples of the window, kept samples) of every tick."""
    ticks, run = [], voice._loop.ticks.run

    def recorded(tick, loop):
        audio = run(tick, loop)
        ticks.append((tick.item.length, len(audio)))
        return audio

    monkeypatch.setattr(voice._loop.ticks, "run", recorded)
    return ticks


@pytest.mark.parametrize(
    "name",
    [
        "lmnt",
        "prior",
        *(pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name not in ("lmnt", "prior")),
    ],
)
def test_a_stream_is_the_whole(load, monkeypatch, name):
    voice, config = load(CONFIGS[name]), CONFIGS[name]
    mel = a_mel(config, 30)
    options = {"schedule": FEW, "seed": 2**64 - 1}
    expected = voice.vocode(mel, **options)
    ticks = watched(voice, monkeypatch)
    chunks = list(voice.stream(cut(mel, 3, 1, 0, 2), **options))
    assert b"".join(chunk.tobytes() for chunk in chunks) == expected.tobytes()
    assert len(ticks) >= 3 and sum(kept for _, kept in ticks) == len(expected)
    assert all(window <= 2 * kept for window, kept in ticks[:-1]), "more than half of the work is done twice"
    assert max(window for window, _ in ticks) < len(expected)


def test_a_draft_in_a_stream_is_that_of_the_whole(load):
    """The noise of the steps, which the device draws, and the draft begin anew in every window."""
    config = replace(TINY, n_mels=80, upsample_strides=(16, 16), mel_kind="lmnt")
    voice, mel = load(config), np.random.default_rng(0).random((80, 13), np.float32)
    options = {"schedule": FEW, "seed": 5, "draft": "rtisi-la"}
    expected = voice.vocode(mel, **options)
    assert not np.array_equal(expected, voice.vocode(mel, schedule=FEW, seed=5))
    chunks = list(voice.stream(cut(mel, 4, 1, 8), chunk=256, **options))
    assert len(chunks) > 3 and np.concatenate(chunks).tobytes() == expected.tobytes()


def test_a_chunk_shortens_the_wait(load, monkeypatch):
    """Audio follows the mel at the look-ahead and the chunk, and no sooner."""
    voice, chunk = load(TINY), 24
    mel, ahead = a_mel(TINY, 16), TINY.look_ahead(len(FEW))
    expected = voice.vocode(mel, schedule=FEW, seed=3).tobytes()
    with voice.open_stream(schedule=FEW, seed=3, chunk=chunk) as stream:
        audio = []
        for piece in cut(mel, 1):
            audio.append(stream.feed(piece))
            final = stream.frames * voice.hop - ahead + 1
            assert final - chunk < stream.samples <= max(final, 0) or final < chunk
        audio.append(stream.finish())
    assert b"".join(part.tobytes() for part in audio) == expected
    with voice.open_stream(schedule=FEW, seed=3) as patient:
        parts = [patient.feed(piece) for piece in cut(mel, 1)]
    assert 0 < sum(len(part) > 0 for part in parts) < sum(len(part) > 0 for part in audio)
    ticks = watched(voice, monkeypatch)
    parts = list(voice.stream([mel], schedule=FEW, seed=3, chunk=chunk))
    assert b"".join(part.tobytes() for part in parts) == expected
    assert {len(part) for part in parts[:-1]} == {chunk} and len(ticks) <= 2  # a whole mel is not cut to chunks


@pytest.mark.parametrize(
    ("config", "schedule"),
    [(TINY, FEW), pytest.param(replace(TINY, residual_layers=2, dilation_cycle=2), SEVEN, marks=pytest.mark.slow)],
    ids=["few steps", "seven steps"],
)
def test_windows_of_a_plan_change_no_byte(load, config, schedule):
    """A tick that is longer than a plan runs in windows and groups of steps of its own."""
    mel = a_mel(config, 26)
    expected = load(config).vocode(mel, schedule=schedule, seed=1).tobytes()
    voice = load(config, plan_samples=128)
    assert voice.vocode(mel, schedule=schedule, seed=1).tobytes() == expected
    audio = b"".join(chunk.tobytes() for chunk in voice.stream(cut(mel, 5), schedule=schedule, seed=1))
    assert audio == expected


def test_streams_side_by_side(load, monkeypatch):
    voice, batches = load(TINY), []
    run = voice._loop.sample_parts
    monkeypatch.setattr(
        voice._loop, "sample_parts", lambda items, *rest: batches.append(len(items)) or run(items, *rest)
    )
    mels = [a_mel(TINY, frames, seed) for seed, frames in enumerate((20, 3, 14))]
    expected = [voice.vocode(mel, schedule=FEW, seed=5 + i).tobytes() for i, mel in enumerate(mels)]
    audio = [b""] * 3
    for number, chunk in voice.stream_batch([cut(mel, 4) for mel in mels], schedule=FEW, seed=5):
        audio[number] += chunk.tobytes()
    assert audio == expected
    print(f"{sum(batches)} ticks in {len(batches)} batches")


def test_torch_in_torch_out(load):
    voice, mel = load(TINY), torch.from_numpy(a_mel(TINY, 12))
    chunks = list(voice.stream((mel[:, i : i + 3] for i in range(0, 12, 3)), schedule=FEW, seed=9))
    assert all(isinstance(chunk, torch.Tensor) for chunk in chunks)
    assert torch.cat(chunks).numpy().tobytes() == voice.vocode(mel, schedule=FEW, seed=9).numpy().tobytes()


def test_memory_stays_bounded(load):
    """Only the mel around the next tick is kept."""
    voice = load(TINY)
    voice._loop.sample_parts = lambda items, begins, schedule: [torch.zeros(item.length) for item in items]
    with voice.open_stream(schedule=FEW) as stream:
        sizes = []
        for _ in range(40):
            stream.feed(a_mel(TINY, 64))
            sizes.append(stream._window._mel.shape[1])
        assert stream.bytes > voice._loop.plan_bytes(1)
        assert max(sizes) == max(sizes[:4]) < 100
        stream.finish()
    assert stream.samples == 40 * 64 * voice.hop and stream.bytes == 0
