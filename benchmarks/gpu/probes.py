"""Two Triton programs with published rates, a large bf16 product and a copy, on which `roofline.py` is validated."""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl

from benchmarks.gpu.launch_model import Work, cost_of
from engine.kernels.triton.build import Kernel, kernel
from tests.gpu.devices import compile_once, program_of
from tests.gpu.ptx.counters import Counters
from tests.gpu.ptx.machine import Machine

SIZE = 8192  # rows and columns of the product
COUNTED = 512  # executed part of its inner dimension; the counts are scaled
COPIED = 1 << 30  # elements of two bytes


@triton.jit
def product(
    a_ptr,
    b_ptr,
    c_ptr,
    inner,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute one tile of ``c = a b``: a [*, inner], b [inner, columns], c [*, columns]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in tl.range(0, inner // DEPTH, num_stages=STAGES):
        a = tl.load(a_ptr + (row * (inner // DEPTH))[:, None] * DEPTH + (k * DEPTH + depth)[None, :])
        b = tl.load(b_ptr + ((k * DEPTH + depth) * (columns // COLUMNS))[:, None] * COLUMNS + column[None, :])
        total = tl.dot(a, b, total)
    c = c_ptr + (row * (columns // COLUMNS))[:, None] * COLUMNS + column[None, :]
    tl.store(c, total.to(c_ptr.dtype.element_ty))


@triton.jit
def copy(source_ptr, target_ptr, COUNT: tl.constexpr):
    """Copy COUNT elements per program."""
    index = tl.program_id(0) * COUNT + tl.arange(0, COUNT)
    tl.store(target_ptr + index, tl.load(source_ptr + index))


def product_work(capability: int) -> tuple[Work, float]:
    """Return the launch of the whole product and its floating-point operations."""
    types = {"a_ptr": "*bf16", "b_ptr": "*bf16", "c_ptr": "*bf16", "inner": "i32", "columns": "i32"}
    tile = {"ROWS": 128, "COLUMNS": 256, "DEPTH": 64, "STAGES": 3}
    program = kernel(product, types, tile, 8)
    machine = Machine(1 << 25)
    a, b, c = (machine.put(torch.ones(shape).bfloat16()) for shape in ((128, COUNTED), (COUNTED, 256), (128, 256)))
    counters = executed(machine, program, capability, (a, b, c, COUNTED, 256))
    flops = 2.0 * 128 * 256 * COUNTED
    part = cost_of(program, capability, counters, 1, flops)
    whole = SIZE / COUNTED
    counts = {name: getattr(part, name) * whole for name in ("flops", "instructions", "floats", "shared", "l2")}
    programs = (SIZE // 128) * (SIZE // 256)
    return Work(replace(part, **counts), programs, 6.0 * SIZE**2, 0.0, 0.0), 2.0 * SIZE**3


def copy_work(capability: int) -> tuple[Work, float]:
    """Return the launch of the whole copy and its bytes, read and written."""
    program = kernel(copy, {"source_ptr": "*fp16", "target_ptr": "*fp16"}, {"COUNT": 8192}, 4)
    machine = Machine(1 << 20)
    source, target = (machine.put(torch.ones(8192).half()) for _ in range(2))
    counters = executed(machine, program, capability, (source, target))
    moved = 4.0 * COPIED
    return Work(cost_of(program, capability, counters, 1, 0.0), COPIED // 8192, moved, 0.0, 0.0), moved


def executed(machine: Machine, program: Kernel, capability: int, arguments: tuple[object, ...]) -> Counters:
    """Execute one program and return its counts."""
    counters, compiled = Counters(), compile_once(program, capability)
    machine.launch(
        program_of(compiled.asm["ptx"]),
        1,
        32 * program.warps,
        arguments,
        shared_bytes=compiled.metadata.shared,
        checks=False,
        counters=counters,
    )
    return counters
