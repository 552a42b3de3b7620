"""One worker process, started by `engine.bulk.workers`.

Messages are lines of JSON: settings and groups on stdin, what became of every item on stdout. The end of stdin ends the
process, so that nothing goes on after its parent was killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import warnings
from typing import Any, BinaryIO

from engine.bulk.tasks import Settings, Work, Worker
from engine.checks.output_files import Terminated, unwinding_on_signals
from engine.errors import CheckpointError, InputError, UnavailableError

ERRORS = (CheckpointError, InputError, UnavailableError)


def run() -> None:
    """Process groups, and end the process."""
    status = main()
    sys.stderr.flush()
    os._exit(status)  # the thread that reads stdin holds its lock, which the end of the interpreter would want


def main() -> int:
    """Process groups until the parent ends the job, and return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes stdin
    descriptor = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not come between the messages
    groups: queue.Queue[Any] = queue.Queue()
    with unwinding_on_signals():
        try:
            threading.Thread(target=_receive, args=(sys.stdin.buffer, groups), daemon=True).start()
            with os.fdopen(descriptor, "wb") as results:
                return _work(groups, results)
        except Terminated as ended:
            return ended.status
        except BrokenPipeError:
            return 0


def _receive(file: BinaryIO, groups: queue.Queue[Any]) -> None:
    """Queue the messages of the parent; when it ends without a farewell, end this process as SIGTERM does."""
    for line in file:
        message = json.loads(line)
        groups.put(message)
        if message is None:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def _work(groups: queue.Queue[Any], results: BinaryIO) -> int:
    def send(**message: Any) -> None:
        results.write(json.dumps(message).encode() + b"\n")
        results.flush()

    settings = Settings(**groups.get())
    try:
        with warnings.catch_warnings(record=True) as caught:
            worker = Worker(settings)
    except ERRORS as error:
        send(error=type(error).__name__, message=str(error))
        return 1
    except MemoryError as error:
        send(error="MemoryError", message=str(error))
        return 1
    send(ready=True, warnings=[str(warning.message) for warning in caught])
    while (group := groups.get()) is not None:
        try:
            for outcome in worker.run([Work(**work) for work in group]):
                send(outcome=outcome.as_json())
        except OSError as error:
            send(error="OSError", message=[error.errno, error.strerror, str(error.filename or "")])
            return 1
        send(ready=True)
    return 0
