"""The state of a training on disk: everything that the next step depends on, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from engine.checks.output_files import replacing
from engine.errors import CheckpointError

PARTS = ("weights", "average", "moment1", "moment2")
DISCRIMINATOR_PARTS = ("discriminators", "discriminator_moment1", "discriminator_moment2")  # of some trainings


@dataclass(frozen=True, eq=False)
class State:
    """The position of a training.

    Attributes:
        step: the number of finished steps.
        recipe: `Recipe.to_json`.
        classes: the names of the labels.
        tensors: per part (the weights, their moving average, AdamW's two moments; the same of discriminators but their
            average) every parameter by name, float32.
        recordings: `Corpus.fingerprint`; empty if unknown.
    """

    step: int
    recipe: str
    classes: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, Tensor]]
    recordings: str = ""


def write_state(path: Path, state: State) -> None:
    """Write a state in place of the file; an interruption leaves the old file."""
    flat = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, parameters in state.tensors.items()
        for name, tensor in parameters.items()
    }
    metadata = {"step": str(state.step), "recipe": state.recipe, "classes": json.dumps(state.classes)}
    metadata["recordings"] = state.recordings
    with replacing(path) as file:
        file.write(save(flat, metadata=metadata))


def is_state(path: Path) -> bool:
    """Return whether a file looks like the state of a training rather than a checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            return "recipe" in (file.metadata() or {})
    except Exception:  # no safetensors file; the reader of checkpoints reports the error
        return False


def read_state(path: Path) -> State:
    """Read a file that `write_state` wrote; parts may be missing.

    Raises:
        CheckpointError: the file is not the state of a training.
    """
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118
                part, _, parameter = name.partition(".")
                if part in DISCRIMINATOR_PARTS:
                    tensors.setdefault(part, {})
                tensors[part][parameter] = file.get_tensor(name).to(torch.float32)
        classes = tuple(json.loads(metadata["classes"]))
        return State(int(metadata["step"]), metadata["recipe"], classes, tensors, metadata.get("recordings", ""))
    except Exception as error:  # safetensors raises several kinds of exceptions
        raise CheckpointError(f"{path}: expected the state of a training, got: {str(error)[:200]}") from None
