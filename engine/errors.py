"""The errors a caller can meet. Each message names the argument, what was expected and what came."""


class InputError(ValueError):
    """An argument has an impossible value or shape."""


class CheckpointError(ValueError):
    """A checkpoint is truncated, hostile, incomplete or not a DiffWave network."""


class Cancelled(RuntimeError):  # noqa: N818
    """The caller cancelled the work: its event was set, or the stream was closed while it was working."""


class UnavailableError(RuntimeError):
    """What was asked for (a device, an instruction set, a precision, an extra) is not available here."""
