"""The folder of a job: what is done, whose results they are, the list of failures, and locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.bulk import locks
from engine.bulk.items import Item
from engine.bulk.job import FAILED, JOB, Folder, existing, working_in
from engine.bulk.locks import locked
from engine.errors import InputError
from tests.engine.bulk.jobs import ENVIRONMENT

IDENTITY = {"task": "vocode", "steps": 6}
TARGETS = ["a.wav", "s/b.wav"]


@contextmanager
def opened(path: Path, shard: tuple[int, int] = (1, 1), overwrite: bool = False, **changes: Any) -> Iterator[Folder]:
    with working_in(path, {**IDENTITY, **changes}, TARGETS, TARGETS, shard=shard, overwrite=overwrite) as folder:
        yield folder


def write(folder: Folder, *targets: str) -> None:
    for target in targets:
        (folder.path / target).parent.mkdir(exist_ok=True)
        (folder.path / target).write_bytes(b"audio")


def test_results_count_as_done(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as folder:
        assert not any(map(folder.is_done, TARGETS))
        write(folder, "s/b.wav")
    with opened(tmp_path / "out") as folder:
        assert [folder.is_done(target) for target in TARGETS] == [False, True]
    assert json.loads((tmp_path / "out" / JOB).read_text()) == IDENTITY


def test_results_of_another_job_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        write(folder, *TARGETS)
    message = "got steps 6 there and 50 now; use another folder, or --overwrite to start the job anew"
    with pytest.raises(InputError, match="-o: expected results of the same job") as error, opened(tmp_path, steps=50):
        pass
    assert message in str(error.value)
    digests = {"checkpoint": "c" * 64, "network": "d" * 64, "a": "e" * 64, "zeta": 3}
    with pytest.raises(InputError, match="got steps 6 there and 50 now, zeta null there and 3 now, "):
        existing(tmp_path, {**IDENTITY, "steps": 50, **digests}, TARGETS)
    with pytest.raises(InputError, match="got steps 6 there"):
        existing(tmp_path, {**IDENTITY, "steps": 50}, TARGETS)
    with opened(tmp_path) as folder:  # nothing has changed
        assert all(map(folder.is_done, TARGETS))


def test_results_of_no_known_job_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"mine")
    message = r"got '.*a\.wav' of no known job; use another folder, or --overwrite"
    with pytest.raises(InputError, match=message), opened(tmp_path):
        pass
    assert not (tmp_path / JOB).exists() and (tmp_path / "a.wav").read_bytes() == b"mine"


def test_overwriting_another_job_counts_none_of_its_results(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        write(folder, *TARGETS, "elsewhere.wav")
    with opened(tmp_path, overwrite=True, steps=50) as folder:
        assert not any(map(folder.is_done, [*TARGETS, "elsewhere.wav"]))
        assert (tmp_path / "a.wav").exists()  # until it is replaced
        os.utime(tmp_path / "a.wav", ns=(0, folder.since + 1))
    with opened(tmp_path, steps=50) as folder:  # the new job resumes
        assert [folder.is_done(target) for target in TARGETS] == [True, False]
    assert existing(tmp_path, {**IDENTITY, "steps": 50}, TARGETS).is_done("a.wav")


def test_overwriting_the_same_job(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        write(folder, *TARGETS)
    with opened(tmp_path, overwrite=True) as folder:
        assert not any(map(folder.is_done, TARGETS))


def test_failures_are_listed_until_they_are_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        for name in ("a", "b", "c"):
            folder.add_failure(Item(name, Path(f"{name}\udcff.npy")), "broken")
        lines = [json.loads(line) for line in (tmp_path / FAILED).read_text().splitlines()]
        assert lines[0] == {"id": "a", "path": "a\udcff.npy", "reason": "broken"}
        folder.forget_failures(["a", "c"], ["a", "b", "c"])
        assert [json.loads(line)["id"] for line in (tmp_path / FAILED).read_text().splitlines()] == ["b"]
        folder.forget_failures(["b"], ["b"])
        assert not (tmp_path / FAILED).exists()


def test_a_failure_after_a_line_that_is_cut_off(tmp_path: Path) -> None:
    """As after a full disk or a kill: the next shard begins a line of its own."""
    with opened(tmp_path) as folder:
        (tmp_path / FAILED).write_text('{"id": "a", "pa')
        folder.add_failure(Item("b", Path("b.npy")), "broken")
        assert json.loads((tmp_path / FAILED).read_text().splitlines()[1])["id"] == "b"
        folder.forget_failures([], ["a", "b"])
        assert [json.loads(line)["id"] for line in (tmp_path / FAILED).read_text().splitlines()] == ["b"]


def test_failures_of_inputs_that_are_gone_are_not_listed(tmp_path: Path) -> None:
    there = tmp_path / "there.npy"
    there.write_bytes(b"x")
    with opened(tmp_path / "out") as folder:
        folder.add_failure(Item("there", there), "broken")
        folder.add_failure(Item("gone", tmp_path / "gone.npy"), "broken")
        folder.add_failure(Item("of another shard", tmp_path / "missing.npy"), "no such file")
        folder.forget_failures([], ["of another shard"])
        lines = (tmp_path / "out" / FAILED).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["there", "of another shard"]


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        ((1, 1), (1, 1), False),
        ((1, 3), (1, 3), False),
        ((1, 3), (2, 3), True),
        ((1, 3), (1, 1), False),
        ((1, 1), (2, 3), False),
        ((1, 3), (2, 2), False),
    ],
)
def test_two_processes_share_a_folder_by_shards_alone(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int], allowed: bool
) -> None:
    with opened(tmp_path, shard=first):
        if allowed:
            with opened(tmp_path, shard=second):
                pass
        else:
            with (
                pytest.raises(InputError, match="another process writes into") as error,
                opened(tmp_path, shard=second),
            ):
                pass
            assert "would be done twice" in str(error.value)
    with opened(tmp_path, shard=second):  # free again
        pass


def test_another_job_cannot_begin_beside_a_shard(tmp_path: Path) -> None:
    error = pytest.raises(InputError, match="wait until it ends before --overwrite")
    with opened(tmp_path, shard=(1, 3)), error, opened(tmp_path, shard=(2, 3), overwrite=True, steps=50):
        pass


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from engine.bulk.locks import locked\n"
        "with locked(Path(sys.argv[1])) as held:\n    print(held, flush=True)\n    time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        with locked(tmp_path / "lock") as held:
            assert not held
        process.kill()
        process.wait()
    with locked(tmp_path / "lock") as held:
        assert held


def test_a_file_system_without_locks_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def flock(descriptor: int, mode: int) -> None:
        raise OSError(locks.errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    warning = pytest.warns(UserWarning, match="has no locks .*; do not run one job twice at once")
    with warning, locked(tmp_path / "lock") as held:
        assert held


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in {"file": "it is not a directory", "absent/out": "there is no directory"}.items():
        with pytest.raises(InputError, match=message), opened(tmp_path / path):
            pass
    (tmp_path / JOB).write_text("{")
    with pytest.raises(InputError, match="expected the description of a job"), opened(tmp_path):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not existing(tmp_path / "new", IDENTITY, TARGETS).is_done("a.wav")
