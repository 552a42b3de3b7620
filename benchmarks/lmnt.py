"""LMNT's model as a PyTorch module that every baseline runs, operation by operation and with LMNT's names.

`published` is LMNT's own code, from the package diffwave (extra `bench`). The module here computes the same
(tests/benchmarks/test_baselines.py). It differs where exporting requires it: the step biases are inputs, and so are the
conditioners if hoisted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.checkpoint.load import Checkpoint


class Network(nn.Module):
    """One evaluation of the network: x [B,L], d [N,C] and the mel [B,M,T] to eps [B,L]."""

    def __init__(self, checkpoint: Checkpoint, hoisted: bool = False) -> None:
        """Copy the weights.

        Args:
            checkpoint: the network.
            hoisted: take N conditioners [B,2C,L], from `conditioners`, instead of the mel.
        """
        super().__init__()
        config, C = checkpoint.config, checkpoint.config.residual_channels
        self.hoisted = hoisted
        self.input_projection = nn.Conv1d(1, C, 1)
        if not hoisted:
            self.spectrogram_upsampler = Upsampler(config.upsample_strides)
        bands = 0 if hoisted else config.n_mels
        self.residual_layers = nn.ModuleList(ResidualBlock(C, bands, dilation) for dilation in config.dilations)
        self.skip_projection = nn.Conv1d(C, C, 1)
        self.output_projection = nn.Conv1d(C, 1, 1)
        names = self.state_dict()
        self.load_state_dict({key: torch.tensor(value) for key, value in checkpoint.tensors.items() if key in names})
        self.eval()

    def forward(self, x: Tensor, d: Tensor, *conditions: Tensor) -> Tensor:
        """Predict eps.

        Args:
            x: [B,L].
            d: step biases [N,C].
            *conditions: the mel or, if hoisted, N conditioners.
        """
        layers = self.residual_layers
        conditioners = conditions if self.hoisted else [self.spectrogram_upsampler(*conditions)] * len(layers)
        h, total = functional.relu(self.input_projection(x[:, None])), None
        for i, layer in enumerate(layers):
            h, skip = layer(h, conditioners[i], d[i])
            total = skip if total is None else total + skip
        assert total is not None
        hidden = functional.relu(self.skip_projection(total * math.sqrt(1.0 / len(layers))))
        eps: Tensor = self.output_projection(hidden)[:, 0]
        return eps

    def conditioners(self, mel: Tensor) -> list[Tensor]:
        """Return the conditions of a hoisted network."""
        mel_up = self.spectrogram_upsampler(mel)
        return [layer.conditioner_projection(mel_up) for layer in self.residual_layers]  # type: ignore[operator]


class Upsampler(nn.Module):
    """The mel upsampler: [B,M,T] to [B,M,T*hop]."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.count = len(strides)
        for number, s in enumerate(strides, start=1):
            padding, output_padding = (s + 1) // 2, s % 2
            layer = nn.ConvTranspose2d(1, 1, (3, 2 * s), (1, s), (1, padding), (0, output_padding))
            self.add_module(f"conv{number}", layer)

    def forward(self, mel: Tensor) -> Tensor:
        """See `engine.kernels.reference.upsample_mel`."""
        image = mel[:, None]
        for number in range(1, self.count + 1):
            image = functional.leaky_relu(getattr(self, f"conv{number}")(image), 0.4)
        return image[:, 0]


class ResidualBlock(nn.Module):
    """A layer: h [B,C,L], the upsampled mel [B,M,L] and d [C] to the next h and skip.

    Without bands, the conditioner [B,2C,L] takes the place of the upsampled mel.
    """

    def __init__(self, C: int, bands: int, dilation: int) -> None:
        super().__init__()
        self.dilated_conv = nn.Conv1d(C, 2 * C, 3, padding=dilation, dilation=dilation)
        self.conditioner_projection = nn.Conv1d(bands, 2 * C, 1) if bands else nn.Identity()
        self.output_projection = nn.Conv1d(C, 2 * C, 1)

    def forward(self, h: Tensor, conditioner: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """See `engine.kernels.reference.residual_block`."""
        y = self.dilated_conv(h + d[:, None]) + self.conditioner_projection(conditioner)
        gate, filtered = y.chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(filtered)).chunk(2, dim=1)
        return (h + residual) * math.sqrt(0.5), skip


def published(checkpoint: Checkpoint) -> nn.Module:
    """Return LMNT's own module: x [B,L], mel [B,M,T] and t [1] to eps [B,1,L].

    `diffwave.model` itself needs PyTorch alone; torchaudio, a dependency of the package, is not imported.

    Raises:
        ImportError: the package diffwave is not installed.
    """
    from diffwave.model import DiffWave
    from diffwave.params import AttrDict

    config = checkpoint.config
    sizes = {
        "residual_channels": config.residual_channels,
        "residual_layers": config.residual_layers,
        "dilation_cycle_length": config.dilation_cycle,
        "n_mels": config.n_mels,
        "noise_schedule": list(config.train_schedule),
    }
    model: nn.Module = DiffWave(AttrDict(sizes))
    model.load_state_dict({key: torch.tensor(value) for key, value in checkpoint.tensors.items()})
    return model.eval()
