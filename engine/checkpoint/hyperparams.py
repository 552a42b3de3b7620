"""Hyper-parameters in SpeechBrain's hyperparams.yaml, read without creating the objects that it describes.

The file is YAML with tags of HyperPyYAML: "!new:module.Class" with the arguments of a class, "!ref <name>" for another
value. SpeechBrain's own reader imports and calls what a tag names. Here a tag is a name, and nothing is called.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from engine.checks.installation import how_to_install
from engine.errors import CheckpointError, UnavailableError

MAX_FILE = 1 << 20  # bytes
MAX_DEPTH = 16  # of references to references
_REFERENCE = re.compile(r"<([\w.-]+)>")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # PyYAML reads 1e-4 as a text, HyperPyYAML as a number
# Classes whose arguments are settings, whatever the key of the object.
_CLASSES = ("DiffWave.DiffWave", "DiffWave.DiffWaveDiffusion", "diffusion.DenoisingDiffusion")


class _Reference(str):
    """The text of a "!ref" tag."""


class _Described(dict[str, Any]):
    """The arguments of an object that is not created.

    Attributes:
        tag: "!new:speechbrain.lobes.models.DiffWave.DiffWave".
    """

    tag = ""


def read_hyperparams(path: Path) -> dict[str, Any]:
    """Return the plain values of a hyperparams.yaml, and the arguments of the network and the diffusion in it.

    Args:
        path: an existing file.

    Raises:
        CheckpointError: the file cannot be read or is no YAML.
        UnavailableError: PyYAML is not installed.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    if len(content) > MAX_FILE:
        raise CheckpointError(f"{path}: expected at most {MAX_FILE} bytes, got more")
    entries = _parse(content, path)
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path}: expected settings by name, got {type(entries).__name__}")
    settings = {name: value for name, value in _resolved(entries, entries).items() if _is_plain(value)}
    for described in entries.values():
        if isinstance(described, _Described) and described.tag.endswith(_CLASSES):
            arguments = _resolved(described, entries)
            settings |= {name: value for name, value in arguments.items() if _is_plain(value)}
    return settings


def _parse(content: bytes, path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise UnavailableError(f"{path}: it needs PyYAML; {how_to_install('hub')}") from None

    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})  # reads plain values; `describe` takes unknown tags

    def describe(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            described = _Described(loader.construct_mapping(node, deep=True))
            described.tag = node.tag
            return described
        if isinstance(node, yaml.ScalarNode) and node.tag == "!ref":
            return _Reference(node.value)
        return None

    loader_class.add_multi_constructor("", describe)
    loader_class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    try:
        return yaml.load(content, loader_class)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: expected YAML, got: {reason:.200}") from None


def _resolved(values: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    return {name: _value_of(value, entries) for name, value in values.items() if isinstance(name, str)}


def _value_of(value: Any, entries: dict[str, Any], depth: int = 0) -> Any:
    """Return the value that a reference leads to; None for an expression, such as "<a> * 2"."""
    if not isinstance(value, _Reference):
        return value
    match = _REFERENCE.fullmatch(value.strip())
    if match is None or depth == MAX_DEPTH:
        return None
    return _value_of(entries.get(match[1]), entries, depth + 1)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a truth value, a text or a list of numbers."""
    if isinstance(value, (list, tuple)):
        return all(type(item) in (int, float) for item in value)
    return type(value) in (bool, int, float, str)
