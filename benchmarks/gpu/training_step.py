"""Stage `training` of `make gpu`: the time of one training step, fused and in PyTorch's layers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.gpu import timing
from benchmarks.gpu.results import Results, say
from engine.cli.bench.figures import quantiles
from engine.cli.bench.machine import load_average

WARM_UP, ROUNDS = 10, 50
Workload = tuple[Any, int, list[tuple[Any, ...]], tuple[str, ...]]  # recipe, batch, clips, classes
LAYERS = ("fused, bf16", "PyTorch's, bf16", "PyTorch's, fp32")


def voice() -> Workload:
    """Return 16 crops of 32 frames for BASE."""
    from engine.training.settings import read_recipe

    recipe = read_recipe("voice")
    return replace(recipe, data=replace(recipe.data, frames=32)), 16, _clips(), ()


def three_steps() -> Workload:
    """Return the same crops, half of them through three steps of the sampler."""
    from engine.training.settings import read_recipe

    return read_recipe("voice-steps"), 16, _clips(), ()


def digits() -> Workload:
    """Return 32 clips of 0.64 s for the digits' network, with 64 channels."""
    from engine.training.settings import read_recipe

    recipe = read_recipe("digits")
    random = np.random.default_rng(0)
    clips = [(f"{n}", 0.1 * random.standard_normal(4000).astype(np.float32), None, n % 60) for n in range(120)]
    recipe = replace(recipe, network=replace(recipe.network, residual_channels=64))
    return recipe, 32, clips, tuple(map(str, range(60)))


def rehearsal() -> Workload:
    """Return two crops of 4 frames for a network of 16 channels and 4 layers."""
    recipe, _, clips, classes = voice()
    network = replace(recipe.network, residual_channels=16, residual_layers=4, dilation_cycle=4)
    return replace(recipe, network=network, data=replace(recipe.data, frames=4)), 2, clips[:4], classes


def _clips() -> list[tuple[Any, ...]]:
    random, clips = np.random.default_rng(0), []
    for number in range(40):
        audio = 0.1 * random.standard_normal(256 * 400).astype(np.float32)
        clips.append((f"{number}", audio, random.random((80, 400), dtype=np.float32), -1))
    return clips


@contextmanager
def trainer_of(workload: Workload, layers: str, device: str) -> Iterator[Any]:
    """Return a trainer with these layers.

    Args:
        workload: recipe, batch, clips and classes.
        layers: one of LAYERS.
        device: "cuda" or "cpu".
    """
    import torch

    from engine.training import trainer
    from engine.training.data import Clip, Corpus
    from engine.training.processes import Processes

    recipe, batch, clips, classes = workload
    recipe = replace(recipe, training=replace(recipe.training, batch=batch))
    dtype = torch.bfloat16 if "bf16" in layers else torch.float32
    corpus = Corpus([Clip(*clip) for clip in clips], (), classes, 0)
    original = trainer.fused_obstacle
    if "fused" not in layers:
        trainer.fused_obstacle = lambda *arguments: "disabled by the benchmark"  # type: ignore[assignment]
    try:
        yield trainer.Trainer(recipe, corpus, Processes(0, 1, torch.device(device)), dtype)
    finally:
        trainer.fused_obstacle = original  # type: ignore[assignment]


def run(workloads: list[Callable[[], Workload]], out: Path, seconds: float, device: str, rounds: int = ROUNDS) -> bool:
    """Time the steps of every workload and write training.json after each; return whether all ran.

    Args:
        workloads: functions that return them.
        out: folder of the results.
        seconds: of the stage; what no longer fits is left out and named.
        device: "cuda" or "cpu".
        rounds: timed steps.
    """
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else "rehearsal on a CPU"
    results = Results(out / "training.json", {**report.environment(load_average()), "gpu_name": name})
    passed = True
    for workload, layers in [(workload, layers) for workload in workloads for layers in LAYERS]:
        title = {"workload": workload.__name__, "layers": layers}
        if results.elapsed() > 0.9 * seconds:
            results.add("left_out", title)
            continue
        try:
            with trainer_of(workload(), layers, device) as training:
                times = timing.host_seconds(training.advance, min(WARM_UP, rounds), rounds)
        except Exception as error:  # of this combination; the others are still timed
            results.add("failures", {**title, "error": f"{type(error).__name__}: {error}"[:500]})
            say(f"{workload.__name__}, {layers}: {results.values['failures'][-1]['error']}")
            passed = False
            continue
        results.add("steps", {**title, "measured_seconds": quantiles(times)})
        say(f"{workload.__name__}, {layers}: {1e3 * quantiles(times)['p50']:.2f} ms a step")
    return passed


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description="time the steps of a training on a GPU")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=50.0)
    parser.add_argument("--rehearse", action="store_true", help="a small network on a CPU")
    arguments = parser.parse_args()
    if arguments.rehearse:
        passed = run([rehearsal], arguments.out, arguments.seconds, "cpu", 2)
    else:
        passed = run([voice, three_steps, digits], arguments.out, arguments.seconds, "cuda")
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
