"""Driver of several processes on one machine: it shares out groups, and replaces processes that are killed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from engine.bulk.tasks import Outcome, Settings, Work
from engine.errors import CheckpointError, InputError, UnavailableError

ATTEMPTS = 2  # of an item whose worker was killed
STARTS = 3  # processes in a row that end before they are ready
PATIENCE = 10.0  # seconds that a process has to end by itself
ERRORS = {kind.__name__: kind for kind in (CheckpointError, InputError, UnavailableError, MemoryError)}
# Not -m: it would put the working directory before the standard library, with whatever modules lie there. -c does so
# too, as "", unless PYTHONSAFEPATH is set.
PROGRAM = "import sys; sys.path[:] = sys.path[sys.path[0] == '' :]; from engine.bulk.worker import run; run()"
# Threads of NumPy's linear algebra, read when NumPy is imported.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def settings_of(settings: Settings, devices: Sequence[str], count: int, threads: int) -> list[Settings]:
    """Return the settings of every worker: the devices in turn, and an equal share of the threads.

    Args:
        settings: of the job.
        devices: at least one; several workers may have one device.
        count: the number of workers.
        threads: of all workers together.
    """
    share = max(1, threads // count)
    return [replace(settings, device=devices[number % len(devices)], threads=share) for number in range(count)]


def run_workers(groups: Sequence[Sequence[Work]], settings: Sequence[Settings]) -> Generator[Outcome, None, None]:
    """Process groups in several processes and yield what became of every item, as it happens.

    A process that is killed is replaced, and its unfinished items are processed again, each in a group of its own. An
    item whose process is killed twice has failed. When the iterator is closed, the processes end and are waited for;
    results that they have not finished have no file.

    Args:
        groups: in the order in which to begin them.
        settings: of every worker.

    Raises:
        CheckpointError: a worker cannot load the network; likewise InputError and UnavailableError.
        MemoryError: a worker has not enough memory to load it.
        OSError: no further result can be written.
        UnavailableError: processes end before they have loaded the network.
    """
    pool = _Pool(groups, settings)
    try:
        yield from pool.outcomes()
    finally:
        pool.close()


class _Process:
    """One worker process, and the thread that reads its messages into the pool's queue."""

    def __init__(self, settings: Settings, messages: queue.Queue[tuple[_Process, Any]]) -> None:
        self.settings = settings
        self.group: list[Work] = []  # without an outcome yet
        self.is_ready = False
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        threads = dict.fromkeys(VARIABLES, str(settings.threads))
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": paths},
            # Ctrl-C in a terminal reaches a whole group of processes; the parent decides.
            start_new_session=os.name == "posix",
        )
        self._messages = messages
        threading.Thread(target=self._read, daemon=True).start()
        self.send(asdict(settings))

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message; a process that has ended is noticed by the end of its messages."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def give(self, group: Sequence[Work]) -> None:
        """Begin a group."""
        self.group = list(group)
        self.send([work.as_json() for work in group])

    def wait(self) -> int:
        """Wait for the end of a process that has closed its messages, and return its exit status."""
        return self._process.wait()

    def leave(self) -> None:
        """Tell the process that its unfinished work is not wanted."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self) -> None:
        """Wait until the process has ended, or kill it."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as file:
            for line in file:
                with suppress(ValueError):  # the last line of a killed process may be incomplete
                    self._messages.put((self, json.loads(line)))
        self._messages.put((self, None))


class _Pool:
    def __init__(self, groups: Sequence[Sequence[Work]], settings: Sequence[Settings]) -> None:
        self._groups: deque[Sequence[Work]] = deque(groups)
        self._settings = settings
        self._messages: queue.Queue[tuple[_Process, Any]] = queue.Queue()
        self._processes: list[_Process] = []
        self._idle: deque[_Process] = deque()
        self._deaths: Counter[str] = Counter()
        self._failed_starts = 0
        self._warned: set[str] = set()

    def outcomes(self) -> Iterator[Outcome]:
        for settings in self._settings[: len(self._groups)]:
            self._start(settings)
        while self._groups or any(process.group for process in self._processes):
            while self._groups and self._idle:
                self._idle.popleft().give(self._groups.popleft())
            process, message = self._messages.get()
            if message is None:
                yield from self._replaced(process)
            elif "outcome" in message:
                outcome = Outcome(**message["outcome"])
                process.group = [work for work in process.group if work.id != outcome.id]
                yield outcome
            elif "error" in message:
                _raise(message)
            else:
                self._failed_starts = 0
                self._warn(message.get("warnings", ()))
                process.is_ready = True
                self._idle.append(process)

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.leave()
        for process in self._processes:
            process.end()

    def _warn(self, texts: Sequence[str]) -> None:
        """Repeat the warnings of loading, once for all processes."""
        for text in texts:
            if text not in self._warned:
                self._warned.add(text)
                warnings.warn(text, UserWarning, stacklevel=2)

    def _start(self, settings: Settings) -> None:
        self._processes.append(_Process(settings, self._messages))

    def _replaced(self, process: _Process) -> Iterator[Outcome]:
        """Replace a process that has ended, and yield the items that it ended for the second time."""
        status = process.wait()
        process.leave()
        self._processes.remove(process)
        if process in self._idle:
            self._idle.remove(process)
        if not process.is_ready:
            self._failed_starts += 1
            if self._failed_starts == STARTS:
                raise UnavailableError(
                    f"workers: expected processes that load the network, got exit status {status} {STARTS} times in a "
                    "row; fewer workers need less memory"
                )
        for work in reversed(process.group):
            self._deaths[work.id] += 1
            if self._deaths[work.id] < ATTEMPTS:
                self._groups.appendleft([work])
        for work in process.group:
            if self._deaths[work.id] >= ATTEMPTS:
                yield Outcome(work.id, reason=f"its worker ended {ATTEMPTS} times, last with {_described(status)}")
        if len(self._groups) > sum(not other.group for other in self._processes):
            self._start(process.settings)


def _described(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {-status}" + (": perhaps killed for lack of memory" if status == -9 else "")


def _raise(message: dict[str, Any]) -> None:
    if message["error"] == "OSError":
        number, text, file = message["message"]
        raise OSError(number, text, file or None)
    raise ERRORS[message["error"]](message["message"])
