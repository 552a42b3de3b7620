"""Faulty programs raise an error, and their counterparts without the fault run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.errors import (
    AsyncError,
    BarrierError,
    DivergedError,
    MisalignedError,
    OutOfBoundsError,
    ParseError,
    SharedRaceError,
    StepLimitError,
    UndefinedRegisterError,
    UnsupportedError,
    UnwrittenError,
    WriteConflictError,
)
from tests.gpu.ptx.harness import run

# %in0 has 128 written words, %in1 128 unwritten ones. %r0 is the thread's slot in shared memory, %r1 the slot of the
# thread in the next warp, %d0 and %d1 the thread's words.
SETUP = """
    mad.lo.u32 %r0, %tid, 4, %base;
    add.u32 %r1, %tid, 32; and.b32 %r1, %r1, 127; mad.lo.u32 %r1, %r1, 4, %base;
    and.b32 %r2, %tid, 31; shr.u32 %r3, %tid, 5;
    mad.wide.u32 %d0, %tid, 4, %in0; mad.wide.u32 %d1, %tid, 4, %in1; mov.b16 %h0, 0;
"""
STORE, NEIGHBOUR, LOAD = "st.shared.b32 [%r0], %tid;", "ld.shared.b32 %r9, [%r1];", "ld.shared.b32 %r9, [%r0];"
BAR = "bar.sync 0;"
COPY = "cp.async.ca.shared.global [%r0], [%d0], 4;"
COMMIT, WAIT, WAIT1 = "cp.async.commit_group;", "cp.async.wait_group 0;", "cp.async.wait_group 1;"
LDMATRIX = "and.b32 %r7, %r0, -16; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r9}, [%r7];"
FIRST_WARP, FIRST_LANE = "setp.eq.s32 %p1, %r3, 0;", "setp.eq.s32 %p1, %r2, 0;"

FAULTS = {
    "a read after another warp's write": (SharedRaceError, [STORE, NEIGHBOUR], [STORE, BAR, NEIGHBOUR]),
    "a write after another warp's read": (
        SharedRaceError,
        [STORE, BAR, NEIGHBOUR, STORE],
        [STORE, BAR, NEIGHBOUR, BAR, STORE],
    ),
    "a write after another warp's write": (
        SharedRaceError,
        [STORE, "st.shared.b32 [%r1], %tid;"],
        [STORE, BAR, "st.shared.b32 [%r1], %tid;"],
    ),
    "warps write different values to one word": (
        WriteConflictError,
        ["st.shared.b32 [%base], %r3;"],
        ["st.shared.b32 [%base], 1;"],
    ),
    "lanes write different values to one word": (
        WriteConflictError,
        [FIRST_WARP, "@%p1 st.shared.b32 [%base], %tid;"],
        [FIRST_WARP, "@%p1 st.shared.b32 [%base], %r3;"],
    ),
    "a second read after the writer's own read": (
        # Two warps read, then one of them writes.
        SharedRaceError,
        [STORE, BAR, NEIGHBOUR, LOAD, STORE],
        [STORE, BAR, NEIGHBOUR, LOAD, BAR, STORE],
    ),
    "unwritten shared memory": (UnwrittenError, [LOAD], [STORE, LOAD]),
    "half-written shared memory": (
        UnwrittenError,
        ["st.shared.b16 [%r0], %h0;", LOAD],
        ["st.shared.b16 [%r0], %h0;", "st.shared.b16 [%r0+2], %h0;", LOAD],
    ),
    "shared memory past its end": (
        OutOfBoundsError,
        ["st.shared.b32 [%r0+8064], %tid;"],
        ["st.shared.b32 [%r0+7680], %tid;"],
    ),
    "shared memory before its start": (
        OutOfBoundsError,
        ["st.shared.b32 [%r0+-4], %tid;"],
        ["st.shared.b32 [%r0+4], %tid;"],
    ),
    "misaligned shared vector": (
        MisalignedError,
        ["st.shared.v2.b32 [%r0], {%tid, %tid};"],
        ["mad.lo.u32 %r0, %tid, 8, %base;", "st.shared.v2.b32 [%r0], {%tid, %tid};"],
    ),
    "unwritten global memory": (UnwrittenError, ["ld.global.b32 %r9, [%d1];"], ["ld.global.b32 %r9, [%d0];"]),
    "a read past the end": (OutOfBoundsError, ["ld.global.b32 %r9, [%d0+4];"], ["ld.global.b32 %r9, [%d0+0];"]),
    "a write past the end": (OutOfBoundsError, ["st.global.b32 [%d1+4], %tid;"], ["st.global.b32 [%d1], %tid;"]),
    "a write before the start": (OutOfBoundsError, ["st.global.b32 [%d1+-4], %tid;"], ["st.global.b32 [%d1], %tid;"]),
    "a null pointer": (OutOfBoundsError, ["mov.b64 %d2, 0;", "ld.global.b32 %r9, [%d2];"], ["mov.b64 %d2, 0;"]),
    "a negative address": (OutOfBoundsError, ["mov.b64 %d2, -64;", "ld.global.b32 %r9, [%d2];"], ["mov.b64 %d2, 0;"]),
    "misaligned global vector": (
        MisalignedError,
        ["ld.global.v4.b32 {%r9, %r10, %r11, %r12}, [%d0];"],
        ["ld.global.v4.b32 {%r9, %r10, %r11, %r12}, [%in0];"],
    ),
    "a barrier for part of a warp": (BarrierError, [FIRST_LANE, "@%p1 bar.sync 0;"], [FIRST_LANE, BAR]),
    "a barrier for one warp": (BarrierError, [FIRST_WARP, "@%p1 bar.sync 0;"], [FIRST_WARP, "@%p1 bar.sync 1, 32;"]),
    "two barriers on two paths": (
        BarrierError,
        [FIRST_WARP, "@%p1 bra THERE;", BAR, "bra.uni END;", "THERE:", BAR, "END:"],
        [FIRST_WARP, "@%p1 bra THERE;", "mov.b32 %r9, 1;", "THERE:", BAR],
    ),
    "a named barrier that waits for too many": (
        BarrierError,
        ["setp.lt.u32 %p1, %r3, 2;", "@%p1 bar.sync 1, 96;"],
        ["setp.lt.u32 %p1, %r3, 2;", "@%p1 bar.sync 1, 64;"],
    ),
    "a named barrier orders only its warps": (
        SharedRaceError,
        [STORE, "setp.lt.u32 %p1, %r3, 2;", "@%p1 bar.sync 1, 64;", "@%p1 ld.shared.b32 %r9, [%r1];"],
        [STORE, "bar.sync 1, 128;", NEIGHBOUR],
    ),
    "cp.async without a wait": (UnwrittenError, [COPY, COMMIT, BAR, LOAD], [COPY, COMMIT, WAIT, BAR, LOAD]),
    "cp.async without a commit": (UnwrittenError, [COPY, WAIT, LOAD], [COPY, "cp.async.wait_all;", LOAD]),
    "cp.async with a wait for the group before": (
        UnwrittenError,
        [COPY, COMMIT, WAIT1, LOAD],
        [COPY, COMMIT, COMMIT, WAIT1, LOAD],
    ),
    "cp.async that another warp waits for": (
        UnwrittenError,
        [COPY, COMMIT, FIRST_WARP, f"@%p1 {WAIT}", LOAD],
        [COPY, COMMIT, FIRST_WARP, f"@%p1 {WAIT}", f"@%p1 {LOAD}"],
    ),
    "cp.async without a barrier": (
        SharedRaceError,
        [COPY, COMMIT, WAIT, NEIGHBOUR],
        [COPY, COMMIT, WAIT, BAR, NEIGHBOUR],
    ),
    "cp.async into what another warp reads": (
        SharedRaceError,
        [STORE, BAR, NEIGHBOUR, COPY],
        [STORE, BAR, NEIGHBOUR, BAR, COPY],
    ),
    "a store into what cp.async writes": (AsyncError, [COPY, COMMIT, STORE], [COPY, COMMIT, WAIT, STORE]),
    "cp.async reads past the end": (
        OutOfBoundsError,
        ["cp.async.ca.shared.global [%r0], [%d0+4], 4;"],
        ["setp.lt.u32 %p2, %tid, 127; selp.b32 %r5, 4, 0, %p2;", "cp.async.ca.shared.global [%r0], [%d0+4], 4, %r5;"],
    ),
    "cp.async reads unwritten memory": (UnwrittenError, ["cp.async.ca.shared.global [%r0], [%d1], 4;"], [COPY]),
    "part of a warp shuffles": (
        DivergedError,
        [FIRST_LANE, "@%p1 shfl.sync.bfly.b32 %r9, %r2, 1, 31, -1;"],
        [FIRST_WARP, "@%p1 shfl.sync.bfly.b32 %r9, %r2, 1, 31, -1;"],
    ),
    "part of a warp votes": (
        DivergedError,
        [FIRST_LANE, "@%p1 vote.sync.any.pred %p2, %p1, -1;"],
        [FIRST_LANE, "@%p1 vote.sync.any.pred %p2, %p1, 1;"],
    ),
    "part of a warp in ldmatrix": (
        DivergedError,
        [STORE, BAR, "setp.lt.u32 %p1, %r2, 8;", LDMATRIX.replace("ldm", "@%p1 ldm")],
        [STORE, BAR, LDMATRIX],
    ),
    "an endless loop": (
        StepLimitError,
        ["AGAIN:", "bra.uni AGAIN;"],
        ["mov.b32 %r9, 0;", "AGAIN:", "add.u32 %r9, %r9, 1;", "setp.lt.u32 %p1, %r9, 9;", "@%p1 bra AGAIN;"],
    ),
    "an undefined register": (UndefinedRegisterError, ["add.u32 %r9, %r99, 1;"], ["add.u32 %r9, %r0, 1;"]),
    "an unknown instruction": (UnsupportedError, ["tcgen05.wait::ld.sync.aligned;"], ["membar.cta;"]),
    "an undeclared register": (ParseError, ["mov.b32 %nothing, 1;"], ["mov.b32 %r9, 1;"]),
    "an unknown label": (UnsupportedError, ["bra NOWHERE;"], ["bra HERE;", "HERE:"]),
}  # fmt: skip


def execute(lines, **options):
    options = {"max_steps": 1000, **options}
    return run(
        SETUP + "mov.b16 %h0, 0;" + "\n".join(lines), np.arange(128, dtype=np.int32), (128, torch.int32), **options
    )


@pytest.mark.parametrize("name", FAULTS)
def test_faults_raise_an_error(name):
    error, faulty, correct = FAULTS[name]
    execute(correct)
    with pytest.raises(error, match=r"PTX line \d+: \S") as caught:
        execute(faulty)
    assert caught.type is error


@pytest.mark.parametrize("name", ["a read after another warp's write", "unwritten global memory"])
def test_checks_can_be_disabled(name):
    execute(FAULTS[name][1], checks=False)


def test_out_of_bounds_raises_an_error_without_checks():
    with pytest.raises(OutOfBoundsError):
        execute(FAULTS["a write past the end"][1], checks=False)


def test_an_undefined_register_in_a_pack_is_poison():
    """LLVM packs an undefined element if only the other element matters, as in mul.f32x2 for one product."""
    body = (
        SETUP + "ld.global.b32 %r5, [%d0]; mov.b64 %d5, {%r99, %r5}; add.f32x2 %d5, %d5, %d5; mov.b64 {%r6, %r7}, %d5;"
    )
    values = np.arange(128, dtype=np.float32)
    assert run(body + "st.global.b32 [%d1], %r7;", values, (128, torch.float32))[1].tolist() == (2 * values).tolist()
    assert torch.isnan(run(body + "st.global.b32 [%d1], %r6;", values, (128, torch.float32))[1]).all()
    with pytest.raises(MisalignedError):
        run(body + "ld.shared.b32 %r8, [%r6];", values, (128, torch.float32))
    with pytest.raises(UndefinedRegisterError):
        run("mov.b64 %d5, {%r98, %r99};", values)


def test_a_fused_butterfly_leaves_lanes_with_different_sums():
    """A lane rounds its neighbour's product but not its own, so that two lanes' fma(w, x, shfl(w x)) differ.

    LLVM compiles ``sum(w * x)`` in this way. Which value remains when both lanes store to one address is unspecified.
    """
    rng = np.random.default_rng(3)
    load = SETUP + "ld.global.b32 %r4, [%d0]; ld.global.b32 %r5, [%d1]; mul.f32 %r6, %r4, %r5;"
    load += "shfl.sync.bfly.b32 %r7, %r6, 1, 31, -1; and.b32 %r10, %tid, -2; mad.lo.u32 %r10, %r10, 4, %base;"
    values = rng.standard_normal((2, 128)).astype(np.float32)
    run(load + "add.f32 %r8, %r6, %r7; st.shared.b32 [%r10], %r8;", *values)
    with pytest.raises(WriteConflictError):
        run(load + "fma.rn.f32 %r8, %r4, %r5, %r7; st.shared.b32 [%r10], %r8;", *values)
