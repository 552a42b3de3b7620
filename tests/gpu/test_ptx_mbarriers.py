"""mbarriers, bulk copies and clusters in the interpreter: results, and every fault of their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.clusters import arrange
from tests.gpu.ptx.errors import (
    BarrierError,
    DivergedError,
    MisalignedError,
    PTXError,
    SharedRaceError,
    UnsupportedError,
    UnwrittenError,
)
from tests.gpu.ptx.harness import run

ROUNDS = 3
FULL, EMPTY, SLOT = "%base", "%r2", "%r3"


def wait(barrier: str, parity: str) -> str:
    loop = "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [{}], {}; @!p bra AGAIN;"
    return "{.reg .pred p; " + loop.format(barrier, parity) + "}"


# A thread of warp 1 copies 128 bytes a round into one slot; warp 0 adds them up.
RING = f"""
add.u32 {EMPTY}, %base, 8; add.u32 {SLOT}, %base, 16; mov.b32 %r4, 0;
setp.ne.u32 %p1, %tid, 0; @%p1 bra READY;
mbarrier.init.shared::cta.b64 [{FULL}], 1; mbarrier.init.shared::cta.b64 [{EMPTY}], 1;
fence.mbarrier_init.release.cluster;
READY: bar.sync 0;
setp.ge.u32 %p2, %tid, 32; @%p2 bra PRODUCER;
mov.b32 %r10, 0;
CONSUME: and.b32 %r5, %r4, 1;
{wait(FULL, "%r5")}
mad.lo.u32 %r6, %tid, 4, {SLOT}; ld.shared.b32 %r7, [%r6]; add.u32 %r10, %r10, %r7;
setp.ne.u32 %p3, %tid, 0; @%p3 bra RELEASED;
mbarrier.arrive.shared::cta.b64 _, [{EMPTY}];
RELEASED: add.u32 %r4, %r4, 1; setp.lt.u32 %p4, %r4, {ROUNDS}; @%p4 bra CONSUME;
mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r10; ret;
PRODUCER: setp.ne.u32 %p1, %tid, 32; @%p1 ret;
mov.b64 %d1, %in1;
PRODUCE: setp.eq.u32 %p3, %r4, 0; @%p3 bra FREE;
sub.u32 %r5, %r4, 1; and.b32 %r5, %r5, 1;
{wait(EMPTY, "%r5")}
FREE: mbarrier.arrive.expect_tx.shared::cta.b64 _, [{FULL}], 128;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{SLOT}], [%d1], 128, [{FULL}];
add.s64 %d1, %d1, 128; add.u32 %r4, %r4, 1; setp.lt.u32 %p4, %r4, {ROUNDS}; @%p4 bra PRODUCE;
"""
VALUES = np.arange(32 * ROUNDS, dtype=np.int32).reshape(ROUNDS, 32)


def ring(body: str, **options) -> torch.Tensor:
    (sums, _) = run(body, (32, torch.int32), VALUES, threads=64, **options)
    return sums


@pytest.mark.parametrize("checks", [True, False])
def test_a_ring_of_one_slot(checks):
    np.testing.assert_array_equal(ring(RING, checks=checks), VALUES.sum(0))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (wait(FULL, "%r5"), "", UnwrittenError),
        (wait(EMPTY, "%r5"), "", SharedRaceError),
        (f"mbarrier.arrive.shared::cta.b64 _, [{EMPTY}];", "", BarrierError),  # the producer waits forever
        (f"_, [{FULL}], 128;", f"_, [{FULL}], 144;", BarrierError),  # the consumers wait forever
        (f"[{EMPTY}], 1;", f"[{EMPTY}], 2;", BarrierError),
        ("[%d1], 128", "[%d1], 120", MisalignedError),
        (f"{SLOT}, %base, 16;", f"{SLOT}, %base, 24;", MisalignedError),
        ("READY: bar.sync 0;", "READY:", SharedRaceError),  # the producer may use an mbarrier that does not exist yet
        (f"mbarrier.init.shared::cta.b64 [{FULL}], 1;", "", BarrierError),
    ],
)
def test_faults_of_order(old, new, error):
    assert old in RING
    with pytest.raises(error):
        ring(RING.replace(old, new))


def test_a_wait_without_its_loop_is_detected():
    with pytest.raises(PTXError):
        ring(RING.replace("@!p bra AGAIN;", ""))


def test_a_wait_that_asks_once():
    body = """
    setp.ne.u32 %p1, %tid, 0; @%p1 bra READY; mbarrier.init.shared::cta.b64 [%base], 4; READY: bar.sync 0;
    mbarrier.test_wait.parity.shared::cta.b64 %p2, [%base], 0; selp.b32 %r1, 1, 0, %p2;
    and.b32 %r2, %tid, 31; setp.ne.u32 %p1, %r2, 0; @%p1 bra ARRIVED; mbarrier.arrive.shared::cta.b64 _, [%base];
    ARRIVED: bar.sync 0;
    mbarrier.test_wait.parity.shared::cta.b64 %p2, [%base], 0; selp.b32 %r2, 2, 0, %p2; add.u32 %r1, %r1, %r2;
    mbarrier.test_wait.parity.shared::cta.b64 %p2, [%base], 1; selp.b32 %r2, 4, 0, %p2; add.u32 %r1, %r1, %r2;
    mad.wide.u32 %d0, %tid, 4, %in0; st.global.b32 [%d0], %r1;
    """
    (got,) = run(body, (128, torch.int32))
    assert (got == 2).all()  # the first phase is over only after the four arrivals, and the second is not


# Two CTAs: each sends half of 256 bytes to both, and adds up all of them.
PAIR = f"""
mov.u32 %r1, %cluster_ctarank; add.u32 {SLOT}, %base, 16; add.u32 {EMPTY}, %base, 8;
setp.ne.u32 %p1, %tid, 0; @%p1 bra READY;
mbarrier.init.shared::cta.b64 [{FULL}], 1; mbarrier.init.shared::cta.b64 [{EMPTY}], 2;
READY: barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
@%p1 bra SENT;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [{FULL}], 256;
mul.lo.u32 %r4, %r1, 128; add.u32 %r5, {SLOT}, %r4; cvt.u64.u32 %d1, %r4; add.s64 %d1, %in1, %d1; mov.b16 %h1, 3;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r5], [%d1], 128, [{FULL}], %h1;
mapa.shared::cluster.u32 %r6, {EMPTY}, 0; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];
mapa.shared::cluster.u32 %r6, {EMPTY}, 1; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];
SENT:
{wait(FULL, "0")}
{wait(EMPTY, "0")}
mad.lo.u32 %r6, %tid, 4, {SLOT}; ld.shared.b32 %r7, [%r6]; ld.shared.b32 %r8, [%r6+128]; add.u32 %r7, %r7, %r8;
mad.wide.u32 %d0, %global, 4, %in0; st.global.b32 [%d0], %r7;
barrier.cluster.arrive.release; barrier.cluster.wait.acquire;
"""


def pair(body: str) -> torch.Tensor:
    (got, _) = run(body, ((4, 32), torch.int32), VALUES[:2], grid=4, threads=32, cluster=(2, 1, 1))
    return got


def test_multicast_in_a_cluster():
    np.testing.assert_array_equal(pair(PAIR), np.tile(VALUES[:2].sum(0), (4, 1)))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (wait(FULL, "0"), "", UnwrittenError),
        ("mov.b16 %h1, 3;", "mov.b16 %h1, 1;", PTXError),  # the second CTA waits for bytes that never come
        (f"mapa.shared::cluster.u32 %r6, {EMPTY}, 1;", "", BarrierError),  # three arrivals at one, one at the other
        (f"mapa.shared::cluster.u32 %r6, {EMPTY}, 1;", f"mapa.shared::cluster.u32 %r6, {EMPTY}, 2;", PTXError),
        ("READY: barrier.cluster.arrive.release;", "READY:", PTXError),
        (
            "READY: barrier.cluster.arrive.release; barrier.cluster.wait.acquire;",
            "READY: setp.eq.u32 %p2, %r1, 1; @%p2 ret; barrier.cluster.arrive.release; barrier.cluster.wait.acquire;",
            BarrierError,
        ),
    ],
)
def test_faults_in_a_cluster(old, new, error):
    assert old in PAIR
    with pytest.raises(error):
        pair(PAIR.replace(old, new, 1))


def test_clusters_are_arranged_by_rank():
    np.testing.assert_array_equal(arrange((2, 4, 1), (1, 2, 1)), [0, 2, 1, 3, 4, 6, 5, 7])
    np.testing.assert_array_equal(arrange((4, 1, 2), (2, 1, 1)), np.arange(8))
    with pytest.raises(ValueError, match="whole clusters"):
        arrange((3, 1, 1), (2, 1, 1))


def test_unsupported_forms():
    for body in (
        "mbarrier.inval.shared::cta.b64 [%base];",
        "mbarrier.arrive.shared::cta.b64 %d0, [%base];",
        "mbarrier.try_wait.shared::cta.b64 %p1, [%base], %d0;",
        "cp.async.bulk.global.shared::cta.bulk_group [%d0], [%base], 16;",
    ):
        with pytest.raises(UnsupportedError):
            run(body, (1, torch.int32))


def test_setmaxnreg_takes_whole_warpgroups():
    run("setmaxnreg.dec.sync.aligned.u32 24;", (1, torch.int32))
    with pytest.raises(DivergedError):
        body = "setp.lt.u32 %p1, %tid, 32; @%p1 bra OVER; setmaxnreg.dec.sync.aligned.u32 24; OVER: mov.b32 %r1, 0;"
        run(body, (1, torch.int32))
