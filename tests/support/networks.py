"""Networks for tests: random weights of any configuration, and the shared examples of the published code.

`layouts.py` writes random networks in the layout of each published implementation.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engine.checkpoint.load import LABEL_WIDTH, Checkpoint, load_checkpoint
from engine.config import Config
from tests.support.paths import SHARED

Arrays = dict[str, npt.NDArray[np.float32]]

EXAMPLES = ("lmnt", "lmnt_unconditional", "priorgrad", "speechbrain", "philsyn_vocoder", "philsyn_unconditional")

# The sizes of the shared examples: small enough for every test, with more layers than one cycle of dilations.
SMALL = Config(residual_channels=32, residual_layers=9, dilation_cycle=5)
SMALL_UNCONDITIONAL = replace(SMALL, n_mels=0, upsample_strides=(), mel_kind=None)
CLASSES = ("0 ann", "0 ben", "1 ann", "1 ben", "2 ann")
SMALL_LABELLED = replace(SMALL_UNCONDITIONAL, classes=CLASSES)


def random_network(config: Config, seed: int) -> Arrays:
    """Return random weights under LMNT's key names, scaled so that activations and eps stay near 1.

    Weights are normal with a variance of about 1 / fan_in, biases normal with a standard deviation of 0.1. No tensor
    is zero, so a missing term changes the output. A network without a mel (n_mels = 0) has neither upsampler nor
    conditioner projections; a network with classes has label projections. One seed gives one network. The global
    random generator is not used.
    """
    rng = np.random.default_rng(seed)
    channels, tensors = config.residual_channels, {}

    def add(key: str, shape: tuple[int, ...], fan_in: int, gain: float = 1.0) -> None:
        weight = rng.standard_normal(shape) * math.sqrt(gain / fan_in)
        tensors[f"{key}.weight"] = weight.astype(np.float32)
        outputs = shape[1] if "spectrogram_upsampler" in key else shape[0]
        tensors[f"{key}.bias"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)

    add("input_projection", (channels, 1, 1), 1, gain=2.0)
    add("diffusion_embedding.projection1", (512, 128), 64)  # of 128 sinusoids the squares sum to 64
    add("diffusion_embedding.projection2", (512, 512), 512, gain=2.0)

    def add_upsampler(prefix: str) -> None:
        for number, stride in enumerate(config.upsample_strides, start=1):
            # Every output sums 3 x 2 taps.
            add(f"{prefix}spectrogram_upsampler.conv{number}", (1, 1, 3, 2 * stride), 6, gain=2.0)

    if config.shared_upsampler:
        add_upsampler("")
    if config.classes:
        shape = (config.labels, LABEL_WIDTH)
        tensors["label_embedding.weight"] = rng.standard_normal(shape).astype(np.float32)
    for i in range(config.residual_layers):
        layer = f"residual_layers.{i}"
        if not config.shared_upsampler:
            add_upsampler(f"{layer}.")
        add(f"{layer}.dilated_conv", (2 * channels, channels, 3), 3 * channels)
        add(f"{layer}.diffusion_projection", (channels, 512), 512)
        if config.n_mels:
            add(f"{layer}.conditioner_projection", (2 * channels, config.n_mels, 1), config.n_mels)
        if config.classes:
            add(f"{layer}.label_projection", (2 * channels, LABEL_WIDTH, 1), LABEL_WIDTH)
        # The gate's output is near 0.3; the gain compensates for it.
        add(f"{layer}.output_projection", (2 * channels, channels, 1), channels, gain=8.0)
    add("skip_projection", (channels, channels, 1), channels, gain=2.0)
    add("output_projection", (1, channels, 1), channels)
    return tensors


def shared_file(name: str) -> Path:
    """Return the checkpoint of a shared example; skip the test if the example is absent."""
    folder = SHARED / "fixtures" / name
    files = [path for path in sorted(folder.glob("*")) if path.suffix in (".pt", ".pkl", ".ckpt")]
    if not files:
        pytest.skip(f"no shared examples beside the project ({name})")
    return files[0]


def shared_example(name: str) -> tuple[Checkpoint, dict[str, npt.NDArray[np.floating]]]:
    """Load a checkpoint in a published layout and the outputs of that code; skip the test if they are absent."""
    path = shared_file(name)
    with np.load(path.with_name("case.npz")) as case:
        return load_checkpoint(path), dict(case)
