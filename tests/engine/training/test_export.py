"""What was trained is what the engine runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import digits_recipe, spoken, tones, voice_recipe
from tolerances import TOLERANCES, relative_error

import engine
from engine.errors import InputError
from engine.training import __main__ as command
from engine.training.data import read_corpus
from engine.training.export import export, export_to_train_on
from engine.training.fit import STATE, Options, fit
from engine.training.network import DiffWave
from engine.training.processes import Processes
from engine.training.settings import Recipe
from engine.training.state import State, read_state
from engine.training.trainer import Trainer


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
