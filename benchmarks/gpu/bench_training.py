"""`pytest --benchmark -m gpu benchmarks/gpu/bench_training.py`: whole steps of a training on a GPU, with batches.

A step ends when its losses are on the CPU. A plain run of pytest, and a machine without a GPU, skips all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.kernels import device as gpu_device

OBSTACLE = gpu_device.obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]
WARM_UP, ROUNDS = 10, 50
Workload = tuple[Any, int, list[tuple[Any, ...]], tuple[str, ...]]  # recipe, batch, clips, classes


def voice() -> Workload:
    """Return 16 crops of 32 frames for BASE."""
    from engine.training.settings import read_recipe

    recipe = read_recipe("voice")
    return replace(recipe, data=replace(recipe.data, frames=32)), 16, _clips(), ()


def three_steps() -> Workload:
    """Return the same crops, half of them through three steps of the sampler."""
    from engine.training.settings import read_recipe

    return read_recipe("voice-steps"), 16, _clips(), ()


def _clips() -> list[tuple[Any, ...]]:
    random, clips = np.random.default_rng(0), []
    for number in range(40):
        audio = 0.1 * random.standard_normal(256 * 400).astype(np.float32)
        clips.append((f"{number}", audio, random.random((80, 400), dtype=np.float32), -1))
    return clips


def digits() -> Workload:
    """Return 32 clips of 0.64 s for the digits' network, with 64 channels."""
    from engine.training.settings import read_recipe

    recipe = read_recipe("digits")
    random = np.random.default_rng(0)
    clips = [(f"{n}", 0.1 * random.standard_normal(4000).astype(np.float32), None, n % 60) for n in range(120)]
    recipe = replace(recipe, network=replace(recipe.network, residual_channels=64))
    return recipe, 32, clips, tuple(map(str, range(60)))


@pytest.mark.benchmark(group="training, a step on a GPU")
@pytest.mark.parametrize("layers", ["fused, bf16", "PyTorch's, bf16", "PyTorch's, fp32"])
@pytest.mark.parametrize("workload", [voice, three_steps, digits], ids=lambda workload: workload.__name__)
def test_step(benchmark: Any, monkeypatch: pytest.MonkeyPatch, workload: Callable[[], Workload], layers: str) -> None:
    import torch

    from engine.training import trainer
    from engine.training.data import Clip, Corpus
    from engine.training.processes import Processes

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    recipe, batch, clips, classes = workload()
    recipe = replace(recipe, training=replace(recipe.training, batch=batch))
    if "fused" not in layers:
        monkeypatch.setattr(trainer, "fused_obstacle", lambda *arguments: "disabled by the benchmark")
    dtype = torch.bfloat16 if "bf16" in layers else torch.float32
    corpus = Corpus([Clip(*clip) for clip in clips], (), classes, 0)
    training = trainer.Trainer(recipe, corpus, Processes(0, 1, torch.device("cuda")), dtype)
    benchmark.extra_info["gpu"] = torch.cuda.get_device_name()
    report = benchmark.pedantic(training.advance, rounds=ROUNDS, warmup_rounds=WARM_UP)
    assert np.isfinite(report.loss)
