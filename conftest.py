"""The options --benchmark and --results of pytest.

`pytest --benchmark` times the benchmarks; plain `pytest` runs each once, as a smoke test. pytest-benchmark itself has
no option for both.
"""

import os
import sys
from pathlib import Path

import pytest

# PyTorch's OpenMP reads it once, when it is loaded. Its threads spin while they wait by default; beside a busy neighbor
# that alone makes PyTorch five times slower, which would flatter this engine in a comparison.
TOO_LATE = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --benchmark and --results."""
    parser.addoption("--benchmark", action="store_true", help="run only the benchmarks, timed, with a report")
    parser.addoption("--results", metavar="FILE", help="write the figures of the report as JSON; say --results=FILE")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Turn the options into those of pytest-benchmark."""
    results = config.getoption("--results")
    if results and not (config.getoption("--benchmark") and Path(results).parent.is_dir()):
        raise pytest.UsageError(f"--results: expected --benchmark and a file in an existing folder, got {results}")
    if config.getoption("--benchmark"):
        if TOO_LATE:
            raise pytest.UsageError(
                "--benchmark: expected OMP_WAIT_POLICY to be set before torch is imported; set it in the environment"
            )
        config.option.benchmark_only = True
        if config.args_source == pytest.Config.ArgsSource.TESTPATHS:
            config.args = [str(config.rootpath / "benchmarks")]
        config.option.benchmark_enable = True
    else:
        config.option.benchmark_disable = not config.getoption("benchmark_enable", False)
