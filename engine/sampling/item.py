"""The unit of work of the sampling loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.checks.arrays import FloatArray

Progress = Callable[[float], None]  # called with the fraction done, 0 to 1


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance: where it starts, and the noise that its steps add.

    Attributes:
        length: L, samples.
        mel: [M,T] float32, or None.
        seed: of x_T and of the added noise.
        x: [L] float32, standard normal, to start from instead.
        noise: z [S-1,L] to be added instead, in the order of execution.
        scale: the standard deviation of x_T and of the noise, one value for every `repeat` samples; None for 1.
        repeat: samples per value of `scale`.
        label: the number of the class, for a network with classes, or "no label" (`engine.kernels.label`).
    """

    length: int
    mel: FloatArray | None = None
    seed: int = 0
    x: FloatArray | None = None
    noise: FloatArray | None = None
    scale: FloatArray | None = None
    repeat: int = 1
    label: int | None = None
