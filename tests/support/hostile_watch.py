"""A watched process that tries to load what it is given.

`python -m tests.support.hostile_watch FOLDER` first loads the "sound" files of FOLDER/cases.json, which must load, then the
"hostile" ones, and says in a line of JSON for each what happened: the error, whether anything but reading was
attempted, how much memory and time it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from engine.checkpoint import load as checkpoint
from engine.errors import CheckpointError, InputError


def main(folder: Path) -> None:
    """Load every case of FOLDER/cases.json; a line of JSON on stdout for each."""
    cases = json.loads((folder / "cases.json").read_text())
    for warm in cases["sound"]:  # imports whatever loading imports
        checkpoint.load_checkpoint(warm)
    "".encode("cp437")  # of old zip archives
    attempts: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        reading = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0
        if not reading:
            attempts.append(f"{event} {arguments!r:.100}")

    sys.addaudithook(watch)
    for path in cases["hostile"]:
        attempts.clear()
        forget_peak()
        before = status("VmRSS")
        result: dict[str, Any] = {"path": path}
        print(json.dumps({"begin": path}), flush=True)
        begin = time.perf_counter()
        try:
            watching = True
            checkpoint.load_checkpoint(path)
            result["error"] = None
        except BaseException as error:
            watching = False
            expected = type(error) in (CheckpointError, InputError) and error.__suppress_context__ | (
                not error.__context__
            )
            result.update(error=str(error), type=type(error).__name__, expected=bool(expected))
        watching = False
        seconds = time.perf_counter() - begin
        print(
            json.dumps({**result, "seconds": seconds, "memory": status("VmHWM") - before, "attempts": attempts}),
            flush=True,
        )


def forget_peak() -> None:
    """The kernel's high-water mark of memory begins anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
