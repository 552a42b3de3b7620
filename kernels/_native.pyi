"""Interface of the native module (csrc/bindings.cpp). `engine.kernels.cpu` is its only caller.

Arrays are float32 and C-contiguous unless said otherwise. The module checks shapes and dtypes and raises ValueError,
TypeError or IndexError. Dims: M mel bands, F frames, L samples, C residual channels, N layers, S steps.
"""

from collections.abc import Mapping, Sequence

from engine.checks.arrays import FloatArray

def tiers() -> list[tuple[str, bool, str, list[str]]]:
    """Return (name, supported here, requirement, precisions) of every instruction set, slowest first."""

def normal(seed: int, step: int, begin: int, count: int) -> FloatArray:
    """Compute `engine.diffusion.noise.normal`, to the same bits."""

def peak(isa: str, precision: str, threads: int, seconds: float) -> float:
    """Measure the multiply-accumulates per second of `threads` threads that work on registers alone."""

class Network_fp32:  # noqa: N801
    """Weights of a network, packed for one instruction set: csrc/cpu/network.h.

    The operations take and return rows, [time, channels], the transpose of `engine.kernels.reference`.

    Attributes:
        reach: the sum of the dilations in samples, which is half of the receptive field.
    """

    reach: int

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
    def frames_of(self, begin: int, end: int) -> tuple[int, int]:
        """Return the frames [first, last) that rows [begin, end) of the upsampled mel depend on.

        Frames outside the mel are included.
        """

    def sweep_bytes(self, steps: int, length: int | None, threads: int, rows: int) -> int:
        """Return the working memory of a sweep in bytes; `length` None means any length."""

    def upsample_mel(self, layer: int, mel: FloatArray) -> FloatArray:
        """Upsample a mel [M,F] of any strides to [L,M]."""

    def project_conditioner(self, layer: int, mel: FloatArray) -> FloatArray:
        """Project an upsampled mel [L,M] to [L,2C], the bias of the dilated convolution included."""

    def input_projection(self, x: FloatArray) -> FloatArray:
        """Project x [L] to h [L,C]."""

    def residual_block(
        self, layer: int, conditioner: FloatArray | None, d: FloatArray, h: FloatArray, skip: FloatArray
    ) -> None:
        """Update h [L,C] and the skip sum [L,C] in place, with conditioner [L,2C] and step bias d [C]."""

    def output_head(self, skip: FloatArray) -> FloatArray:
        """Compute eps [L] from the skip sum [L,C]."""

class Sweep_fp32:  # noqa: N801
    """Denoising steps that travel through time together, each one reach behind the step before: csrc/cpu/sweep.h.

    Attributes:
        tile: the most rows of one `advance`.
        bytes: working memory.
    """

    tile: int
    bytes: int

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
    ) -> None:
        """Set the windows of the signals. Call it again whenever an array has moved.

        Args:
            x: [W], the samples from `origin` on. Updated in place.
            origin: the first sample of x and of noise; 0 by default.
            mel: [M,F], the frames from `first_frame` on, any strides; None for an unconditional network.
            first_frame: the first frame of mel; 0 by default.
            noise: z [S or S-1, W], used instead of normal(seed, noise_step + s, sample).
            scale: multiplies the noise: one value for every `repeat` samples, from value `scale_origin` on.
            scale_origin: the first value of scale; 0 by default.
            repeat: samples per value of scale; 1 by default.
        """

    def advance(self, step: int, begin: int, rows: int) -> None:
        """Process samples [begin, begin + rows) at one step; x becomes final one reach earlier.

        The final samples are [begin - reach, begin - reach + rows).

        Args:
            step: the index of the step within this sweep.
            begin: the first sample; tiles of one step come in order.
            rows: a multiple of 12, at most `tile`.

        Raises:
            ValueError: a window does not hold the samples or frames that the tile needs.
        """

    def end(self, length: int) -> None:
        """Set the length in samples once it is known. No tile may have passed it."""

class Network_bf16(Network_fp32):  # noqa: N801
    """`Network_fp32` with weights and activations in bfloat16."""

class Sweep_bf16(Sweep_fp32):  # noqa: N801
    """`Sweep_fp32` with activations in bfloat16."""
