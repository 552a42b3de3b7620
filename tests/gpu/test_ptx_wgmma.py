"""Order of instructions around wgmma, and warpgroups that execute it while others do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.errors import AsyncError, DivergedError, SharedRaceError
from tests.gpu.ptx.harness import run

WGMMA = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r0, %r1, %r2, %r3}, %d1, %d1, %p1, 1, 1, 0, 0;"
PRODUCT = [
    "mov.b32 %r8, 0; mad.lo.u32 %r9, %tid, 64, %base; st.shared.v4.b32 [%r9], {%r8, %r8, %r8, %r8};",
    "st.shared.v4.b32 [%r9+16], {%r8, %r8, %r8, %r8}; st.shared.v4.b32 [%r9+32], {%r8, %r8, %r8, %r8};",
    "st.shared.v4.b32 [%r9+48], {%r8, %r8, %r8, %r8};",
    "fence.proxy.async.shared::cta;",
    "bar.sync 0;",
    "bfe.u32 %r10, %base, 4, 14; cvt.u64.u32 %d1, %r10; or.b64 %d1, %d1, 0x4000004000010000; setp.ne.b32 %p1, 0, 0;",
    "wgmma.fence.sync.aligned;",
    WGMMA,
    "wgmma.commit_group.sync.aligned;",
    "wgmma.wait_group.sync.aligned 0;",
    "bar.sync 0;",
    "st.shared.b32 [%r9], %r8;",
    "mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r0;",
]


def without(*places: int) -> str:
    return "\n".join(line for i, line in enumerate(PRODUCT) if i not in places)


def test_order_around_wgmma():
    (got,) = run(without(), (128, torch.float32))
    assert (got == 0).all()
    for error, places in ((AsyncError, [3]), (SharedRaceError, [4]), (AsyncError, [9]), (SharedRaceError, [10])):
        with pytest.raises(error):
            run(without(*places), (128, torch.float32))
    # Two products on one tile: the second still reads the memory that the first has read.
    again = without().replace("wgmma.wait", f"{WGMMA} wgmma.commit_group.sync.aligned; wgmma.wait")
    run(again, (128, torch.float32))
    with pytest.raises(AsyncError):
        run(again.replace("aligned 0;", "aligned 1;"), (128, torch.float32))
    (got,) = run(without(9, 10, 11), (128, torch.float32))
    assert torch.isnan(got).all()  # results without a wait are poison


def test_cp_async_needs_a_fence_before_wgmma():
    copy = "cp.async.cg.shared.global [%r9], [%in1], 16; cp.async.wait_all;"
    body = "\n".join([*PRODUCT[:3], copy, "bar.sync 0;", *PRODUCT[3:]])
    run(body, (128, torch.float32), np.zeros(4, np.int32))
    late = "\n".join([*PRODUCT[:5], copy, *PRODUCT[4:]])
    with pytest.raises(AsyncError):
        run(late, (128, torch.float32), np.zeros(4, np.int32))
    run(late, (128, torch.float32), np.zeros(4, np.int32), fenced_copies=False)


# CTA c fills its tile with c + 1, so that each product adds 16 * (c + 1) ** 2 to every accumulator.
FILL = [
    "add.u32 %r11, %cta, 1; cvt.rn.f32.u32 %r8, %r11; cvt.rn.f16x2.f32 %r8, %r8, %r8; mov.b32 %r12, 0;",
    PRODUCT[0].removeprefix("mov.b32 %r8, 0;"),
    *PRODUCT[1:6],
]
KEEP = "mad.wide.u32 %d0, %global, 4, %in0; st.global.b32 [%d0], %r0;"


def ctas(*lines: str, count: int = 6) -> np.ndarray:
    """Return one value per CTA, relative to its product."""
    (got,) = run("\n".join([*FILL, *lines]), ((count, 128), torch.float32), grid=count)
    np.testing.assert_array_equal(got, got[:, :1].expand(-1, 128))
    return got[:, 0].numpy() / (16 * np.arange(1, count + 1) ** 2)


def test_wgmma_after_some_ctas_have_ended():
    some = "setp.eq.u32 %p2, %cta, 2; @%p2 ret; setp.eq.u32 %p2, %cta, 5; @%p2 ret;"
    got = ctas(some, *PRODUCT[6:10], KEEP)
    np.testing.assert_array_equal(got, [1, 1, np.nan, 1, 1, np.nan])


@pytest.mark.parametrize("pending", [0, 1, 2])
def test_wgmma_in_ctas_with_different_loop_counts(pending):
    """CTA c computes c + 1 products with up to ``pending`` in flight. Every CTA counts its own groups."""
    wait = f"wgmma.wait_group.sync.aligned {pending};"
    loop = "add.u32 %r12, %r12, 1; setp.ne.b32 %p1, 0, 1; setp.lt.u32 %p2, %r12, %r11; @%p2 bra AGAIN;"
    got = ctas("AGAIN:", *PRODUCT[6:9], wait, loop, PRODUCT[9], KEEP)
    np.testing.assert_array_equal(got, np.arange(1, 7))


def test_a_wait_retires_only_the_products_of_the_waiting_warpgroups():
    odd = "and.b32 %r13, %cta, 1; setp.eq.u32 %p2, %r13, 1;"
    got = ctas(*PRODUCT[6:9], odd, f"@%p2 bra OVER; {PRODUCT[9]}", f"OVER: {KEEP}")
    np.testing.assert_array_equal(got, [1, np.nan] * 3)
    got = ctas(*PRODUCT[6:9], odd, f"@%p2 bra OVER; {PRODUCT[9]}", f"OVER: {PRODUCT[9]} {KEEP}")
    np.testing.assert_array_equal(got, [1] * 6)
    # The memory that the other products in flight read must not change.
    write = "bar.sync 0; st.shared.b32 [%r9], %r8;"
    ctas(*PRODUCT[6:9], odd, f"@%p2 bra OVER; {PRODUCT[9]} {write}", f"OVER: {KEEP}")
    with pytest.raises(AsyncError):
        ctas(*PRODUCT[6:9], odd, f"@%p2 bra OVER; {PRODUCT[9]}", f"OVER: {write}")


def test_the_results_of_a_later_product_stay_poison():
    """CTA 3 has a second product in flight on the same accumulators while all wait for the first."""
    skip_others = "setp.ne.u32 %p2, %cta, 3; setp.ne.b32 %p1, 0, 1; @%p2 bra OVER;"
    lines = [*PRODUCT[6:9], skip_others, *PRODUCT[6:9]]
    got = ctas(*lines, "wgmma.wait_group.sync.aligned 1;", f"bra.uni KEPT; OVER: {PRODUCT[9]}", f"KEPT: {KEEP}")
    np.testing.assert_array_equal(got, [1, 1, 1, np.nan, 1, 1])
    got = ctas(*lines, f"OVER: {PRODUCT[9]}", KEEP)
    np.testing.assert_array_equal(got, [1, 1, 1, 2, 1, 1])


def test_part_of_a_warpgroup_raises_an_error():
    with pytest.raises(DivergedError):
        ctas("setp.lt.u32 %p2, %tid, 64; @%p2 bra OVER;", *PRODUCT[6:10], "OVER: mov.b32 %r0, 0;")
