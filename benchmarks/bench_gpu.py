"""`pytest --benchmark -m gpu`: whole calls on a GPU, in 6 steps, beside its measured peaks and what was predicted.

Times are those of CUDA events on the stream, medians over rounds; mels and audio stay on the GPU. A plain run, and a
machine without a GPU, skips all of it.
"""

import gpu_report
import numpy as np
import pytest
from tolerances import TOLERANCES

import engine
from engine.kernels import cuda
from engine.voice import BUNDLED

OBSTACLE = cuda.obstacle()
CELLS = ((1, 1.0), (1, 5.0), (1, 10.0), (4, 5.0), (16, 5.0))  # items, seconds of each
WARM_UP, ROUNDS = 3, 20
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]


@pytest.fixture(scope="module")
def gate():
    """Audio of every precision against the CPU's, before anything is timed: a fast wrong answer is no speed-up."""
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))[:, 100:200]
    expected = engine.load(device="cpu", precision="fp32").vocode(mel, seed=1)
    found = {}
    for precision in PRECISIONS:
        audio = engine.load(device="cuda", precision=precision).vocode(mel, seed=1)
        found[precision] = gpu_report.snr(expected, audio)
        assert found[precision] >= TOLERANCES[f"gpu_audio_{precision}_db"], f"{precision}: {found[precision]:.1f} dB"
    return found


@pytest.mark.benchmark(group="GPU, 6 steps")
@pytest.mark.parametrize(("items", "seconds"), CELLS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_vocode(benchmark, gpu_rows, gate, precision, items, seconds):
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    voice = engine.load(device="cuda", precision=precision)
    frames = round(seconds * voice.sample_rate / voice.hop)
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))
    mel = torch.from_numpy(np.take(demo, np.arange(frames), axis=1, mode="wrap")).expand(items, -1, -1).cuda()

    def call():
        return voice.vocode(mel, seed=1)

    laps = benchmark.pedantic(lambda: gpu_report.event_seconds(call, WARM_UP, ROUNDS), rounds=1)
    audio_seconds = items * frames * voice.hop / voice.sample_rate
    gpu_rows.append(gpu_report.row(torch.cuda.get_device_name(), precision, items, seconds, audio_seconds, laps))


@pytest.mark.benchmark(group="GPU, 6 steps")
def test_peaks(benchmark, gpu_rows):
    """A large bf16 product and a device copy: the ceilings of this card as it is today."""
    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    gpu_rows.peaks = benchmark.pedantic(gpu_report.peaks, rounds=1)
