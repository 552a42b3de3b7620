"""The wheels of `make wheels`, in dist/: their tags, and that each one speaks in a clean environment.

The wheel for 64-bit Arm runs under qemu with a CPython that debootstrap unpacks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import engine
from csrc.tools.wheels import interpreters
from engine.kernels import cpu
from tests.support.paths import ROOT

pytestmark = pytest.mark.wheels

DIST = ROOT / "dist"
MEL = ROOT / "engine" / "assets" / "demo_mel.npy"
NATIVE = sorted(path.name for path in DIST.glob("*x86_64.whl"))
ARM = sorted(path.name for path in DIST.glob("*aarch64.whl"))
TOOLS = ("qemu-aarch64", "debootstrap")
# The release of Debian whose CPython runs the wheel for Arm, and its version.
DEBIAN, DEBIAN_PYTHON = "bookworm", "3.11"
# Prints the SHA-256 of the audio of every instruction set and precision, of a mel of two frames.
EVERY_TIER = """
import hashlib, sys
import numpy as np, engine
from engine.kernels import cpu
mel = np.load(sys.argv[1])[:, :2]
for isa, supported, _, precisions in cpu.tiers():
    for precision in precisions if supported else []:
        audio = engine.load(device="cpu", isa=isa, precision=precision, threads=2).vocode(mel, steps=6)
        print(isa, precision, hashlib.sha256(audio.tobytes()).hexdigest())
"""
# The interpreter ends while a daemon thread is in the native module and while C++ exceptions have been thrown.
DAEMON = """
import sys, threading, time
import numpy as np, engine
from engine.kernels import cpu
try:
    cpu.peak("none", "fp32", 1, 0.1)
except ValueError as error:
    print(error)
voice, mel = engine.load(device="cpu", threads=2), np.load(sys.argv[1])
def repeat():
    while True:
        voice.vocode(mel[:, :40], steps=6)
threading.Thread(target=repeat, daemon=True).start()
time.sleep(1)
"""


def run(command: list[str | Path], **environment: str) -> str:
    """Run a command that must succeed, outside of the repository; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd="/", env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}: {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the WAV file of the native build: `engine vocode` of the bundled mel."""
    path = tmp_path_factory.mktemp("native") / "demo.wav"
    run([sys.executable, "-m", "engine", "vocode", MEL, "-o", path, "--device", "cpu"], PYTHONPATH=str(ROOT))
    return path.read_bytes()


@pytest.fixture(scope="module")
def native() -> str:
    """Return what the native build prints for every instruction set."""
    printed = run([sys.executable, "-c", EVERY_TIER, MEL], PYTHONPATH=str(ROOT))
    assert len(printed.splitlines()) >= 2
    return printed


def version_of(wheel: str) -> str:
    [(major, minor)] = re.findall(r"-cp(3)(\d+)-", wheel)
    return f"{major}.{minor}"


@pytest.fixture(scope="module", params=NATIVE or [None])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a wheel with numpy and safetensors alone; return the interpreter of that environment."""
    if request.param is None:
        pytest.skip(f"no wheels in {DIST}: make wheels")
    interpreter = interpreters().get(version_of(request.param))
    if interpreter is None:
        pytest.skip(f"no Python {version_of(request.param)}")
    folder = tmp_path_factory.mktemp("clean")
    run([interpreter, "-m", "venv", folder])
    python = folder / "bin" / "python"
    run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", DIST / request.param])
    return python


def test_the_wheel_speaks_like_the_native_build(python: Path, expected: bytes, tmp_path: Path) -> None:
    packages = run([python, "-m", "pip", "list", "--format", "freeze"])
    assert set(re.findall(r"^([\w-]+)==", packages, re.MULTILINE)) - {"pip", "setuptools", "wheel"} == {
        *("diffwave-engine", "numpy", "safetensors")
    }
    run([python.with_name("engine"), "vocode", MEL, "-o", tmp_path / "demo.wav", "--device", "cpu"])
    assert (tmp_path / "demo.wav").read_bytes() == expected


def test_every_instruction_set_of_the_wheel_has_the_bytes_of_the_native_build(python: Path, native: str) -> None:
    assert run([python, "-c", EVERY_TIER, MEL]) == native


def test_a_program_ends_quietly_beside_a_daemon_thread(python: Path) -> None:
    printed = run([python, "-c", DAEMON, MEL])
    assert printed == "isa: expected a tier that this processor supports, got 'none'; see tiers()\n"


@pytest.mark.parametrize("wheel", NATIVE + ARM)
def test_the_wheel_is_for_old_systems(wheel: str, tmp_path: Path) -> None:
    pytest.importorskip("auditwheel")
    architecture = "x86_64" if wheel in NATIVE else "aarch64"
    shown = run([sys.executable, "-m", "auditwheel", "show", DIST / wheel])
    assert f'"manylinux_2_17_{architecture}"' in " ".join(shown.split())
    with zipfile.ZipFile(DIST / wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        [metadata] = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
        assert not [name for name in names if ".libs/" in name], "no library is needed beside the module"
    licenses = re.findall(r"^License-File: (.*)$", metadata, re.MULTILINE)
    assert {"LICENSE", "LICENSE.libcxx", "LICENSE.zig"} == set(licenses)
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == set(licenses)
    assert "WITH LLVM-exception" in metadata


def test_the_source_distribution_is_beside_the_wheels() -> None:
    if not NATIVE:
        pytest.skip(f"no wheels in {DIST}: make wheels")
    with tarfile.open(DIST / f"diffwave_engine-{engine.__version__}.tar.gz") as archive:
        assert any(name.endswith("/csrc/tools/wheels.py") for name in archive.getnames())


@pytest.fixture(scope="module")
def arm_python(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Unpack a Debian for 64-bit Arm with the wheel; return the command of its Python under qemu."""
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    wheels = [name for name in ARM if version_of(name) == DEBIAN_PYTHON]
    if lacking or not wheels:
        pytest.skip(f"no {', '.join(lacking) or 'wheel for Arm'}: apt-get install qemu-user debootstrap; make wheels")
    root = ROOT / "build" / f"debian-{DEBIAN}-arm64"
    if not (root / "unpacked").exists():
        shutil.rmtree(root, ignore_errors=True)
        options = ["--arch=arm64", "--variant=minbase", "--foreign", f"--include=python{DEBIAN_PYTHON}"]
        run([str(shutil.which("debootstrap", path="/usr/sbin:/usr/bin")), *options, DEBIAN, root])
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            run(["dpkg-deb", "--extract", package, root])
        (root / "unpacked").touch()
    packages = tmp_path_factory.mktemp("arm")
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("2014", "_2_17", "_2_28")]
    options = [*platforms, f"--python-version={DEBIAN_PYTHON}", "--only-binary=:all:", f"--target={packages}"]
    run([sys.executable, "-m", "pip", "install", "-q", *options, DIST / wheels[0]])
    return ["qemu-aarch64", "-L", root, "-E", f"PYTHONPATH={packages}", root / f"usr/bin/python{DEBIAN_PYTHON}"]


def test_the_wheel_for_arm_has_the_bytes_of_avx2(arm_python: list[str | Path], native: str) -> None:
    arm, here = (
        dict(line.rsplit(" ", 1) for line in printed.splitlines())
        for printed in (run([*arm_python, "-c", EVERY_TIER, MEL]), native)
    )
    assert {"neon fp32", "neon int8", "generic fp32"} <= set(arm)
    if ("avx2", True) in [tier[:2] for tier in cpu.tiers()]:
        assert [arm["neon fp32"], arm["neon int8"]] == [here["avx2 fp32"], here["avx2 int8"]]
