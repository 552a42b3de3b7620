"""How each operation is cut into programs. Nothing is tuned at run time: these lines are all there is.

A line is chosen by precision and channels, and by architecture where one wants its own. They come from the compilers:
no register is spilled, loads are 16 bytes wide (tests/gpu/test_machine_code.py holds them to it); where a GPU was at
hand, from its clock. `pytest --benchmark -m gpu` says what they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

CAPABILITIES = (80, 86, 89, 90, 100, 120)  # what the proofs cover; others from 80 on are compiled all the same


@dataclass(frozen=True)
class Tile:
    """Of a residual block.

    Attributes:
        rows: samples of a program.
        panel: channels gated, or projected to, at a time.
        depth: input channels multiplied at a time.
        stages: of loads in flight.
        warps: of a program.
        early: what is added to the products is loaded before them; only where the panel is all channels.
        dependent: launched while the layer before it ends (from compute capability 9.0 on).
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
    """How numbers are kept and multiplied; sums are fp32 in all of them.

    Attributes:
        storage: of weights, rows of activations and the conditioner, in Triton's notation.
        product: how the tensor cores take fp32: "tf32", or "ieee", which does without them.
        approximate: the gate by the special-function unit's tanh.
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

# Where an architecture wants its own.
_OWN = {
    (80, "fp32", "ieee", 256): Tile(32, 16, 16, 1, 8),  # with two stages in flight its compiler spills
    # Measured on an H100, 30 layers. 1 s of audio in 0.28 to 0.29 ms where the line above takes 0.31 ms:
    (90, "16 bit", "tf32", 64): Tile(64, 64, 64, 3, 4, early=True, dependent=True),
    # 2.5 s in 2.28 ms and 7.13 ms where the lines above take 5.05 ms and 13.9 ms:
    (90, "16 bit", "tf32", 128): Tile(128, 128, 64, 2, 8),
    (90, "16 bit", "tf32", 256): Tile(64, 128, 64, 3, 8),
}

CHANNELS = (16, 32, 64, 128, 256)  # others are padded to the next


def residual_tile(capability: int, precision: str, channels: int) -> Tile:
    """The line for one network on one architecture."""
    of = PRECISIONS[precision]
    key = ("fp32" if of.storage == "fp32" else "16 bit", of.product, channels)
    return _OWN.get((capability, *key), _TILES[key])
