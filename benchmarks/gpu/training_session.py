"""A training of the bundled voice in the ten minutes for which a GPU is there, brought back in small files.

    python -m engine.training pack voice --data RECORDINGS -o build/voice-pack.safetensors   # before, without a GPU
    python -m benchmarks.gpu.training_session build/voice-pack.safetensors --out FOLDER

Three trainings start from the same raw weights: one tunes the voice to refine drafts, one tunes it for three and two
steps from noise, one goes on with the paper's objective. Each writes its results before the next begins. A training's
number of steps follows from the time of its first ones, so that its learning rate falls to zero within its minutes.

FOLDER gets of each training NAME.weights.safetensors (raw weights, for `--init`), NAME.safetensors (the average in
float16, for `engine.load`) and NAME.jsonl (the log), and session.json: times, steps, and the scores on held-out
recordings. No file is larger than 16 MiB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.paths import ROOT
from engine.checks.output_files import replacing
from engine.kernels.processors import available
from engine.training.data import Corpus, read_corpus
from engine.training.export import checkpoint_from_state, export, export_weights
from engine.training.few_steps import scores_by_steps
from engine.training.fit import STATE, Options, fit, resolve_precision
from engine.training.log import FILE as LOG
from engine.training.processes import Processes
from engine.training.settings import Recipe, read_recipe
from engine.training.state import read_state
from engine.training.trainer import Trainer
from engine.training.validation import evenly_spaced

INIT = ROOT / "benchmarks" / "training" / "voice.safetensors"
MAX_BYTES = 16 * 2**20  # of a file that comes back
WARM_UP, TIMED = 6, 20  # steps of the probe; the first ones compile kernels and capture graphs
OVERRUN = 1.1  # of its time, after which a training stops before its last step
BATCH, FRAMES = 16, 32
MINUTES = {"voice-draft": 3.0, "voice-steps": 2.0, "voice": 2.5}


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        name: of its files.
        recipe: its number of steps and its warm-up are set by its time.
        minutes: for its steps.
        judged: the numbers of steps in which the voice is judged.
        draft: of `Voice.vocode`, where it is judged.
    """

    name: str
    recipe: Recipe
    minutes: float
    judged: tuple[int, ...]
    draft: str | None = None


def stages(minutes: float, init: Path) -> list[Stage]:
    """Return the trainings of a session.

    Args:
        minutes: of all together; they share them as in MINUTES.
        init: the raw weights from which all start.
    """
    draft, tuned, voice = (read_recipe(name) for name in MINUTES)
    assert tuned.unroll is not None and draft.unroll is not None
    shared: dict[str, Any] = {"batch": BATCH, "average": 0.999, "init": str(init)}
    # Without discriminators, a trial on a CPU raised PESQ-WB and lowered the predicted MOS (docs/training.md).
    draft = replace(
        draft,
        training=replace(draft.training, **shared, warmup=100),
        unroll=replace(draft.unroll, adversarial=1.0),
    )
    tuned = replace(
        tuned,
        training=replace(tuned.training, **shared, warmup=100),
        unroll=replace(tuned.unroll, steps=(3, 2)),
    )
    voice = replace(
        voice,
        data=replace(voice.data, frames=FRAMES),
        training=replace(voice.training, **shared, rate=5e-4, fast_share=0.7, seed=4),
    )
    share = minutes / sum(MINUTES.values())
    return [
        Stage("voice-draft", draft, share * MINUTES["voice-draft"], draft.unroll.steps, draft.unroll.draft),
        Stage("voice-steps", tuned, share * MINUTES["voice-steps"], (2, 3)),
        Stage("voice", voice, share * MINUTES["voice"], (6,)),
    ]


@dataclass(frozen=True)
class Machine:
    """Where and how a session runs.

    Attributes:
        device: "cuda" or "cpu".
        precision: "bf16" or "fp32".
        clips: held-out recordings to judge with.
        workers: processes that judge.
        max_steps: of each training; None for as many as its minutes allow.
    """

    device: str
    precision: str
    clips: int = 16
    workers: int = 0
    max_steps: int | None = None


