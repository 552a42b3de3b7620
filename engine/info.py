"""What a checkpoint is and how this machine runs it, in words: the text of `engine info`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.checkpoint import Checkpoint
from engine.config import BASE, LARGE, Config
from engine.kernels import cpu
from engine.voice import Voice


def describe(path: Path, checkpoint: Checkpoint, voice: Voice) -> str:
    """The file, the network, what was chosen for it and the tiers of this build, a line each."""
    return "\n".join([*_file_lines(path, checkpoint), "", "on this machine:", *_machine_lines(voice)])


def _file_lines(path: Path, checkpoint: Checkpoint) -> list[str]:
    config = checkpoint.config
    content = path.read_bytes()
    parameters = sum(tensor.size for tensor in checkpoint.tensors.values())
    size = f"C={config.residual_channels}, N={config.residual_layers}, cycle {config.dilation_cycle}"
    mel = f"{config.n_mels} bands of kind {config.mel_kind or 'unknown'}, a frame every {config.hop} samples"
    return [
        f"file         {path}",
        f"size         {len(content):,} bytes",
        f"sha256       {hashlib.sha256(content).hexdigest()}",
        f"network      {_preset(config)} in LMNT's layout: {size}, {parameters:,} parameters",
        f"mel          {mel if config.n_mels else 'none: the network is unconditional'}",
        f"sample rate  {config.sample_rate} Hz",
        f"training     {_schedule(config.train_schedule)}",
        f"fast         {_schedule(config.fast_schedule) if config.fast_schedule else 'none of its own'}",
    ]


def _machine_lines(voice: Voice) -> list[str]:
    lines = [f"  {line}" for line in voice.explain().splitlines()]
    for name, supported, requires, precisions in cpu.tiers():
        what = f"available, {' and '.join(precisions)}" if supported else f"unavailable, needs {requires}"
        lines.append(f"  tier {name:<10}  {what}")
    return lines


def _preset(config: Config) -> str:
    """The paper's name for a network of these sizes (table 1); its training schedules vary."""

    def sizes(of: Config) -> tuple[object, ...]:
        return of.residual_channels, of.residual_layers, of.dilation_cycle, of.n_mels, of.upsample_strides

    names = {sizes(BASE): "DiffWave BASE", sizes(LARGE): "DiffWave LARGE"}
    return names.get(sizes(config), "DiffWave of its own size")


def _schedule(betas: tuple[float, ...]) -> str:
    steps = "1 step" if len(betas) == 1 else f"{len(betas)} steps"
    return f"{steps}, beta {betas[0]:g} to {betas[-1]:g}"
