"""Compiled Triton kernels in the PTX interpreter against NumPy, and mutations of their PTX, which must be detected."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")

import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.gpu.ptx import mutate
from tests.gpu.ptx.errors import PTXError, UnsupportedError
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import parse

ARCHITECTURES = (80, 86, 89, 90, 120)
C, ROWS = 64, 64
# Triton 3.6 omits the fence between cp.async and wgmma.
FENCED = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 9)
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# Relative to the largest value. Inputs are rounded before, so only the product and the output are rounded.
LIMITS = {"fp16": 2e-3, "bf16": 1.5e-2, "fp32": 4e-3}


@triton.jit
def block(x, y, taps, head, bias, sums, length, dilation, C: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr):
    """Compute a pipelined dilated convolution, a gate on interleaved columns, a product and a sum over columns."""
    tile = tl.program_id(0)
    base = tl.program_id(1).to(tl.int64) * length
    rows = tile * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, C)
    n = tl.arange(0, 2 * C)
    acc = tl.zeros((ROWS, 2 * C), tl.float32)
    for k in tl.range(0, 3, num_stages=STAGES):
        r = rows + (k - 1) * dilation
        inside = (r >= 0) & (r < length)
        part = tl.load(x + (base + r[:, None]) * C + c[None, :], mask=inside[:, None], other=0.0)
        acc = tl.dot(part, tl.load(taps + (k * C + c)[:, None] * (2 * C) + n[None, :]), acc)
    acc += tl.load(bias + n)[None, :]
    f, g = tl.split(tl.reshape(acc, (ROWS, C, 2)))
    z = (f / (1.0 + tl.exp(-g))).to(x.dtype.element_ty)
    o = tl.dot(z, tl.load(head + c[:, None] * C + c[None, :]))
    kept = rows < length
    tl.store(y + (base + rows[:, None]) * C + c[None, :], o.to(y.dtype.element_ty), mask=kept[:, None])
    tl.store(sums + base + rows, tl.sum(o, 1), mask=kept)


@triton.jit
def draw(out, seed, ROWS: tl.constexpr):
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(out + 4 * i, a)
    tl.store(out + 4 * i + 1, b)
    tl.store(out + 4 * i + 2, c)
    tl.store(out + 4 * i + 3, d)


@triton.jit
def normal(out, seed, ROWS: tl.constexpr):
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tl.store(out + i, tl.randn(seed, i))


def compile_for(function, arch: int, signature: dict[str, str], constants: dict[str, int]):
    attributes = {
        (i,): [["tt.divisibility", 16]] for i, n in enumerate(function.arg_names) if signature.get(n, "")[:1] == "*"
    }
    signature = {**signature, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4, "enable_fp_fusion": True}
    )


@cache
def compiled_block(arch: int, kind: str):
    names = {n: f"*{kind}" for n in ("x", "y", "taps", "head")}
    signature = {**names, "bias": "*fp32", "sums": "*fp32", "length": "i32", "dilation": "i32"}
    kernel = compile_for(block, arch, signature, {"C": C, "ROWS": ROWS if kind != "fp32" else 32, "STAGES": 3})
    return kernel.asm["ptx"], kernel.metadata.shared


def inputs(kind: str, length: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    shapes = {"x": (2, length, C), "taps": (3, C, 2 * C), "head": (C, C), "bias": (2 * C,)}
    scales = {"x": 1.0, "taps": 0.07, "head": 0.12, "bias": 0.1}
    return {
        name: (torch.randn(shape, generator=rng) * scales[name]).to(torch.float32 if name == "bias" else TYPES[kind])
        for name, shape in shapes.items()
    }


def expected_block(tensors: dict[str, torch.Tensor], dilation: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    x, taps, head, bias = (tensors[n].double().numpy() for n in ("x", "taps", "head", "bias"))
    padded = np.pad(x, ((0, 0), (dilation, dilation), (0, 0)))
    acc = sum(padded[:, k * dilation : k * dilation + x.shape[1]] @ taps[k] for k in range(3)) + bias
    z = acc[..., 0::2] / (1 + np.exp(-acc[..., 1::2]))
    o = torch.from_numpy(z).to(TYPES[kind]).double().numpy() @ head
    return o, o.sum(-1)


def run_block(ptx: str, shared: int, kind: str, length: int, dilation: int):
    """Return the error of the results against NumPy, divided by the limit."""
    machine, tensors = Machine(1 << 22), inputs(kind, length)
    x, taps, head, bias = (machine.put(tensors[name]) for name in ("x", "taps", "head", "bias"))
    y, sums = machine.empty(x.shape, x.dtype), machine.empty(x.shape[:2], torch.float32)
    arguments = [x, y, taps, head, bias, sums, length, dilation]
    tiles = -(-length // (ROWS if kind != "fp32" else 32))
    machine.launch(parse(ptx), (tiles, 2), 128, arguments, shared, max_steps=20_000, fenced_copies=FENCED)
    errors = []
    for got, want in zip((y, sums), expected_block(tensors, dilation, kind), strict=True):
        errors.append(float(np.abs(got.double().numpy() - want).max() / np.abs(want).max()) / LIMITS[kind])
    worst = max(errors)
    return np.inf if np.isnan(worst) else worst


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_block(arch, kind):
    assert run_block(*compiled_block(arch, kind), kind, 150, 8) < 1


def test_the_matrix_instructions_of_every_generation_are_covered():
    assert "m16n8k16" in compiled_block(80, "fp16")[0] and "wgmma.mma_async" in compiled_block(90, "bf16")[0]
    assert "tf32" in compiled_block(120, "fp32")[0] and "cp.async" in compiled_block(89, "fp16")[0]


def test_tensor_memory_of_blackwell_is_unsupported():
    ptx, shared = compiled_block(100, "fp16")
    assert "tcgen05" in ptx
    with pytest.raises(UnsupportedError, match="not implemented"):
        run_block(ptx, shared, "fp16", 64, 1)


def philox(key: int, counter: np.ndarray) -> np.ndarray:
    """Compute Philox4x32-10 of counters (c, 0, 0, 0) with the key (key, 0)."""
    c = [counter.astype(np.uint64)] + [np.zeros(len(counter), np.uint64)] * 3
    low, k0, k1 = np.uint64(0xFFFFFFFF), key, 0
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack(c, -1).astype(np.uint32)


@pytest.mark.parametrize("arch", [80, 90])
def test_philox_and_normal_numbers(arch):
    machine, seed = Machine(1 << 20), 0x1234
    drawn, numbers = machine.empty((1024, 4), torch.int32), machine.empty(1024, torch.float32)
    kernel = compile_for(draw, arch, {"out": "*i32", "seed": "i32"}, {"ROWS": 256})
    machine.launch(parse(kernel.asm["ptx"]), 4, 128, [drawn, seed], kernel.metadata.shared)
    bits = philox(seed, np.arange(1024))
    np.testing.assert_array_equal(drawn.numpy().view(np.uint32), bits)
    # Triton's Box-Muller transform. The cosine has a slow path in local memory, with carries.
    kernel = compile_for(normal, arch, {"out": "*fp32", "seed": "i32"}, {"ROWS": 256})
    machine.launch(parse(kernel.asm["ptx"]), 4, 128, [numbers, seed], kernel.metadata.shared)
    u = np.where(bits.view(np.int32) < 0, ~bits.view(np.int32), bits.view(np.int32)) * np.float64(4.6566127342e-10)
    want = np.sqrt(-2 * np.log(np.maximum(u[:, 0], 1e-7))) * np.cos(2 * np.pi * u[:, 1])
    np.testing.assert_allclose(numbers.numpy(), want, atol=2e-6)


# Kind of mutation: architecture, stride through the mutations in `make slow`, stride otherwise, and the share that must
# be detected. The rest have no effect: the loop's first wait and barrier repeat those before it and those at its end.
# Without the first commit two groups that are waited for together become one. Triton 3.6 also lets one of two threads
# with the same value store it.
SCORED = {
    "barriers": (80, 1, 3, 0.9),
    "waits": (80, 1, 1, 0.7),
    "raised waits": (80, 1, 1, 0.7),
    "commits": (80, 1, 1, 0.8),
    "matrix waits": (90, 1, 1, 1.0),
    "fences": (90, 1, 1, 1.0),
    "swizzles": (80, 1, 5, 0.9),
    "predicates": (80, 1, 1, 0.6),
    "addresses": (80, 6, 18, 0.9),
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize("kind", SCORED)
def test_faults_are_detected(kind, every, capsys):
    arch, stride, wide_stride, least = SCORED[kind]
    ptx, shared = compiled_block(arch, "fp16")
    mutants = list(mutate.KINDS[kind](ptx))[:: stride if every else wide_stride]
    missed = [mutant for mutant in mutants if not detected(mutant.ptx, shared)]
    count = len(mutants) - len(missed)
    with capsys.disabled():
        undetected = (f"not {mutant.name} line {mutant.line}" for mutant in missed)
        print(f"\nsm_{arch} {kind}: {count} of {len(mutants)} detected,", *undetected)
    assert mutants
    assert count >= least * len(mutants)


def detected(ptx: str, shared: int) -> bool:
    try:
        return not run_block(ptx, shared, "fp16", 150, 8) < 1
    except PTXError:
        return True
