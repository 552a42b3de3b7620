"""Choice of the backend, instruction set and precision that run a network, once per load."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import InputError, UnavailableError
from engine.kernels import cpu
from engine.kernels import device as gpu_device
from engine.kernels.cuda import build as nvrtc
from engine.kernels.hopper.stack import CAPABILITY as HOPPER
from engine.kernels.hopper.stack import ISA as HOPPER_ISA
from engine.kernels.stacks import STACKS

# Fastest first.
CPU_PRECISIONS = ("int8", "bf16", "fp32")
GPU_PRECISIONS = ("fp16", "bf16", "tf32", "fp32")
PRECISIONS = ("int8", "fp16", "bf16", "tf32", "fp32")
# Every tier computes int8. It is the fastest precision of a processor whose fastest tier is one of these.
INT8_FASTEST = ("avx2", "avxvnni", "avx512vnni", "avx512bf16", "dotprod")
# A tier that runs only if it is requested, until it has been measured on a processor that has it.
TILES = "amx"
# Whether a GPU of compute capability 9.0 runs residual layers in groups (kernels/hopper/stack.cu) where it can,
# instead of by Triton. Off until the groups have been measured to be faster on such a GPU.
STACK_IS_DEFAULT = False
GROUPED = tuple(STACKS)  # the values of isa that run residual layers in groups
IN_GROUPS = "residual layers in groups, in CUDA"  # what these do, for messages


@dataclass(frozen=True)
class Choice:
    """A backend and the reasons for it.

    Attributes:
        device: "cpu" or "cuda".
        isa: the tier, one of `engine.kernels.cpu.tiers`, the architecture of the GPU, such as "sm_90", or the kernel of
            `engine.kernels.stacks` that runs residual layers in groups.
        precision: one of PRECISIONS.
        reasons: one sentence per choice, for `Voice.explain`.
        index: the number of the GPU.
    """

    device: str
    isa: str
    precision: str
    reasons: tuple[str, ...]
    index: int = 0


def select(device: str = "auto", precision: str = "auto", isa: str | None = None, calibrated: bool = False) -> Choice:
    """Choose a backend; "auto" and None select the fastest that this machine has.

    Args:
        device: see `engine.load`.
        precision: see `engine.load`.
        isa: see `engine.load`.
        calibrated: whether the network has `Config.int8_ranges`, which "int8" requires.

    Raises:
        InputError: a name is unknown, or a CPU's instruction set was given for a GPU.
        UnavailableError: this machine or build lacks a known device, precision or instruction set.
    """
    kind, index = _parsed(device)
    if kind == "auto" and isa in GROUPED:
        kind = "cuda"
    if precision not in ("auto", *PRECISIONS):
        raise InputError(f"precision: expected 'auto' or {_names(PRECISIONS)}, got {precision!r:.80}")
    if kind == "cuda" and isa is not None and isa not in GROUPED:
        expected = f"expected None or {_names(GROUPED)} with device={device!r}"
        raise InputError(f"isa: {expected}, got {isa!r:.80}; a GPU determines its architecture")
    obstacle = None if kind == "cpu" or (kind == "auto" and isa is not None) else gpu_device.obstacle(index)
    if device == "auto" and kind == "cuda" and obstacle:
        raise UnavailableError(f"isa: {isa!r} needs a GPU: {obstacle}; leave isa out")
    if kind == "cuda" and obstacle:
        raise UnavailableError(f"device: {device!r} cannot be used: {obstacle}; device='cpu' can")
    if kind == "cuda" and precision not in ("auto", *GPU_PRECISIONS):
        raise UnavailableError(f"precision: {precision!r} needs a CPU; expected 'auto' or {_names(GPU_PRECISIONS)}")
    if kind == "cuda" or (kind == "auto" and isa is None and not obstacle and precision != "int8"):
        return _gpu(device, precision, index, isa)
    if precision not in ("auto", *CPU_PRECISIONS):
        why = obstacle or "the CPU was requested"
        raise UnavailableError(f"precision: {precision!r} needs a GPU: {why}; use precision='auto' or 'fp32'")
    if precision == "int8" and not calibrated:
        raise UnavailableError(
            "precision: 'int8' needs ranges, which this checkpoint does not have; measure them with "
            "'engine convert CKPT -o OUT.safetensors --calibrate MEL', or use precision='auto'"
        )
    return _cpu(device, precision, isa, obstacle, calibrated)


def settle(choice: Choice, config: Config) -> Choice:
    """Return the choice for one network: whether its layers run in groups on a GPU, or by Triton.

    A CPU's choice does not change, but is checked.

    Args:
        choice: a choice from `select`.
        config: the configuration of the network.

    Raises:
        UnavailableError: groups of layers, or tile registers, were requested and cannot run the network here.
    """
    if choice.isa == TILES and config.residual_channels % cpu.TILE_CHANNELS:
        raise UnavailableError(
            f"isa: {TILES!r} needs a multiple of {cpu.TILE_CHANNELS} residual channels, got a network with "
            f"{config.residual_channels}; leave isa out"
        )
    requested = choice.isa in GROUPED
    if choice.device != "cuda" or not (requested or (STACK_IS_DEFAULT and choice.isa == f"sm_{HOPPER}")):
        return choice
    architecture = gpu_device.isa(choice.index)
    stack = STACKS[choice.isa if requested else HOPPER_ISA]
    why = stack.obstacle(config, choice.precision, _capability(choice.index))
    if requested and why:
        raise UnavailableError(f"isa: {why}; leave isa out")
    if requested:
        return choice
    line = f"isa {architecture}: Triton, as {why}" if why else f"isa {HOPPER_ISA}: the GPU's architecture; {IN_GROUPS}"
    reasons = tuple(line if reason.startswith("isa ") else reason for reason in choice.reasons)
    return replace(choice, isa=architecture if why else HOPPER_ISA, reasons=reasons)


def group_obstacles(index: int = 0, config: Config | None = None, precision: str = "fp16") -> dict[str, str | None]:
    """Return why each kernel of `engine.kernels.stacks` cannot run on a GPU, or None. Nothing is compiled.

    Whether NVRTC compiles a kernel without spilling registers shows when a network is loaded (`settle`). Requires that
    `engine.kernels.device.obstacle` is None.

    Args:
        index: the number of the GPU.
        config: the configuration of a network that it should run; None for any that the kernel supports.
        precision: the precision of the network.

    Returns:
        By the name of the kernel: None, or "needs" or "supports" with what is missing.
    """

    def obstacle(isa: str) -> str | None:
        if why := _group_obstacle(isa, index):
            return why
        what = STACKS[isa].unsupported(config, precision, _capability(index)) if config else None
        return f"supports {what}" if what else None

    return {isa: obstacle(isa) for isa in GROUPED}


def build(config: Config, tensors: Mapping[str, FloatArray], choice: Choice) -> Any:
    """Pack a network for the chosen backend, as a CpuNetwork or a GpuNetwork."""
    if choice.device == "cpu":
        return cpu.CpuNetwork(config, tensors, choice.isa, choice.precision)
    from engine.kernels.gpu import GpuNetwork

    return GpuNetwork(config, tensors, gpu_device.CudaDevice(choice.index), choice.precision, choice.isa)


def _parsed(device: str) -> tuple[str, int]:
    match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,3}))?", device) if isinstance(device, str) else None
    if match is None or (match[2] and match[1] != "cuda"):
        raise UnavailableError(
            f"device: this build has no backend for {device!r:.80}; expected 'auto', 'cpu', 'cuda' or 'cuda:1'"
        )
    return match[1], int(match[2] or 0)


def _gpu(device: str, precision: str, index: int, isa: str | None) -> Choice:
    architecture = gpu_device.isa(index)
    if isa and (why := _group_obstacle(isa, index)):
        raise UnavailableError(f"isa: {isa!r} {why}; leave isa out")
    chosen = GPU_PRECISIONS[0] if precision == "auto" else precision
    reasons = (
        f"device cuda:{index}: {gpu_device.describe(index)}, {'detected' if device == 'auto' else 'requested'}",
        f"isa {isa}: requested; {IN_GROUPS}" if isa else f"isa {architecture}: the GPU's architecture",
        f"precision {chosen}: {'the fastest' if precision == 'auto' else 'requested'}",
    )
    return Choice("cuda", isa or architecture, chosen, reasons, index)


def _group_obstacle(isa: str, index: int) -> str | None:
    """Return "needs" and what a kernel of `STACKS` lacks on a GPU, or None."""
    architecture = gpu_device.isa(index)
    if isa == HOPPER_ISA and f"{architecture}a" != isa:
        return f"needs compute capability {HOPPER / 10}, this GPU is {architecture}"
    if why := nvrtc.obstacle():
        return f"needs NVRTC: {why}"
    if not nvrtc.knows(_capability(index)):
        return f"needs an NVRTC that compiles for {architecture}, this one is {nvrtc.version()}"
    return None


def _capability(index: int) -> int:
    return int(gpu_device.isa(index).removeprefix("sm_"))


def _cpu(device: str, precision: str, isa: str | None, obstacle: str | None, calibrated: bool) -> Choice:
    tiers = {name: (supported, requires, precisions) for name, supported, requires, precisions in cpu.tiers()}
    if isa is not None and isa not in tuple(tiers):
        raise InputError(f"isa: expected one of {_names(tuple(tiers))}, got {isa!r:.80}")
    if isa is not None and not tiers[isa][0]:
        raise UnavailableError(f"isa: {isa!r} needs {tiers[isa][1]}, which this processor does not have")
    usable = [name for name, (supported, _, _) in tiers.items() if supported and name != TILES]
    usable = usable if isa is None else [isa]
    for candidate in CPU_PRECISIONS if precision == "auto" else (precision,):
        able = [name for name in usable if candidate in tiers[name][2]]
        if precision == "auto" and candidate == "int8":
            able = able if calibrated and usable[-1] in INT8_FASTEST else []
        if able:
            implied = "isa" if isa else "int8"
            why = "requested" if device == "cpu" else f"no GPU: {obstacle}" if obstacle else f"{implied} was requested"
            reasons = (f"device cpu: {why}", *_reasons(precision, isa, able[-1], candidate, tiers))
            return Choice("cpu", able[-1], candidate, reasons)
    have = [name for name, (_, _, precisions) in tiers.items() if precision in precisions]
    raise UnavailableError(
        f"precision: {precision!r} needs a tier that has it ({_names(tuple(have)) or 'none in this build'}), "
        f"got {'isa=' + repr(isa) if isa else 'a processor with ' + _names(tuple(usable))}; "
        + ("use precision='auto'" if precision == "fp32" else "use precision='auto' or 'fp32'")
    )


def _reasons(precision: str, isa: str | None, tier: str, chosen: str, tiers: Mapping[str, Any]) -> tuple[str, ...]:
    above = [name for name in list(tiers)[list(tiers).index(tier) + 1 :]]
    lacking = ", ".join(f"{name} ({tiers[name][1]})" for name in above if not tiers[name][0])
    untried = f"; isa={TILES!r} selects its tile registers, which nobody has measured yet"
    return (
        f"isa {tier}: "
        + ("requested" if isa else f"the fastest tier with {chosen}")
        + (f"; not on this processor: {lacking}" if lacking and not isa else "")
        + (untried if not isa and TILES in above and tiers[TILES][0] else ""),
        f"precision {chosen}: " + ("requested" if precision != "auto" else "the fastest for this tier and network"),
    )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
