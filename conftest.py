"""`pytest --benchmark` runs the benchmarks in earnest; plain `pytest` runs each once, as a smoke test.

pytest-benchmark has no option of that name, only what it is made of.
"""

import pytest


def pytest_addoption(parser):
    """Add --benchmark."""
    parser.addoption("--benchmark", action="store_true", help="run only the benchmarks, timed, with a report")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Turn it into pytest-benchmark's own options."""
    if config.getoption("--benchmark"):
        config.option.benchmark_only = True
        config.option.benchmark_enable = True
    else:
        config.option.benchmark_disable = not config.getoption("benchmark_enable", False)
