"""The way this engine was installed, for the remedies in messages."""

from __future__ import annotations

from pathlib import Path

DISTRIBUTION = "diffwave-engine"


def source_folder() -> Path | None:
    """Return the source folder that the engine runs from, None if it runs from an installed copy of its files."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "setup.py").is_file() and (folder / "pyproject.toml").is_file() else None


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra.

    pip reads the extras of an installed distribution from its metadata. It needs neither the sources nor an index that
    has the distribution.

    Args:
        extra: the name of the extra, such as "gpu".
    """
    if source_folder() is None:
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    return f"pip install -e '.[{extra}]' in the source folder"


def how_to_build() -> str:
    """Return why the native module may be missing, and the remedy."""
    if source_folder() is None:
        return f"not installed for this Python; reinstall {DISTRIBUTION} with the pip of this Python"
    return (
        "not built in this source tree, which hides any installed package of that name; run 'pip install -e .' in it, "
        "or leave the folder"
    )
