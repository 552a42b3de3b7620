"""Driver on a Ray cluster: Ray Data shares out groups to a pool of actors, each of which loads the network once.

Needs the extra `ray`. The input files and the folder of the results must have the same paths on every node. Audio is
written by the actors and never enters Ray's object store.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engine.bulk.job import Folder
from engine.bulk.tasks import Outcome, Settings, Work, Worker
from engine.checks.installation import how_to_install
from engine.errors import UnavailableError
from engine.kernels import registry

_LOG = logging.getLogger(__name__)
LOCAL = "local"  # the address of a cluster that this process starts on its own machine
STARTED_SLOWLY = "timed out during startup"  # Ray waits 30 s for its own processes, which a busy machine exceeds
CONNECT_SECONDS = 10
IN_FLIGHT = 2  # groups that an actor holds


class Stage:
    """A worker as Ray Data constructs it in every actor.

    Args:
        settings: the fields of `engine.bulk.tasks.Settings`.
        since: see `engine.bulk.job.Folder`.
    """

    def __init__(self, settings: dict[str, Any], since: int) -> None:
        self._worker = Worker(Settings(**settings))
        self._folder = Folder(Path(settings["folder"]), since)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Process a block of groups, each a JSON text, and return one JSON text per item."""
        rows: list[str] = []
        for text in batch["group"]:
            works = [Work(**work) for work in json.loads(str(text))]
            # The group of an actor that died comes again. What it has finished needs no second time.
            left = [work for work in works if not self._folder.is_done(work.target)]
            rows += [json.dumps({"again": work.id}) for work in works if work not in left]
            try:
                rows += [json.dumps(outcome.as_json()) for outcome in self._worker.run(left)]
            except OSError as error:
                rows.append(json.dumps({"error": [error.errno, error.strerror, str(error.filename or "")]}))
        return {"outcome": np.array(rows, dtype=object)}


class Cluster:
    """A connection to a Ray cluster.

    Args:
        ray: the module.
        cpus: processors of one actor.
        gpus: GPUs of one actor.
    """

    def __init__(self, ray: ModuleType, cpus: float, gpus: float) -> None:
        self._ray = ray
        self._cpus, self._gpus = cpus, gpus

    def choose(self, settings: Settings, calibrated: bool) -> registry.Choice:
        """Return what a node of the cluster would choose for a network; this machine may have no GPU.

        Args:
            settings: device, precision and instruction set.
            calibrated: see `engine.kernels.registry.select`.
        """
        remote = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=2)(registry.select)
        reference = remote.remote(settings.device, settings.precision, settings.isa, calibrated)
        try:
            choice: registry.Choice = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        return choice

    def run(
        self, groups: Sequence[Sequence[Work]], settings: Settings, since: int, workers: int | None, patience: float
    ) -> Generator[Outcome, None, None]:
        """Process groups on the cluster and yield what became of every item.

        Args:
            groups: of items.
            settings: of every actor.
            since: see `engine.bulk.job.Folder`.
            workers: the most actors, None for as many as the cluster has or gets room for.
            patience: seconds without any finished group after which the job is given up: Ray Data may wait for dead
                actors without end.

        Raises:
            UnavailableError: nothing was finished for too long, or an actor cannot load the network.
            OSError: no further result can be written.
        """
        rows: queue.Queue[Any] = queue.Queue()
        ended = threading.Event()
        threading.Thread(
            target=_drain, args=(self._dataset(groups, settings, since, workers), rows, ended), daemon=True
        ).start()
        works = {work.id: work for group in groups for work in group}
        try:
            while works:
                try:
                    row = rows.get(timeout=patience)
                except queue.Empty:
                    raise UnavailableError(
                        f"ray: expected a finished group within {patience / 60:.0f} minutes, got none; "
                        f"{len(works)} files are left, and the same command resumes"
                    ) from None
                if isinstance(row, BaseException):
                    raise _cause(row) from None
                if row is None:
                    raise UnavailableError(f"ray: expected results for {len(works)} more files, got the end of the job")
                yield from _outcomes(row, works)
        finally:
            ended.set()

    def _dataset(
        self, groups: Sequence[Sequence[Work]], settings: Settings, since: int, workers: int | None
    ) -> Iterator[dict[str, Any]]:
        data = __import__("ray.data", fromlist=["data"])
        data.DataContext.get_current().enable_progress_bars = False
        texts = [{"group": json.dumps([work.as_json() for work in group])} for group in groups]
        # from_items and not range: the tasks that read a range want a processor of their own, and wait without end
        # where the actors have all of them.
        blocks = data.from_items(texts, override_num_blocks=len(texts))
        pool = data.ActorPoolStrategy(min_size=1, max_size=workers, max_tasks_in_flight_per_actor=IN_FLIGHT)
        results = blocks.map_batches(
            Stage,
            fn_constructor_args=(asdict(settings), since),
            batch_size=1,
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            compute=pool,
        )
        rows: Iterator[dict[str, Any]] = iter(results.iter_rows())
        return rows


