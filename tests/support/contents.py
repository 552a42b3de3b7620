"""Contents of checkpoints as trainers leave them, around one small network."""

from __future__ import annotations

import pathlib
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.load import Checkpoint
from tests.support.checkpoints import assert_network
from tests.support.layouts import content_of, layout_config
from tests.support.networks import random_network

torch = pytest.importorskip("torch")

LAYOUTS = ("lmnt", "speechbrain", "philsyn", "amphion", "priorgrad", "bddm")
CONTAINERS = ("model", "model_state_dict", "state_dict")
PROTOCOLS = (2, 3, 4, 5)
CONFIG = layout_config("lmnt")
NETWORK = random_network(CONFIG, 3)
AVERAGE = random_network(CONFIG, 4)
_, LMNT, _ = content_of("lmnt", CONFIG, NETWORK)
WRAPPERS = ("module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "net.module.", "a.b_c.d1.")


def tensors(network: Any = None) -> dict[str, Any]:
    values = NETWORK if network is None else network
    return {name: torch.from_numpy(tensor.copy()) for name, tensor in values.items()}


def saved(folder: Path, content: object, **options: Any) -> Path:
    torch.save(content, folder / "weights.pt", **options)
    return folder / "weights.pt"


def assert_loads(checkpoint: Checkpoint, network: Any = None) -> None:
    assert_network(checkpoint, CONFIG, NETWORK if network is None else network)


def lightning(**changes: Any) -> dict[str, Any]:
    """Return the content of a checkpoint of PyTorch Lightning."""
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {
            **{f"model.{name}": tensor for name, tensor in tensors().items()},
            "loss.window": torch.hann_window(64),
        },
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": pathlib.PurePosixPath("x.ckpt")}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}}}],
        "lr_schedulers": [],
        "hparams_name": "params",
        "hyper_parameters": LMNT["params"],
        **changes,
    }
