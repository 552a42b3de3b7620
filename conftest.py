"""`pytest --benchmark` runs the benchmarks in earnest; plain `pytest` runs each once, as a smoke test.

pytest-benchmark has no option of that name, only what it is made of.
"""

import os
import sys
from pathlib import Path

import pytest

# PyTorch's OpenMP reads it once, when it is loaded. Its threads spin while they wait, and beside a busy neighbour that
# alone made PyTorch five times slower: a rival must not look slow for that.
TOO_LATE = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser):
    """Add --benchmark and --results."""
    parser.addoption("--benchmark", action="store_true", help="run only the benchmarks, timed, with a report")
    parser.addoption("--results", metavar="FILE", help="write that report's figures as JSON; say --results=FILE")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Turn it into pytest-benchmark's own options."""
    results = config.getoption("--results")
    if results and not (config.getoption("--benchmark") and Path(results).parent.is_dir()):
        raise pytest.UsageError(f"--results: expected --benchmark and a file in an existing folder, got {results}")
    if config.getoption("--benchmark"):
        if TOO_LATE:
            raise pytest.UsageError(
                "--benchmark: expected to set OMP_WAIT_POLICY before torch is imported, it was after"
            )
        config.option.benchmark_only = True
        if config.args_source == pytest.Config.ArgsSource.TESTPATHS:
            config.args = [str(config.rootpath / "benchmarks")]
        config.option.benchmark_enable = True
    else:
        config.option.benchmark_disable = not config.getoption("benchmark_enable", False)
