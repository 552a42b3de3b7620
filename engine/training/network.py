"""The network as PyTorch trains it. Its parameters have the names of `engine.checkpoint.load.expected_shapes`."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.config import Config
from engine.diffusion.embedding import sinusoids
from engine.training.block import residual_block
from engine.training.start import begin_with_x

if TYPE_CHECKING:
    from engine.training.fused import Gpu


class Projection(nn.Module):
    """A 1x1 convolution or a linear layer on rows: a weight [out, in, 1, ...] and a bias."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return functional.linear(rows, self.weight.flatten(1), self.bias)


class Upsampler(nn.Module):
    """The mel's transposed convolutions (paper, section 3.2); [B,M,T] -> [B,M,L]."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        for k, stride in enumerate(strides, start=1):
            setattr(self, f"conv{k}", nn.ConvTranspose2d(1, 1, (3, 2 * stride), (1, stride), (1, stride // 2)))

    def forward(self, mel: Tensor) -> Tensor:
        """[B,M,T] -> [B,M,L]."""
        rows = mel[:, None]
        for k in range(1, len(self.strides) + 1):
            rows = functional.leaky_relu(getattr(self, f"conv{k}")(rows), 0.4)
        return rows[:, 0]


class StepFeatures(nn.Module):
    """From the step's sinusoids to 512 features (paper, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.projection1 = nn.Linear(128, 512)
        self.projection2 = nn.Linear(512, 512)

    def forward(self, embedded: Tensor) -> Tensor:
        """[B,128] -> [B,512]."""
        return functional.silu(self.projection2(functional.silu(self.projection1(embedded))))


class Layer(nn.Module):
    """The parameters of one residual layer."""

    def __init__(self, channels: int, bands: int, labelled: bool) -> None:
        super().__init__()
        self.dilated_conv = Projection(2 * channels, channels, 3)
        self.diffusion_projection = nn.Linear(512, channels)
        if bands:
            self.conditioner_projection = Projection(2 * channels, bands, 1)
        if labelled:
            self.label_projection = Projection(2 * channels, 128, 1)
        self.output_projection = Projection(2 * channels, channels, 1)


