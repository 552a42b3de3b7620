"""Which backend runs a network, on which instruction set, in which precision. Chosen once, when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.config import Config
from engine.errors import InputError, UnavailableError
from engine.kernels import cpu

DEVICES = ("cpu",)
PRECISIONS = ("bf16", "fp32")  # the fastest first


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        device: "cpu".
        isa: the tier, one of `engine.kernels.cpu.tiers`.
        precision: "fp32" or "bf16".
        reasons: one sentence per choice, for `Voice.explain`.
    """

    device: str
    isa: str
    precision: str
    reasons: tuple[str, ...]


def select(device: str = "auto", precision: str = "auto", isa: str | None = None) -> Choice:
    """Choose a backend; "auto" and None take the fastest that this machine has.

    Raises:
        InputError: an unknown name.
        UnavailableError: something known that this machine or build does not have.
    """
    if device not in ("auto", *DEVICES):
        raise UnavailableError(
            f"device: this build has no backend for {device!r:.80}; expected 'auto' or {_names(DEVICES)}"
        )
    if precision not in ("auto", *PRECISIONS):
        raise InputError(f"precision: expected 'auto' or {_names(PRECISIONS)}, got {precision!r:.80}")
    tiers = {name: (supported, requires, precisions) for name, supported, requires, precisions in cpu.tiers()}
    if isa is not None and isa not in tuple(tiers):
        raise InputError(f"isa: expected one of {_names(tuple(tiers))}, got {isa!r:.80}")
    if isa is not None and not tiers[isa][0]:
        raise UnavailableError(f"isa: {isa!r} needs {tiers[isa][1]}, which this processor does not have")
    usable = [name for name, (supported, _, _) in tiers.items() if supported] if isa is None else [isa]
    for wanted in PRECISIONS if precision == "auto" else (precision,):
        able = [name for name in usable if wanted in tiers[name][2]]
        if able:
            return Choice("cpu", able[-1], wanted, _reasons(device, precision, isa, able[-1], wanted, tiers))
    have = [name for name, (_, _, precisions) in tiers.items() if precision in precisions]
    raise UnavailableError(
        f"precision: {precision!r} needs a tier that has it ({_names(tuple(have)) or 'none in this build'}), "
        f"got {'isa=' + repr(isa) if isa else 'a processor with ' + _names(tuple(usable))}; "
        "use precision='auto' or 'fp32'"
    )


def build(config: Config, tensors: Mapping[str, npt.NDArray[np.float32]], choice: Choice) -> cpu.CpuNetwork:
    """The network, packed for the chosen backend."""
    return cpu.CpuNetwork(config, tensors, choice.isa, choice.precision)


def _reasons(
    device: str, precision: str, isa: str | None, tier: str, chosen: str, tiers: Mapping[str, Any]
) -> tuple[str, ...]:
    above = [name for name in list(tiers)[list(tiers).index(tier) + 1 :]]
    lacking = ", ".join(f"{name} ({tiers[name][1]})" for name in above if not tiers[name][0])
    return (
        "device cpu: " + ("asked for" if device != "auto" else "the only backend of this build"),
        f"isa {tier}: "
        + ("asked for" if isa else f"the fastest tier with {chosen}")
        + (f"; not on this processor: {lacking}" if lacking else ""),
        f"precision {chosen}: "
        + ("asked for" if precision != "auto" else "the fastest that this tier has" if not isa or chosen != "fp32"
           else "all that this tier has"),
    )  # fmt: skip


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
