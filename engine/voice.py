"""A loaded network and what one does with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from engine.bundled import BUNDLED as BUNDLED
from engine.bundled import path_of
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.checks.arguments import check_count, check_seed, check_signal
from engine.checks.arrays import device_of, on_device, stacked
from engine.checks.mels import check_mel, check_mel_length, check_range
from engine.diffusion.labels import choose_exactly
from engine.diffusion.prior import check_energy_min, check_prior
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError
from engine.generation import Generation
from engine.kernels import registry
from engine.sampling.item import Item, Progress
from engine.sampling.loops import LOOPS
from engine.streaming.chunks import Chunks, merge_streams
from engine.streaming.stream import Event, Stream, StreamOptions


class Voice(Generation):
    """One network, ready to run. Made by `engine.load`; may be used from several threads at once.

    Attributes:
        config: the network's hyper-parameters (`engine.config.Config`).
        sample_rate: of the audio, in Hz.
        hop: samples per mel frame.
        choice: the backend, instruction set and precision.
        threads: how many threads a call uses.
    """

    def __init__(self, checkpoint: Checkpoint, choice: registry.Choice, threads: int) -> None:
        self.config = checkpoint.config
        self.sample_rate = checkpoint.config.sample_rate
        self.hop = checkpoint.config.hop
        self.choice = choice
        self.threads = threads
        network = registry.build(checkpoint.config, checkpoint.tensors, choice)
        self._loop = LOOPS[choice.device](network, checkpoint.tensors, threads)

    def vocode(
        self,
        mel: Any,
        steps: int | str = 6,
        seed: int | Sequence[int] = 0,
        *,
        schedule: Sequence[float] | None = None,
        noise: tuple[Any, Any] | None = None,
        std: Any = None,
        energy_min: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Turn a mel spectrogram into audio (paper, algorithm 2).

        Args:
            mel: float32 [M,T], [B,M,T] or a list of [M,T_i], of the checkpoint's kind (`config.mel_kind`); numpy
                or torch.
            steps: 6, the fast schedule, or "full", the training schedule.
            seed: of the noise; an integer s gives item i the seed s + i, a list gives one per item. An item's
                audio depends on its mel, its seed and the schedule, never on the batch it came in.
            schedule: betas of your own instead of `steps`, smallest first.
            noise: (x_T [B,L], z [S-1,B,L]) standard normal, in the order of use, instead of `seed`.
            std: for a PriorGrad network, the standard deviation of the noise of every sample, [B,L].
            energy_min: or the smallest frame energy of its training data, from which std follows (`engine.diffusion.prior`);
                None for what the checkpoint says, if it does.
            progress: called with the fraction that is done.

        Returns:
            float32 audio in [-1,1]: [L], [B,L] or a list of [L_i] as the mel came, L = T * hop; of the same
            kind (numpy or torch) and on the same device.

        Raises:
            InputError: an argument has an impossible value; the message names it.
        """
        batch = check_mel(mel, self.config, self.choice.device)
        check_range(batch.items, self.config.mel_kind)
        plan = build_schedule(self.config, steps, schedule)
        lengths = [item.shape[1] * self.hop for item in batch.items]
        self._check_reflection(lengths)
        prior = check_prior(self.config.prior, std, energy_min, batch.items, self.hop, self.config.energy_min)
        items = self._items(batch.items, lengths, plan, seed, noise, prior)
        return batch.restore(self._loop.sample(items, plan, progress))

    def stream(
        self,
        mels: Any,
        steps: int | str = 6,
        seed: int = 0,
        *,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        chunk: int | None = None,
        cancel: Event | None = None,
    ) -> Chunks:
        """The audio of `vocode`, to the last byte, in chunks while the mel is still being written.

        A sample can be computed when the mel reaches `config.look_ahead(steps)` samples past it: 73 frames, 0.85 s,
        for BASE in 6 steps. Memory does not grow with the length.

        Args:
            mels: an iterable of mel pieces [M,n], n >= 0, of one utterance; or its whole mel [M,T], which may be a
                numpy.memmap.
            steps, seed, schedule, energy_min: as in `vocode`.
            chunk: samples per chunk, the last one shorter; None for as many as became final at once.
            cancel: a threading.Event, or what has its is_set. Once it is set, the next chunk raises Cancelled.

        Returns:
            An iterator of float32 chunks [n], numpy or torch as the pieces are, with `close()`.

        Raises:
            InputError: an argument has an impossible value; from the iterator, a piece.
            UnavailableError: the voice is on a GPU.
        """
        count = None if chunk is None else check_count(chunk, "chunk")
        return Chunks(
            self.open_stream(steps, seed, schedule=schedule, energy_min=energy_min, cancel=cancel), mels, count
        )

    def stream_batch(
        self,
        mels: Sequence[Any],
        steps: int | str = 6,
        seed: int | Sequence[int] = 0,
        *,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        chunk: int | None = None,
        cancel: Event | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Several streams at once, each at its own position: (number, chunk), as the chunks come.

        Args:
            mels: per stream what `stream` takes. Each is read in a thread of its own and may wait for its mel.
            seed: an integer s gives stream i the seed s + i, a list gives one per stream.
            steps, schedule, energy_min, chunk, cancel: as in `stream`.
        """
        count = None if chunk is None else check_count(chunk, "chunk")
        if not isinstance(mels, (list, tuple)) or not mels:
            raise InputError(f"mels: expected a list with one mel or iterable per stream, got {type(mels).__name__}")
        seeds = check_seed(seed, len(mels))
        given = [self._open_stream(steps, one, schedule, energy_min, cancel, len(mels)) for one in seeds]
        return merge_streams([Chunks(stream, one, count) for stream, one in zip(given, mels, strict=True)])

    def open_stream(
        self,
        steps: int | str = 6,
        seed: int = 0,
        *,
        schedule: Sequence[float] | None = None,
        energy_min: float | None = None,
        cancel: Event | None = None,
        streams: int = 1,
    ) -> Stream:
        """A stream to be fed by hand: `Stream.feed(piece)` as pieces come, `Stream.finish()` after the last.

        Args:
            steps, seed, schedule, energy_min, cancel: as in `stream`.
            streams: how many work at once; they share the voice's threads.

        Raises:
            InputError: an argument has an impossible value.
            UnavailableError: the voice is on a GPU.
        """
        return self._open_stream(steps, seed, schedule, energy_min, cancel, check_count(streams, "streams"))

    def predict_noise(self, x: Any, t: float, mel: Any = None, label: Any = None) -> Any:
        """One evaluation of the network: the noise eps that it sees in x (paper, equation 5).

        Args:
            x: float32 [B,L] or [L], numpy or torch; L = T * hop with a mel.
            t: the step on the training scale, 0 .. T-1, fractions allowed.
            mel: [B,M,T] or [M,T], for a network that wants one.
            label: for a network with classes, a name that means one class ("3 jackson"), or a list of B of them.

        Returns:
            eps, as x came.

        Raises:
            InputError: an argument has an impossible value.
        """
        signal = check_signal(x)
        mels: list[Any] = [None] * len(signal)
        if self.config.n_mels:
            if mel is None:
                raise InputError(f"mel: this network wants one, [B, {self.config.n_mels}, T], got None")
            batch = check_mel(mel, self.config, self.choice.device)
            check_range(batch.items, self.config.mel_kind)
            check_mel_length(batch, signal, self.hop)
            mels = list(batch.items)
        elif mel is not None:
            raise InputError("mel: this network takes none; generate makes sound with it")
        self._check_reflection([signal.shape[1]])
        labels = choose_exactly(self.config.classes, label, len(signal))
        given = zip(signal, mels, labels, strict=True)
        rows = [Item(len(row), one, x=row, label=number) for row, one, number in given]
        eps = [on_device(row, device_of(x)) for row in self._loop.predict_noise(rows, _number(t))]
        return stacked(eps).reshape(x.shape)

    def explain(self) -> str:
        """What was chosen when the network was loaded, and why."""
        config = self.config
        size = f"C={config.residual_channels} N={config.residual_layers} cycle={config.dilation_cycle}"
        mel = f"{config.n_mels} mel bands of kind {config.mel_kind}, hop {self.hop}"
        other = f"{len(config.classes)} classes" if config.classes else "no mel"
        return "\n".join(
            [
                f"network {size}, {mel if config.n_mels else other}, {self.sample_rate} Hz",
                *self.choice.reasons,
                f"threads {self.threads}",
            ]
        )

    def _open_stream(
        self,
        steps: int | str,
        seed: Any,
        schedule: Sequence[float] | None,
        energy_min: float | None,
        cancel: Event | None,
        streams: int,
    ) -> Stream:
        if not self.config.n_mels:
            raise InputError("stream: this network is unconditional and takes no mel; use generate()")
        (one,) = check_seed(seed, 1)
        if self.config.prior:
            if energy_min is None and self.config.energy_min:
                energy_min = self.config.energy_min
            if energy_min is None:
                raise InputError("energy_min: a PriorGrad network needs the smallest frame energy of its training data")
            energy_min = check_energy_min(energy_min)
        elif energy_min is not None:
            raise InputError("energy_min: only a PriorGrad network takes one, and this network is none")
        if cancel is not None and not callable(getattr(cancel, "is_set", None)):
            raise InputError(f"cancel: expected a threading.Event, got {type(cancel).__name__}")
        plan = build_schedule(self.config, steps, schedule)
        options = StreamOptions(one, energy_min, cancel, lambda length: self._check_reflection([length]))
        return Stream(self._loop.start_pipeline(plan, one, streams), options)


def load(
    path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    isa: str | None = None,
    mel_kind: str | None = None,
) -> Voice:
    """Load a checkpoint and pack it for this machine.

    Args:
        path: a checkpoint of any public implementation (docs/checkpoints.md), or the name of a bundled network
            (`engine.bundled.NAMES`); None for the bundled voice.
        device: "auto", a GPU where there is one; "cpu"; "cuda", or "cuda:1" for another than the first.
        precision: "auto", the fastest; on a CPU "fp32", "bf16" or, where the checkpoint is calibrated for it
            (docs/checkpoints.md), "int8"; on a GPU "fp16", "bf16", "tf32" or "fp32".
        threads: how many a call may use on a CPU; None for all processors this process may run on.
        isa: the instruction set of a CPU; None for the best of this processor. On a GPU of compute capability 9.0
            "sm_90a" takes the residual blocks written in CUDA (docs/gpu.md).
        mel_kind: the kind of mel the checkpoint wants ("lmnt", ...), where its file does not say.

    Raises:
        CheckpointError: the file or the bundled network is missing, damaged, hostile or not a DiffWave network.
        UnavailableError: the device, precision or isa is not available here; the message says why.
        InputError: an argument has an impossible value.
    """
    count = _processors() if threads is None else check_count(threads, "threads", 1024)
    checkpoint = load_checkpoint(path_of(path), mel_kind)
    return Voice(checkpoint, registry.select(device, precision, isa, bool(checkpoint.config.int8_ranges)), count)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _number(t: Any) -> float:
    try:
        return float(t)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"t: expected a number, got {t!r:.80}") from None