class DiffWave(nn.Module):
    """Eps of noisy audio (paper, section 3), for networks with LMNT's structure.

    Args:
        config: sizes; zero padding, one upsampler, no step bias in the residual.
        classes: how many labels there are, 0 for none. One more row of the embedding, the last, is "no label": what the
            network learns of it becomes an unconditional network (`engine.training.export`), or guides this one.
        dtype: of the residual layers' matrix products.
        gpu: runs all residual layers as `engine.training.fused`; None for PyTorch.
    """

    def __init__(
        self, config: Config, classes: int = 0, dtype: torch.dtype = torch.float32, gpu: Gpu | None = None
    ) -> None:
        super().__init__()
        if config.padding != "zeros" or config.step_bias_in_residual or not config.shared_upsampler:
            raise ValueError(f"config: expected LMNT's structure, got {config}")
        channels = config.residual_channels
        self.config, self.classes, self.dtype, self.gpu = config, classes, dtype, gpu
        self.input_projection = Projection(channels, 1, 1)
        self.diffusion_embedding = StepFeatures()
        if config.n_mels:
            self.spectrogram_upsampler = Upsampler(config.upsample_strides)
        if classes:
            self.label_embedding = nn.Embedding(classes + 1, 128)
        self.residual_layers = nn.ModuleList(
            Layer(channels, config.n_mels, classes > 0) for _ in range(config.residual_layers)
        )
        self.skip_projection = Projection(channels, channels, 1)
        self.output_projection = Projection(1, channels, 1)
        nn.init.zeros_(self.output_projection.weight)
        if not config.signal_std:
            begin_with_x(self)

    def forward(self, x: Tensor, t: Tensor, mel: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """The network's output: eps (paper, equation 5), or F where `Config.signal_std` says so.

        Args:
            x: [B,L].
            t: [B], steps on the training scale, fractions allowed, or their sinusoids, [B,128] float32.
            mel: [B,M,T], L = T * hop.
            label: [B], of which `classes` is "no label".

        Returns:
            [B,L].
        """
        embedded = t if t.ndim == 2 else torch.from_numpy(sinusoids(self.config, t.tolist())).to(x)
        features = self.diffusion_embedding(embedded)
        upsampled = None if mel is None else self.spectrogram_upsampler(mel)
        label_rows = None if label is None else self.label_embedding(label)
        skip = (self._layers if self.gpu is None else self._fused_layers)(x, features, upsampled, label_rows)
        head = functional.relu(self.skip_projection(skip * math.sqrt(1 / len(self.residual_layers))))
        eps: Tensor = self.output_projection(head)[..., 0]
        return eps.t() if self.gpu is None else eps

    def _layers(self, x: Tensor, features: Tensor, upsampled: Tensor | None, label_rows: Tensor | None) -> Tensor:
        """[L,B,C] float32, the skip sum."""
        batch, length = x.shape
        rows = functional.relu(self.input_projection(x.t().reshape(-1, 1)))  # time-major: [L*B, C]
        if upsampled is not None:
            upsampled = upsampled.permute(2, 0, 1).to(self.dtype)
        skip: Tensor | None = None
        layers = cast(list[Layer], list(self.residual_layers))
        for layer, dilation in zip(layers, self.config.dilations, strict=True):
            conditioner = layer.dilated_conv.bias.expand(1, batch, -1)
            if upsampled is not None:
                weight = layer.conditioner_projection.weight.flatten(1).to(self.dtype)
                bias = layer.conditioner_projection.bias + layer.dilated_conv.bias
                conditioner = functional.linear(upsampled, weight, bias.to(self.dtype))
            if label_rows is not None:
                conditioner = conditioner + layer.label_projection(label_rows)
            rows, more = residual_block(
                rows,
                layer.diffusion_projection(features),
                conditioner,
                layer.dilated_conv.weight,
                layer.output_projection.weight.flatten(1),
                layer.output_projection.bias,
                dilation,
                self.dtype,
            )
            skip = more if skip is None else skip + more
        assert skip is not None
        return skip.float().view(length, batch, -1)

    def _fused_layers(self, x: Tensor, features: Tensor, upsampled: Tensor | None, label_rows: Tensor | None) -> Tensor:
        """[B,L,C] float32, the skip sum."""
        from engine.training.fused import residual_layers

        assert self.gpu is not None
        h = functional.relu(self.input_projection(x[..., None]))
        d = features @ self._all("diffusion_projection.weight").transpose(1, 2)
        d = d + self._all("diffusion_projection.bias")[:, None]
        base = self._all("dilated_conv.bias")[:, None].expand(-1, len(x), -1)
        mel = weights = None
        if upsampled is not None:
            mel = upsampled.transpose(1, 2)
            weights = self._all("conditioner_projection.weight")[..., 0]
            base = base + self._all("conditioner_projection.bias")[:, None]
        if label_rows is not None:
            base = base + label_rows @ self._all("label_projection.weight")[..., 0].transpose(1, 2)
            base = base + self._all("label_projection.bias")[:, None]
        projection, bias = self._all("output_projection.weight")[..., 0], self._all("output_projection.bias")
        channels = h.shape[-1]
        skip = residual_layers(
            h,
            d,
            base,
            mel,
            weights,
            self._all("dilated_conv.weight"),
            projection,
            bias[:, :channels],
            self.config.dilations,
            self.gpu,
        )
        return skip + bias[:, channels:].sum(0)

    def _all(self, name: str) -> Tensor:
        """[N, ...] one parameter of every layer."""
        return torch.stack([attrgetter(name)(layer) for layer in self.residual_layers])
