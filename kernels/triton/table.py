"""Tile sizes of every operation. Nothing is tuned at run time.

A row is chosen by precision and channels; some architectures have rows of their own. The compilers' output determined
the rows: no register is spilled, and loads are 16 bytes wide (tests/gpu/test_machine_code.py checks both). The rows of
measured GPUs come from timings. `pytest --benchmark -m gpu` measures their speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

CAPABILITIES = (80, 86, 89, 90, 100, 120)  # covered by the tests; any other from 80 on compiles too


@dataclass(frozen=True)
class Tile:
    """Tile of a residual block.

    Attributes:
        rows: samples of a program.
        panel: channels gated, or projected to, at a time.
        depth: input channels multiplied at a time.
        stages: loads in flight.
        warps: warps of a program.
        early: load the skip sum and the conditioner before the products; requires that the panel holds all channels.
        dependent: launch while the layer before ends (from compute capability 9.0 on).
    """

    rows: int
    panel: int
    depth: int
    stages: int
    warps: int
    early: bool = False
    dependent: bool = False


@dataclass(frozen=True)
class Precision:
    """Formats of stored numbers and of products. Sums are fp32 in every precision.

    Attributes:
        storage: the type of weights, rows of activations and the conditioner, in Triton's notation.
        product: the format of fp32 products: "tf32" on tensor cores, or "ieee" without them.
        approximate: compute the gate with the tanh of the special-function unit.
    """

    storage: str
    product: str
    approximate: bool


PRECISIONS = MappingProxyType(
    {
        "fp16": Precision("fp16", "tf32", True),
        "bf16": Precision("bf16", "tf32", True),
        "tf32": Precision("fp32", "tf32", False),
        "fp32": Precision("fp32", "ieee", False),
    }
)

_TILES = {
    # storage, product, channels
    ("16 bit", "tf32", 16): Tile(64, 16, 16, 2, 4),
    ("16 bit", "tf32", 32): Tile(64, 32, 32, 2, 4),
    ("16 bit", "tf32", 64): Tile(64, 64, 64, 2, 4),
    ("16 bit", "tf32", 128): Tile(64, 32, 32, 2, 4),
    ("16 bit", "tf32", 256): Tile(64, 32, 32, 2, 4),
    ("fp32", "tf32", 16): Tile(64, 16, 16, 2, 4),
    ("fp32", "tf32", 32): Tile(64, 32, 32, 2, 4),
    ("fp32", "tf32", 64): Tile(64, 32, 32, 2, 4),
    ("fp32", "tf32", 128): Tile(64, 32, 32, 2, 4),
    ("fp32", "tf32", 256): Tile(64, 32, 32, 2, 4),
    ("fp32", "ieee", 16): Tile(32, 16, 16, 2, 8),
    ("fp32", "ieee", 32): Tile(32, 16, 16, 2, 8),
    ("fp32", "ieee", 64): Tile(32, 16, 16, 2, 8),
    ("fp32", "ieee", 128): Tile(32, 16, 16, 2, 8),
    ("fp32", "ieee", 256): Tile(32, 16, 16, 2, 8),
}

# Tiles of single architectures.
_ARCHITECTURE_TILES = {
    (80, "fp32", "ieee", 256): Tile(32, 16, 16, 1, 8),  # with two stages in flight the compiler spills
    # On an H100, 30 layers of 1 s of audio take 0.28 to 0.29 ms; with the row above 0.31 ms:
    (90, "16 bit", "tf32", 64): Tile(64, 64, 64, 3, 4, early=True, dependent=True),
    # 2.5 s take 2.28 ms and 7.13 ms; with the rows above 5.05 ms and 13.9 ms:
    (90, "16 bit", "tf32", 128): Tile(128, 128, 64, 2, 8),
    (90, "16 bit", "tf32", 256): Tile(64, 128, 64, 3, 8),
}

CHANNELS = (16, 32, 64, 128, 256)  # other widths are padded to the next


def residual_tile(capability: int, precision: str, channels: int) -> Tile:
    """Return the tile for one network on one architecture.

    Args:
        capability: 10 * major + minor.
        precision: one of PRECISIONS.
        channels: one of CHANNELS.
    """
    formats = PRECISIONS[precision]
    key = ("fp32" if formats.storage == "fp32" else "16 bit", formats.product, channels)
    return _ARCHITECTURE_TILES.get((capability, *key), _TILES[key])
