"""Names of tensors: the layouts of the implementations, the wrappers around a network, the networks in one file.

A trainer saves a network under the names of the modules around it: "module." of DataParallel, "_orig_mod." of
torch.compile, "model." of a Lightning module, "ema_model." of an average. `find_networks` removes what surrounds the
names of a layout, whatever it is called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

MAX_NAME = 300  # characters of a tensor's name; longer names belong to no network
MAX_NETWORKS = 8  # in one file

Value = TypeVar("Value")

# Modules that wrap others, anywhere in a name: DataParallel, torch.compile, FSDP, activation checkpoints, Fabric.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
# Words in the name of an average of the weights over the training.
_WORDS = "ema|swa|shadow|avg|average|averaged|polyak"
_AVERAGE = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})(?=[^a-z]|$)|(?:{_WORDS.title()})(?=[^a-z]|$)|EMA|SWA")
_PARAMETER = r"\.(?:weight|bias|weight_g|weight_v|parametrizations\.weight\.original[01])"
_STAGES = 12  # of an upsampler, more than any hop has prime factors


@dataclass(frozen=True, eq=False)
class Layout:
    """The names of one implementation's modules.

    Attributes:
        name: of the implementation, for messages.
        modules: its name of each of LMNT's modules, "#" for the number of a layer. The rows of an output projection may
            be split: the residual and the skip half then have the names "residual_layers.#.res_conv" and "skip_conv".
    """

    name: str
    modules: Mapping[str, str]

    def rename(self, name: str) -> str:
        """Return LMNT's name of a tensor; a name that this layout does not have stays.

        Args:
            name: in this layout.
        """
        return _substituted(name, self._patterns)

    def original(self, name: str) -> str:
        """Return this layout's name of a tensor; a name that LMNT's layout does not have stays.

        Args:
            name: in LMNT's layout.
        """
        return _substituted(name, self._inverse_patterns)

    @cached_property
    def parameter(self) -> re.Pattern[str]:
        """A pattern that matches the prefix and the name of a parameter; the prefix is the shortest possible."""
        modules = "|".join(_escaped(module) for module in self.modules.values())
        return re.compile(rf"(?P<prefix>(?:.*?\.)??)(?:{modules}){_PARAMETER}")

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [_substitution(theirs, lmnts) for lmnts, theirs in self.modules.items()]

    @cached_property
    def _inverse_patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [_substitution(lmnts, theirs) for lmnts, theirs in self.modules.items()]


def _escaped(template: str) -> str:
    return re.escape(template).replace(r"\#", r"(\d+)")


def _substitution(source: str, target: str) -> tuple[re.Pattern[str], str]:
    return re.compile(rf"{_escaped(source)}(?=\.)"), target.replace("#", r"\1")


def _substituted(name: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, replacement in patterns if len(name) <= MAX_NAME else ():
        if match := pattern.match(name):
            return match.expand(replacement) + name[match.end() :]
    return name


_LAYER_MODULES = ("dilated_conv", "diffusion_projection", "conditioner_projection", "output_projection")
_UPSAMPLER = {f"spectrogram_upsampler.conv{k}": k for k in range(1, _STAGES + 1)}
_LINEAR = ("diffusion_embedding.projection1", "diffusion_embedding.projection2")
_CONVOLUTIONS = ("input_projection", "skip_projection", "output_projection")
_BLOCK = "residual_layer.residual_blocks.#"

LMNT = Layout(
    "LMNT",
    {
        module: module
        for module in (
            *(*_CONVOLUTIONS, *_LINEAR, *_UPSAMPLER, "label_embedding"),
            *(f"residual_layers.#.{module}" for module in (*_LAYER_MODULES, "label_projection", *_UPSAMPLER)),
        )
    },
)
SPEECHBRAIN = Layout(
    "SpeechBrain",
    {
        **{module: f"{module}.conv" for module in _CONVOLUTIONS},
        **{module: f"{module}.w" for module in _LINEAR},
        **{module: module for module in _UPSAMPLER},
        **{f"residual_layers.#.{m}": f"residual_layers.#.{m}.conv" for m in _LAYER_MODULES if "diffusion" not in m},
        "residual_layers.#.diffusion_projection": "residual_layers.#.diffusion_projection.w",
    },
)
PHILSYN = Layout(
    "philsyn",
    {
        "input_projection": "init_conv.0.conv",
        "diffusion_embedding.projection1": "residual_layer.fc_t1",
        "diffusion_embedding.projection2": "residual_layer.fc_t2",
        "residual_layers.#.diffusion_projection": f"{_BLOCK}.fc_t",
        "residual_layers.#.dilated_conv": f"{_BLOCK}.dilated_conv_layer.conv",
        **{f"residual_layers.#.{module}": f"{_BLOCK}.upsample_conv2d.{k - 1}" for module, k in _UPSAMPLER.items()},
        "residual_layers.#.conditioner_projection": f"{_BLOCK}.mel_conv.conv",
        "residual_layers.#.res_conv": f"{_BLOCK}.res_conv",
        "residual_layers.#.skip_conv": f"{_BLOCK}.skip_conv",
        "skip_projection": "final_conv.0.conv",
        "output_projection": "final_conv.2.conv",
    },
)
LAYOUTS = (LMNT, SPEECHBRAIN, PHILSYN)


@dataclass(frozen=True)
class NetworkNames:
    """The tensors of one network among those of a file.

    Attributes:
        layout: of the names.
        prefix: what precedes every name in the file, without wrappers; "" or with a dot at its end.
        names: name in the file -> name in the layout. Names that no layout has may be among them.
        parameters: how many of the names are those of parameters of the layout.
    """

    layout: Layout
    prefix: str
    names: dict[str, str]
    parameters: int

    @property
    def averaged(self) -> bool:
        """Whether the prefix says that the weights are an average over the training."""
        return is_average(self.prefix)


def is_average(name: str) -> bool:
    """Return whether a key or a prefix says that weights are an average over the training (EMA, SWA)."""
    return len(name) <= MAX_NAME and _AVERAGE.search(name) is not None


def find_networks(names: Iterable[str]) -> list[NetworkNames]:
    """Find the networks among the tensors of a file; the most complete one comes first.

    A network is a set of names with a common prefix of which a layout has at least half as many parameters as the most
    complete set has. Wrappers do not count as prefixes and may stand anywhere in a name.

    Args:
        names: of the tensors, as they are in the file.

    Returns:
        The networks; none if no layout has any of the names.
    """
    plain = _without_wrappers(list(names))
    votes: Counter[tuple[Layout, str]] = Counter()
    for name in plain.values():
        votes.update(_memberships(name) if len(name) <= MAX_NAME else ())
    best = max(votes.values(), default=0)
    chosen: dict[str, tuple[Layout, int]] = {}
    for (layout, prefix), count in votes.most_common(3 * MAX_NETWORKS):
        if 2 * count > best and prefix not in chosen and len(chosen) < MAX_NETWORKS:
            chosen[prefix] = layout, count
    owned: dict[str, dict[str, str]] = {prefix: {} for prefix in chosen}
    longest_first = sorted(chosen, key=len, reverse=True)
    for file_name, name in plain.items():
        for prefix in longest_first:
            if name.startswith(prefix):
                owned[prefix][file_name] = name[len(prefix) :]
                break
    networks = [NetworkNames(layout, prefix, owned[prefix], count) for prefix, (layout, count) in chosen.items()]
    return networks + [average for network in networks[:1] if (average := _without_dots(network, plain)) is not None]


def parameter_names(names: Iterable[str]) -> set[str]:
    """Return those names that are parameters of the most complete network among them, not buffers or counters.

    Args:
        names: of the tensors, as they are in the file.
    """
    network = next(iter(find_networks(names)), None)
    parameters = network.names.items() if network else ()
    return {name for name, plain in parameters if network and network.layout.parameter.fullmatch(plain)}


def renamed(tensors: Mapping[str, Value], network: NetworkNames) -> dict[str, Value]:
    """Return the tensors of a network under the names of its layout.

    Args:
        tensors: of the file, under the file's names.
        network: one of `find_networks`.
    """
    return {name: tensors[file_name] for file_name, name in network.names.items()}


@lru_cache(maxsize=1024)
def _memberships(name: str) -> tuple[tuple[Layout, str], ...]:
    """Return the layouts that have a parameter of this name, with the prefix before it."""
    matches = ((layout, layout.parameter.fullmatch(name)) for layout in LAYOUTS)
    return tuple((layout, match["prefix"]) for layout, match in matches if match)


def _without_wrappers(names: Sequence[str]) -> dict[str, str]:
    """Return every name without the wrappers in it, unless two names would then be equal."""
    short = {name: name.split(".") for name in names if len(name) <= MAX_NAME}
    without = {name: ".".join(part for part in parts if part not in _WRAPPERS) for name, parts in short.items()}
    plain = {name: without.get(name, name) for name in names}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}


def _without_dots(network: NetworkNames, plain: Mapping[str, str]) -> NetworkNames | None:
    """Return the average that is stored under the network's names without their dots, as LitEma does."""
    by_name = {name: file_name for file_name, name in plain.items()}
    first = next(iter(network.names.values())).replace(".", "")
    prefixes = (name.removesuffix(first) for name in by_name if name.endswith(first))
    prefix = next((prefix for prefix in prefixes if is_average(prefix)), None)
    if prefix is None:
        return None
    found = {by_name.get(f"{prefix}{name.replace('.', '')}", ""): name for name in network.names.values()}
    found.pop("", None)
    return NetworkNames(network.layout, prefix, found, len(found)) if 2 * len(found) > len(network.names) else None
