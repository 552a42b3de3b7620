"""What the interpreter refuses. Every error names the instruction and its line in the PTX text."""

from __future__ import annotations


class PTXError(Exception):
    """A fault in a program, or something this interpreter does not know."""

    where = ""

    def at(self, line: int, text: str) -> PTXError:
        """The same error with its place, unless it has one."""
        self.where = self.where or f" (PTX line {line}: {' '.join(text.split())})"
        return self

    def __str__(self) -> str:
        return super().__str__() + self.where


class ParseError(PTXError):
    """Text that is not PTX, or not a part of it that we read."""


class UnsupportedError(PTXError):
    """An instruction, or a form of one, that is not implemented."""


class UndefinedRegisterError(PTXError):
    """A register was read before anything was written to it."""


class OutOfBoundsError(PTXError):
    """An address outside every buffer."""


class MisalignedError(PTXError):
    """An address that is not a multiple of the access's size."""


class UnwrittenError(PTXError):
    """A read of memory that nobody wrote, or that an asynchronous copy has not delivered yet."""


class SharedRaceError(PTXError):
    """Two warps touch the same shared memory, at least one writes, and no barrier orders them."""


class GlobalRaceError(PTXError):
    """Two CTAs of a launch touch the same global memory and at least one writes."""


class WriteConflictError(PTXError):
    """Two threads write different values to one place in one instruction: the survivor is unspecified."""


class BarrierError(PTXError):
    """A barrier that part of a warp or part of a CTA reaches, or that never completes."""


class DivergedError(PTXError):
    """An instruction of the whole warp, executed by a part of it."""


class AsyncError(PTXError):
    """A fault in the order of asynchronous instructions."""


class StepLimitError(PTXError):
    """The program does not end."""
