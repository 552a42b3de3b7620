"""`fit`: a recipe's training in a folder, from its beginning or from the point of its interruption."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.bulk.locks import locked
from engine.checks.output_files import check_folder
from engine.errors import InputError
from engine.kernels.cpu import tiers
from engine.training.data import Corpus, read_corpus
from engine.training.few_steps import few_step_scores
from engine.training.log import Log, Window
from engine.training.objective import level_names
from engine.training.processes import Processes, join, leave
from engine.training.quality import check_installed
from engine.training.resume import check_resumable
from engine.training.settings import Recipe
from engine.training.state import State, read_state, write_state
from engine.training.trainer import Report, Trainer
from engine.training.validation import validate

STATE = "state.safetensors"
LOCK = ".lock"
SAVE_SECONDS = 300.0
LOG_STEPS = 50
ECHO_SECONDS = 2.0  # within which a repeated signal counts as the first one


@dataclass(frozen=True)
class Options:
    """How a training runs. The recipe decides the result; the device and the precision only change its rounding.

    Attributes:
        folder: of the state, the log and the TensorBoard files.
        device: "cpu" or "cuda".
        precision: of the matrix products in the residual layers, "fp32" or "bf16".
        validate_every: steps between two validations; 0 for none.
        stop_after: the number of steps to run; None for all.
        seconds: the time after which to stop; None for no limit.
        skip_broken: whether to train without the recordings that cannot be read.
    """

    folder: Path
    device: str = "cpu"
    precision: str = "fp32"
    validate_every: int = 0
    stop_after: int | None = None
    seconds: float | None = None
    skip_broken: bool = False


def fit(recipe: Recipe, data: Path, options: Options) -> bool:
    """Train until the recipe's last step, an interruption (SIGINT, SIGTERM, SIGHUP) or a limit of the options.

    The folder gets state.safetensors every five minutes, before every validation and at the end, and log.jsonl with the
    losses. If it holds a state, the training resumes from there, with the same examples in the same order.

    Args:
        recipe: the network, the data and the training.
        data: the folder of the recordings.
        options: the device and the output.

    Returns:
        Whether the training is done.

    Raises:
        InputError: an argument is impossible, the folder cannot be written or holds another recipe's training, another
            process trains in it, or the loss or gradient of a step is not finite; then the state in the folder stays
            unchanged.
    """
    if options.validate_every < 0:
        raise InputError(f"validate_every: expected at least 0, got {options.validate_every}")
    _check_folder(options.folder)
    processes = join(options.device)
    try:
        corpus = read_corpus(data, recipe.data, recipe.network, options.skip_broken)
        options.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if processes.first and not stack.enter_context(locked(options.folder / LOCK)):
                raise InputError(
                    f"folder: another process trains in {str(options.folder)!r}; wait until it ends, or choose another"
                )
            return _fit(recipe, corpus, options, processes)
    finally:
        leave(processes)


def _check_folder(folder: Path) -> None:
    """Check before the recordings are read that the folder, or the first of its parents that exists, is writable."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    check_folder(existing, option="folder")


def _fit(recipe: Recipe, corpus: Corpus, options: Options, processes: Processes) -> bool:
    without_mos = None
    if corpus.held_out and recipe.network.n_mels and options.validate_every:
        without_mos = check_installed()
    path = options.folder / STATE
    state = read_state(path) if path.exists() else None
    if state:
        check_resumable(state, path, recipe, corpus)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    trainer = Trainer(recipe, corpus, processes, dtype, state)
    state_file, window = _StateFile(path, trainer, state), Window()
    end = trainer.step + (options.stop_after or sys.maxsize)
    deadline = time.monotonic() + (math.inf if options.seconds is None else options.seconds)
    log = None
    if processes.first:
        _print_summary(trainer, options)
        if without_mos:
            _print(f"validating without {without_mos}")
        if state and recipe.training.init:
            _print("init: not used, because the training in this folder resumes")
        log = Log(options.folder, trainer.step)
    with _caught_signals() as signals, _progress(processes.first, trainer) as show:
        while not trainer.done and trainer.step < end:
            report = trainer.advance()
            _check_finite(report)
            window.add(report)
            show(report, window)
            if log and (report.step % LOG_STEPS == 0 or trainer.done):
                log.write(report.step, window.take())
            if log and options.validate_every and (report.step % options.validate_every == 0 or trainer.done):
                with window.paused():
                    state_file.write()
                    figures = validate(trainer) | few_step_scores(trainer)
                    log.write(report.step, {f"held_out_{name}": value for name, value in figures.items()})
            if processes.any(bool(signals) or time.monotonic() > deadline):
                break
            if log and state_file.old:
                with window.paused():
                    state_file.write()
        if log:  # inside the block, where a signal does not kill the process
            state_file.write()
    return trainer.done


