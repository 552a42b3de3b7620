"""The recipe table `unroll` and `training.weight`: values, defaults, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError
from engine.training.settings import read_recipe, recipe_from_json
from engine.training.unroll_settings import Unroll
from tests.engine.training.recordings import unrolled_recipe, voice_recipe

LOG_MEL = "[network]\nmel_kind = 'hifigan'\nprior = true\nenergy_min = 0.1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[unroll]\nstep = 3", "unroll: unknown keys step; known: steps, draft, windows, anchor"),
        ("unroll = 3", r"unroll: expected a table, \[unroll\], got 3"),
        ("[unroll]\nsteps = 3", "unroll.steps: expected a list, got 3"),
        ("[unroll]\nsteps = [5]", r"unroll.steps: expected numbers from 1 to 4, got \[5\]"),
        ("[unroll]\nsteps = []", r"unroll.steps: expected numbers from 1 to 4, got \[\]"),
        ("[unroll]\ndraft = 'noise'", "unroll.draft: expected '' or 'griffin-lim', got 'noise'"),
        ("[unroll]\ndraft = true", "unroll.draft: expected a string, got True"),
        ("[network]\nmel_kind = ''\n[unroll]\ndraft = 'griffin-lim'", "mel_kind"),
        (LOG_MEL + "[unroll]\ndraft = 'griffin-lim'", "unroll.draft: PriorGrad's noise is not white"),
        ("[data]\nblur = 1.5", "data.blur: expected a number from 0 to 1, got 1.5"),
        ("[network]\nn_mels = 0\n[data]\nsamples = 100\nblur = 1", "data.blur: expected 0 for a network without"),
        ("[unroll]\nsteps = [true]", "unroll.steps: expected numbers from 1 to 4"),
        ("[unroll]\nwindows = [130]", "unroll.windows: expected multiples of 4 from 32 samples"),
        (
            "[unroll]\nwindows = [8192]",
            "unroll.windows: expected at most 5120 samples, a crop of data.frames, got 8192",
        ),
        ("[unroll]\nanchor = -1", "unroll.anchor: expected a number of at least 0, got -1.0"),
        ("[unroll]\nanchor_share = 1", "unroll.anchor_share: expected a number from 0 to below 1"),
        ("[training]\nbatch = 1\n[unroll]", "unroll.anchor_share: .* batch of 1, got 0.9, which leaves none"),
        ("[unroll]\ncheckpointing = 1", "unroll.checkpointing: expected true or false, got 1"),
        ("[unroll]\nadversarial = -0.1", "unroll.adversarial: expected a number of at least 0"),
        ("[unroll]\nmatching = nan", "unroll.matching: expected a finite number, got nan"),
        ("[unroll]\nadversarial_after = 1.0", "unroll.adversarial_after: expected a number from 0 to below 1"),
        ("[unroll]\nadversarial_rate = 0", "unroll.adversarial_rate: expected a number above 0"),
        ("[network]\nn_mels = 0\n[data]\nsamples = 100\n[unroll]", "unroll: expected a network with a mel"),
        ("[network]\nfast_schedule = [1e-4, 0.3]\n[unroll]", r"unroll.steps: expected 2 or 50, .* got 3"),
        ("[training]\nweight = 'loud'", "training.weight: expected 'none' or 'energy', got 'loud'"),
        (LOG_MEL + "[training]\nweight = 'energy'", "training.weight: .* whose prior weights the errors, got 'energy'"),
        (
            "[network]\nn_mels = 0\n[data]\nsamples = 100\n[training]\nweight = 'energy'",
            "training.weight: expected 'none' for a network without a known kind of mel",
        ),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, message: str) -> None:
    text = text.replace("batch = 1\n[unroll]", "batch = 1\n[unroll]\nanchor_share = 0.9")
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_the_bundled_recipe_tunes_three_steps() -> None:
    recipe = read_recipe("voice-steps")
    assert recipe.unroll == Unroll() and recipe.unroll.steps == (3,)
    assert recipe.network == read_recipe("voice").network and read_recipe("voice").unroll is None
    assert recipe_from_json(recipe.to_json()) == recipe


def test_the_bundled_recipe_for_drafts_takes_the_last_two_steps() -> None:
    recipe = read_recipe("voice-draft")
    assert recipe.unroll is not None and recipe.unroll.draft == "griffin-lim" and recipe.data.blur == 0.5
    assert recipe.unroll.schedule(recipe.network, 2) == build_schedule(recipe.network, 6).last(2)
    assert recipe.network == read_recipe("voice").network and recipe_from_json(recipe.to_json()) == recipe


def test_a_state_of_before_the_blur_is_read() -> None:
    assert recipe_from_json(voice_recipe().to_json().replace('"blur": 0.0, ', "")) == voice_recipe()


def test_a_recipe_without_the_table_has_the_text_of_before() -> None:
    assert "unroll" not in voice_recipe().to_json()
    with pytest.raises(CheckpointError, match="recipe: expected that of a training's state"):
        recipe_from_json(unrolled_recipe().to_json().replace('"steps": [3]', '"steps": [9]'))


def test_the_share_of_the_anchor_is_whole_examples() -> None:
    assert [Unroll(anchor_share=0.5).anchors(batch) for batch in (1, 2, 3, 16)] == [0, 1, 2, 8]
    assert Unroll(anchor=0.0).anchors(16) == 0 == Unroll(anchor_share=0.0).anchors(16)


def test_the_second_stage_begins_after_its_share() -> None:
    unroll = Unroll(adversarial=1.0, adversarial_after=0.5)
    assert [unroll.is_adversarial(step, 5) for step in range(5)] == [False, False, False, True, True]
    assert not Unroll(adversarial_after=0.0).is_adversarial(3, 5)


def test_the_objective_is_one_line() -> None:
    assert Unroll().description == (
        "3 steps: log-mels and spectral convergence of the unrolled sampler, noise prediction"
    )
    assert Unroll((2,), "griffin-lim").description.startswith("2 steps on drafts: log-mels and spectral convergence")
    assert Unroll(steps=(3, 2), anchor=0.0, adversarial=1.0).description == (
        "2 and 3 steps: log-mels and spectral convergence of the unrolled sampler, discriminators"
    )
