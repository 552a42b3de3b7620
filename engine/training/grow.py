"""A wider network that computes what a narrow one does, so that what was learnt need not be learnt again.

As in Net2Net (Chen et al., ICLR 2016) the function is kept, but no channel is copied: the new channels read everything
from random weights, and nothing that was there reads them, until the training makes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def grown(given: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights of a network of C channels in one of more.

    Args:
        given: the narrow network's weights, by the names of `engine.checkpoint.expected_shapes`.
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
        at = [_places(narrow, wide, old.shape[axis], new.shape[axis]) for axis in range(min(old.dim(), 2))]
        if any(one is None for one in at) or old.shape[2:] != new.shape[2:]:
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


def _places(narrow: int, wide: int, old: int, new: int) -> Tensor | None:
    """Where the entries of an axis are in the wider one: 2C are two halves of C (gates; the residual and the skip)."""
    if old == new:
        return torch.arange(new)
    halves, rest = divmod(old, narrow)
    if rest or new != halves * wide:
        return None
    return torch.cat([half * wide + torch.arange(narrow) for half in range(halves)])
