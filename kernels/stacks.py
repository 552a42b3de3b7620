"""The kernels that run residual layers in groups, by the instruction set that selects them."""

from __future__ import annotations

from engine.kernels.ampere.stack import STACK as MMA
from engine.kernels.cuda.stack import Stack
from engine.kernels.hopper.stack import STACK as HOPPER

STACKS: dict[str, Stack] = {stack.isa: stack for stack in (MMA, HOPPER)}
