"""First weights: random, but for a path on which eps begins as x itself.

At high noise eps is x up to a small part, and that part is all there is to learn. A network of gated layers needs
thousands of steps before it passes x on as it came; here the first layer does so from the beginning, on the part of its
gates where tanh is a line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch

if TYPE_CHECKING:
    from engine.training.network import DiffWave, Layer

LINE = 0.12  # what x is multiplied by before tanh: at one deviation of x the line is left by 0.5 %, at three by 4 %


def begin_with_x(network: DiffWave) -> None:
    """Change a network's random weights so that eps is x, within a few per cent; all of it is free to be unlearnt.

    Channels 0 and 1 hold the positive and the negative part of x, in the first residual channels and again in the skip
    sum; in between, every gate of the first layer carries LINE * x / 2.
    """
    layers = cast("list[Layer]", list(network.residual_layers))
    first, channels = layers[0], network.config.residual_channels
    unit = 2.0 / LINE * math.sqrt(len(layers)) / channels
    with torch.no_grad():
        for part in ("dilated_conv", "diffusion_projection", "conditioner_projection", "label_projection"):
            if hasattr(first, part):
                getattr(first, part).weight.mul_(0.002)
        first.diffusion_projection.bias.zero_()
        first.dilated_conv.weight[channels:, 0, 1] = LINE
        first.dilated_conv.weight[channels:, 1, 1] = -LINE
        for k, sign in ((0, 1.0), (1, -1.0)):
            network.input_projection.weight[k] = sign
            network.input_projection.bias[k] = 0.0
            for layer in layers:  # nobody else writes into these skip channels
                layer.output_projection.weight[channels + k] = 0.0
            first.output_projection.weight[channels + k] = sign * unit
            network.skip_projection.weight[k] = 0.0
            network.skip_projection.weight[k, k] = 1.0
            network.output_projection.weight[0, k] = sign
