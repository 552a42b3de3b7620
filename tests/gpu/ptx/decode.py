"""Decoding of instructions into functions, once per program.

A handler is called as ``handler(chunk, mask)``, in which ``mask`` selects the executing lanes and None means all.
Registers are arrays of unsigned integers with one element per lane. The arrays are immutable: a new value is a new
array. A ``mov`` therefore copies a reference, and a cache can compare by identity.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.gpu.ptx.errors import PTXError, UndefinedRegisterError, UnsupportedError
from tests.gpu.ptx.formats import BITS, NUMPY, SIGNED, UNSIGNED
from tests.gpu.ptx.operands import Immediate, Negated, Register, Sink, Special, Symbol, Vector
from tests.gpu.ptx.parse import Instruction, Program

Handler = Callable[[Any, Any], None]
MODULES = ("arithmetic", "functions", "bits", "convert", "memory", "atomics", "copies", "matrix", "wgmma", "warp")
MODULES += ("barriers", "clusters", "mbarriers")
TABLE: dict[str, Callable[[Instruction], Handler]] = {}


class Step(NamedTuple):
    """Decoded form of one instruction for the execution loop."""

    flow: str  # "", "branch", "exit" or "barrier"
    handler: Handler | None
    guard: Callable[[Any], np.ndarray] | None
    target: int
    instruction: Instruction


def instruction(*names: str):
    """Register a function that maps an Instruction to its handler, under PTX names."""

    def register(decoder):
        for name in names:
            assert name not in TABLE, name
            TABLE[name] = decoder
        return decoder

    return register


def decode(program: Program) -> list[Step]:
    if not program.decoded:
        for module in MODULES:
            importlib.import_module(f"tests.gpu.ptx.{module}")
        program.decoded = [decode_one(program, ins) for ins in program.instructions]
        program.decoded.append(Step("exit", None, None, 0, Instruction(("ret",), (), None, "end of the entry", 0)))
    return program.decoded


def decode_one(program: Program, ins: Instruction) -> Step:
    try:
        guard = predicate(ins.guard) if ins.guard else None
        if ins.name == "bra":
            target = program.labels.get(ins.operands[0].name)
            if target is None:
                raise UnsupportedError("a branch to an unknown label")
            return Step("branch", None, guard, target, ins)
        if ins.name in ("ret", "exit"):
            return Step("exit", None, guard, 0, ins)
        if ins.name not in TABLE:
            raise UnsupportedError(f"{ins.name} is not implemented")
        return Step("barrier" if blocks(ins) else "", TABLE[ins.name](ins), guard, 0, ins)
    except PTXError as error:
        raise error.with_location(ins.line, ins.text) from None
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise UnsupportedError(f"cannot decode ({error!r})").with_location(ins.line, ins.text) from error


def blocks(ins: Instruction) -> bool:
    """Return whether lanes may have to wait at an instruction."""
    if ins.name == "mbarrier":
        return ins.parts[1] == "try_wait"
    return ins.name in ("bar", "barrier") and "warp" not in ins.parts


class Undefined:
    """The content of a register before the first write: any use of it raises."""

    def __getattr__(self, name: str):
        raise UndefinedRegisterError("a register is read before it is written")

    def __array__(self, *args, **kwargs):
        raise UndefinedRegisterError("a register is read before it is written")


UNDEFINED = Undefined()


def immediate(text: str, kind: str) -> np.ndarray:
    """Return a constant as an array of one element."""
    dtype = NUMPY[kind]
    if kind == "pred":
        return np.array([int(text, 0) != 0])
    if text[:2] in ("0f", "0F"):
        bits = np.array([int(text[2:], 16)], np.uint32)
        return bits.view(np.float32).astype(dtype) if kind == "f64" else bits.view(dtype)
    if text[:2] in ("0d", "0D"):
        value = np.array([int(text[2:], 16)], np.uint64).view(np.float64)
        return value.astype(dtype) if kind in ("f32", "f64") else value.view(dtype)
    if "." in text:
        return np.array([float(text)], dtype)
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    value = int(text, 8 if octal else 0) % (1 << BITS[kind])
    return np.array([value], UNSIGNED[BITS[kind]]).view(dtype)


def source(operand: Any, kind: str) -> Callable[[Any], np.ndarray]:
    """Return a function from the chunk to the operand's values of PTX type ``kind``: one per lane, or one for all."""
    if kind == "pred":
        return predicate(operand)
    dtype, bits = NUMPY[kind], BITS[kind]
    if isinstance(operand, Register):
        index = operand.index
        if operand.bits == bits:
            if dtype is UNSIGNED[bits]:
                return lambda chunk: chunk.registers[index]
            return lambda chunk: chunk.registers[index].view(dtype)
        if operand.bits < bits:
            raise UnsupportedError(f"{operand.name} has {operand.bits} bits, the type {bits}")
        low = UNSIGNED[bits]
        return lambda chunk: chunk.registers[index].astype(low).view(dtype)
    if isinstance(operand, Immediate):
        constant = immediate(operand.text, kind)
        return lambda chunk: constant
    if isinstance(operand, Special):
        name = operand.name
        return lambda chunk: chunk.special[name].astype(dtype)
    if isinstance(operand, Symbol):
        name = operand.name
        return lambda chunk: np.array([chunk.symbols[name]], dtype)
    raise UnsupportedError(f"unsupported operand: {operand}")


def predicate(operand: Any) -> Callable[[Any], np.ndarray]:
    if isinstance(operand, Negated):
        inner = predicate(operand.operand)
        return lambda chunk: ~inner(chunk)
    if isinstance(operand, Register):
        if operand.bits != 1:
            raise UnsupportedError(f"{operand.name} is not a predicate")
        index = operand.index
        return lambda chunk: chunk.registers[index]
    if isinstance(operand, Immediate):
        constant = immediate(operand.text, "pred")
        return lambda chunk: constant
    raise UnsupportedError(f"not a predicate: {operand}")


def destination(operand: Any, kind: str) -> Callable[[Any, np.ndarray, Any], None]:
    """Return a function ``(chunk, values, mask)`` that writes a register, extending values of a narrower type."""
    if isinstance(operand, Sink):
        return lambda chunk, values, mask: None
    if not isinstance(operand, Register):
        raise UnsupportedError(f"not a register: {operand}")
    index, bits = operand.index, BITS[kind]
    dtype = np.bool_ if operand.bits == 1 else UNSIGNED[operand.bits]
    if operand.bits < bits or (operand.bits == 1) != (kind == "pred"):
        raise UnsupportedError(f"{operand.name} has {operand.bits} bits, the type {bits}")
    extended = None
    if operand.bits > bits:
        extended = (SIGNED if kind.startswith("s") else UNSIGNED)[operand.bits]
    poison = dtype(True) if dtype is np.bool_ else np.iinfo(dtype).max

    def write(chunk, values, mask):
        if extended is not None:
            values = values.astype(extended)
        if values.dtype != dtype:
            values = values.view(dtype)
        if values.size != chunk.lanes:
            values = np.full(chunk.lanes, values[0], dtype)
        if mask is not None:
            old = chunk.registers[index]
            values = np.where(mask, values, poison if old is UNDEFINED else old)
        chunk.registers[index] = values

    return write


def items(operand: Any) -> tuple[Any, ...]:
    """Return the elements of ``{a, b}``, or the operand alone."""
    return operand.items if isinstance(operand, Vector) else (operand,)


def full(chunk, values: np.ndarray) -> np.ndarray:
    """Return values with one element per lane; an immediate is repeated."""
    return values if values.size == chunk.lanes else np.full(chunk.lanes, values[0], values.dtype)
