"""Checks before a training resumes: the same recipe, classes and recordings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from engine.errors import InputError
from engine.training.data import Corpus
from engine.training.settings import Recipe, recipe_from_json
from engine.training.state import DISCRIMINATOR_PARTS, PARTS, State


def check_resumable(state: State, file: Path, recipe: Recipe, corpus: Corpus) -> None:
    """Check that a training can resume from a state.

    Args:
        state: the content of the file.
        file: named in messages.
        recipe: of the training to resume.
        corpus: its recordings.

    Raises:
        InputError: the state belongs to another recipe, other classes or other recordings, or holds weights alone.
    """
    if differences := _differences(recipe_from_json(state.recipe), recipe):
        raise InputError(
            f"{file}: expected a training with this recipe, got one with another ({differences}); choose another "
            "--folder, and --init with this file to build on its weights"
        )
    if state.classes != corpus.classes:
        raise InputError(f"data: expected the classes {state.classes!r:.80} of {file}, got {corpus.classes!r:.80}")
    fingerprint = corpus.fingerprint
    if state.recordings not in ("", fingerprint):
        before, now = state.recordings.split()[0], fingerprint.split()[0]
        raise InputError(
            f"data: expected the {before} recordings that the training in {file} began with, got {now} that are not "
            "the same; restore them, or choose another --folder and --init"
        )
    parts = PARTS + (DISCRIMINATOR_PARTS if recipe.unroll and recipe.unroll.adversarial else ())
    if not all(state.tensors.get(part) for part in parts):
        raise InputError(f"{file}: expected a training to resume, got weights alone, to start from with --init")


def _differences(state: Recipe, recipe: Recipe) -> str:
    """List the keys that differ, except `training.init`: a training that resumes does not use it."""
    differences = []
    for table in ("network", "data", "training", "unroll"):
        before, now = getattr(state, table), getattr(recipe, table)
        if (before is None) != (now is None):
            differences.append(f"{'no' if before is None else 'a'} table {table}")
        if before is None or now is None:
            continue
        old, new = asdict(before), asdict(now)
        keys = [key for key in old if old[key] != new[key] and (table, key) != ("training", "init")]
        differences += [f"{table}.{key} = {old[key]!r:.40}, not {new[key]!r:.40}" for key in keys]
    return "; ".join(differences)
