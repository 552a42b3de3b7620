"""`pytest --benchmark -m gpu`: whole calls on a GPU, in 6 steps, beside its measured peaks and what was predicted.

Times are those of CUDA events on the stream, medians over rounds; mels and audio stay on the GPU. In a duel, everybody
takes turns. A plain run, and a machine without a GPU, skips all of it.
"""

import contextlib

import numpy as np
import pytest

import engine
from benchmarks.gpu import baselines as gpu_peers
from benchmarks.gpu import report as gpu_report
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.config import LARGE
from engine.kernels import cuda
from engine.kernels.hopper import build as hopper
from engine.voice import BUNDLED
from tests.support.networks import random_network
from tests.support.tolerances import TOLERANCES, relative_error

OBSTACLE = cuda.obstacle()
HOPPER = OBSTACLE is None and cuda.isa() == f"sm_{hopper.CAPABILITY}" and hopper.obstacle() is None
DUELS = ((1, 1.0), (1, 5.0))
CELLS = ((1, 1.0), (1, 5.0), (1, 10.0), (4, 5.0), (16, 5.0))  # items, seconds of each
WARM_UP, ROUNDS = 3, 20
SPEECH = 100  # the demo begins with silence, whose SNR says little
PRECISIONS = ("fp16", "bf16", "tf32", "fp32")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]


@pytest.fixture(scope="module")
def gate():
    """Audio of every precision against the CPU's, before anything is timed: a fast wrong answer is no speed-up."""
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH : SPEECH + 100]
    expected = engine.load(device="cpu", precision="fp32").vocode(mel, seed=1)
    for precision, isa in [(precision, None) for precision in PRECISIONS] + [("fp16", hopper.ISA)] * HOPPER:
        audio = engine.load(device="cuda", precision=precision, isa=isa).vocode(mel, seed=1)
        found = gpu_report.snr(expected, audio)
        assert found >= TOLERANCES[f"gpu_audio_{precision}_db"], f"{precision}, isa {isa}: {found:.1f} dB"


@pytest.mark.benchmark(group="GPU, 6 steps")
@pytest.mark.parametrize(("items", "seconds"), CELLS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_vocode(benchmark, gpu_rows, gate, precision, items, seconds):
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    voice = engine.load(device="cuda", precision=precision)
    mel = mels(items, seconds, voice)

    def call():
        return voice.vocode(mel, seed=1)

    laps = benchmark.pedantic(lambda: gpu_report.event_seconds(call, WARM_UP, ROUNDS), rounds=1)
    audio_seconds = items * mel.shape[2] * voice.hop / voice.sample_rate
    gpu_rows.append(gpu_report.row(torch.cuda.get_device_name(), precision, items, seconds, audio_seconds, laps))


@pytest.mark.benchmark(group="GPU, 6 steps")
def test_large(benchmark, gpu_rows, tmp_path):
    """The paper's LARGE network, with random weights; its own gate goes first."""
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    save_checkpoint(tmp_path / "large.safetensors", Checkpoint(LARGE, random_network(LARGE, 1)))
    voice = engine.load(tmp_path / "large.safetensors", device="cuda", precision="fp16")
    exact = engine.load(tmp_path / "large.safetensors", device="cpu", precision="fp32")
    x = np.random.default_rng(0).standard_normal(20 * voice.hop, np.float32)
    given = x, 3.0, np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH : SPEECH + 20]
    assert relative_error(voice.predict_noise(*given), exact.predict_noise(*given)) < TOLERANCES["network_eps_fp16"]
    mel = mels(1, 5.0, voice)
    laps = benchmark.pedantic(lambda: gpu_report.event_seconds(lambda: voice.vocode(mel), WARM_UP, ROUNDS), rounds=1)
    audio_seconds = mel.shape[2] * voice.hop / voice.sample_rate
    gpu_rows.append(gpu_report.row(torch.cuda.get_device_name(), "fp16", 1, 5.0, audio_seconds, laps, "LARGE"))


@pytest.mark.benchmark(group="GPU, duel")
@pytest.mark.parametrize(("items", "seconds"), DUELS)
def test_duel(benchmark, gpu_rows, gate, items, seconds):
    """This engine in every precision, and whoever else runs LMNT's network, on the same mel and noise."""
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    checkpoint, contenders, floors = load_checkpoint(BUNDLED), [], {}
    mel = mels(items, seconds, engine.load(device="cuda"))
    task = gpu_peers.Task(checkpoint, mel.cpu().numpy(), 1, "cuda")
    for precision in PRECISIONS:
        voice = engine.load(device="cuda", precision=precision)
        name = f"{gpu_report.OWN}{precision}"
        contenders.append((name, "once", lambda voice=voice: voice.vocode(mel, seed=1)))
        floors[name] = TOLERANCES[f"gpu_audio_{precision}_db"] - 3.0  # of other frames than those of the gate
    if HOPPER:
        own = engine.load(device="cuda", precision="fp16", isa=hopper.ISA)
        contenders.append((f"{gpu_report.OWN}fp16, {hopper.ISA}", "once", lambda: own.vocode(mel, seed=1)))
        floors[contenders[-1][0]] = floors[f"{gpu_report.OWN}fp16"]
    with torch.inference_mode(), cudnn_that_searches():
        for peer in gpu_peers.PEERS:
            try:
                contenders.append((peer.name, peer.conditioner, peer.prepare(task)))
                floors[peer.name] = gpu_report.PEER_DB[peer.precision]
            except ImportError as error:
                gpu_rows.absent[peer.name] = f"{error}; pip install '.[bench]'"
        found = benchmark.pedantic(lambda: gpu_report.duel(contenders, WARM_UP, ROUNDS), rounds=1)
    audio_seconds = items * mel.shape[2] * voice.hop / voice.sample_rate
    rows = gpu_report.duel_rows(found, audio_seconds, floors)
    gpu_rows.duels.append({"items": items, "seconds": seconds, "rounds": ROUNDS, "rows": rows})


def mels(items, seconds, voice):
    """[B,M,T] on the GPU: the demo's frames, again and again."""
    import torch

    frames = round(seconds * voice.sample_rate / voice.hop)
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))
    mel = np.take(demo, np.arange(SPEECH, SPEECH + frames), axis=1, mode="wrap")
    return torch.from_numpy(mel).expand(items, -1, -1).cuda()


@contextlib.contextmanager
def cudnn_that_searches():
    """Peers get the fastest algorithm that cuDNN finds."""
    import torch

    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.benchmark(group="GPU, 6 steps")
def test_peaks(benchmark, gpu_rows):
    """A large bf16 product and a device copy: the ceilings of this card as it is today."""
    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    gpu_rows.peaks = benchmark.pedantic(gpu_report.peaks, rounds=1)
