"""SpeechBrain's hyperparams.yaml: values, references, and objects that are not created."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.hyperparams import MAX_FILE, read_hyperparams
from engine.checkpoint.load import load_checkpoint
from engine.errors import CheckpointError, UnavailableError
from tests.support.checkpoints import assert_network
from tests.support.layouts import random_checkpoint

pytest.importorskip("yaml", reason="PyYAML is in the extra 'hub'")

RECIPE = """
seed: 1234
__set_seed: !!python/object/apply:torch.manual_seed [!ref <seed>]
data_folder: !PLACEHOLDER
output_folder: !ref ./results/<seed>
train_timesteps: 50
beta_start: 1e-4
beta_end: 0.05
fast_sampling_noise_schedule: [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5]
spec_n_mels: 4
alias: !ref <spec_n_mels>
circle: !ref <circle>
diffwave: !new:speechbrain.lobes.models.DiffWave.DiffWave
    input_channels: !ref <alias>
    residual_layers: 3
    residual_channels: !ref <spec_n_mels> * 4
    dilation_cycle_length: 2
    total_steps: !ref <train_timesteps>
    unconditional: False
diffusion: !new:speechbrain.lobes.models.DiffWave.DiffWaveDiffusion
    model: !ref <diffwave>
    beta_start: !ref <beta_start>
    timesteps: !ref <train_timesteps>
modules:
    diffwave: !ref <diffwave>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        diffwave: !ref <diffwave>
"""


def test_values(tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text(RECIPE)
    settings = read_hyperparams(tmp_path / "h.yaml")
    fast = [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5]
    assert settings == {
        **{"seed": 1234, "train_timesteps": 50, "beta_start": 1e-4, "beta_end": 0.05, "spec_n_mels": 4, "alias": 4},
        **{"fast_sampling_noise_schedule": fast, "input_channels": 4, "residual_layers": 3, "total_steps": 50},
        **{"dilation_cycle_length": 2, "unconditional": False, "timesteps": 50},
    }


def test_settings_of_a_checkpoint(tmp_path: Path) -> None:
    fast = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
    original = random_checkpoint(tmp_path, "speechbrain", fast_schedule=fast)
    (tmp_path / "hyperparams.yaml").write_text(RECIPE)
    (tmp_path / "config.json").write_text('{"speechbrain_interface": "DiffWaveVocoder"}')
    assert_network(load_checkpoint(original.path), original.config, original.tensors)
    (tmp_path / "hyperparams.yaml").rename(tmp_path / "other.yml")
    with pytest.raises(CheckpointError, match=r"dilation_cycle_length, .* missing"):
        load_checkpoint(original.path)
    assert_network(load_checkpoint(original.path, config=tmp_path / "other.yml"), original.config, original.tensors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec_n_mels: 4\n", "dilation_cycle_length, beta_start, beta_end, total_steps missing: put them into h.yaml"),
        ("dilation_cycle_length: 2\nbeta_start: 1e-4\nbeta_end: 0.05\n", "total_steps missing: put it into h.yaml"),
    ],
)
def test_missing_settings_belong_into_the_named_file(tmp_path: Path, text: str, message: str) -> None:
    original = random_checkpoint(tmp_path, "speechbrain")
    (tmp_path / "h.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=f": {message}$"):
        load_checkpoint(original.path, config=tmp_path / "h.yaml")


def test_contradiction(tmp_path: Path) -> None:
    original = random_checkpoint(tmp_path, "speechbrain")
    (tmp_path / "config.json").write_text(json.dumps({"dilation_cycle_length": 3}))
    (tmp_path / "hyperparams.yaml").write_text(RECIPE)
    with pytest.raises(CheckpointError, match=r"expected 3 as in config\.json, got 2 in hyperparams\.yaml"):
        load_checkpoint(original.path)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch ran']",
        "a: !!python/object/apply:os.system ['touch ran']",
        "a: !new:os.system\n    command: touch ran",
        "a: !apply:os.system ['touch ran']",
        "a: !!python/name:os.system ''",
        "<<: !!python/object/new:os.system ['touch ran']",
    ],
)
def test_nothing_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("h.yaml").write_text(text)
    try:
        assert read_hyperparams(Path("h.yaml")) == {}
    except CheckpointError as error:
        assert str(error).startswith("h.yaml: expected")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "expected YAML, got: "),
        (b"\x00", "expected YAML, got: "),
        (b"\xff\xfe\xff", "expected YAML, got: "),
        (b"a: &a [*a]", "expected YAML, got: |^$"),
        (b"[" * 5000, "expected YAML, got: "),
        (b"? [1, 2]\n: 3", "expected YAML, got: |^$"),
        (b"3", "expected settings by name, got int"),
        (b"", "expected settings by name, got NoneType"),
        (b" " * (MAX_FILE + 1), f"expected at most {MAX_FILE} bytes"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "h.yaml"
    path.write_bytes(content)
    try:
        read_hyperparams(path)
        assert "^$" in message
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ") and message.split("|")[0] in str(error) and "\n" not in str(error)


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = random_checkpoint(tmp_path, "speechbrain")
    (tmp_path / "hyperparams.yaml").write_text(RECIPE)
    importing = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return importing(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    settings = {"dilation_cycle_length": 2, "total_steps": 50, "sample_rate": 22050}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load_checkpoint(original.path).config == original.config  # config.json suffices
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnavailableError, match=r"hyperparams\.yaml: it needs PyYAML; pip install .*\[hub\]"):
        load_checkpoint(original.path)
