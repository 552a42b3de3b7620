"""Which backend runs a network, on which instruction set, in which precision. Chosen once, when it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import InputError, UnavailableError
from engine.kernels import cpu, cuda
from engine.kernels.hopper import build as hopper

# The fastest first.
CPU_PRECISIONS = ("int8", "bf16", "fp32")
GPU_PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
PRECISIONS = ("int8", "fp16", "bf16", "tf32", "fp32")
# Every tier can compute with bytes; on a processor whose fastest is one of these, that is faster than the other
# precisions.
QUICK_WITH_BYTES = ("avx2", "avxvnni", "avx512vnni", "avx512bf16", "dotprod")


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        device: "cpu" or "cuda".
        isa: the tier, one of `engine.kernels.cpu.tiers`, or the GPU's architecture, "sm_90".
        precision: one of PRECISIONS.
        reasons: one sentence per choice, for `Voice.explain`.
        index: which GPU.
    """

    device: str
    isa: str
    precision: str
    reasons: tuple[str, ...]
    index: int = 0


def select(device: str = "auto", precision: str = "auto", isa: str | None = None, calibrated: bool = False) -> Choice:
    """Choose a backend; "auto" and None take the fastest that this machine has.

    Args:
        device, precision, isa: as in `engine.load`.
        calibrated: the network has `Config.int8_ranges`, without which there is no "int8".

    Raises:
        InputError: an unknown name, or an instruction set for a GPU.
        UnavailableError: something known that this machine or build does not have.
    """
    kind, index = _parsed(device)
    if kind == "auto" and isa == hopper.ISA:
        kind = "cuda"
    if precision not in ("auto", *PRECISIONS):
        raise InputError(f"precision: expected 'auto' or {_names(PRECISIONS)}, got {precision!r:.80}")
    if kind == "cuda" and isa not in (None, hopper.ISA):
        expected = f"expected None or {hopper.ISA!r} with device={device!r}"
        raise InputError(f"isa: a GPU's follows from the GPU; {expected}, got {isa!r:.80}")
    obstacle = None if kind == "cpu" or (kind == "auto" and isa is not None) else cuda.obstacle(index)
    if device == "auto" and kind == "cuda" and obstacle:
        raise UnavailableError(f"isa: {isa!r} needs a GPU: {obstacle}; leave isa out")
    if kind == "cuda" and obstacle:
        raise UnavailableError(f"device: {device!r} cannot be used: {obstacle}; device='cpu' can")
    if kind == "cuda" and precision not in ("auto", *GPU_PRECISIONS):
        raise UnavailableError(f"precision: {precision!r} needs a CPU; expected 'auto' or {_names(GPU_PRECISIONS)}")
    if kind == "cuda" or (kind == "auto" and isa is None and not obstacle and precision != "int8"):
        return _gpu(device, precision, index, isa)
    if precision not in ("auto", *CPU_PRECISIONS):
        why = obstacle or "this is a CPU's choice"
        raise UnavailableError(f"precision: {precision!r} needs a GPU: {why}; use precision='auto' or 'fp32'")
    if precision == "int8" and not calibrated:
        raise UnavailableError(
            "precision: 'int8' needs ranges, which this checkpoint does not have; find them with "
            "'engine convert CKPT -o OUT.safetensors --calibrate MEL', or use precision='auto'"
        )
    return _cpu(device, precision, isa, obstacle, calibrated)


def build(config: Config, tensors: Mapping[str, FloatArray], choice: Choice) -> Any:
    """The network, packed for the chosen backend: a CpuNetwork or a GpuNetwork."""
    if choice.device == "cpu":
        return cpu.CpuNetwork(config, tensors, choice.isa, choice.precision)
    from engine.kernels.gpu import GpuNetwork

    return GpuNetwork(config, tensors, cuda.CudaDevice(choice.index), choice.precision, choice.isa)


def _parsed(device: str) -> tuple[str, int]:
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,3}))?", device) if isinstance(device, str) else None
    if match is None or (match[2] and match[1] != "cuda"):
        raise UnavailableError(
            f"device: this build has no backend for {device!r:.80}; expected 'auto', 'cpu', 'cuda' or 'cuda:1'"
        )
    return match[1], int(match[2] or 0)


def _gpu(device: str, precision: str, index: int, isa: str | None) -> Choice:
    found = cuda.isa(index)
    if isa and f"{found}a" != isa:
        raise UnavailableError(f"isa: {isa!r} needs compute capability 9.0, this GPU is {found}; leave isa out")
    if isa and hopper.obstacle():
        raise UnavailableError(f"isa: {isa!r} needs NVRTC: {hopper.obstacle()}; or leave isa out")
    chosen = GPU_PRECISIONS[0] if precision == "auto" else precision
    reasons = (
        f"device cuda:{index}: {cuda.describe(index)}, {'found' if device == 'auto' else 'asked for'}",
        f"isa {isa}: asked for; residual blocks in CUDA" if isa else f"isa {found}: what its kernels are compiled for",
        f"precision {chosen}: {'the fastest' if precision == 'auto' else 'asked for'}",
    )
    return Choice("cuda", isa or found, chosen, reasons, index)


def _cpu(device: str, precision: str, isa: str | None, obstacle: str | None, calibrated: bool) -> Choice:
    tiers = {name: (supported, requires, precisions) for name, supported, requires, precisions in cpu.tiers()}
    if isa is not None and isa not in tuple(tiers):
        raise InputError(f"isa: expected one of {_names(tuple(tiers))}, got {isa!r:.80}")
    if isa is not None and not tiers[isa][0]:
        raise UnavailableError(f"isa: {isa!r} needs {tiers[isa][1]}, which this processor does not have")
    usable = [name for name, (supported, _, _) in tiers.items() if supported] if isa is None else [isa]
    for wanted in CPU_PRECISIONS if precision == "auto" else (precision,):
        able = [name for name in usable if wanted in tiers[name][2]]
        if precision == "auto" and wanted == "int8":
            able = able if calibrated and usable[-1] in QUICK_WITH_BYTES else []
        if able:
            own = "isa" if isa else "int8"
            why = "asked for" if device == "cpu" else f"no GPU: {obstacle}" if obstacle else f"{own} was asked for"
            reasons = (f"device cpu: {why}", *_reasons(precision, isa, able[-1], wanted, tiers))
            return Choice("cpu", able[-1], wanted, reasons)
    have = [name for name, (_, _, precisions) in tiers.items() if precision in precisions]
    raise UnavailableError(
        f"precision: {precision!r} needs a tier that has it ({_names(tuple(have)) or 'none in this build'}), "
        f"got {'isa=' + repr(isa) if isa else 'a processor with ' + _names(tuple(usable))}; "
        "use precision='auto' or 'fp32'"
    )


def _reasons(precision: str, isa: str | None, tier: str, chosen: str, tiers: Mapping[str, Any]) -> tuple[str, ...]:
    above = [name for name in list(tiers)[list(tiers).index(tier) + 1 :]]
    lacking = ", ".join(f"{name} ({tiers[name][1]})" for name in above if not tiers[name][0])
    return (
        f"isa {tier}: "
        + ("asked for" if isa else f"the fastest tier with {chosen}")
        + (f"; not on this processor: {lacking}" if lacking and not isa else ""),
        f"precision {chosen}: " + ("asked for" if precision != "auto" else "the choice for this tier and network"),
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
