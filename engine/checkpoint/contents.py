"""Content of a PyTorch checkpoint: which of its dicts are the weights, and which are the hyper-parameters.

Trainers store the weights under keys of their own choice, with optimizers, averages, counters and settings beside them.
The names of the tensors decide which dict is a network (`engine.checkpoint.layouts`), and usual keys between several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.families import SETTING_NAMES
from engine.checkpoint.layouts import find_networks, is_average, parameter_names
from engine.checkpoint.plain import entries_of, is_array
from engine.checkpoint.unpickler import Inert, TensorView
from engine.errors import CheckpointError

# The keys of the weights in a trainer's dict, and the key of the hyper-parameters beside each.
_CONTAINERS = {"model": "params", "model_state_dict": "config", "state_dict": "config"}
_PARAMS = ("params", "config", "hyper_parameters", "hparams", "args", "cfg")
_LIGHTNING = "pytorch-lightning_version"  # its "state_dict" is not that of a family
# Lightning's WeightAveraging stores the average as the state_dict, and the raw weights under this key.
_RAW_BESIDE_AVERAGE = "current_model_state"
_SHADOW = "shadow_params"  # torch_ema and diffusers store averages as a list, in the order of the parameters
MAX_DEPTH = 6
MAX_ENTRIES = 1 << 18  # of all dicts together; a pickle without shared dicts cannot have more
MAX_NUMBERED = 16  # a list of networks is shorter; optimizers have a longer one, or numbers as keys, of their states
MAX_SETTINGS = 1 << 12  # entries of a configuration
MIN_SETTINGS = 2  # names of settings in a dict that is not called one

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


@dataclass(frozen=True, eq=False)
class _Place:
    """A dict or a list with tensors inside a checkpoint.

    Attributes:
        path: the keys that lead to it; the position in a list is one too.
        around: the dicts on the way, from the outermost to the place itself.
    """

    path: KeyPath
    around: tuple[Entries, ...]

    @property
    def tensors(self) -> Entries:
        """The dict; a list by position."""
        return self.around[-1]

    @property
    def averaged(self) -> bool:
        """Whether a key says that it is an average."""
        return any(is_average(key) for key in self.path)


def find_weights(content: Any) -> Weights:
    """Find the weights, their average and the hyper-parameters in a checkpoint.

    Args:
        content: the result of `engine.checkpoint.unpickler.read_pickle`.

    Raises:
        CheckpointError: there is no dict of tensors.
    """
    entries = _checked_entries(content)
    places = list(_tensor_places(_Place((), (entries,)), [MAX_ENTRIES]))
    found = [(place, find_networks(_names(place.tensors))) for place in places]
    sizes = [(place, networks[0].parameters) for place, networks in found if networks]
    most = max((size for _, size in sizes), default=0)
    networks = [place for place, size in sizes if 2 * size > most]
    averages = [place for place in networks if place.averaged]
    raws = sorted((place for place in networks if not place.averaged), key=_priority)
    beside = [place for place in raws if place.path[-1:] == (_RAW_BESIDE_AVERAGE,)]
    if beside and len(raws) > 1:
        averages += [place for place in raws if place.path == ("state_dict",)]
        raws = beside
    if not raws and not averages:
        raws = [_likely_weights(entries)]
    raw = raws[0].tensors if raws else {}
    average = averages[0].tensors if averages else _listed_average(places, raw)
    place = (raws + averages)[0]
    container = "" if _LIGHTNING in entries or not place.path else place.path[0]
    return Weights(raw, average, _params_beside(place), container)


_EXPECTED = f"expected a dict with {', '.join(map(repr, _CONTAINERS))} or a state_dict"


def _checked_entries(content: Any) -> Entries:
    """Return the entries of a dict, after checking that it is not a module itself."""
    entries = entries_of(content)
    if entries is None or "_modules" in entries:
        kind = repr(content.name) if isinstance(content, Inert) else type(content).__name__
        raise CheckpointError(f"{_EXPECTED}, got {kind:.80}; save model.state_dict() instead of the model")
    return entries


def _tensor_places(place: _Place, remaining: list[int]) -> Iterator[_Place]:
    """Yield the dicts and lists that contain tensors, as many as `remaining` entries allow: they may share others."""
    entries = place.tensors
    remaining[0] -= len(entries)
    if remaining[0] < 0:
        return
    if any(_is_tensor(value) for value in entries.values()):
        yield place
    for key, value in entries.items() if len(place.path) < MAX_DEPTH else ():
        inner = _inner_entries(value)
        if inner is not None and (type(key) is str or (type(key) is int and 0 <= key < MAX_NUMBERED)):
            yield from _tensor_places(_Place((*place.path, str(key)), (*place.around, inner)), remaining)


def _inner_entries(value: Any) -> Entries | None:
    """Return the entries of a dict, and the items of a list that is short or holds tensors, by position."""
    if isinstance(value, (list, tuple)):
        is_listed = 0 < len(value) <= MAX_NUMBERED or (value and _is_tensor(value[0]) and len(value) <= MAX_ENTRIES)
        return dict(enumerate(value)) if is_listed else None
    return entries_of(value)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorView) or is_array(value)


def _names(tensors: Entries) -> list[str]:
    return [key for key in tensors if type(key) is str]


def _priority(place: _Place) -> tuple[int, int]:
    """Sort the usual containers first, in their order, then a bare state_dict."""
    keys = list(_CONTAINERS)
    return (keys.index(place.path[0]) if place.path and place.path[0] in keys else len(keys), len(place.path))


def _likely_weights(entries: Entries) -> _Place:
    """Return what a trainer would call the weights, although their names fit no layout."""
    for key in _CONTAINERS:
        if entries_of(entries.get(key)) is not None:
            return _Place((key,), (entries, _checked_entries(entries[key])))
    if any(_is_tensor(value) for value in entries.values()):
        return _Place((), (entries,))
    raise CheckpointError(f"{_EXPECTED}, got {[str(key)[:40] for key in list(entries)[:3]]}")


def _listed_average(places: list[_Place], raw: Entries) -> Entries:
    """Return an average that is stored as a list of tensors, under the names of the weights."""
    listed = [place for place in places if place.averaged or _SHADOW in place.path]
    lists = [list(place.tensors.values()) for place in listed]
    lists = [views for views in lists if all(isinstance(view, TensorView) for view in views)]
    if not lists:
        return {}
    tensors = {name: view for name, view in raw.items() if isinstance(view, TensorView)}
    known = parameter_names(_names(tensors))
    parameters = {name: view for name, view in tensors.items() if name in known}
    for views in lists:
        for named in (tensors, parameters):
            if [view.shape for view in views] == [view.shape for view in named.values()]:
                return dict(zip(named, views, strict=True))
    return {}


def _params_beside(place: _Place) -> Entries:
    """Return the hyper-parameters in the dict around the weights, or in one further out."""
    for depth in range(max(len(place.path) - 1, 0), -1, -1):
        key = place.path[depth] if depth < len(place.path) else ""
        around = {name: value for name, value in place.around[depth].items() if str(name) != key}
        params = _first_dict(around, (_CONTAINERS.get(key, ""), *_PARAMS))
        inner = _most_settings(params or around, [MAX_ENTRIES])
        if params or inner:
            return {**params, **_first_dict(params, _PARAMS), **inner}
    return {}


def _first_dict(entries: Entries, keys: tuple[str, ...]) -> Entries:
    return next((inner for key in keys if (inner := entries_of(entries.get(key)))), {})


def _most_settings(entries: Entries, remaining: list[int], depth: int = 0) -> Entries:
    """Return the dict inside others with the most names of settings; {} if the outermost has as many, or none has."""
    best, most = {}, max(_settings_in(entries), MIN_SETTINGS - 1)
    remaining[0] -= len(entries)
    for value in entries.values() if depth < MAX_DEPTH and remaining[0] >= 0 else ():
        inner = entries_of(value)
        if inner:
            deepest = _most_settings(inner, remaining, depth + 1) or inner
            if _settings_in(deepest) > most:
                best, most = deepest, _settings_in(deepest)
    return best


def _settings_in(entries: Entries) -> int:
    return len(SETTING_NAMES.intersection(entries)) if len(entries) <= MAX_SETTINGS else 0
