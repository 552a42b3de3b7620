"""Jobs of checkpoints with weights of two kinds, or of the other kind alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import engine
from engine.audio.wav import read_wav
from engine.bulk import vocode_files
from engine.bulk.job import JOB
from engine.cli.main import main
from tests.support.commands import MEL, SMALL
from tests.support.networks import random_network


def test_a_job_records_the_weights_that_it_uses(tmp_path: Path) -> None:
    """The command and the library name one job, and a file with an average alone needs no option, as `engine.load`."""
    average = {name: torch.from_numpy(value) for name, value in random_network(SMALL, 1).items()}
    params = {
        "residual_channels": SMALL.residual_channels,
        "residual_layers": SMALL.residual_layers,
        "dilation_cycle_length": SMALL.dilation_cycle,
        "noise_schedule": list(SMALL.train_schedule),
        "hop_samples": SMALL.hop,
        "n_mels": SMALL.n_mels,
        "sample_rate": SMALL.sample_rate,
    }
    model = tmp_path / "weights.pt"
    torch.save({"ema": average, "params": params}, model)
    np.save(tmp_path / "mel.npy", MEL)
    out = tmp_path / "out"
    summary = vocode_files([tmp_path / "mel.npy"], out, model=model, device="cpu", threads=1)
    assert summary.files == 1 and json.loads((out / JOB).read_text())["weights"] == "ema"
    options = ["--model", str(model), "--device", "cpu", "--threads", "1"]
    for extra in ([], ["--weights", "ema"]):
        assert main(["vocode", str(tmp_path / "mel.npy"), "-o", f"{out}/", *options, *extra]) == 0
    assert main(["vocode", str(tmp_path / "mel.npy"), "-o", f"{out}/", *options, "--weights", "raw"]) == 2
    assert len(read_wav(out / "mel.wav")[0]) == MEL.shape[1] * engine.load(model, device="cpu").hop
