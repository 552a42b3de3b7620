"""`pytest --benchmark -m gpu`: whole calls on a GPU in 6 steps, beside its measured peaks and the prediction.

Times are those of CUDA events on the stream, medians over rounds; mels and audio stay on the GPU. In a comparison the
engines alternate. A plain run of pytest, and a machine without a GPU, skips all of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from benchmarks.gpu import baselines, timing
from benchmarks.gpu.cases import PRECISIONS, SPEECH, cudnn_search, engine_entries, gpu_isas, mels
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.config import LARGE
from engine.kernels import device as gpu_device
from tests.support.networks import random_network
from tests.support.tolerances import TOLERANCES, relative_error

OBSTACLE = gpu_device.obstacle()
COMPARED = ((1, 1.0), (1, 5.0))  # items, seconds of each
CELLS = ((1, 1.0), (1, 5.0), (1, 10.0), (4, 5.0), (16, 5.0))
WARM_UP, ROUNDS = 3, 20

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]


@pytest.fixture(scope="module")
def gate() -> None:
    """Check the audio of every precision against the CPU's before anything is timed."""
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH : SPEECH + 100]
    expected = engine.load(device="cpu", precision="fp32").vocode(mel, seed=1)
    for precision, isa in [(precision, None) for precision in PRECISIONS] + [("fp16", isa) for isa in gpu_isas()]:
        audio = engine.load(device="cuda", precision=precision, isa=isa).vocode(mel, seed=1)
        db = snr(expected, audio)
        assert db >= TOLERANCES[f"gpu_audio_{precision}_db"], f"{precision}, isa {isa}: {db:.1f} dB"


@pytest.mark.benchmark(group="GPU, 6 steps")
@pytest.mark.parametrize(("items", "seconds"), CELLS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.usefixtures("gate")
def test_vocode(benchmark: Any, gpu_rows: timing.Rows, precision: str, items: int, seconds: float) -> None:
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    voice = engine.load(device="cuda", precision=precision)
    mel = mels(items, seconds, voice)
    times = benchmark.pedantic(
        lambda: timing.event_seconds(lambda: voice.vocode(mel, seed=1), WARM_UP, ROUNDS), rounds=1
    )
    audio_seconds = items * mel.shape[2] * voice.hop / voice.sample_rate
    gpu_rows.append(timing.row(torch.cuda.get_device_name(), precision, items, seconds, audio_seconds, times))


@pytest.mark.benchmark(group="GPU, 6 steps")
def test_large(benchmark: Any, gpu_rows: timing.Rows, tmp_path: Path) -> None:
    """Time the paper's LARGE network with random weights, after an accuracy gate of its own."""
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    save_checkpoint(tmp_path / "large.safetensors", Checkpoint(LARGE, random_network(LARGE, 1)))
    voice = engine.load(tmp_path / "large.safetensors", device="cuda", precision="fp16")
    exact = engine.load(tmp_path / "large.safetensors", device="cpu", precision="fp32")
    x = np.random.default_rng(0).standard_normal(20 * voice.hop, np.float32)
    part = np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH : SPEECH + 20]
    eps, expected = (network.predict_noise(x, 3.0, mel=part) for network in (voice, exact))
    assert relative_error(eps, expected) < TOLERANCES["network_eps_fp16"]
    mel = mels(1, 5.0, voice)
    times = benchmark.pedantic(lambda: timing.event_seconds(lambda: voice.vocode(mel), WARM_UP, ROUNDS), rounds=1)
    audio_seconds = mel.shape[2] * voice.hop / voice.sample_rate
    gpu_rows.append(timing.row(torch.cuda.get_device_name(), "fp16", 1, 5.0, audio_seconds, times, "LARGE"))


@pytest.mark.benchmark(group="GPU, comparison")
@pytest.mark.parametrize(("items", "seconds"), COMPARED)
@pytest.mark.usefixtures("gate")
def test_comparison(benchmark: Any, gpu_rows: timing.Rows, items: int, seconds: float) -> None:
    """Compare every precision of this engine with the baselines on the same mel and noise."""
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    voice = engine.load(device="cuda")
    mel = mels(items, seconds, voice)
    entries, floors = engine_entries(mel, PRECISIONS)
    task = baselines.Task(load_checkpoint(BUNDLED), mel.cpu().numpy(), 1, "cuda")
    with torch.inference_mode(), cudnn_search():
        for baseline in baselines.BASELINES:
            try:
                entries.append(timing.Entry(baseline.name, baseline.conditioner, baseline.build(task)))
                floors[baseline.name] = timing.BASELINE_SNR[baseline.precision]
            except ImportError as error:
                gpu_rows.absent[baseline.name] = f"{error}; pip install '.[bench]'"
        timed = benchmark.pedantic(lambda: timing.compare(entries, WARM_UP, ROUNDS), rounds=1)
    audio_seconds = items * mel.shape[2] * voice.hop / voice.sample_rate
    rows = timing.comparison_rows(timed, audio_seconds, floors)
    gpu_rows.comparisons.append({"items": items, "seconds": seconds, "rounds": ROUNDS, "rows": rows})


@pytest.mark.benchmark(group="GPU, 6 steps")
def test_peaks(benchmark: Any, gpu_rows: timing.Rows) -> None:
    """Measure the card's peaks: a large bf16 product and a device copy."""
    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    gpu_rows.peaks = benchmark.pedantic(timing.peaks, rounds=1)
