from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.cli import main as cli
from engine.cli import options as terminal
from engine.voice import BUNDLED, Voice
from tests.support.commands import FRAMES, MEL, REPORT, SMALL, Run, saved, unconditional
from tests.support.paths import ROOT


def refused(run: Run, *arguments: object) -> str:
    """The one line of an error that leaves no file behind."""
    before = sorted(os.listdir())
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and sorted(os.listdir()) == before
    assert err.startswith("engine: error: ") and err.count("\n") == 1 and err.endswith("\n")
    return err[len("engine: error: ") : -1]


def test_vocode_writes_what_the_library_makes(here: Path, run: Run) -> None:
    status, out, err = run("vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors", "--seed", 3)
    assert (status, err) == (0, "")
    assert re.fullmatch(f"wrote out.wav\n{REPORT}\n", out)
    audio, rate = read_wav("out.wav")
    expected = engine.load("small.safetensors").vocode(MEL, seed=3)
    assert rate == SMALL.sample_rate and len(audio) == FRAMES * SMALL.hop
    np.testing.assert_allclose(audio, expected, atol=1.01 / 32768)  # 1 itself is not in 16 bits


def test_every_option_reaches_the_library(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Spy(Voice):
        def vocode(self, mel: Any, steps: Any = 6, seed: Any = 0, **options: Any) -> Any:
            seen.update(steps=steps, seed=seed, threads=self.threads, choice=self.choice, kind=self.config.mel_kind)
            return super().vocode(mel, steps, seed, **options)

    monkeypatch.setattr("engine.voice.Voice", Spy)
    saved(Path("unknown.safetensors"), replace(SMALL, mel_kind=None))
    arguments = ["--model", "unknown.safetensors", "--steps", "full", "--seed", str(2**64 - 1), "--precision", "fp32"]
    arguments += ["--threads", "3", "--isa", "generic", "--mel-kind", "lmnt"]
    assert run("vocode", "mel.npy", "-o", "out.wav", *arguments)[0] == 0
    choice = seen.pop("choice")
    assert seen == {"steps": "full", "seed": 2**64 - 1, "threads": 3, "kind": "lmnt"}
    assert (choice.isa, choice.precision) == ("generic", "fp32")
    assert run("vocode", "mel.npy", "-o", "out.wav", "--model", "small.safetensors", "--steps", "50")[0] == 0
    assert seen["steps"] == 50 and seen["seed"] == 0


def test_the_report_times_the_vocoding_alone(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*arguments: Any, **options: Any) -> Any:
            now[0] += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr(cli.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(terminal, "read_channels", taking(100, terminal.read_channels))
    monkeypatch.setattr(cli, "write_wav", taking(100, cli.write_wav))
    monkeypatch.setattr(engine, "load", taking(100, engine.load))
    monkeypatch.setattr(engine, "mel", taking(100, engine.mel))
    monkeypatch.setattr(Voice, "vocode", taking(0.5, Voice.vocode))
    status, out, _ = run("vocode", "in.wav", "-o", "out.wav", "--model", "small.safetensors")
    # 1 + 4000 // 256 = 16 frames of 256 samples
    assert status == 0 and out.splitlines()[-1] == "0.186 s of audio in 0.50 s: RTF 2.7, 0.37x real time"
    assert now[0] == 400.5


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_every_mel_format_gives_the_same_audio(here: Path, run: Run, name: str) -> None:
    from safetensors.numpy import save_file

    other = np.zeros(3, np.float32)
    if name == "m.npz":
        np.savez(name, mel=MEL[None], other=other)
    else:
        save_file({"mel": MEL[None], "other": other}, name)
    for source, target in (("mel.npy", "a.wav"), (name, "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "small.safetensors")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_a_recording_is_analysed_and_spoken_again(here: Path, run: Run) -> None:
    status, out, err = run("mel", "in.wav", "-o", "made.npy")
    made = "wrote made.npy\n80 bands, 16 frames of kind lmnt at 22050 Hz, as the bundled voice wants\n"
    assert (status, out, err) == (0, made, "")
    np.testing.assert_array_equal(np.load("made.npy"), engine.mel(*read_wav("in.wav")))
    for source, target in (("in.wav", "a.wav"), ("made.npy", "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "small.safetensors")[0] == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


KINDS = {
    "lmnt": SMALL,
    "tacotron": replace(SMALL, mel_kind="tacotron"),
    "hifigan": replace(SMALL, mel_kind="hifigan"),
    "speechbrain": replace(SMALL, mel_kind="speechbrain"),
    "amphion": replace(SMALL, mel_kind="hifigan", sample_rate=24000, n_mels=100),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_recording_becomes_what_the_checkpoint_wants(here: Path, run: Run, name: str) -> None:
    config = KINDS[name]
    saved(Path("voice.safetensors"), config)
    write_wav("in.wav", np.sin(np.arange(6000) / 9) * 0.3, config.sample_rate)
    status, out, err = run("mel", "in.wav", "-o", "made.npy", "--model", "voice.safetensors")
    sizes = {"n_mels": 100, "fmax": 12000} if name == "amphion" else {}
    expected = engine.mel(*read_wav("in.wav"), config.mel_kind, **sizes)
    assert (status, err) == (0, "")
    assert out == (
        f"wrote made.npy\n{config.n_mels} bands, {expected.shape[1]} frames of kind {config.mel_kind} at "
        f"{config.sample_rate} Hz, as voice.safetensors wants\n"
    )
    np.testing.assert_array_equal(np.load("made.npy"), expected)
    for source, target in (("in.wav", "a.wav"), ("made.npy", "b.wav")):
        assert run("vocode", source, "-o", target, "--model", "voice.safetensors")[::2] == (0, "")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_the_kind_can_be_overridden(here: Path, run: Run) -> None:
    made = {}
    for kind in ("lmnt", "tacotron", "hifigan", "speechbrain"):
        status, out, err = run("mel", "in.wav", "-o", "made.npy", "--kind", kind)
        made[kind] = np.load("made.npy")
        np.testing.assert_array_equal(made[kind], engine.mel(*read_wav("in.wav"), kind))
        says = ", as the bundled voice wants" if kind == "lmnt" else "; the bundled voice wants lmnt"
        assert (status, err) == (0, "") and out.endswith(f" frames of kind {kind} at 22050 Hz{says}\n")
    assert made["hifigan"].shape == (80, 15) and made["tacotron"].shape == (80, 16)


def test_a_checkpoint_that_does_not_say_its_kind(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **options: Any) -> Checkpoint:
        checkpoint = load_checkpoint(*arguments, **options)
        return replace(checkpoint, config=replace(checkpoint.config, mel_kind=None))

    for name in ("engine.voice.load_checkpoint", "engine.cli.main.load_checkpoint"):
        monkeypatch.setattr(name, load)
    said = "in.wav: the checkpoint does not say which kind of mel it wants; pass "
    arguments = ["mel", "in.wav", "-o", "made.npy", "--model", "small.safetensors"]
    assert refused(run, *arguments) == said + "--kind"
    out = run(*arguments, "--kind", "hifigan")[1]
    assert out.endswith("15 frames of kind hifigan at 22050 Hz; small.safetensors does not say\n")
    assert refused(run, "vocode", "in.wav", "-o", "a.wav", "--model", "small.safetensors") == said + "--mel-kind"


def test_other_rates_and_several_channels_are_announced(here: Path, run: Run) -> None:
    pytest.importorskip("soxr")
    soundfile = pytest.importorskip("soundfile")
    t = np.arange(48000) / 48000
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    notice = "engine: in.flac: 2 channels were mixed into one\nengine: in.flac: resampled from 48000 to 22050 Hz\n"
    for name in ("in.flac", "song"):
        soundfile.write(name, stereo, 48000, format="FLAC")
        for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
            status, _, err = run(command, name, "-o", output, "--model", "small.safetensors")
            assert (status, err) == (0, notice.replace("in.flac", name))
    expected = engine.mel(0.25 * np.sin(2 * np.pi * 440 * np.arange(22050) / 22050), 22050)
    assert np.load("out.npy").shape == expected.shape and len(read_wav("out.wav")[0]) == expected.shape[1] * 256
    middle = slice(5, -5)  # the sine's ends differ: reflected before or after resampling
    assert np.abs(np.load("out.npy") - expected)[:, middle].mean() < 0.01


def test_without_the_extra(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("soundfile", "soxr"):
        monkeypatch.setitem(sys.modules, name, None)
    Path("in.flac").write_bytes(b"fLaC" + bytes(100))
    saved(Path("slow.safetensors"), replace(SMALL, sample_rate=16000))
    for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
        assert run(command, "in.wav", "-o", output, "--model", "small.safetensors")[::2] == (0, "")
        Path(output).unlink()
        assert refused(run, command, "in.flac", "-o", output) == (
            "'in.flac': reading FLAC needs soundfile: pip install soundfile (the extra 'audio')"
        )
        assert refused(run, command, "in.wav", "-o", output, "--model", "slow.safetensors") == (
            "in.wav: this network wants 16000 Hz and the recording has 22050 Hz; resample it, for example with "
            "'sox IN.wav -r 16000 OUT.wav' or 'ffmpeg -i IN.wav -ar 16000 OUT.wav', or install the extra 'audio' "
            "(pip install soxr)"
        )


def test_recordings_that_a_voice_cannot_take(here: Path, run: Run) -> None:
    for config, message in (
        (replace(SMALL, upsample_strides=(16, 32)), "a mel frame every 512 samples, a recording gives 256"),
        (unconditional(), "this network is unconditional and takes no mel"),
        (replace(SMALL, sample_rate=8000, mel_kind="tacotron"), "fmax: expected at most half the sample rate, 4000 Hz"),
    ):
        write_wav("in.wav", np.zeros(5000), config.sample_rate)
        saved(Path("a.safetensors"), config)
        for command, output in (("mel", "out.npy"), ("vocode", "out.wav")):
            assert message in refused(run, command, "in.wav", "-o", output, "--model", "a.safetensors")


def test_bad_inputs(here: Path, run: Run) -> None:
    Path("damaged.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    Path("noise.bin").write_bytes(os.urandom(64).replace(b"P", b"Q"))
    np.save("transposed.npy", MEL.T)
    np.save("batch.npy", np.stack([MEL, MEL]))
    np.save("nan.npy", np.where(MEL > 0.5, np.nan, MEL))
    np.save("log.npy", MEL * -11)
    np.savez("several.npz", a=MEL, b=MEL)
    for name, message in {
        "absent.npy": "absent.npy: cannot read it: No such file or directory",
        "absent.wav": "absent.wav: cannot read it: No such file or directory",
        "damaged.wav": "damaged.wav.*truncated or damaged WAV file",
        "noise.bin": "noise.bin: expected a mel .* or a WAV file",
        "transposed.npy": r"got \(12, 80\), which looks transposed",
        "batch.npy": r"batch.npy: expected one mel .*, got shape \(2, 80, 12\)",
        "nan.npy": "expected finite values, got nan",
        "log.npy": "wants 'lmnt' mels in .* which look like a log mel",
        "several.npz": "several.npz: expected one array, or one called 'mel', got 2: 'a', 'b'",
        "small.safetensors": "expected one array, or one called 'mel', got 3",
    }.items():
        assert re.search(message, refused(run, "vocode", name, "-o", "out.wav", "--model", "small.safetensors")), name
    assert "got: No such file" in refused(run, "vocode", "mel.npy", "-o", "out.wav", "--model", "absent.pt")
    assert "first b'" in refused(run, "vocode", "mel.npy", "-o", "out.wav", "--model", "in.wav")
    assert refused(run, "mel", "absent.wav", "-o", "a.npy") == "cannot read 'absent.wav': No such file or directory"
    assert "starts with b'\\x93NUM'" in refused(run, "mel", "mel.npy", "-o", "a.npy")
    assert "invalid choice: 'opera'" in refused(run, "mel", "in.wav", "-o", "a.npy", "--kind", "opera")
    assert "takes none; generate" in refused(
        run, "vocode", "mel.npy", "-o", "a.wav", "--model", saved(here.parent / "plain.safetensors", unconditional())
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND; see 'engine --help'"),
        ("sing", "invalid choice: 'sing'"),
        ("vocode mel.npy", "the following arguments are required: -o/--output; see 'engine vocode --help'"),
        ("vocode mel.npy -o a.wav --steps many", "argument --steps: expected a number of steps, or full, got 'many'"),
        ("vocode mel.npy -o a.wav --steps 7", "steps: expected one of steps=6"),
        ("vocode mel.npy -o a.wav --seed -1", "seed: expected integers from 0 to 2**64 - 1, got -1"),
        ("vocode mel.npy -o a.wav --seed x", "argument --seed: invalid int value: 'x'"),
        ("vocode mel.npy -o a.wav --threads 0", "threads: expected"),
        ("vocode mel.npy -o a.wav --isa sse9", "isa: expected one of 'generic'"),
        ("vocode mel.npy -o a.wav --isa generic --precision bf16", "precision: 'bf16' needs a tier that has it"),
        ("vocode mel.npy -o a.wav --precision fp64", "argument --precision: invalid choice: 'fp64'"),
        ("vocode mel.npy -o a.wav --prec fp32", "unrecognized arguments: --prec"),
        ("vocode mel.npy -o a.wav --mel-kind tacotron", "was made for 'lmnt' mels, got 'tacotron'"),
        ("info --mel-kind opera", "invalid choice: 'opera'"),
        ("convert small.safetensors -o b.safetensors --dtype int8", "invalid choice: 'int8'"),
    ],
)
def test_bad_options(here: Path, run: Run, arguments: str, message: str) -> None:
    given = arguments.split()
    if given[:1] == ["vocode"]:
        given += ["--model", "small.safetensors"]
    assert message in refused(run, *given)


@pytest.mark.parametrize(
    ("command", "source", "name"),
    [("vocode", "mel.npy", "a.wav"), ("mel", "in.wav", "a.npy"), ("convert", "small.safetensors", "a.safetensors")],
)
def test_the_output_is_checked_before_the_work(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, source: str, name: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("began to work")

    for module, function in ((engine, "load"), (engine, "mel"), (cli, "load_checkpoint"), (terminal, "read_channels")):
        monkeypatch.setattr(module, function, work)
    Path("folder" + Path(name).suffix).mkdir()
    for output, message in {
        f"absent/{name}": "there is no directory 'absent'",
        "folder" + Path(name).suffix: "it is a directory",
        "a.mp3": f"expected a name that ends in {Path(name).suffix}, got 'a.mp3'",
        "x" * 300 + name: "File name too long",
    }.items():
        assert message in refused(run, command, source, "-o", output)
    Path(f"same{Path(name).suffix}").touch()
    assert "it is the input" in refused(run, command, f"same{Path(name).suffix}", "-o", f"same{Path(name).suffix}")

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.output_files.tempfile.TemporaryFile", full)
    assert "cannot create a file in '.': No space left on device" in refused(run, command, source, "-o", name)


def test_errors_of_the_system_are_one_line(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    arguments = ("mel", "in.wav", "-o", "a.npy")
    for error, text in (
        (OSError(28, "No space left on device", "a.npy"), "a.npy: No space left on device"),
        (OSError("odd"), "odd"),
        (MemoryError(), "not enough memory"),
        (engine.InputError("two\nlines"), "two lines"),
        (engine.UnavailableError("no such thing"), "no such thing"),
        (engine.CheckpointError("broken"), "broken"),
    ):
        monkeypatch.setattr(engine, "mel", failing(error))
        assert refused(run, *arguments) == text
    monkeypatch.setattr(engine, "mel", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # our own mistakes are not hidden
        run(*arguments)


def test_warnings_are_one_line(here: Path, run: Run) -> None:
    saved(Path("tacotron.safetensors"), replace(SMALL, mel_kind="tacotron"))
    before = warnings.showwarning
    status, out, err = run("vocode", "mel.npy", "-o", "out.wav", "--model", "tacotron.safetensors")
    assert status == 0 and out.startswith("wrote out.wav\n")
    assert re.fullmatch("engine: warning: mel: this checkpoint wants 'tacotron' mels [^\n]*\n", err)
    assert warnings.showwarning is before


@pytest.mark.parametrize("command", ["", "vocode", "mel", "info", "convert"])
def test_help(run: Run, command: str) -> None:
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "") and "examples:\n  engine " in out
    assert max(map(len, out.splitlines())) <= 120
    for line in re.findall(r"^  engine (.*?)(?:  .*)?$", out, flags=re.MULTILINE):
        cli.parser().parse_args(line.split())  # the examples are commands


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"engine {engine.__version__}\n", "")
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{engine.__version__}"\n' in project and '\nengine = "engine.cli:main"\n' in project


def test_the_bundled_voice_speaks_the_demo_mel(here: Path, run: Run) -> None:
    demo = BUNDLED.with_name("demo_mel.npy")
    np.save("part.npy", np.load(demo)[:, 60:100])
    status, out, err = run("vocode", "part.npy", "-o", "demo.wav")
    assert (status, err) == (0, "") and re.fullmatch(f"wrote demo.wav\n{REPORT}\n", out)
    audio, rate = read_wav("demo.wav")
    assert rate == 22050 and len(audio) == 40 * 256
    # What is heard is what was asked for: its mel is nearer than an even murmur's would be.
    wanted = np.load("part.npy")
    error = np.abs(engine.mel(audio, rate)[:, :40] - wanted).mean()
    assert error < 0.8 * np.abs(wanted - wanted.mean()).mean()
    assert f"file         {BUNDLED}\n" in run("info")[1]


@pytest.mark.parametrize(
    ("command", "source", "name"),
    [("vocode", "mel.npy", "a.wav"), ("mel", "in.wav", "a.npy"), ("convert", "small.safetensors", "a.safetensors")],
)
def test_control_c_while_writing(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, source: str, name: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    Path(name).write_bytes(b"old")
    before = sorted(os.listdir())
    monkeypatch.setattr(os, "replace", interrupted)
    options = ["--model", "small.safetensors"] if command == "vocode" else []
    assert run(command, source, "-o", name, *options) == (130, "", "engine: interrupted\n")
    assert sorted(os.listdir()) == before and Path(name).read_bytes() == b"old"
