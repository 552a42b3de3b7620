"""`engine mel`, and `engine vocode` of recordings."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.cli.parsing import UNAVAILABLE
from tests.support.commands import SMALL, Run, error_of, save_network, unconditional_config

KINDS = {
    "lmnt": SMALL,
    "tacotron": replace(SMALL, mel_kind="tacotron"),
    "hifigan": replace(SMALL, mel_kind="hifigan"),
    "speechbrain": replace(SMALL, mel_kind="speechbrain"),
    "amphion": replace(SMALL, mel_kind="hifigan", sample_rate=24000, n_mels=100),
}


def test_vocode_computes_the_same_mel(workspace: Path, run: Run) -> None:
    status, out, err = run("mel", "in.wav", "-o", "mel2.npy")
    report = "wrote mel2.npy\n80 bands, 16 frames of kind lmnt at 22050 Hz; as the bundled voice expects\n"
    assert (status, out, err) == (0, report, "")
    np.testing.assert_array_equal(np.load("mel2.npy"), engine.mel(*read_wav("in.wav")))
    for source, target in (("in.wav", "a.wav"), ("mel2.npy", "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "small.safetensors")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_the_checkpoint_determines_the_mel(workspace: Path, run: Run, name: str) -> None:
    config = KINDS[name]
    save_network(Path("voice.safetensors"), config)
    write_wav("in.wav", np.sin(np.arange(6000) / 9) * 0.3, config.sample_rate)
    status, out, err = run("mel", "in.wav", "-o", "mel2.npy", "--model", "voice.safetensors")
    sizes = {"n_mels": 100, "fmax": 12000} if name == "amphion" else {}
    expected = engine.mel(*read_wav("in.wav"), config.mel_kind, **sizes)
    assert (status, err) == (0, "")
    assert out == (
        f"wrote mel2.npy\n{config.n_mels} bands, {expected.shape[1]} frames of kind {config.mel_kind} at "
        f"{config.sample_rate} Hz; as voice.safetensors expects\n"
    )
    np.testing.assert_array_equal(np.load("mel2.npy"), expected)
    for source, target in (("in.wav", "a.wav"), ("mel2.npy", "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "voice.safetensors")[::2] == (0, "")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_kind_overrides_the_checkpoint(workspace: Path, run: Run) -> None:
    mels = {}
    for kind in ("lmnt", "tacotron", "hifigan", "speechbrain"):
        status, out, err = run("mel", "in.wav", "-o", "mel2.npy", "--kind", kind)
        mels[kind] = np.load("mel2.npy")
        np.testing.assert_array_equal(mels[kind], engine.mel(*read_wav("in.wav"), kind))
        origin = "as the bundled voice expects" if kind == "lmnt" else "the bundled voice expects lmnt"
        assert (status, err) == (0, "") and out.endswith(f" frames of kind {kind} at 22050 Hz; {origin}\n")
    assert mels["hifigan"].shape == (80, 15) and mels["tacotron"].shape == (80, 16)


def test_a_checkpoint_without_a_recorded_kind(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **options: Any) -> Checkpoint:
        checkpoint = load_checkpoint(*arguments, **options)
        return replace(checkpoint, config=replace(checkpoint.config, mel_kind=None))

    for name in ("engine.voice.loading.load_checkpoint", "engine.cli.analysis.load_checkpoint"):
        monkeypatch.setattr(name, load)
    message = "--model: expected a checkpoint that records its kind of mel, got one without; pass "
    arguments = ["mel", "in.wav", "-o", "mel2.npy", "--model", "small.safetensors"]
    assert error_of(run, *arguments) == message + "--kind"
    out = run(*arguments, "--kind", "hifigan")[1]
    assert out.endswith("15 frames of kind hifigan at 22050 Hz; small.safetensors does not record its kind\n")
    vocode = ["vocode", "in.wav", "-o", "a.wav", "--model", "small.safetensors"]
    assert error_of(run, *vocode) == message + "--mel-kind"


def test_mixing_and_resampling_are_announced(workspace: Path, run: Run) -> None:
    pytest.importorskip("soxr")
    soundfile = pytest.importorskip("soundfile")
    t = np.arange(48000) / 48000
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    notice = "engine: in.flac: mixed 2 channels into one\nengine: in.flac: resampled from 48000 to 22050 Hz\n"
    for name in ("in.flac", "song"):
        soundfile.write(name, stereo, 48000, format="FLAC")
        for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
            status, _, err = run(command, name, "-o", output, "--model", "small.safetensors")
            assert (status, err) == (0, notice.replace("in.flac", name))
    expected = engine.mel(0.25 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050), 22050)
    assert np.load("out.npy").shape == expected.shape and len(read_wav("out.wav")[0]) == expected.shape[1] * 256
    middle = slice(5, -5)  # reflection before and after resampling differs at the ends of the sine
    assert np.abs(np.load("out.npy") - expected)[:, middle].mean() < 0.01


def test_without_the_extra_audio(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("soundfile", "soxr"):
        monkeypatch.setitem(sys.modules, name, None)
    Path("in.flac").write_bytes(b"fLaC" + bytes(100))
    save_network(Path("slow.safetensors"), replace(SMALL, sample_rate=16000))
    for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
        assert run(command, "in.wav", "-o", output, "--model", "small.safetensors")[::2] == (0, "")
        Path(output).unlink()
        assert error_of(run, command, "in.flac", "-o", output, expected=UNAVAILABLE) == (
            "in.flac: reading FLAC needs soundfile: pip install soundfile (the extra 'audio')"
        )
        slow = (command, "in.wav", "-o", output, "--model", "slow.safetensors")
        assert error_of(run, *slow, expected=UNAVAILABLE) == (
            "in.wav: expected 16000 Hz, the rate of this network, got 22050 Hz; resample it, for example with "
            "'sox IN.wav -r 16000 OUT.wav' or 'ffmpeg -i IN.wav -ar 16000 OUT.wav', or install the extra 'audio' "
            "(pip install soxr)"
        )


def test_networks_whose_mel_is_not_computed(workspace: Path, run: Run) -> None:
    takes_a_mel = "--model: expected a network that takes a mel, got "
    for config, message in (
        (replace(SMALL, upsample_strides=(16, 32)), "--model: expected a hop of 256 samples, got 512"),
        (unconditional_config(), takes_a_mel),
        (replace(SMALL, sample_rate=8000, mel_kind="tacotron"), "fmax: expected at most half the sample rate, 4000 Hz"),
    ):
        write_wav("in.wav", np.zeros(5000), config.sample_rate)
        save_network(Path("a.safetensors"), config)
        for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
            assert message in error_of(run, command, "in.wav", "-o", output, "--model", "a.safetensors")


def test_errors_of_the_recording_name_the_file(workspace: Path, run: Run) -> None:
    write_wav("short.wav", np.zeros(100), 22050)
    Path("it's.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    for name, message in {
        "absent.wav": "absent.wav: cannot read it: No such file or directory",
        "mel.npy": "mel.npy: expected WAV, FLAC, Ogg, MP3 or AIFF audio, got a NumPy array; if it is a mel, "
        "'engine vocode' turns it into audio",
        "short.wav": "short.wav: expected more than 512 samples (it is padded by reflection), got 100",
        "it's.wav": "it's.wav: expected a fmt and a data chunk, got a truncated or damaged WAV file",
    }.items():
        assert error_of(run, "mel", name, "-o", "a.npy") == message
    assert "--kind: expected one of lmnt, tacotron, hifigan, speechbrain, got 'opera'" in error_of(
        run, "mel", "in.wav", "-o", "a.npy", "--kind", "opera"
    )
