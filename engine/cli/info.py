"""The command `engine info`: a checkpoint, and how this machine runs it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.checkpoint.source import open_source
from engine.cli.messages import add_messages, print_result
from engine.cli.options import CHECKPOINT, add_execution, add_mel_kind, add_weights, load
from engine.cli.parsing import Commands
from engine.config import BASE, LARGE, SC09, SC09_THIN, Config
from engine.diffusion.labels import list_names
from engine.diffusion.schedule import build_schedule, schedule_origin, step_counts
from engine.errors import UnavailableError
from engine.kernels import cpu, registry
from engine.kernels import device as gpu_device
from engine.voice import Voice

MAX_LISTED = 8  # noise levels or betas of a line


def add_command(commands: Commands) -> None:
    """Add `info` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "info",
        _run,
        usage="[CKPT] [OPTION ...]",
        summary="describe a checkpoint and how this machine runs it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "model",
        metavar="CKPT",
        nargs="?",
        help=f"{CHECKPOINT} (default: voice)",
    )
    add_mel_kind(network)
    add_weights(network)
    add_execution(parser)
    add_messages(parser, json=True)


def describe(path: Path, checkpoint: Checkpoint, voice: Voice) -> str:
    """Return a line for each property of the file, each number of steps, each choice, and each tier and kernel.

    Args:
        path: the checkpoint's file.
        checkpoint: its content.
        voice: the loaded network.
    """
    lines = [*_file_lines(path, checkpoint), "", "steps:", *_steps_lines(checkpoint.config)]
    return "\n".join([*lines, "", "on this machine:", *_machine_lines(voice)])


def as_json(path: Path, checkpoint: Checkpoint, voice: Voice) -> dict[str, Any]:
    """Return the facts of `describe` as a JSON object.

    Args:
        path: the checkpoint's file.
        checkpoint: its content.
        voice: the loaded network.
    """
    config, file = checkpoint.config, open_source(path)
    return {
        "file": str(path),
        "bytes": file.size,
        "sha256": file.sha256(),
        "family": config.family,
        "differences": _differences(config),
        "network": {
            "preset": _preset(config),
            "channels": config.residual_channels,
            "layers": config.residual_layers,
            "dilation_cycle": config.dilation_cycle,
            "parameters": _parameters(checkpoint),
        },
        "weights": checkpoint.weights,
        "other_weights": list(checkpoint.other_weights),
        "unused_tensors": list(checkpoint.unused),
        "mel": {"bands": config.n_mels, "kind": config.mel_kind, "hop": config.hop} if config.n_mels else None,
        "classes": list(config.classes),
        "guidance": config.guidance if config.labels > len(config.classes) else None,
        "temperature": None if config.n_mels else config.temperature,
        "clip_samples": config.clip_samples or None,
        "sample_rate": config.sample_rate,
        "training_schedule": list(config.train_schedule),
        "objective": config.objective or None,
        "fast_schedule": list(config.fast_schedule) if config.fast_schedule else None,
        "steps": steps_json(config),
        "needs": _needs(config),
        "choice": choice_json(voice.choice),
        "threads": voice.threads,
        "reasons": voice.explain().splitlines()[1:],
        "tiers": tiers_json(),
        "gpu_kernels": gpu_kernels_json(voice),
    }


def steps_json(config: Config) -> list[dict[str, Any]]:
    """Return the numbers of steps that a network accepts, and their schedules, as JSON objects.

    Args:
        config: the network.
    """
    rows = []
    for count in step_counts(config):
        plan = build_schedule(config, count)
        rows.append(
            {
                "steps": count,
                "origin": schedule_origin(config, count),
                "betas": list(plan.beta[::-1]),
                "noise": [math.sqrt(1.0 - alpha_bar) for alpha_bar in plan.alpha_bar[::-1]],
                "t": list(plan.t[::-1]),
                "look_ahead": config.look_ahead(count) if config.n_mels else None,
            }
        )
    return rows


def choice_json(choice: registry.Choice) -> dict[str, Any]:
    """Return a choice as a JSON object.

    Args:
        choice: the backend, instruction set and precision.
    """
    return {"device": choice.device, "index": choice.index, "isa": choice.isa, "precision": choice.precision}


