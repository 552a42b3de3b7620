"""Vocode a folder of mels and recordings into a folder: python examples/many_files.py IN OUT [WORKERS].

Start it again after an interruption: it resumes. docs/many-files.md explains the folder of the results.
"""

from __future__ import annotations

import sys

import engine
from engine.bulk import Summary


def show(summary: Summary) -> None:
    """Print the progress after every file."""
    done = summary.done_before + summary.files + summary.failed
    print(f"\r{done} of {summary.total} files", end="", file=sys.stderr)


def main() -> None:
    """Vocode the folder and name the inputs that failed."""
    if len(sys.argv) not in (3, 4) or not all(map(str.isdecimal, sys.argv[3:])):
        sys.exit("usage: python examples/many_files.py IN OUT [WORKERS]")
    workers = int(sys.argv[3]) if len(sys.argv) == 4 else 1
    summary = engine.vocode_files(sys.argv[1], sys.argv[2], workers=workers, progress=show)
    print(file=sys.stderr)
    for name, reason in summary.failures.items():
        print(f"{name}: {reason}", file=sys.stderr)
    print(summary)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"many_files: {error}")
