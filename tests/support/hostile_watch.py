"""Watched process that tries to load hostile files.

`python -m tests.support.hostile_watch FOLDER` first loads the "sound" files of FOLDER/cases.json, which must load. Then
it tries the "hostile" and the "inert" files. It prints a line of JSON for each: the error or a checksum of the weights,
attempts at anything except reading, memory and time.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from engine.checkpoint import load as checkpoint
from engine.errors import CheckpointError, InputError

MEMORY_LIMIT = 64 << 20  # bytes beyond the size of the file
SECONDS_LIMIT = 20.0  # a file takes less than one


def main(folder: Path) -> None:
    """Load every case of FOLDER/cases.json and print a line of JSON for each."""
    cases = json.loads((folder / "cases.json").read_text())
    for path in cases["sound"]:  # completes the imports that loading needs
        checkpoint.load_checkpoint(path)
    "".encode("cp437")  # completes the import of the encoding of old zip archives
    attempts: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        reading = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0
        if not reading:
            attempts.append(f"{event} {arguments!r:.100}")

    sys.addaudithook(watch)
    for path in [*cases["hostile"], *cases.get("inert", [])]:
        attempts.clear()
        forget_peak()
        before = status("VmRSS")
        result: dict[str, Any] = {"path": path}
        print(json.dumps({"begin": path}), flush=True)
        begin = time.perf_counter()
        try:
            watching = True
            loaded = checkpoint.load_checkpoint(path)
            watching = False
            result["error"] = None
            if isinstance(loaded, checkpoint.Checkpoint):
                result["checksum"] = checksum(loaded)
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


def checksum(loaded: checkpoint.Checkpoint) -> int:
    """Return a checksum of all weights."""
    total = 0
    for name in sorted(loaded.tensors):
        total = zlib.crc32(loaded.tensors[name].tobytes(), total)
    return total


def forget_peak() -> None:
    """Reset the kernel's high-water mark of memory."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