def tiers_json() -> list[dict[str, Any]]:
    """Return the tiers of this build as JSON objects."""
    return [
        {"name": name, "available": supported, "requires": requirement, "precisions": list(precisions)}
        for name, supported, requirement, precisions in cpu.tiers()
    ]


def gpu_kernels_json(voice: Voice) -> list[dict[str, Any]]:
    """Return the kernels that run groups of layers on the GPU as JSON objects; none without a GPU.

    Args:
        voice: the network that they should run.
    """
    choice = voice.choice
    on_gpu = choice.device == "cuda"
    try:
        if not on_gpu and gpu_device.obstacle():
            return []
    except (RuntimeError, UnavailableError):  # a driver exists and does not work: 'engine doctor' reports it
        return []
    precision = choice.precision if on_gpu else registry.GPU_PRECISIONS[0]
    obstacles = registry.group_obstacles(choice.index, voice.config, precision)
    return [{"name": name, "available": why is None, "obstacle": why} for name, why in obstacles.items()]


def _run(arguments: argparse.Namespace) -> None:
    path = path_of(arguments.model)
    checkpoint, voice = load_checkpoint(path, arguments.mel_kind, weights=arguments.weights), load(arguments)
    lines = [] if arguments.json else [describe(path, checkpoint, voice)]
    print_result(arguments, lines, as_json(path, checkpoint, voice) if arguments.json else {})


def _file_lines(path: Path, checkpoint: Checkpoint) -> list[str]:
    config, file = checkpoint.config, open_source(path)
    parameters = _parameters(checkpoint)
    size = f"C={config.residual_channels}, N={config.residual_layers}, cycle {config.dilation_cycle}"
    mel = f"{config.n_mels} bands of kind {config.mel_kind or 'unknown'}, a frame every {config.hop} samples"
    without = "none: conditioned on a class" if config.classes else "none: the network is unconditional"
    differences = _differences(config)
    return [
        f"file         {path}",
        f"size         {file.size:,} bytes",
        f"sha256       {file.sha256()}",
        f"family       {config.family}{': ' if differences else ''}{', '.join(differences)}",
        f"network      {_preset(config)}: {size}, {parameters:,} parameters",
        *([f"weights      {_weights(checkpoint)}"] if checkpoint.other_weights else []),
        *([f"unused       {_unused(checkpoint)}"] if checkpoint.unused else []),
        f"mel          {mel if config.n_mels else without}",
        *([f"classes      {_classes(config)}"] if config.classes else []),
        *([f"guidance     {config.guidance:g}"] if config.labels > len(config.classes) else []),
        *([f"temperature  {config.temperature:g}"] if config.temperature != 1.0 else []),
        *([f"clips        {_clips(config)}"] if config.clip_samples else []),
        f"sample rate  {config.sample_rate} Hz",
        f"training     {_schedule(config.train_schedule)}",
        *([f"objective    {config.objective}"] if config.objective else []),
        f"fast         {_schedule(config.fast_schedule) if config.fast_schedule else 'no schedule of its own'}",
        f"needs        {'; '.join(_needs(config))}",
    ]


def _steps_lines(config: Config) -> list[str]:
    """Return a line per number of steps: the noise levels, the betas and their origin."""
    origins = {
        "own": "the checkpoint's own",
        "fast": "the fast schedule",
        "training": "the training schedule",
        "levels": "levels of the fast schedule",
    }
    lines = []
    for row in steps_json(config):
        noise = _listed([f"{value:.3f}" for value in row["noise"]])
        betas = _listed([f"{value:.6g}" for value in row["betas"]])
        lines.append(f"  {row['steps']:<5}  {origins[row['origin']]}: noise {noise}; beta {betas}")
    return lines


def _listed(values: list[str]) -> str:
    return " ".join(values) if len(values) <= MAX_LISTED else f"{values[0]} to {values[-1]}"


def _weights(checkpoint: Checkpoint) -> str:
    names = {"raw": "raw, as of the last step of the training", "ema": "ema, an average over the training"}
    others = ", ".join(f"--weights {name}" for name in checkpoint.other_weights)
    return f"{names[checkpoint.weights]}; the file also has others: {others}"


