"""Conversions: cvt between all integers and floats, and into packed pairs."""

from __future__ import annotations

import numpy as np

from tests.gpu.ptx.arithmetic import ELEMENTS
from tests.gpu.ptx.decode import destination, full, instruction, source
from tests.gpu.ptx.errors import UnsupportedError
from tests.gpu.ptx.formats import BITS, NUMPY, UNSIGNED, flush, odd_float32, to_bf16, to_tf32

INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
FLOAT_TYPES = ("f16", "bf16", "f32", "f64")
LARGEST = {"f16": 65504.0, "bf16": 3.3895313892515355e38, "tf32": 3.4011621342146535e38}


@instruction("cvt")
def decode_cvt(ins):
    kind, source_kind = ins.parts[-2:]
    if kind == "pack" or source_kind not in NUMPY or kind not in NUMPY:
        raise UnsupportedError("a conversion between unsupported types")
    if kind in ("f16x2", "bf16x2"):
        return packed(ins, kind[:-2])
    integral = next((INTEGRAL[p] for p in ins.parts if p in INTEGRAL), None)
    get, put = (
        source(ins.operands[1], f"b{BITS[source_kind]}" if source_kind in FLOAT_TYPES else source_kind),
        destination(ins.operands[0], kind),
    )
    load = float_loader(source_kind) if source_kind in FLOAT_TYPES else None
    flushing = "ftz" in ins.parts
    if kind not in (*FLOAT_TYPES, "tf32"):
        finish = to_integer(kind, load is not None, "sat" in ins.parts)
    else:
        finish = to_float(ins, kind, source_kind)

    def run(chunk, mask):
        values = get(chunk)
        if load:
            values = load(values)
            if flushing and source_kind == "f32":
                values = flush(values)
        if integral and load:
            values = integral(values)
        put(chunk, finish(values), mask)

    return run


def float_loader(kind: str):
    if kind == "f64":
        return lambda raw: raw.view(np.float64)
    return ELEMENTS[kind].load


def to_integer(kind: str, floating: bool, saturating: bool):
    """Return a conversion to integers. A float saturates and NaN becomes 0; an integer is truncated unless .sat."""
    dtype = NUMPY[kind]
    info = np.iinfo(dtype)

    def from_float(values):
        values = values.astype(np.float64)
        inside = np.where(np.isnan(values), 0.0, np.clip(values, float(info.min), float(info.max)))
        # float(info.max) rounds up for 64 bits; values that reach it must not be converted.
        top = inside >= float(info.max)
        return np.where(top, info.max, np.where(top, 0.0, inside).astype(dtype)).astype(dtype)

    def from_integer(values):
        if saturating:
            source_info = np.iinfo(values.dtype)
            values = np.clip(values, max(info.min, source_info.min), min(info.max, source_info.max))
        return values.astype(dtype)

    return from_float if floating else from_integer


def directed(values, dtype, mode: str):
    """Round float64 towards zero, down or up, by correcting the nearest value by one step."""
    near = values.astype(dtype)
    back = near.astype(np.float64)
    if mode == "rm":
        wrong, towards = back > values, -np.inf
    elif mode == "rp":
        wrong, towards = back < values, np.inf
    else:
        wrong, towards = np.abs(back) > np.abs(values), 0
    return np.where(wrong, np.nextafter(near, dtype(towards)), near).astype(dtype)


def to_float(ins, kind: str, source_kind: str):
    bits = UNSIGNED[BITS[kind]]
    mode = next((p for p in ins.parts if p in ("rz", "rm", "rp")), "rn")
    saturating, finite, relu = "sat" in ins.parts, "satfinite" in ins.parts, "relu" in ins.parts
    if kind == "tf32":
        away = "rna" in ins.parts
        if mode != "rn" or source_kind != "f32":
            raise UnsupportedError("a rounding to tf32 other than rn and rna")
    elif kind == "bf16" and mode != "rn":
        raise UnsupportedError("a directed rounding to bf16")

    def finish(values):
        if values.dtype.kind in "iu" and kind in ("f16", "bf16"):
            values = values.astype(np.float64)  # exact for 32 bits; float16 saturates far below 64
        if saturating:
            values = np.where(np.isnan(values), 0, np.clip(values, 0, 1)).astype(values.dtype)
        if relu:
            values = np.where(values > 0, values, np.where(np.isnan(values), values, 0)).astype(values.dtype)
        if finite:
            values = np.clip(values, -LARGEST[kind], LARGEST[kind]).astype(values.dtype)
        if kind == "tf32":
            return to_tf32(values, away)
        if kind == "bf16":
            return to_bf16(odd_float32(values) if values.dtype == np.float64 else values.astype(np.float32))
        if mode != "rn":
            return directed(values.astype(np.float64), NUMPY[kind], mode).view(bits)
        result = values.astype(NUMPY[kind])
        if "ftz" in ins.parts and kind == "f32":
            result = flush(result)
        return result.view(bits)

    return finish


def packed(ins, kind: str):
    """Return a handler of cvt.rn.f16x2.f32 d, a, b, in which a becomes the upper half."""
    if ins.parts[-1] != "f32" or any(p in ins.parts for p in ("rz", "rs")):
        raise UnsupportedError("a packed conversion other than from f32 to the nearest")
    gets, put = [source(o, "f32") for o in ins.operands[1:3]], destination(ins.operands[0], "b32")
    finite, relu = "satfinite" in ins.parts, "relu" in ins.parts

    def narrow(values):
        if relu:
            values = np.where(values > 0, values, np.where(np.isnan(values), values, np.float32(0)))
        if finite:
            values = np.clip(values, np.float32(-LARGEST[kind]), np.float32(LARGEST[kind]))
        return to_bf16(values) if kind == "bf16" else values.astype(np.float16).view(np.uint16)

    def run(chunk, mask):
        upper, lower = (narrow(full(chunk, get(chunk))) for get in gets)
        put(chunk, (upper.astype(np.uint32) << np.uint32(16)) | lower, mask)

    return run
