"""Every baseline computes the same network. The ones that are not installed are skipped; compiling is slow."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import lmnt
from benchmarks.cpu import baselines
from engine import Voice
from engine.checkpoint.load import Checkpoint
from engine.diffusion.embedding import step_biases
from engine.kernels import registry
from tests.support.networks import SMALL, random_network, shared_example
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

MEL = np.random.default_rng(0).random((80, 172), dtype=np.float32)
ERRORS = {"fp32": TOLERANCES["network_audio_fp32"], "bf16": TOLERANCES["network_audio_bf16"], "int8": 1.0}
SLOW = ("compile", "int8")


@cache
def checkpoint() -> Checkpoint:
    return Checkpoint(SMALL, random_network(SMALL, 1))


@cache
def exported() -> baselines.Exported:
    return baselines.Exported(checkpoint(), MEL)


@pytest.mark.parametrize(
    "baseline",
    [
        pytest.param(item, id=item.name, marks=[pytest.mark.slow] * any(word in item.name for word in SLOW))
        for item in baselines.BASELINES
    ],
)
def test_the_same_audio(baseline: baselines.Baseline) -> None:
    for module in baseline.needs:
        pytest.importorskip(module)
    mels = np.stack([MEL[:, :3], MEL[:, 3:6]])
    prepared = baselines.prepare(baseline, exported(), baselines.Task(checkpoint(), mels, 5, 1))
    assert not isinstance(prepared, str), prepared
    expected = Voice(checkpoint(), registry.select("cpu", "fp32"), 1).vocode(mels, seed=5)
    call, first = prepared
    for audio in (call(), first):
        assert relative_error(audio, expected) < ERRORS[baseline.precision]


def test_unavailable_baseline_gives_its_reason() -> None:
    task = baselines.Task(checkpoint(), MEL[None, :, :1], 5, 1)
    absent = baselines.Baseline("absent", "fp32", ("no_such_module",), lambda exported, task: lambda: MEL)
    assert baselines.prepare(absent, exported(), task) == "No module named 'no_such_module'; pip install '.[bench]'"

    def build(exported: Any, task: Any) -> Any:
        raise ValueError("no\ncompiler")

    broken = baselines.Baseline("broken", "fp32", (), build)
    assert baselines.prepare(broken, exported(), task) == "ValueError: no compiler"


def test_the_model_is_lmnts() -> None:
    """Compare with recorded output of LMNT's own code, and with that code itself where it is installed."""
    found, case = shared_example("lmnt")
    x, mel, t = (torch.as_tensor(case[name]) for name in ("x", "mel", "t"))
    d = torch.from_numpy(step_biases(found.tensors, found.config, (float(t),))[0]).float()
    with torch.no_grad():
        eps = lmnt.Network(found)(x, d, mel)
        assert relative_error(eps, case["eps"]) < TOLERANCES["fixture_eps_fp32"]
        pytest.importorskip("diffwave")
        published = lmnt.published(found)(x, mel, t.float().reshape(1))[:, 0]
        assert relative_error(eps, published) < TOLERANCES["fixture_eps_fp32"]
