"""Functions of one float: rcp, sqrt, ex2, tanh and others.

Approximate instructions return the rounded float64 value. The hardware's value differs from it by an error that depends
on the architecture. Only tanh.approx.f32 has a large error: a machine with ``worst_approximations`` returns values
anywhere within the error that the PTX manual allows.
"""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.arithmetic import elementwise
from tests.gpu.ptx.decode import instruction

TANH_ERROR = 2.0**-11  # relative, at most

UNARY = {
    "rcp": lambda a: a.dtype.type(1) / a,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: (1 / np.sqrt(a.astype(np.float64))).astype(a.dtype),
    "ex2": lambda a: np.exp2(a.astype(np.float64)).astype(a.dtype),
    "lg2": lambda a: np.log2(a.astype(np.float64)).astype(a.dtype),
    "sin": lambda a: np.sin(a.astype(np.float64)).astype(a.dtype),
    "cos": lambda a: np.cos(a.astype(np.float64)).astype(a.dtype),
    "tanh": lambda a: np.tanh(a.astype(np.float64)).astype(a.dtype),
}


def signed_hash(bits: np.ndarray) -> np.ndarray:
    """Return a pseudo-random number from -1 to 1 that depends on the bits alone."""
    mixed = bits * np.uint32(0x9E3779B1)
    mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    return mixed / np.float64(0x7FFFFFFF + 0.5) - 1


def worst_tanh(a: np.ndarray) -> np.ndarray:
    exact = np.tanh(a.astype(np.float64))
    return (exact * (1 + TANH_ERROR * signed_hash(a.view(np.uint32)))).astype(np.float32)


@instruction(*UNARY)
def decode_unary(ins):
    plain = elementwise(ins, UNARY[ins.name])
    if (ins.name, ins.kind) != ("tanh", "f32"):
        return plain
    worst = elementwise(ins, worst_tanh)
    return lambda chunk, mask: (worst if chunk.machine.worst_approximations else plain)(chunk, mask)
