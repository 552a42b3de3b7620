"""The GPU's baselines on a CPU: all but the CUDA graph around them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import baselines
from engine.audio.metrics import snr
from engine.checkpoint.load import Checkpoint
from engine.kernels import registry
from engine.voice import Voice
from tests.support.networks import SMALL, random_network


@pytest.mark.parametrize("baseline", baselines.BASELINES[:4], ids=lambda baseline: baseline.name)
def test_the_same_audio(baseline: baselines.Baseline) -> None:
    checkpoint = Checkpoint(SMALL, random_network(SMALL, 1))
    mels = torch.rand(2, SMALL.n_mels, 3, generator=torch.Generator().manual_seed(0)).numpy()
    expected = Voice(checkpoint, registry.select("cpu", "fp32"), 1).vocode(mels, seed=5)
    try:
        call = baseline.build(baselines.Task(checkpoint, mels, 5, "cpu"))
    except ImportError as error:
        pytest.skip(str(error))
    with torch.inference_mode():
        audio = call()
    assert snr(expected, audio.numpy()) > (90.0 if baseline.precision == "tf32" else 35.0)
