"""Small discriminators of audio: multi-period (Kong et al., 2020) and multi-resolution STFT (Jang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from engine.training.spectral import magnitudes

PERIODS = (2, 3, 5, 7, 11)  # samples
WINDOWS = (512, 1024, 2048)  # samples
PERIOD_CHANNELS = (16, 32, 64, 64)
SPECTRUM_CHANNELS = 16
SLOPE = 0.1  # of the leaky relu


class Discriminators(nn.Module):
    """Discriminators of the periods in audio and of its magnitudes.

    Args:
        windows: of the STFTs, in samples.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS) -> None:
        super().__init__()
        self.networks = nn.ModuleList([*map(_Periods, PERIODS), *map(_Spectrum, windows)])

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """Return the features of every layer of every discriminator, the last of which is its opinion.

        Args:
            audio: [B,L].

        Returns:
            By discriminator and layer: [B, channels, height, width]; the opinions have one channel.
        """
        return [network(audio) for network in self.networks]


def hinge_loss(opinions: Sequence[Sequence[Tensor]], sign: float) -> Tensor:
    """Return max(0, 1 - sign * opinion), averaged over the discriminators, [B].

    Args:
        opinions: from `Discriminators`.
        sign: 1 to call audio real, -1 to call it generated.
    """
    terms = [functional.relu(1.0 - sign * layers[-1]).flatten(1).mean(dim=1) for layers in opinions]
    return torch.stack(terms).mean(dim=0)


def feature_distance(features: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean distance of two inputs' features, relative to those of the second, [B].

    Args:
        features: from `Discriminators`; the opinions do not count.
        expected: the same of the recordings.
    """
    terms = []
    for layers, others in zip(features, expected, strict=True):
        for layer, other in zip(layers[:-1], others[:-1], strict=True):
            size = other.abs().flatten(1).mean(dim=1).clamp_min(1e-6)
            terms.append((layer - other).abs().flatten(1).mean(dim=1) / size)
    return torch.stack(terms).mean(dim=0)


class _Periods(nn.Module):
    """A discriminator of audio folded into rows of one period."""

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, *PERIOD_CHANNELS)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (3, 1), (2, 0))) for before, after in pairwise(widths)
        )
        self.opinion = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> list[Tensor]:
        padded = functional.pad(audio, (0, -audio.shape[1] % self.period))
        return _features(self, padded.view(len(audio), 1, -1, self.period))


class _Spectrum(nn.Module):
    """A discriminator of the magnitudes in one resolution."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        C = SPECTRUM_CHANNELS
        shapes = [(1, (3, 9), (1, 1)), (C, (3, 9), (1, 2)), (C, (3, 9), (1, 2)), (C, (3, 3), (1, 1))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, C, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for before, kernel, stride in shapes
        )
        self.opinion = weight_norm(nn.Conv2d(C, 1, (3, 3), padding=(1, 1)))

    def forward(self, audio: Tensor) -> list[Tensor]:
        assert isinstance(self.window, Tensor)
        return _features(self, magnitudes(audio, self.window).transpose(1, 2)[:, None])


def _features(network: _Periods | _Spectrum, values: Tensor) -> list[Tensor]:
    features = []
    for layer in network.layers:
        values = functional.leaky_relu(layer(values), SLOPE)
        features.append(values)
    return [*features, network.opinion(values)]
