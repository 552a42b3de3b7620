"""The pages of the site: links to sources lead to pages of their lines, and a dead link stops the build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools import links, site


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "repository"
    (root / "docs" / "images").mkdir(parents=True)
    (root / "csrc").mkdir()
    (root / "csrc" / "kernel.inl").write_text("int one;\nint two < three;\n")
    (root / "docs" / "images" / "picture.svg").write_text("<svg/>")
    (root / "docs" / "page.md").write_text("# Page\n\n[home](../README.md#title)\n![picture](images/picture.svg)\n")
    (root / "README.md").write_text(
        "# Title\n\n[page](docs/page.md#page) [line](csrc/kernel.inl#L2) [file](csrc/kernel.inl) [folder](csrc)\n"
    )
    for module in (links, site):
        monkeypatch.setattr(module, "ROOT", root)
    return root


def test_pages_are_staged_with_all_that_they_link_to(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    site.stage(folder)
    home, page = (folder / "index.md").read_text(), (folder / "docs" / "page.md").read_text()
    assert "[page](docs/page.md#page)" in home and "[file](csrc/kernel.inl.source.md)" in home
    assert "[line](source:csrc/kernel.inl.source.html#L-2)" in home and "[folder](csrc/README.md)" in home
    assert "[home](../index.md#title)" in page and (folder / "docs" / "images" / "picture.svg").exists()
    assert (tmp_path / "site-files" / "docs" / "images" / "picture.svg").exists()
    source = (folder / "csrc" / "kernel.inl.source.md").read_text()
    assert 'id="L-2"' in source and "&lt;" in source
    assert "kernel.inl" in (folder / "csrc" / "README.md").read_text()


def test_other_folders_are_not_replaced(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").touch()
    with pytest.raises(
        SystemExit, match=r"home: expected a new folder or one that this program wrote, got other files"
    ):
        site.stage(folder)
    assert (folder / "letter.txt").exists()
    (folder / "letter.txt").unlink()
    site.stage(folder)
    (folder / "stale.md").touch()
    site.stage(folder)
    assert not (folder / "stale.md").exists()


def test_a_dead_link_stops_the_build(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "docs" / "page.md").write_text("[gone](gone.md)\n[home](../README.md#gone)\n")
    monkeypatch.setattr("sys.argv", ["site", str(tmp_path / "pages")])
    with pytest.raises(SystemExit, match=re.escape("docs/page.md: gone.md: no file docs/gone.md")) as stopped:
        site.main()
    assert "docs/page.md: ../README.md#gone: no heading #gone" in str(stopped.value)
    assert not (tmp_path / "pages").exists()


def test_the_navigation_names_pages() -> None:
    names = [name for group in site.NAVIGATION.values() for name in group]
    assert len(set(names)) == len(names) and all((site.ROOT / f"{name}.md").exists() for name in names)
