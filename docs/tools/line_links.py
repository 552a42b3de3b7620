"""Links to lines of code: keep their line numbers true.

    python -m docs.tools.line_links    # rewrite the line numbers in all pages

A link such as [`def residual_block`](../kernels/reference.py#L10) points at the only line of the file that contains the
code in its text.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.tools.links import pages

LINK = re.compile(r"\[`(?P<code>[^`\n]+)`\]\((?P<path>[^)#\s]+)#L(?P<line>\d+)\)")


def line_of(code: str, source: str) -> int:
    """Return the number of the only line that contains the code as whole words.

    Raises:
        ValueError: no line or several lines contain it.
    """
    pattern = re.compile(rf"(?<!\w){re.escape(code)}(?!\w)")
    numbers = [number for number, line in enumerate(source.splitlines(), start=1) if pattern.search(line)]
    if len(numbers) != 1:
        raise ValueError(f"`{code}`: expected one line with it, got {len(numbers)}")
    return numbers[0]


def rewritten(page: Path) -> str:
    """Return the text of a page with the line numbers that its links should have.

    Raises:
        ValueError: see `line_of`; the message names the page and the file.
    """

    def link(match: re.Match[str]) -> str:
        try:
            line = line_of(match["code"], (page.parent / match["path"]).read_text())
        except ValueError as error:
            raise ValueError(f"{page.name}: {match['path']}: {error}") from None
        return f"[`{match['code']}`]({match['path']}#L{line})"

    return LINK.sub(link, page.read_text())


def main() -> None:
    """Rewrite the line numbers in all pages."""
    for page in pages():
        text = rewritten(page)
        if text != page.read_text():
            page.write_text(text, encoding="utf-8")
            print(f"wrote: {page}")


if __name__ == "__main__":
    main()
