"""A voice that runs as the original packages do: with their noise and their schedules, and any values in a mel."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.checkpoint.bundled import Model
from engine.checkpoint.load import Checkpoint
from engine.checks.arguments import check_reflection
from engine.checks.callers import warn_caller
from engine.checks.mels import MelBatch, check_mel, fit_to_kind
from engine.diffusion.schedule import Schedule, build_schedule
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.kernels.registry import Choice
from engine.sampling.item import make_items
from engine.voice import Voice
from engine.voice.loading import load_as

if TYPE_CHECKING:
    import torch

    Noise = tuple[torch.Tensor, torch.Tensor]


class OriginalVoice(Voice):
    """A voice with the checks of the original packages: a mel of another kind is a warning, and is not clipped.

    Attributes:
        overrides: of hyper-parameters, which later calls keep.
    """

    def __init__(self, checkpoint: Checkpoint, choice: Choice, threads: int, threads_reason: str = "requested") -> None:
        super().__init__(checkpoint, choice, threads, threads_reason)
        self.overrides: dict[str, Any] = {}

    def plan(self, betas: Sequence[float] | None, train_betas: Sequence[float] | None = None) -> Schedule:
        """Return the steps of a call.

        Args:
            betas: of the reverse process; None for the training schedule.
            train_betas: the scale on which the betas are aligned, None for the network's own.

        Raises:
            InputError: a beta has no position on the scale, or the network has no embedding for it.
        """
        config = self.config
        if train_betas is not None:
            config = replace(config, train_schedule=tuple(map(float, train_betas)))
        plan = build_schedule(config, "full") if betas is None else build_schedule(config, schedule=betas)
        last = len(self.config.train_schedule) - 1
        if max(plan.t) > last:
            raise InputError(f"noise_schedule: expected steps up to {last}, as the network has, got {max(plan.t):g}")
        return plan

    def decode(
        self, mel: torch.Tensor | None, shape: tuple[int, int], plan: Schedule, noise: Noise | None, seed: int | None
    ) -> torch.Tensor:
        """Return audio [B, L].

        Args:
            mel: float32 [B, M, T]; None for an unconditional network.
            shape: B and L.
            plan: the steps.
            noise: x_T [B, L] and z [S-1, B, L]; None for the engine's own noise.
            seed: of the engine's own noise; item i has the seed s + i.

        Raises:
            InputError: an argument has an impossible value.
        """
        import torch

        lengths, mels = [shape[1]] * shape[0], None
        if mel is not None:
            batch = check_mel(mel, self.config, self._loop.torch_device)
            self._warn_of_kind(batch)
            lengths, mels = batch.lengths(self.hop), batch.items
        check_reflection(self.config, shape[1], "spectrogram")
        items = make_items(lengths, len(plan), 0 if seed is None else seed, noise, mels=mels)
        return torch.stack([torch.as_tensor(row) for row in self._loop.sample(items, plan, None, None)])

    def _warn_of_kind(self, batch: MelBatch) -> None:
        try:
            fit_to_kind(batch, self.config.mel_kind, quiet=True)
        except InputError as error:  # the original packages compute noise without a word
            warn_caller(str(error))


_loading = threading.Lock()


def load_original(
    cache: dict[Any, OriginalVoice],
    model: Model | None,
    families: tuple[str, ...],
    *,
    device: str | torch.device = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    config: str | None = None,
) -> OriginalVoice:
    """Return a voice from a cache of loaded ones, or load it.

    Args:
        cache: the loaded voices of a package, by model and options.
        model: see `engine.load`.
        families: the families whose computation the package has.
        device: "auto", "cpu", "cuda", "cuda:1" or a torch.device.
        precision: see `engine.load`.
        threads: see `engine.load`.
        config: see `engine.checkpoint.load_checkpoint`.

    Raises:
        CheckpointError: the checkpoint belongs to another family; or see `engine.load`.
        UnavailableError: see `engine.load`.
    """
    # Content is loaded anew by every call.
    name = os.fsdecode(model) if isinstance(model, (str, os.PathLike)) else None
    key = (name, str(device), precision, threads, config)
    with _loading:
        if key not in cache or (name is None and model is not None):
            voice = load_as(
                OriginalVoice, model, device=str(device), precision=precision, threads=threads, config=config
            )
            family = voice.config.family
            if family not in families:
                expected = f"expected a checkpoint of the family {' or '.join(families)}, got {family}"
                raise CheckpointError(f"{name or 'model'}: {expected}; load it with engine.load")
            cache[key] = voice
        return cache[key]


def check_torch() -> None:
    """Check that PyTorch is installed.

    Raises:
        UnavailableError: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise UnavailableError("engine.compat: its calls return tensors of PyTorch; pip install torch")


def check_noise(**sources: object) -> None:
    """Check that at most one source of noise is given, since a second one would have no effect.

    Args:
        sources: the arguments by name, None for one that is not given.

    Raises:
        InputError: several are given.
    """
    stated = [name for name, value in sources.items() if value is not None]
    if len(stated) > 1:
        first, second = stated[:2]
        raise InputError(f"{first}: expected None beside {second}, got both; pass one of {', '.join(sources)}")


def as_batch(mel: Any, device: torch.device) -> torch.Tensor:
    """Return a mel [M, T] or [B, M, T], NumPy or torch, as a tensor [B, M, T] on a device.

    Args:
        mel: the mel.
        device: of the result.

    Raises:
        InputError: it is neither an array nor a tensor, or has another rank.
    """
    import torch

    if not hasattr(mel, "shape") or len(mel.shape) not in (2, 3):
        got = f"shape {tuple(mel.shape)}" if hasattr(mel, "shape") else type(mel).__name__
        raise InputError(f"spectrogram: expected a tensor [M, T] or [B, M, T], got {got}")
    tensor = torch.as_tensor(mel).detach().to(device)
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor


def draw_noise(batch: int, length: int, steps: int, device: torch.device, generator: torch.Generator | None) -> Noise:
    """Draw noise from PyTorch's generator in the order of the original packages.

    After the same torch.manual_seed, on the same device, it is the noise that they draw.

    Args:
        batch: B, the number of items.
        length: L, samples per item.
        steps: S, of which the last adds no noise.
        device: where the original package would draw it.
        generator: None for the global one.

    Returns:
        x_T [B, L] and z [S-1, B, L] on the device.
    """
    import torch

    x = torch.randn(batch, length, device=device, generator=generator)
    z = torch.empty(steps - 1, batch, length, device=device)
    for step in z:
        step.normal_(generator=generator)
    return x, z


def device_of(voice: Voice) -> torch.device:
    """Return the device on which a package would have the audio of a voice.

    Args:
        voice: on a CPU or a GPU.
    """
    import torch

    kind = voice.choice.device
    return torch.device(kind if kind == "cpu" else f"{kind}:{voice.choice.index}")
