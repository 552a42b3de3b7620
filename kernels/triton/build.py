"""From a Triton function to machine code for one architecture, ahead of time: no GPU is needed, nothing is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@dataclass(frozen=True)
class Kernel:
    """One function with all that is fixed when it is compiled.

    Attributes:
        function: decorated with `triton.jit`.
        types: of the arguments at run time, in order, in Triton's notation: "*fp16", "i32", "fp32".
        constants: of the rest, by name.
        warps: of a program.
        fused: whether a multiplication and an addition may become one instruction with one rounding.
        dependent: launched while the kernel before it ends; it waits for that itself (gdc_wait).
    """

    function: Any
    types: tuple[str, ...]
    constants: tuple[tuple[str, Any], ...]
    warps: int
    fused: bool = True
    dependent: bool = False

    @property
    def name(self) -> str:
        """The operation."""
        return str(self.function.__name__)

    def compile(self, capability: int) -> Any:
        """See `compile_kernel`."""
        return compile_kernel(self, capability)


def kernel(
    function: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    warps: int,
    fused: bool = True,
    dependent: bool = False,
) -> Kernel:
    """Check the names against the function's own and put them in its order."""
    names = [name for name in function.arg_names if name not in constants]
    if sorted(names) != sorted(types) or len(names) + len(constants) != len(function.arg_names):
        raise TypeError(f"{function.__name__}: expected {function.arg_names}, got {[*types, *constants]}")
    return Kernel(function, tuple(types[name] for name in names), tuple(constants.items()), warps, fused, dependent)


def compile_kernel(one: Kernel, capability: int) -> Any:
    """Machine code for compute capability 80, 86, 89, 90, ...

    Pointers are 16-byte aligned: `engine.kernels.gpu` sees to it. Without that promise loads fall to 2 bytes.

    Returns:
        Triton's CompiledKernel: `asm` holds "ptx" and "cubin", `metadata` num_warps and shared, in bytes.
    """
    constants = dict(one.constants)
    types = iter(one.types)
    signature = {name: "constexpr" if name in constants else next(types) for name in one.function.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(fn=one.function, signature=signature, constexprs=constants, attrs=aligned)
    stages = constants.get("STAGES", 1)
    options = {"num_warps": one.warps, "num_stages": stages, "enable_fp_fusion": one.fused}
    options["launch_pdl"] = one.dependent
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
