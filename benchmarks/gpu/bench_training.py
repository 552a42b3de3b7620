"""`pytest --benchmark -m gpu benchmarks/gpu/bench_training.py`: whole steps of a training on a GPU, with batches.

A step ends when its losses are on the CPU. A plain run of pytest, and a machine without a GPU, skips all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu.training_step import LAYERS, ROUNDS, WARM_UP, Workload, digits, three_steps, trainer_of, voice
from engine.kernels import device as gpu_device

OBSTACLE = gpu_device.obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]


@pytest.mark.benchmark(group="training, a step on a GPU")
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("workload", [voice, three_steps, digits], ids=lambda workload: workload.__name__)
def test_step(benchmark: Any, workload: Callable[[], Workload], layers: str) -> None:
    import torch

    if not benchmark.enabled:
        pytest.skip("timed only with --benchmark")
    with trainer_of(workload(), layers, "cuda") as training:
        benchmark.extra_info["gpu"] = torch.cuda.get_device_name()
        report = benchmark.pedantic(training.advance, rounds=ROUNDS, warmup_rounds=WARM_UP)
    assert np.isfinite(report.loss)
