"""Triton's interpreter is chosen when Triton is imported, so its tests run in processes of their own (conftest.py)."""

import re
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (Path(__file__).parent / "interpreted").glob("test_*.py"))
)
def test_interpreted(name, interpreted):
    status, output = interpreted(name)
    assert status == 0, output
    passed = re.search(r"(\d+) passed", output)
    assert passed and int(passed[1]) > 0, output
