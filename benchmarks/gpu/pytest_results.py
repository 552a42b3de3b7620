"""A pytest plugin for `make gpu`: the outcome of every test in a JSON file as soon as it is known.

python -m pytest -p benchmarks.gpu.pytest_results --gpu-results=FILE tests/gpu/test_on_gpu.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.results import Results

RESULTS: pytest.StashKey[Results] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --gpu-results."""
    parser.addoption("--gpu-results", metavar="FILE", type=Path, help="write the outcome of every test as JSON")


class Outcomes:
    """Writes the outcome of every test."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that ran, was skipped, or failed before it ran."""
        if report.when != "call" and report.outcome == "passed":
            return
        row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.outcome != "passed":
            row["why"] = str(report.longrepr)[-1500:]
        self.results.add("tests", row)


def pytest_configure(config: pytest.Config) -> None:
    """Begin the file, in the process that hears of all tests where several share them."""
    path = config.getoption("--gpu-results")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Results(path, {})), "gpu-outcomes")
