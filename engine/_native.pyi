"""The native module (csrc/bindings.cpp); `engine.kernels.cpu` is its one caller."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

def tiers() -> list[tuple[str, bool, str, list[str]]]: ...
def normal(seed: int, step: int, begin: int, count: int) -> Array: ...
def peak(isa: str, precision: str, threads: int, seconds: float) -> float: ...

class Network_fp32:  # noqa: N801
    def __init__(
        self,
        isa: str,
        arrays: Mapping[str, Array],
        dilations: Sequence[int],
        strides: Sequence[int],
        bands: int,
        reflect: bool,
        residual_carries_d: bool,
    ) -> None: ...
    reach: int
    def frames_of(self, begin: int, end: int) -> tuple[int, int]: ...
    def sweep_bytes(self, steps: int, length: int | None, threads: int, rows: int) -> int: ...
    def upsample_mel(self, layer: int, mel: Array) -> Array: ...
    def project_conditioner(self, layer: int, mel: Array) -> Array: ...
    def input_projection(self, x: Array) -> Array: ...
    def residual_block(self, layer: int, conditioner: Array | None, d: Array, h: Array, skip: Array) -> None: ...
    def output_head(self, skip: Array) -> Array: ...

class Sweep_fp32:  # noqa: N801
    def __init__(
        self,
        network: Network_fp32,
        d: Array,
        coefficients: Array,
        clamp: bool,
        seed: int,
        noise_step: int,
        length: int | None,
        threads: int,
        rows: int,
        conditioner_rows: Array | None = ...,
    ) -> None: ...
    tile: int
    bytes: int
    def bind(
        self,
        x: Array,
        origin: int = ...,
        mel: Array | None = ...,
        first_frame: int = ...,
        noise: Array | None = ...,
        scale: Array | None = ...,
        scale_origin: int = ...,
        repeat: int = ...,
    ) -> None: ...
    def advance(self, step: int, begin: int, rows: int) -> None: ...
    def end(self, length: int) -> None: ...

class Network_bf16(Network_fp32): ...  # noqa: N801
class Sweep_bf16(Sweep_fp32): ...  # noqa: N801
