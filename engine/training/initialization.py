"""Initial weights: random, except for a path through which eps starts as x itself.

At high noise eps is x up to a small part, and only that part has to be learned. A network of gated layers needs
thousands of steps before it passes x through unchanged. Here the first layer does so from the beginning: its gates work
where tanh is nearly linear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from engine.training.modules import Layer, Projection

TANH_SCALE = 0.12  # multiplies x before tanh, which then is linear within 0.5 % at one deviation of x, 4 % at three


def start_as_identity(
    input_projection: Projection, layers: Sequence[Layer], skip_projection: Projection, output_projection: Projection
) -> None:
    """Change a network's random weights so that eps is x, within a few percent.

    Channels 0 and 1 hold the positive and the negative part of x, in the first residual channels and again in the skip
    sum. In between, every gate of the first layer carries TANH_SCALE * x / 2. Training is free to change all of it.

    Args:
        input_projection: from x to the residual channels.
        layers: the residual layers.
        skip_projection: from the skip sum to the hidden rows of the output head.
        output_projection: from those rows to eps.
    """
    first, channels = layers[0], input_projection.bias.shape[0]
    gain = 2.0 / TANH_SCALE * math.sqrt(len(layers)) / channels
    with torch.no_grad():
        for name in ("dilated_conv", "diffusion_projection", "conditioner_projection", "label_projection"):
            if hasattr(first, name):
                getattr(first, name).weight.mul_(0.002)
        first.diffusion_projection.bias.zero_()
        first.dilated_conv.weight[channels:, 0, 1] = TANH_SCALE
        first.dilated_conv.weight[channels:, 1, 1] = -TANH_SCALE
        for k, sign in ((0, 1.0), (1, -1.0)):
            input_projection.weight[k] = sign
            input_projection.bias[k] = 0.0
            for layer in layers:  # no other layer writes into these two skip channels
                layer.output_projection.weight[channels + k] = 0.0
            first.output_projection.weight[channels + k] = sign * gain
            skip_projection.weight[k] = 0.0
            skip_projection.weight[k, k] = 1.0
            output_projection.weight[0, k] = sign
