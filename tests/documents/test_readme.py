"""The README stays true: its Python runs, its commands exist, its figures are those of the committed result."""

import json
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


def test_python_snippets_run_in_order(monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(ROOT)
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["again"].shape[0] == 80
    assert "precision fp32: asked for" in capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"^    (engine .*?)(?:  +#.*)?$", README, flags=re.MULTILINE))
def test_commands_are_what_the_program_understands(command):
    from engine.cli.main import parser

    parser().parse_args(command.split()[1:])


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(document):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"\bmake (demo|test|check|bench|slow|\w+)(?=    #|`)", text))
    assert targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        assert (ROOT / link).exists(), link


def test_figures_come_from_the_committed_result():
    from benchmarks.report import markdown

    shown = re.search(r"<!-- (benchmarks/results/\S+?): begin -->\n(.*?)\n<!--", README, flags=re.DOTALL)
    results = json.loads((ROOT / shown[1]).read_text())
    assert shown[2].strip() == markdown(results).strip()


def test_the_machines_are_those_of_their_results():
    from benchmarks.machines import CASE, NAMES, RESULTS, table

    assert table() in README
    shares = []
    for name in ("Ice Lake", "Zen 4"):
        [stem] = [stem for stem, called in NAMES.items() if called == name]
        duels = json.loads((RESULTS / f"{stem}.json").read_text())["duels"]
        [row] = [row for d in duels if d["case"] == CASE for row in d["rows"] if row["contender"] == "int8"]
        shares.append(f"{row['share_of_peak']['p50']:.0%}")
    assert re.findall(r"(\d+%)", re.search(r"On Ice Lake,(.*?)\n\n", README, flags=re.DOTALL)[1]) == shares


def test_a_table_of_machines_names_the_fastest_other():
    from benchmarks.machines import table

    rows = {
        line.split("]")[0][3:]: [cell.strip() for cell in line.split("|")[2:-1]] for line in table().splitlines()[2:]
    }
    assert rows["Zen 3"][:3] == ["0.79x", "", "0.62x"] and rows["Zen 3"][3] == "OpenVINO int8 0.35x, 5 dB"
    assert rows["Zen 5"][0] == rows["Zen 5"][3] == "" and rows["Zen 5"][1] == "2.97x"


def test_the_figures_of_a_gpu_are_of_one_duel():
    text = " ".join(re.search(r"On an H100, (.*?)\. No other\s+GPU", README, flags=re.DOTALL)[1].split())
    [duel] = json.loads((ROOT / re.search(r"\]\((benchmarks.*?)\)", text)[1]).read_text())["gpu_duels"]
    rows = {row["contender"]: row for row in duel["rows"]}
    own = rows.pop("this engine, fp16")
    seconds = own["measured_seconds"]["p50"]
    assert f"in {1e3 * seconds:.1f} ms, {own['times_real_time']:.0f} times real time in fp16" in text
    names = ("LMNT, PyTorch eager", "LMNT, fp16 autocast", "PyTorch fp16, CUDA graph")
    ratios = [f"{rows[name]['measured_seconds']['p50'] / seconds:.1f}" for name in names]
    assert re.findall(r"(\d+\.\d) times", text) == ratios
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert f"of {duel['rounds']} rounds" in page
    assert all(f"{ratio} times" in page for ratio in ratios)


def test_the_speed_as_work_grows_is_that_of_its_result():
    text = " ".join(re.search(r"As work grows(.*?)\n\n", README, flags=re.DOTALL)[1].split())
    points = json.loads((ROOT / re.search(r"\]\((.*?)\)", text)[1]).read_text())["curves"]
    speed = {(point["axis"], point["value"]): 1.0 / point["rtf"]["p50"] for point in points}
    shown = [*(("length", n) for n in (0.5, 10, 30, 600)), ("batch", 32), ("batch", 64)]
    assert re.findall(r"(\d\.\d)x", text) == [f"{speed[one]:.1f}" for one in shown]


def test_missing_compiler_is_one_clear_sentence(tmp_path):
    folders = ["--build-temp", str(tmp_path), "--build-lib", str(tmp_path)]
    command = [sys.executable, "setup.py", "-q", "build_ext", *folders]
    environment = {"CXX": "no-such-compiler", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1] == (
        "error: no C++17 compiler: 'no-such-compiler' was not found. Install g++ or clang++, or set CXX."
    )
