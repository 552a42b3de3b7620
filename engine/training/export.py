"""Export of a training's state to files that `engine.load` reads, or that another training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.checks.arguments import check_temperature
from engine.checks.arrays import FloatArray
from engine.config import MAX_GUIDANCE, Config
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError
from engine.training.settings import Recipe, recipe_from_json
from engine.training.state import PARTS, State, read_state, write_state
from engine.training.unroll_settings import Unroll


def export(
    state_file: Path,
    out: Path,
    part: str = "average",
    labels: bool = True,
    dtype: str = "float16",
    guidance: float | None = None,
    temperature: float | None = None,
) -> None:
    """Write the network of a training's state as a safetensors file.

    Args:
        state_file: a file that `fit` wrote.
        out: the file to write.
        part: "average", the moving average of the weights, for inference; or "weights", for further training.
        labels: False turns a class-conditional network into the unconditional network that it learned without labels.
        dtype: "float16" or "float32".
        guidance: `Config.guidance` of a network with labels that was also trained without them; None for the recipe's,
            or 1.
        temperature: `Config.temperature` of a network without a mel; None for the recipe's, or 1 if that was meant for
            labels and the exported network has none.

    Raises:
        InputError: an argument is impossible.
        CheckpointError: the file is not the state of a training, or holds weights alone.
    """
    if part not in PARTS[:2]:
        raise InputError(f"part: expected 'average' or 'weights', got {part!r:.80}")
    state = read_state(state_file)
    recipe = recipe_from_json(state.recipe)
    if not state.tensors[part]:
        raise CheckpointError(
            f"{state_file}: expected the {part} of a training, got weights alone, which training starts from (--init)"
        )
    if not recipe.training.drop_label and (guidance is not None or not labels):
        name = "guidance" if labels else "labels"
        raise InputError(f"{name}: {state_file}: this network was never trained without labels (training.drop_label)")
    if guidance is not None:
        if not labels:
            raise InputError(f"guidance: expected none for an unconditional network, got {guidance}")
        if not 0.0 < guidance <= MAX_GUIDANCE:
            raise InputError(f"guidance: expected a number above 0, at most {MAX_GUIDANCE:g}, got {guidance}")
        recipe = replace(recipe, network=replace(recipe.network, guidance=float(guidance)))
    checkpoint = checkpoint_from_state(recipe, state, part, labels)
    if temperature is not None:
        config = replace(checkpoint.config, temperature=_temperature(temperature, checkpoint.config))
        checkpoint = replace(checkpoint, config=config)
    save_checkpoint(out, checkpoint, dtype)


def export_weights(state_file: Path, out: Path) -> None:
    """Write the weights alone as a state that another training starts from (`--init`); a quarter of the full size.

    The file does not say which file the training itself started from: a path means nothing on another machine.

    Args:
        state_file: a file that `fit` wrote.
        out: the file to write.

    Raises:
        CheckpointError: the file is not the state of a training.
    """
    state = read_state(state_file)
    recipe = recipe_from_json(state.recipe)
    recipe = replace(recipe, training=replace(recipe.training, init=""))
    tensors = {"weights": state.tensors["weights"]}
    write_state(out, replace(state, recipe=recipe.to_json(), tensors=tensors, recordings=""))


def checkpoint_from_state(recipe: Recipe, state: State, part: str = "average", labels: bool = True) -> Checkpoint:
    """Return the network of a state as a checkpoint.

    Args:
        recipe: of the training.
        state: holds the tensors and the classes.
        part: see `export`.
        labels: see `export`.
    """
    tensors = {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in state.tensors[part].items()}
    config = recipe.network
    if recipe.unroll is not None:
        config = _with_schedules(config, recipe.unroll)
    if not config.n_mels:
        config = replace(config, clip_samples=recipe.data.samples)
    if state.classes:
        if not labels:
            tensors, config = without_labels(tensors, config), replace(config, guidance=0.0, temperature=1.0)
        elif recipe.training.drop_label:
            config = replace(config, classes=state.classes, guidance=config.guidance or 1.0)
        else:
            tensors["label_embedding.weight"] = np.ascontiguousarray(tensors["label_embedding.weight"][:-1])
            config = replace(config, classes=state.classes)
    return Checkpoint(config, tensors)


def _temperature(value: float, config: Config) -> float:
    if config.n_mels:
        raise InputError(f"temperature: expected none for a network with a mel, got {value}")
    return check_temperature(value, config)


def _with_schedules(config: Config, unroll: Unroll) -> Config:
    """Record the schedules that a network was tuned for, and the objective. Drafts take those of the fast schedule."""
    if unroll.draft:
        return replace(config, objective=unroll.description)
    tuned = {steps: build_schedule(config, steps).beta[::-1] for steps in unroll.steps}
    own = {len(betas): betas for betas in config.schedules}
    return replace(config, schedules=tuple((own | tuned).values()), objective=unroll.description)


def without_labels(tensors: Mapping[str, FloatArray], config: Config) -> dict[str, FloatArray]:
    """Return the weights of the unconditional network that a class-conditional one computes for "no label".

    A label reaches a layer as a row that is the same at every sample, so "no label" becomes a part of the layer's bias.

    Args:
        tensors: of a network with labels, whose last label is "no label".
        config: its sizes.
    """
    unlabelled = {name: tensor for name, tensor in tensors.items() if "label" not in name}
    no_label = tensors["label_embedding.weight"][-1].astype(np.float64)
    for i in range(config.residual_layers):
        layer = f"residual_layers.{i}."
        weight, bias = (tensors[f"{layer}label_projection.{name}"].astype(np.float64) for name in ("weight", "bias"))
        row = weight.reshape(len(weight), -1) @ no_label + bias
        key = f"{layer}dilated_conv.bias"
        unlabelled[key] = (unlabelled[key] + row).astype(np.float32)
    return unlabelled
