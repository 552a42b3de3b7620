"""Recordings as input: noise removed from one, and a sound between two (paper, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.checks.arguments import (
    check_count,
    check_fraction,
    check_recording,
    check_reflection,
    check_seed,
)
from engine.checks.arrays import AnyArray, ArrayT, FloatArray, in_form_of
from engine.checks.mels import check_mels_of
from engine.config import Config
from engine.diffusion.labels import resolve_labels
from engine.diffusion.noise import diffuse
from engine.diffusion.schedule import Schedule, build_schedule
from engine.errors import InputError
from engine.sampling.item import Event, Item, Progress, check_callbacks
from engine.sampling.loops import Loop
from engine.voice.loading import Loadable


class Editor(Loadable):
    """The part of a voice that changes recordings.

    Attributes:
        config: the network's hyper-parameters.
    """

    config: Config
    _loop: Loop

    def denoise(
        self,
        audio: ArrayT,
        *,
        t: int = 25,
        label: int | str | Sequence[int | str] | None = None,
        mel: AnyArray | None = None,
        seed: int | Sequence[int] = 0,
        cancel: Event | None = None,
        progress: Progress | None = None,
    ) -> ArrayT:
        """Remove noise from a recording with a network that was not trained for it (paper, section 5.4).

        The recording takes the place of x_t and the reverse process runs its last t steps. It keeps sounds of the kind
        that the network learnt and removes others together with the noise.

        Args:
            audio: float32 [L] or [B, L] in about [-1, 1] at `sample_rate`; NumPy or torch.
            t: the step to enter at, 1 to T. More noise needs a higher step, which also invents more of the sound.
            label: for a network with classes, see `generate`; required there.
            mel: for a vocoder, float32 [M, T] or [B, M, T] of the clean sound, T * hop = L.
            seed: of the noise that the steps add. An integer s gives item i the seed s + i.
            cancel: see `vocode`.
            progress: called with the fraction done, 0 to 1.

        Returns:
            float32 audio in [-1, 1], of the shape and kind of `audio`.

        Raises:
            InputError: an argument has an impossible value, or the network is a PriorGrad network.
            Cancelled: the event `cancel` was set.
        """
        cancel, progress = check_callbacks(cancel, progress)
        config = self.config
        if config.prior:
            raise InputError("denoise: PriorGrad's noise is not white, which is not built; expected another network")
        signal = check_recording(audio, "audio")
        plan = self._last_steps(t)
        check_reflection(config, signal.shape[1], "audio")
        seeds = check_seed(seed, len(signal))
        labels = resolve_labels(config.classes, label, seeds, required=True)
        mels = check_mels_of(signal, mel, config, self._loop.torch_device, "audio")
        return self._finish(audio, signal, mels, labels, seeds, plan, progress, cancel)

    def interpolate(
        self,
        a: ArrayT,
        b: ArrayT,
        *,
        weight: float = 0.5,
        t: int = 50,
        label: int | str | Sequence[int | str] | None = None,
        seed: int | Sequence[int] = 0,
        cancel: Event | None = None,
        progress: Progress | None = None,
    ) -> ArrayT:
        """Compute a sound between two recordings (paper, section 5.4).

        Both are diffused to step t with the same noise eps and mixed; the reverse process runs from there::

            x_t = (1 - weight) q(a) + weight q(b),  q(x_0) = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

        Args:
            a: float32 [L] or [B, L] in about [-1, 1] at `sample_rate`; NumPy or torch.
            b: likewise, of the shape of a.
            weight: of b, 0 to 1.
            t: the step of the mixture, 1 to T. A higher step keeps less of either recording.
            label: for a network with classes, see `generate`; required there.
            seed: of eps and of the noise that the steps add. An integer s gives item i the seed s + i.
            cancel: see `vocode`.
            progress: called with the fraction done, 0 to 1.

        Returns:
            float32 audio in [-1, 1], of the shape and kind of a.

        Raises:
            InputError: an argument has an impossible value, or the network needs a mel.
            Cancelled: the event `cancel` was set.
        """
        cancel, progress = check_callbacks(cancel, progress)
        if self.config.n_mels:
            raise InputError("interpolate: this network wants a mel; expected one that makes sound without")
        first, second = check_recording(a, "a"), check_recording(b, "b")
        if tuple(a.shape) != tuple(b.shape):
            raise InputError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
        share, plan = check_fraction(weight, "weight"), self._last_steps(t)
        check_reflection(self.config, first.shape[1], "a")
        seeds = check_seed(seed, len(first))
        labels = resolve_labels(self.config.classes, label, seeds, required=True)
        # q is linear in x_0 and eps is the same on both sides: mixing before q is equal, at half the work.
        mixed = diffuse((1.0 - share) * first + share * second, plan.alpha_bar[0], seeds)
        return self._finish(a, mixed, [None] * len(mixed), labels, seeds, plan, progress, cancel)

    def _last_steps(self, t: Any) -> Schedule:
        """Return the steps of the training schedule that remain at x_t."""
        plan = build_schedule(self.config, "full")
        return plan.last(check_count(t, "t", len(plan)))

    def _finish(
        self,
        original: ArrayT,
        starts: FloatArray,
        mels: Sequence[Any],
        labels: Sequence[int | None],
        seeds: Sequence[int],
        plan: Schedule,
        progress: Progress | None,
        cancel: Event | None,
    ) -> ArrayT:
        """Run the reverse process from starts [B, L] and return it in the form of the original."""
        items = [
            Item(len(x), mel, seed, x=x, label=label)
            for x, mel, seed, label in zip(starts, mels, seeds, labels, strict=True)
        ]
        return in_form_of(original, self._loop.sample(items, plan, progress, cancel))
