"""The pages in docs/ stay true: their Python runs, their commands parse, figures repeat."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import bundled
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.main import build_parser
from engine.config import SC09
from engine.errors import UnavailableError
from engine.voice import api
from tests.support import symptoms
from tests.support.hub import Repository, cached_repository, running_hub, use_hub
from tests.support.layouts import LAYOUTS, random_checkpoint
from tests.support.networks import random_network
from tests.support.paths import ROOT

DIGITS = replace(
    SC09,
    residual_channels=16,
    residual_layers=4,
    clip_samples=800,
    classes=tuple(f"{digit} {who}" for digit in range(10) for who in ("jackson", "nicolas", "theo")),
    guidance=2.0,
)
PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMANDS = [
    (page.name, command)
    for page in PAGES
    for command in re.findall(r"^    (engine .*?)(?:  +#.*)?$", page.read_text(), flags=re.MULTILINE)
]


@pytest.fixture
def exits() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)  # snippets may write, and find what they read as in the project's root
    (tmp_path / "engine").symlink_to(ROOT / "engine")
    if page.name == "checkpoints.md":
        for layout in LAYOUTS:
            (tmp_path / layout).mkdir()
            random_checkpoint(tmp_path / layout, layout)
    if page.name == "compat.md":
        pytest.importorskip("yaml", reason="PyYAML is in the extra 'hub'")
        sizes = {"n_mels": 80, "upsample_strides": (16, 16)}
        for name, layout in (("model_dir", "lmnt"), ("vocoder", "speechbrain")):
            (tmp_path / name).mkdir()
            random_checkpoint(tmp_path / name, layout, **sizes)
        settings = "sample_rate: 22050\ndilation_cycle_length: 2\ntrain_timesteps: 50\n"
        (tmp_path / "vocoder" / "hyperparams.yaml").write_text(settings)
    if page.name == "hub.md":
        stack = request.getfixturevalue("exits")
        hub = stack.enter_context(running_hub())
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        random_checkpoint(tmp_path, "lmnt")
        files = {"weights.pt": (tmp_path / "weights.pt").read_bytes()}
        hub.repositories["owner/name"] = Repository(files, ("main", "v1.0"))
        cached_repository(tmp_path / "hub", "owner/name", files)
    if page.name == "training.md":
        (tmp_path / "my-voice.safetensors").symlink_to(bundled.BUNDLED)
        np.save(tmp_path / "mel.npy", np.load(bundled.ASSETS / "demo_mel.npy")[:, :20])
    # Small stand-ins: the bundled networks would take minutes, or are not there.
    if page.name in ("generation.md", "quickstart.md"):
        (tmp_path / "voice.safetensors").symlink_to(bundled.BUNDLED)
        for name, config in (("digits", DIGITS), ("digits-unconditional", replace(DIGITS, classes=(), guidance=0.0))):
            save_checkpoint(tmp_path / f"{name}.safetensors", Checkpoint(config, random_network(config, 0)))
        monkeypatch.setattr(bundled, "ASSETS", tmp_path)
        api.bundled_voice.cache_clear()
        request.addfinalizer(api.bundled_voice.cache_clear)
    scope: dict[str, object] = {"__name__": "snippet"}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        try:
            exec(compile(block, page.name, "exec"), scope)
        except UnavailableError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_commands_are_what_the_program_understands(page: str, command: str) -> None:
    build_parser().parse_args(command.split()[1:])


def test_installations_in_the_source_folder_are_editable() -> None:
    """Python in that folder imports its package, without the native module of a copy that was installed elsewhere."""
    places = [*PAGES, ROOT / "README.md", *(ROOT / "examples").glob("*.*")]
    copies = {path.name: re.findall(r"pip install '?\.(?![\w/]).*", path.read_text()) for path in places}
    assert {name: len(found) for name, found in copies.items() if found} == {"installation.md": 1, "quickstart.md": 1}
    for name in ("installation.md", "quickstart.md"):  # which state where a copy serves
        assert "other folders" in copies[name][0]


def symptom_rows() -> dict[str, list[str]]:
    """Return the rows of the table in docs/mels.md by their first column."""
    page = ROOT / "docs" / "mels.md"
    if not page.exists():
        pytest.skip("the pages are not beside the tests")
    table = page.read_text().partition("| input | check |")[2]
    rows = itertools.takewhile(lambda line: line.startswith("|"), table.splitlines()[2:])
    cells = [re.split(r" *\| *", line.strip("| ")) for line in rows]
    return {first: rest for first, *rest in cells}


def test_symptoms_are_those_of_the_recipes() -> None:
    rows = symptom_rows()
    assert list(rows) == list(symptoms.CASES)
    for name, refused in symptoms.refused().items():
        assert rows[name][0] == ("refused" if refused else "no"), name


@pytest.mark.slow
def test_symptoms_repeat() -> None:
    rows, measured = symptom_rows(), symptoms.measure()
    fresh = "\n".join(f"| {name} | {symptom.row()} |" for name, symptom in measured.items())
    for name, symptom in measured.items():
        level, flatness, likeness, length = map(float, rows[name][1:5])
        assert abs(symptom.level - level) < 1.5, f"{name}\n{fresh}"
        assert abs(np.log(symptom.flatness / flatness)) < np.log(1.5), f"{name}\n{fresh}"
        assert abs(symptom.likeness - likeness) < 0.06, f"{name}\n{fresh}"
        assert abs(symptom.length - length) < 0.006, f"{name}\n{fresh}"
