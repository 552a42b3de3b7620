"""Batches depend on their step alone, not on the process that computes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.training.batches import batches
from engine.training.data import read_corpus
from engine.training.objective import Batch, make_batch
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones

FIELDS = ("x", "target", "t", "embedded", "mel", "label")


def equal_batches(batch: Batch, other: Batch) -> bool:
    pairs = [(getattr(batch, name), getattr(other, name)) for name in FIELDS]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs) and (batch.level == other.level).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["voice", "digits"])
def test_batches_depend_on_their_step_alone(tmp_path: Path, kind: str, workers: int) -> None:
    recipe = voice_recipe() if kind == "voice" else digits_recipe()
    data = write_tones(tmp_path, 6, 22050, 0.2) if kind == "voice" else write_digits(tmp_path)
    corpus = read_corpus(data, recipe.data, recipe.network)
    results = list(batches(corpus, recipe, 2, [1, 3], workers))
    assert len(results) == recipe.training.steps - 2
    for step, batch in enumerate(results, start=2):
        assert equal_batches(batch, make_batch(corpus, recipe, step, [1, 3]))
    assert not equal_batches(results[0], results[1])


def test_a_worker_uses_one_thread() -> None:
    code = """
import numpy
from engine.training.batches import use_one_thread
use_one_thread()
from threadpoolctl import threadpool_info
assert {pool["num_threads"] for pool in threadpool_info()} == {1}, threadpool_info()
"""
    run = subprocess.run([sys.executable, "-c", code], env={"PATH": "", "OPENBLAS_NUM_THREADS": "2"}, text=True)
    assert run.returncode == 0