class _StateFile:
    """The file of a training's state, written at most once per step.

    Args:
        path: of the file.
        trainer: has the state.
        state: the content of the file; None if it does not exist.
    """

    def __init__(self, path: Path, trainer: Trainer, state: State | None) -> None:
        self._path, self._trainer = path, trainer
        self._step, self._time = state.step if state else None, time.monotonic()

    @property
    def old(self) -> bool:
        """Whether the file is due to be written."""
        return time.monotonic() - self._time > SAVE_SECONDS

    def write(self) -> None:
        """Write the state of the last step, unless the file has it."""
        if self._step != self._trainer.step:
            write_state(self._path, self._trainer.state())
        self._step, self._time = self._trainer.step, time.monotonic()


def _check_finite(report: Report) -> None:
    if not (math.isfinite(report.loss) and math.isfinite(report.gradient)):
        raise InputError(
            f"training.rate: expected a finite loss and gradient, got {report.loss} and {report.gradient} in step "
            f"{report.step}: the training has diverged, and its folder keeps the last good state; try a lower rate in "
            "another --folder"
        )


def _print_summary(trainer: Trainer, options: Options) -> None:
    corpus, processes, recipe = trainer.corpus, trainer.processes, trainer.recipe
    for note in corpus.notes:
        _print(note)
    _print(
        f"{len(corpus.train)} recordings to train on, {len(corpus.held_out)} held out, {corpus.left_out} left out\n"
        f"{len(corpus.classes)} classes, {sum(p.numel() for p in trainer.network.parameters()):,} parameters\n"
        f"{processes.count} x {processes.device.type} {options.precision}{_layers(trainer)}, "
        f"step {trainer.step} of {recipe.training.steps}"
    )
    target, rates = recipe.network.sample_rate, [f"{rate}" for rate in corpus.rates]
    if set(corpus.rates) - {target}:
        low = f"; those of {rates[0]} Hz have nothing above half of that" if corpus.rates[0] < target else ""
        _print(f"recorded at {' and '.join(rates)} Hz, resampled to {target} Hz{low}")
    if trainer.grown_from:
        channels = recipe.network.residual_channels
        _print(
            f"init: a network of {trainer.grown_from} channels, grown to {channels}; it computes the same at the start"
        )


def _layers(trainer: Trainer) -> str:
    """Return which implementation of the residual layers a GPU runs."""
    if trainer.processes.device.type != "cuda":
        return ""
    if trainer.not_fused is None:
        return " with fused residual layers"
    return f" with PyTorch's residual layers (the fused ones: {trainer.not_fused})"


@contextmanager
def _caught_signals() -> Iterator[list[float]]:
    """Collect the times of SIGINT, SIGTERM and SIGHUP in a list; a second signal raises KeyboardInterrupt.

    Schedulers signal every process, and torchrun signals its own again: a repetition within ECHO_SECONDS is not a
    second signal. A SIGHUP that is ignored (nohup) stays ignored.
    """
    times: list[float] = []

    def note(number: int, frame: Any) -> None:
        if times and time.monotonic() - times[0] > ECHO_SECONDS:
            raise KeyboardInterrupt
        times.append(time.monotonic())

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    handlers = {number: signal.signal(number, note) for number in numbers}
    try:
        yield times
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _progress(shown: bool, trainer: Trainer) -> Iterator[Callable[[Report, Window], None]]:
    """Show a progress bar with the loss at every noise level."""
    if not shown:
        yield lambda report, window: None
        return
    from tqdm import tqdm

    names = level_names(trainer.recipe.network)
    with tqdm(
        total=trainer.recipe.training.steps, initial=trainer.step, unit="step", mininterval=1.0, disable=None
    ) as bar:

        def show(report: Report, window: Window) -> None:
            bar.update()
            losses = " ".join(f"{name}:{loss:.3f}" for name, loss in zip(names, window.recent(), strict=True))
            parts = "".join(f" {name}:{value:.3f}" for name, value in report.parts.items())
            bar.set_postfix_str(f"loss by noise {losses}{parts}", refresh=False)

        yield show


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision of a training; "auto" is bf16 on hardware that multiplies it, otherwise fp32.

    Args:
        precision: "auto", "fp32" or "bf16".
        device: "cpu" or "cuda".

    Raises:
        InputError: the precision is unknown.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision: expected auto, fp32 or bf16, got {precision!r:.80}")
    if precision != "auto":
        return precision
    on_cpu = any(supported and "bf16" in precisions for _, supported, _, precisions in tiers())
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else on_cpu
    return "bf16" if fast else "fp32"
