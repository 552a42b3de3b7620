"""The stages of `make gpu`: that one cannot stop the others, their files, and each of them in small on a CPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.cpu import drafts
from benchmarks.figures import gpu
from benchmarks.gpu import baselines, cases, compare, session, stack, timing, training_step, wgmma_probe
from benchmarks.gpu.results import Results
from benchmarks.gpu.session import STAGES, Outcome, Stage
from engine.kernels import device as gpu_device
from engine.kernels.cuda import build
from engine.kernels.hopper import stack as hopper
from tests.gpu.devices import program_of
from tests.gpu.machine_code import machine_code
from tests.gpu.ptx.machine import Machine

REHEARSAL = cases.Setting("cpu", rounds=2, warm_up=0)
NVRTC = pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle()))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def run(stages: dict[str, tuple[float, str]], out: Path) -> list[Outcome]:
    """Run stages of (limit in seconds, Python code)."""
    listed = [Stage(name, "a test", seconds, ("-c", code)) for name, (seconds, code) in stages.items()]
    return session.run(listed, out, lambda stage: [sys.executable, *stage.arguments])


def test_a_stage_that_fails_or_hangs_does_not_stop_the_others(tmp_path: Path, capfd: Any) -> None:
    hanging = "import subprocess, sys, time; print('begun', flush=True); "
    hanging += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
    begin = time.monotonic()
    outcomes = run(
        {
            "raises": (60.0, "raise ValueError('a fault')"),
            "hangs": (5.0, hanging),
            "dies": (60.0, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
            "works": (60.0, "print('a figure')"),
        },
        tmp_path / "out",
    )
    assert time.monotonic() - begin < 300  # the process that the second stage left behind is gone, and its pipe closed
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [
        ("raises", "failed"),
        ("hangs", "stopped"),
        ("dies", "failed"),
        ("works", "passed"),
    ]
    assert outcomes[2].code == -11
    logs = {name: (tmp_path / "out" / f"{name}.log").read_text() for name in ("raises", "hangs", "works")}
    assert "ValueError: a fault" in logs["raises"] and logs["hangs"] == "begun\n" and logs["works"] == "a figure\n"
    printed = capfd.readouterr().out
    assert "a figure" in printed and "== hangs: stopped" in printed
    assert [stage["status"] for stage in read(tmp_path / "out" / "session.json")["stages"]] == [
        outcome.status for outcome in outcomes
    ]


def test_the_stages_take_less_than_nine_minutes() -> None:
    assert [stage.name for stage in STAGES] == ["stack", "tests", "compare", "training"]
    assert sum(stage.seconds for stage in STAGES) < 9 * 60
    lines = "\n".join(session.plan(STAGES, Path("build/gpu")))
    for stage in STAGES:
        limit = f"--seconds {session.MARGIN * stage.seconds:g}"
        assert stage.name == "tests" or limit in lines
    for name in session.TESTS:
        assert (session.ROOT / name).is_file() and name in lines


def test_a_stage_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def record(stages: list[Stage], out: Path, command_of: Any) -> list[Outcome]:
        ran.extend(stage.name for stage in stages)
        return [Outcome(stage.name, "failed" if stage.name == "stack" else "passed", 0, 1.0) for stage in stages]

    monkeypatch.setattr(session, "run", record)
    monkeypatch.setattr(session, "build_native", lambda: None)
    monkeypatch.setattr(session, "gpu_obstacle", lambda: "")
    for arguments, names, code in (
        (["--stage", "training"], ["training"], 0),
        (["--stage", "stack"], ["stack"], 1),
        ([], ["stack", "tests", "compare", "training"], 1),
    ):
        ran.clear()
        monkeypatch.setattr(sys, "argv", ["session", "--out", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as ended:
            session.main()
        assert ran == names and ended.value.code == code


@pytest.mark.skipif(gpu_device.obstacle() is None, reason="there is a GPU")
def test_without_a_gpu_no_stage_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["session", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"session: no GPU: .*; --rehearse tries every stage"):
        session.main()
    assert not list(tmp_path.iterdir())


def test_results_are_on_disk_after_every_addition(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "r.json", {"commit": "c"})
    assert read(tmp_path / "new" / "r.json")["commit"] == "c"
    results.add("rows", {"x": float("inf"), "y": [float("nan"), 1.5]})
    results.put("name", "value")
    assert read(tmp_path / "new" / "r.json")["rows"] == [{"x": "inf", "y": ["nan", 1.5]}]
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "r.json"]


@pytest.mark.parametrize("processes", [0, 2])
def test_the_outcome_of_every_test_is_written(tmp_path: Path, processes: int) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_right(): pass\ndef test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='no card')\ndef test_skipped(): pass\n"
    )
    stage = Stage("tests", "", 120.0, ("-m", "pytest", "-p", "benchmarks.gpu.pytest_results"))
    options = [f"--gpu-results={tmp_path / 'tests.json'}", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, *stage.arguments, *options, "-n", str(processes), str(tmp_path / "test_some.py")]
    [outcome] = session.run([stage], tmp_path / "out", lambda _: command)
    assert outcome.status == "failed"
    written = read(tmp_path / "tests.json")
    outcomes = {row["test"].split("::")[1]: row for row in written["tests"]}
    assert {name: row["outcome"] for name, row in outcomes.items()} == {
        "test_right": "passed",
        "test_wrong": "failed",
        "test_skipped": "skipped",
    }
    assert "1 == 2" in outcomes["test_wrong"]["why"] and "no card" in outcomes["test_skipped"]["why"]


def test_the_pages_can_follow_from_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.merged(tmp_path)["gpu"] == []
    setting = cases.Setting("cpu", rounds=1, warm_up=0)
    monkeypatch.setattr(baselines, "BASELINES", baselines.BASELINES[3:4])
    monkeypatch.setattr(baselines, "AUTOTUNED", baselines.BASELINES[0])
    stack.run(setting, tmp_path, 60.0, [(1, 0.05), (1, 0.1)])
    compare.run(setting, tmp_path, 60.0, [(1, 0.05)])
    results = session.merged(tmp_path)
    assert results["commit"] and results["schema"] and results["gpu_name"] == setting.gpu()
    results["gpu_duels"][0]["rows"][0]["snr_db"] = 60.0  # a rehearsal compares equal audio
    monkeypatch.setattr(gpu, "load", lambda name: results)
    assert gpu.calls().count("fp16") == 1 and "1 x 0.05 s" in gpu.calls() and "commit" in gpu.calls()
    assert "PyTorch fp16, channels last, CUDA graph" in gpu.comparison() and "**this engine, fp32**" in gpu.comparison()


@NVRTC
@pytest.mark.parametrize("groups", [1, 2])
def test_the_probe_compiles_without_spills(groups: int) -> None:
    code = machine_code(wgmma_probe.probe_kernel(groups), hopper.CAPABILITY)
    assert (code.stack, code.local) == (0, 0) and code.registers <= 128
    assert code.count("HGMMA") == 8 and code.count("CS2R") >= 2  # four before the clock, four in the loop
    assert code.count("WARPGROUP") == 4, "products wait for each other"


@NVRTC
@pytest.mark.parametrize(("is_swizzled", "shift"), [(0, 0), (0, 3), (0, 12), (1, 0), (1, 8)])
def test_the_probe_multiplies_the_shifted_rows(is_swizzled: int, shift: int) -> None:
    """The interpreter reads what PTX says; whether the hardware does is what the probe finds out."""
    kernel, machine = wgmma_probe.probe_kernel(1, timed=False), Machine(1 << 24)
    compiled = kernel.compile(hopper.CAPABILITY)
    weights, samples = wgmma_probe.operands()
    result, clocks = machine.empty((64, wgmma_probe.COLUMNS), torch.float32), machine.empty((1,), torch.int64)
    tensors = (machine.put(weights.view(torch.int16)), machine.put(samples.view(torch.int16)), result, clocks)
    program = program_of(compiled.asm["ptx"])
    machine.launch(program, 1, 128, (*tensors, shift, is_swizzled, 1), shared_bytes=wgmma_probe.SHARED, checks=True)
    assert wgmma_probe.worst_error(weights, samples, shift, result) < wgmma_probe.RIGHT
    assert wgmma_probe.worst_error(weights, samples, shift + 1, result) > wgmma_probe.RIGHT
    assert wgmma_probe.worst_error(weights, samples, shift, result.fill_(torch.nan)) == float("inf")


@NVRTC
def test_the_probe_reports_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host side, with a stand-in for the driver that is wrong for swizzled rows off the pattern of eight."""

    class Function:
        def __init__(self, kernel: Any, cubin: bytes) -> None:
            self.threads = kernel.threads

        def __getitem__(self, grid: tuple[int, int, int]) -> Any:
            assert grid == (132, 1, 1)
            return self.launch

        def launch(
            self, weights: Any, samples: Any, result: Any, clocks: Any, shift: int, swizzled: int, n: int
        ) -> None:
            start = shift // 8 * 8 if swizzled else shift
            result.copy_(weights.float() @ samples[start : start + wgmma_probe.COLUMNS].float().T)
            clocks.fill_(n * 4 * 70 * (self.threads // 128))

    def on_cpu(make: Any) -> Any:
        return lambda *sizes, device, **options: make(*sizes, **options)

    monkeypatch.setattr(gpu_device, "Function", Function)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(multi_processor_count=132))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch, "full", on_cpu(torch.full))
    monkeypatch.setattr(torch, "zeros", on_cpu(torch.zeros))
    rows: list[dict[str, Any]] = []
    wgmma_probe.run(rows.append)
    assert [(row["layout"], row["shift"], row["warpgroups"]) for row in rows] == [
        ("128-byte swizzle" if swizzled else "no swizzle", shift, groups)
        for swizzled, shift, groups in wgmma_probe.cases()
    ]
    assert {row["clocks"] for row in rows} == {70.0}
    wrong = {row["shift"] for row in rows if not row["right"]}
    assert wrong == {1, 2, 3, 4, 7, 12} and all(row["right"] for row in rows if row["layout"] == "no swizzle")


