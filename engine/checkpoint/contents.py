"""Content of a PyTorch checkpoint: which of its dicts are the weights, and which are the hyper-parameters.

Trainers store the weights under keys of their own choice, with optimizers, averages, counters and settings beside them.
The names of the tensors decide which dict is a network (`engine.checkpoint.layouts`), and usual keys between several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.layouts import find_networks, is_average
from engine.checkpoint.plain import entries_of
from engine.checkpoint.unpickler import Inert, TensorView
from engine.errors import CheckpointError

# The keys of the weights in a trainer's dict, and the key of the hyper-parameters beside each.
_CONTAINERS = {"model": "params", "model_state_dict": "config", "state_dict": "config"}
_PARAMS = ("params", "config", "hyper_parameters", "hparams", "args", "cfg")
_LIGHTNING = "pytorch-lightning_version"  # its "state_dict" is not that of a family
_SHADOW = "shadow_params"  # torch_ema and diffusers store averages as a list, in the order of the parameters
MAX_DEPTH = 3
MAX_ENTRIES = 1 << 18  # of all dicts together; a pickle without shared dicts cannot have more

Entries = dict[Any, Any]
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """The parts of a checkpoint that describe its network.

    Attributes:
        raw: the weights under the names of the file, values of any type; {} if the file holds an average only.
        average: an average of the weights over the training that the file holds apart from `raw`; {} without one.
        params: the hyper-parameters beside them, {} if there are none.
        container: the key of the dict that contains the weights, "" for a bare state_dict and for Lightning's.
    """

    raw: Entries
    average: Entries
    params: Entries
    container: str


def find_weights(content: Any) -> Weights:
    """Find the weights, their average and the hyper-parameters in a checkpoint.

    Args:
        content: the result of `engine.checkpoint.unpickler.read_pickle`.

    Raises:
        CheckpointError: there is no dict of tensors.
    """
    entries = _checked_entries(content)
    dicts = dict(_tensor_dicts(entries, (), [MAX_ENTRIES]))
    found = {path: find_networks(_names(tensors)) for path, tensors in dicts.items()}
    sizes = {path: networks[0].parameters for path, networks in found.items() if networks}
    most = max(sizes.values(), default=0)
    paths = [path for path, size in sizes.items() if 2 * size > most]
    averages = [path for path in paths if any(map(is_average, path))]
    raws = sorted((path for path in paths if path not in averages), key=_priority)
    if not raws and not averages:
        raws = [_likely_weights(entries)]
    raw = _at(entries, raws[0]) if raws else {}
    average = dicts[averages[0]] if averages else _shadow_of(entries, raw)
    path = (raws + averages)[0]
    container = "" if _LIGHTNING in entries or not path else path[0]
    return Weights(raw, average, _params_beside(entries, path), container)


_EXPECTED = f"expected a dict with {', '.join(map(repr, _CONTAINERS))} or a state_dict"


def _checked_entries(content: Any) -> Entries:
    """Return the entries of a dict, after checking that it is not a module itself."""
    entries = entries_of(content)
    if entries is None or "_modules" in entries:
        kind = repr(content.name) if isinstance(content, Inert) else type(content).__name__
        raise CheckpointError(f"{_EXPECTED}, got {kind:.80}; save model.state_dict() instead of the model")
    return entries


def _tensor_dicts(entries: Entries, path: KeyPath, remaining: list[int]) -> Iterator[tuple[KeyPath, Entries]]:
    """Yield the dicts that contain tensors; of dicts that share others, only as many as `remaining` entries allow."""
    remaining[0] -= len(entries)
    if remaining[0] < 0:
        return
    if any(isinstance(value, TensorView) for value in entries.values()):
        yield path, entries
    for key, value in entries.items() if len(path) < MAX_DEPTH else ():
        inner = entries_of(value)
        if inner is not None and type(key) is str:
            yield from _tensor_dicts(inner, (*path, key), remaining)


def _names(tensors: Entries) -> list[str]:
    return [key for key in tensors if type(key) is str]


def _priority(path: KeyPath) -> tuple[int, int]:
    """Sort the usual containers first, in their order, then a bare state_dict."""
    keys = list(_CONTAINERS)
    return (keys.index(path[0]) if path and path[0] in keys else len(keys), len(path))


def _likely_weights(entries: Entries) -> KeyPath:
    """Return the path of what a trainer would call the weights, although their names fit no layout."""
    for key in _CONTAINERS:
        if entries_of(entries.get(key)) is not None:
            _checked_entries(entries[key])
            return (key,)
    if any(isinstance(value, TensorView) for value in entries.values()):
        return ()
    raise CheckpointError(f"{_EXPECTED}, got {[str(key)[:40] for key in list(entries)[:3]]}")


def _at(entries: Entries, path: KeyPath) -> Entries:
    for key in path:
        entries = entries_of(entries[key]) or {}
    return entries


def _shadow_of(entries: Entries, raw: Entries) -> Entries:
    """Return the average that is stored as a list of tensors, under the names of the weights."""
    shadows = ((entries_of(value) or {}).get(_SHADOW) for value in entries.values())
    shadow = next((shadow for shadow in shadows if isinstance(shadow, list)), [])
    tensors = {name: view for name, view in raw.items() if isinstance(view, TensorView)}
    views = [view for view in shadow if isinstance(view, TensorView)]
    fits = len(views) == len(shadow) and [view.shape for view in views] == [view.shape for view in tensors.values()]
    return dict(zip(tensors, views, strict=True)) if fits else {}


def _params_beside(entries: Entries, path: KeyPath) -> Entries:
    """Return the hyper-parameters in the dict around the weights, or in one further out."""
    for depth in range(max(len(path) - 1, 0), -1, -1):
        around = _at(entries, path[:depth])
        usual = _CONTAINERS.get(path[depth], "") if depth < len(path) else ""
        params = _first_dict(around, (usual, *_PARAMS))
        if params:
            return {**params, **_first_dict(params, _PARAMS)}  # Lightning stores what its module was called with
    return {}


def _first_dict(entries: Entries, keys: tuple[str, ...]) -> Entries:
    return next((inner for key in keys if (inner := entries_of(entries.get(key)))), {})
