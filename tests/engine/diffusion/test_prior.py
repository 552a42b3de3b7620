"""PriorGrad's prior: the formula, refusals, the command line, and agreement with the published code."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import engine
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.cli.main import main
from engine.diffusion.prior import energy_std
from engine.errors import CheckpointError, InputError
from tests.support.layouts import random_checkpoint
from tests.support.networks import SHARED
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

MELS = -8.0 + np.random.default_rng(0).random((2, 4, 3), dtype=np.float32) * 9


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("priorgrad"), "priorgrad").path


@pytest.fixture(scope="module")
def voice(path):
    return engine.load(path, precision="fp32", threads=1)


def test_checkpoint_may_record_energy_min(path, voice, tmp_path):
    checkpoint = load_checkpoint(path)
    recorded = replace(checkpoint, config=replace(checkpoint.config, energy_min=0.5))
    save_checkpoint(tmp_path / "recorded.safetensors", recorded)
    recorded_voice = engine.load(tmp_path / "recorded.safetensors", precision="fp32", threads=1)
    expected = voice.vocode(MELS, energy_min=0.5)
    assert (recorded_voice.vocode(MELS) == expected).all()
    assert (np.concatenate(list(recorded_voice.stream(MELS[0]))) == expected[0]).all()
    assert (recorded_voice.vocode(MELS, energy_min=0.1) == voice.vocode(MELS, energy_min=0.1)).all()


def test_energy_std_agrees_with_the_formula():
    mel, low = MELS[0], 0.5
    for frame, values in enumerate(mel.T):
        energy = math.sqrt(sum(math.exp(v) for v in values))
        expected = max((min(energy, 4.0) - low) / (4.0 - low), 0.1)
        np.testing.assert_allclose(energy_std(mel, low)[frame], expected, rtol=1e-6)
    assert energy_std(np.full((4, 1), 5.0, np.float32), low)[0] == 1.0
    assert energy_std(np.full((4, 1), -11.0, np.float32), low)[0] == np.float32(0.1)


def test_energy_min_equals_its_std(voice):
    std = np.stack([np.repeat(energy_std(mel, 0.5), voice.hop) for mel in MELS])
    expected = voice.vocode(MELS, std=std)
    assert (voice.vocode(MELS, energy_min=0.5) == expected).all()
    assert (voice.vocode(MELS[1], seed=1, std=std[1]) == expected[1]).all()
    assert (voice.vocode(list(MELS), std=list(std))[1] == expected[1]).all()
    assert relative_error(voice.vocode(MELS, std=np.ones_like(std)), expected) > 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "std: a PriorGrad network needs .* got neither"),
        ({"std": np.ones((2, 72), np.float32), "energy_min": 0.1}, "got both"),
        ({"energy_min": 4.0}, "energy_min: expected a number from 0 to below 4, got 4.0"),
        ({"energy_min": -1}, "energy_min: expected a number"),
        ({"energy_min": float("nan")}, "energy_min: expected a number"),
        ({"energy_min": "low"}, "energy_min: expected a number"),
        ({"std": np.ones((2, 71), np.float32)}, r"std: expected one value per sample, \[72, 72\], got \[71, 71\]"),
        ({"std": np.ones(72, np.float32)}, r"std: expected one value per sample, \[72, 72\], got \[72\]"),
        ({"std": np.full((2, 72), np.nan, np.float32)}, "std: expected finite values >= 0"),
        ({"std": np.full((2, 72), -1, np.float32)}, "std: expected finite values >= 0"),
        ({"std": np.ones((2, 72), np.int64)}, "std: expected float32 or float64, got int64"),
        ({"std": np.float32(1)}, "std: expected"),
    ],
)
def test_impossible_priors_are_refused(voice, arguments, message):
    with pytest.raises(InputError, match=message):
        voice.vocode(MELS, **arguments)


@pytest.mark.parametrize("name", ["std_min", "max_energy_override"])
def test_other_constants_in_params_are_refused(tmp_path, name):
    torch = pytest.importorskip("torch")
    path = random_checkpoint(tmp_path, "priorgrad").path
    content = torch.load(path, weights_only=True)
    content["params"][name] = 0.25
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"{name}: expected PriorGrad's usual .*, got 0.25"):
        engine.load(path)


def test_network_without_a_prior_takes_no_std(tmp_path):
    lmnt = engine.load(random_checkpoint(tmp_path, "lmnt").path, threads=1)
    mel = np.full((4, 3), 0.5, np.float32)
    for arguments in ({"energy_min": 0.1}, {"std": np.ones(72, np.float32)}):
        with pytest.raises(InputError, match="only a PriorGrad network takes one; expected None, got"):
            lmnt.vocode(mel, **arguments)


def test_command_line(path, tmp_path, capsys):
    np.save(tmp_path / "mel.npy", MELS[0])
    command = ["vocode", str(tmp_path / "mel.npy"), "-o", str(tmp_path / "out.wav"), "--model", str(path)]
    assert main(command) == 2
    assert "--energy-min: expected the smallest frame energy" in capsys.readouterr().err
    assert main([*command, "--energy-min", "0.5"]) == 0
    assert (tmp_path / "out.wav").stat().st_size == 44 + 2 * 72


@pytest.mark.parametrize(("isa", "precision"), targets("fp32"))
def test_audio_agrees_with_the_published_code(isa, precision):
    folder = SHARED / "fixtures" / "priorgrad"
    if not folder.is_dir():
        pytest.skip("no shared examples beside the project (priorgrad)")
    pytest.importorskip("torch")
    voice = engine.load(next(folder.glob("*.pt")), isa=isa, precision=precision)
    voice.config = replace(voice.config, mel_kind=None)  # the example's mel is random in [0, 1]
    with np.load(folder / "case.npz") as case:
        options = {"schedule": case["schedule"], "noise": (case["x0"], case["z"])}
        audio = voice.vocode(case["mel"], std=case["std"], **options)
        assert relative_error(audio, case["audio"]) < TOLERANCES["fixture_audio_fp32"]
        plain = voice.vocode(case["mel"], std=np.ones_like(case["std"]), **options)
        assert relative_error(plain, case["audio"]) > 0.1
