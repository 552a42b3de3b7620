"""`fit`: a recipe's training in a folder, from its beginning or from where it was interrupted."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.errors import InputError
from engine.kernels.cpu import tiers
from engine.training.data import read_corpus
from engine.training.log import Log, Window
from engine.training.objective import levels_of
from engine.training.processes import Processes, join, leave
from engine.training.quality import check_installed
from engine.training.settings import Recipe
from engine.training.state import State, read_state, write_state
from engine.training.trainer import Report, Trainer
from engine.training.validation import validate

STATE = "state.safetensors"
SAVE_SECONDS = 300.0
LOG_STEPS = 50
ECHO_SECONDS = 2.0


@dataclass(frozen=True)
class Options:
    """How a training runs. What is learnt is the recipe's; the device and the precision change how it is rounded.

    Attributes:
        folder: of its state, its log and its TensorBoard files.
        device: "cpu" or "cuda".
        precision: of the products in the residual layers, "fp32" or "bf16".
        validate_every: steps between two validations; 0 for none.
        stop_after: steps; None for all.
    """

    folder: Path
    device: str = "cpu"
    precision: str = "fp32"
    validate_every: int = 0
    stop_after: int | None = None


def fit(recipe: Recipe, data: Path, options: Options) -> bool:
    """Train until the recipe's last step, an interruption (SIGINT, SIGTERM) or `stop_after` steps.

    The folder gets state.safetensors every five minutes, before every validation and at the end, and log.jsonl with the
    losses. With a state in it, the training goes on from there, with the same examples in the same order.

    Args:
        recipe: the network, the data and the training.
        data: the folder of the recordings.
        options: how it runs.

    Returns:
        Whether the training is done.

    Raises:
        InputError: an argument is impossible, the folder holds another recipe's training, or a step's loss or gradient
            is not finite; then the state in the folder stays as it was.
    """
    processes = join(options.device)
    try:
        return _fit(recipe, data, options, processes)
    finally:
        leave(processes)


def _fit(recipe: Recipe, data: Path, options: Options, processes: Processes) -> bool:
    corpus = read_corpus(data, recipe.data, recipe.network)
    options.folder.mkdir(parents=True, exist_ok=True)
    if corpus.held_out and recipe.network.n_mels and options.validate_every:
        check_installed()
    path = options.folder / STATE
    state = read_state(path) if path.exists() else None
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    trainer = Trainer(recipe, corpus, processes, dtype, state)
    kept, window, end = _Kept(path, trainer, state), Window(), trainer.step + (options.stop_after or sys.maxsize)
    log = None
    if processes.first:
        _introduce(trainer, options)
        if state and recipe.training.init:
            _say("init: not used: the training in this folder goes on")
        log = Log(options.folder)
    with _interruption() as interrupted, _progress(processes.first, trainer) as show:
        while not trainer.done and trainer.step < end:
            report = trainer.advance()
            _check_finite(report)
            window.add(report)
            show(report, window)
            if log and (report.step % LOG_STEPS == 0 or trainer.done):
                log.write(report.step, window.take())
            if log and options.validate_every and (report.step % options.validate_every == 0 or trainer.done):
                with window.paused():
                    kept.write()
                    log.write(report.step, {f"held_out_{name}": value for name, value in validate(trainer).items()})
            if processes.any(bool(interrupted)):
                break
            if log and kept.old:
                with window.paused():
                    kept.write()
        if log:  # while signals still ask instead of killing
            kept.write()
    return trainer.done


class _Kept:
    """A training's state in its file, written once for every step at most.

    Args:
        path: of the file.
        trainer: whose state it is.
        state: what the file holds; None where there is none.
    """

    def __init__(self, path: Path, trainer: Trainer, state: State | None) -> None:
        self._path, self._trainer = path, trainer
        self._step, self._at = state.step if state else None, time.monotonic()

    @property
    def old(self) -> bool:
        """It is time for another."""
        return time.monotonic() - self._at > SAVE_SECONDS

    def write(self) -> None:
        """The state of the last step, unless it is there."""
        if self._step != self._trainer.step:
            write_state(self._path, self._trainer.state())
        self._step, self._at = self._trainer.step, time.monotonic()


def _check_finite(report: Report) -> None:
    if not (math.isfinite(report.loss) and math.isfinite(report.gradient)):
        raise InputError(
            f"training.rate: expected a finite loss and gradient, got {report.loss} and {report.gradient} in step "
            f"{report.step}: the training has diverged; what its folder holds stays; try a lower rate in another one"
        )


def _introduce(trainer: Trainer, options: Options) -> None:
    corpus, processes, recipe = trainer.corpus, trainer.processes, trainer.recipe
    _say(
        f"{len(corpus.train)} recordings to train on, {len(corpus.held_out)} held out, {corpus.left_out} left out\n"
        f"{len(corpus.classes)} classes, {sum(p.numel() for p in trainer.network.parameters()):,} parameters\n"
        f"{processes.count} x {processes.device.type} {options.precision}{_layers(trainer)}, "
        f"step {trainer.step} of {recipe.training.steps}"
    )
    wanted, rates = recipe.network.sample_rate, [f"{rate}" for rate in corpus.rates]
    if set(corpus.rates) - {wanted}:
        low = f"; those of {rates[0]} Hz have nothing above half of that" if corpus.rates[0] < wanted else ""
        _say(f"recorded at {' and '.join(rates)} Hz, resampled to {wanted} Hz{low}")
    if trainer.grown_from:
        channels = recipe.network.residual_channels
        _say(f"init: a network of {trainer.grown_from} channels, grown to {channels}: at first it computes the same")


def _layers(trainer: Trainer) -> str:
    """On a GPU, whose residual layers they are."""
    if trainer.processes.device.type != "cuda":
        return ""
    if trainer.not_fused is None:
        return " with fused residual layers"
    return f" with PyTorch's residual layers (the fused ones: {trainer.not_fused})"


@contextmanager
def _interruption() -> Iterator[list[float]]:
    """When signals asked for an end, in a list; a second one ends at once.

    Schedulers tell every process, and torchrun tells its own again: that is still the first one.
    """
    got: list[float] = []

    def note(number: int, frame: Any) -> None:
        if got and time.monotonic() - got[0] > ECHO_SECONDS:
            raise KeyboardInterrupt
        got.append(time.monotonic())

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _progress(shown: bool, trainer: Trainer) -> Iterator[Any]:
    """A bar with the loss at every level of noise."""
    if not shown:
        yield lambda report, window: None
        return
    from tqdm import tqdm

    names = levels_of(trainer.recipe.network)
    with tqdm(
        total=trainer.recipe.training.steps, initial=trainer.step, unit="step", mininterval=1.0, disable=None
    ) as bar:

        def show(report: Report, window: Window) -> None:
            bar.update()
            losses = " ".join(f"{name}:{loss:.3f}" for name, loss in zip(names, window.recent(), strict=True))
            bar.set_postfix_str(f"loss by noise {losses}", refresh=False)

        yield show


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def check_precision(precision: str, device: str) -> str:
    """ "auto" becomes bf16 where the hardware multiplies it; else what was asked for.

    Raises:
        InputError: unknown.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision: expected auto, fp32 or bf16, got {precision!r:.80}")
    if precision != "auto":
        return precision
    on_cpu = any(supported and "bf16" in precisions for _, supported, _, precisions in tiers())
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else on_cpu
    return "bf16" if fast else "fp32"
