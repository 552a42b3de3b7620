"""Recipes: defaults, bundled files, and refused values."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import BASE, linear_schedule
from engine.errors import CheckpointError, InputError
from engine.training.settings import RECIPES, read_recipe, recipe_from_json
from tests.engine.training.recordings import digits_recipe, voice_recipe


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_bundled_recipes_are_valid(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe_from_json(recipe.to_json()) == recipe
    assert read_recipe(RECIPES / f"{name}.toml") == recipe


def test_missing_keys_default_to_base(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[network]\nbeta = { first = 1e-4, last = 0.02, steps = 200 }\n")
    network = read_recipe(tmp_path / "recipe.toml").network
    assert network.train_schedule == linear_schedule(1e-4, 0.02, 200)
    assert network.residual_channels == BASE.residual_channels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[network", "expected TOML"),
        ("[other]", r"expected the tables network, data, training and unroll, got \['other'\]"),
        ("[training]\nstep = 3", "training: unknown keys step; known: steps, batch"),
        ("[training]\nsteps = 'many'", "training.steps: expected a whole number, got 'many'"),
        ("[training]\nsteps = 0", "training.steps: expected at least 1, got 0"),
        ("[training]\naverage = 1.5", "training.average: expected a number from 0 to 1"),
        ("[training]\nrate = -1.0", "training.rate: expected a number above 0"),
        ("[training]\nloss = 'l3'", "training.loss: expected 'l1' or 'l2', got 'l3'"),
        ("[training]\ndrop_label = 0.1", "training.drop_label: expected 0 for a network without labels"),
        ("[network]\nguidance = 2.0", "network.guidance: expected 0 for a network that is never trained"),
        (
            "[network]\nfast_schedule = []\n[training]\nfast_share = 0.5",
            "training.fast_share: expected 0 for a network without a fast_schedule",
        ),
        ("[network]\nresidual_channels = 20", "residual_channels: expected a multiple of 16"),
        ("[network]\nn_mels = 0", "data.samples: expected the length of clips for a network without a mel"),
        ("[data]\nlabel = '(a)'", "data.label: expected '' for a network with a mel"),
        ("[data]\nlabel = 'a'", "data.label: expected a regular expression with groups"),
        (
            "[network]\nprior = true",
            "network.mel_kind: expected a logarithmic mel for a prior, one of tacotron, .* got 'lmnt'",
        ),
        ("network = 3", r"network: expected a table, \[network\], got 3"),
        ("[network]\nbeta = 0.02", r"network.beta: expected a table like \{ first = 1e-4, .*got 0.02"),
        ("[network]\nbeta = { first = 1e-4, last = 0.02 }", "network.beta: expected"),
        ("[network]\nbeta = { first = 1e-4, last = 0.02, steps = 0 }", "network.beta: expected"),
        ("[network]\nbeta = { first = 1e-4, last = 0.02, steps = 9, more = 1 }", "network.beta: expected"),
        ("[network]\nbeta = { first = 1e-4, last = 0.02, steps = 20000 }", "network.beta: expected"),
        (
            "[network]\nbeta = { first = 1e-4, last = 0.02, steps = 9 }\ntrain_schedule = [0.1]",
            "network.beta: expected one of beta and train_schedule, got both",
        ),
        (
            "[network]\nn_mels = 0\nprior = true\nmel_kind = 'hifigan'\nenergy_min = 0.1\n[data]\nsamples = 99",
            "network.prior: expected false for a network without a mel",
        ),
        ("[network]\nn_mels = 0\nmel_kind = 'lmnt'\n[data]\nsamples = 99", "network.mel_kind: expected none beside"),
        (
            "[network]\nn_mels = 0\n[data]\nsamples = 99\ngain_db = [-6.0, 4.0]",
            r"data.gain_db: expected \[0.0, 0.0\] for",
        ),
        ("[network]\nn_mels = 0\n[data]\nsamples = 9999999999", "data.samples: expected at most 2147483647"),
        ("[data]\npeak = 0.9", "data.peak: expected 0.0 for a network with a mel, which learns crops, got 0.9"),
        ("[data]\npeak = nan", "data.peak: expected a finite number, got nan"),
        ("[data]\npeak = 1.5", "data.peak: expected a level from 0 to 1"),
        ("[data]\nlead = 3", "data.lead: expected 0 for a network with a mel"),
        ("[data]\ngain_db = [-inf, inf]", r"data.gain_db: expected \[lowest, highest\] in dB, from -100 to 100"),
        ("[data]\ngain_db = [0, 1000]", r"data.gain_db: expected \[lowest, highest\] in dB, from -100 to 100"),
        ("[training]\ndecay = nan", "training.decay: expected a finite number, got nan"),
        ("[training]\nrate = inf", "training.rate: expected a finite number, got inf"),
        (f"[training]\nrate = 1{'0' * 400}", "training.rate: expected a finite number, got 1000"),
        ("[training]\nclip = nan", "training.clip: expected a finite number, got nan"),
        ("[training]\nseed = 9223372036854775808", "training.seed: expected at most 9223372036854775807"),
        ("[unroll]\nanchor = inf", "unroll.anchor: expected a finite number, got inf"),
        (
            "[network]\npadding = 'reflect'",
            'network.padding: expected "zeros", the only value for training, got "reflect"',
        ),
        (
            "[network]\nstep_bias_in_residual = true",
            "network.step_bias_in_residual: expected false, the only value for training, got true",
        ),
        ("[network]\nupsample_strides = [16, 20]", r"expected a product of 256, the hop of mels, got \[16, 20\]"),
        ("[training]\ndecay = -1.0", "training.decay: expected at least 0"),
        ("[training]\nsteps = true", "training.steps: expected a whole number, got True"),
        ("[data]\npeak = -1", "data.peak: expected at least 0"),
        (
            "[network]\nbeta = { first = 0.1, last = 0.01, steps = 10 }",
            r"network.fast_schedule: expected one that fits .*, or \[\] for none",
        ),
        ("[data]\npattern = ''", "data.pattern: expected a pattern below the data folder"),
        ("[data]\npattern = '/tmp/*'", "data.pattern: expected a pattern below the data folder"),
        ("[data]\ngain_db = [1.0]", r"data.gain_db: expected \[lowest, highest\] in dB, .*got \[1.0\]"),
        ("[data]\ngain_db = [1.0, -1.0]", r"data.gain_db: expected \[lowest, highest\]"),
        ("[data]\ngain_db = [1.0, 'a']", r"data.gain_db: expected \[lowest, highest\]"),
        ("[data]\nheld_out = '('", "data.held_out: expected a regular expression"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_a_recipe_may_begin_with_a_byte_order_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes("\ufeff# für Anna\r\n[training]\r\nsteps = 3\r\n".encode())
    assert read_recipe(tmp_path / "recipe.toml").training.steps == 3


def test_the_encoding_of_a_recipe_does_not_depend_on_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.toml").write_text("[data]\nheld_out = '^prüfung'\n", "utf-8")
    monkeypatch.setattr("io.text_encoding", lambda encoding, level=2: encoding or "ascii")
    assert read_recipe(tmp_path / "recipe.toml").data.held_out == "^prüfung"


def test_a_recipe_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes("[training]\nsteps = 3\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"expected TOML in UTF-8, got .* save it as UTF-8"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_folder_does_not_hide_a_bundled_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide calls `fit digits --folder digits`, and the same command must resume."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert read_recipe("digits") == read_recipe(RECIPES / "digits.toml")


def test_a_training_without_clipping(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[training]\nclip = inf\n")
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert recipe.training.clip == float("inf") and recipe_from_json(recipe.to_json()) == recipe


def test_schedules_of_few_steps(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[network]\nschedules = [[0.0001, 0.0604405, 0.6], [0.01, 0.62]]\n")
    recipe = read_recipe(path)
    assert recipe.network.schedules == ((0.0001, 0.0604405, 0.6), (0.01, 0.62))
    assert recipe_from_json(recipe.to_json()) == recipe
    path.write_text("[network]\nschedules = [[0.6, 0.01]]\n")
    with pytest.raises(InputError, match="schedules: expected betas that ascend"):
        read_recipe(path)


def test_whole_numbers_are_valid_numbers(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        "[network]\nn_mels = 0\nguidance = 2\n[data]\nsamples = 200\nlabel = '(.)'\n"
        "[training]\nrate = 1\ndrop_label = 1\n"
    )
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert recipe.network.guidance == 2.0 and recipe.training.rate == 1.0
    assert recipe_from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("text", ["", "3", "{}", '{"network": 3, "data": {}, "training": {}}', "null"])
def test_a_text_that_is_not_a_recipe_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="recipe: expected that of a training's state"):
        recipe_from_json(text)


def test_an_unknown_name_lists_the_bundled_recipes() -> None:
    with pytest.raises(InputError, match=r"bundled recipes: .*digits"):
        read_recipe("no-such-recipe")


def test_the_small_recipes_of_the_tests_are_valid() -> None:
    assert voice_recipe().network.n_mels == 80 and digits_recipe().network.n_mels == 0
