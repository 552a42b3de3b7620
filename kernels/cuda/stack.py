"""The interface of the kernels that run residual layers in groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import UnavailableError
from engine.kernels.cuda import build
from engine.kernels.cuda.build import CudaKernel
from engine.kernels.cuda.groups import Array, Group, groups, padded_bands, unsupported
from engine.kernels.launch import Device, Grid


class Stack(ABC):
    """A kernel, in all its variants, that runs residual layers in groups.

    Attributes:
        isa: its name as an instruction set, for `engine.load`.
    """

    isa: str

    def check(self, config: Config, precision: str, capability: int) -> None:
        """Check that the kernel supports a network.

        Args:
            config: the configuration of the network.
            precision: the precision of the network.
            capability: of the GPU, 10 * major + minor.

        Raises:
            UnavailableError: the kernel does not support the network or the precision.
        """
        if what := self.unsupported(config, precision, capability):
            raise UnavailableError(f"isa: {self.isa!r} supports {what}; leave isa out")

    def obstacle(self, config: Config, precision: str, capability: int) -> str | None:
        """Return why the kernel should not run a network here, or None. It is compiled, in its largest variant.

        Args:
            config: the configuration of the network.
            precision: the precision of the network.
            capability: of the GPU, 10 * major + minor.
        """
        if why := build.obstacle():
            return why
        if what := self.unsupported(config, precision, capability):
            return f"{self.isa!r} supports {what}"
        layers = max(group.layers for group in groups(config.dilations))
        try:
            self.largest(layers, padded_bands(config), precision == "bf16", capability).compile(capability)
        except (UnavailableError, RuntimeError) as error:
            return str(error).removeprefix("isa: ").removesuffix("; leave isa out")
        return None

    def unsupported(self, config: Config, precision: str, capability: int) -> str | None:
        """Return what the kernel supports instead of a network, or None. Nothing is compiled.

        Args:
            config: the configuration of the network.
            precision: the precision of the network.
            capability: of the GPU, 10 * major + minor.
        """
        return unsupported(config, precision, not self.fits(padded_bands(config), capability))

    @abstractmethod
    def fits(self, bands: int, capability: int) -> bool:
        """Return whether tiles fit into shared memory.

        Args:
            bands: mel bands, a multiple of 16.
            capability: of the GPU.
        """

    @abstractmethod
    def largest(self, layers: int, bands: int, bf16: bool, capability: int) -> CudaKernel:
        """Return the variant that needs the most registers.

        Args:
            layers: layers of a launch.
            bands: mel bands, a multiple of 16; 0 for none.
            bf16: store bf16 instead of fp16.
            capability: of the GPU.
        """

    @abstractmethod
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
        """Return the kernel and the grid of one launch.

        Args:
            group: the layers.
            bands: mel bands, a multiple of 16; 0 for none.
            shape: items B and their capacity L in samples.
            device: the GPU.
            bf16: store bf16 instead of fp16.
            macros: any of "ENTRY", "HEAD", "READ_NOISE" and "SCALED".
            pairs: make the blocks pairs that share their weights, where the GPU can.
        """

    @abstractmethod
    def layer_image(self, dilated: Array, conditioner: Array | None, projection: Array) -> FloatArray:
        """Arrange the weights of one layer for the kernel.

        Args:
            dilated: [3,C,2C], W_k transposed, columns interleaved.
            conditioner: [bands,2C], transposed, columns interleaved; None without a mel.
            projection: [C,2C], transposed, residual columns first.
        """

    @abstractmethod
    def head_image(self, hidden: Array) -> FloatArray:
        """Arrange the hidden weights [C,C] of the output head, transposed, for the kernel."""