def _drain(results: Iterator[dict[str, Any]], rows: queue.Queue[Any], ended: threading.Event) -> None:
    try:
        for row in results:
            if ended.is_set():
                return
            rows.put(json.loads(str(row["outcome"])))
        rows.put(None)
    except BaseException as error:
        rows.put(error)


def _outcomes(row: dict[str, Any], works: dict[str, Work]) -> Iterator[Outcome]:
    """Yield the outcome of a row, unless its item has one already: a repeated group repeats its rows."""
    if "error" in row:
        number, text, file = row["error"]
        raise OSError(number, text, file or None)
    if "again" in row:
        if works.pop(row["again"], None):
            yield Outcome(row["again"])
    elif works.pop(row["id"], None):
        yield Outcome(**row)


@contextmanager
def connected(address: str, settings: Settings) -> Iterator[Cluster]:
    """Connect to a Ray cluster during a block.

    A connection that this process has already stays open. Ray 2.60 and later authenticate by a token, which this
    machine must have too (docs/many-files.md).

    Args:
        address: "auto" for the cluster that this machine belongs to, "local" for one that is started on this machine
            and stopped afterwards, or "host:port".
        settings: the device and the threads of an actor.

    Raises:
        UnavailableError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise UnavailableError(f"ray: it needs Ray Data; {how_to_install('ray')}") from None
    gpus = 1 if settings.device.startswith("cuda") else 0
    cluster = Cluster(ray, settings.threads or 1, gpus)
    if ray.is_initialized():
        yield cluster
        return
    _start(ray, address)
    try:
        yield cluster
    finally:
        ray.shutdown()


def _start(ray: ModuleType, address: str) -> None:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    else:
        _check_reachable(address)
        options = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
    for attempt in (1, 2):
        try:
            ray.init(**options)
            return
        except ConnectionError as error:
            raise UnavailableError(
                f"ray: expected a cluster at {address!r}, got: {_line(error)}; start one with 'ray start --head', or "
                f"use {LOCAL!r}"
            ) from None
        except Exception as error:
            if attempt == 2 or STARTED_SLOWLY not in str(error):
                raise UnavailableError(f"ray: expected a cluster at {address!r}, got: {_line(error)}") from None
            _LOG.warning("ray: a process of Ray started slowly; trying again")
            time.sleep(1)


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray itself would wait for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator or "/" in address or not port.isdecimal():
        return  # "auto", or a form that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(
            f"ray: expected a cluster at {address!r}, got: {error}; start one with 'ray start --head', or use {LOCAL!r}"
        ) from None


def _cause(error: BaseException) -> Exception:
    """Return an error of an actor as the error of this library that it began with, or as UnavailableError."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, UnavailableError):
            return UnavailableError(_line(cause).rpartition("UnavailableError: ")[2])
        cause = inner if isinstance(inner, BaseException) else None
    return UnavailableError(f"ray: expected results, got: {_line(error)}; the same command resumes")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]


def for_cluster(settings: Settings) -> Settings:
    """Return settings whose device does not depend on this machine, and whose actors have one thread by default.

    Args:
        settings: of the job.
    """
    device = "cpu" if settings.device == "auto" else settings.device.partition(":")[0]
    return replace(settings, device=device, threads=settings.threads or 1)
