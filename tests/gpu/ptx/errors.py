"""Errors of the interpreter. Every error names the instruction and its line in the PTX text."""

from __future__ import annotations


class PTXError(Exception):
    """A fault in a program, or something that the interpreter does not support."""

    location = ""

    def with_location(self, line: int, text: str) -> PTXError:
        """Set the location of the error unless it has one, and return the error."""
        self.location = self.location or f" (PTX line {line}: {' '.join(text.split())})"
        return self

    def __str__(self) -> str:
        return super().__str__() + self.location


class ParseError(PTXError):
    """Text that is not PTX, or unsupported PTX."""


class UnsupportedError(PTXError):
    """An instruction, or a form of one, that is not implemented."""


class UndefinedRegisterError(PTXError):
    """A read of a register before anything was written to it."""


class OutOfBoundsError(PTXError):
    """An address outside every buffer."""


class MisalignedError(PTXError):
    """An address that is not a multiple of the access's size."""


class UnwrittenError(PTXError):
    """A read of unwritten memory, or of memory that an asynchronous copy has not delivered."""


class SharedRaceError(PTXError):
    """Accesses of two warps to the same shared memory, at least one of them a write, that no barrier orders."""


class GlobalRaceError(PTXError):
    """Accesses of two CTAs of a launch to the same global memory, at least one of them a write."""


class WriteConflictError(PTXError):
    """Different values that two threads write to one address in one instruction; which one remains is unspecified."""


class BarrierError(PTXError):
    """A barrier that only part of a warp or of a CTA reaches, or that never completes."""


class DivergedError(PTXError):
    """An instruction of a whole warp that only part of it executes."""


class AsyncError(PTXError):
    """A wrong order of asynchronous instructions."""


class StepLimitError(PTXError):
    """A program that does not end within the limit of steps."""
