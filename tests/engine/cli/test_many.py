"""`engine vocode` and `engine mel` of many files."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bulk.summary import Summary
from engine.cli.many import line_of
from engine.cli.parsing import FAILED
from tests.support.commands import MEL, Run, error_of

LAST = r"\d+ files?, [\d.]+ s of audio in [\d.]+ s \([\d.e+-]+x real time\)"


@pytest.fixture
def folder(workspace: Path) -> Path:
    """Add a folder of two mels to the workspace."""
    (workspace / "mels" / "s").mkdir(parents=True)
    np.save("mels/a.npy", MEL)
    np.save("mels/s/b.npy", MEL[:, :5])
    return workspace


def test_a_folder_becomes_a_folder(folder: Path, run: Run) -> None:
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors")
    assert (status, err) == (0, "") and re.fullmatch(f"{LAST}\n", out) and out.startswith("2 files, 0.2 s of audio")
    assert sorted(path.as_posix() for path in Path("out").rglob("*.wav")) == ["out/a.wav", "out/s/b.wav"]
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors")
    assert (status, err) == (0, "") and out.startswith("0 files, ") and out.endswith(", 2 done before\n")


def test_one_input_and_a_folder(folder: Path, run: Run) -> None:
    Path("out").mkdir()
    for output in ("out", "new/"):
        assert run("vocode", "mel.npy", "-o", output, "--model", "small.safetensors")[::2] == (0, "")
        assert Path(output, "mel.wav").exists()


def test_mels_of_recordings_and_back(folder: Path, run: Run) -> None:
    status, out, err = run("mel", "in.wav", "-o", "analyzed/", "--model", "small.safetensors", "--json")
    assert (status, err) == (0, "") and json.loads(out)["files"] == 1
    assert run("mel", "in.wav", "-o", "one.npy", "--model", "small.safetensors")[0] == 0
    assert Path("analyzed/in.npy").read_bytes() == Path("one.npy").read_bytes()
    assert run("vocode", "analyzed", "-o", "a", "--model", "small.safetensors")[::2] == (0, "")
    assert run("vocode", "in.wav", "mel.npy", "-o", "b", "--model", "small.safetensors")[::2] == (0, "")
    assert Path("a/in.wav").read_bytes() == Path("b/in.wav").read_bytes()
    status, out, _ = run("mel", "in.wav", "-o", "two.npy", "--model", "small.safetensors", "--json")
    assert json.loads(out) == {"file": "two.npy", "bands": 80, "frames": 16, "kind": "lmnt", "sample_rate": 22050}


def test_failures_are_an_exit_status_and_lines(folder: Path, run: Run) -> None:
    Path("mels/bad.npy").write_bytes(b"noise")
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors")
    assert status == FAILED and out.endswith(", 1 failed: out/_failed.jsonl\n")
    assert err.startswith("engine: bad: ") and err.count("\n") == 1
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors", "--json", "--workers", "2")
    result = json.loads(out)
    assert status == FAILED and (result["total"], result["done_before"], result["failed"]) == (3, 2, 1)
    assert result["failures"] == "out/_failed.jsonl" and result["files"] == 0 and result["audio_seconds"] == 0


def test_a_dry_run(folder: Path, run: Run) -> None:
    before = sorted(Path().rglob("*"))
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors", "--dry-run")
    assert (status, err) == (0, "") and out == "2 files: 0 done, 2 to do, 0.2 s of audio\n"
    assert sorted(Path().rglob("*")) == before
    Path("mels/broken.npy").write_bytes(b"\x93NUMPY\x01")
    Path("mels/absent.npy").symlink_to("nowhere")
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors", "--dry-run")
    assert status == FAILED and out == "4 files: 0 done, 4 to do, 0.2 s of audio; 2 cannot be read\n"
    assert sorted(line.split(":")[1] for line in err.splitlines()) == [" absent", " broken"]
    for number in range(4):
        Path(f"mels/broken{number}.npy").write_bytes(b"\x93NUMPY\x01")
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors", "--dry-run", "--json")
    assert err.count("\n") == 6 and len(json.loads(out)["failures"]) == 6 and not Path("out").exists()
    for number in range(4):
        Path(f"mels/broken{number}.npy").unlink()
    Path("mels/broken.npy").unlink()
    Path("mels/absent.npy").unlink()
    assert error_of(run, "mel", "mels", "-o", "out", "--dry-run").startswith("mels: expected at least one file")


def test_options_reach_the_library(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def vocode_files(inputs: list[Path], output: Path, **options: object) -> Summary:
        seen.update(options, inputs=inputs, output=output)
        return Summary(output)

    monkeypatch.setattr("engine.cli.many.vocode_files", vocode_files)
    model = ("--model", "small.safetensors")
    options = "--format flac --workers 3 --shard 2/4 --overwrite --device cuda:0,cuda:1 --seed 5 --steps full"
    more = "--draft griffin-lim --match-mel inf "
    more += "--precision fp32 --mel-kind lmnt --weights ema --energy-min 0.5 --patience 2 --isa avx2 --threads 8"
    assert run("vocode", "mels", "mel.npy", "-o", "out", *options.split(), *more.split(), *model, "--ray")[0] == 0
    assert callable(seen.pop("progress")) and seen == {
        "inputs": [Path("mels"), Path("mel.npy")],
        "output": Path("out"),
        "model": "small.safetensors",
        "steps": "full",
        "draft": "griffin-lim",
        "match_mel": float("inf"),
        "seed": 5,
        "energy_min": 0.5,
        "device": ["cuda:0", "cuda:1"],
        "precision": "fp32",
        "threads": 8,
        "isa": "avx2",
        "mel_kind": "lmnt",
        "weights": "ema",
        "format": "flac",
        "workers": 3,
        "shard": (2, 4),
        "overwrite": True,
        "ray": "auto",
        "patience": 120.0,
        "dry_run": False,
    }


def test_contradictions_are_errors(folder: Path, run: Run) -> None:
    model = ("--model", "small.safetensors")
    for arguments, message in (
        (("mels", "-o", "out.wav"), "-o: expected a folder for several inputs, got 'out.wav'"),
        (("mels", "-o", "-"), "-o: expected a folder for several inputs, got '-'"),
        (("-", "mel.npy", "-o", "out"), "IN: expected - alone"),
        (("mels", "-o", "out", "--stream"), "--stream: expected one input and a name that ends in .wav as -o"),
        (("mel.npy", "-o", "a.wav", "--workers", "2"), "--workers: expected a folder as -o, such as out/, got 'a.wav'"),
        (("mel.npy", "-o", "a.wav", "--format", "flac"), "--format: expected a folder as -o"),
        (("mel.npy", "-o", "a.wav", "--dry-run"), "--dry-run: expected a folder as -o"),
        (("mel.npy", "-o", "a.wav", "--shard", "1/2"), "--shard: expected a folder as -o"),
        (("mels", "mels/a.npy", "-o", "out"), "mels: expected results of different names, got 'a.wav' of both"),
        (("mels", "-o", "mels"), "mels: expected another folder than that of the results"),
        (("mels", "absent", "-o", "out"), "absent: cannot read it"),
        (("mels", "-o", "out", "--patience", "3"), "--patience: expected --ray beside it"),
        (("mels", "-o", "out", "--patience", "-1", "--ray"), "--patience: expected minutes above 0, got -1.0"),
        (("mel.npy", "-o", "a.wav", "--patience", "3"), "--patience: expected a folder as -o"),
        (("mels", "-o", "out", "--energy-min", "nan"), "--energy-min: only a PriorGrad network takes one"),
    ):
        assert message in error_of(run, "vocode", *arguments, *model)
    for text in ("0/3", "4/3", "3", "a/b", "\u0661/3"):
        assert "--shard: expected I/N with I from 1 to N" in error_of(run, "vocode", "mels", "-o", "o", "--shard", text)
    assert "--model: expected a file or one of" in error_of(run, "vocode", "mels", "-o", "out", "--model", "voyce")


def test_the_progress_of_a_job() -> None:
    summary = Summary(Path("out"), 10_000, 4000, 3210, 1, seconds=3600.0, seconds_left=3600.0, elapsed=1200.0)
    assert line_of(summary, 120) == ("[" + 15 * "#" + 15 * "." + "] 7,211/10,000 files, 1.0 h, 3x, 20:00 remaining")
    assert line_of(summary, 40) == "7,211/10,000 files, 1.0 h, 3x, 20:00 re"
    assert line_of(replace(summary, seconds=0.0, files=0, elapsed=0.0), 80).endswith("] 4,001/10,000 files, 0.0 s")


def test_a_terminal_shows_the_files(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("engine.cli.many.progress_stream", lambda arguments: terminal)
    assert run("vocode", "mels", "-o", "out", "--model", "small.safetensors")[0] == 0
    assert "] 0/2 files, 0.0 s" in terminal.getvalue() and terminal.getvalue().endswith(" \r")


def test_a_full_disk_says_how_to_resume(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.bulk.tasks.write_result", full)
    status, out, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors")
    assert (status, out) == (FAILED, "")
    error = f"engine: error: {Path('out/a.wav').absolute()}: No space left on device\n"
    assert err == "engine: 0 of 2 files are done; the same command resumes\n" + error


def test_missing_inputs_are_named_before_the_folder(workspace: Path, run: Run) -> None:
    for name in ("nosuchdir", "nosuchdir/", "absent.npy"):
        for output in ("out", "a.wav"):
            error = error_of(run, "vocode", name, "-o", output)
            assert error.startswith(f"{name.rstrip('/')}") and "No such file or directory" in error
    Path("list.txt").write_text("mel.npy\n")
    assert error_of(run, "vocode", "list.txt", "-o", "out").endswith("a list of paths is @list.txt")


def test_an_unset_variable_is_not_the_working_directory(workspace: Path, run: Run) -> None:
    Path("a.npy").touch()
    for command in ("vocode", "mel"):
        assert error_of(run, command, "", "-o", "out/").startswith("IN: expected a path, got an empty text")
        assert error_of(run, command, "a.npy", "-o", "") == "-o: expected a path, got an empty text"


def test_control_characters_of_names_are_escaped(folder: Path, run: Run) -> None:
    """The names of a data set must not change the terminal."""
    names = ("\x1b[31mred", "line\nbreak", "\u202eright", "\x9b2J", "caf\u00e9 \u2764")
    for name in names:
        Path(f"mels/{name}.npy").write_bytes(b"noise")
    _, _, err = run("vocode", "mels", "-o", "out", "--model", "small.safetensors", "--dry-run")
    lines = err.splitlines()
    assert len(lines) == len(names) and all(line.isprintable() for line in lines)
    shown = (r"\x1b[31mred: ", "line break: ", r"\u202eright: ", r"\x9b2J: ", "caf\u00e9 \u2764: ")
    assert {next(text for text in shown if line.startswith(f"engine: {text}")) for line in lines} == set(shown)
