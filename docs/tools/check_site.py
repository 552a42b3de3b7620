"""Check a built site: python -m docs.tools.check_site build/site.

Every link between its pages leads to a file and an anchor of it, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "link": "href", "img": "src", "audio": "src", "source": "src", "iframe": "src"}


class _Page(HTMLParser):
    """Links, loaded files and anchors of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in LOADED and LOADED[tag] in values and values.get("rel") != "canonical":
            self.loaded.append(values[LOADED[tag]])


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def problems(site: Path) -> list[str]:
    """Return what is wrong with the site, a line each."""
    messages = []
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import)\s*[\"']?((?:\w+:)?//[^\"')\s]+)", path.read_text()):
            messages.append(f"{path.relative_to(site)}: loads {address}; expected a file of the site")
    for path in sorted(site.rglob("*.html")):
        page, name = _read(path), path.relative_to(site)
        for address in page.loaded:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//"):
                messages.append(f"{name}: loads {address}; expected a file of the site")
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                messages.append(f"{name}: dead link {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in _read(target).anchors:
                messages.append(f"{name}: dead anchor {link}")
    return messages


def main() -> None:
    """Print the problems of the site named on the command line; fail if there is one."""
    site = Path(sys.argv[1]).resolve()
    count = len(list(site.rglob("*.html")))
    messages = problems(site)
    print("\n".join(messages) or f"{count} pages, no dead link, nothing loaded from elsewhere")
    if messages or not count:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
