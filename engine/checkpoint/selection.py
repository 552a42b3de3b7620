"""Choice of the weights of one network among the tensors of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.checkpoint.layouts import LMNT, Layout, NetworkNames, find_networks, renamed
from engine.checkpoint.lazy_tensor import LazyTensor
from engine.errors import CheckpointError

WEIGHTS = ("raw", "ema")
# A buffer inside the network's modules that the engine computes itself: the table of the step embedding.
_BUFFER = re.compile(r"diffusion_embedding\.embedding")
# Modules of known trainers beside the network: BDDM's, which searches schedules.
_KNOWN_MODULES = frozenset({"schedule_net"})


@dataclass(frozen=True, eq=False)
class Selection:
    """The weights of one network.

    Attributes:
        layout: of the names.
        prefix: of the names in the file, without wrappers.
        tensors: by their names in the layout.
        weights: which they are, one of WEIGHTS.
        other_weights: the others that the file has.
        unused: the names of the tensors beside them that belong to no module of the network.
    """

    layout: Layout
    prefix: str
    tensors: dict[str, LazyTensor]
    weights: str = "raw"
    other_weights: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def select_weights(tensors: Mapping[str, LazyTensor], average: Mapping[str, LazyTensor], weights: str) -> Selection:
    """Select weights of a checkpoint; where it lacks the requested ones, those that it has.

    Args:
        tensors: the weights of the file; they may include averages under a prefix.
        average: an average that the file holds apart from them, {} without one.
        weights: one of WEIGHTS.

    Raises:
        CheckpointError: the file holds several networks.
    """
    networks = find_networks(tensors)
    available: dict[str, tuple[NetworkNames, Mapping[str, LazyTensor]]] = {}
    if raws := [network for network in networks if not network.averaged]:
        available["raw"] = _only(raws), tensors
    if apart := find_networks(average):
        # An average kept by lucidrains' EMA holds the raw weights too.
        available["ema"] = next((network for network in apart if network.averaged), apart[0]), average
    elif averages := [network for network in networks if network.averaged]:
        available["ema"] = averages[0], tensors
    if not available:
        return Selection(LMNT, "", dict(tensors))
    kind = weights if weights in available else next(iter(available))
    network, values = available[kind]
    used, unused = _split(renamed(values, network), network.layout)
    others = tuple(name for name in available if name != kind)
    return Selection(network.layout, network.prefix, used, kind, others, unused)


def _only(networks: list[NetworkNames]) -> NetworkNames:
    """Return the only network, or the one without a prefix."""
    bare = [network for network in networks if not network.prefix]
    if len(networks) > 1 and not bare:
        prefixes = ", ".join(f"{network.prefix!r:.40}" for network in networks[:4])
        raise CheckpointError(f"expected one network, got {len(networks)}, whose tensors begin with {prefixes}")
    return (bare or networks)[0]


def _split(tensors: Mapping[str, LazyTensor], layout: Layout) -> tuple[dict[str, LazyTensor], tuple[str, ...]]:
    """Return the tensors of the network's modules, and the names of the others.

    Counters and the table of the steps belong to no module, wherever they are. A tensor of floats inside a module may
    be a weight of a network that differs from DiffWave, so it stays and is reported as unexpected.
    """
    roots = {module.split(".")[0] for known in (layout, LMNT) for module in known.modules.values()}
    used = {}
    for name, tensor in tensors.items():
        inside = name.partition(".")[0] in roots and not _BUFFER.fullmatch(name)
        if inside and (not tensor.problem or layout.parameter.fullmatch(name[:1000])):
            used[name] = tensor
    return used, tuple(name for name in tensors if name not in used and name.partition(".")[0] not in _KNOWN_MODULES)
