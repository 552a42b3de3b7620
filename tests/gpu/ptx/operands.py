"""Operands of instructions, and scopes that resolve register names and labels."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Register:
    """A register."""

    index: int
    bits: int
    name: str


@dataclass(frozen=True)
class Immediate:
    """A constant in the text of an instruction."""

    text: str


@dataclass(frozen=True)
class Special:
    """A special register such as %tid.x."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """A label, a parameter, or the address of a variable."""

    name: str


@dataclass(frozen=True)
class Sink:
    """``_``: a discarded result."""


@dataclass(frozen=True)
class Negated:
    """``!p``."""

    operand: Any


@dataclass(frozen=True)
class Vector:
    """``{a, b}`` or ``p|q``."""

    items: tuple[Any, ...]


@dataclass(frozen=True)
class Address:
    """``[base + offset]``."""

    base: Any
    offset: int


class Scope:
    """Names declared between two braces. Inline assembly opens scopes and reuses names in them."""

    numbers = itertools.count()

    def __init__(self, parent: Scope | None) -> None:
        self.parent = parent
        self.registers: dict[str, Register] = {}
        self.ranges: dict[str, tuple[int, int, int]] = {}  # prefix: first index, count, bits
        self.labels: dict[str, str] = {}
        self.suffix = "" if parent is None else f"@{next(Scope.numbers)}"

    def define_registers(self, name: str, bits: int, first: int) -> int:
        """Declare ``%r<9>`` or ``%r`` from index ``first`` on. Return the next free index."""
        if match := re.match(r"(.+)<(\d+)>$", name):
            self.ranges[match[1]] = (first, int(match[2]), bits)
            return first + int(match[2])
        self.registers[name] = Register(first, bits, name)
        return first + 1

    def register(self, name: str) -> Register | None:
        if name in self.registers:
            return self.registers[name]
        match = re.match(r"(.*?)(0|[1-9]\d*)$", name)
        if match and match[1] in self.ranges:
            first, count, bits = self.ranges[match[1]]
            if int(match[2]) < count:
                self.registers[name] = Register(first + int(match[2]), bits, name)
                return self.registers[name]
        return self.parent.register(name) if self.parent else None

    def define_label(self, name: str) -> str:
        """Declare a label. Return its name in the whole program."""
        self.labels[name] = name + self.suffix
        return self.labels[name]

    def label(self, name: str) -> str | None:
        if name in self.labels:
            return self.labels[name]
        return self.parent.label(name) if self.parent else None
