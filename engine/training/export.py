"""From a training's state to files that `engine.load` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.checks.arrays import FloatArray
from engine.config import MAX_GUIDANCE, Config
from engine.errors import CheckpointError, InputError
from engine.training.settings import Recipe, recipe_of_json
from engine.training.state import PARTS, State, read_state, write_state


def export(
    state_file: Path,
    out: Path,
    part: str = "average",
    labels: bool = True,
    dtype: str = "float16",
    guidance: float | None = None,
) -> None:
    """Write the network of a training's state as a safetensors file.

    Args:
        state_file: what `fit` wrote.
        out: the file to write.
        part: "average", what one listens to, or "weights", what one trains on from.
        labels: False makes an unconditional network of a class-conditional one, from what it learnt without labels.
        dtype: "float16" or "float32".
        guidance: `Config.guidance` of a network with labels that has learnt to be without; None for the recipe's, or 1.

    Raises:
        InputError: an argument is impossible.
        CheckpointError: the file is no state of a training, or one to train on from.
    """
    if part not in PARTS[:2]:
        raise InputError(f"part: expected 'average' or 'weights', got {part!r:.80}")
    state = read_state(state_file)
    recipe = recipe_of_json(state.recipe)
    if not state.tensors[part]:
        raise CheckpointError(f"{state_file}: it has no {part}: it is there to train on from (--init)")
    if not recipe.training.drop_label and (guidance is not None or not labels):
        name = "guidance" if labels else "labels"
        raise InputError(f"{name}: this network has no training without labels (training.drop_label)")
    if guidance is not None:
        if not labels or not 0.0 < guidance <= MAX_GUIDANCE:
            raise InputError(f"guidance: expected 0 < W <= {MAX_GUIDANCE:g}, and none without labels, got {guidance}")
        recipe = replace(recipe, network=replace(recipe.network, guidance=float(guidance)))
    save_checkpoint(out, checkpoint_of(recipe, state, part, labels), dtype)


def export_to_train_on(state_file: Path, out: Path) -> None:
    """Write the weights alone as a state that another training begins from (`--init`): a quarter of its size.

    Where the training itself began from is left out: a path that means nothing elsewhere.

    Raises:
        CheckpointError: the file is no state of a training.
    """
    state = read_state(state_file)
    recipe = recipe_of_json(state.recipe)
    recipe = replace(recipe, training=replace(recipe.training, init=""))
    tensors = {"weights": state.tensors["weights"]}
    write_state(out, replace(state, recipe=recipe.to_json(), tensors=tensors, recordings=""))


def checkpoint_of(recipe: Recipe, state: State, part: str = "average", labels: bool = True) -> Checkpoint:
    """The network of a state; see `export`."""
    tensors = {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in state.tensors[part].items()}
    config = recipe.network
    if not config.n_mels:
        config = replace(config, clip_samples=recipe.data.samples)
    if state.classes:
        if not labels:
            tensors, config = without_labels(tensors, config), replace(config, guidance=0.0)
        elif recipe.training.drop_label:
            config = replace(config, classes=state.classes, guidance=config.guidance or 1.0)
        else:
            tensors["label_embedding.weight"] = np.ascontiguousarray(tensors["label_embedding.weight"][:-1])
            config = replace(config, classes=state.classes)
    return Checkpoint(config, tensors)


def without_labels(tensors: Mapping[str, FloatArray], config: Config) -> dict[str, FloatArray]:
    """A class-conditional network, shown "no label" for ever, as an unconditional one.

    The label reaches a layer as a row that is the same at every sample, so "no label" is a part of its bias.
    """
    kept = {name: tensor for name, tensor in tensors.items() if "label" not in name}
    nothing = tensors["label_embedding.weight"][-1].astype(np.float64)
    for i in range(config.residual_layers):
        place = f"residual_layers.{i}."
        weight, bias = (tensors[f"{place}label_projection.{part}"].astype(np.float64) for part in ("weight", "bias"))
        row = weight.reshape(len(weight), -1) @ nothing + bias
        kept[f"{place}dilated_conv.bias"] = (kept[f"{place}dilated_conv.bias"] + row).astype(np.float32)
    return kept
