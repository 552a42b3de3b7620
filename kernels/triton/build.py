"""Ahead-of-time compilation of Triton functions for one architecture, without a GPU and without tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@dataclass(frozen=True)
class Kernel:
    """A Triton function with everything that is fixed at compile time.

    Attributes:
        function: a function decorated with `triton.jit`.
        types: the types of the run-time arguments, in order, in Triton's notation: "*fp16", "i32", "fp32".
        constants: the other arguments, (name, value).
        warps: warps of a program.
        fused: whether a multiplication and an addition may become one instruction with one rounding.
        dependent: whether it launches while the kernel before it ends. The kernel itself waits for it (gdc_wait).
    """

    function: Any
    types: tuple[str, ...]
    constants: tuple[tuple[str, Any], ...]
    warps: int
    fused: bool = True
    dependent: bool = False

    @property
    def name(self) -> str:
        """Name of the operation."""
        return str(self.function.__name__)

    def compile(self, capability: int) -> Any:
        """Compile for one architecture.

        Pointers are declared 16-byte aligned, which `engine.kernels.device.check_tensors` enforces. Without the
        declaration loads fall to 2 bytes.

        Args:
            capability: compute capability: 80, 86, 89, 90, ...

        Returns:
            Triton's CompiledKernel: `asm` holds "ptx" and "cubin", `metadata` holds num_warps and shared, in bytes.
        """
        constants = dict(self.constants)
        types = iter(self.types)
        signature = {name: "constexpr" if name in constants else next(types) for name in self.function.arg_names}
        aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
        source = ASTSource(fn=self.function, signature=signature, constexprs=constants, attrs=aligned)
        stages = constants.get("STAGES", 1)
        options = {"num_warps": self.warps, "num_stages": stages, "enable_fp_fusion": self.fused}
        options["launch_pdl"] = self.dependent
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def kernel(
    function: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    warps: int,
    fused: bool = True,
    dependent: bool = False,
) -> Kernel:
    """Build a `Kernel`; raise TypeError unless types and constants name exactly the function's arguments."""
    names = [name for name in function.arg_names if name not in constants]
    if sorted(names) != sorted(types) or len(names) + len(constants) != len(function.arg_names):
        raise TypeError(f"{function.__name__}: expected {function.arg_names}, got {[*types, *constants]}")
    return Kernel(function, tuple(types[name] for name in names), tuple(constants.items()), warps, fused, dependent)
