"""All tests of training use one thread of PyTorch: the sums of several threads have no fixed order."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread(one_torch_thread: None) -> None:
    """Apply the shared fixture to every module here."""
