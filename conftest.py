"""`pytest --benchmark` runs the benchmarks in earnest; plain `pytest` runs each once, as a smoke test.

pytest-benchmark has no option of that name, only what it is made of.
"""

from pathlib import Path

import pytest


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
        config.option.benchmark_only = True
        if config.args_source == pytest.Config.ArgsSource.TESTPATHS:
            config.args = [str(config.rootpath / "benchmarks")]
        config.option.benchmark_enable = True
    else:
        config.option.benchmark_disable = not config.getoption("benchmark_enable", False)
