"""The program `engine`: help, errors in the words of the command line, warnings, exit status."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import engine
from engine.cli import analysis, convert, options
from engine.cli.main import build_parser
from engine.cli.parsing import BAD_INPUT, FAILED, UNAVAILABLE
from tests.support.commands import SMALL, Run, error_of, save_network
from tests.support.paths import ROOT

# A command that writes a file of this name.
WRITERS = [
    ("vocode", "mel.npy", "a.wav"),
    ("mel", "in.wav", "a.npy"),
    ("convert", "small.safetensors", "a.safetensors"),
]
COMMANDS = ["vocode", "generate", "denoise", "interpolate", "serve", "mel", "info", "doctor", "bench", "convert"]
COMMANDS += ["tune-steps"]


BAD = [
    ("sing", f"COMMAND: expected one of {', '.join(COMMANDS)}, got 'sing'; see 'engine --help'"),
    ("vocode mel.npy", "the following arguments are required: -o/--output; see 'engine vocode --help'"),
    ("vocode mel.npy -o a.wav --steps many", "--steps: expected fast, full or a number of steps, got 'many'"),
    (
        "vocode mel.npy -o a.wav --steps 7",
        '--steps: expected 1 to 6 or 50, "fast" (6 steps, the checkpoint\'s own), "full" (50 steps), got 7',
    ),
    ("vocode mel.npy -o a.wav --seed -1", "--seed: expected integers from 0 to 2**64 - 1, got -1"),
    ("vocode mel.npy -o a.wav --seed x", "--seed: expected an integer, got 'x'"),
    ("vocode mel.npy -o a.wav --energy-min x", "--energy-min: expected a number, got 'x'"),
    ("vocode mel.npy -o a.wav --threads 0", "--threads: expected an integer from 1"),
    ("vocode mel.npy -o a.wav --isa sse9", "--isa: expected one of 'generic'"),
    ("vocode mel.npy -o a.wav --precision fp64", "--precision: expected one of auto, fp32,"),
    ("vocode mel.npy -o a.wav --prec fp32", "unrecognized arguments: --prec fp32; see 'engine vocode --help'"),
    ("vocode mel.npy -o a.wav --energy-min 1", "--energy-min: only a PriorGrad network takes one"),
    ("vocode mel.npy -o a.wav --mel-kind tacotron", "--mel-kind: expected 'lmnt' as recorded in small.safetensors"),
    ("info --mel-kind opera", "--mel-kind: expected one of lmnt, tacotron, hifigan, speechbrain, got 'opera'"),
    ("info voyce", "CKPT: expected a file or one of 'voice'"),
    ("convert small.safetensors -o b.safetensors --dtype int8", "--dtype: expected one of float32, float16, got"),
    ("convert small.safetensors -o b.safetensors --config c.json", "--config: expected no --config, because"),
    ("convert voyce -o b.safetensors", "CKPT: expected a file or one of 'voice'"),
    ("bench --quick --thorough", "--thorough: not allowed with --quick; see 'engine bench --help'"),
    ("bench --threads 0", "--threads: expected an integer from 1"),
    ("bench --report a.txt", "--report: expected a name that ends in .html, got 'a.txt'"),
    ("bench --json no/a.json", "--json: cannot write 'no/a.json': there is no directory 'no'"),
]
LACKING = [
    ("vocode mel.npy -o a.wav --isa generic --precision bf16", "--precision bf16 needs a tier that has it"),
    ("vocode mel.npy -o a.wav --isa generic --precision bf16", "got --isa generic; use --precision auto or fp32"),
    ("vocode mel.npy -o a.wav --precision int8", "--precision int8 needs ranges"),
    ("vocode mel.npy -o a.wav --precision int8", "'engine convert CKPT -o OUT.safetensors --calibrate MEL'"),
    ("vocode mel.npy -o a.wav --precision int8", "or use --precision auto"),
    ("vocode mel.npy -o a.wav --precision fp16", "--precision fp16 needs a GPU"),
    ("vocode mel.npy -o a.wav --device cuda", "--device cuda cannot be used: not in this test; --device cpu can"),
    ("vocode mel.npy -o a.wav --device tpu", "--device: this build has no backend for 'tpu'"),
    ("vocode mel.npy -o a.wav --isa sm_90a", "--isa sm_90a needs a GPU: not in this test; leave --isa out"),
]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [(BAD_INPUT, *row) for row in BAD] + [(UNAVAILABLE, *row) for row in LACKING],
)
def test_errors_of_options_name_the_flag(workspace: Path, run: Run, status: int, arguments: str, message: str) -> None:
    words = arguments.split()
    if words[:1] == ["vocode"]:
        words += ["--model", "small.safetensors"]
    error = error_of(run, *words, expected=status)
    assert message in error
    assert not re.search(r"\b[a-z_]+=|\bNone\b|\bengine\.\w+\(|argument ", error), "Python in a command-line error"


@pytest.mark.parametrize(("command", "source", "name"), WRITERS)
def test_the_output_is_checked_before_the_work(
    workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, source: str, name: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    modules = (engine, "load"), (engine, "mel"), (convert, "load_checkpoint"), (options, "read_channels")
    for module, function in (*modules, (analysis, "load_checkpoint")):
        monkeypatch.setattr(module, function, work)
    Path("folder" + Path(name).suffix).mkdir()
    for output, message in {
        f"absent/{name}": "there is no directory 'absent'",
        "folder" + Path(name).suffix: "it is a directory",
        "a.mp3": f"expected a name that ends in {Path(name).suffix}",
        "x" * 300 + name: "File name too long",
    }.items():
        assert message in error_of(run, command, source, "-o", output)
    Path(f"same{Path(name).suffix}").touch()
    assert "it is the input" in error_of(run, command, f"same{Path(name).suffix}", "-o", f"same{Path(name).suffix}")

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.checks.output_files.tempfile.TemporaryFile", full)
    assert "cannot create a file in '.': No space left on device" in error_of(run, command, source, "-o", name)


def test_errors_of_the_system_are_one_line(workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    arguments = ("mel", "in.wav", "-o", "a.npy")
    for status, error, text in (
        (FAILED, OSError(28, "No space left on device", "a.npy"), "a.npy: No space left on device"),
        (FAILED, OSError("odd"), "odd"),
        (FAILED, MemoryError(), "not enough memory"),
        (BAD_INPUT, FileNotFoundError(2, "No such file or directory", "a.npy"), "a.npy: No such file or directory"),
        (BAD_INPUT, PermissionError(13, "Permission denied", "a.npy"), "a.npy: Permission denied"),
        (BAD_INPUT, engine.InputError("two\nlines"), "two lines"),
        (BAD_INPUT, engine.CheckpointError("broken"), "broken"),
        (UNAVAILABLE, engine.UnavailableError("not on this machine"), "not on this machine"),
    ):
        monkeypatch.setattr(engine, "mel", failing(error))
        assert error_of(run, *arguments, expected=status) == text
    monkeypatch.setattr(engine, "mel", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # a bug of the engine is not hidden
        run(*arguments)


def test_warnings_are_one_line(workspace: Path, run: Run) -> None:
    save_network(Path("tacotron.safetensors"), replace(SMALL, mel_kind="tacotron"))
    before = warnings.showwarning
    status, out, err = run("vocode", "mel.npy", "-o", "out.wav", "--model", "tacotron.safetensors")
    assert status == 0 and out.startswith("wrote out.wav\n")
    assert re.fullmatch("engine: warning: mel.npy: [^\n]*'tacotron'[^\n]* 'engine mel --kind tacotron'[^\n]*\n", err)
    assert warnings.showwarning is before


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns_and_has_examples(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "") and "examples:\n  engine " in out
    assert max(map(len, out.splitlines())) <= 80
    examples = out.partition("examples:\n")[2].partition("\n\n")[0]
    for line in re.findall(r"^  engine (.*?)(?: +#.*)?$", examples, flags=re.MULTILINE):
        build_parser().parse_args(line.split())


def test_help_states_every_default() -> None:
    [commands] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert list(commands.choices) == COMMANDS
    for name, parser in commands.choices.items():
        for action in parser._actions:
            if action.default not in (None, False, argparse.SUPPRESS) and action.nargs != "+":
                assert str(action.help).endswith(f"(default: {action.default})"), f"{name} {action.dest}"


def test_the_exit_statuses_are_documented(run: Run) -> None:
    assert (FAILED, BAD_INPUT, UNAVAILABLE) == (1, 2, 3)
    text = run("--help")[1].partition("exit status:\n")[2]
    assert re.findall(r"^  (\d+) ", text, re.MULTILINE) == ["0", "1", "2", "3", "129", "130", "141", "143"]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"engine {engine.__version__}\n", "")
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{engine.__version__}"\n' in project and '\nengine = "engine.cli.main:main"\n' in project


@pytest.mark.parametrize(("command", "source", "name"), WRITERS)
def test_control_c_while_writing_leaves_the_old_file(
    workspace: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, source: str, name: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    Path(name).write_bytes(b"old")
    before = sorted(os.listdir())
    monkeypatch.setattr(os, "replace", interrupt)
    model = ["--model", "small.safetensors"] if command == "vocode" else []
    assert run(command, source, "-o", name, *model) == (130, "", "engine: interrupted\n")
    assert sorted(os.listdir()) == before and Path(name).read_bytes() == b"old"


def test_a_line_without_a_command_prints_the_help(run: Run) -> None:
    status, out, err = run()
    assert status == BAD_INPUT and not out
    assert "commands:" in err and "exit status:" in err
