"""Folders of results that are not as a job expects them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.bulk.job import JOB, LOCKS, Folder, existing, working_in
from engine.errors import InputError

IDENTITY = {"task": "vocode", "steps": 6}
TARGETS = ["a.wav", "s/b.wav"]


@contextmanager
def opened(path: Path, overwrite: bool = False, **changes: Any) -> Iterator[Folder]:
    with working_in(path, {**IDENTITY, **changes}, TARGETS, TARGETS, shard=(1, 1), overwrite=overwrite) as folder:
        yield folder


def refusal(path: Path, **options: Any) -> str:
    """Return the error of a folder that is refused, and check that nothing appears in it."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(InputError) as error, opened(path, **options):
        pass
    assert sorted(path.parent.rglob("*")) == before
    return str(error.value)


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    expected = f"-o: cannot write into '{tmp_path}/out': it is a link to 'nowhere', which does not exist"
    assert refusal(tmp_path / "out") == expected
    (tmp_path / "loop").symlink_to("loop")
    assert refusal(tmp_path / "loop").endswith("/loop': Too many levels of symbolic links")


def test_a_file_in_place_of_the_locks(tmp_path: Path) -> None:
    (tmp_path / LOCKS).touch()
    assert refusal(tmp_path) == f"-o: cannot write into '{tmp_path}': '{tmp_path}/{LOCKS}' is not a directory"


def test_a_folder_that_is_refused_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"mine")
    assert "of no known job" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", '{"task": "voc', "[1]", '{"since": "x"}', "[" * 100_000])
def test_a_damaged_description_is_replaced_on_request(tmp_path: Path, content: str) -> None:
    (tmp_path / JOB).write_text(content)
    (tmp_path / "a.wav").write_bytes(b"of an unknown job")
    remedy = "; use another folder, or --overwrite to start the job anew"
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / JOB}: expected the description of a job, got") and message.endswith(remedy)
    with pytest.raises(InputError, match="expected the description of a job"):
        existing(tmp_path, IDENTITY, TARGETS)
    with opened(tmp_path, overwrite=True) as folder:
        assert not folder.is_done("a.wav")
    with opened(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_no_description(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / JOB)
    assert "expected the description of a job, got no regular file" in refusal(tmp_path)


def test_only_a_file_with_content_is_a_result(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        (tmp_path / "a.wav").mkdir()
        assert not folder.is_done("a.wav")
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "b.wav").touch()
        assert not folder.is_done("s/b.wav")
        (tmp_path / "s" / "b.wav").write_bytes(b"audio")
        assert folder.is_done("s/b.wav") and not folder.is_done("s/b.wav/c")
    (tmp_path / "a.wav" / "mine").touch()
    with opened(tmp_path, overwrite=True) as folder:  # the item fails when its result is written
        assert not any(map(folder.is_done, TARGETS)) and (tmp_path / "a.wav" / "mine").exists()


def test_results_from_the_future_are_those_of_the_earlier_job(tmp_path: Path) -> None:
    """A clock that was set back must not turn the results of another job into those of the new one."""
    with opened(tmp_path):
        for target in TARGETS:
            (tmp_path / target).parent.mkdir(exist_ok=True)
            (tmp_path / target).write_bytes(b"of the earlier job")
        os.utime(tmp_path / "a.wav", (4e9, 4e9))
    with opened(tmp_path, overwrite=True, steps=50) as folder:
        assert not any(map(folder.is_done, TARGETS)) and (tmp_path / "s" / "b.wav").exists()


def test_a_preview_refuses_impossible_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name, message in {
        "file": "it is not a directory",
        "file/new": f"there is no directory '{tmp_path}/file'",
        "absent/new": f"there is no directory '{tmp_path}/absent'",
        "link": "it is a link to 'nowhere', which does not exist",
    }.items():
        with pytest.raises(InputError) as error:
            existing(tmp_path / name, IDENTITY, TARGETS)
        assert str(error.value) == f"-o: cannot write into '{tmp_path / name}': {message}"
    assert not existing(tmp_path / "new", IDENTITY, TARGETS).is_done("a.wav")