def test_the_stack_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instruction set that fails is recorded, and the other one is timed."""
    voice = cases.Setting.voice

    def failing(setting: cases.Setting, precision: str, isa: str | None = None) -> Any:
        if isa == "broken":
            raise RuntimeError("no such instruction")
        return voice(setting, precision, isa)

    monkeypatch.setattr(cases.Setting, "voice", failing)
    monkeypatch.setattr(cases.Setting, "isas", lambda setting: ["broken"])
    assert not stack.run(REHEARSAL, tmp_path, 60.0, [(1, 0.05), (2, 0.05)])
    written = read(tmp_path / "stack.json")
    assert written["failures"] == [{"isa": "broken", "error": "RuntimeError: no such instruction"}]
    assert [(row["isa"], row["items"], row["seconds"]) for row in written["calls"]] == [
        ("default", 1, 0.05),
        ("default", 2, 0.05),
    ]
    assert all(row["host_seconds"]["p50"] > 0 and row["times_real_time"] > 0 for row in written["calls"])
    assert "probe_compiled_bytes" in written or "probe_failure" in written
    [of_drafts] = written["drafts"]
    assert [row["name"] for row in of_drafts["rows"]] == [name for name, _ in drafts.CALLS] + drafts.ALONE
    assert all(row["seconds"] > 0 for row in of_drafts["rows"])


def test_the_comparison_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines that cannot run are named with the reason; LMNT's operations stand in for its package."""

    def absent(task: Any) -> Any:
        raise ImportError("no package")

    kept = [
        baselines.Baseline("LMNT, PyTorch eager", "tf32", absent, "every step"),
        baselines.Baseline("LMNT, fp16 autocast", "fp16", absent, "every step"),
        baselines.BASELINES[3],
    ]
    monkeypatch.setattr(baselines, "BASELINES", kept)
    monkeypatch.setattr(baselines, "AUTOTUNED", baselines.Baseline("compiled", "fp16", absent, "once"))
    assert compare.run(REHEARSAL, tmp_path, 60.0, [(1, 0.05)])
    written = read(tmp_path / "compare.json")
    assert set(written["absent"]) == {"LMNT, PyTorch eager", "LMNT, fp16 autocast", "compiled"}
    first, second = written["gpu_duels"]
    assert [row["contender"] for row in first["rows"]] == [
        "this engine, fp16",
        "this engine, fp32",
        "LMNT's operations, PyTorch eager",
        "LMNT's operations, fp16 autocast",
        "PyTorch fp16, channels last, CUDA graph",
    ]
    assert all(row["passed"] is not False for row in first["rows"]) and first["rounds"] == REHEARSAL.rounds
    assert first["rows"][2]["snr_db"] > 90 and len(second["rows"]) == 2


