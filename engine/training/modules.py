"""Building blocks of the trained network, with the parameter names of `engine.checkpoint.load.expected_shapes`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.checkpoint.load import LABEL_WIDTH
from engine.config import upsample_padding

STEP_SINUSOIDS, STEP_FEATURES = 128, 512  # widths (paper, section 3.1)


class Projection(nn.Module):
    """A 1x1 convolution or a linear layer on rows: a weight [out, in, 1, ...] and a bias [out]."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """Project rows [..., in] to [..., out]."""
        return functional.linear(rows, self.weight.flatten(1), self.bias)


class Upsampler(nn.Module):
    """The transposed convolutions of the mel (paper, section 3.2)."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        for k, stride in enumerate(strides, start=1):
            padding, output_padding = upsample_padding(stride)
            layer = nn.ConvTranspose2d(1, 1, (3, 2 * stride), (1, stride), (1, padding), (0, output_padding))
            setattr(self, f"conv{k}", layer)

    def forward(self, mel: Tensor) -> Tensor:
        """Upsample a mel [B,M,T] to [B,M,L]."""
        rows = mel[:, None]
        for k in range(1, len(self.strides) + 1):
            rows = functional.leaky_relu(getattr(self, f"conv{k}")(rows), 0.4)
        return rows[:, 0]


class StepFeatures(nn.Module):
    """The two linear layers between the sinusoids of the step and its features (paper, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.projection1 = nn.Linear(STEP_SINUSOIDS, STEP_FEATURES)
        self.projection2 = nn.Linear(STEP_FEATURES, STEP_FEATURES)

    def forward(self, embedded: Tensor) -> Tensor:
        """Map sinusoids [B,128] to features [B,512]."""
        return functional.silu(self.projection2(functional.silu(self.projection1(embedded))))


class Layer(nn.Module):
    """The parameters of one residual layer."""

    def __init__(self, channels: int, bands: int, labelled: bool) -> None:
        super().__init__()
        self.dilated_conv = Projection(2 * channels, channels, 3)
        self.diffusion_projection = nn.Linear(STEP_FEATURES, channels)
        if bands:
            self.conditioner_projection = Projection(2 * channels, bands, 1)
        if labelled:
            self.label_projection = Projection(2 * channels, LABEL_WIDTH, 1)
        self.output_projection = Projection(2 * channels, channels, 1)
