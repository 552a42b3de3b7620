"""The native module (csrc/bindings.cpp); `engine.kernels.cpu` is its one caller."""

from collections.abc import Mapping, Sequence

from engine.checks.arrays import FloatArray

def tiers() -> list[tuple[str, bool, str, list[str]]]: ...
def normal(seed: int, step: int, begin: int, count: int) -> FloatArray: ...
def peak(isa: str, precision: str, threads: int, seconds: float) -> float: ...

class Network_fp32:  # noqa: N801
    def __init__(
        self,
        isa: str,
        arrays: Mapping[str, FloatArray],
        dilations: Sequence[int],
        strides: Sequence[int],
        bands: int,
        reflect: bool,
        residual_carries_d: bool,
    ) -> None: ...
    reach: int
    def frames_of(self, begin: int, end: int) -> tuple[int, int]: ...
    def sweep_bytes(self, steps: int, length: int | None, threads: int, rows: int) -> int: ...
    def upsample_mel(self, layer: int, mel: FloatArray) -> FloatArray: ...
    def project_conditioner(self, layer: int, mel: FloatArray) -> FloatArray: ...
    def input_projection(self, x: FloatArray) -> FloatArray: ...
    def residual_block(
        self, layer: int, conditioner: FloatArray | None, d: FloatArray, h: FloatArray, skip: FloatArray
    ) -> None: ...
    def output_head(self, skip: FloatArray) -> FloatArray: ...

class Sweep_fp32:  # noqa: N801
    def __init__(
        self,
        network: Network_fp32,
        d: FloatArray,
        coefficients: FloatArray,
        clamp: bool,
        seed: int,
        noise_step: int,
        length: int | None,
        threads: int,
        rows: int,
        conditioner_rows: FloatArray | None = ...,
    ) -> None: ...
    tile: int
    bytes: int
    def bind(
        self,
        x: FloatArray,
        origin: int = ...,
        mel: FloatArray | None = ...,
        first_frame: int = ...,
        noise: FloatArray | None = ...,
        scale: FloatArray | None = ...,
        scale_origin: int = ...,
        repeat: int = ...,
    ) -> None: ...
    def advance(self, step: int, begin: int, rows: int) -> None: ...
    def end(self, length: int) -> None: ...

class Network_bf16(Network_fp32): ...  # noqa: N801
class Sweep_bf16(Sweep_fp32): ...  # noqa: N801
