"""The variants of stack.cu, and the size of its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from engine.errors import UnavailableError
from engine.kernels.ampere import layout
from engine.kernels.cuda.build import CudaKernel, headers
from engine.kernels.cuda.groups import CHANNELS, STEP, Group, convolution_steps, kept
from engine.kernels.cuda.stack import Stack
from engine.kernels.launch import Device, Grid, ceil_div

ISA = "mma"
# Warps of a block, 32 samples each. A multiprocessor has four tensor cores, each with the registers of two such warps.
WARPS = (4, 8)
# KB of shared memory that a block may have (CUDA programming guide, compute capabilities), by compute capability.
SHARED_KB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99, 121: 99}


class MmaStack(Stack):
    """The kernel of stack.cu."""

    isa = ISA
    layer_image = staticmethod(layout.stack_image)
    head_image = staticmethod(layout.head_image)

    def fits(self, bands: int, capability: int) -> bool:
        """See `Stack.fits`."""
        return bool(widths(bands, capability))

    def largest(self, layers: int, bands: int, bf16: bool, capability: int) -> CudaKernel:
        """See `Stack.largest`."""
        return kernel(layers, widths(bands, capability)[-1], bands, bf16, ("HEAD",))

    def variant(
        self,
        group: Group,
        bands: int,
        shape: tuple[int, int],
        device: Device,
        bf16: bool,
        macros: Sequence[str],
        pairs: bool = False,
    ) -> tuple[CudaKernel, Grid]:
        """See `Stack.variant`."""
        if pairs:
            raise UnavailableError("pairs: expected False; blocks share weights in pairs on Hopper, with isa='sm_90a'")
        warps = best_width(group, bands, *shape, device)
        return kernel(group.layers, warps, bands, bf16, tuple(macros)), grid(group, warps, *shape)


def shared_bytes(warps: int, bands: int) -> int:
    """Return the shared memory of a block in bytes, as stack.cu divides it.

    Args:
        warps: warps of a block.
        bands: mel bands, a multiple of 16.
    """
    rows = 32 * warps
    tiles = CHANNELS // 8 * (rows + 18) * 16 + bands // 8 * (rows + 1) * 16
    return tiles + 2 * ceil_div(convolution_steps(bands), 3) * STEP


def widths(bands: int, capability: int) -> tuple[int, ...]:
    """Return the warps that a block may have, in ascending order.

    Args:
        bands: mel bands, a multiple of 16.
        capability: of the GPU; the least shared memory is assumed of an unknown one.
    """
    limit = 1024 * SHARED_KB.get(capability, min(SHARED_KB.values()))
    return tuple(warps for warps in WARPS if shared_bytes(warps, bands) <= limit)


def grid(group: Group, warps: int, items: int, capacity: int) -> Grid:
    """Return the grid of a launch: tiles of one phase, phases, items.

    Args:
        group: the layers.
        warps: warps of a block.
        items: B.
        capacity: L in samples.
    """
    return ceil_div(ceil_div(capacity, group.stride), kept(group.layers, 32 * warps)), group.stride, items


def best_width(group: Group, bands: int, items: int, capacity: int, device: Device) -> int:
    """Return the warps of a block for which a launch should take the least time; no GPU has been measured.

    The tensor cores are assumed to be the limit. A multiprocessor has four; each computes one warp after the other.

    Args:
        group: the layers.
        bands: mel bands, a multiple of 16.
        items: B.
        capacity: L in samples.
        device: the GPU.
    """

    def time(warps: int) -> int:
        tiles, phases, _ = grid(group, warps, items, capacity)
        return ceil_div(items * tiles * phases, device.multiprocessors) * ceil_div(warps, 4)

    return min(widths(bands, device.capability), key=lambda warps: (time(warps), -warps))


@cache
def kernel(layers: int, warps: int, bands: int, bf16: bool, macros: tuple[str, ...] = ()) -> CudaKernel:
    """Build the `CudaKernel` of stack.cu.

    Args:
        layers: layers of a launch.
        warps: warps of a block.
        bands: mel bands, a multiple of 16; 0 for none.
        bf16: store bf16 instead of fp16.
        macros: any of "ENTRY", "HEAD", "READ_NOISE" and "SCALED".
    """
    shared = shared_bytes(warps, bands)
    numbers = (("LAYERS", layers), ("WARPS", warps), ("BANDS", bands), ("SHARED", shared))
    defines = *numbers, *((name, 1) for name in (*("BF16",) * bf16, *macros))
    return CudaKernel("stack", "ampere", None, defines, 32 * warps, shared, headers("ampere"))


STACK = MmaStack()
