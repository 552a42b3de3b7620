"""Controlled pairs: recipes that differ in one setting, results that continue, complete rounds in the table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.figures.pairs import BASELINE, table
from benchmarks.quality import pairs
from engine.training import few_steps
from tests.engine.training.recordings import write_tones


def test_a_variant_differs_from_the_baseline_in_its_setting_alone() -> None:
    plain = asdict(pairs.recipe({}, 600, 1))
    for variant, changes in pairs.VARIANTS.items():
        other = asdict(pairs.recipe(changes, 600, 1))
        different = {
            (name, key)
            for name in ("network", "data", "training")
            for key in plain[name]
            if plain[name][key] != other[name][key]
        }
        named = {(name, "train_schedule" if key == "beta" else key) for name, keys in changes.items() for key in keys}
        assert different == named, variant
    assert plain["training"]["steps"] == 600 and plain["training"]["seed"] == 1


def test_the_schedule_to_silence_has_the_levels_of_the_other_but_its_first() -> None:
    plain, silent = (pairs.recipe(pairs.VARIANTS[name], 1, 0).network for name in list(pairs.VARIANTS)[:2])
    levels = [np.cumprod(1.0 - np.array(config.fast_schedule)) for config in (plain, silent)]
    np.testing.assert_allclose(levels[0][:-1], levels[1][:-1])
    assert levels[0][-1] > 0.3 and 0.019 < np.prod(1.0 - np.array(silent.train_schedule)) < levels[1][-1] < 0.025


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pairs.recipe

    def tiny(changes: dict[str, dict[str, object]], steps: int, seed: int) -> object:
        network = {"residual_channels": 16, "residual_layers": 2, **changes.get("network", {})}
        return original({**changes, "network": network, "data": {"frames": 4, "held_out": r"^0\."}}, steps, seed)

    monkeypatch.setattr(pairs, "recipe", tiny)
    monkeypatch.setattr(few_steps, "vocoding_scores", lambda voice, clips, *rest: {"log_mel_error": float(len(clips))})


def test_results_continue_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    data, results = write_tones(tmp_path / "data", 5, 22050, 0.5), tmp_path / "pairs.json"
    trained = []
    measure = pairs.measure

    def note(variant: str, *rest: object) -> object:
        trained.append(variant)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return measure(variant, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pairs, "measure", note)
    with pytest.raises(KeyboardInterrupt):
        pairs.run(data, tmp_path / "work", results, ((1, 0),))
    rows = json.loads(results.read_text())["rows"]
    assert [row["variant"] for row in rows] == list(pairs.VARIANTS)[:2]
    assert rows[0]["log_mel_error"] == 1.0 == rows[0]["log_mel_error_blurred"] and rows[0]["clips"] == ["0.wav"]
    pairs.run(data, tmp_path / "work", results, ((1, 0),))
    assert trained[3:] == list(pairs.VARIANTS)[2:]
    assert len(json.loads(results.read_text())["rows"]) == len(pairs.VARIANTS)


def test_the_table_shows_complete_rounds() -> None:
    def row(variant: str, seed: int, error: float) -> dict[str, object]:
        scores = {"log_mel_error": error, "log_mel_error_blurred": 2 * error, "mos": 1.5}
        return {"variant": variant, "steps": 1200, "seed": seed, **scores}

    assert table([]) == "No round is complete yet."
    text = table([row(BASELINE, 0, 0.5), row("other", 0, 0.25), row(BASELINE, 1, 0.75)])
    assert text.splitlines() == [
        "| steps | seed | variant | MOS | log-mel error |",
        "|---:|---:|---|---:|---:|",
        "| 1,200 | 0 | plain | 1.50 /  | 0.500 / 1.000 |",
        "| 1,200 | 0 | other | 1.50 /  | 0.250 / 0.500 |",
    ]
