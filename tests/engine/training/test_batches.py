"""Batches are the same whoever makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.training.batches import batches
from engine.training.data import read_corpus
from engine.training.objective import Batch, make_batch
from tests.engine.training.recordings import digits_recipe, spoken, tones, voice_recipe


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("x", "target", "t", "embedded", "mel", "label")]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs) and (one.level == other.level).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["voice", "digits"])
def test_they_follow_from_their_step_alone(tmp_path: Path, kind: str, workers: int) -> None:
    recipe = voice_recipe() if kind == "voice" else digits_recipe()
    data = tones(tmp_path, 6, 22050, 0.2) if kind == "voice" else spoken(tmp_path)
    corpus = read_corpus(data, recipe.data, recipe.network)
    made = list(batches(corpus, recipe, 2, [1, 3], workers))
    assert len(made) == recipe.training.steps - 2
    for step, batch in enumerate(made, start=2):
        assert same(batch, make_batch(corpus, recipe, step, [1, 3]))
    assert not same(made[0], made[1])


def test_who_makes_them_takes_one_thread() -> None:
    code = """
import numpy
from engine.training.batches import one_thread
one_thread()
from threadpoolctl import threadpool_info
assert {pool["num_threads"] for pool in threadpool_info()} == {1}, threadpool_info()
"""
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": "", "OPENBLAS_NUM_THREADS": "2"}, text=True)
    assert done.returncode == 0
