"""Checkpoints on the command line: folders, addresses, averages, the checkpoint's own fast schedule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.audio.wav import read_wav
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from tests.support.commands import MEL, SMALL, Run, error_of
from tests.support.networks import random_network

torch = pytest.importorskip("torch")

LMNT = {
    "dilation_cycle_length": SMALL.dilation_cycle,
    "sample_rate": SMALL.sample_rate,
    "noise_schedule": list(SMALL.train_schedule),
    "unconditional": False,
}
EXECUTION = ("--device", "cpu", "--isa", "generic", "--precision", "fp32", "--threads", 1)


@pytest.fixture
def trained(workspace: Path) -> Path:
    """Write the folder of a trainer: weights.pt with an average beside the weights, and a mel."""
    folder = workspace / "run"
    folder.mkdir()
    raw, average = ({k: torch.from_numpy(v) for k, v in random_network(SMALL, seed).items()} for seed in (1, 2))
    content = {"model": {f"module.{k}": v for k, v in raw.items()}, "ema": average, "params": LMNT, "step": np.int64(7)}
    torch.save(content, folder / "weights.pt")
    np.save("mel.npy", MEL)
    return folder


def test_folder_and_average(trained: Path, run: Run) -> None:
    audio = {}
    for name, options in {"raw": (), "explicit": ("--weights", "raw"), "ema": ("--weights", "ema")}.items():
        command = ("vocode", "mel.npy", "-o", f"{name}.wav", "--model", trained, *options, *EXECUTION)
        status, out, err = run(*command)
        assert (status, err) == (0, "") and out.startswith(f"wrote {name}.wav\n")
        audio[name] = read_wav(f"{name}.wav")[0]
    assert np.array_equal(audio["raw"], audio["explicit"]) and not np.array_equal(audio["raw"], audio["ema"])
    status, out, _ = run("convert", trained, "-o", "ema.safetensors", "--weights", "ema")
    assert status == 0
    expected = random_network(SMALL, 2)
    for name, tensor in load_checkpoint("ema.safetensors").tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_info_names_the_weights(trained: Path, run: Run) -> None:
    out = run("info", trained, *EXECUTION)[1]
    assert f"file         {trained / 'weights.pt'}\n" in out
    assert "weights      raw, as of the last step of the training; the file also has others: --weights ema\n" in out
    assert "weights raw: the file also has others, weights='ema'\n" in out
    out = run("info", trained, "--weights", "ema", *EXECUTION)[1]
    assert "weights      ema, an average over the training; the file also has others: --weights raw\n" in out
    result = json.loads(run("info", trained, "--json", *EXECUTION)[1])
    assert (result["weights"], result["other_weights"], result["unused_tensors"]) == ("raw", ["ema"], [])


def test_unavailable_weights(trained: Path, run: Run) -> None:
    save_checkpoint("a.safetensors", load_checkpoint(trained / "weights.pt"))
    for command in (("info", "a.safetensors"), ("convert", "a.safetensors", "-o", "b.safetensors")):
        error = error_of(run, *command, "--weights", "ema")
        assert error == "--weights: expected 'raw', the only ones in a.safetensors, got 'ema'"
    error = error_of(run, "vocode", "mel.npy", "-o", "x.wav", "--model", "a.safetensors", "--weights", "best")
    assert error.startswith("--weights: expected one of raw, ema, got 'best'")


def test_own_fast_schedule(workspace: Path, run: Run) -> None:
    np.save("mel.npy", MEL)
    config = replace(SMALL, fast_schedule=tuple(np.geomspace(1e-4, 0.3, 12).tolist()))
    save_checkpoint("a.safetensors", Checkpoint(config, random_network(config, 1)))
    command = ("vocode", "mel.npy", "--model", "a.safetensors", *EXECUTION)
    for name, options in {"default": (), "fast": ("--steps", "fast"), "number": ("--steps", 12)}.items():
        assert run(*command, "-o", f"{name}.wav", *options)[0] == 0
        np.testing.assert_array_equal(read_wav(f"{name}.wav")[0], read_wav("default.wav")[0])
    assert error_of(run, *command, "-o", "x.wav", "--steps", 6) == (
        '--steps: expected 12 or 50, "fast" (12 steps, the checkpoint\'s own), "full" (50 steps), got 6'
    )
    assert "fast         12 steps, beta 0.0001 to 0.3\n" in run("info", "a.safetensors", *EXECUTION)[1]


@pytest.mark.parametrize("model", ["s3://owner/name", "https://example.org/x.pt", "owner/name", "absent"])
def test_what_is_no_file(workspace: Path, run: Run, model: str) -> None:
    np.save("mel.npy", MEL)
    assert error_of(run, "vocode", "mel.npy", "-o", "x.wav", "--model", model).startswith("--model: expected a file")
    assert error_of(run, "info", model).startswith("CKPT: expected a file")
