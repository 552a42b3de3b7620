"""Fragments of mma, ldmatrix, stmatrix and wgmma lane by lane, as in the PTX manual, and warp instructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.gpu.ptx.formats import from_bf16, to_bf16
from tests.gpu.ptx.harness import evaluate, run

RNG = np.random.default_rng(1)
LANES = range(32)


def encode(values: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of random elements, and their values."""
    values = values.astype(np.float32)
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16), values.astype(np.float16).astype(np.float32)
    if kind == "bf16":
        return to_bf16(values), from_bf16(to_bf16(values))
    # A tensor core truncates the lower 13 bits of a float32 register.
    return values.view(np.uint32), (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def registers(bits: np.ndarray, places) -> np.ndarray:
    """Return [register, lane]. ``places(lane, i)`` is the position of a fragment's element i in the matrix."""
    each = 4 // bits.dtype.itemsize
    count = len(places(0))
    table = np.array([[bits[place] for place in places(lane)] for lane in LANES])
    assert table.shape == (32, count)
    return np.ascontiguousarray(np.ascontiguousarray(table).view(np.uint32).reshape(32, count // each).T)


def a_places(k: int, each: int):
    """Return row and column of each element of A by the manual's formulas for m16n8k16, k8 and k4."""
    blocks = k // (4 * each)

    def places(lane):
        group, thread = lane >> 2, lane & 3
        return [
            (group + 8 * half, thread * each + e + block * 4 * each)
            for block in range(blocks)
            for half in range(2)
            for e in range(each)
        ]

    return places


def b_places(k: int, each: int):
    def places(lane):
        group, thread = lane >> 2, lane & 3
        return [(thread * each + e + block * 4 * each, group) for block in range(k // (4 * each)) for e in range(each)]

    return places


def c_places(lane):
    group, thread = lane >> 2, lane & 3
    return [(group, 2 * thread), (group, 2 * thread + 1), (group + 8, 2 * thread), (group + 8, 2 * thread + 1)]


def per_lane(register: str, pointer: str, index: int, lanes: int = 128) -> str:
    return f"""mad.wide.u32 %d0, %tid, 4, {pointer}; ld.global.b32 {register}, [%d0+{4 * lanes * index}];"""


def out(register: str, pointer: str, index: int, lanes: int = 128) -> str:
    return f"""mad.wide.u32 %d0, %tid, 4, {pointer}; st.global.b32 [%d0+{4 * lanes * index}], {register};"""


SHAPES = [("f16", 16), ("f16", 8), ("bf16", 16), ("bf16", 8), ("tf32", 8), ("tf32", 4)]


@pytest.mark.parametrize(("kind", "k"), SHAPES)
def test_mma(kind, k):
    each = 1 if kind == "tf32" else 2
    warps = [
        (RNG.standard_normal((16, k)), RNG.standard_normal((k, 8)), RNG.standard_normal((16, 8))) for _ in range(4)
    ]
    parts, expected = [], []
    for a, b, c in warps:
        (a_bits, a), (b_bits, b), c = encode(a, kind), encode(b, kind), c.astype(np.float32)
        parts.append(
            [registers(a_bits, a_places(k, each)), registers(b_bits, b_places(k, each)), registers(c, c_places)]
        )
        expected.append(a.astype(np.float64) @ b + c)
    tables = [np.concatenate([p[i] for p in parts], 1) for i in range(3)]
    names = [[f"%r{10 * i + j}" for j in range(len(table))] for i, table in enumerate(tables, 1)]
    loads = [per_lane(n, f"%in{i}", j) for i, row in enumerate(names) for j, n in enumerate(row)]
    lists = ["{" + ", ".join(row) + "}" for row in names]
    body = "\n".join(loads)
    body += f"mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32 {{%r0,%r1,%r2,%r3}}, {', '.join(lists)};"
    body += "\n".join(out(f"%r{i}", "%in3", i) for i in range(4))
    got = run(body, *tables, ((4, 128), torch.float32))[3].numpy()
    for warp, want in enumerate(expected):
        matrix = np.zeros((16, 8))
        for lane in LANES:
            for i, place in enumerate(c_places(lane)):
                matrix[place] = got[i, 32 * warp + lane]
        np.testing.assert_allclose(matrix, want, atol=1e-5)


def test_mma_with_a_half_accumulator():
    (a_bits, a), (b_bits, b) = encode(RNG.standard_normal((16, 16)), "f16"), encode(RNG.standard_normal((16, 8)), "f16")
    c_bits, c = encode(RNG.standard_normal((16, 8)), "f16")
    tables = [registers(a_bits, a_places(16, 2)), registers(b_bits, b_places(16, 2)), registers(c_bits, c_places)]
    names = [[f"%r{10 * i + j}" for j in range(len(table))] for i, table in enumerate(tables, 1)]
    body = "\n".join(per_lane(n, f"%in{i}", j, 32) for i, row in enumerate(names) for j, n in enumerate(row))
    lists = ", ".join("{" + ", ".join(row) + "}" for row in names)
    body += f"mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {{%r0,%r1}}, {lists};"
    body += out("%r0", "%in3", 0, 32) + out("%r1", "%in3", 1, 32)
    got = run(body, *tables, ((2, 32), torch.int32), threads=32)[3].numpy()
    np.testing.assert_array_equal(got.view(np.uint32), registers(encode(a @ b + c, "f16")[0], c_places))


def copy_in(count: int) -> str:
    """Return a body that copies %in0 to shared memory, 16 bytes per lane."""
    lines = [
        f"mad.wide.u32 %d0, %tid, 16, %in0; ld.global.v4.b32 {{%r200, %r201, %r202, %r203}}, [%d0+{2048 * i}];"
        f"mad.lo.u32 %r204, %tid, 16, %base; st.shared.v4.b32 [%r204+{2048 * i}], {{%r200, %r201, %r202, %r203}};"
        for i in range(count)
    ]
    return "\n".join([*lines, "bar.sync 0; fence.proxy.async.shared::cta;"])


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(count, transposed):
    # 64 rows of 8 halves. Matrix i of warp w consists of rows 3 * (8 * i + r) + w, modulo 128.
    values = RNG.integers(0, 1 << 16, (128, 8), np.uint16)
    body = (
        copy_in(1)
        + f"""
        and.b32 %r1, %tid, 31; shr.u32 %r2, %tid, 5; mad.lo.u32 %r3, %r1, 3, %r2; and.b32 %r3, %r3, 127;
        mad.lo.u32 %r3, %r3, 16, %base;
        ldmatrix.sync.aligned.m8n8.x{count}{".trans" if transposed else ""}.shared.b16
            {{{", ".join(f"%r{10 + i}" for i in range(count))}}}, [%r3];
        """
    )
    body += "\n".join(out(f"%r{10 + i}", "%in1", i) for i in range(count))
    got = run(body, values, ((count, 128), torch.int32))[1].numpy().view(np.uint16).reshape(count, 128, 2)
    for warp in range(4):
        for i in range(count):
            matrix = values[[(3 * (8 * i + r) + warp) % 128 for r in range(8)]]
            matrix = matrix.T if transposed else matrix
            for lane in LANES:
                row, column = lane // 4, 2 * (lane % 4)
                assert got[i, 32 * warp + lane].tolist() == matrix[row, column : column + 2].tolist()


@pytest.mark.parametrize("transposed", [False, True])
def test_stmatrix_undoes_ldmatrix(transposed):
    values = RNG.integers(0, 1 << 16, (128, 8), np.uint16)
    trans = ".trans" if transposed else ""
    body = (
        copy_in(1)
        + f"""
        mad.lo.u32 %r3, %tid, 16, %base;
        ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r10, %r11, %r12, %r13}}, [%r3];
        stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r3+4096], {{%r10, %r11, %r12, %r13}};
        bar.sync 0; ld.shared.v4.b32 {{%r20, %r21, %r22, %r23}}, [%r3+4096];
        mad.wide.u32 %d0, %tid, 16, %in1; st.global.v4.b32 [%d0], {{%r20, %r21, %r22, %r23}};
        """
    )
    got = run(body, values, ((128, 8), torch.int16))[1].numpy()
    np.testing.assert_array_equal(got.view(np.uint16), values)


def place(matrix: np.ndarray, span: int) -> np.ndarray:
    """Arrange rows of up to ``span`` bytes in blocks of 8 rows, with 16-byte pieces of 128 bytes xored by the row."""
    rows, columns = matrix.shape
    width, mask = matrix.dtype.itemsize, {128: 7, 64: 3, 32: 1}[span]
    flat, each = np.zeros(rows * columns, matrix.dtype), span // width
    for r in range(rows):
        for c in range(columns):
            address = (c // each) * rows * span + r * span + (c % each) * width
            flat[(address ^ ((address >> 7 & mask) << 4)) // width] = matrix[r, c]
    return flat


def descriptor(register: str, base: str, code: int, stride: int, leading: int, advance: str = "0") -> str:
    high = code << 62 | (stride >> 4) << 32 | (leading >> 4) << 16
    return f"""add.u32 %r210, {base}, {advance}; bfe.u32 %r210, %r210, 4, 14; cvt.u64.u32 {register}, %r210;
        or.b64 {register}, {register}, {high};"""


@pytest.mark.parametrize("kind", ["f16", "bf16", "tf32"])
@pytest.mark.parametrize("span", [128, 64, 32])
def test_wgmma_with_rows_along_k(kind, span):
    width = 4 if kind == "tf32" else 2
    n, k, code = 32, span // width, {128: 1, 64: 2, 32: 3}[span]
    (a_bits, a), (b_bits, b) = encode(RNG.standard_normal((64, k)), kind), encode(RNG.standard_normal((n, k)), kind)
    data = np.concatenate([place(a_bits, span), place(b_bits, span)]).view(np.uint8)
    data = np.resize(data, -(-len(data) // 2048) * 2048)
    names = ", ".join(f"%r{i}" for i in range(n // 2))
    body, trans = copy_in(len(data) // 2048), ", 0, 0" if width == 2 else ""
    body += "wgmma.fence.sync.aligned;"
    for step in range(span // 32):
        body += descriptor("%d1", "%base", code, 8 * span, 16, str(32 * step))
        body += descriptor("%d2", "%base", code, 8 * span, 16, str(64 * span + 32 * step))
        body += f"setp.ne.b32 %p1, {step}, 0; wgmma.mma_async.sync.aligned.m64n{n}k{32 // width}.f32.{kind}.{kind} "
        body += f"{{{names}}}, %d1, %d2, %p1, 1, 1{trans};"
    body += "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"
    body += "\n".join(out(f"%r{i}", "%in1", i) for i in range(n // 2))
    got = run(body, data, ((n // 2, 128), torch.float32), shared=len(data))[1].numpy()
    check_accumulators(got, a.astype(np.float64) @ b.T)


def check_accumulators(got: np.ndarray, expected: np.ndarray) -> None:
    for thread in range(128):
        warp, group, pair = thread // 32, thread % 32 // 4, thread % 4
        for i in range(len(got)):
            row, column = 16 * warp + group + 8 * (i // 2 % 2), 8 * (i // 4) + 2 * pair + i % 2
            assert abs(got[i, thread] - expected[row, column]) < 1e-4


@pytest.mark.parametrize("negative", [False, True])
def test_wgmma_with_b_along_n_and_a_in_registers(negative):
    (a_bits, a), (b_bits, b) = (
        encode(RNG.standard_normal((64, 16)), "f16"),
        encode(RNG.standard_normal((16, 64)), "f16"),
    )
    fragments = [registers(a_bits[16 * w : 16 * w + 16], a_places(16, 2)) for w in range(4)]
    body = copy_in(1) + "\n".join(per_lane(f"%r{100 + i}", "%in1", i) for i in range(4))
    body += descriptor("%d2", "%base", 1, 1024, 0)
    names = ", ".join(f"%r{i}" for i in range(32))
    body += f"""wgmma.fence.sync.aligned; setp.ne.b32 %p1, 0, 0;
        wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {{{names}}}, {{%r100, %r101, %r102, %r103}}, %d2, %p1,
            1, {-1 if negative else 1}, 1;
        wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"""
    body += "\n".join(out(f"%r{i}", "%in2", i) for i in range(32))
    data = place(b_bits, 128)  # rows along N: [k, n]
    got = run(body, data, np.concatenate(fragments, 1), ((32, 128), torch.float32))[2].numpy()
    check_accumulators(got, (-1 if negative else 1) * (a.astype(np.float64) @ b))


@pytest.mark.parametrize(("mode", "bound", "source"), [
    ("bfly", 31, lambda lane, b: lane ^ b),
    ("idx", 31, lambda lane, b: b),
    ("up", 0, lambda lane, b: lane - b if lane >= b else lane),
    ("down", 31, lambda lane, b: lane + b if lane + b < 32 else lane),
    ("idx", 8 << 8 | 0x1800 | 7, lambda lane, b: lane & 24 | b & 7),
    ("down", 0x181F, lambda lane, b: lane + b if (lane & 7) + b < 8 else lane),
])  # fmt: skip
def test_shfl(mode, bound, source):
    values = RNG.integers(0, 1 << 32, 128, np.uint32)
    for distance in (0, 1, 4, 7, 16):
        got = evaluate(f"shfl.sync.{mode}.b32 $0|%p9, $1, {distance}, {bound}, -1;", "b32", ("b32", values))
        expected = [values[i // 32 * 32 + source(i % 32, distance)] for i in range(128)]
        np.testing.assert_array_equal(got, expected)


def test_votes_and_reductions():
    values = RNG.integers(0, 1 << 32, 128, np.uint32)
    for flags in (RNG.random(128) < 0.5, np.ones(128, bool), np.zeros(128, bool)):
        warps = flags.reshape(4, 32)
        votes = ("pred", flags)
        ballot = [sum(int(f) << i for i, f in enumerate(warp)) for warp in warps]
        np.testing.assert_array_equal(evaluate("vote.sync.ballot.b32 $0, $1, -1;", "b32", votes), np.repeat(ballot, 32))
        np.testing.assert_array_equal(
            evaluate("vote.sync.any.pred $0, $1, -1;", "pred", votes), np.repeat(warps.any(1), 32)
        )
        np.testing.assert_array_equal(
            evaluate("vote.sync.all.pred $0, $1, -1;", "pred", votes), np.repeat(warps.all(1), 32)
        )
        even = np.repeat(warps[:, ::2].any(1), 32)
        text = "{ .reg .pred q; and.b32 %r50, %tid, 1; setp.eq.b32 q, %r50, 0; mov.pred $0, 0;"
        text += "@q vote.sync.any.pred $0, $1, 0x55555555; }"
        got = evaluate(text, "pred", votes)
        np.testing.assert_array_equal(got, even & (np.arange(128) % 2 == 0))
    tables = values.reshape(4, 32)
    for name, function in (("add.u32", np.add), ("min.u32", np.minimum), ("xor.b32", np.bitwise_xor)):
        got = evaluate(f"redux.sync.{name} $0, $1, -1;", "u32", ("u32", values))
        np.testing.assert_array_equal(got, np.repeat(function.reduce(tables, 1, np.uint32), 32))
    got = evaluate("elect.sync _|$0, -1;", "pred", ("u32", values))
    np.testing.assert_array_equal(got, np.arange(128) % 32 == 0)
