"""The source distribution, the wheel and the editable install: their content, and that they work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import engine
from engine.kernels import _native
from tests.support.paths import ROOT

REPOSITORY = {".gitignore", ".clang-format", ".ci", ".github"}  # useful only in the repository
RAW_WEIGHTS = "benchmarks/training/"
LARGEST_SDIST = 16_000_000  # bytes; the bundled networks are 13 MB of it
NUMPY_AND_SAFETENSORS = ("numpy", "numpy.libs", "safetensors")
# Stands for the compiler, so that a wheel takes seconds: the library is the one of the checkout.
COMPILER = """#!/bin/sh
for last; do :; done
case "$last" in *.so) cp "{native}" "$last" ;; *) : > "$last" ;; esac
"""
VOCODE = """
import sys, numpy as np, engine
audio = engine.load(device="cpu").vocode(np.load(engine.checkpoint.bundled.ASSETS / "demo_mel.npy")[:, :10], steps=6)
assert audio.shape == (2560,) and np.isfinite(audio).all() and "torch" not in sys.modules
print(engine.__file__, engine.kernels.__file__, engine.kernels._native.__file__, sep="\\n")
"""


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Run a command that must succeed; return what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def files() -> list[str]:
    """List the files of the repository; skip where there is none."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def checkout(files: list[str], folder: Path, link: bool = True) -> Path:
    """Copy the repository; without links, as Git does it on Windows: a link is a file that holds its target."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    if link:
        (folder / "engine" / "kernels").symlink_to("../kernels")
    else:
        (folder / "engine" / "kernels").write_text("../kernels")
    return folder


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("compiler") / "c++"
    path.write_text(COMPILER.format(native=_native.__file__))
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def sdist(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout(files, tmp_path_factory.mktemp("checkout"))
    run([sys.executable, "setup.py", "-q", "sdist"], folder)
    [path] = (folder / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    [inside] = folder.iterdir()
    return inside


def built(source: Path, compiler: str) -> Path:
    """Build a wheel from a source folder."""
    run([sys.executable, "setup.py", "-q", "bdist_wheel"], source, CXX=compiler)
    [path] = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(unpacked: Path, compiler: str) -> Path:
    return built(unpacked, compiler)


def names_in(wheel: Path) -> set[str]:
    """Return the names of a wheel's files, apart from its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    return {name for name in names if ".dist-info/" not in name}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Create a virtual environment with numpy and safetensors; return its interpreter."""
    venv.create(tmp_path / "venv", with_pip=False)
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    for name in NUMPY_AND_SAFETENSORS:
        installed = Path(sysconfig.get_path("platlib"), name)
        if installed.exists():
            Path(sysconfig.get_path("platlib", vars=paths), name).symlink_to(installed)
    return tmp_path / "venv" / "bin" / "python"


def install(python: Path, wheel: Path) -> None:
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", *options, wheel], python.parent)


def test_the_source_distribution_has_every_file(files: list[str], sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {member.partition("/")[2] for member in archive.getnames()}
    needed = {name for name in files if Path(name).parts[0] not in REPOSITORY and not name.startswith(RAW_WEIGHTS)}
    assert needed - packed == set()
    unwanted = (RAW_WEIGHTS, "engine/kernels")  # kernels/ is packed once, under its own name
    assert not [name for name in packed if name.endswith((".so", ".pyc")) or name.startswith(unwanted)]
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes")
    assert sdist.stat().st_size < LARGEST_SDIST


def test_the_wheel_has_the_packages_and_nothing_else(files: list[str], wheel: Path) -> None:
    names = names_in(wheel)
    [native] = [name for name in names if name.endswith(".so")]
    assert native == f"engine/kernels/_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    packaged = (".py", ".pyi", ".cu", ".toml", ".html", ".css", ".js", ".svg", "py.typed")
    inside = [name for name in files if name.startswith("engine/assets/")]
    inside += [name for name in files if name.startswith(("engine/", "kernels/")) and name.endswith(packaged)]
    assert names - {native} == {re.sub("^kernels/", "engine/kernels/", name) for name in inside}
    assert {"engine/py.typed", "engine/kernels/_native.pyi", "engine/kernels/hopper/stack.cu"} <= names


def test_a_module_of_an_older_version_is_not_packed(unpacked: Path, compiler: str, tmp_path: Path) -> None:
    """The build copies into build/lib, packs whatever lies there, and leaves it for the next build."""
    source = shutil.copytree(unpacked, tmp_path / "source", ignore=shutil.ignore_patterns("build", "dist"))
    names = names_in(built(source, compiler))
    [lib] = (source / "build").glob("lib*")
    (lib / "engine" / "removed.py").touch()
    assert names_in(built(source, compiler)) == names


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        head, _, page = archive.read(name).decode().partition("\n\n")
    assert f"\nVersion: {engine.__version__}\n" in head
    assert "\nAuthor: " in head and "\nKeywords: " in head and "\nClassifier: Typing :: Typed\n" in head
    assert [line for line in head.splitlines() if line.startswith("Requires-Dist:") and "extra" not in line] == [
        "Requires-Dist: numpy>=1.26",
        "Requires-Dist: safetensors>=0.4.3",
    ]
    assert page.startswith("# ")
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]


def test_the_wheel_names_the_license_of_its_weights(wheel: Path) -> None:
    """CC BY-SA 4.0, section 3(a)(1)(C): the text of the license, or its address, is given with the material."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        assert "\nLicense-Expression: Apache-2.0 AND CC-BY-SA-4.0\n" in archive.read(name).decode()
        card = archive.read("engine/assets/DIGITS_CARD.md").decode()
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in card
    assert "https://github.com/Jakobovski/free-spoken-digit-dataset" in card


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {engine.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_wheel_vocodes_in_a_clean_environment(wheel: Path, environment: Path, tmp_path: Path) -> None:
    install(environment, wheel)
    folder = str(environment.parents[1] / "lib")
    assert all(line.startswith(folder) for line in run([environment, "-c", VOCODE], tmp_path).splitlines())
    assert "vocode" in run([environment.with_name("engine"), "--help"], tmp_path)


def test_a_checkout_without_links_gives_the_same_wheel(
    files: list[str], wheel: Path, compiler: str, tmp_path: Path
) -> None:
    folder = checkout(files, tmp_path, link=False)
    assert names_in(built(folder, compiler)) == names_in(wheel)


@pytest.mark.parametrize("link", [True, False], ids=["link", "text"])
def test_an_editable_install_uses_the_checkout(
    link: bool, files: list[str], compiler: str, environment: Path, tmp_path: Path
) -> None:
    folder = checkout(files, tmp_path / "checkout", link)
    hook = "import setuptools.build_meta as build; build.build_editable('dist')"
    run([sys.executable, "-c", hook], folder, CXX=compiler)
    [editable] = (folder / "dist").iterdir()
    install(environment, editable)
    package, kernels, native = run([environment, "-c", VOCODE], tmp_path).splitlines()
    assert run([environment, "-c", VOCODE], folder).splitlines()[0] == package  # as the pages do
    assert Path(package) == folder / "engine" / "__init__.py"
    assert Path(kernels).resolve() == folder / "kernels" / "__init__.py"
    assert Path(native).resolve().parent == folder / "kernels"


@pytest.mark.slow
def test_the_source_distribution_alone_compiles_and_vocodes(unpacked: Path, environment: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(unpacked, tmp_path / "source", ignore=shutil.ignore_patterns("build", "dist"))
    install(environment, built(copy, os.environ.get("CXX", "c++")))
    run([environment, "-c", VOCODE], tmp_path)
