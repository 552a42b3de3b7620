"""`make gpu`: everything that needs a GPU, in stages that together take less than nine minutes on one card.

    python -m benchmarks.gpu.session --out build/gpu               # all stages
    python -m benchmarks.gpu.session --out build/gpu --stage stack # one of them
    python -m benchmarks.gpu.session --plan                        # what would run, without a GPU
    python -m benchmarks.gpu.session --out FOLDER --rehearse       # every stage in small, on a CPU

A stage is a process of its own with a time limit. One that fails, crashes or hangs does not stop the others. Each
prints what it finds and writes it to FOLDER/STAGE.json at once; FOLDER/STAGE.log holds its output, and
FOLDER/session.json the outcome of every stage. FOLDER/result.json has what they found in the form of
benchmarks/results. It needs this tree, PyTorch, Triton, pytest and a C++ compiler for the
native module.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 120.0  # of the native module, once
PROCESSES = 4  # of the tests


@dataclass(frozen=True)
class Stage:
    """One part of a session.

    Attributes:
        name: names its files.
        subject: what it finds out.
        seconds: after which it is stopped.
        arguments: of the Python interpreter, without `--out` and `--seconds`.
    """

    name: str
    subject: str
    seconds: float
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        name: of the stage.
        status: "passed", "failed" or "stopped" at its limit.
        code: the exit status; negative for a signal.
        seconds: that it took.
    """

    name: str
    status: str
    code: int
    seconds: float


TESTS = ("tests/gpu/test_on_gpu.py", "tests/gpu/test_training_on_gpu.py")
STAGES = (
    Stage(
        "stack",
        "wgmma with shifted operands; every instruction set of this GPU by length; drafts",
        110.0,
        ("-m", "benchmarks.gpu.stack"),
    ),
    Stage("tests", "operations, graphs, streams and training against the references", 165.0, ("-m", "pytest")),
    Stage(
        "compare",
        "this engine in turns with LMNT, autocast, CUDA graphs, channels last, torch.compile",
        170.0,
        ("-m", "benchmarks.gpu.compare"),
    ),
    Stage("training", "the time of a training step", 55.0, ("-m", "benchmarks.gpu.training_step")),
)
HEADER = ("schema", "date", "commit", "machine", "versions", "clock", "openmp", "gpu_name")
MARGIN = 0.92  # of its limit that a stage plans with


def command(stage: Stage, out: Path, rehearse: bool) -> list[str]:
    """Return the command line of a stage."""
    if stage.name == "tests":
        selected = ["-k", "nothing_is_selected"] if rehearse else []
        # Most of their time compiles kernels, on the CPU.
        shared = ["-n", str(PROCESSES)] if find_spec("xdist") else []
        options = ["-p", "benchmarks.gpu.pytest_results", f"--gpu-results={out / 'tests.json'}", "-rs", "-p"]
        return [sys.executable, *stage.arguments, *options, "no:cacheprovider", *shared, *TESTS, *selected]
    seconds = ["--seconds", f"{MARGIN * stage.seconds:g}"]
    return [sys.executable, *stage.arguments, "--out", str(out), *seconds, *["--rehearse"] * rehearse]


