"""Checkpoints in every published layout: configuration, conversion, contradicting settings."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from engine.checkpoint.families import FAMILIES
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.config import FAMILIES as FAMILY_NAMES
from engine.config import MEL_KINDS, SC09, Config, linear_schedule
from engine.errors import InputError
from tests.support.checkpoints import assert_network, assert_refused
from tests.support.layouts import LAYOUTS, RandomCheckpoint, layout_config, random_checkpoint
from tests.support.networks import EXAMPLES, shared_file

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=LAYOUTS)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RandomCheckpoint:
    """Write a random checkpoint in one of the layouts."""
    return random_checkpoint(tmp_path_factory.mktemp(request.param), request.param, seed=1)


def test_families_agree_with_the_configuration() -> None:
    assert sorted(row.name for row in FAMILIES) == sorted(FAMILY_NAMES)
    assert {row.default_mel_kind for row in FAMILIES} == set(MEL_KINDS)
    for row in FAMILIES:
        assert set(row.fixed) <= set(Config.__dataclass_fields__)


def test_every_layout_loads(original: RandomCheckpoint) -> None:
    assert_network(load_checkpoint(original.path), original.config, original.tensors)


def test_conversion_is_lossless_and_needs_no_config_json(original: RandomCheckpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.safetensors", load_checkpoint(original.path))
    assert os.listdir(tmp_path) == ["x.safetensors"]
    assert_network(load_checkpoint(tmp_path / "x.safetensors"), original.config, original.tensors)
    (tmp_path / "config.json").write_text("rubbish")
    assert_network(load_checkpoint(tmp_path / "x.safetensors"), original.config, original.tensors)


def test_safetensors_of_any_family_load_with_their_config_json(original: RandomCheckpoint, tmp_path: Path) -> None:
    """Amphion writes safetensors with newer versions of accelerate."""
    content = torch.load(original.path, weights_only=False)
    containers = [key for key in ("model", "model_state_dict", "state_dict") if key in content]
    model = content[containers[0]] if containers else content
    save_file({key: tensor.numpy() for key, tensor in model.items()}, tmp_path / "model.safetensors")
    config_json = original.path.with_name("config.json")
    if config_json.is_file():
        settings = json.loads(config_json.read_text())
    else:
        settings = {k: v for k, v in dict(content.get("params") or vars(content["config"])).items() if v is not None}
        settings["family"] = original.config.family
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    loaded = load_checkpoint(tmp_path / "model.safetensors", config=tmp_path / "settings.json")
    assert_network(loaded, original.config, original.tensors)


@pytest.mark.parametrize("name", EXAMPLES)
def test_conversion_of_a_shared_example_is_lossless(tmp_path: Path, name: str) -> None:
    original = load_checkpoint(shared_file(name))
    save_checkpoint(tmp_path / "x.safetensors", original)
    assert_network(load_checkpoint(tmp_path / "x.safetensors"), original.config, original.tensors)


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        ("philsyn", "dilation_cycle, beta_0, beta_T, T missing"),
        ("philsyn_unconditional", "dilation_cycle, beta_0, beta_T, T missing"),
        ("speechbrain", "dilation_cycle_length, beta_start, beta_end, total_steps missing"),
        ("amphion", "dilation_cycle_length, noise_schedule missing"),
    ],
)
def test_missing_settings_have_the_names_of_the_family(tmp_path: Path, layout: str, match: str) -> None:
    path = random_checkpoint(tmp_path, layout).path
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert_refused(path, f": {match}: put them into config.json beside the file")
    assert_refused(path, "other: expected a configuration, got no such file", config=tmp_path / "other")
    assert load_checkpoint(path, config=tmp_path / "other.json").config == layout_config(layout)
    (tmp_path / "config.json").write_text("rubbish")
    assert load_checkpoint(path, config=tmp_path / "other.json").config == layout_config(layout)
    assert_refused(path, "config.json: config: expected JSON")


def test_complete_file_takes_no_other_configuration(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path, "speechbrain").path
    save_checkpoint(tmp_path / "x.safetensors", load_checkpoint(path))
    with pytest.raises(InputError, match=r"config: expected None, because .* is complete, got"):
        load_checkpoint(tmp_path / "x.safetensors", config=tmp_path / "config.json")


def change_settings(folder: Path, **changes: Any) -> None:
    """Change settings in the config.json of a folder, or write one."""
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
        ("philsyn", {"noise_schedule": [0.1, 0.2]}, "expected 20 betas as in the configuration, got 2"),
        ("philsyn", {"wavenet_config": {"res_channels": 64}}, "residual_channels: expected 16 as in .*, got 64"),
        ("philsyn", {"trainset_config": {"hop_length": 300}}, "hop_samples: expected 24 as in .*, got 300"),
        ("philsyn", {"clamp": True}, "clamp: expected False as in family philsyn, got True in config.json"),
        ("speechbrain", {"total_steps": 200}, "beta_start, beta_end missing"),
        ("speechbrain", {"beta_end": "0.05"}, "beta_end: expected a beta"),
        ("speechbrain", {"train_timesteps": 49}, "train_timesteps: expected 50 as in config.json, got 49 in"),
        ("speechbrain", {"padding": "zeros"}, "padding: expected 'reflect' as in family speechbrain"),
        ("amphion", {"model": {"diffwave": {"noise_schedule_factors": [1e-4, 0.05]}}}, "expected first beta, last"),
        ("amphion", {"family": "priorgrad"}, "family: expected amphion as in .*, got 'priorgrad' in config.json"),
        ("lmnt", {"use_prior": True, "family": "lmnt"}, "family: expected priorgrad as in the rest of the checkpoint"),
        ("priorgrad", {"family": "lmnt"}, "family: expected priorgrad as in the rest of the checkpoint"),
        ("priorgrad", {"condition_prior": True}, "condition_prior: expected False as in the checkpoint, got True"),
        ("bddm", {"sampling_rate": 8000}, "sampling_rate: expected 24000 as in the checkpoint"),
    ],
)
def test_contradicting_settings_are_refused(tmp_path: Path, layout: str, changes: dict[str, Any], match: str) -> None:
    path = random_checkpoint(tmp_path, layout).path
    change_settings(tmp_path, **changes)
    assert_refused(path, match)


def test_config_json_completes_the_settings(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path, "speechbrain").path
    change_settings(
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
    change_settings(tmp_path, trainset_config={"sampling_rate": 48000, "hop_length": 24}, mel_kind="hifigan")
    assert load_checkpoint(path).config == layout_config("philsyn", sample_rate=48000, mel_kind="hifigan")


def test_priorgrad_checkpoint_without_a_prior(tmp_path: Path) -> None:
    path = random_checkpoint(tmp_path, "priorgrad").path
    content = torch.load(path, weights_only=True)
    content["params"]["use_prior"] = False
    torch.save(content, path)
    assert load_checkpoint(path).config == layout_config("priorgrad", prior=False)


def test_config_json_may_name_a_family_of_lmnts_layout(tmp_path: Path) -> None:
    original = random_checkpoint(tmp_path, "lmnt")
    change_settings(tmp_path, family="priorgrad")
    config = load_checkpoint(original.path).config
    assert config == replace(original.config, family="priorgrad", mel_kind="hifigan", prior=True)
    change_settings(tmp_path, family="amphion")
    assert load_checkpoint(original.path).config == replace(original.config, family="amphion", mel_kind="hifigan")


def test_config_json_may_not_name_a_family_of_another_layout(tmp_path: Path) -> None:
    for layout, other in (("lmnt", "speechbrain"), ("speechbrain", "lmnt"), ("philsyn", "amphion"), ("bddm", "x")):
        path = random_checkpoint(tmp_path, layout).path
        (tmp_path / "config.json").unlink(missing_ok=True)
        change_settings(tmp_path, family=other)
        assert_refused(path, f"family: expected .*, got '{other}' in config.json")


def test_config_json_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    """The message of a complete PyTorch checkpoint beside another network's config.json names both."""
    random_checkpoint(tmp_path, "speechbrain")
    original = random_checkpoint(tmp_path, "lmnt", dilation_cycle=3)
    assert_refused(original.path, "dilation_cycle_length: expected 3 as in the checkpoint, got 2 in config.json")
    shutil.copy(original.path, tmp_path / "alone.pt")
    (tmp_path / "config.json").unlink()
    assert_network(load_checkpoint(tmp_path / "alone.pt"), original.config, original.tensors)


def test_philsyn_checkpoint_of_sc09(tmp_path: Path) -> None:
    """Philsyn's default is 16 kHz for networks without a mel; only the channels differ from the paper."""
    sizes = {name: getattr(SC09, name) for name in ("residual_layers", "dilation_cycle", "train_schedule")}
    original = random_checkpoint(tmp_path, "philsyn_unconditional", seed=2, **sizes)
    loaded = load_checkpoint(original.path)
    assert_network(loaded, original.config, original.tensors)
    deviations = {"family": "philsyn", "step_embedding": "sinusoid", "step_bias_in_residual": True, "clamp": False}
    assert loaded.config == replace(SC09, residual_channels=16, **deviations)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["trainset_config"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load_checkpoint(original.path).config == replace(loaded.config, clip_samples=0)


def test_length_of_a_vocoders_training_clips_is_ignored(tmp_path: Path) -> None:
    original = random_checkpoint(tmp_path, "philsyn_parametrized")
    assert json.loads((tmp_path / "config.json").read_text())["trainset_config"]["segment_length"] == 16000
    assert load_checkpoint(original.path).config.clip_samples == 0
