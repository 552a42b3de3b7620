"""LMNT's package `diffwave`: `engine.compat.lmnt.predict` in place of `diffwave.inference.predict`.

The reference is diffwave 0.1.7. Differences:

- The hyper-parameters come from the checkpoint, which the package writes into it. The package uses its own params.py
  whatever the file says, and so cannot load networks of other sizes.
- Checkpoints are read without unpickling. Converted ones and addresses of a hub load as well (`engine.load`).
- A mel whose values cannot be of LMNT's kind is a warning.
- A schedule with betas outside the range of the training schedule is an error. The package fails or misaligns it.
- No gradients, as there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.checkpoint.bundled import Model
from engine.checks.arguments import check_clip_length
from engine.checks.arrays import AnyArray
from engine.compat.original import (
    OriginalVoice,
    as_batch,
    check_noise,
    check_torch,
    device_of,
    draw_noise,
    load_original,
)
from engine.config import BASE_FAST_SCHEDULE
from engine.errors import InputError

if TYPE_CHECKING:
    import torch

Params = Mapping[str, Any]

# The loaded networks; `models.clear()` forgets them, and the overrides of `params`.
models: dict[Any, OriginalVoice] = {}


def predict(
    spectrogram: AnyArray | None = None,
    model_dir: Model | None = None,
    params: Params | Sequence[Any] | None = None,
    device: str | torch.device = "auto",
    fast_sampling: bool = False,
    *,
    noise: tuple[torch.Tensor, torch.Tensor] | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> tuple[torch.Tensor, int]:
    """Return the audio of a spectrogram, as LMNT's `predict`.

    The noise is drawn from PyTorch's generator in the order of the package: after the same torch.manual_seed the audio
    is the package's, except in the package's first call, which draws initial weights as well. This noise takes
    steps * samples * 4 bytes; that of `seed` takes none.

    Args:
        spectrogram: float32 [M, T] or [B, M, T] of LMNT's kind; None for an unconditional network, as in the
            package's newer sources.
        model_dir: a folder with weights.pt, or the path of a checkpoint; None for the bundled voice. A network is
            loaded once; see `models`.
        params: overrides of hyper-parameters, or a sequence of them. They stay for later calls with the same network,
            as in the package. Only the schedules, the sample rate and `audio_len` have an effect.
        device: of the computation and of the audio. "auto" is a GPU if there is one, and else the CPU, where the
            package's default fails.
        fast_sampling: whether to use the inference schedule (6 steps) in place of the training schedule (50).
        noise: x_T [B, L] and z [S-1, B, L] in place of drawing them.
        seed: of the engine's own noise, in place of PyTorch's.
        generator: of PyTorch's noise; None for the global one.
        precision: see `engine.load`. "fp32" is the package's; "auto" is the fastest.
        threads: see `engine.load`.

    Returns:
        The audio, float32 [B, T * hop] on the device, and the sample rate. B is 1 for a spectrogram [M, T].

    Raises:
        InputError: an argument has an impossible value, `params` included.
        CheckpointError: see `engine.load`.
    """
    check_torch()
    check_noise(noise=noise, seed=seed, generator=generator)
    import torch

    voice = load_original(models, _path_of(model_dir), ("lmnt",), device=device, precision=precision, threads=threads)
    settings = voice.overrides
    _override(settings, params)
    config, place = voice.config, device_of(voice)
    hop = settings.get("hop_samples", voice.hop)
    if config.n_mels and hop != voice.hop:
        raise InputError(f"hop_samples: expected {voice.hop}, as the network upsamples, got {hop!r:.80}")
    training = settings.get("noise_schedule")
    betas = settings.get("inference_noise_schedule", config.fast_schedule or BASE_FAST_SCHEDULE)
    plan = voice.plan(betas if fast_sampling else None, training)
    rate = int(settings.get("sample_rate", voice.sample_rate))
    with torch.no_grad():
        mel = None if spectrogram is None else as_batch(spectrogram, place)
        if mel is None and config.n_mels:
            raise InputError(f"spectrogram: expected [{config.n_mels}, T], got None")
        if mel is None:
            shape = 1, check_clip_length(config, None, settings.get("audio_len"), None)
        else:
            shape = mel.shape[0], mel.shape[-1] * voice.hop
        if noise is None and seed is None:
            noise = draw_noise(*shape, len(plan), place, generator)
        return voice.decode(mel, shape, plan, noise, seed).to(place), rate


def _path_of(model_dir: Model | None) -> Model | None:
    """Return weights.pt in a folder that has it, as the package does; else the model itself."""
    if isinstance(model_dir, (str, os.PathLike)):
        weights = os.path.join(os.fspath(model_dir), "weights.pt")
        return weights if os.path.exists(weights) else model_dir
    return model_dir


def _override(settings: dict[str, Any], params: Any) -> None:
    if isinstance(params, Mapping):
        settings.update(params)
    elif isinstance(params, (list, tuple, set)):
        for entry in params:
            _override(settings, entry)
    elif params is not None:
        raise InputError(f"params: expected a dict or a sequence of them, got {type(params).__name__}")
