"""Fixtures: a small job, and the results that every way to run it must repeat."""

from __future__ import annotations

import numpy as np
import pytest

from engine.bulk import vocode_files
from engine.kernels import device as gpu_device
from tests.engine.bulk.jobs import Job, digests
from tests.support.commands import SMALL, save_network


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Write 12 mels in subfolders and a network, and vocode them in this process."""
    root = tmp_path_factory.mktemp("job")
    mels = root / "mels"
    rng = np.random.default_rng(0)
    for number in range(12):
        path = mels / ("even" if number % 2 == 0 else ".") / f"u{number:02}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.random((80, 2 + number % 5)).astype(np.float32))
    model = save_network(root / "small.safetensors", SMALL)
    vocode_files(mels, root / "expected", model=model, device="cpu")
    return Job(mels, model, digests(root / "expected"))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make "auto" the CPU on every machine."""
    monkeypatch.setattr(gpu_device, "obstacle", lambda index=0: "not in this test")
