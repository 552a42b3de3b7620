"""Exported networks compute the same as the trained ones, and trainings start from exported weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.errors import CheckpointError, InputError
from engine.training import __main__ as command
from engine.training.data import read_corpus
from engine.training.export import export, export_weights
from engine.training.fit import STATE, Options, fit
from engine.training.network import DiffWave
from engine.training.processes import Processes
from engine.training.settings import Recipe
from engine.training.state import State, read_state
from engine.training.trainer import Trainer
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones
from tests.support.tolerances import TOLERANCES, relative_error


def trained(folder: Path, recipe: Recipe) -> State:
    """Train a few steps and return the state."""
    data = write_tones(folder / "data", 4, 22050, 0.3) if recipe.network.n_mels else write_digits(folder / "data")
    fit(recipe, data, Options(folder))
    return read_state(folder / STATE)


def network_of(state: State, recipe: Recipe, part: str) -> DiffWave:
    network = DiffWave(recipe.network, len(state.classes))
    network.load_state_dict(dict(state.tensors[part]))
    return network


def test_an_exported_voice_computes_the_trained_eps(tmp_path: Path) -> None:
    recipe = voice_recipe(training={"rate": 1e-2})
    state = trained(tmp_path, recipe)
    export(tmp_path / STATE, tmp_path / "voice.safetensors", dtype="float32")
    voice = engine.load(tmp_path / "voice.safetensors", device="cpu", precision="fp32")
    random = np.random.default_rng(0)
    x, mel = random.standard_normal((1, 1024), np.float32), random.random((1, 80, 4), np.float32)
    network = network_of(state, recipe, "average")
    expected = network(torch.from_numpy(x), torch.tensor([7.5]).double(), torch.from_numpy(mel)).detach()
    assert relative_error(voice.predict_noise(x, 7.5, mel=mel), expected) < TOLERANCES["network_eps_fp32"]
    raw = network_of(state, recipe, "weights")
    raw_eps = raw(torch.from_numpy(x), torch.tensor([7.5]).double(), torch.from_numpy(mel)).detach()
    assert (
        relative_error(raw_eps, expected) > TOLERANCES["network_eps_fp32"]
    )  # otherwise the comparison above proves nothing
    assert voice.vocode(mel[0]).shape == (1024,)


def test_exported_digits_compute_the_trained_eps_for_every_label_and_none(tmp_path: Path) -> None:
    recipe = digits_recipe(training={"rate": 1e-2})
    state = trained(tmp_path, recipe)
    assert command.main(["export", str(tmp_path), "-o", str(tmp_path / "digits.safetensors"), "--float32"]) == 0
    path = tmp_path / "unconditional.safetensors"
    assert command.main(["export", str(tmp_path), "-o", str(path), "--float32", "--unconditional"]) == 0
    digits, unconditional = (
        engine.load(file, device="cpu", precision="fp32") for file in (tmp_path / "digits.safetensors", path)
    )
    assert digits.config.classes == ("0 a", "0 b", "1 a", "1 b", "2 a", "2 b") and not unconditional.config.classes
    assert digits.config.clip_samples == 200 == unconditional.config.clip_samples
    assert (digits.config.guidance, unconditional.config.guidance) == (1.0, 0.0)
    network = network_of(state, recipe, "average")
    x = np.random.default_rng(0).standard_normal((1, 200)).astype(np.float32)

    def trained_eps(label: int) -> torch.Tensor:
        eps: torch.Tensor = network(torch.from_numpy(x), torch.tensor([3.0]).double(), None, torch.tensor([label]))
        return eps.detach()

    assert relative_error(unconditional.predict_noise(x, 3.0), trained_eps(6)) < TOLERANCES["network_eps_fp32"]
    for label, name in enumerate(digits.config.classes):
        eps = digits.predict_noise(x, 3.0, label=name)
        assert relative_error(eps, trained_eps(label)) < TOLERANCES["network_eps_fp32"]
        assert relative_error(eps, trained_eps((label + 1) % 7)) > TOLERANCES["network_eps_fp32"]
    assert digits.generate(n=2, label=1, steps="full").shape == (2, 200)
    unguided = digits.generate(n=1, label=1, guidance=0, steps=50)
    assert relative_error(unguided, unconditional.generate(n=1, steps=50)) < TOLERANCES["network_audio_fp32"]


def test_guidance_defaults_to_the_recipes(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    trained(tmp_path, digits_recipe(network={"guidance": 1.5}))
    for options, guidance in (([], 1.5), (["--guidance", "3"], 3.0), (["--unconditional"], 0.0)):
        assert command.main(["export", str(tmp_path), "-o", str(file), *options]) == 0
        assert engine.load(file, device="cpu").config.guidance == guidance
    for options in ({"guidance": 0.0}, {"guidance": 101.0}, {"guidance": float("nan")}):
        with pytest.raises(InputError, match="guidance: expected a number above 0, at most 100, got"):
            export(tmp_path / STATE, file, **options)
    with pytest.raises(InputError, match="guidance: expected none for an unconditional network, got 2"):
        export(tmp_path / STATE, file, labels=False, guidance=2)


def test_the_temperature_defaults_to_the_recipes(tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    trained(tmp_path, digits_recipe(network={"temperature": 0.75}))
    cooler = ["--temperature", "0.5"]
    for options, temperature in (
        ([], 0.75),
        (cooler, 0.5),
        (["--unconditional"], 1.0),
        (["--unconditional", *cooler], 0.5),
        (["--temperature", "1"], 1.0),
    ):
        assert command.main(["export", str(tmp_path), "-o", str(file), *options]) == 0
        assert engine.load(file, device="cpu").config.temperature == temperature
    for impossible in (-0.5, 1.5, float("nan")):
        with pytest.raises(InputError, match="temperature: expected a number from 0 to 1, got"):
            export(tmp_path / STATE, file, temperature=impossible)


def test_a_voice_has_no_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, voice_recipe())
    out = tmp_path / "voice.safetensors"
    assert command.main(["export", str(tmp_path), "-o", str(out), "--temperature", "0.9"]) == 2
    assert "--temperature: expected none for a network with a mel, got 0.9" in capsys.readouterr().err
    assert not out.exists()


def test_a_network_always_trained_with_labels_has_no_unconditional_part(tmp_path: Path) -> None:
    trained(tmp_path, digits_recipe(training={"drop_label": 0.0}))
    with pytest.raises(
        InputError, match=r"labels: .*state\.safetensors: this network was never trained without labels"
    ):
        export(tmp_path / STATE, tmp_path / "out.safetensors", labels=False)
    with pytest.raises(
        InputError, match=r"guidance: .*state\.safetensors: this network was never trained without labels"
    ):
        export(tmp_path / STATE, tmp_path / "out.safetensors", guidance=2)
    assert not (tmp_path / "out.safetensors").exists()
    export(tmp_path / STATE, tmp_path / "out.safetensors")
    voice = engine.load(tmp_path / "out.safetensors", device="cpu")
    assert voice.config.guidance == 0 and voice.generate(label=1, guidance=1).shape == (1, 200)


def test_a_training_starts_from_a_checkpoint_or_a_state(tmp_path: Path) -> None:
    recipe = voice_recipe()
    state = trained(tmp_path, recipe)
    export(tmp_path / STATE, tmp_path / "voice.safetensors", part="weights", dtype="float32")
    export_weights(tmp_path / STATE, tmp_path / "start.safetensors")
    assert (tmp_path / "start.safetensors").stat().st_size < 0.3 * (tmp_path / STATE).stat().st_size
    corpus = read_corpus(tmp_path / "data", recipe.data, recipe.network)
    init = {"init": str(tmp_path / "start.safetensors")}
    fit(voice_recipe(training=init), tmp_path / "data", Options(tmp_path / "next", stop_after=1))
    export_weights(tmp_path / "next" / STATE, tmp_path / "next.safetensors")
    assert (
        str(tmp_path).encode() not in (tmp_path / "next.safetensors").read_bytes()
    )  # which means nothing on another machine
    for file in ("voice.safetensors", "start.safetensors"):
        initialized = voice_recipe(training={"init": str(tmp_path / file)})
        trainer = Trainer(initialized, corpus, Processes(0, 1, torch.device("cpu")))
        for name, parameter in trainer.parameters.items():
            assert torch.equal(parameter, state.tensors["weights"][name])
    deeper = voice_recipe(training={"init": str(tmp_path / "voice.safetensors")}, network={"residual_layers": 5})
    with pytest.raises(InputError, match=r"init: .*: expected a network of the recipe's sizes and classes, or fewer"):
        Trainer(deeper, corpus, Processes(0, 1, torch.device("cpu")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal_std": 0.14}, r"init: .*safetensors: expected a network with signal_std = 0\.14, got 0\.0"),
        ({"step_embedding": "sinusoid"}, "init: .*: expected a network with step_embedding = 'sinusoid', got 'table'"),
    ],
)
def test_weights_with_another_meaning_are_refused_as_a_start(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    trained(tmp_path, voice_recipe())
    export(tmp_path / STATE, tmp_path / "voice.safetensors")
    for file in (STATE, "voice.safetensors"):
        other = voice_recipe(network=changes, training={"init": str(tmp_path / file)})
        with pytest.raises(InputError, match=message):
            fit(other, tmp_path / "data", Options(tmp_path / "other"))


def test_weights_with_other_classes_are_refused_as_a_start(tmp_path: Path) -> None:
    trained(tmp_path, digits_recipe())
    other = digits_recipe(data={"label": r"^\d_(\w)_(\d)", "held_out": ""}, training={"init": str(tmp_path / STATE)})
    data = write_digits(tmp_path / "more", digits=2)  # 6 classes, as before
    with pytest.raises(InputError, match=r"with classes = \('a 0', .* got \('0 a', "):
        fit(other, data, Options(tmp_path / "other"))


def test_a_training_resumes_with_its_recordings_only(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 5, 22050, 0.3)
    recipe = voice_recipe()
    fit(recipe, data, Options(tmp_path, stop_after=2))
    (data / "4.wav").rename(tmp_path / "4.wav")
    with pytest.raises(InputError, match=r"data: expected the 3 recordings that the training in .* began with, got 2"):
        fit(recipe, data, Options(tmp_path))
    (tmp_path / "4.wav").rename(data / "4.wav")
    assert fit(recipe, data, Options(tmp_path))


def test_resuming_with_another_recipe_lists_the_differences(tmp_path: Path) -> None:
    trained(tmp_path, voice_recipe())
    other = voice_recipe(training={"steps": 9}, network={"residual_layers": 5})
    message = (
        r"\(network\.residual_layers = 4, not 5; training\.steps = 6, not 9\); choose another --folder, and --init"
    )
    with pytest.raises(InputError, match=message):
        fit(other, tmp_path / "data", Options(tmp_path))


def test_loading_a_state_names_the_export_command(tmp_path: Path) -> None:
    trained(tmp_path, voice_recipe())
    with pytest.raises(
        CheckpointError, match=r"got a training state; export it with python -m engine\.training export"
    ):
        engine.load(tmp_path / STATE)


def test_a_batch_has_an_example_for_every_process(tmp_path: Path) -> None:
    recipe = voice_recipe(training={"batch": 1})
    corpus = read_corpus(write_tones(tmp_path, 4, 22050, 0.3), recipe.data, recipe.network)
    with pytest.raises(InputError, match="batch: expected at least one example for each of 2 processes, got 1"):
        Trainer(recipe, corpus, Processes(0, 2, torch.device("cpu")))


def test_an_export_does_not_replace_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, digits_recipe())
    before = (tmp_path / STATE).read_bytes()

    def refusal(*arguments: str) -> str:
        assert command.main(["export", str(tmp_path), *arguments]) == 2
        return capsys.readouterr().err

    assert "it is the input" in refusal("-o", str(tmp_path / STATE))
    assert "expected a name that ends in .safetensors" in refusal("-o", str(tmp_path / "log.jsonl"))
    assert f"{str(tmp_path)!r}: it is a directory" in refusal("-o", str(tmp_path))
    out = str(tmp_path / "out.safetensors")
    for option in (["--unconditional"], ["--float32"], ["--guidance", "2"], ["--temperature", "0"]):
        assert "--to-train-on: expected no other option" in refusal("-o", out, "--to-train-on", *option)
    assert command.main(["export", str(tmp_path), "-o", out, "--to-train-on"]) == 0
    assert command.main(["export", out, "-o", str(tmp_path / "voice.safetensors")]) == 2
    assert (
        "expected the average of a training, got weights alone, which training starts from (--init)"
        in capsys.readouterr().err
    )
    assert (tmp_path / STATE).read_bytes() == before
