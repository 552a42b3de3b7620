"""The rules of language in CONTRIBUTING.md that a search can check."""

from __future__ import annotations

import re

import pytest

from docs.tools import links
from tests.support.paths import ROOT

FOLDERS = ("benchmarks", "csrc", "docs", "engine", "examples", "kernels", "tests")
SUFFIXES = {".py", ".pyi", ".cpp", ".cu", ".h", ".inl", ".md", ".toml", ".yml", ".ipynb"}
AVOIDED = re.compile("|".join(["who" + "ever", "of " + "bytes", r"\bpai" + "red"]), re.IGNORECASE)
VAGUE = re.compile(r"\[(?:how|more|card|here|this|link|figures)\]\(", re.IGNORECASE)


def sources() -> list[str]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    return sorted({path.resolve().relative_to(ROOT).as_posix() for path in files if path.is_file()})


def test_avoided_words() -> None:
    names = sources()
    assert len(names) > 200
    hits = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in names
        for number, line in enumerate((ROOT / name).read_text().splitlines(), start=1)
        if AVOIDED.search(line)
    ]
    assert hits == []


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in links.pages()])
def test_text_of_links_names_the_target(page: str) -> None:
    assert VAGUE.findall((ROOT / page).read_text()) == []


def test_rooms_are_those_of_the_layers() -> None:
    from tests.test_layers import ROOMS

    rows = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    assert rows == list(ROOMS)
