"""A loaded network: vocode, stream, generate. `engine.voice.editing` adds denoise and interpolate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from engine.checkpoint.load import Checkpoint
from engine.checks.arguments import (
    check_clip_length,
    check_count,
    check_guidance,
    check_number,
    check_reflection,
    check_seed,
    check_signal,
    check_temperature,
)
from engine.checks.arrays import AnyArray, ArrayT, FloatArray, MelT, device_of, in_form_of, on_device, stack
from engine.checks.mels import check_mel, check_mels_of, fit_to_kind, warn_unknown_kind
from engine.diffusion.labels import resolve_labels
from engine.diffusion.prior import check_prior, resolve_energy_min
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError
from engine.kernels import registry
from engine.sampling import guidance as classifier_free
from engine.sampling.item import Event, Item, Progress, check_callbacks, check_cancel, cooled, in_parts, make_items
from engine.sampling.loops import LOOPS, StreamWindow
from engine.sampling.streaming.chunks import Chunks, merge_streams
from engine.sampling.streaming.stream import Stream
from engine.voice.draft import begin_from, check_draft_of_stream, open_phases, schedule_of_draft
from engine.voice.draft_stream import DraftedWindow
from engine.voice.editing import Editor
from engine.voice.matching import MatchedWindow, check_match, front_end, match_items

if TYPE_CHECKING:
    import torch

# Of Griffin-Lim and of the match, in steps of the network, for the progress of a call.
DRAFT_WORK, MATCH_WORK = 1.0, 0.2


class Voice(Editor):
    """One network, ready to run. `engine.load` makes it; several threads may use it at once.

    Attributes:
        config: the network's hyper-parameters (`engine.config.Config`).
        sample_rate: of the audio, in Hz.
        hop: samples per mel frame.
        choice: the backend, instruction set and precision.
        threads: how many threads a call uses.
    """

    def __init__(
        self, checkpoint: Checkpoint, choice: registry.Choice, threads: int, threads_reason: str = "requested"
    ) -> None:
        self.config = checkpoint.config
        self.sample_rate = checkpoint.config.sample_rate
        self.hop = checkpoint.config.hop
        self.choice = choice = registry.settle(choice, checkpoint.config)
        self.threads = threads
        self._reasons = *checkpoint.weights_line(), *choice.reasons, f"threads {threads}: {threads_reason}"
        self._warn_once = cache(warn_unknown_kind)
        network = registry.build(checkpoint.config, checkpoint.tensors, choice)
        self._loop = LOOPS[choice.device](network, checkpoint.tensors, threads)

    def vocode(
        self,
        mel: MelT,
        *,
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
        """Turn mel spectrograms into audio (paper, algorithm 2).

        Args:
            mel: float32 [M, T], [B, M, T] or a list of [M, T_i], of the checkpoint's kind (`config.mel_kind`); NumPy
                or torch.
            lengths: for a padded batch [B, M, T], the frames of every item. Its audio is the audio that it has alone,
                followed by zeros; the frames behind its length are not read.
            steps: "fast" (the default: the checkpoint's own, else the paper's 6), "full" (the training's), or a number.
            seed: of the noise. An integer s gives item i the seed s + i; a list gives one per item. The audio of an
                item depends on its mel, its seed and the schedule, never on the batch.
            schedule: betas in place of `steps`, smallest first.
            noise: (x_T [B, L], z [S-1, B, L]) standard normal in the order of execution, in place of `seed`.
            std: for a PriorGrad network, the standard deviation of the noise of every sample, [B, L].
            energy_min: for a PriorGrad network in place of `std`, the smallest frame energy of its training data
                (`engine.diffusion.prior`); None for the checkpoint's own value.
            draft: "griffin-lim", "rtisi-la", or audio [L], [B, L] or a list of [L_i] of another vocoder, for the last
                `steps` of the fast schedule (2 by default) to refine (docs/steps.md); None begins from noise.
            match_mel: after the last step, scale the bands of the audio towards those of the mel by at most this gain
                (docs/steps.md): 1 only attenuates, math.inf has no limit; None leaves the audio as it is.
            cancel: a threading.Event, or any object with its `is_set`; once it is set, the call raises Cancelled.
            progress: called with the fraction done, 0 to 1. Griffin-Lim counts as a step of the network.

        Returns:
            float32 audio in [-1, 1]: [L], [B, L] or a list of [L_i] as the mel, L = T * hop; NumPy or torch as the
            mel, on its device.

        Raises:
            InputError: an argument has an impossible value; the message names it.
            Cancelled: the event `cancel` was set.
        """
        cancel, progress = check_callbacks(cancel, progress)
        batch = check_mel(mel, self.config, self._loop.torch_device, lengths)
        gain = check_match(match_mel, self.config)
        is_direct = batch.stays and noise is std is energy_min is cancel is progress is draft is gain is None
        is_direct = is_direct and not self.config.prior
        if not is_direct:
            batch = fit_to_kind(batch, self.config.mel_kind)
        self._warn_once(self.config.mel_kind)
        energies = () if draft is None else (std, energy_min)
        plan = (build_schedule if draft is None else schedule_of_draft)(self.config, steps, schedule, *energies)
        samples = batch.lengths(self.hop)
        check_reflection(self.config, min(samples))
        if is_direct:
            if (audio := self._loop.sample_mels(batch, check_seed(seed, len(samples)), plan)) is not None:
                return audio  # type: ignore[no-any-return]
            batch = fit_to_kind(batch, self.config.mel_kind)
        priors = check_prior(self.config, batch.items, std=std, energy_min=energy_min)
        items = make_items(samples, len(plan), seed, noise, mels=batch.items, priors=priors)
        device = self._loop.torch_device
        works = DRAFT_WORK * isinstance(draft, str), len(plan), MATCH_WORK * (gain is not None)
        of_draft, of_steps, of_match = in_parts(progress, *works)
        if draft is not None:
            items = begin_from(draft, batch, items, plan, self.config, self.threads, device, cancel, of_draft)
        audio = self._loop.sample(items, plan, of_steps, cancel)
        if gain is not None:
            audio = match_items(audio, items, gain, self.config, self.threads, device, cancel, of_match)
        return batch.restore(audio)  # type: ignore[no-any-return]

    def stream(
        self,
        mels: ArrayT | Iterable[ArrayT],
        *,
        steps: int | str | None = None,
        seed: int = 0,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        draft: str | None = None,
        match_mel: float | None = None,
        chunk: int | None = None,
        cancel: Event | None = None,
    ) -> Chunks[ArrayT]:
        """Compute the audio of `vocode`, identical to the last byte, in chunks while the mel is still being written.

        A sample becomes final when the mel reaches `config.look_ahead(steps)` samples past it: 73 frames, 0.85 s, for
        BASE in 6 steps. Memory does not grow with the length.

        Args:
            mels: an iterable of mel pieces [M, n], n >= 0, of one utterance; or its whole mel [M, T], which may be a
                numpy.memmap.
            steps: see `vocode`.
            seed: of the noise.
            schedule: see `vocode`.
            energy_min: see `vocode`.
            draft: "rtisi-la", for the last `steps` of the fast schedule (2 by default) to refine; None begins from
                noise. The audio follows the mel by up to 12 frames more.
            match_mel: see `vocode`; the audio follows the mel by up to 1791 samples more.
            chunk: samples per chunk, the last one shorter; None yields samples as soon as they are final. A GPU waits
                until at most half of its work is done twice, or for a chunk, and so computes small chunks slowly.
            cancel: a threading.Event, or any object with its `is_set`. Once it is set, the next chunk raises Cancelled.

        Returns:
            An iterator of float32 chunks [n] with `close()`; NumPy or torch as the pieces.

        Raises:
            InputError: an argument has an impossible value; from the iterator, a piece.
        """
        stream = self.open_stream(
            steps=steps,
            seed=seed,
            schedule=schedule,
            energy_min=energy_min,
            draft=draft,
            match_mel=match_mel,
            chunk=chunk,
            cancel=cancel,
        )
        return Chunks(stream, mels, chunk)

    def stream_batch(
        self,
        mels: Sequence[ArrayT | Iterable[ArrayT]],
        *,
        steps: int | str | None = None,
        seed: int | Sequence[int] = 0,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        draft: str | None = None,
        match_mel: float | None = None,
        chunk: int | None = None,
        cancel: Event | None = None,
    ) -> Iterator[tuple[int, ArrayT]]:
        """Run several streams at once and yield (stream number, chunk) as the chunks become final.

        Args:
            mels: per stream the `mels` of `stream`. Each is read in its own thread and may wait for its mel.
            steps: see `vocode`.
            seed: an integer s gives stream i the seed s + i; a list gives one per stream.
            schedule: see `vocode`.
            energy_min: see `vocode`.
            draft: see `stream`.
            match_mel: see `stream`.
            chunk: see `stream`.
            cancel: see `stream`; stops all streams.

        Raises:
            InputError: an argument has an impossible value; from the iterator, a piece.
        """
        if not isinstance(mels, (list, tuple)) or not mels:
            raise InputError(f"mels: expected a list with one mel or iterable per stream, got {type(mels).__name__}")
        options: dict[str, Any] = {"steps": steps, "schedule": schedule, "energy_min": energy_min}
        options |= {"draft": draft, "match_mel": match_mel, "chunk": chunk, "cancel": cancel}
        opened = partial(self.open_stream, **options, streams=len(mels))
        streams = [opened(seed=number) for number in check_seed(seed, len(mels))]
        return merge_streams([Chunks(stream, source, chunk) for stream, source in zip(streams, mels, strict=True)])

    def open_stream(
        self,
        *,
        steps: int | str | None = None,
        seed: int = 0,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        draft: str | None = None,
        match_mel: float | None = None,
        chunk: int | None = None,
        cancel: Event | None = None,
        streams: int = 1,
    ) -> Stream:
        """Open a stream to feed by hand: `Stream.feed(piece)` for every piece, `Stream.finish()` after the last.

        Args:
            steps: see `vocode`.
            seed: of the noise.
            schedule: see `vocode`.
            energy_min: see `vocode`.
            draft: see `stream`.
            match_mel: see `stream`.
            chunk: on a GPU, the samples to compute as soon as they are final, see `stream`; on a CPU without effect.
            cancel: see `stream`.
            streams: how many streams work at once; they share the voice's threads.

        Raises:
            InputError: an argument has an impossible value.
        """
        config, count, cancel = self.config, check_count(streams, "streams"), check_cancel(cancel)
        size = None if chunk is None else check_count(chunk, "chunk")
        if not config.n_mels:
            raise InputError("stream: this network is unconditional and takes no mel; use generate()")
        plan = (build_schedule if draft is None else schedule_of_draft)(config, steps, schedule)
        (number,) = check_seed(seed, 1)
        if draft is not None:
            check_draft_of_stream(draft, config)
        energy_min = resolve_energy_min(config, energy_min)
        if config.prior and energy_min is None:
            raise InputError("energy_min: a PriorGrad network needs the smallest frame energy of its training data")
        gain = check_match(match_mel, config)
        self._warn_once(config.mel_kind)
        of_steps = self._loop.open_window(plan, number, energy_min, streams=count, chunk=size)
        window: StreamWindow = of_steps
        if draft is not None:
            window = DraftedWindow(of_steps, open_phases(config, number), plan, number, config)
        return Stream(config, window if gain is None else MatchedWindow(window, front_end(config, gain)), cancel)

    @overload
    def generate(
        self,
        *,
        n: int = 1,
        label: int | str | Sequence[int | str] | None = None,
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
        self,
        *,
        n: int = 1,
        label: int | str | Sequence[int | str] | None = None,
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
        self,
        *,
        n: int = 1,
        label: int | str | Sequence[int | str] | None = None,
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
        """Generate sound without a mel: unconditionally, or by class label (paper, sections 3.2 and 5.2).

        Args:
            n: the number of clips.
            label: for a network with classes, a number or a name (3, "3", "3 jackson"), or a list of n of them. It
                selects the class of that name, or else all classes that begin with that word; each clip then draws one
                from its seed (`classes_of` tells which). None selects all classes.
            steps: "full", the default, for the training schedule; "fast" or a number of steps, see `vocode`.
            seed: of the noise. An integer s gives clip i the seed s + i; a list gives one per clip.
            schedule: see `vocode`.
            noise: see `vocode`.
            guidance: classifier-free guidance, 0 to 100, for a network that was also trained without labels: 1 is the
                label alone, a greater value strengthens its influence. Any value but 1 takes two evaluations a step.
                None is the network's own value (`config.guidance`).
            temperature: 0 to 1, scales the noise of the beginning and of every step: less gives clearer sound of less
                variety; 1 is the distribution that the network has learnt. None is the network's own value
                (`config.temperature`).
            seconds: the length of each clip, round(seconds * sample_rate) samples.
            samples: the length in samples, in place of `seconds`. Without either, the length of `noise`, then that of
                the training clips (`config.clip_samples`).
            cancel: see `vocode`.
            progress: called with the fraction done, 0 to 1.

        Returns:
            float32 [n, L] in [-1, 1]; a torch tensor if the noise is one.

        Raises:
            InputError: the network needs a mel, or an argument has an impossible value.
            Cancelled: the event `cancel` was set.
        """
        cancel, progress = check_callbacks(cancel, progress)
        if self.config.n_mels:
            raise InputError("generate: this network wants a mel; use vocode(mel)")
        count = check_count(n, "n")
        length = check_clip_length(self.config, seconds, samples, noise)
        plan = build_schedule(self.config, steps, schedule, default="full")
        check_reflection(self.config, length, "samples")
        seeds = check_seed(seed, count)
        labels = resolve_labels(self.config.classes, label, seeds)
        weight = check_guidance(guidance, self.config)
        items = make_items([length] * count, len(plan), seeds, noise, labels=labels)
        if (heat := check_temperature(temperature, self.config)) != 1.0:
            plan, items = plan.cooled(heat), [cooled(item, heat) for item in items]
        if weight == 1.0:
            audio = self._loop.sample(items, plan, progress, cancel)
        else:
            audio = classifier_free.sample(self._loop, items, plan, self.config, weight, progress, cancel)
        device = None if noise is None else device_of(noise[0])
        return stack([on_device(row, device) for row in audio])  # type: ignore[no-any-return]

    def classes_of(
        self,
        *,
        n: int = 1,
        label: int | str | Sequence[int | str] | None = None,
        seed: int | Sequence[int] = 0,
    ) -> list[str]:
        """Return the names of the classes that `generate` draws for its n clips from these arguments."""
        numbers = resolve_labels(self.config.classes, label, check_seed(seed, check_count(n, "n")))
        return [self.config.classes[number] for number in numbers if number is not None]

    def predict_noise(
        self,
        x: ArrayT,
        t: float,
        mel: AnyArray | None = None,
        *,
        label: int | str | Sequence[int | str] | None = None,
    ) -> ArrayT:
        """Evaluate the network once: the noise eps that it predicts in x (paper, equation 5).

        Args:
            x: float32 [B, L] or [L], NumPy or torch; L = T * hop with a mel.
            t: the step on the training scale, 0 .. T-1, fractions allowed.
            mel: [B, M, T] or [M, T], for a network that needs one.
            label: for a network with classes, a name that means one class ("3 jackson"), or a list of B of them.

        Returns:
            eps, of the shape and kind of x.

        Raises:
            InputError: an argument has an impossible value.
        """
        signal = check_signal(x)
        mels = check_mels_of(signal, mel, self.config, self._loop.torch_device)
        check_reflection(self.config, signal.shape[1])
        labels = resolve_labels(self.config.classes, label, [0] * len(signal), required=True, unique=True)
        items = [
            Item(len(row), item_mel, x=row, label=number)
            for row, item_mel, number in zip(signal, mels, labels, strict=True)
        ]
        eps = self._loop.predict_noise(items, check_number(t, "t"))
        return in_form_of(x, eps)

    def explain(self) -> str:
        """Return what was chosen when the network was loaded, and why, one line per choice."""
        return "\n".join([f"network {self.config.summary()}", *self._reasons])

    def __repr__(self) -> str:
        config, choice = self.config, self.choice
        size = f"C={config.residual_channels} N={config.residual_layers}"
        return f"<Voice {size}, {self.sample_rate} Hz, {choice.precision} on {choice.isa}, {self.threads} threads>"
