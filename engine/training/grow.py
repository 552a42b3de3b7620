"""Growing a network into a wider one that computes the same function, so that training need not start again.

As in Net2Net (Chen et al., ICLR 2016) the function is kept, but no channel is copied. The new channels read every
channel through random weights. The old channels do not read the new ones until training changes that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

READERS = ("dilated_conv", "output_projection", "skip_projection")  # the parameters whose inputs are channels


def grow_weights(narrow: Mapping[str, Tensor], wide: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of a wide network that computes the same function as a narrow one.

    Args:
        narrow: the narrow network's weights, by the names of `engine.checkpoint.load.expected_shapes`.
        wide: random weights of the wide network; not modified.

    Returns:
        The wide network's weights, or None if the networks differ in more than their channels.
    """
    if narrow.keys() != wide.keys():
        return None
    channels, wide_channels = (weights["input_projection.weight"].shape[0] for weights in (narrow, wide))
    if channels >= wide_channels:
        return None
    grown = {}
    for name, old in narrow.items():
        new = wide[name].clone()
        if old.dim() != new.dim():
            return None
        changed_axes = {axis for axis in range(old.dim()) if old.shape[axis] != new.shape[axis]}
        places = [
            _places(channels, wide_channels, old.shape[axis], new.shape[axis]) for axis in range(min(old.dim(), 2))
        ]
        if not changed_axes <= _channel_axes(name) or any(indices is None for indices in places):
            return None
        outputs = new[places[0]]
        if old.dim() > 1:
            outputs[:] = 0.0
            outputs[:, places[1]] = old
        else:
            outputs = old.clone()
        new[places[0]] = outputs
        grown[name] = new
    return grown


def _channel_axes(name: str) -> set[int]:
    """Return the axes of a parameter that are channels.

    Bands, classes and the features of the step are not channels, even if there are as many of them.
    """
    if "embedding" in name:
        return set()
    return {0, 1} if name.split(".")[-2] in READERS else {0}


def _places(channels: int, wide_channels: int, old: int, new: int) -> Tensor | None:
    """Return the indices of an axis' entries in the wider axis, or None if it does not grow with the channels.

    An axis of 2C entries is two halves of C: the two gates, or the residual and the skip.
    """
    if old == new:
        return torch.arange(new)
    halves, rest = divmod(old, channels)
    if rest or new != halves * wide_channels:
        return None
    return torch.cat([half * wide_channels + torch.arange(channels) for half in range(halves)])
