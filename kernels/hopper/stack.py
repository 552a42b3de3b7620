"""Residual layers in groups: how stack.cu divides a network, its variants, and its launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from engine.config import Config
from engine.errors import UnavailableError
from engine.kernels.hopper.build import CAPABILITY, ISA, CudaKernel
from engine.kernels.hopper.build import obstacle as nvrtc_obstacle
from engine.kernels.hopper.layout import CHANNELS
from engine.kernels.launch import Grid, ceil_div

MOST_LAYERS = 4  # of a launch: five would spoil 31 samples at either end of a tile
SHARED_LIMIT = 232448  # bytes of shared memory that a block may have
THREADS = 384  # two warpgroups for products, and one of which a thread copies
# Samples of a warpgroup. Small tiles are for short audio and for layers of large dilations. There are few widths, as
# NVRTC takes a second or two for each.
COLUMNS = (16, 32, 64, 96, 104, 112, 120, 128)
# Guesses of `launch_clocks`: the share of the feed that a block reaches, and its clocks outside of layers.
FEED_SHARE, BLOCK_CLOCKS = 0.8, 2500
_STEP = 2048  # bytes of the left operand of a product


@dataclass(frozen=True)
class Group:
    """Consecutive layers whose dilations double.

    Attributes:
        first: the index of the first layer.
        layers: their number.
        stride: the dilation of the first one; the launch works on every stride-th sample.
    """

    first: int
    layers: int
    stride: int


def groups(dilations: Sequence[int]) -> tuple[Group, ...]:
    """Divide layers into groups of at most four, as equal as possible: a cycle of 10 layers into 4 + 3 + 3."""
    begins = [i for i in range(len(dilations)) if i == 0 or dilations[i] != 2 * dilations[i - 1]]
    result = []
    for first, last in zip(begins, [*begins[1:], len(dilations)], strict=True):
        parts = ceil_div(last - first, MOST_LAYERS)
        for part in range(parts):
            layers = ceil_div(last - first, parts - part)
            result.append(Group(first, layers, dilations[first]))
            first += layers
    return tuple(result)


def check(config: Config, precision: str) -> None:
    """Check that the kernel supports a network.

    Args:
        config: the configuration of the network.
        precision: the precision of the network.

    Raises:
        UnavailableError: the kernel does not support the network or the precision.
    """
    if what := _unsupported(config, precision):
        raise UnavailableError(f"isa: {ISA!r} supports {what}; leave isa out")


def obstacle(config: Config, precision: str) -> str | None:
    """Return why the kernel should not run a network here, or None. It is compiled, in its largest variant.

    Args:
        config: the configuration of the network.
        precision: the precision of the network.
    """
    if why := nvrtc_obstacle():
        return why
    if what := _unsupported(config, precision):
        return f"{ISA!r} supports {what}"
    bands = _bands(config)
    layers = max(group.layers for group in groups(config.dilations))
    columns = max(n for n in COLUMNS if shared_bytes(layers, n, bands) <= SHARED_LIMIT)
    try:
        kernel(layers, columns, bands, precision == "bf16", macros=("HEAD",)).compile(CAPABILITY)
    except (UnavailableError, RuntimeError) as error:
        return str(error).removeprefix("isa: ").removesuffix("; leave isa out")
    return None


def _unsupported(config: Config, precision: str) -> str | None:
    """Return what the kernel supports instead of this network, or None."""
    bands = _bands(config)
    obstacles = (
        (
            config.residual_channels > CHANNELS or precision not in ("fp16", "bf16"),
            f"up to {CHANNELS} channels in fp16 and bf16, this network has {config.residual_channels} in {precision}",
        ),
        (config.padding != "zeros", f"zero padding, this network has padding={config.padding!r}"),
        (not config.shared_upsampler, "one mel upsampler, this network has one in every layer"),
        (
            shared_bytes(MOST_LAYERS, COLUMNS[0], bands) > SHARED_LIMIT,
            f"mels that fit into shared memory, this network has {config.n_mels} bands",
        ),
    )
    return next((what for unsupported, what in obstacles if unsupported), None)


def _bands(config: Config) -> int:
    return ceil_div(config.n_mels, 16) * 16


def shared_bytes(layers: int, columns: int, bands: int) -> int:
    """Return the shared memory of a block in bytes, as stack.cu divides it.

    Args:
        layers: layers of a launch.
        columns: samples of a warpgroup.
        bands: mel bands, a multiple of 16.
    """
    rows = 2 * columns
    tiles = 2 * CHANNELS // 8 * _plane(rows + 16) + bands // 8 * _plane(rows)
    weights = 2 * _steps(bands) * _STEP + 2 * 8 * _STEP
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
    tiles = ceil_div(ceil_div(capacity, group.stride), _kept(group.layers, columns))
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
    fitting = [
        n for n in COLUMNS if shared_bytes(group.layers, n, bands) <= SHARED_LIMIT and _kept(group.layers, n) > 0
    ]
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
    products = 2 * (2 * _steps(bands) + 8)  # of both warpgroups
    weights = (2 * _steps(bands) + 8) * _STEP
    return products * (_STEP + 32 * columns) + 3 * 2 * CHANNELS * 2 * columns + weights


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
    shared = shared_bytes(layers, columns, bands)
    numbers = (("LAYERS", layers), ("COLUMNS", columns), ("BANDS", bands), ("SHARED", shared))
    names = *("BF16",) * bf16, *("PAIR",) * (cluster != (1, 1, 1)), *macros
    defines = *numbers, *((name, 1) for name in names)
    folder = resources.files("engine.kernels.hopper")
    files = [(name, folder.joinpath(name).read_text()) for name in ("instructions.cu", "noise.cu")]
    headers = *files, ("multiply.h", multiply(columns, bf16))
    return CudaKernel("stack", defines, THREADS, shared, headers, cluster)


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


def _kept(layers: int, columns: int) -> int:
    """Return the samples of a tile that come out right: every layer spoils its dilation at either end."""
    return 2 * columns - 2 * ((1 << layers) - 1)


def _plane(rows: int) -> int:
    """Return the bytes of 8 channels of these rows: an odd number of 128-byte lines and 16 bytes."""
    return ((rows + 6) // 8 * 8 + 1) * 16


def _steps(bands: int) -> int:
    """Return the products of a half of the convolution with its conditioner."""
    return (3 * CHANNELS + bands) // 16
