"""A wider network that computes what a narrow one does, so that what was learnt need not be learnt again.

As in Net2Net (Chen et al., ICLR 2016) the function is kept, but no channel is copied: the new channels read everything
from random weights, and nothing that was there reads them, until the training makes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

READS = ("dilated_conv", "output_projection", "skip_projection")  # the parts whose inputs are channels


def grown(given: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights of a network of C channels in one of more.

    Args:
        given: the narrow network's weights, by the names of `engine.checkpoint.load.expected_shapes`.
        fresh: the wide one's, random; left as they are.

    Returns:
        The wide network's weights, or None where the two differ by more than their channels.
    """
    if given.keys() != fresh.keys():
        return None
    narrow, wide = (of["input_projection.weight"].shape[0] for of in (given, fresh))
    if narrow >= wide:
        return None
    made = {}
    for name, old in given.items():
        new = fresh[name].clone()
        if old.dim() != new.dim():
            return None
        differ = {axis for axis in range(old.dim()) if old.shape[axis] != new.shape[axis]}
        at = [_places(narrow, wide, old.shape[axis], new.shape[axis]) for axis in range(min(old.dim(), 2))]
        if not differ <= _channel_axes(name) or any(one is None for one in at):
            return None
        outputs = new[at[0]]
        if old.dim() > 1:
            outputs[:] = 0.0
            outputs[:, at[1]] = old
        else:
            outputs = old.clone()
        new[at[0]] = outputs
        made[name] = new
    return made


def _channel_axes(name: str) -> set[int]:
    """Of a parameter; bands, classes and the step's features are no channels, even where there are as many."""
    if "embedding" in name:
        return set()
    return {0, 1} if name.split(".")[-2] in READS else {0}


def _places(narrow: int, wide: int, old: int, new: int) -> Tensor | None:
    """Where the entries of an axis are in the wider one: 2C are two halves of C (gates; the residual and the skip)."""
    if old == new:
        return torch.arange(new)
    halves, rest = divmod(old, narrow)
    if rest or new != halves * wide:
        return None
    return torch.cat([half * wide + torch.arange(narrow) for half in range(halves)])
