"""The time of the groups of layers that `kernels/ampere/stack.cu` computes: the model of one launch.

A multiprocessor runs one block at a time, so that the time is that of a block times the number of waves. A block takes
as long as the slower of its arithmetic, at the datasheet's rate, and the shared memory that feeds it, at
`hopper.stack.FEED_SHARE` of either, and `hopper.stack.BLOCK_CLOCKS` outside of layers: the guesses for the kernel on
Hopper. A launch takes no less time than its bytes take in the L2 cache and in device memory.
"""

from __future__ import annotations

from benchmarks.gpu.specs import SHARED_BYTES, Gpu, assumed
from engine.config import Config
from engine.kernels.ampere import stack
from engine.kernels.cuda.groups import CHANNELS, STEP, Group, convolution_steps, groups, kept, padded_bands
from engine.kernels.hopper.stack import BLOCK_CLOCKS, FEED_SHARE

PROJECTIONS = 8  # steps of K of residual and skip columns together
HEAD = 4  # of the output head
SECTOR = 32  # bytes: the least that a single sample of the audio moves


def block_flops(layers: int, warps: int, bands: int, head: bool) -> float:
    """Return the operations of a block on tensor cores, halos included.

    Args:
        layers: layers of the launch.
        warps: warps of a block.
        bands: mel bands, a multiple of 16; 0 for none.
        head: whether the launch includes the output head.
    """
    steps = layers * (2 * convolution_steps(bands) + PROJECTIONS) + HEAD * head
    return 2.0 * 32 * warps * 16 * CHANNELS * steps


def feed_bytes(layers: int, warps: int, bands: int, head: bool) -> float:
    """Return the bytes that a block reads from and writes to shared memory.

    A warp reads the right operand of every step of K, 2048 bytes, and the left one of the convolution, 1024. h is read
    and written once; the weights arrive.

    Args:
        layers: layers of the launch.
        warps: warps of a block.
        bands: mel bands, a multiple of 16; 0 for none.
        head: whether the launch includes the output head.
    """
    convolution = 2 * convolution_steps(bands)
    right = layers * (convolution + PROJECTIONS) + HEAD * head
    operands = warps * (right * STEP + layers * convolution * STEP / 2)
    return operands + layers * 32 * warps * 2 * 2 * CHANNELS + right * STEP


def launch_clocks(gpu: Gpu, config: Config, group: Group, items: int, samples: int) -> tuple[float, str]:
    """Return the clocks of a launch and the name of the resource that bounds it.

    Args:
        gpu: an element of GPUS.
        config: the configuration of the network.
        group: its layers.
        items: number of items in the batch.
        samples: number of samples of each item.
    """
    bands, is_last = padded_bands(config), group == groups(config.dilations)[-1]
    warps = stack.best_width(group, bands, items, samples, gpu)
    tiles, phases, _ = stack.grid(group, warps, items, samples)
    blocks, shape = items * tiles * phases, (group.layers, warps, bands, is_last)
    waves, clock = -(-blocks // gpu.multiprocessors), 1e9 * gpu.ghz
    arithmetic = block_flops(*shape) / (1e12 * gpu.tensor_tflops / gpu.multiprocessors / clock)
    l2 = 1e9 * gpu.l2_gbytes * assumed("l2_efficiency") / clock
    dram = 1e9 * gpu.dram_gbytes * assumed("dram_efficiency") / clock
    rows, weights = moved_bytes(config, group, warps, items * samples), blocks * weight_bytes(group.layers, bands)
    hits = min(1.0, assumed("l2_residency") * 1e6 * gpu.l2_mbytes / rows)
    clocks = {
        "tensor cores": waves * (arithmetic / FEED_SHARE + BLOCK_CLOCKS),
        "shared memory": waves * (feed_bytes(*shape) / SHARED_BYTES / FEED_SHARE + BLOCK_CLOCKS),
        "L2": (rows + weights) / l2,
        "device memory": (1.0 - hits) * rows / dram,
    }
    bound = max(clocks, key=lambda name: clocks[name])
    return clocks[bound], bound


def moved_bytes(config: Config, group: Group, warps: int, samples: float) -> float:
    """Return the bytes of rows that a launch reads, halos included, and writes.

    Args:
        config: the configuration of the network.
        group: the layers.
        warps: warps of a block.
        samples: of all items.
    """
    parts, row = groups(config.dilations), 2 * CHANNELS
    is_first, is_last = group == parts[0], group == parts[-1]
    halo = 32 * warps / kept(group.layers, 32 * warps)
    read = halo * ((4 if is_first else row) + 2 * padded_bands(config)) + (0 if is_first else row)
    return samples * (read + (2 * SECTOR if is_last else 2 * row))


def weight_bytes(layers: int, bands: int) -> int:
    """Return the bytes of the weights that a block reads."""
    return layers * (2 * convolution_steps(bands) + PROJECTIONS) * STEP


def least_seconds(gpu: Gpu, config: Config, samples: float) -> tuple[float, float]:
    """Return lower bounds of all layers: of their arithmetic, and of the shared memory that feeds it, without halos.

    Args:
        gpu: an element of GPUS.
        config: the configuration of the network.
        samples: of all items.
    """
    bands, widest = padded_bands(config), stack.WARPS[-1]
    blocks, clock = config.residual_layers * samples / (32 * widest), 1e9 * gpu.ghz
    arithmetic = blocks * block_flops(1, widest, bands, False) / (1e12 * gpu.tensor_tflops)
    feed = blocks * feed_bytes(1, widest, bands, False) / (gpu.multiprocessors * SHARED_BYTES * clock)
    return arithmetic, feed
