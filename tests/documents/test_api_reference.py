"""The API reference is that of the docstrings, and documents every public name."""

from __future__ import annotations

import inspect

import pytest

import engine
from docs.tools import api_reference
from docs.tools.docstrings import members, parse
from tests.support.paths import ROOT

OBJECTS = [name for page in api_reference.PAGES for name in page.objects]


def test_the_pages_are_fresh() -> None:
    texts = api_reference.texts()
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, text in texts.items()
        if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"run python -m docs.tools.api_reference: {', '.join(stale)}"
    assert set((ROOT / "docs" / "api").glob("*.md")) <= set(texts)


def test_every_public_name_has_a_page() -> None:
    assert api_reference.missing() == []


@pytest.mark.parametrize("name", ["Voice", "vocode", "load", "mel"])
def test_signatures_are_those_of_the_objects(name: str) -> None:
    found = getattr(engine, name)
    listed = {member.name: member for member in members(f"engine.{name}")}
    public = {name: found}
    if inspect.isclass(found):
        public = {
            f"{name}.{key}": value for key, value in vars(found).items() if inspect.isfunction(value) and key[0] != "_"
        }
    assert set(public) <= set(listed)
    for key, function in public.items():
        text = " ".join(listed[key].signatures)
        assert all(
            f"{argument}" in text for argument in inspect.signature(function).parameters if argument != "self"
        ), key


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_has_a_first_line(name: str) -> None:
    for member in members(name):
        assert member.kind == "constant" or member.doc.summary.endswith((".", ":")), member.name


def test_a_docstring_is_split_into_its_sections() -> None:
    doc = parse(
        """Return the sum.

    A paragraph of
    two lines.

    Args:
        a: the first,
            in two lines.
        b: the second: with a colon.

    Returns:
        a + b.
    """
    )
    assert doc.summary == "Return the sum." and doc.body == "A paragraph of\ntwo lines."
    assert doc.items("Args") == [("a", "the first,\nin two lines."), ("b", "the second: with a colon.")]
    assert doc.sections["Returns"] == "a + b." and doc.items("Raises") == []
