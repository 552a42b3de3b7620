"""Links to lines of code point at the code that their text names."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.tools import line_links, links
from tests.support.paths import ROOT

PAGES = [path.relative_to(ROOT).as_posix() for path in links.pages() if line_links.LINK.search(path.read_text())]


@pytest.mark.parametrize("page", PAGES)
def test_line_numbers_are_current(page: str) -> None:
    """`python -m docs.tools.line_links` rewrites them."""
    assert line_links.rewritten(ROOT / page) == (ROOT / page).read_text()


def test_the_walk_through_the_kernels_links_to_lines() -> None:
    assert "docs/kernels.md" in PAGES
    assert len(line_links.LINK.findall((ROOT / "docs/kernels.md").read_text())) >= 10


def test_a_moved_line_is_rewritten(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("See [`def f`](code.py#L1).\n")
    (tmp_path / "code.py").write_text("def first():\n    f()\n\n\ndef f():\n    pass\n")
    assert line_links.rewritten(page) == "See [`def f`](code.py#L5).\n"


@pytest.mark.parametrize(("code", "count"), [("f", 2), ("def g", 0)])
def test_ambiguous_or_missing_code_raises_an_error(code: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"`{code}`: expected one line with it, got {count}"):
        line_links.line_of(code, "def f():\n    f()\n")
