"""Load a network, or use one in a single call: `engine.load`, `engine.vocode`, `engine.generate`, ..."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from engine.checkpoint.bundled import NAMES, Model
from engine.checks.arrays import AnyArray, ArrayT, FloatArray, MelT
from engine.sampling.item import Event, Progress
from engine.voice import Voice
from engine.voice.loading import load_as

if TYPE_CHECKING:
    import torch


def load(
    path: Model | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    isa: str | None = None,
    mel_kind: str | None = None,
    weights: str | None = None,
) -> Voice:
    """Load a checkpoint and pack it for this machine.

    Args:
        path: a checkpoint of any public implementation (docs/checkpoints.md), its folder, or its content as bytes or as
            an open binary file; or "hf://owner/name[@revision][/file]" on the Hugging Face Hub (docs/hub.md); or the
            name of a bundled network (`engine.checkpoint.bundled.NAMES`); None for the bundled voice.
        device: "auto" for a GPU where there is one; "cpu"; "cuda", or "cuda:1" for another than the first.
        precision: "auto" for the fastest; on a CPU "fp32", "bf16" or, where the checkpoint is calibrated for it
            (docs/checkpoints.md), "int8"; on a GPU "fp16", "bf16", "tf32" or "fp32".
        threads: the most threads of a call on a CPU; None for all processors of this process: the least of its
            affinity, its CPU quota (cgroups) and OMP_NUM_THREADS.
        isa: the instruction set of a CPU; None for the best of this processor. On a GPU, "mma" runs residual layers in
            groups, by a kernel in CUDA (docs/gpu.md); "sm_90a" does so on compute capability 9.0.
        mel_kind: the kind of mel that the checkpoint needs ("lmnt", ...), where its file does not say.
        weights: "raw", or "ema" for the average over the training that some files hold beside them; None for the raw
            ones, or the average of a file that has nothing else.

    Raises:
        CheckpointError: the file or the bundled network is missing, damaged, hostile or not a DiffWave network.
        UnavailableError: the device, precision or isa is not available here; the message says why.
        InputError: an argument has an impossible value.
    """
    return load_as(
        Voice,
        path,
        device=device,
        precision=precision,
        threads=threads,
        isa=isa,
        mel_kind=mel_kind,
        weights=weights,
    )


@lru_cache(maxsize=len(NAMES))
def bundled_voice(name: str = "voice") -> Voice:
    """Return a bundled network, loaded once."""
    return load(name)


def vocode(
    mel: MelT,
    *,
    model: Model = "voice",
    lengths: Sequence[int] | npt.NDArray[np.integer] | torch.Tensor | None = None,
    steps: int | str | None = None,
    seed: int | Sequence[int] = 0,
    schedule: Sequence[float] | None = None,
    noise: tuple[AnyArray, AnyArray] | None = None,
    std: AnyArray | Sequence[AnyArray] | None = None,
    energy_min: float | None = None,
    draft: str | MelT | None = None,
    match_mel: float | None = None,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> MelT:
    """Turn mel spectrograms into audio with one call of `Voice.vocode`.

    Args:
        mel: see `Voice.vocode`, as for all other arguments but `model`.
        model: a bundled network, which is loaded once, or a checkpoint, which every call loads.
        lengths: frames per item of a padded batch.
        steps: "fast" (the default), "full" or a number.
        seed: of the noise.
        schedule: betas in place of `steps`.
        noise: in place of `seed`.
        std: for a PriorGrad network.
        energy_min: for a PriorGrad network.
        draft: "griffin-lim", "rtisi-la", or a waveform to refine.
        match_mel: the largest gain of a band towards the mel.
        cancel: an event that stops the call.
        progress: called with the fraction done.
    """
    return _voice(model).vocode(
        mel,
        lengths=lengths,
        steps=steps,
        seed=seed,
        schedule=schedule,
        noise=noise,
        std=std,
        energy_min=energy_min,
        draft=draft,
        match_mel=match_mel,
        cancel=cancel,
        progress=progress,
    )


@overload
def generate(
    *,
    n: int = 1,
    label: int | str | Sequence[int | str] | None = None,
    model: Model = "digits",
    steps: int | str | None = None,
    seed: int | Sequence[int] = 0,
    schedule: Sequence[float] | None = None,
    noise: tuple[FloatArray, FloatArray] | None = None,
    guidance: float | None = None,
    temperature: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> FloatArray: ...


@overload
def generate(
    *,
    n: int = 1,
    label: int | str | Sequence[int | str] | None = None,
    model: Model = "digits",
    steps: int | str | None = None,
    seed: int | Sequence[int] = 0,
    schedule: Sequence[float] | None = None,
    noise: tuple[torch.Tensor, torch.Tensor],
    guidance: float | None = None,
    temperature: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> torch.Tensor: ...


def generate(
    *,
    n: int = 1,
    label: int | str | Sequence[int | str] | None = None,
    model: Model = "digits",
    steps: int | str | None = None,
    seed: int | Sequence[int] = 0,
    schedule: Sequence[float] | None = None,
    noise: tuple[AnyArray, AnyArray] | None = None,
    guidance: float | None = None,
    temperature: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> AnyArray:
    """Generate sound without a mel with one call of `Voice.generate`.

    Args:
        n: the number of clips; see `Voice.generate`, as for all other arguments but `model`.
        label: the class of every clip.
        model: a bundled network, which is loaded once, or a checkpoint, which every call loads.
        steps: "full" (the default), "fast" or a number.
        seed: of the noise.
        schedule: betas in place of `steps`.
        noise: in place of `seed`.
        guidance: classifier-free guidance.
        temperature: scales the noise.
        seconds: the length of each clip.
        samples: the length in samples.
        cancel: an event that stops the call.
        progress: called with the fraction done.
    """
    return _voice(model).generate(  # type: ignore[misc]
        n=n,
        label=label,
        steps=steps,
        seed=seed,
        schedule=schedule,
        noise=noise,  # type: ignore[arg-type]
        guidance=guidance,
        temperature=temperature,
        seconds=seconds,
        samples=samples,
        cancel=cancel,
        progress=progress,
    )


def denoise(
    audio: ArrayT,
    *,
    model: Model = "digits-unconditional",
    t: int = 25,
    label: int | str | Sequence[int | str] | None = None,
    mel: AnyArray | None = None,
    seed: int | Sequence[int] = 0,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> ArrayT:
    """Remove noise from a recording with one call of `Voice.denoise`.

    Args:
        audio: see `Voice.denoise`, as for all other arguments but `model`.
        model: a bundled network, which is loaded once, or a checkpoint, which every call loads.
        t: the step to enter at.
        label: the class of the sound.
        mel: of the clean sound, for a vocoder.
        seed: of the noise.
        cancel: an event that stops the call.
        progress: called with the fraction done.
    """
    return _voice(model).denoise(audio, t=t, label=label, mel=mel, seed=seed, cancel=cancel, progress=progress)


def interpolate(
    a: ArrayT,
    b: ArrayT,
    *,
    model: Model = "digits-unconditional",
    weight: float = 0.5,
    t: int = 50,
    label: int | str | Sequence[int | str] | None = None,
    seed: int | Sequence[int] = 0,
    cancel: Event | None = None,
    progress: Progress | None = None,
) -> ArrayT:
    """Compute a sound between two recordings with one call of `Voice.interpolate`.

    Args:
        a: see `Voice.interpolate`, as for all other arguments but `model`.
        b: the other recording.
        model: a bundled network, which is loaded once, or a checkpoint, which every call loads.
        weight: of b, 0 to 1.
        t: the step of the mixture.
        label: the class of the sound.
        seed: of the noise.
        cancel: an event that stops the call.
        progress: called with the fraction done.
    """
    return _voice(model).interpolate(a, b, weight=weight, t=t, label=label, seed=seed, cancel=cancel, progress=progress)


def _voice(model: Model) -> Voice:
    return bundled_voice(model) if isinstance(model, str) and model in NAMES else load(model)
