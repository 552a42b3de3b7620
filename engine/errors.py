"""The errors a caller can meet. Each message names the argument, what was expected and what came."""


class InputError(ValueError):
    """An argument has an impossible value or shape."""


class CheckpointError(ValueError):
    """A checkpoint is truncated, hostile, incomplete or not a DiffWave network."""


class UnavailableError(RuntimeError):
    """What was asked for (a device, an instruction set, a precision, an extra) is not available here."""
