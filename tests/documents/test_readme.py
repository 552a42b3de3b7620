"""The README stays true and short: its Python runs, its commands exist, its figures stand in generated blocks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.tools.links import links
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
FIRST_SCREEN = README[: README.index("```\n", README.index("```python\n") + 1) + 4]
FIGURE = re.compile(r"\d[\d.]*(?:x\b| times\b|%| ?ms\b| ?s\b| ?MiB\b| ?dB\b)")


def without_blocks(text: str) -> str:
    return re.sub(r"<!-- figures: (\S+) begin -->.*?<!-- figures: \1 end -->", "", text, flags=re.DOTALL)


def test_first_screen() -> None:
    lines = FIRST_SCREEN.splitlines()
    assert len(lines) <= 40
    bullets = re.split(r"^- ", FIRST_SCREEN.partition("\n[Listen]")[0], flags=re.MULTILINE)[1:]
    assert len(bullets) == 6 and all(list(links(bullet)) for bullet in bullets)
    assert "    make demo " in FIRST_SCREEN and "    make test " in FIRST_SCREEN
    python = FIRST_SCREEN.partition("```python\n")[2].splitlines()[:-1]
    assert len([line for line in python if line]) == 5


def test_length() -> None:
    visible = re.sub(r"\]\([^)]*\)", "]", re.sub(r"<!--.*?-->", "", README))
    assert len(visible.split()) < 850


def test_python_snippets_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)  # the snippet writes, and finds what it reads as in the project's root
    (tmp_path / "engine").symlink_to(ROOT / "engine")
    scope: dict[str, object] = {}
    exec(compile(blocks[0], "README.md", "exec"), scope)
    assert (tmp_path / "speech.wav").stat().st_size > 44


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/performance.md"])
def test_make_targets_exist(document: str) -> None:
    targets = set(re.findall(r"\bmake (\w+)(?=  +#|`)", (ROOT / document).read_text()))
    assert targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


@pytest.mark.parametrize("document", ["README.md", "docs/performance.md"])
def test_measured_figures_stand_in_blocks(document: str) -> None:
    text = (ROOT / document).read_text()
    assert FIGURE.search(text), "the pattern knows figures"
    assert FIGURE.findall(without_blocks(text)) == []


def test_missing_compiler_is_one_clear_sentence(tmp_path: Path) -> None:
    folders = ["--build-temp", str(tmp_path), "--build-lib", str(tmp_path)]
    command = [sys.executable, "setup.py", "-q", "build_ext", *folders]
    environment = {"CXX": "no-such-compiler", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1] == (
        "error: no C++17 compiler: 'no-such-compiler' was not found. Install g++ or clang++, or set CXX."
    )
