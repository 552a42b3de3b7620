"""What was trained is what the engine runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.errors import CheckpointError, InputError
from engine.training import __main__ as command
from engine.training.data import read_corpus
from engine.training.export import export, export_to_train_on
from engine.training.fit import STATE, Options, fit
from engine.training.network import DiffWave
from engine.training.processes import Processes
from engine.training.settings import Recipe
from engine.training.state import State, read_state
from engine.training.trainer import Trainer
from tests.engine.training.recordings import digits_recipe, spoken, tones, voice_recipe
from tests.support.tolerances import TOLERANCES, relative_error


def trained(folder: Path, recipe: Recipe) -> State:
    """A few steps at a rate that moves every weight."""
    data = tones(folder / "data", 4, 22050, 0.3) if recipe.network.n_mels else spoken(folder / "data")
    fit(recipe, data, Options(folder))
    return read_state(folder / STATE)


def network_of(state: State, recipe: Recipe, part: str) -> DiffWave:
    network = DiffWave(recipe.network, len(state.classes))
    network.load_state_dict(dict(state.tensors[part]))
    return network


def test_a_voice_speaks_as_it_was_trained(tmp_path: Path) -> None:
    recipe = voice_recipe(training={"rate": 1e-2})
    state = trained(tmp_path, recipe)
    export(tmp_path / STATE, tmp_path / "voice.safetensors", dtype="float32")
    voice = engine.load(tmp_path / "voice.safetensors", device="cpu", precision="fp32")
    random = np.random.default_rng(0)
    x, mel = (of.astype(np.float32) for of in (random.standard_normal((1, 1024)), random.random((1, 80, 4))))
    network = network_of(state, recipe, "average")
    expected = network(torch.from_numpy(x), torch.tensor([7.5]).double(), torch.from_numpy(mel)).detach()
    assert relative_error(voice.predict_noise(x, 7.5, mel), expected) < TOLERANCES["network_eps_fp32"]
    weights = network_of(state, recipe, "weights")
    other = weights(torch.from_numpy(x), torch.tensor([7.5]).double(), torch.from_numpy(mel)).detach()
    assert relative_error(other, expected) > TOLERANCES["network_eps_fp32"]  # else this shows nothing
    assert voice.vocode(mel[0]).shape == (1024,)


def test_labels_and_no_label_are_those_of_the_training(tmp_path: Path) -> None:
    recipe = digits_recipe(training={"rate": 1e-2})
    state = trained(tmp_path, recipe)
    assert command.main(["export", str(tmp_path), "-o", str(tmp_path / "digits.safetensors"), "--float32"]) == 0
    path = tmp_path / "nothing.safetensors"
    assert command.main(["export", str(tmp_path), "-o", str(path), "--float32", "--unconditional"]) == 0
    digits, nothing = (
        engine.load(file, device="cpu", precision="fp32") for file in (tmp_path / "digits.safetensors", path)
    )
    assert digits.config.classes == ("0 a", "0 b", "1 a", "1 b", "2 a", "2 b") and not nothing.config.classes
    assert digits.config.clip_samples == 200 == nothing.config.clip_samples
    assert (digits.config.guidance, nothing.config.guidance) == (1.0, 0.0)
    network = network_of(state, recipe, "average")
    x = np.random.default_rng(0).standard_normal((1, 200)).astype(np.float32)

    def trained_eps(label: int) -> torch.Tensor:
        eps: torch.Tensor = network(torch.from_numpy(x), torch.tensor([3.0]).double(), None, torch.tensor([label]))
        return eps.detach()

    assert relative_error(nothing.predict_noise(x, 3.0), trained_eps(6)) < TOLERANCES["network_eps_fp32"]
    for label, name in enumerate(digits.config.classes):
        got = digits.predict_noise(x, 3.0, label=name)
        assert relative_error(got, trained_eps(label)) < TOLERANCES["network_eps_fp32"]
        assert relative_error(got, trained_eps((label + 1) % 7)) > TOLERANCES["network_eps_fp32"]
    assert digits.generate(2, 1, steps="full").shape == (2, 200)
    unguided = digits.generate(1, 1, guidance=0, steps=50)
    assert relative_error(unguided, nothing.generate(1, steps=50)) < TOLERANCES["network_audio_fp32"]


def test_guidance_is_the_recipes_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    trained(tmp_path, digits_recipe(network={"guidance": 1.5}))
    for options, guidance in (([], 1.5), (["--guidance", "3"], 3.0), (["--unconditional"], 0.0)):
        assert command.main(["export", str(tmp_path), "-o", str(file), *options]) == 0
        assert engine.load(file, device="cpu").config.guidance == guidance
    for options in ({"guidance": 0.0}, {"guidance": 101.0}, {"guidance": float("nan")}):
        with pytest.raises(InputError, match="guidance: expected 0 < W <= 100, and none without labels, got"):
            export(tmp_path / STATE, file, **options)
    with pytest.raises(InputError, match="guidance: expected 0 < W <= 100, and none without labels, got 2"):
        export(tmp_path / STATE, file, labels=False, guidance=2)


def test_no_label_must_have_been_trained(tmp_path: Path) -> None:
    trained(tmp_path, digits_recipe(training={"drop_label": 0.0}))
    with pytest.raises(InputError, match="labels: this network has no training without labels"):
        export(tmp_path / STATE, tmp_path / "out.safetensors", labels=False)
    with pytest.raises(InputError, match="guidance: this network has no training without labels"):
        export(tmp_path / STATE, tmp_path / "out.safetensors", guidance=2)
    assert not (tmp_path / "out.safetensors").exists()
    export(tmp_path / STATE, tmp_path / "out.safetensors")
    voice = engine.load(tmp_path / "out.safetensors", device="cpu")
    assert voice.config.guidance == 0 and voice.generate(label=1, guidance=1).shape == (1, 200)


def test_a_training_begins_from_a_voice_or_a_training(tmp_path: Path) -> None:
    recipe = voice_recipe()
    state = trained(tmp_path, recipe)
    export(tmp_path / STATE, tmp_path / "voice.safetensors", part="weights", dtype="float32")
    export_to_train_on(tmp_path / STATE, tmp_path / "begin.safetensors")
    assert (tmp_path / "begin.safetensors").stat().st_size < 0.3 * (tmp_path / STATE).stat().st_size
    corpus = read_corpus(tmp_path / "data", recipe.data, recipe.network)
    init = {"init": str(tmp_path / "begin.safetensors")}
    fit(voice_recipe(training=init), tmp_path / "data", Options(tmp_path / "next", stop_after=1))
    export_to_train_on(tmp_path / "next" / STATE, tmp_path / "next.safetensors")
    assert str(tmp_path).encode() not in (tmp_path / "next.safetensors").read_bytes()  # it goes to other machines
    for file in ("voice.safetensors", "begin.safetensors"):
        again = voice_recipe(training={"init": str(tmp_path / file)})
        trainer = Trainer(again, corpus, Processes(0, 1, torch.device("cpu")))
        for name, parameter in trainer.parameters.items():
            assert torch.equal(parameter, state.tensors["weights"][name])
    deeper = voice_recipe(training={"init": str(tmp_path / "voice.safetensors")}, network={"residual_layers": 5})
    with pytest.raises(InputError, match="init: expected a network of the recipe's sizes and classes, or of fewer"):
        Trainer(deeper, corpus, Processes(0, 1, torch.device("cpu")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal_std": 0.14}, r"init: expected a network with signal_std = 0\.14, got 0\.0 in"),
        ({"step_embedding": "sinusoid"}, "init: expected a network with step_embedding = 'sinusoid', got 'table'"),
    ],
)
def test_weights_that_mean_something_else_are_not_begun_from(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    trained(tmp_path, voice_recipe())
    export(tmp_path / STATE, tmp_path / "voice.safetensors")
    for file in (STATE, "voice.safetensors"):
        other = voice_recipe(network=changes, training={"init": str(tmp_path / file)})
        with pytest.raises(InputError, match=message):
            fit(other, tmp_path / "data", Options(tmp_path / "other"))


def test_other_classes_are_not_begun_from(tmp_path: Path) -> None:
    trained(tmp_path, digits_recipe())
    other = digits_recipe(data={"label": r"^\d_(\w)_(\d)", "held_out": ""}, training={"init": str(tmp_path / STATE)})
    data = spoken(tmp_path / "more", digits=2)  # 6 classes, as before
    with pytest.raises(InputError, match=r"with classes = \('a 0', .* got \('0 a', "):
        fit(other, data, Options(tmp_path / "other"))


def test_a_training_goes_on_with_its_recordings_only(tmp_path: Path) -> None:
    data = tones(tmp_path / "data", 5, 22050, 0.3)
    recipe = voice_recipe()
    fit(recipe, data, Options(tmp_path, stop_after=2))
    (data / "4.wav").rename(tmp_path / "4.wav")
    with pytest.raises(InputError, match="data: expected the 3 recordings that this training began with, got 2"):
        fit(recipe, data, Options(tmp_path))
    (tmp_path / "4.wav").rename(data / "4.wav")
    assert fit(recipe, data, Options(tmp_path))


def test_a_training_of_another_recipe_says_what_differs(tmp_path: Path) -> None:
    trained(tmp_path, voice_recipe())
    other = voice_recipe(training={"steps": 9}, network={"residual_layers": 5})
    message = r"\(network\.residual_layers = 4, not 5; training\.steps = 6, not 9\); choose another folder, and --init"
    with pytest.raises(InputError, match=message):
        fit(other, tmp_path / "data", Options(tmp_path))


def test_a_state_is_no_checkpoint_and_says_what_makes_one(tmp_path: Path) -> None:
    trained(tmp_path, voice_recipe())
    with pytest.raises(CheckpointError, match=r"got the state of a training: python -m engine\.training export"):
        engine.load(tmp_path / STATE)


def test_every_process_has_a_part_of_a_batch(tmp_path: Path) -> None:
    recipe = voice_recipe(training={"batch": 1})
    corpus = read_corpus(tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    with pytest.raises(InputError, match="batch: expected an example or more for each of 2 processes, got 1"):
        Trainer(recipe, corpus, Processes(0, 2, torch.device("cpu")))


def test_an_export_replaces_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, digits_recipe())
    before = (tmp_path / STATE).read_bytes()

    def refusal(*arguments: str) -> str:
        assert command.main(["export", str(tmp_path), *arguments]) == 2
        return capsys.readouterr().err

    assert "it is the input" in refusal("-o", str(tmp_path / STATE))
    assert "expected a name that ends in .safetensors" in refusal("-o", str(tmp_path / "log.jsonl"))
    assert f"{str(tmp_path)!r}: it is a directory" in refusal("-o", str(tmp_path))
    out = str(tmp_path / "out.safetensors")
    for option in (["--unconditional"], ["--float32"], ["--guidance", "2"]):
        assert "--to-train-on: expected no other option" in refusal("-o", out, "--to-train-on", *option)
    assert command.main(["export", str(tmp_path), "-o", out, "--to-train-on"]) == 0
    assert command.main(["export", out, "-o", str(tmp_path / "voice.safetensors")]) == 2
    assert "it has no average: it is there to train on from (--init)" in capsys.readouterr().err
    assert (tmp_path / STATE).read_bytes() == before
