"""The network as PyTorch trains it. Its parameters have the names of `engine.checkpoint.load.expected_shapes`."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.checkpoint.load import LABEL_WIDTH
from engine.config import Config
from engine.diffusion.embedding import sinusoids
from engine.training.block import residual_block
from engine.training.initialization import start_as_identity
from engine.training.modules import Layer, Projection, StepFeatures, Upsampler

if TYPE_CHECKING:
    from engine.training.fused import Gpu


class DiffWave(nn.Module):
    """The noise predictor (paper, section 3) for networks with LMNT's structure.

    Args:
        config: the sizes; zero padding, one upsampler, no step bias in the residual.
        classes: the number of labels, 0 for none. The embedding has one more row, the last, for "no label". It becomes
            an unconditional network (`engine.training.export`), or guides this one.
        dtype: of the matrix products in the residual layers.
        gpu: runs all residual layers by `engine.training.fused`; None for PyTorch's operations.

    Raises:
        ValueError: the configuration has another structure.
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
            self.label_embedding = nn.Embedding(classes + 1, LABEL_WIDTH)
        self.residual_layers = nn.ModuleList(
            Layer(channels, config.n_mels, classes > 0) for _ in range(config.residual_layers)
        )
        self.skip_projection = Projection(channels, channels, 1)
        self.output_projection = Projection(1, channels, 1)
        nn.init.zeros_(self.output_projection.weight)
        if not config.signal_std:
            start_as_identity(self.input_projection, self._layers(), self.skip_projection, self.output_projection)

    def forward(self, x: Tensor, t: Tensor, mel: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        """Compute the network's output: eps (paper, equation 5), or F of a network with `Config.signal_std`.

        Args:
            x: [B,L].
            t: [B], steps on the training scale, fractions allowed; or their sinusoids, [B,128] float32.
            mel: [B,M,T], L = T * hop.
            label: [B]; the value `classes` means "no label".

        Returns:
            [B,L].
        """
        embedded = t if t.ndim == 2 else torch.from_numpy(sinusoids(self.config, t.tolist())).to(x)
        features = self.diffusion_embedding(embedded)
        upsampled = None if mel is None else self.spectrogram_upsampler(mel)
        label_rows = None if label is None else self.label_embedding(label)
        skip_sum = self._skip_sum if self.gpu is None else self._fused_skip_sum
        skip = skip_sum(x, features, upsampled, label_rows)
        head = functional.relu(self.skip_projection(skip * math.sqrt(1 / len(self.residual_layers))))
        eps: Tensor = self.output_projection(head)[..., 0]
        return eps.t() if self.gpu is None else eps

    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.residual_layers))

    def _skip_sum(self, x: Tensor, features: Tensor, upsampled: Tensor | None, label_rows: Tensor | None) -> Tensor:
        """Return the skip sum [L,B,C] in the type of x, computed layer by layer."""
        batch, length = x.shape
        rows = functional.relu(self.input_projection(x.t().reshape(-1, 1)))  # time-major: [L*B, C]
        if upsampled is not None:
            upsampled = upsampled.permute(2, 0, 1).to(self.dtype)
        total: Tensor | None = None
        for layer, dilation in zip(self._layers(), self.config.dilations, strict=True):
            conditioner = layer.dilated_conv.bias.expand(1, batch, -1)
            if upsampled is not None:
                weight = layer.conditioner_projection.weight.flatten(1).to(self.dtype)
                bias = layer.conditioner_projection.bias + layer.dilated_conv.bias
                conditioner = functional.linear(upsampled, weight, bias.to(self.dtype))
            if label_rows is not None:
                conditioner = conditioner + layer.label_projection(label_rows)
            rows, skip = residual_block(
                rows,
                layer.diffusion_projection(features),
                conditioner,
                layer.dilated_conv.weight,
                layer.output_projection.weight.flatten(1),
                layer.output_projection.bias,
                dilation,
                self.dtype,
            )
            total = skip if total is None else total + skip
        assert total is not None
        return total.to(x.dtype).view(length, batch, -1)

    def _fused_skip_sum(
        self, x: Tensor, features: Tensor, upsampled: Tensor | None, label_rows: Tensor | None
    ) -> Tensor:
        """Return the skip sum [B,L,C] float32, computed by the fused kernels."""
        from engine.training.fused import residual_layers

        assert self.gpu is not None
        h = functional.relu(self.input_projection(x[..., None]))
        d = features @ self._stacked("diffusion_projection.weight").transpose(1, 2)
        d = d + self._stacked("diffusion_projection.bias")[:, None]
        base = self._stacked("dilated_conv.bias")[:, None].expand(-1, len(x), -1)
        mel = weights = None
        if upsampled is not None:
            mel = upsampled.transpose(1, 2)
            weights = self._stacked("conditioner_projection.weight")[..., 0]
            base = base + self._stacked("conditioner_projection.bias")[:, None]
        if label_rows is not None:
            base = base + label_rows @ self._stacked("label_projection.weight")[..., 0].transpose(1, 2)
            base = base + self._stacked("label_projection.bias")[:, None]
        projection, bias = self._stacked("output_projection.weight")[..., 0], self._stacked("output_projection.bias")
        channels = h.shape[-1]
        skip = residual_layers(
            h,
            d,
            base,
            mel,
            weights,
            self._stacked("dilated_conv.weight"),
            projection,
            bias[:, :channels],
            self.config.dilations,
            self.gpu,
        )
        return skip + bias[:, channels:].sum(0)

    def _stacked(self, name: str) -> Tensor:
        """Return one parameter of all layers, [N, ...]."""
        return torch.stack([attrgetter(name)(layer) for layer in self.residual_layers])