def _unused(checkpoint: Checkpoint) -> str:
    count, listed = len(checkpoint.unused), ", ".join(f"{name!r:.60}" for name in checkpoint.unused[:3])
    return f"{count} {'tensor' if count == 1 else 'tensors'}: {listed}{', ...' if count > 3 else ''}"


def _parameters(checkpoint: Checkpoint) -> int:
    return sum(tensor.size for tensor in checkpoint.tensors.values())


def _differences(config: Config) -> list[str]:
    """Return how this network differs from LMNT's."""
    differences = {
        "an upsampler per layer": not config.shared_upsampler,
        "sinusoidal embedding of the step": config.step_embedding == "sinusoid",
        "reflection padding": config.padding == "reflect",
        "step bias in the residual": config.step_bias_in_residual,
        "no clamp": not config.clamp,
        "noise scaled by a prior": config.prior,
    }
    return [text for text, applies in differences.items() if applies]


def _classes(config: Config) -> str:
    names = config.classes
    return f"{len(names)}: {list_names(names)}"


def _clips(config: Config) -> str:
    return f"{config.clip_samples} samples, {config.clip_samples / config.sample_rate:.6g} s"


def _needs(config: Config) -> list[str]:
    """Return the inputs that the network needs, and the options that pass them."""
    if not config.n_mels:
        options = ["--label"] * bool(config.classes) + ["--seconds"] * (not config.clip_samples)
        needs = ["no mel: 'engine generate'" + (f" with {' and '.join(options)}" if options else "")]
    elif config.mel_kind is None:
        needs = ["a mel of a kind that the file does not record: pass --mel-kind"]
    else:
        needs = [f"a mel of kind {config.mel_kind}"]
    return needs + ["--energy-min (PriorGrad)"] * (config.prior and not config.energy_min)


def _machine_lines(voice: Voice) -> list[str]:
    lines = [f"  {line}" for line in voice.explain().splitlines()]
    for name, supported, requirement, precisions in cpu.tiers():
        text = f"available, {', '.join(precisions)}" if supported else f"unavailable, needs {requirement}"
        lines.append(f"  tier {name:<10}  {text}")
    for row in gpu_kernels_json(voice):
        text = f"unavailable, {row['obstacle']}" if row["obstacle"] else f"available, {registry.IN_GROUPS}"
        lines.append(f"  gpu  {row['name']:<10}  {text}")
    return lines


def _preset(config: Config) -> str:
    """Return the paper's name for a network of these sizes (table 1); the training schedule may differ."""

    def sizes(preset: Config) -> tuple[object, ...]:
        return (
            preset.residual_channels,
            preset.residual_layers,
            preset.dilation_cycle,
            preset.n_mels,
            preset.upsample_strides,
        )

    names = {
        sizes(BASE): "DiffWave BASE",
        sizes(LARGE): "DiffWave LARGE",
        sizes(SC09): "DiffWave for SC09",
        sizes(SC09_THIN): "DiffWave for SC09, deep and thin",
    }
    return names.get(sizes(config), "DiffWave of another size")


def _schedule(betas: tuple[float, ...]) -> str:
    steps = "1 step" if len(betas) == 1 else f"{len(betas)} steps"
    return f"{steps}, beta {betas[0]:g} to {betas[-1]:g}"


_DESCRIPTION = """\
The output names the network, its mel, its schedules and its classes; then the
device, instruction set and precision that this machine would choose for it,
with the reasons, all tiers of this build, and on a GPU the kernels that run
groups of layers. The options are those of 'engine vocode' and show their effect
on the choice.

Under "steps" stands every number that --steps accepts for the checkpoint, with
its noise levels (standard deviations) and betas in the order of the diffusion.

With --json the output is an object with the keys file, bytes, sha256, family,
differences, network, weights, other_weights, unused_tensors, mel, classes,
guidance, temperature, clip_samples, sample_rate, training_schedule, objective,
fast_schedule, steps, needs, choice, threads, reasons, tiers and gpu_kernels.
What a network does not have is null.
"""

_EXAMPLES = """\
engine info
engine info voice.safetensors
engine info digits
engine info --precision fp32 --isa avx2
"""
