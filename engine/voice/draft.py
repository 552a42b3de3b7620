"""Drafts: a waveform that the last steps of the reverse process refine, in place of noise that all steps refine.

Phase retrieval comes closer to an exact mel than a short reverse process, but it does not know speech: on the smooth
mels of acoustic models its predicted MOS is far below (docs/steps.md). The last steps of DiffWave work on its waveform
as on any other with a little noise. Noise is added to the draft up to the level of the first of these steps, as in
SDEdit (Meng et al., ICLR 2022). GLA-Grad (Liu et al., ICASSP 2024) combines Griffin-Lim with a diffusion vocoder, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.audio.griffin_lim import ROUNDS, griffin_lim
from engine.audio.library import single
from engine.audio.rtisi import PhaseStream
from engine.audio.spectrogram import mel_settings
from engine.checks.arguments import check_recording
from engine.checks.arrays import FloatArray, on_device
from engine.checks.mels import MelBatch
from engine.config import Config
from engine.diffusion.schedule import Schedule, build_schedule
from engine.errors import InputError
from engine.kernels.cpu import normal
from engine.sampling.item import Event, Item, Progress, in_parts, stop_if_set

if TYPE_CHECKING:
    import torch

GRIFFIN_LIM, RTISI_LA = "griffin-lim", "rtisi-la"
DRAFTS = (GRIFFIN_LIM, RTISI_LA)
PIECE = 64  # frames of "rtisi-la" between two questions whether to stop
STEPS = 2  # docs/steps.md compares the numbers
MOST_FRAMES = 50_000  # of Griffin-Lim, which holds the whole spectrum: 35 KB a frame


def schedule_of_draft(
    config: Config, steps: Any, schedule: Sequence[float] | None = None, *energies: object
) -> Schedule:
    """Return the steps that refine a draft: the last ones of the fast schedule.

    Args:
        config: of the network.
        steps: their number; None for `STEPS`, "fast" for all.
        schedule: betas in place of `steps`.
        energies: see `check_white`.

    Raises:
        InputError: the number of steps is impossible, the schedule is, or the network is PriorGrad's.
    """
    check_white(config, *energies)
    if schedule is not None:
        return build_schedule(config, steps, schedule)
    fast = build_schedule(config, "fast")
    if steps == "fast":
        return fast
    count = min(STEPS, len(fast)) if steps is None else steps
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 1 <= count <= len(fast):
        raise InputError(f"steps: expected 1 to {len(fast)} beside a draft, the last steps of fast, got {steps!r:.80}")
    return fast.last(int(count))


def check_white(config: Config, *energies: object) -> None:
    """Check that the noise of a network is white, as a draft needs it.

    Args:
        config: of the network.
        energies: the `std` and the `energy_min` of the call where it names them; without them a PriorGrad network that
            does not record its own needs one, and the same message says so.

    Raises:
        InputError: the network is PriorGrad's.
    """
    if config.prior:
        needs = bool(energies) and not config.energy_min and all(value is None for value in energies)
        more = ", and pass energy_min=, the smallest frame energy of its training data" if needs else ""
        raise InputError(f"draft: PriorGrad's noise is not white, so its networks take no draft; leave it out{more}")


def check_draft(draft: Any, config: Config, batch: MelBatch) -> list[FloatArray] | None:
    """Return one waveform [L_i] per mel, or None for a name.

    Args:
        draft: one of `DRAFTS`, or audio in the form of `Voice.vocode`'s result: [L], [B, L] or a list of [L_i].
        config: of the network.
        batch: the mels.

    Raises:
        InputError: it is something else, has another form or length than the mels, or this mel cannot be inverted, or
            is too long for it.
    """
    if isinstance(draft, str):
        check_name(draft, config)
        if draft == GRIFFIN_LIM:
            check_frames(max(batch.lengths(1)))
        return None
    hop, lengths = config.hop, batch.lengths(config.hop)
    form = {"single": "[L]", "batch": f"[{len(lengths)}, L]", "list": f"a list of {len(lengths)}"}[batch.form]
    if batch.form == "batch" and isinstance(draft, (list, tuple)):
        raise InputError(f"draft: expected audio in the form of the mels, {form}, got {type(draft).__name__}")
    rows = draft if batch.form == "list" else [draft] if batch.form == "single" else check_recording(draft, "draft")
    if not isinstance(rows, (list, tuple, np.ndarray)) or len(rows) != len(lengths):
        got = list(draft.shape) if hasattr(draft, "shape") else f"{type(draft).__name__}"
        raise InputError(f"draft: expected audio in the form of the mels, {form}, got {got}")
    waveforms = []
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        name = "draft" if batch.form == "single" else f"draft[{i}]"
        samples = check_recording(row, name)
        expected = length if batch.padded is None else batch.padded * hop
        if len(samples) != 1 or samples.shape[1] != expected:
            got = samples.shape[1] if len(samples) == 1 else list(samples.shape)
            raise InputError(f"{name}: expected {expected} samples, the frames of its mel times {hop}, got {got}")
        waveforms.append(samples[0, :length])
    return waveforms


def check_name(draft: str, config: Config) -> None:
    """Check the name of a draft.

    Args:
        draft: one of `DRAFTS`.
        config: of the network.

    Raises:
        InputError: it is another name, or this network's mels cannot be inverted.
    """
    if not isinstance(draft, str) or draft not in DRAFTS:
        got = repr(draft)[:80] if isinstance(draft, str) else type(draft).__name__
        raise InputError(f"draft: expected {' or '.join(map(repr, DRAFTS))}, or audio for vocode, got {got}")
    try:
        mel_settings(config)
    except InputError as error:
        remedy = "leave it out, or pass audio to vocode"
        raise InputError(f"draft: {draft!r} cannot invert this mel ({error}); {remedy}") from None


def check_draft_of_stream(draft: Any, config: Config) -> None:
    """Check the draft of a stream.

    Args:
        draft: "rtisi-la".
        config: of the network.

    Raises:
        InputError: it is something else, or this network's mels cannot be inverted.
    """
    check_name(RTISI_LA, config)
    if not isinstance(draft, str):
        raise InputError(f"draft: expected {RTISI_LA!r} for a stream, got {type(draft).__name__}")
    if draft != RTISI_LA:
        why = ", which needs the whole mel" if draft == GRIFFIN_LIM else ""
        raise InputError(f"draft: expected {RTISI_LA!r} for a stream, got {draft!r:.80}{why}")


def check_frames(frames: int) -> None:
    """Check that a mel is short enough for Griffin-Lim.

    Args:
        frames: of the mel.

    Raises:
        InputError: it is too long.
    """
    if frames > MOST_FRAMES:
        raise InputError(
            f"draft: expected at most {MOST_FRAMES} frames for {GRIFFIN_LIM!r}, whose memory grows with them, "
            f"got {frames}; cut the mel, or take {RTISI_LA!r}"
        )


def begin_from(
    draft: Any,
    batch: MelBatch,
    items: Sequence[Item],
    plan: Schedule,
    config: Config,
    threads: int,
    device: torch.device | None,
    cancel: Event | None,
    progress: Progress | None = None,
) -> list[Item]:
    """Return items that begin from drafts: sqrt(alpha_bar) draft + sqrt(1 - alpha_bar) eps.

    Args:
        draft: see `check_draft`. The first phases of a named one are drawn from the item's seed.
        batch: the mels.
        items: with a mel, and with x for eps, or a seed for it.
        plan: the steps to do; alpha_bar is the level of the first.
        config: of the network.
        threads: of Griffin-Lim on a CPU.
        device: of the network's tensors; None for arrays.
        cancel: stops the computation.
        progress: called with the fraction done.

    Raises:
        InputError: see `check_draft`.
        Cancelled: the event was set.
    """
    waveforms = check_draft(draft, config, batch)
    reports = in_parts(progress, *(item.length for item in items))
    begun = []
    for i, item in enumerate(items):
        if waveforms is not None:
            waveform = on_device(waveforms[i], device)
        elif draft == GRIFFIN_LIM:
            waveform = _by_griffin_lim(item, config, threads, device, cancel, reports[i])
        else:
            waveform = on_device(_by_rtisi_la(item, config, cancel, reports[i]), device)
        eps = on_device(normal(item.seed, 0, 0, item.length) if item.x is None else item.x, device)
        begun.append(replace(item, x=with_noise(waveform, eps, plan)))
    return begun


def with_noise(draft: Any, eps: Any, plan: Schedule) -> Any:
    """Return x before the first step of a plan, in float32: sqrt(alpha_bar) draft + sqrt(1 - alpha_bar) eps."""
    return single(math.sqrt(plan.alpha_bar[0]) * draft + math.sqrt(1.0 - plan.alpha_bar[0]) * eps)


def open_phases(config: Config, seed: int) -> PhaseStream:
    """Return the draft "rtisi-la" of a mel that arrives in pieces."""
    settings = mel_settings(config)
    kind, fmax = settings["kind"], settings["fmax"]
    return PhaseStream(config.n_mels, config.sample_rate, kind=kind, fmax=fmax, seed=seed)


def _by_rtisi_la(item: Item, config: Config, cancel: Event | None, progress: Progress | None) -> FloatArray:
    phases, mel = open_phases(config, item.seed), on_device(item.mel, None)
    parts = []
    for first in range(0, mel.shape[1], PIECE):
        stop_if_set(cancel)
        if progress is not None:
            progress(first / mel.shape[1])
        parts.append(phases.feed(mel[:, first : first + PIECE]))
    return np.concatenate([*parts, phases.finish()])


def _by_griffin_lim(
    item: Item,
    config: Config,
    threads: int,
    device: torch.device | None,
    cancel: Event | None,
    progress: Progress | None,
) -> Any:
    settings = mel_settings(config)
    mel: FloatArray = np.asarray(on_device(item.mel, None))
    begun = count()

    def begin_round() -> None:
        stop_if_set(cancel)
        if progress is not None:
            progress(next(begun) / ROUNDS)

    return griffin_lim(
        mel,
        config.sample_rate,
        kind=settings["kind"],
        fmax=settings["fmax"],
        rounds=ROUNDS,
        seed=item.seed,
        threads=threads,
        device=device,
        each_round=begin_round,
    )
