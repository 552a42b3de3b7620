"""Parser from PTX text to a Program: one entry, its parameters, symbols, and instructions with resolved names."""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass, field
from typing import Any

from tests.gpu.ptx.errors import ParseError
from tests.gpu.ptx.formats import BITS
from tests.gpu.ptx.operands import Address, Immediate, Negated, Register, Scope, Sink, Special, Symbol, Vector

NAME = r"[A-Za-z_$%][\w$]*"
NUMBER = re.compile(r"-?(0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0x[0-9a-fA-F]+U?|\d+\.\d*(e[-+]?\d+)?|\d+U?)$")
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)(?:\s+\.ptr[^,]*?)?\s+([\w$]+)(?:\[(\d+)\])?\s*$", re.S
)
VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.(shared|global|const|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+"
    r"([\w$]+)\s*(?:\[(\d*)\])?\s*(?:=\s*(\{[^}]*\}|[^;]+))?$",
    re.S,
)
# Directives without a semicolon. They do not affect execution.
LINES_TO_SKIP = re.compile(r"^\s*(\.loc|\.file|\.version|\.target|\.address_size)\b[^\n]*", re.M)
SPECIAL = re.compile(
    r"%(tid|ntid|ctaid|nctaid)\.[xyz]$|%(laneid|warpid|nwarpid|dynamic_smem_size|total_smem_size|cluster_n?ctarank)$"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry."""

    name: str
    kind: str
    offset: int
    size: int


@dataclass(frozen=True)
class Variable:
    """Memory that the text declares. ``size`` is None for shared memory whose size the launch determines."""

    name: str
    space: str
    size: int | None
    align: int
    initial: bytes = b""


@dataclass(frozen=True)
class Instruction:
    """A parsed instruction: opcode parts, operands and guard."""

    parts: tuple[str, ...]
    operands: tuple[Any, ...]
    guard: Register | Negated | None
    text: str
    line: int

    @property
    def name(self) -> str:
        return self.parts[0]

    @property
    def kind(self) -> str:
        """Last part of the opcode, which is the type for most instructions."""
        return self.parts[-1]


@dataclass
class Program:
    """A parsed entry."""

    name: str
    parameters: list[Parameter]
    variables: dict[str, Variable]
    registers: int
    instructions: list[Instruction]
    labels: dict[str, int]
    decoded: list[Any] = field(default_factory=list)  # filled by decode.py, once


def blank(match: re.Match[str]) -> str:
    """Return only the newlines of a match, so that line numbers do not change."""
    return "\n" * match[0].count("\n")


def split(text: str) -> list[str]:
    """Split text at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "{[(") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def variable(statement: str, line: int) -> Variable:
    match = VARIABLE.match(statement)
    if not match or match[3] not in BITS:
        raise ParseError("unsupported declaration").with_location(line, statement)
    space, align, kind, name, count, initial = match.groups()
    width = BITS[kind] // 8
    data = b""
    if initial:
        try:
            values = [int(v, 0) for v in split(initial.strip("{} \n"))]
            data = b"".join((v % (1 << 8 * width)).to_bytes(width, "little") for v in values)
        except ValueError:
            raise ParseError("an initial value that is not an integer").with_location(line, statement) from None
    size = width * int(count or 1) if count != "" else len(data) or None
    return Variable(name, space, size, int(align or width), data)


