"""No page has a dead link, and the checkers of pages and of the site notice one."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.tools import check_site, links
from tests.support.paths import ROOT

PAGES = [path.relative_to(ROOT).as_posix() for path in links.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert links.dead_links(ROOT / page) == []


def test_all_pages_are_checked() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/api/voice.md", "engine/assets/MODEL_CARD.md"} <= set(
        PAGES
    )
    assert not [page for page in PAGES if page.startswith((".venv", "build", "engine/kernels"))]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(links, "ROOT", tmp_path)
    (tmp_path / "other.md").write_text(
        "# Other `page`: [a link](code.py), twice\n\n## Twice\n\n## Twice\n\n```\n# no\n```\n"
    )
    (tmp_path / "code.py").write_text("one\ntwo\n")
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    "link",
    [
        *("other.md", "other.md#other-page-a-link-twice", "other.md#twice-1", "code.py#L2", "code.py#L1-L2", "."),
        *("#here", "https://example.org/path", "mailto:nobody@example.org"),
    ],
)
def test_a_link_that_leads_somewhere_is_accepted(page: Path, link: str) -> None:
    page.write_text(f"# Here\n\n[text]({link})\n")
    assert links.dead_links(page) == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("missing.md", "no file missing.md"),
        ("other.md#no", "no heading #no"),
        ("#nowhere", "no heading #nowhere"),
        ("code.py#L3", "the file has 2 lines"),
        ("code.py#top", "expected an anchor such as #L10"),
        ("../outside.md", "expected a file of the repository"),
        ("https://", "expected an address"),
        ("http://host without", None),
        ("htps://example.org", "expected an address"),
    ],
)
def test_a_dead_link_is_noticed(page: Path, link: str, problem: str | None) -> None:
    page.write_text(f"# Here\n\n[text]({link}) and `[code](nothing.md)`\n\n![picture]({link})\n")
    found = links.dead_links(page)
    assert [line.partition(": ")[2][: len(problem)] for line in found] == [problem] * 2 if problem else not found


def test_the_site_checker_notices_dead_links_and_loaded_files(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a><a href="https://example.org">x</a><p id="here">')
    (tmp_path / "b.html").write_text('<h1 id="there"><a href="a.html#here">a</a></h1><img src="data:image/png;,">')
    assert check_site.problems(tmp_path) == []
    (tmp_path / "c.html").write_text(
        '<a href="b.html#nowhere">b</a><a href="d.html">d</a><script src="https://example.org/x.js"></script>'
        '<link rel="stylesheet" href="//example.org/font.css"><img src="missing.svg">'
    )
    (tmp_path / "c.css").write_text(
        "a {background: url('data:image/svg+xml;,')} @import url(https://example.org/f.css);"
    )
    assert check_site.problems(tmp_path) == [
        "c.css: loads https://example.org/f.css; expected a file of the site",
        "c.html: loads https://example.org/x.js; expected a file of the site",
        "c.html: loads //example.org/font.css; expected a file of the site",
        "c.html: dead anchor b.html#nowhere",
        "c.html: dead link d.html",
        "c.html: dead link missing.svg",
    ]