def run(stages: Sequence[Stage], out: Path, command_of: Callable[[Stage], list[str]]) -> list[Outcome]:
    """Run stages one after the other and write session.json after each.

    Args:
        stages: the stages.
        out: folder of the results.
        command_of: returns the command line of a stage.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for stage in stages:
        say(f"== {stage.name}: {stage.subject} (at most {stage.seconds:g} s)")
        outcomes.append(_run_stage(stage, out, command_of(stage)))
        say(f"== {stage.name}: {outcomes[-1].status} after {outcomes[-1].seconds:.1f} s")
        write_json(out / "session.json", {"stages": [asdict(outcome) for outcome in outcomes]})
        write_json(out / "result.json", merged(out))
    return outcomes


def merged(out: Path) -> dict[str, Any]:
    """Return what the stages found so far in the form of `benchmarks/results`, from which the pages follow.

    Args:
        out: folder with the stages' files; those that are missing leave out their part.
    """

    def read(stage: str) -> dict[str, Any]:
        path = out / f"{stage}.json"
        content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return content

    stack, tests, compare, training = (read(stage.name) for stage in STAGES)
    header = {}
    for source in (training, stack, compare):
        header.update({key: source[key] for key in HEADER if key in source})
    duels = [duel for duel in compare.get("gpu_duels", []) if "rows" in duel]
    outcomes = [test["outcome"] for test in tests.get("tests", [])]
    return {
        **header,
        "gpu": [row for row in stack.get("calls", []) if row["isa"] == "default"],
        "gpu_isas": stack.get("calls", []),
        "gpu_drafts": stack.get("drafts", []),
        "gpu_accuracy": stack.get("accuracy", []),
        "gpu_probe": stack.get("probe", []),
        "gpu_peaks": compare.get("gpu_peaks"),
        "gpu_duels": duels,
        "gpu_absent": compare.get("absent", {}),
        "gpu_training": training.get("steps", []),
        "gpu_tests": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
    }


def _run_stage(stage: Stage, out: Path, arguments: list[str]) -> Outcome:
    begin = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
    with (out / f"{stage.name}.log").open("wb") as log:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers, for example compilers, end with it
        )
        reader = threading.Thread(target=_copy, args=(process, log))
        reader.start()
        try:
            code = process.wait(stage.seconds)
            status = "passed" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            code, status = -signal.SIGKILL, "stopped"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join()
    if stage.name == "tests" and code == 5:  # pytest selected no test, as in a rehearsal
        status = "passed"
    return Outcome(stage.name, status, code, round(time.monotonic() - begin, 1))


def _copy(process: subprocess.Popen[bytes], log: object) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)  # type: ignore[attr-defined]
        log.flush()  # type: ignore[attr-defined]
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()


def build_native() -> str | None:
    """Compile the native module if this Python cannot import it; return why that is impossible, or None."""
    check = [sys.executable, "-c", "import engine"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if subprocess.run(check, cwd=ROOT, env=environment, capture_output=True, check=False).returncode == 0:
        return None
    say("compiling the native module for this Python")
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    try:
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it takes more than {BUILD_SECONDS:g} s"
    after = subprocess.run(check, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return None if after.returncode == 0 else (done.stderr + after.stderr)[-1000:]


def gpu_obstacle() -> str:
    """Return why no GPU can be used here, or an empty string. The engine is asked in a process of its own."""
    code = "from engine.kernels import device; print(device.obstacle() or '')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return (done.stdout + (done.stderr if done.returncode else "")).strip()


def plan(stages: Sequence[Stage], out: Path) -> list[str]:
    """Return the lines that describe a session."""
    total = sum(stage.seconds for stage in stages)
    lines = [f"{len(stages)} stages, at most {total:g} s ({total / 60:.1f} min), results in {out}"]
    for stage in stages:
        lines.append(f"{stage.name:<10}{stage.seconds:5g} s  {stage.subject}")
        lines.append(f"{'':<19}{' '.join(command(stage, out, False)[1:])}")
    return lines


def write_json(path: Path, values: object) -> None:
    """Write a JSON file as a whole. The engine may not be importable here."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(values, indent=1) + "\n")
    partial.replace(path)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> None:
    """Run a session; the exit status is 0 if every stage passed."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), metavar="FOLDER", help="of the results")
    parser.add_argument("--stage", choices=names, action="append", help="run this one alone; may be repeated")
    parser.add_argument("--plan", action="store_true", help="print what would run")
    parser.add_argument("--rehearse", action="store_true", help="run every stage in small on a CPU; measures nothing")
    options = parser.parse_args()
    out = options.out.absolute()
    stages = [stage for stage in STAGES if options.stage is None or stage.name in options.stage]
    if options.plan:
        print("\n".join(plan(stages, options.out)))
        return
    if options.rehearse:
        stages = [replace(stage, seconds=600.0) for stage in stages]
    if (why := build_native()) is not None:
        sys.exit(f"session: the native module does not compile: {why}")
    if not options.rehearse and (why := gpu_obstacle()):
        sys.exit(f"session: no GPU: {why}; --rehearse tries every stage in small on a CPU")
    outcomes = run(stages, out, lambda stage: command(stage, out, options.rehearse))
    say("\n".join(f"{outcome.name:<10}{outcome.status:<9}{outcome.seconds:6.1f} s" for outcome in outcomes))
    sys.exit(0 if all(outcome.status == "passed" for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