def parameters(text: str, line: int) -> list[Parameter]:
    declared, offset = [], 0
    for item in split(text):
        match = PARAMETER.match(item)
        if not match or match[2] not in BITS:
            raise ParseError("unsupported parameter").with_location(line, item)
        width = BITS[match[2]] // 8
        size, align = width * int(match[4] or 1), int(match[1] or width)
        offset = -(-offset // align) * align
        declared.append(Parameter(match[3], match[2], offset, size))
        offset += size
    return declared


class Parser:
    """Parser of the body of an entry, statement by statement."""

    def __init__(self, text: str, start: int) -> None:
        self.text, self.position = text, start
        self.newlines = [m.start() for m in re.finditer("\n", text)]
        self.scope = Scope(None)
        self.registers = 0
        self.variables: dict[str, Variable] = {}
        self.labels: dict[str, int] = {}
        self.raw: list[tuple[str, int, Scope]] = []

    def line(self) -> int:
        return bisect(self.newlines, self.position) + 1

    def read(self) -> None:
        """Collect declarations, labels and raw instructions up to the closing brace."""
        label = re.compile(rf"({NAME}):(?!:)")
        while True:
            while self.text[self.position : self.position + 1].isspace():
                self.position += 1
            letter = self.text[self.position : self.position + 1]
            if not letter:
                raise ParseError("the text ends inside an entry")
            if letter in "{};":
                self.position += 1
                if letter == "{":
                    self.scope = Scope(self.scope)
                elif letter == "}" and self.scope.parent is None:
                    return
                elif letter == "}":
                    self.scope = self.scope.parent
            elif match := label.match(self.text, self.position):
                self.labels[self.scope.define_label(match[1])] = len(self.raw)
                self.position = match.end()
            else:
                end = self.text.find(";", self.position)
                if end < 0:
                    rest = self.text[self.position :][:80]
                    raise ParseError("a statement without a semicolon").with_location(self.line(), rest)
                self.statement(self.text[self.position : end].strip(), self.line())
                self.position = end + 1

    def statement(self, text: str, line: int) -> None:
        if text.startswith(".reg"):
            match = re.match(r"\.reg\s+\.(\w+)\s+(.*)$", text, re.S)
            if not match or match[1] not in BITS:
                raise ParseError("unsupported declaration of registers").with_location(line, text)
            for name in split(match[2]):
                self.registers = self.scope.define_registers(name, BITS[match[1]], self.registers)
        elif re.match(r"\.(shared|local|global|const)\b", text):
            declared = variable(text, line)
            self.variables[declared.name] = declared
        elif not text.startswith("."):  # the rest are hints: .pragma, .branchtargets
            self.raw.append((text, line, self.scope))

    def instruction(self, text: str, line: int, scope: Scope) -> Instruction:
        match = re.match(rf"(?:@(!?)\s*({NAME})\s+)?([a-z][\w.:]*)\s*(.*)$", text, re.S)
        if not match:
            raise ParseError("not an instruction").with_location(line, text)
        negated, guard, opcode, rest = match.groups()
        try:
            operands = tuple(self.operand(item, scope) for item in split(rest))
            register = self.operand(guard, scope) if guard else None
        except ParseError as error:
            raise error.with_location(line, text) from None
        return Instruction(tuple(opcode.split(".")), operands, Negated(register) if negated else register, text, line)

    def operand(self, text: str, scope: Scope) -> Any:
        text = text.strip()
        if text.startswith("{"):
            return Vector(tuple(self.operand(item, scope) for item in split(text[1:-1])))
        if text.startswith("["):
            inner = re.match(r"(.+?)\s*(?:\+\s*(-?\w+))?$", text[1:-1].strip())
            return Address(self.operand(inner[1], scope), int(inner[2], 0) if inner[2] else 0)
        if "|" in text:
            return Vector(tuple(self.operand(item, scope) for item in text.split("|")))
        if text.startswith("!"):
            return Negated(self.operand(text[1:], scope))
        if text == "_":
            return Sink()
        if NUMBER.match(text):
            return Immediate(text.rstrip("U") if not text.lower().startswith(("0f", "0d")) else text)
        register = scope.register(text)
        if register is not None:
            return register
        if SPECIAL.match(text) or text == "WARP_SZ":
            return Special(text)
        label = scope.label(text)
        if label is not None:
            return Symbol(label)
        if re.match(rf"{NAME}$", text) and not text.startswith("%"):
            return Symbol(text)
        raise ParseError(f"{text!r} is not a register, number, label or variable")


def parse(ptx: str, entry: str | None = None) -> Program:
    """Parse the entry of this name, or the only one."""
    text = re.sub(r"/\*.*?\*/", blank, ptx, flags=re.S)
    text = LINES_TO_SKIP.sub(blank, text)
    text = re.sub(r"//[^\n]*", "", text)
    heads = [m for m in re.finditer(r"\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?", text) if entry in (None, m[1])]
    if len(heads) != 1:
        raise ParseError(f"expected one entry{f' named {entry}' if entry else ''}, got {len(heads)}")
    head = heads[0]
    variables = {}
    for match in re.finditer(r"^[^\S\n]*(\.(?:visible |extern |weak )*\.?(?:shared|global|const)\s[^;]*);", text, re.M):
        if match.start() < head.start():
            declared = variable(match[1], text.count("\n", 0, match.start(1)) + 1)
            variables[declared.name] = declared
    body = text.index("{", head.end())
    parser = Parser(text, body + 1)
    parser.read()
    instructions = [parser.instruction(*raw) for raw in parser.raw]
    return Program(
        head[1],
        parameters(head[2] or "", text.count("\n", 0, head.start()) + 1),
        {**variables, **parser.variables},
        parser.registers,
        instructions,
        parser.labels,
    )