def run(trainings: Sequence[Stage], data: Path, out: Path, machine: Machine) -> dict[str, Any]:
    """Run the trainings in turn, write their files, and return the content of session.json.

    Args:
        trainings: the stages.
        data: the packed recordings, or their folder.
        out: the folder of the results.
        machine: where they run.
    """
    out.mkdir(parents=True, exist_ok=True)
    session: dict[str, Any] = {"device": _name(machine.device), "precision": machine.precision, "stages": {}}
    for stage in trainings:
        begin = time.monotonic()
        corpus = read_corpus(data, stage.recipe.data, stage.recipe.network)
        recipe, seconds = _with_steps(stage, corpus, machine)
        work = out / "work" / stage.name
        limit = None if machine.max_steps else 60.0 * stage.minutes * OVERRUN
        done = fit(recipe, data, Options(work, machine.device, machine.precision, seconds=limit))
        figures: dict[str, Any] = {
            "steps": recipe.training.steps,
            "finished": done,
            "seconds_per_step_of_the_probe": seconds,
            "seconds": time.monotonic() - begin,
        }
        session["stages"][stage.name] = figures
        _bring_back(work, out, stage.name)
        _write_json(out / "session.json", session)
        state = read_state(work / STATE)
        clips = evenly_spaced(corpus.held_out, machine.clips)
        if clips:
            checkpoint = checkpoint_from_state(recipe, state)
            workers = min(machine.workers, len(clips))
            figures["scores"] = scores_by_steps(checkpoint, stage.judged, clips, workers, stage.draft)
            figures["clips"] = [clip.name for clip in clips]
        figures["seconds_with_scores"] = time.monotonic() - begin
        _write_json(out / "session.json", session)
    shutil.rmtree(out / "work")
    return session


def _with_steps(stage: Stage, corpus: Corpus, machine: Machine) -> tuple[Recipe, float | None]:
    """Return the recipe with the steps that fit into its minutes, and the time of one in seconds."""
    steps, seconds = machine.max_steps, None
    if steps is None:
        dtype = torch.bfloat16 if machine.precision == "bf16" else torch.float32
        probe = Trainer(stage.recipe, corpus, Processes(0, 1, torch.device(machine.device)), dtype)
        for _ in range(WARM_UP):
            probe.advance()
        begin = time.monotonic()
        for _ in range(TIMED):
            probe.advance()
        seconds = (time.monotonic() - begin) / TIMED
        del probe
        steps = max(1, int(60.0 * stage.minutes / seconds))
    warmup = min(stage.recipe.training.warmup, steps // 10)
    return replace(stage.recipe, training=replace(stage.recipe.training, steps=steps, warmup=warmup)), seconds


def _bring_back(work: Path, out: Path, name: str) -> None:
    export_weights(work / STATE, out / f"{name}.weights.safetensors")
    export(work / STATE, out / f"{name}.safetensors")
    if (work / LOG).exists():  # a training that stopped early has no line yet
        shutil.copy(work / LOG, out / f"{name}.jsonl")
    for path in out.glob(f"{name}.*"):
        if path.stat().st_size > MAX_BYTES:
            sys.exit(f"training_session: {path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")


def _write_json(path: Path, values: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def main() -> None:
    """Run a session."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="PACK", help="packed recordings, or their folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder of the results")
    parser.add_argument("--minutes", type=float, default=7.5, help="for the steps of all trainings (default: 7.5)")
    parser.add_argument("--init", type=Path, default=INIT, help="the raw weights (default: the bundled voice's)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="default: auto")
    parser.add_argument("--clips", type=int, default=16, help="held-out recordings to judge with (default: 16)")
    parser.add_argument("--max-steps", type=int, help="of each training, to try whether everything works")
    options = parser.parse_args()
    if not options.minutes > 0.0:
        sys.exit(f"training_session: --minutes: expected a number above 0, got {options.minutes:g}")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("training_session: PyTorch finds no GPU; try it with --device cpu --max-steps 2")
    precision = resolve_precision(options.precision, options.device)
    machine = Machine(options.device, precision, options.clips, available().count, options.max_steps)
    trainings = stages(options.minutes, options.init)
    print(json.dumps(run(trainings, options.data, options.out, machine), indent=1))


if __name__ == "__main__":
    main()
