"""What a checkpoint is and how this machine runs it, in words: the text of `engine info`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.checkpoint.load import Checkpoint
from engine.config import BASE, LARGE, SC09, SC09_THIN, Config
from engine.diffusion.labels import listed
from engine.kernels import cpu
from engine.voice import Voice


def describe(path: Path, checkpoint: Checkpoint, voice: Voice) -> str:
    """The file, the network, what was chosen for it and the tiers of this build, a line each."""
    return "\n".join([*_file_lines(path, checkpoint), "", "on this machine:", *_machine_lines(voice)])


def _file_lines(path: Path, checkpoint: Checkpoint) -> list[str]:
    config = checkpoint.config
    length, checksum = _size_and_sha256(path)
    parameters = sum(tensor.size for tensor in checkpoint.tensors.values())
    size = f"C={config.residual_channels}, N={config.residual_layers}, cycle {config.dilation_cycle}"
    mel = f"{config.n_mels} bands of kind {config.mel_kind or 'unknown'}, a frame every {config.hop} samples"
    without = "none: a class is asked for instead" if config.classes else "none: the network is unconditional"
    ways = _ways(config)
    return [
        f"file         {path}",
        f"size         {length:,} bytes",
        f"sha256       {checksum}",
        f"family       {config.family}{': ' if ways else ''}{', '.join(ways)}",
        f"network      {_preset(config)}: {size}, {parameters:,} parameters",
        f"mel          {mel if config.n_mels else without}",
        *([f"classes      {_classes(config)}"] if config.classes else []),
        *([f"guidance     {config.guidance:g}"] if config.labels > len(config.classes) else []),
        *([f"clips        {_clips(config)}"] if config.clip_samples else []),
        f"sample rate  {config.sample_rate} Hz",
        f"training     {_schedule(config.train_schedule)}",
        f"fast         {_schedule(config.fast_schedule) if config.fast_schedule else 'none of its own'}",
        f"needs        {'; '.join(_needs(config))}",
    ]


def _size_and_sha256(path: Path) -> tuple[int, str]:
    checksum, length = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum.update(block)
            length += len(block)
    return length, checksum.hexdigest()


def _ways(config: Config) -> list[str]:
    """What this network does otherwise than LMNT's."""
    ways = {
        "an upsampler per layer": not config.shared_upsampler,
        "sinusoids of the step itself": config.step_embedding == "sinusoid",
        "reflecting padding": config.padding == "reflect",
        "the step in the residual": config.step_bias_in_residual,
        "no clamp": not config.clamp,
        "noise scaled by a prior": config.prior,
    }
    return [way for way, does in ways.items() if does]


def _classes(config: Config) -> str:
    names = config.classes
    return f"{len(names)}: {listed(names)}"


def _clips(config: Config) -> str:
    return f"{config.clip_samples} samples, {config.clip_samples / config.sample_rate:.6g} s"


def _needs(config: Config) -> list[str]:
    """What one must bring to hear it."""
    if not config.n_mels:
        wanted = ["label="] * bool(config.classes) + ["seconds="] * (not config.clip_samples)
        needs = [f"no mel: generate({', '.join(wanted)})"]
    elif config.mel_kind is None:
        needs = ["a mel of a kind that the file does not say (mel= or --mel-kind does)"]
    else:
        needs = [f"a mel of kind {config.mel_kind}"]
    return needs + ["energy_min or std (PriorGrad)"] * (config.prior and not config.energy_min)


def _machine_lines(voice: Voice) -> list[str]:
    lines = [f"  {line}" for line in voice.explain().splitlines()]
    for name, supported, requires, precisions in cpu.tiers():
        what = f"available, {', '.join(precisions)}" if supported else f"unavailable, needs {requires}"
        lines.append(f"  tier {name:<10}  {what}")
    return lines


def _preset(config: Config) -> str:
    """The paper's name for a network of these sizes (table 1); its training schedules vary."""

    def sizes(of: Config) -> tuple[object, ...]:
        return of.residual_channels, of.residual_layers, of.dilation_cycle, of.n_mels, of.upsample_strides

    names = {
        sizes(BASE): "DiffWave BASE",
        sizes(LARGE): "DiffWave LARGE",
        sizes(SC09): "DiffWave for SC09",
        sizes(SC09_THIN): "DiffWave for SC09, deep and thin",
    }
    return names.get(sizes(config), "DiffWave of its own size")


def _schedule(betas: tuple[float, ...]) -> str:
    steps = "1 step" if len(betas) == 1 else f"{len(betas)} steps"
    return f"{steps}, beta {betas[0]:g} to {betas[-1]:g}"
