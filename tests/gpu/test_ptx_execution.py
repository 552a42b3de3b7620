"""Grids, divergence, named barriers, atomics, parameters and tensors in the PTX interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.counters import Counters
from tests.gpu.ptx.errors import GlobalRaceError, PTXError, SharedRaceError, UnwrittenError
from tests.gpu.ptx.harness import program_text, run
from tests.gpu.ptx.machine import Machine
from tests.gpu.ptx.parse import parse

MINE, ALL = "mad.wide.u32 %d2, %global, 4, %in1;", "mad.wide.u32 %d3, %tid, 4, %in1;"
LAST = "mov.u32 %r8, %nctaid.x; sub.u32 %r8, %r8, 1; setp.eq.u32 %p1, %cta, %r8;"
CROSS = {
    "two CTAs write one word": (["st.global.b32 [%d3], 7;"], ["st.global.b32 [%d2], 7;"]),
    "a CTA reads what another wrote": (
        ["st.global.b32 [%d2], 7; ld.global.b32 %r9, [%d3];"],
        ["st.global.b32 [%d2], 7; ld.global.b32 %r9, [%d2];"],
    ),
    "a CTA reads and writes what others read": (
        [LAST, "@!%p1 ld.global.b32 %r9, [%in0]; @%p1 ld.global.b32 %r9, [%in0]; @%p1 st.global.b32 [%in0], 7;"],
        [LAST, "@!%p1 ld.global.b32 %r9, [%in0+4]; @%p1 ld.global.b32 %r9, [%in0]; @%p1 st.global.b32 [%in0], 7;"],
    ),
    "a CTA writes what all read at once": (
        [LAST, "ld.global.b32 %r9, [%in0]; @%p1 st.global.b32 [%in0], 7;"],
        [LAST, "ld.global.b32 %r9, [%in0]; @%p1 st.global.b32 [%in1], 7;"],
    ),
    "a CTA writes what another read": (
        # In place: the words of CTA 1 are next to those of CTA 0.
        ["mad.wide.u32 %d4, %global, 4, %in0; ld.global.b32 %r9, [%in0]; st.global.b32 [%d4], %r9;"],
        ["mad.wide.u32 %d4, %global, 4, %in0; ld.global.b32 %r9, [%d4]; st.global.b32 [%d4], %r9;"],
    ),
}


@pytest.mark.parametrize("ctas", [2, 300])  # in one chunk, and in several
@pytest.mark.parametrize("name", CROSS)
def test_race_between_ctas(name, ctas):
    for lines, faulty in zip(CROSS[name], (True, False), strict=True):
        body = "\n".join([MINE, ALL, *lines])
        tensors = np.arange(ctas * 128, dtype=np.int32), (ctas * 128, torch.int32)
        if faulty:
            with pytest.raises(GlobalRaceError):
                run(body, *tensors, grid=ctas)
        else:
            run(body, *tensors, grid=ctas)


def test_launches_do_not_race_with_each_other():
    machine, program = Machine(1 << 20), parse(program_text("st.global.b32 [%in0], 7; ld.global.b32 %r9, [%in0];"))
    word = machine.empty(1, torch.int32)
    for _ in range(3):
        machine.launch(program, 1, 32, [word])
    assert word.item() == 7
    with pytest.raises(GlobalRaceError):
        machine.launch(program, 2, 32, [word])


def test_atomics_of_all_ctas_add_up():
    body = """
        atom.global.add.u32 %r9, [%in0], 1; red.global.add.u32 [%in0+4], %tid; red.global.max.s32 [%in0+8], %global;
        mad.wide.u32 %d0, %r9, 4, %in1; st.global.b32 [%d0], %global;"""
    got, order = run(body, np.zeros(3, np.int32), ((3 * 128,), torch.int32), grid=3)
    assert got.tolist() == [384, 3 * 127 * 64, 383]
    assert sorted(order.tolist()) == list(range(384))


def test_loops_with_trip_counts_of_each_lane():
    body = """
        mov.b32 %r1, 0; mov.b32 %r2, 0;
        OUTER: setp.ge.u32 %p1, %r1, %tid; @%p1 bra DONE;
            mov.b32 %r3, 0;
            INNER: add.u32 %r2, %r2, 1; add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, %r1; @%p2 bra INNER;
            add.u32 %r1, %r1, 1; bra.uni OUTER;
        DONE: shfl.sync.bfly.b32 %r4, %r2, 1, 31, -1;
        mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r4;
        bar.sync 0;"""
    (got,) = run(body, (128, torch.int32))
    counts = [sum(max(1, i) for i in range(n)) for n in range(128)]
    assert got.tolist() == [counts[i ^ 1] for i in range(128)]


def test_nested_branches_meet_again():
    body = """
        and.b32 %r1, %tid, 1; setp.eq.s32 %p1, %r1, 0; and.b32 %r1, %tid, 2; setp.eq.s32 %p2, %r1, 0;
        mov.b32 %r2, 0;
        @%p1 bra EVEN;
            @%p2 bra ODD_LOW; add.u32 %r2, %r2, 3; bra JOIN_ODD; ODD_LOW: add.u32 %r2, %r2, 1;
            JOIN_ODD: add.u32 %r2, %r2, 100; bra JOIN;
        EVEN: @!%p2 add.u32 %r2, %r2, 2; @!%p1 add.u32 %r2, %r2, 1000;
        JOIN: vote.sync.ballot.b32 %r3, 1, -1; activemask.b32 %r5; and.b32 %r3, %r3, %r5;
        mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r2; st.global.b32 [%d0+512], %r3;"""
    (got,) = run(body, ((2, 128), torch.int32))
    assert got[0].tolist() == [i % 4 + 100 * (i % 2) for i in range(128)]
    assert (got[1] == -1).all()


def test_lanes_that_end_early():
    body = """setp.gt.u32 %p1, %tid, 69; mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], 1; @%p1 ret;
        st.global.b32 [%d0], 2;"""
    (got,) = run(body, (128, torch.int32))
    assert got.tolist() == [2] * 70 + [1] * 58


def test_warps_that_wait_for_each_other_at_named_barriers():
    """Warp 0 produces and only arrives; the other warps consume."""
    body = """
        shr.u32 %r1, %tid, 5; and.b32 %r2, %tid, 31; mad.lo.u32 %r3, %r2, 4, %base; setp.ne.s32 %p1, %r1, 0;
        @%p1 bra CONSUME;
            st.shared.b32 [%r3], %tid; bar.arrive 1, 128; bra.uni END;
        CONSUME: bar.sync 1, 128; ld.shared.b32 %r4, [%r3]; mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r4;
        END: mov.b32 %r9, 0;"""
    (got,) = run(body, (128, torch.int32))
    assert got[32:].tolist() == list(range(32)) * 3
    before = "st.shared.b32 [%r3], %tid; bar.arrive 1, 128;"
    with pytest.raises(SharedRaceError):
        run(body.replace(before, "bar.arrive 1, 128; st.shared.b32 [%r3], %tid;"), (128, torch.int32))


def test_local_memory_and_generic_addresses():
    body = """
        .local .align 8 .b8 room[32]; .reg .b64 local, where;
        mov.b64 local, room; cvta.local.u64 where, local;
        st.b32 [where+8], %tid; ld.local.b32 %r1, [local+8];
        cvt.u64.u32 %d1, %r0; mad.lo.u32 %r5, %tid, 4, %base; cvt.u64.u32 %d1, %r5; cvta.shared.u64 %d2, %d1;
        st.b32 [%d2], %r1; cvta.to.shared.u64 %d3, %d2; cvt.u32.u64 %r6, %d3; ld.shared.b32 %r2, [%r6];
        mad.wide.u32 %d0, %tid, 4, %in0; cvta.to.global.u64 %d0, %d0; st.b32 [%d0], %r2;"""
    (got,) = run("mov.b32 %r0, 0;" + body, (128, torch.int32))
    assert got.tolist() == list(range(128))


def test_parameters_and_variables():
    text = """
        .version 8.0 .target sm_80 .address_size 64
        .global .align 4 .b32 table[4] = {5, 6, 0x7, -8};
        .visible .entry go(.param .u64 out, .param .f32 scale, .param .u16 small, .param .u32 count,
            .param .u64 scratch)
        { .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>; .reg .b16 %rs<3>;
        .shared .align 4 .b8 fixed[128];
        ld.param.u64 %rd1, [out]; ld.param.f32 %f1, [scale]; ld.param.u16 %rs1, [small]; ld.param.u32 %r1, [count];
        mov.u32 %r2, %ctaid.y; mov.u32 %r3, %nctaid.y; mul.wide.u32 %rd2, %r2, 4; mov.u64 %rd4, table;
        add.s64 %rd3, %rd4, %rd2; ld.global.b32 %r4, [%rd3]; cvt.u32.u16 %r5, %rs1; cvt.rn.f32.s32 %f2, %r4;
        cvt.rn.f32.u32 %f3, %r1; cvt.rn.f32.u32 %f4, %r5; fma.rn.f32 %f5, %f2, %f1, %f3; add.f32 %f5, %f5, %f4;
        ld.param.u64 %rd5, [scratch]; cvt.u32.u64 %r6, %rd5; cvt.rn.f32.u32 %f6, %r6; add.f32 %f5, %f5, %f6;
        add.s64 %rd1, %rd1, %rd2; st.global.f32 [%rd1], %f5; ret; }"""
    machine = Machine(1 << 20)
    out, program = machine.empty(4, torch.float32), parse(text)
    assert [p.offset for p in program.parameters] == [0, 8, 12, 16, 24]
    for _ in range(2):
        machine.launch(program, (1, 4), 32, [out, 0.5, 1000, 30])
        assert out.tolist() == [1032.5, 1033.0, 1033.5, 1026.0]
    with pytest.raises(ValueError, match="takes 5"):
        machine.launch(program, (1, 4), 32, [out] * 6)


def test_tensors_lie_in_the_machine():
    machine = Machine(1 << 20)
    source = machine.put(torch.arange(6, dtype=torch.bfloat16).view(2, 3))
    fresh = machine.empty((2, 3), np.float32)
    assert torch.isnan(fresh).all()
    assert machine.address(source[1]) - machine.address(source) == 6
    program = parse(program_text("ld.global.b32 %r1, [%in0];"))
    with pytest.raises(UnwrittenError):
        machine.launch(program, 1, 32, [fresh])
    fresh.copy_(source)
    machine.mark_written(fresh)
    machine.launch(program, 1, 32, [fresh])
    with pytest.raises(ValueError, match="machine"):
        machine.address(torch.zeros(3))
    with pytest.raises(MemoryError):
        machine.empty(1 << 20, torch.uint8)


@pytest.mark.parametrize(
    "text",
    ["", ".visible .entry x() { mov.b32 }", ".visible .entry x() { ret; ", ".visible .entry x() { .reg .b99 a; }"],
)
def test_text_that_is_not_ptx(text):
    with pytest.raises(PTXError):
        parse(text)


def test_counters():
    body = """
        mad.lo.u32 %r0, %tid, 4, %base; mad.wide.u32 %d0, %tid, 4, %in0;
        st.shared.b32 [%r0], %tid; bar.sync 0; ld.shared.b32 %r1, [%r0]; ld.global.b32 %r2, [%d0];
        ex2.approx.f32 %r2, %r2; mul.f32 %r2, %r2, %r2; bar.sync 0;
        and.b32 %r3, %tid, 31; shr.u32 %r4, %tid, 5; mad.lo.u32 %r5, %r3, 128, %base; mad.lo.u32 %r5, %r4, 4, %r5;
        st.shared.b32 [%r5], %tid; cp.async.cg.shared.global [%base], [%in0], 16;"""
    body = body.replace("cp.async", "setp.eq.s32 %p1, %tid, 0; bar.sync 0; @%p1 cp.async")
    counters = Counters()
    run(body, np.arange(128, dtype=np.int32), grid=3, counters=counters)
    load, copy, shared = counters.global_memory["load"], counters.global_memory["copy"], counters.shared_memory
    assert (load.requests, load.units, load.bytes) == (12, 12 * 4, 3 * 512)
    assert (copy.requests, copy.units, copy.bytes) == (3, 3, 48)
    assert shared["load"].units == 12  # one word of each bank
    assert shared["store"].units == 12 + 12 * 32  # all 32 lanes in one bank
    assert [counters.classes[c] for c in ("mufu", "float", "barrier")] == [12, 12, 36]
    assert counters.launches == 1


@pytest.mark.parametrize("size", [4, 8, 16])
def test_wavefronts_of_rows_without_conflicts(size):
    """Every lane reads ``size`` bytes of its own. The wavefronts are the 128-byte lines, whatever the width."""
    registers = {4: "%r1", 8: "{%r1, %r2}", 16: "{%r1, %r2, %r3, %r4}"}[size]
    vector = "" if size == 4 else f".v{size // 4}"
    body = f"mad.lo.u32 %r5, %tid, {size}, %base; mov.b32 %r1, 0; mov.b32 %r2, 0; mov.b32 %r3, 0; mov.b32 %r4, 0;"
    counters = Counters()
    run(body + f"st.shared{vector}.b32 [%r5], {registers};", np.zeros(1), counters=counters)
    assert counters.shared_memory["store"].units == 128 * size // 128


def test_shared_atomics():
    body = """setp.eq.s32 %p1, %tid, 0; @%p1 st.shared.b32 [%base], 0; bar.sync 0;
        atom.shared.add.u32 %r1, [%base], 2; bar.sync 0; ld.shared.b32 %r2, [%base];
        mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r2;"""
    (got,) = run(body, (128, torch.int32))
    assert got.tolist() == [256] * 128


@pytest.mark.parametrize(("extra", "kept"), [("", 16), (", 4", 4), (", 0", 0), (", %p1", 0), (", !%p1", 16)])
def test_cp_async_copies_a_part(extra, kept):
    body = f"""mad.lo.u32 %r0, %tid, 16, %base; mad.wide.u32 %d0, %tid, 16, %in0; mad.wide.u32 %d1, %tid, 16, %in1;
        setp.eq.s32 %p1, 0, 0; cp.async.cg.shared.global [%r0 + 0], [%d0 + 0], 0x10{extra}; cp.async.wait_all;
        ld.shared.v4.b32 {{%r1, %r2, %r3, %r4}}, [%r0]; st.global.v4.b32 [%d1], {{%r1, %r2, %r3, %r4}};"""
    source = np.arange(1, 1 + 128 * 16, dtype=np.uint32).astype(np.uint8).reshape(128, 16)
    got = run(body, source, ((128, 16), torch.uint8))[1].numpy()
    np.testing.assert_array_equal(got[:, :kept], source[:, :kept])
    assert not got[:, kept:].any()
