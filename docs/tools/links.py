"""Read the links and anchors of Markdown pages, and find those that are dead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = {"build", "dist", "node_modules"}  # besides every name that begins with a dot


def pages() -> list[Path]:
    """Return the Markdown pages of the repository."""
    return [path for path in sorted(ROOT.rglob("*.md")) if _is_visible(path.relative_to(ROOT))]


def _is_visible(path: Path) -> bool:
    # engine/kernels is a link to kernels/: rglob may or may not follow it.
    return not any(part.startswith(".") or part in HIDDEN for part in path.parts) and path.parts[:2] != (
        "engine",
        "kernels",
    )


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and the site compute it."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.replace("`", "").strip().lower()).replace(" ", "-")


def prose(text: str) -> str:
    """Return a page without its code: fenced blocks and code spans."""
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(text: str) -> Iterator[str]:
    """Yield the targets of a page's links and images."""
    yield from re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", prose(text))
    yield from re.findall(r"^\[[^\]]+\]:\s+(\S+)", prose(text), flags=re.MULTILINE)
    yield from re.findall(r"<(?:a|img|audio|source)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"", prose(text))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: those of its headings, and ids of its HTML."""
    text = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    counts: dict[str, int] = {}
    names = set(re.findall(r"<[^>]*\b(?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.*?)(?: +#+)?$", text, flags=re.MULTILINE):
        anchor = slug(heading)
        number = counts.get(anchor, 0)
        counts[anchor] = number + 1
        names.add(f"{anchor}-{number}" if number else anchor)
    return names


def dead_links(page: Path) -> list[str]:
    """Return what is wrong with each dead link of a page.

    A link into the repository must name a file or folder there, and an anchor of it: a heading of a page, or lines
    "L10" or "L10-L20" of another file. A link to elsewhere is only checked for its syntax.
    """
    problems = []
    for link in links(page.read_text()):
        problem = _problem(page, link)
        if problem:
            problems.append(f"{link}: {problem}")
    return problems


def _problem(page: Path, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme == "mailto":
        return None
    if parts.scheme or parts.netloc:
        valid = parts.scheme in ("http", "https") and re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc)
        return None if valid else "expected an address such as https://host/path"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if ROOT not in (target, *target.parents):
        return "expected a file of the repository"
    if not target.exists():
        return f"no file {target.relative_to(ROOT)}"
    if not parts.fragment:
        return None
    if target.suffix == ".md":
        return None if parts.fragment in anchors(target.read_text()) else f"no heading #{parts.fragment}"
    lines = re.fullmatch(r"L(\d+)(?:-L(\d+))?", parts.fragment)
    if not lines or target.is_dir():
        return "expected an anchor such as #L10 of a file"
    length = len(target.read_text().splitlines())
    return None if all(1 <= int(line) <= length for line in lines.groups() if line) else f"the file has {length} lines"


def main() -> None:
    """Print the dead links of all pages; fail if there is one."""
    problems = [f"{page.relative_to(ROOT)}: {problem}" for page in pages() for problem in dead_links(page)]
    print("\n".join(problems) or f"{len(pages())} pages without a dead link")
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
