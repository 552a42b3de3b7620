"""The peers of a GPU on a CPU: all of them but the graph around them."""

import pytest
import torch

from benchmarks.gpu import baselines as gpu_peers
from engine.audio.metrics import snr
from engine.checkpoint.load import Checkpoint
from engine.kernels import registry
from engine.voice import Voice
from tests.support.networks import SMALL, random_network


@pytest.mark.parametrize("peer", gpu_peers.PEERS[:4], ids=lambda peer: peer.name)
def test_the_same_audio(peer):
    checkpoint = Checkpoint(SMALL, random_network(SMALL, 1))
    mels = torch.rand(2, SMALL.n_mels, 3, generator=torch.Generator().manual_seed(0)).numpy()
    expected = Voice(checkpoint, registry.select("cpu", "fp32"), 1).vocode(mels, seed=5)
    try:
        call = peer.prepare(gpu_peers.Task(checkpoint, mels, 5, "cpu"))
    except ImportError as error:
        pytest.skip(str(error))
    with torch.inference_mode():
        found = call()
    assert snr(expected, found.numpy()) > (90.0 if peer.precision == "tf32" else 35.0)
