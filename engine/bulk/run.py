"""One run of a job: the folder, the plan, a driver, and the account of what became of every item."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.bulk.inputs import Input, find_items
from engine.bulk.items import Item, shard_of, targets_of
from engine.bulk.job import Folder, existing, working_in
from engine.bulk.plan import length_of, plan_works
from engine.bulk.summary import BulkProgress, Summary
from engine.bulk.tasks import Outcome, Settings, Work, Worker
from engine.bulk.workers import run_workers
from engine.checks.output_files import check_folder
from engine.config import Config
from engine.errors import InputError

_LOG = logging.getLogger(__name__)
Outcomes = Generator[Outcome, None, None]
# Processes work in the folder of a job, and yields what became of every item.
Driver = Callable[[Sequence[Work], Folder], Outcomes]


@dataclass(frozen=True)
class Request:
    """A job as its caller described it, after the checks.

    Attributes:
        inputs: see `engine.bulk.inputs.find_items`.
        folder: of the results.
        suffixes: of the files that a folder is searched for.
        identity: everything that the bytes of the results depend on.
        config: of the network.
        settings: of the workers.
        seed: of the job.
        shard: its number and the number of shards.
        overwrite: whether earlier results do not count.
    """

    inputs: Sequence[Input]
    folder: Path
    suffixes: frozenset[str]
    identity: Mapping[str, Any]
    config: Config
    settings: Settings
    seed: int = 0
    shard: tuple[int, int] = (1, 1)
    overwrite: bool = False


def run(request: Request, driver: Driver, progress: BulkProgress | None) -> Summary:
    """Do everything that is not done yet.

    Args:
        request: the job.
        driver: processes the items.
        progress: called at the beginning and after every item.
    """
    targets, own, ids = _selected(request)
    folder = working_in(
        request.folder,
        request.identity,
        targets,
        [target for _, target in own],
        shard=request.shard,
        overwrite=request.overwrite,
    )
    with folder as place:
        todo = [(item, target) for item, target in own if not place.is_done(target)]
        works = plan_works(todo, request.config, request.seed)
        place.forget_failures((item.id for item, _ in own), ids)
        account = _Account(request, works, total=len(own), done_before=len(own) - len(todo))
        account.report(progress)
        if works:
            by_id = {item.id: item for item, _ in todo}
            with closing(driver(works, place)) as outcomes:
                for outcome in outcomes:
                    if outcome.reason:
                        place.add_failure(by_id[outcome.id], outcome.reason)
                    account.add(outcome)
                    account.report(progress)
        return account.summary()


def preview(request: Request) -> Summary:
    """Return what `run` would do, without writing anything; inputs whose header cannot be read count as failed.

    Args:
        request: the job.
    """
    targets, own, _ = _selected(request)
    done: Callable[[str], bool] = lambda target: False  # noqa: E731
    if request.overwrite:
        check_folder(request.folder, writable=False)
    else:
        done = existing(request.folder, request.identity, targets).is_done
    todo = [(item, target) for item, target in own if not done(target)]
    works = plan_works(todo, request.config, request.seed)
    summary = _Account(request, works, total=len(own), done_before=len(own) - len(todo)).summary()
    without_length = [work for work in works if not work.frames]
    problems = {work.id: work.problem or length_of(Path(work.path), request.config).problem for work in without_length}
    failures = {name: problem for name, problem in problems.items() if problem}
    return replace(summary, failed=len(failures), failures=failures)


def in_this_process(settings: Settings, groups: Iterable[Sequence[Work]]) -> Outcomes:
    """Process groups in this process.

    Args:
        settings: of the job.
        groups: of items.
    """
    worker = Worker(settings)
    for group in groups:
        yield from worker.run(group)


def in_processes(settings: Sequence[Settings], groups: Sequence[Sequence[Work]]) -> Outcomes:
    """Process groups in one process per settings; a single one is this process.

    Args:
        settings: of every worker.
        groups: of items.
    """
    return in_this_process(settings[0], groups) if len(settings) == 1 else run_workers(groups, settings)


def _selected(request: Request) -> tuple[list[str], list[tuple[Item, str]], list[str]]:
    """Return the names of all results, the items of the shard with theirs, and the ids of all items."""
    suffix = f".{request.settings.format}"
    items, passed_by = find_items(request.inputs, request.folder, request.suffixes, suffix)
    if passed_by:
        _LOG.info("%s", passed_by)
    targets = targets_of(items, suffix)
    for item, target in zip(items, targets, strict=True):
        result = request.folder / target
        if os.path.exists(result) and os.path.exists(item.path) and os.path.samefile(result, item.path):
            raise InputError(f"-o: cannot write {str(result)!r:.200}: it is the input")
    number, count = request.shard
    own = [pair for pair in zip(items, targets, strict=True) if count == 1 or shard_of(pair[0], count) == number]
    return targets, own, [item.id for item in items]


class _Account:
    """The numbers of a run."""

    def __init__(self, request: Request, works: Sequence[Work], *, total: int, done_before: int) -> None:
        config = request.config
        self._frame = config.hop / config.sample_rate
        self._frames = {work.id: work.frames for work in works}
        self._left = sum(self._frames.values())
        self._summary = Summary(request.folder, total, done_before)
        self._failures: dict[str, str] = {}
        self._notes: Counter[str] = Counter()
        self._warnings = 0
        self._seconds, self._files = 0.0, 0
        self._begin = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        frames = self._frames[outcome.id]
        self._left -= frames
        if outcome.reason:
            self._failures[outcome.id] = outcome.reason
            _LOG.info("%s: failed: %s", outcome.id, outcome.reason)
        else:
            self._files += 1
            self._seconds += outcome.seconds or frames * self._frame
        self._notes.update(set(outcome.notes))
        for text in outcome.warnings:
            _LOG.log(logging.INFO if self._warnings else logging.WARNING, "%s: %s", outcome.id, text)
        self._warnings += bool(outcome.warnings)

    def report(self, progress: BulkProgress | None) -> None:
        if progress is not None:
            progress(self.summary())

    def summary(self) -> Summary:
        return replace(
            self._summary,
            files=self._files,
            failed=len(self._failures),
            seconds=self._seconds,
            seconds_left=self._left * self._frame,
            elapsed=time.monotonic() - self._begin,
            failures=self._failures,
            notes=self._notes,
            warnings=self._warnings,
        )
