"""Every published layout loads as what it is, alone, beside its config.json and converted."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.checkpoint.families import FAMILIES
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.config import FAMILIES as NAMES
from engine.config import MEL_KINDS, SC09, Config, linear_schedule
from engine.errors import CheckpointError, InputError
from tests.support.layouts import LAYOUTS, Made, layout_config, random_checkpoint
from tests.support.networks import EXAMPLES, shared_file

torch = pytest.importorskip("torch")


def same(one: Checkpoint, config: Config, tensors: Any) -> None:
    assert one.config == config
    assert set(one.tensors) == set(tensors)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, tensors[name])


@pytest.fixture(scope="module", params=LAYOUTS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return random_checkpoint(tmp_path_factory.mktemp(request.param), request.param, seed=1)


def refused(path: Path, match: str, **arguments: Any) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoint(path, **arguments)
    message = str(caught.value)
    assert str(path.parent) in message and len(message) < 400 + len(str(path)) and "\n" not in message


def test_the_table_and_the_configuration_know_the_same_families() -> None:
    assert sorted(row.name for row in FAMILIES) == sorted(NAMES)
    assert {row.mel_kind for row in FAMILIES} == set(MEL_KINDS)
    for row in FAMILIES:
        assert set(row.facts) <= set(Config.__dataclass_fields__)


def test_every_layout_loads_as_what_it_is(made: Made) -> None:
    same(load_checkpoint(made.path), made.config, made.tensors)


def test_converting_loses_nothing_and_needs_no_config_json(made: Made, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.safetensors", load_checkpoint(made.path))
    assert os.listdir(tmp_path) == ["x.safetensors"]
    same(load_checkpoint(tmp_path / "x.safetensors"), made.config, made.tensors)
    (tmp_path / "config.json").write_text("rubbish")
    same(load_checkpoint(tmp_path / "x.safetensors"), made.config, made.tensors)


def test_safetensors_of_any_family_load_with_their_config_json(made: Made, tmp_path: Path) -> None:
    """As Amphion writes them with newer versions of accelerate."""
    content = torch.load(made.path, weights_only=False)
    boxes = [key for key in ("model", "model_state_dict", "state_dict") if key in content]
    model = content[boxes[0]] if boxes else content
    save_file({key: tensor.numpy() for key, tensor in model.items()}, tmp_path / "model.safetensors")
    beside = made.path.with_name("config.json")
    if beside.is_file():
        settings = json.loads(beside.read_text())
    else:
        settings = {k: v for k, v in dict(content.get("params") or vars(content["config"])).items() if v is not None}
        settings["family"] = made.config.family
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    same(load_checkpoint(tmp_path / "model.safetensors", config=tmp_path / "settings.json"), made.config, made.tensors)


@pytest.mark.parametrize("name", EXAMPLES)
def test_converted_shared_examples_are_the_same(tmp_path: Path, name: str) -> None:
    original = load_checkpoint(shared_file(name))
    save_checkpoint(tmp_path / "x.safetensors", original)
    same(load_checkpoint(tmp_path / "x.safetensors"), original.config, original.tensors)


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        ("philsyn", "dilation_cycle, beta_0, beta_T, T missing"),
        ("philsyn_unconditional", "dilation_cycle, beta_0, beta_T, T missing"),
        ("speechbrain", "dilation_cycle_length, beta_start, beta_end, total_steps missing"),
        ("amphion", "dilation_cycle_length, noise_schedule missing"),
    ],
)
def test_what_is_missing_is_named_as_the_family_names_it(tmp_path: Path, layout: str, match: str) -> None:
    path = random_checkpoint(tmp_path, layout).path
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    refused(path, f": {match}: put it into config.json beside the file")
    refused(path, "other: expected a configuration in JSON, got no such file", config=tmp_path / "other")
    assert load_checkpoint(path, config=tmp_path / "other.json").config == layout_config(layout)
    (tmp_path / "config.json").write_text("rubbish")
    assert load_checkpoint(path, config=tmp_path / "other.json").config == layout_config(layout)
    refused(path, "config.json: config: expected JSON")


def test_a_complete_file_takes_no_other_configuration(tmp_path: Path) -> None:
    made = random_checkpoint(tmp_path, "speechbrain")
    save_checkpoint(tmp_path / "x.safetensors", load_checkpoint(made.path))
    with pytest.raises(InputError, match="is complete and needs none"):
        load_checkpoint(tmp_path / "x.safetensors", config=tmp_path / "config.json")


def written(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**settings, **changes}))


@pytest.mark.parametrize(
    ("layout", "changes", "match"),
    [
        ("philsyn", {"diffusion_config": {"T": 20.0, "beta_0": 1e-4, "beta_T": 0.02}}, "T: expected an integer"),
        ("philsyn", {"diffusion_config": {"T": 10**9, "beta_0": 1e-4, "beta_T": 0.02}}, "T: expected an integer"),
        ("philsyn", {"diffusion_config": {"T": 20, "beta_0": 0, "beta_T": 0.02}}, "beta_0: expected a beta"),
        ("philsyn", {"diffusion_config": {"T": 20, "beta_0": 1e-4, "beta_T": 2.0}}, "beta_T: expected a beta"),
        ("philsyn", {"diffusion_config": [20, 1e-4, 0.02]}, "beta_0, beta_T, T missing"),
        ("philsyn", {"noise_schedule": [0.1, 0.2]}, "expected 20 betas as the configuration says, got 2"),
        ("philsyn", {"wavenet_config": {"res_channels": 64}}, "residual_channels: the configuration says 64"),
        ("philsyn", {"trainset_config": {"hop_length": 300}}, "hop_samples: the configuration says 300"),
        ("philsyn", {"clamp": True}, "clamp: family philsyn says False, config.json says True"),
        ("speechbrain", {"total_steps": 200}, "beta_start, beta_end missing"),
        ("speechbrain", {"beta_end": "0.05"}, "beta_end: expected a beta"),
        ("speechbrain", {"train_timesteps": 49}, "train_timesteps: config.json says 50, config.json says 49"),
        ("speechbrain", {"padding": "zeros"}, "padding: family speechbrain says 'reflect'"),
        ("amphion", {"model": {"diffwave": {"noise_schedule_factors": [1e-4, 0.05]}}}, "expected first beta, last"),
        ("amphion", {"family": "priorgrad"}, "config.json says 'priorgrad', the rest of the checkpoint says amphion"),
        ("lmnt", {"use_prior": True, "family": "lmnt"}, "the rest of the checkpoint says priorgrad"),
        ("priorgrad", {"family": "lmnt"}, "the rest of the checkpoint says priorgrad"),
        ("priorgrad", {"condition_prior": True}, "condition_prior: the checkpoint says False, config.json says True"),
        ("bddm", {"sampling_rate": 8000}, "sampling_rate: the checkpoint says 24000"),
    ],
)
def test_settings_that_cannot_be_right(tmp_path: Path, layout: str, changes: dict[str, Any], match: str) -> None:
    path = random_checkpoint(tmp_path, layout).path
    written(tmp_path, **changes)
    refused(path, match)


def test_settings_that_say_more(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path, "speechbrain").path
    written(
        tmp_path,
        total_steps=200,
        beta_start=1e-4,
        beta_end=0.02,
        sample_rate=16000,
        spec_hop_length=24,
        fast_sampling_noise_schedule=[0.1, 0.2],
    )
    assert load_checkpoint(path).config == layout_config(
        "speechbrain", train_schedule=linear_schedule(1e-4, 0.02, 200), sample_rate=16000, fast_schedule=(0.1, 0.2)
    )
    path = random_checkpoint(tmp_path, "philsyn").path
    written(tmp_path, trainset_config={"sampling_rate": 48000, "hop_length": 24}, mel_kind="hifigan")
    assert load_checkpoint(path).config == layout_config("philsyn", sample_rate=48000, mel_kind="hifigan")


def test_priorgrads_code_without_its_prior(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path, "priorgrad").path
    content = torch.load(path, weights_only=True)
    content["params"]["use_prior"] = False
    torch.save(content, path)
    assert load_checkpoint(path).config == layout_config("priorgrad", prior=False)


def test_lmnts_layout_can_be_declared_another_familys(tmp_path: Path) -> None:
    made = random_checkpoint(tmp_path, "lmnt")
    written(tmp_path, family="priorgrad")
    config = load_checkpoint(made.path).config
    assert config == replace(made.config, family="priorgrad", mel_kind="hifigan", prior=True)
    written(tmp_path, family="amphion")
    assert load_checkpoint(made.path).config == replace(made.config, family="amphion", mel_kind="hifigan")


def test_only_families_of_the_same_layout_can_be_declared(tmp_path: Path) -> None:
    for layout, other in (("lmnt", "speechbrain"), ("speechbrain", "lmnt"), ("philsyn", "amphion"), ("bddm", "x")):
        path = random_checkpoint(tmp_path, layout).path
        (tmp_path / "config.json").unlink(missing_ok=True)
        written(tmp_path, family=other)
        refused(path, f"family: config.json says '{other}'")


def test_the_folder_may_hold_other_networks_files(tmp_path: Path) -> None:
    """A complete PyTorch checkpoint beside another's config.json: they contradict, and both are named."""
    random_checkpoint(tmp_path, "speechbrain")
    made = random_checkpoint(tmp_path, "lmnt", dilation_cycle=3)
    refused(made.path, "dilation_cycle_length: the checkpoint says 3, config.json says 2")
    shutil.copy(made.path, tmp_path / "alone.pt")
    (tmp_path / "config.json").unlink()
    same(load_checkpoint(tmp_path / "alone.pt"), made.config, made.tensors)


def test_an_sc09_checkpoint_of_philsyns(tmp_path: Path) -> None:
    """At the paper's hyper-parameters but for the channels; 16 kHz is that code's own for networks without a mel."""
    sizes = {name: getattr(SC09, name) for name in ("residual_layers", "dilation_cycle", "train_schedule")}
    made = random_checkpoint(tmp_path, "philsyn_unconditional", seed=2, **sizes)
    loaded = load_checkpoint(made.path)
    same(loaded, made.config, made.tensors)
    ways = {"family": "philsyn", "step_embedding": "sinusoid", "step_bias_in_residual": True, "clamp": False}
    assert loaded.config == replace(SC09, residual_channels=16, **ways)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["trainset_config"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load_checkpoint(made.path).config == replace(loaded.config, clip_samples=0)


def test_what_a_vocoder_was_trained_on_is_no_length_of_clips(tmp_path: Path) -> None:
    made = random_checkpoint(tmp_path, "philsyn_parametrized")
    assert json.loads((tmp_path / "config.json").read_text())["trainset_config"]["segment_length"] == 16000
    assert load_checkpoint(made.path).config.clip_samples == 0
