"""Stage the pages of the site: python -m docs.tools.site build/site-pages; `make docs` then runs Sphinx on them.

Pages link to files outside of docs/: other pages, sources, results. So the site has the folders of the repository. It
holds every page and everything that a page links to. A source file becomes a page with an anchor per line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from docs.tools.links import ROOT, dead_links, links, pages

# Files that a browser opens itself.
RAW = {".svg", ".png", ".jpg", ".wav", ".html", ".npy", ".safetensors", ".json", ".ipynb"}
LEXERS = {".inl": "file.cpp", ".cu": "file.cpp", ".h": "file.cpp"}
SOURCE = ".source.md"  # ends the name of the page of a source file
# The order of the pages in the navigation, by topic; pages that are not named here are reached by links.
NAVIGATION = {
    "Start": (
        "docs/index",
        "docs/quickstart",
        "docs/installation",
        "examples/README",
        "docs/samples/README",
        "docs/cli",
        "docs/api",
    ),
    "Guides": (
        "docs/checkpoints",
        "docs/hub",
        "docs/compat",
        "docs/mels",
        "docs/front-ends",
        "docs/streaming",
        "docs/steps",
        "docs/many-files",
        "docs/serving",
        "docs/generation",
        "docs/training",
        "docs/quality",
        "docs/gpu",
    ),
    "Background": ("docs/performance", "docs/kernels", "docs/gpu-roofline", "RELIABILITY"),
    "Project": ("CONTRIBUTING", "CHANGELOG", "csrc/README", "kernels/README", "benchmarks/README", "tests/README"),
    "API": tuple(f"docs/api/{path.stem}" for path in sorted((ROOT / "docs" / "api").glob("*.md"))),
}


def stage(folder: Path) -> None:
    """Write all pages into a folder, with everything that they link to.

    Args:
        folder: is replaced, if an earlier call wrote it.

    Raises:
        SystemExit: it holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not extra(folder).is_dir():
        raise SystemExit(f"{folder}: expected a new folder or one that this program wrote, got other files")
    for place in (folder, extra(folder)):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    for page in pages():
        text = page.read_text()
        for link in sorted(set(links(text)), key=len, reverse=True):
            target = _target(page, link)
            if target is not None:
                _stage_target(folder, target)
                text = text.replace(f"]({link})", f"]({_rewritten(page, link, target)})")
        _write(folder / _page_name(page), text if page != ROOT / "README.md" else text + _toctrees())


def extra(folder: Path) -> Path:
    """Return the folder of the files that Sphinx copies as they are: an HTML tag in a page may name one."""
    return folder.with_name("site-files")


def _page_name(path: Path) -> Path:
    return Path("index.md") if path == ROOT / "README.md" else path.relative_to(ROOT)


def _toctrees() -> str:
    """Return the navigation, as directives at the end of the first page."""
    parts = []
    for caption, names in NAVIGATION.items():
        present = [name for name in names if (ROOT / f"{name}.md").exists()]
        parts.append(
            "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", ":maxdepth: 1", "", *present, "```"])
        )
    return "\n" + "\n\n".join(parts) + "\n"


def _target(page: Path, link: str) -> Path | None:
    """Return the file or folder of the repository that a link leads to; None for a link to elsewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    target = (page.parent / unquote(parts.path)).resolve()
    return target if target.exists() and ROOT in target.parents else None


def _stage_target(folder: Path, target: Path) -> None:
    """Put the target of a link beside the pages, unless it is a page itself."""
    name = target.relative_to(ROOT)
    if target.is_dir():
        if _index(target) is None:
            files = sorted(path.name + "/" * path.is_dir() for path in target.iterdir() if path.name[0] not in "._")
            _write(folder / name / "README.md", f"# {name}\n\n" + "\n".join(f"- `{file}`" for file in files) + "\n")
    elif _is_raw(target):
        for place in (folder / name, extra(folder) / name):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, place)
    elif target.suffix != ".md":
        _write(folder / f"{name}{SOURCE}", f"# {name}\n\n```{{raw}} html\n{_highlighted(target)}\n```\n")


def _is_raw(path: Path) -> bool:
    """Return whether a browser opens a file itself: pictures, sound, data and all that is not UTF-8 text."""
    if path.suffix in RAW:
        return True
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _highlighted(path: Path) -> str:
    """Return a source file as HTML, in which line 10 has the anchor L-10."""
    try:
        lexer = get_lexer_for_filename(LEXERS.get(path.suffix, path.name))
    except ClassNotFound:
        lexer = TextLexer()
    return str(highlight(path.read_text(), lexer, HtmlFormatter(cssclass="highlight", lineanchors="L")))


def _index(folder: Path) -> Path | None:
    return next((folder / name for name in ("README.md", "index.md") if (folder / name).exists()), None)


def _rewritten(page: Path, link: str, target: Path) -> str:
    """Return the link as it leads from the staged page to the staged target."""
    fragment = urlsplit(link).fragment
    if target.is_dir():
        goal = _page_name(_index(target) or target / "README.md")
    elif target.suffix == ".md":
        goal = _page_name(target)
    elif _is_raw(target):
        goal, fragment = target.relative_to(ROOT), ""
    else:
        goal = Path(f"{target.relative_to(ROOT)}{SOURCE}")
        line = re.match(r"L(\d+)", fragment)
        if line:  # Sphinx does not know these anchors: docs/conf.py turns the scheme into a plain address
            return f"source:{os.path.relpath(goal.with_suffix('.html'), _page_name(page).parent)}#L-{line[1]}"
    path = os.path.relpath(goal, _page_name(page).parent)
    return f"{path}#{fragment}" if fragment else path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main() -> None:
    """Stage the pages into the folder named on the command line; fail if a page has a dead link."""
    problems = [f"{page.relative_to(ROOT)}: {problem}" for page in pages() for problem in dead_links(page)]
    if problems:
        raise SystemExit("\n".join(problems))
    stage(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
