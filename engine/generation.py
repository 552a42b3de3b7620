"""Sound without a mel: from noise alone, and from recordings that enter the reverse process half way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.checks.arguments import (
    check_count,
    check_fraction,
    check_guidance,
    check_noise,
    check_recording,
    check_seconds,
    check_seed,
)
from engine.checks.arrays import FloatArray, device_of, on_device, stacked
from engine.checks.mels import check_mel, check_mel_length, check_range
from engine.diffusion.labels import choose, choose_told
from engine.diffusion.noise import normal
from engine.diffusion.schedule import Schedule, build_schedule
from engine.errors import InputError
from engine.sampling import guidance as guided
from engine.sampling.item import Item, Progress

if TYPE_CHECKING:
    from engine.config import Config
    from engine.kernels import registry
    from engine.sampling.loops import Loop


class Generation:
    """The part of `engine.voice.Voice` that needs no mel."""

    config: Config
    choice: registry.Choice
    _loop: Loop

    def generate(
        self,
        n: int = 1,
        label: Any = None,
        *,
        guidance: float | None = None,
        seconds: float | None = None,
        samples: int | None = None,
        steps: int | str = "full",
        seed: int | Sequence[int] = 0,
        schedule: Sequence[float] | None = None,
        noise: tuple[Any, Any] | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Sound from nothing, or of a class that was asked for (paper, sections 3.2 and 5.2).

        Args:
            n: how many clips.
            label: for a network with classes, a number or a name (3, "3", "3 jackson"), or a list of n of them. It
                means the class of that name, or else those whose first word it is; of several, each clip gets one that
                is drawn from the clip's seed (`classes_of` says which). None means all classes.
            guidance: for a network with classes that has also learnt to be without a label, how far to go from there
                towards the label, 0 to 100: 1 is the label alone, more is more clearly what was asked for. Anything
                but 1 takes two evaluations a step. None means the network's own (`config.guidance`).
            seconds: length of each clip; round(seconds * sample_rate) samples.
            samples: the same in samples. Without either, the length of `noise`, then that of the training clips
                (`config.clip_samples`).
            steps: "full", the training schedule, or 6, the fast one.
            seed: of the noise; an integer s gives clip i the seed s + i, a list gives one per clip.
            schedule, noise, progress: as in `Voice.vocode`.

        Returns:
            float32 [n, L] in [-1,1]; a torch tensor if the noise is one.

        Raises:
            InputError: the network wants a mel, or an argument has an impossible value.
        """
        if self.config.n_mels:
            raise InputError("generate: this network wants a mel; use vocode(mel)")
        n = check_count(n, "n")
        length = self._length(seconds, samples, noise)
        plan = build_schedule(self.config, steps, schedule)
        self._check_reflection([length], "samples")
        seeds = check_seed(seed, n)
        labels = choose(self.config.classes, label, seeds)
        weight = check_guidance(guidance, self.config)
        items = self._items([None] * n, [length] * n, plan, seeds, noise, [(None, 1)] * n, labels)
        where = None if noise is None else device_of(noise[0])
        if weight == 1.0:
            audio = self._loop.sample(items, plan, progress)
        else:
            audio = guided.sample(self._loop, items, plan, self.config, weight, progress)
        return stacked([on_device(row, where) for row in audio])

    def classes_of(self, n: int = 1, label: Any = None, seed: int | Sequence[int] = 0) -> list[str]:
        """The names of the classes that `generate` gives its n clips for these arguments."""
        chosen = choose(self.config.classes, label, check_seed(seed, check_count(n, "n")))
        return [self.config.classes[one] for one in chosen if one is not None]

    def denoise(
        self,
        audio: Any,
        t: int = 25,
        *,
        seed: int | Sequence[int] = 0,
        label: Any = None,
        mel: Any = None,
        progress: Progress | None = None,
    ) -> Any:
        """Take noise out of a recording, without training for it (paper, section 5.4).

        The recording is taken for x_t and the reverse process goes on from there: t steps of the training schedule.
        The network must have learnt such sounds; what it has not learnt goes with the noise.

        Args:
            audio: float32 [L] or [B,L] in about [-1,1], at `sample_rate`; numpy or torch.
            t: where to enter, 1 to T: the more noise there is, the higher; more of the sound is then made up, too.
            seed: of the noise that the steps add; an integer s gives item i the seed s + i.
            label: for a network with classes, as in `generate`, but not None.
            mel: for a vocoder, float32 [M,T] or [B,M,T] with T * hop = L, of the clean sound.
            progress: called with the fraction that is done.

        Returns:
            The audio in the shape and kind (numpy or torch) in which it came, float32 in [-1,1].

        Raises:
            InputError: an argument has an impossible value, or the network is one of PriorGrad's.
        """
        config = self.config
        if config.prior:
            raise InputError("denoise: PriorGrad's noise is not white, which is not built; expected another network")
        signal = check_recording(audio, "audio")
        plan = self._from(t)
        self._check_reflection([signal.shape[1]], "audio")
        seeds = check_seed(seed, len(signal))
        labels = choose_told(config.classes, label, seeds)
        mels: list[Any] = [None] * len(signal)
        if config.n_mels:
            if mel is None:
                raise InputError(f"mel: this network wants one, [B, {config.n_mels}, T], got None")
            batch = check_mel(mel, config, self.choice.device)
            check_range(batch.items, config.mel_kind)
            check_mel_length(batch, signal, config.hop, "audio")
            mels = list(batch.items)
        elif mel is not None:
            raise InputError("mel: this network takes none")
        return self._continued(audio, signal, mels, labels, seeds, plan, progress)

    def interpolate(
        self,
        a: Any,
        b: Any,
        weight: float = 0.5,
        t: int = 50,
        *,
        seed: int | Sequence[int] = 0,
        label: Any = None,
        progress: Progress | None = None,
    ) -> Any:
        """A sound between two recordings (paper, section 5.4).

        Both are diffused to step t with the same noise eps, mixed there, and the reverse process goes back::

            x_t = (1 - weight) q(a) + weight q(b),  q(x_0) = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

        Args:
            a, b: float32 [L] or [B,L] of one shape, in about [-1,1], at `sample_rate`; numpy or torch.
            weight: of b, 0 to 1.
            t: the step at which they are mixed, 1 to T. The higher, the less is left of either.
            seed: of eps and of the noise that the steps add; an integer s gives item i the seed s + i.
            label: for a network with classes, as in `generate`, but not None.
            progress: called with the fraction that is done.

        Returns:
            The audio in the shape and kind (numpy or torch) of a, float32 in [-1,1].

        Raises:
            InputError: an argument has an impossible value, or the network wants a mel.
        """
        if self.config.n_mels:
            raise InputError("interpolate: this network wants a mel; expected one that makes sound without")
        first, second = check_recording(a, "a"), check_recording(b, "b")
        if tuple(a.shape) != tuple(b.shape):
            raise InputError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
        share, plan = check_fraction(weight, "weight"), self._from(t)
        self._check_reflection([first.shape[1]], "a")
        seeds = check_seed(seed, len(first))
        labels = choose_told(self.config.classes, label, seeds)
        # Linear in x_0, and eps is the same on both sides: mixing first is the same, with half of the work.
        level = plan.alpha_bar[0]
        mixed = np.empty_like(first)
        for row, x, y, one in zip(mixed, first, second, seeds, strict=True):
            eps = normal(one, 0, 0, len(row))
            row[:] = math.sqrt(level) * ((1.0 - share) * x + share * y) + math.sqrt(1.0 - level) * eps
        return self._continued(a, mixed, [None] * len(mixed), labels, seeds, plan, progress)

    def _length(self, seconds: Any, samples: Any, noise: Any) -> int:
        if seconds is not None:
            if samples is not None:
                raise InputError(f"samples: expected None beside seconds, got {samples!r:.80}")
            return check_seconds(seconds, self.config.sample_rate)
        if samples is None and isinstance(noise, (tuple, list)) and noise:
            samples = next(iter(reversed(getattr(noise[0], "shape", ()))), None)
        if samples is None and self.config.clip_samples:
            samples = self.config.clip_samples
        if samples is None:
            raise InputError(
                "samples: expected an integer, or seconds; this network does not tell the length of its clips"
            )
        return check_count(samples, "samples")

    def _from(self, t: Any) -> Schedule:
        """The steps of the training schedule that remain at x_t."""
        plan = build_schedule(self.config, "full")
        return plan.last(check_count(t, "t", len(plan)))

    def _continued(
        self,
        given: Any,
        starts: FloatArray,
        mels: Sequence[Any],
        labels: Sequence[int | None],
        seeds: Sequence[int],
        plan: Schedule,
        progress: Progress | None,
    ) -> Any:
        """The reverse process from starts [B,L] on, in the form of what was given."""
        rows = [
            Item(len(x), mel, seed, x=x, label=label)
            for x, mel, seed, label in zip(starts, mels, seeds, labels, strict=True)
        ]
        audio = [on_device(row, device_of(given)) for row in self._loop.sample(rows, plan, progress)]
        return stacked(audio).reshape(given.shape)

    def _check_reflection(self, lengths: list[int], name: str = "mel") -> None:
        furthest = max(self.config.dilations)
        if self.config.padding == "reflect" and min(lengths) <= furthest:
            raise InputError(
                f"{name}: this network pads by reflection and needs more than {furthest} samples, got {min(lengths)}"
            )

    def _items(
        self,
        mels: Sequence[Any],
        lengths: list[int],
        plan: Schedule,
        seed: Any,
        noise: Any,
        prior: Sequence[Any],
        labels: Sequence[int | None] | None = None,
    ) -> list[Item]:
        if noise is not None:
            given: Any = check_noise(noise, lengths, len(plan))
            seeds = [0] * len(mels)
        else:
            seeds = check_seed(seed, len(mels))
            given = [(None, None)] * len(mels)
        whose = labels if labels is not None else [None] * len(mels)
        return [
            Item(length, mel, s, x, z, scale, repeat, label)
            for length, mel, s, (x, z), (scale, repeat), label in zip(
                lengths, mels, seeds, given, prior, whose, strict=True
            )
        ]
