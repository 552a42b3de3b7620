"""The variants of stack.cu, the size of its tiles, and the time of its launches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from engine.kernels.cuda.build import CudaKernel, headers
from engine.kernels.cuda.groups import CHANNELS, STEP, Group, convolution_steps, kept
from engine.kernels.cuda.stack import Stack
from engine.kernels.hopper import layout
from engine.kernels.launch import Device, Grid, ceil_div

CAPABILITY, ISA = 90, "sm_90a"  # the only architecture that has the instructions of the code
SHARED_LIMIT = 232448  # bytes of shared memory that a block may have
THREADS = 384  # two warpgroups for products, and one of which a thread copies
# Samples of a warpgroup. Small tiles are for short audio and for layers of large dilations. There are few widths, as
# NVRTC takes a second or two for each.
COLUMNS = (16, 32, 64, 96, 104, 112, 120, 128)
# Guesses of `launch_clocks`: the share of the feed that a block reaches, and its clocks outside of layers.
FEED_SHARE, BLOCK_CLOCKS = 0.8, 2500


class HopperStack(Stack):
    """The kernel of stack.cu."""

    isa = ISA
    layer_image = staticmethod(layout.stack_image)
    head_image = staticmethod(layout.head_image)

    def fits(self, bands: int, capability: int) -> bool:
        """See `Stack.fits`."""
        return shared_bytes(COLUMNS[0], bands) <= SHARED_LIMIT

    def largest(self, layers: int, bands: int, bf16: bool, capability: int) -> CudaKernel:
        """See `Stack.largest`."""
        columns = max(n for n in COLUMNS if shared_bytes(n, bands) <= SHARED_LIMIT)
        return kernel(layers, columns, bands, bf16, macros=("HEAD",))

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
        columns = best_columns(group, bands, *shape, device.multiprocessors)
        cluster = (1, 1, 1) if not pairs else (2, 1, 1) if group.stride == 1 else (1, 2, 1)
        compiled = kernel(group.layers, columns, bands, bf16, cluster, tuple(macros))
        return compiled, grid(group, columns, *shape, pairs)


def shared_bytes(columns: int, bands: int) -> int:
    """Return the shared memory of a block in bytes, as stack.cu divides it.

    Args:
        columns: samples of a warpgroup.
        bands: mel bands, a multiple of 16.
    """
    rows = 2 * columns
    tiles = 2 * CHANNELS // 8 * _plane(rows + 16) + bands // 8 * _plane(rows)
    weights = 2 * convolution_steps(bands) * STEP + 2 * 8 * STEP
    return tiles + weights + 64


def grid(group: Group, columns: int, items: int, capacity: int, pair: bool = False) -> Grid:
    """Return the grid of a launch: tiles of one phase, phases, items.

    Args:
        group: the layers.
        columns: samples of a warpgroup.
        items: B.
        capacity: L in samples.
        pair: make the blocks pairs.
    """
    tiles = ceil_div(ceil_div(capacity, group.stride), kept(group.layers, 2 * columns))
    if pair and group.stride == 1:
        tiles += tiles % 2
    return tiles, group.stride, items


def best_columns(group: Group, bands: int, items: int, capacity: int, multiprocessors: int) -> int:
    """Return the samples of a warpgroup for which a launch should take the fewest clocks.

    Args:
        group: the layers.
        bands: mel bands, a multiple of 16.
        items: B.
        capacity: L in samples.
        multiprocessors: multiprocessors of the GPU.
    """
    fitting = [n for n in COLUMNS if shared_bytes(n, bands) <= SHARED_LIMIT and kept(group.layers, 2 * n) > 0]
    return min(fitting, key=lambda n: (launch_clocks(group, n, bands, items, capacity, multiprocessors), -n))


def launch_clocks(group: Group, columns: int, bands: int, items: int, capacity: int, multiprocessors: int) -> float:
    """Return the clocks that a launch should take; no GPU has been measured.

    A multiprocessor runs one block at a time, so that the time is that of a block times the number of waves. A block
    is limited by the shared memory that feeds the tensor cores, 128 bytes a clock.

    Args:
        group: the layers.
        columns: samples of a warpgroup.
        bands: mel bands, a multiple of 16.
        items: B.
        capacity: L in samples.
        multiprocessors: multiprocessors of the GPU.
    """
    tiles, phases, _ = grid(group, columns, items, capacity)
    waves = ceil_div(items * tiles * phases, multiprocessors)
    return waves * (group.layers * feed_bytes(columns, bands) / 128 / FEED_SHARE + BLOCK_CLOCKS)


def feed_bytes(columns: int, bands: int) -> float:
    """Return the bytes that a layer of a block reads from and writes to shared memory.

    A product reads its left operand, 2048 bytes, and 32 bytes a column. z is written once, h read and written once;
    the weights arrive.

    Args:
        columns: samples of a warpgroup.
        bands: mel bands, a multiple of 16.
    """
    products = 2 * (2 * convolution_steps(bands) + 8)  # of both warpgroups
    weights = (2 * convolution_steps(bands) + 8) * STEP
    return products * (STEP + 32 * columns) + 3 * 2 * CHANNELS * 2 * columns + weights


@cache
def kernel(
    layers: int, columns: int, bands: int, bf16: bool, cluster: Grid = (1, 1, 1), macros: tuple[str, ...] = ()
) -> CudaKernel:
    """Build the `CudaKernel` of stack.cu.

    Args:
        layers: layers of a launch.
        columns: samples of a warpgroup.
        bands: mel bands, a multiple of 16; 0 for none.
        bf16: store bf16 instead of fp16.
        cluster: two blocks in one dimension bring each other half of the weights.
        macros: any of "ENTRY", "HEAD", "READ_NOISE" and "SCALED".
    """
    shared = shared_bytes(columns, bands)
    numbers = (("LAYERS", layers), ("COLUMNS", columns), ("BANDS", bands), ("SHARED", shared))
    names = *("BF16",) * bf16, *("PAIR",) * (cluster != (1, 1, 1)), *macros
    defines = *numbers, *((name, 1) for name in names)
    files = *headers("hopper"), ("multiply.h", multiply(columns, bf16))
    return CudaKernel("stack", "hopper", ISA, defines, THREADS, shared, files, cluster, dependent=True)


def multiply(columns: int, bf16: bool) -> str:
    """Return CUDA C++ that adds (or assigns) a product of [64,16] and [16,columns], both in shared memory, to sums."""
    count, kind = columns // 2, "bf16" if bf16 else "f16"
    registers = ",".join(f"%{i}" for i in range(count))
    sums = ", ".join(f'"+f"(sums[{i}])' for i in range(count))
    return (
        f"__device__ __forceinline__ void multiply(float (&sums)[{count}], u64 a, u64 b, int accumulate) {{\n"
        f'  asm volatile("{{.reg .pred p; setp.ne.b32 p, %{count + 2}, 0;"\n'
        f'    " wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind}"\n'
        f'    " {{{registers}}}, %{count}, %{count + 1}, p, 1, 1, 0, 0;}}"\n'
        f'    : {sums} : "l"(a), "l"(b), "r"(accumulate));\n}}\n'
    )


def _plane(rows: int) -> int:
    """Return the bytes of 8 channels of these rows: an odd number of 128-byte lines and 16 bytes."""
    return ((rows + 6) // 8 * 8 + 1) * 16


STACK = HopperStack()
