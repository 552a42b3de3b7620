"""A training's state on disk: everything that the next step depends on, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from engine.errors import CheckpointError
from engine.output_files import replacing

PARTS = ("weights", "average", "moment1", "moment2")


@dataclass(frozen=True, eq=False)
class State:
    """Where a training is.

    Attributes:
        step: how many steps are done.
        recipe: `Recipe.to_json`.
        classes: the names of the labels.
        tensors: per part (weights, their moving average, AdamW's moments) every parameter by its name, float32.
        recordings: `Corpus.fingerprint`; empty where it is not known.
    """

    step: int
    recipe: str
    classes: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, Tensor]]
    recordings: str = ""


def write_state(path: Path, state: State) -> None:
    """Replace the file; an interruption leaves the old one."""
    flat = {f"{part}.{name}": tensor for part, of in state.tensors.items() for name, tensor in of.items()}
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in flat.items()}
    about = {"step": str(state.step), "recipe": state.recipe, "classes": json.dumps(state.classes)}
    about["recordings"] = state.recordings
    with replacing(path) as file:
        file.write(save(flat, metadata=about))


def is_state(path: Path) -> bool:
    """Whether a file looks like a training's state rather than a network's checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            return "recipe" in (file.metadata() or {})
    except Exception:  # no safetensors at all: whoever reads checkpoints says what is wrong with it
        return False


def read_state(path: Path) -> State:
    """What `write_state` wrote, of which parts may be missing; CheckpointError for anything else."""
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118
                part, _, parameter = name.partition(".")
                tensors[part][parameter] = file.get_tensor(name).to(torch.float32)
        classes = tuple(json.loads(about["classes"]))
        return State(int(about["step"]), about["recipe"], classes, tensors, about.get("recordings", ""))
    except Exception as error:  # safetensors alone raises several kinds
        raise CheckpointError(f"{path}: expected the state of a training, got: {str(error)[:200]}") from None
