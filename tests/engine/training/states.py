"""Comparison of the states of trainings."""

from __future__ import annotations

import torch

from engine.training.state import State


def equal_states(state: State, other: State) -> bool:
    """Return whether the steps and all tensors of two states are equal, bit for bit."""
    return state.step == other.step and all(
        torch.equal(tensor, other.tensors[part][name])
        for part, tensors in state.tensors.items()
        for name, tensor in tensors.items()
    )
