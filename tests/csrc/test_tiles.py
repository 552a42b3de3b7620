"""Tests of the tier amx, whose tile instructions are emulated on processors that lack them.

The machine code of the kernels runs as it is; only the tile instructions trap. On a processor with AMX the other tests
run the tier directly.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.kernels import cpu
from tests.csrc import tile_emulation
from tests.csrc.building import needs_compiler
from tests.support.paths import ROOT

SUPPORTED = {name: supported for name, supported, _, _ in cpu.tiers()}
pytestmark = [
    needs_compiler,
    pytest.mark.skipif("amx" not in SUPPORTED, reason="this build has no tier amx"),
    pytest.mark.skipif(SUPPORTED.get("amx", False), reason="this processor has AMX"),
    pytest.mark.skipif(not SUPPORTED.get("avx512bf16", False), reason="this processor has no AVX-512 with BF16"),
]
# The longest of tests/kernels: every number of threads and tile size at 128 channels, and two networks of 30 layers.
LONG = "(128 and neither_threads_nor_tiles) or (sweeps_match_the_reference and (base or large))"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tile_emulation.build(tmp_path_factory.mktemp("emulator"))


def run(emulator: Path, *arguments: str) -> str:
    environment = os.environ | {tile_emulation.LIBRARY: str(emulator), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_kernel_tests(emulator: Path, selection: str) -> str:
    plugins = ["-p", "tests.csrc.tile_emulation", "-p", "no:faulthandler", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return run(emulator, "-m", "pytest", *plugins, "-rs", "tests/kernels", "-k", selection)


def check(printed: str, tests: int, instructions: int) -> None:
    """Check that no test was skipped, that there were as many tests as this, and that they used tile registers."""
    assert "SKIPPED" not in printed, printed[-3000:]
    [passed] = re.findall(r"(\d+) passed", printed)
    [emulated] = re.findall(r"emulated (\d+) tile instructions", printed)
    assert int(passed) >= tests and int(emulated) >= instructions


def test_the_kernels_match_the_reference(emulator: Path) -> None:
    check(run_kernel_tests(emulator, f"amx and not ({LONG})"), 250, 1_000_000)


@pytest.mark.slow
def test_the_kernels_match_the_reference_at_full_size(emulator: Path) -> None:
    check(run_kernel_tests(emulator, f"amx and ({LONG})"), 3, 5_000_000)


BUNDLED = """
import sys
import numpy as np
import tests.csrc.tile_emulation as emulation
import engine

mel = np.load("engine/assets/demo_mel.npy")[:, 90:92]
for precision in ("bf16", "int8"):
    voice = engine.load("voice", device="cpu", isa="amx", precision=precision, threads=2)
    np.save(f"{sys.argv[1]}/{precision}.npy", voice.predict_noise(x := np.load(f"{sys.argv[1]}/x.npy"), 5.0, mel))
    whole = voice.vocode(mel, steps=1)
    assert b"".join(part.tobytes() for part in voice.stream(mel, steps=1)) == whole.tobytes()
print(emulation._emulator.executed_tile_instructions())
"""


def test_the_bundled_voice_has_the_accuracy_of_the_other_tiers(emulator: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert int(run(emulator, "-c", BUNDLED, str(tmp_path))) > 100_000
    mel = np.load(ROOT / "engine" / "assets" / "demo_mel.npy")[:, 90:92]
    exact = engine.load("voice", device="cpu", precision="fp32").predict_noise(x, 5.0, mel)
    for precision in ("bf16", "int8"):
        other = engine.load("voice", device="cpu", isa="avx512bf16", precision=precision).predict_noise(x, 5.0, mel)
        eps = np.load(tmp_path / f"{precision}.npy")
        errors = [float(np.linalg.norm(values - exact)) for values in (eps, other)]
        assert errors[0] < 1.1 * errors[1], (precision, errors)


def test_networks_whose_channels_fill_no_tile_are_refused(emulator: Path) -> None:
    text = """
import tests.csrc.tile_emulation
import engine
from dataclasses import replace
from engine.config import BASE
from engine.kernels import registry

try:
    registry.settle(registry.select(device="cpu", isa="amx"), replace(BASE, residual_channels=48))
except engine.UnavailableError as error:
    print(error)
registry.settle(registry.select(device="cpu", isa="amx"), BASE)
print(*registry.select(device="cpu").reasons, sep="\\n")
"""
    message, *reasons = run(emulator, "-c", text).splitlines()
    assert message == "isa: 'amx' needs a multiple of 64 residual channels, got a network with 48; leave isa out"
    untried = "isa='amx' selects its tile registers, which nobody has measured yet"
    assert reasons[1] == f"isa avx512bf16: the fastest tier with bf16; {untried}"
