"""Networks for tests: random weights of any configuration, and the shared examples of the published code."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.config import Config

Arrays = dict[str, npt.NDArray[np.float32]]

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

# The sizes of the shared examples: small enough for every test, and the dilations begin again within them.
SMALL = Config(residual_channels=32, residual_layers=9, dilation_cycle=5)
SMALL_UNCONDITIONAL = replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None)


def random_network(config: Config, seed: int) -> Arrays:
    """Random weights under LMNT's key names, scaled so that activations and eps stay near 1.

    Weights are normal with a variance of about 1 / fan_in, biases normal with deviation 0.1; no tensor is
    zero, so that a forgotten term shows. An unconditional network (n_mels = 0) has neither upsampler nor
    conditioner projections. The same seed gives the same network; the global generator is not touched.
    """
    rng = np.random.default_rng(seed)
    channels, tensors = config.residual_channels, {}

    def add(key: str, shape: tuple[int, ...], fan_in: int, gain: float = 1.0) -> None:
        weight = rng.standard_normal(shape) * math.sqrt(gain / fan_in)
        tensors[f"{key}.weight"] = weight.astype(np.float32)
        outputs = shape[1] if key.startswith("spectrogram_upsampler") else shape[0]
        tensors[f"{key}.bias"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)

    add("input_projection", (channels, 1, 1), 1, gain=2.0)
    add("diffusion_embedding.projection1", (512, 128), 64)  # of 128 sinusoids the squares sum to 64
    add("diffusion_embedding.projection2", (512, 512), 512, gain=2.0)
    for number, stride in enumerate(config.upsample_strides, start=1):
        # Every output sums 3 x 2 taps.
        add(f"spectrogram_upsampler.conv{number}", (1, 1, 3, 2 * stride), 6, gain=2.0)
    for i in range(config.residual_layers):
        layer = f"residual_layers.{i}"
        add(f"{layer}.dilated_conv", (2 * channels, channels, 3), 3 * channels)
        add(f"{layer}.diffusion_projection", (channels, 512), 512)
        if config.n_mels:
            add(f"{layer}.conditioner_projection", (2 * channels, config.n_mels, 1), config.n_mels)
        # The gate's output is near 0.3, so the projection makes up for it.
        add(f"{layer}.output_projection", (2 * channels, channels, 1), channels, gain=8.0)
    add("skip_projection", (channels, channels, 1), channels, gain=2.0)
    add("output_projection", (1, channels, 1), channels)
    return tensors


def shared_example(name: str) -> tuple[Arrays, dict[str, npt.NDArray[np.floating]]]:
    """Weights and recorded outputs of published code in LMNT's layout; skips where they are absent."""
    folder = SHARED / "fixtures" / name
    if not folder.is_dir():
        pytest.skip(f"no shared examples beside the project ({name})")
    torch = pytest.importorskip("torch")
    model = torch.load(folder / "weights.pt", weights_only=True)["model"]
    with np.load(folder / "case.npz") as case:
        return {key: tensor.numpy() for key, tensor in model.items()}, dict(case)
