"""Exceptions of the public API. Each message states the argument, the expected value and the value received."""


class InputError(ValueError):
    """An argument has an impossible value or shape."""


class CheckpointError(ValueError):
    """A checkpoint is truncated, hostile, incomplete or not a DiffWave network."""


class Cancelled(RuntimeError):  # noqa: N818
    """The caller cancelled the work: its event was set, or the stream was closed during the work."""


class UnavailableError(RuntimeError):
    """A requested device, instruction set, precision or extra is not available on this machine."""
