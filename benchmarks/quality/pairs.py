"""Controlled pairs of trainings: small networks that differ in one setting and share data, seed and steps.

python -m benchmarks.quality.pairs [--data FOLDER] [--work FOLDER] [--results FILE] [--rounds N]

Needs the extras `train` and `quality`. Every variant trains from random weights on one thread and vocodes held-out
recordings in its six steps, from exact and from blurred mels. Rounds differ in the seed or the number of steps; a round
is complete when all variants have run. The results are written after each variant: the same command continues after an
interruption, in the middle of a training too. A round takes forty minutes of one core with AVX-512 BF16.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
from benchmarks.committed import Row
from benchmarks.figures.pairs import BASELINE, table
from benchmarks.paths import RESULTS, ROOT, SHARED
from engine.cli.bench.machine import commit

# Beside the baseline: what a variant changes. The recipes of all share everything else.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    BASELINE: {},
    # alpha_bar ends at 0.02 instead of 0.28. The last of the six steps begins there; the other five stay.
    "training to alpha_bar 0.02": {
        "network": {
            "beta": {"first": 1e-4, "last": 0.15, "steps": 50},
            "fast_schedule": [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.97],
        }
    },
    "errors by inverse energy": {"training": {"weight": "energy"}},
    "energy-dependent noise": {"network": {"prior": True, "energy_min": 0.0816}},
}
ROUNDS = ((2000, 0),)  # steps and seed; after 500 steps the network hardly heeds the mel
CLIPS, PACK_MIB, PACK_HELD_OUT = 8, 12.0, 8


def recipe(changes: dict[str, dict[str, Any]], steps: int, seed: int) -> Any:
    """Return the recipe of a variant.

    Args:
        changes: the keys that differ from the baseline's, by table.
        steps: of the training.
        seed: of the weights, the examples and the noise.
    """
    from engine.training.settings import recipe_from_tables

    tables: dict[str, dict[str, Any]] = {
        # A mel in natural logarithms, which the prior needs.
        "network": {"residual_channels": 32, "residual_layers": 10, "dilation_cycle": 10, "mel_kind": "hifigan"},
        "data": {"pattern": "**/*.*", "held_out": r"0\.[a-z]+$", "frames": 20, "gain_db": [-6.0, 4.0]},
        "training": {
            "steps": steps,
            "batch": 3,
            "rate": 1e-3,
            "warmup": 50,
            "average": 0.995,
            "fast_share": 0.5,
            "seed": seed,
        },
    }
    for name, values in changes.items():
        tables[name].update(values)
    return recipe_from_tables(tables)


def measure(variant: str, steps: int, seed: int, data: Path, work: Path) -> Row:
    """Train one variant, or continue its training, and judge it.

    Args:
        variant: a key of VARIANTS.
        steps: of the training.
        seed: see `recipe`.
        data: the packed recordings.
        work: the folder of the trainings.
    """
    from engine.training.data import read_corpus
    from engine.training.export import checkpoint_from_state
    from engine.training.few_steps import scores_by_steps
    from engine.training.fit import STATE, Options, fit, resolve_precision
    from engine.training.state import read_state
    from engine.training.validation import evenly_spaced

    spec = recipe(VARIANTS[variant], steps, seed)
    folder = work / f"{list(VARIANTS).index(variant)}-{steps}-{seed}"
    precision = resolve_precision("auto", "cpu")
    if not fit(spec, data, Options(folder, precision=precision)):
        sys.exit("pairs: interrupted; the same command continues")
    corpus = read_corpus(data, spec.data, spec.network)
    clips = evenly_spaced(corpus.held_out, CLIPS)
    checkpoint = checkpoint_from_state(spec, read_state(folder / STATE))
    scores = scores_by_steps(checkpoint, [6], clips)
    figures = {name.removeprefix("6_steps_"): value for name, value in scores.items()}
    return {
        "variant": variant,
        "steps": steps,
        "seed": seed,
        "precision": precision,
        "clips": [clip.name for clip in clips],
        **figures,
    }


def main() -> None:
    """Train and judge all variants of the rounds, and print the table."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "kerstin_22k", help="the folder of the recordings")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "pairs", help="the folder of the trainings")
    parser.add_argument("--results", type=Path, default=RESULTS / "pairs.json", help="the figures as JSON")
    parser.add_argument("--rounds", type=int, default=len(ROUNDS), help="of the rounds, how many (default: all)")
    options = parser.parse_args()
    run(options.data, options.work, options.results, ROUNDS[: options.rounds])
    print(table(json.loads(options.results.read_text())["rows"]))


def run(data: Path, work: Path, results: Path, rounds: tuple[tuple[int, int], ...]) -> None:
    """Add the rows that are missing to a file of results.

    Args:
        data: the folder of the recordings.
        work: the folder of the trainings and of the packed recordings.
        results: the JSON file.
        rounds: steps and seed of each.
    """
    import torch

    from engine.training.pack import pack

    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    packed = work / "packed.safetensors"
    if not packed.exists():
        spec = recipe({}, 1, 0)
        print(pack(replace(spec, data=replace(spec.data, frames=40)), data, packed, PACK_MIB, PACK_HELD_OUT))
    session: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"rows": []}
    for steps, seed in rounds:
        for variant in VARIANTS:
            if any((r["variant"], r["steps"], r["seed"]) == (variant, steps, seed) for r in session["rows"]):
                continue
            session["rows"].append(measure(variant, steps, seed, packed, work))
            session |= {"engine": engine.__version__, "commit": commit()}
            results.write_text(json.dumps(session, indent=1) + "\n")


if __name__ == "__main__":
    main()
