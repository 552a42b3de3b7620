"""`python -m engine.compat.philsyn` against outputs of the original code, in the folders of the original."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.compat.philsyn import generate
from engine.compat.philsyn.__main__ import main
from engine.errors import CheckpointError, InputError
from tests.support.layouts import random_checkpoint
from tests.support.paths import SHARED
from tests.support.tolerances import TOLERANCES

torch = pytest.importorskip("torch")
PLACES = {
    "tensorboard_directory": "logs/tensorboard",
    "mel_path": "./mel_spectrogram",
    "output_directory": "speeches",
    "ckpt_path": "logs/checkpoint",
}


def write(folder: Path, source: Path, number: int = 12_000, **trainset: Any) -> dict[str, Any]:
    """Put a checkpoint and its configuration where the original code has them."""
    settings = json.loads(source.with_name("config.json").read_text())
    trainset = {"sampling_rate": 22050, "hop_length": 256, "segment_length": 16000, **trainset}
    settings["trainset_config"] = {**settings.get("trainset_config", {}), **trainset}
    settings["gen_config"] = PLACES
    (folder / "config.json").write_text(json.dumps(settings))
    diffusion, network = settings["diffusion_config"], settings["wavenet_config"]
    name = f"ch{network['res_channels']}_T{diffusion['T']}_betaT{diffusion['beta_T']}"
    checkpoints = folder / "exp" / name / "logs" / "checkpoint"
    checkpoints.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, checkpoints / f"{number}.pkl")
    return {"exp": Path("exp", name), "prefix": f"{network['res_channels']}_{diffusion['T']}"}


@pytest.fixture
def vocoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write a small vocoder and a mel, and go to their folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    names = write(tmp_path, random_checkpoint(tmp_path / "source", "philsyn").path, hop_length=24)
    (tmp_path / "mel_spectrogram").mkdir()
    mel = torch.full((4, 3), -5.0)
    torch.save(mel, "mel_spectrogram/LJ001-0001.wav.pt")
    return {**names, "mel": mel.numpy()}


@pytest.mark.parametrize("example", ["philsyn_vocoder", "philsyn_unconditional"])
def test_outputs_of_the_original(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SHARED / "fixtures" / example / "1000.pkl"
    if not source.is_file():
        pytest.skip(f"no shared examples beside the project ({example})")
    monkeypatch.chdir(tmp_path)
    with np.load(source.with_name("case.npz")) as file:
        case = dict(file)
    names = write(tmp_path, source, segment_length=case["x0"].shape[1])
    condition = None
    if "mel" in case:
        condition = "LJ001-0001"
        Path("mel_spectrogram").mkdir()
        torch.save(torch.from_numpy(case["mel"][0]), f"mel_spectrogram/{condition}.wav.pt")
        with pytest.warns(UserWarning, match="which look like an 'lmnt' mel"):
            files = generate("config.json", condition, noise=(case["x0"], case["z"]))
    else:
        files = generate("config.json", num_samples=1, noise=(case["x0"], case["z"]))
    assert files == [names["exp"] / "speeches" / f"{names['prefix']}_12k_{condition or 0}.wav"]
    audio, rate = engine.audio.read_audio(files[0])
    assert rate == 22050
    # The file has 16 bits, and no samples beyond [-1, 1].
    limit = TOLERANCES["compat_audio_fp32"] * float(np.abs(case["audio"]).max()) + 2.0**-15
    assert float(np.abs(audio - np.clip(case["audio"][0], -1.0, 1.0)).max()) < limit


def test_command(vocoder: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-c", "config.json", "-cond", "LJ001-0001", "--seed", "3", "--device", "cpu", "--threads", "1"]
    assert main(command) == 0
    file = vocoder["exp"] / "speeches" / f"{vocoder['prefix']}_12k_LJ001-0001.wav"
    assert capsys.readouterr().out == f"wrote {file}\n"
    first = file.read_bytes()
    voice = engine.load("source", precision="fp32", threads=1)
    expected = voice.vocode(vocoder["mel"], steps="full", seed=3)
    np.testing.assert_allclose(engine.audio.read_audio(file)[0], np.clip(expected, -1, 1), atol=2.0**-15)
    assert main([*command, "-ckpt_iter", "12000"]) == 0 and file.read_bytes() == first
    assert main([*command[:4], "--steps", "20"]) == 0 and file.read_bytes() != first  # another noise


def test_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    path = random_checkpoint(tmp_path / "source", "philsyn_unconditional", clip_samples=300).path
    names = write(tmp_path, path, number=900, segment_length=300, sampling_rate=16000)
    assert main(["-n", "2"]) == 0
    files = [names["exp"] / "speeches" / f"{names['prefix']}_0k_{i}.wav" for i in range(2)]
    assert capsys.readouterr().out == "".join(f"wrote {file}\n" for file in files)
    first, second = (engine.audio.read_audio(file) for file in files)
    assert first[1] == 16000 and first[0].shape == (300,) and (first[0] != second[0]).any()
    with pytest.raises(InputError, match="condition_name: expected None for this unconditional network, got 'a'"):
        generate(condition_name="a")


def test_last_checkpoint(vocoder: dict[str, Any]) -> None:
    folder = vocoder["exp"] / "logs" / "checkpoint"
    for name in ("9000.pkl", "13000.pkl.tmp", "best.pkl"):
        (folder / name).write_bytes(b"x")
    (file,) = generate(condition_name="LJ001-0001")
    assert file.name.endswith("_12k_LJ001-0001.wav")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "absent.json"], "absent.json: cannot read it: No such file"),
        (["-cond", "absent"], "absent.wav.pt"),
        ([], "condition_name: expected the name of a mel for this vocoder, got None"),
        (["-cond", "LJ001-0001", "-ckpt_iter", "5"], "expected 5.pkl, got 12000"),
        (["-cond", "LJ001-0001", "--steps", "7"], "steps: expected"),
    ],
)
def test_errors(
    vocoder: dict[str, Any], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (vocoder["exp"] / "speeches").exists()


def test_incomplete_configuration(vocoder: dict[str, Any]) -> None:
    Path("config.json").write_text('{"wavenet_config": {"res_channels": 16}}')
    with pytest.raises(CheckpointError, match=r"config\.json: expected diffusion_config\.T, got none"):
        generate()


def test_two_sources_of_noise_are_refused(vocoder: dict[str, Any]) -> None:
    noise = np.zeros((1, 72), np.float32), np.zeros((49, 1, 72), np.float32)
    with pytest.raises(InputError, match=r"^noise: expected None beside seed, got both; pass one of noise, seed$"):
        generate("config.json", "LJ001-0001", seed=3, noise=noise)
