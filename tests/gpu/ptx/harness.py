"""Small PTX programs for the tests of the interpreter."""

from __future__ import annotations

import re

import numpy as np
import torch

from tests.gpu.ptx.formats import BITS, NUMPY
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import parse

HEAD = """
.version 8.8
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry program({parameters})
{{
    .reg .pred %p<16>;
    .reg .b16 %h<32>;
    .reg .b32 %r<256>;
    .reg .b64 %d<64>;
    .reg .b32 %tid, %cta, %global, %base;
    .reg .b64 %in<8>;
    mov.u32 %tid, %tid.x;
    mov.u32 %cta, %ctaid.x;
    mov.u32 %global, %ntid.x;
    mad.lo.s32 %global, %cta, %global, %tid;
    mov.u32 %base, dynamic;
{loads}
{body}
    ret;
}}
"""


def program_text(body: str, pointers: int = 1) -> str:
    """Return a program with this body.

    The body finds pointers in %in0, %in1, ..., and %tid, %cta, %global (the thread in the grid) and %base (the
    start of shared memory).
    """
    parameters = ", ".join(f".param .u64 .ptr .global .align 1 program_param_{i}" for i in range(pointers))
    loads = "\n".join(f"    ld.param.b64 %in{i}, [program_param_{i}];" for i in range(pointers))
    return HEAD.format(parameters=parameters, loads=loads, body=body)


def register(kind: str, i: int) -> str:
    return f"%{'p' if kind == 'pred' else {8: 'h', 16: 'h', 32: 'r', 64: 'd'}[BITS[kind]]}{i}"


def evaluate(instruction: str, to: str, *inputs: tuple[str, np.ndarray]) -> np.ndarray:
    """Return every lane's result of an instruction with destination ``$0`` and operands ``$1``, ... from the arrays."""
    lanes = len(inputs[0][1])
    padded = -(-lanes // 128) * 128
    names = [register(kind, i) for i, kind in enumerate([to, *(kind for kind, _ in inputs)])]
    machine, lines, arguments = Machine(1 << 24), [], []
    for i, (kind, values) in enumerate(inputs):
        # A predicate is stored as a word.
        stored = values.astype(np.uint32) if kind == "pred" else values.view(NUMPY[f"b{BITS[kind]}"])
        arguments.append(machine.put(np.resize(stored, padded).view(np.uint8)))
        width = stored.dtype.itemsize
        target = "%r100" if kind == "pred" else names[i + 1]
        lines.append(
            f"mad.wide.u32 %d{40 + i}, %global, {width}, %in{i}; ld.global.b{8 * width} {target}, [%d{40 + i}];"
        )
        if kind == "pred":
            lines.append(f"setp.ne.b32 {names[i + 1]}, %r100, 0;")
    lines.append(re.sub(r"\$(\d)", lambda match: names[int(match[1])], instruction))
    result, dtype = names[0], NUMPY[to]
    if to == "pred":
        lines.append("selp.b32 %r100, 1, 0, %p0;")
        result, dtype = "%r100", np.uint32
    width = dtype().itemsize
    lines.append(f"mad.wide.u32 %d50, %global, {width}, %in{len(inputs)}; st.global.b{8 * width} [%d50], {result};")
    out = machine.empty(padded * width, torch.uint8)
    machine.launch(parse(program_text("\n".join(lines), len(inputs) + 1)), padded // 128, 128, [*arguments, out])
    values = out.numpy().view(dtype)[:lanes]
    return values != 0 if to == "pred" else values


def run(
    body: str, *tensors: np.ndarray | torch.Tensor, grid: int = 1, threads: int = 128, shared: int = 8192, **options
):
    """Run a body with these arrays behind %in0, %in1, ... and return them.

    A tuple (shape, dtype) allocates unwritten memory.
    """
    machine = Machine(1 << 22)
    placed = [machine.empty(*t) if isinstance(t, tuple) else machine.put(t) for t in tensors]
    machine.launch(parse(program_text(body, len(placed))), grid, threads, placed, shared, **options)
    return placed
