"""Mutations of PTX text, one fault each. A check of the interpreter or a comparison must detect every fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

REGISTER = r"%[\w$]+"


class Mutant(NamedTuple):
    """PTX text with one fault."""

    name: str  # the kind of the fault, and its number
    line: int
    ptx: str


def mutants(ptx: str, pattern: str, change: Callable[[re.Match[str]], str | None], name: str) -> Iterator[Mutant]:
    """Yield a mutant for each match of ``pattern`` for which ``change`` returns a replacement."""
    number = 0
    for match in re.finditer(pattern, ptx, re.M):
        replacement = change(match)
        if replacement is not None and replacement != match[0]:
            line = ptx.count("\n", 0, match.start()) + 1
            yield Mutant(f"{name} #{number}", line, ptx[: match.start()] + replacement + ptx[match.end() :])
            number += 1


def nothing(match: re.Match[str]) -> str:
    return ""


def drop_barriers(ptx: str) -> Iterator[Mutant]:
    return mutants(ptx, r"\b(?:bar|barrier)\.(?:cta\.)?sync\b[^;]*;", nothing, "dropped barrier")


# Compilers emit adjacent waits. A fault in only one of them has no effect, so they change together.
WAITS = r"(?:\bcp\.async\.wait_(?:group\s+\d+|all)\s*;\s*)+"


def drop_waits(ptx: str) -> Iterator[Mutant]:
    """Drop waits for cp.async."""
    return mutants(ptx, WAITS, nothing, "dropped wait")


def raise_waits(ptx: str) -> Iterator[Mutant]:
    """Let one more group of cp.async stay in flight."""

    def change(match: re.Match[str]) -> str:
        return re.sub(r"(wait_group\s+)(\d+)", lambda m: f"{m[1]}{int(m[2]) + 1}", match[0])

    return mutants(ptx, WAITS, change, "raised wait")


def drop_commits(ptx: str) -> Iterator[Mutant]:
    return mutants(ptx, r"\bcp\.async\.commit_group\s*;", nothing, "dropped commit")


def drop_matrix_waits(ptx: str) -> Iterator[Mutant]:
    return mutants(ptx, r"\bwgmma\.wait_group[^;]*;", nothing, "dropped wgmma wait")


def drop_fences(ptx: str) -> Iterator[Mutant]:
    return mutants(ptx, r"\bfence\.proxy\.async[^;]*;", nothing, "dropped fence")


def flip_swizzles(ptx: str) -> Iterator[Mutant]:
    """Change bit 4, the lowest that selects a 16-byte piece, of an xor with a constant."""
    change = lambda m: f"{m[1]}{int(m[2]) ^ 16};"  # noqa: E731
    return mutants(ptx, rf"(\bxor\.b32\s+{REGISTER}\s*,\s*{REGISTER}\s*,\s*)(\d+)\s*;", change, "flipped swizzle")


def negate_predicates(ptx: str) -> Iterator[Mutant]:
    change = lambda m: f"@{'' if m[1] else '!'}{m[2]}"  # noqa: E731
    return mutants(ptx, rf"@(!?)({REGISTER})", change, "negated predicate")


def shift_addresses(ptx: str, by: int = 16) -> Iterator[Mutant]:
    """Shift the addresses of loads and stores of global and shared memory."""
    pattern = rf"(\b(?:ld|st)\.(?:shared|global)[^;\[]*\[\s*{REGISTER})\s*(?:\+\s*(-?\d+))?\s*\]"
    return mutants(ptx, pattern, lambda m: f"{m[1]}+{int(m[2] or 0) + by}]", "shifted address")


KINDS: dict[str, Callable[[str], Iterator[Mutant]]] = {
    "barriers": drop_barriers,
    "waits": drop_waits,
    "raised waits": raise_waits,
    "commits": drop_commits,
    "matrix waits": drop_matrix_waits,
    "fences": drop_fences,
    "swizzles": flip_swizzles,
    "predicates": negate_predicates,
    "addresses": shift_addresses,
}