def test_a_red_gate_of_the_engine_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: Any) -> Any:
        raise AssertionError("this engine, fp16: expected an SNR of at least 52 dB, got 3.0 dB")

    monkeypatch.setattr(timing, "comparison_rows", rows)
    monkeypatch.setattr(baselines, "BASELINES", ())
    monkeypatch.setattr(baselines, "AUTOTUNED", baselines.Baseline("compiled", "fp16", rows, "once"))
    assert not compare.run(REHEARSAL, tmp_path, 60.0, [(1, 0.05)])
    assert "got 3.0 dB" in read(tmp_path / "compare.json")["gpu_duels"][0]["failure"]


def test_the_training_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "LAYERS", ("PyTorch's, fp32",))

    def broken() -> Any:
        raise RuntimeError("out of memory")

    assert not training_step.run([broken, training_step.rehearsal], tmp_path, 600.0, "cpu", 1)
    written = read(tmp_path / "training.json")
    assert written["failures"][0]["error"] == "RuntimeError: out of memory"
    assert [row["workload"] for row in written["steps"]] == ["rehearsal"]
    assert training_step.run([training_step.rehearsal], tmp_path, 0.0, "cpu", 1)
    assert read(tmp_path / "training.json")["left_out"] == [{"workload": "rehearsal", "layers": "PyTorch's, fp32"}]


@pytest.mark.slow
def test_a_whole_session_in_small(tmp_path: Path) -> None:
    stages = [stage for stage in STAGES if stage.name != "compare"]
    outcomes = session.run(stages, tmp_path, lambda stage: session.command(stage, tmp_path, rehearse=True))
    assert [outcome.status for outcome in outcomes] == ["passed"] * 3
    assert {path.name for path in tmp_path.glob("*.json")} == {
        *(f"{stage.name}.json" for stage in stages),
        "session.json",
        "result.json",
    }
