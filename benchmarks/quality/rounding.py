"""SNR of each rounding of int8: a copy of the network in PyTorch applies one kind at a time.

python -m benchmarks.quality.rounding [--model FILE] [--mels FILE.npy ...]

Needs PyTorch. Without --mels, it uses the demo mel. It prints a line per kind: the SNR of eps in every step, the
noisiest step first. Every step starts from the x of fp32. "engine" is the engine's int8. "all" is the copy with every
rounding; its SNR should be close to the engine's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import engine
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import load_checkpoint
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.embedding import step_biases
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.tuning.int8 import trajectory

KINDS = (
    "gated rows",
    "gated rows of the first int8 layer",
    "inputs of layers",
    "weights of convolutions",
    "weights of residuals",
    "weights of skips",
    "upsampled mel",
    "weights of conditioners",
    "conditioners",
)
FRAMES = 64  # of every mel, from its middle


def rounded(values: Tensor, unit: Tensor | float) -> Tensor:
    """Round to multiples of a unit, clipped to the range of int8."""
    return (values / unit).round().clamp(-127, 127) * unit


def units(weight: Tensor) -> Tensor:
    """Return the unit [rows,1,1] of each row of weights: 127 of them are its largest value."""
    return weight.abs().amax((1, 2), keepdim=True) / 127.0


class Copy:
    """A vocoder's network with some of int8's roundings."""

    def __init__(self, weights: Mapping[str, Tensor], config: Config, kinds: Collection[str]) -> None:
        """Round the weights.

        Args:
            weights: result of `reference.to_tensors`.
            config: a calibrated configuration.
            kinds: elements of KINDS.
        """
        self.config, self.kinds, self.weights = config, kinds, dict(weights)
        C = config.residual_channels
        layers = [f"residual_layers.{i}." for i in range(config.residual_layers)]
        self.dilated = [weights[f"{layer}dilated_conv.weight"] for layer in layers]
        self.outputs = [weights[f"{layer}output_projection.weight"].clone() for layer in layers]
        skip = torch.stack([units(output[C:]) for output in self.outputs]).amax(0)  # shared: skips are summed in int32
        for i, output in enumerate(self.outputs):
            if "weights of conditioners" in kinds:
                key = f"{layers[i]}conditioner_projection.weight"
                self.weights[key] = rounded(weights[key], units(weights[key]))
            if not config.int8_ranges[i]:
                continue
            if "weights of convolutions" in kinds:
                self.dilated[i] = rounded(self.dilated[i], units(self.dilated[i]))
            if "weights of residuals" in kinds:
                output[:C] = rounded(output[:C], units(output[:C]))
            if "weights of skips" in kinds:
                output[C:] = rounded(output[C:], skip)

    def conditioners(self, mel: Tensor) -> list[Tensor]:
        """Return the conditioner [1,2C,L] of every layer for a mel [1,M,T]."""
        config = self.config
        conditioners = []
        ranges = torch.tensor(config.int8_conditioner_ranges).reshape(config.residual_layers, -1, 1)
        for i in range(config.residual_layers):
            layer = None if config.shared_upsampler else i
            if i == 0 or layer is not None:
                stretched = reference.upsample_mel(mel, self.weights, config.upsample_strides, layer)
                if "upsampled mel" in self.kinds:
                    stretched = rounded(stretched, config.int8_mel_range / 127.0)
            name = f"residual_layers.{i}."
            projected = functional.conv1d(stretched, self.weights[f"{name}conditioner_projection.weight"])
            if "conditioners" in self.kinds and config.int8_ranges[i]:
                unit = units(self.weights[f"{name}dilated_conv.weight"])[:, 0] * config.int8_ranges[i] / 127.0
                projected = rounded(projected, unit * 2.0 ** (ranges[i] / (127.0 * unit)).clamp(min=1.0).log2().ceil())
            bias = self.weights[f"{name}conditioner_projection.bias"] + self.weights[f"{name}dilated_conv.bias"]
            conditioners.append(projected + bias[:, None])
        return conditioners

    def predict_noise(self, x: Tensor, d: Tensor, conditioners: Sequence[Tensor]) -> Tensor:
        """Return eps [1,L].

        Args:
            x: [1,L].
            d: step biases [N,C].
            conditioners: N x [1,2C,L].
        """
        config, weights = self.config, self.weights
        h = reference.input_projection(x, weights["input_projection.weight"], weights["input_projection.bias"])
        skips = torch.zeros_like(h)
        int8_layers = [i for i, limit in enumerate(config.int8_ranges) if limit]
        gates = {i for i in int8_layers if "gated rows" in self.kinds}
        if "gated rows of the first int8 layer" in self.kinds:
            gates.add(int8_layers[0])
        for i, dilation in enumerate(config.dilations):
            x_i = h
            if "inputs of layers" in self.kinds and i in int8_layers:
                x_i = rounded(h, config.int8_ranges[i] / 127.0)
            convolved = functional.conv1d(x_i + d[i][:, None], self.dilated[i], padding=dilation, dilation=dilation)
            gate, filtered = (convolved + conditioners[i]).chunk(2, dim=1)
            z = torch.sigmoid(gate) * torch.tanh(filtered)
            if i in gates:
                z = rounded(z, 1.0 / 127.0)
            bias = weights[f"residual_layers.{i}.output_projection.bias"]
            residual, skip = functional.conv1d(z, self.outputs[i], bias).chunk(2, dim=1)
            h, skips = (h + residual) * 0.5**0.5, skips + skip
        head = [
            weights[f"{name}.{part}"]
            for name in ("skip_projection", "output_projection")
            for part in ("weight", "bias")
        ]
        return reference.output_head(skips, *head, config.residual_layers)


@torch.inference_mode()
def measure(model: str | Path, mels: Sequence[FloatArray]) -> dict[str, list[float]]:
    """Measure the mean SNR in dB of every step, for each rounding alone.

    Args:
        model: a calibrated vocoder.
        mels: [M,T] each.

    Returns:
        By rounding: "engine" for int8 itself, "none", "all", and each of KINDS.
    """
    checkpoint = load_checkpoint(model)
    config, plan = checkpoint.config, build_schedule(checkpoint.config)
    if not config.int8_ranges or not config.n_mels:
        sys.exit("rounding: --model: expected a calibrated vocoder; run engine convert --calibrate")
    if config.padding != "zeros" or config.step_bias_in_residual or config.signal_std:
        sys.exit(f"rounding: --model: expected a network of LMNT's architecture, got {config.family}'s")
    exact, int8 = (engine.load(model, device="cpu", precision=precision) for precision in ("fp32", "int8"))
    weights = reference.to_tensors(checkpoint.tensors, torch.float32)
    d = torch.from_numpy(step_biases(checkpoint.tensors, config, plan.t).astype(np.float32))
    runs = {"none": (), "all": KINDS, **{kind: (kind,) for kind in KINDS}}
    copies = {name: Copy(weights, config, kinds) for name, kinds in runs.items()}
    snrs: dict[str, list[list[float]]] = {name: [] for name in ("engine", *runs)}
    for seed, mel in enumerate(mels):
        conditioners = {name: copy.conditioners(torch.from_numpy(mel)[None]) for name, copy in copies.items()}
        rows: dict[str, list[float]] = {name: [] for name in snrs}
        for step, (t, x) in enumerate(trajectory(exact, plan, mel, seed)):
            eps = exact.predict_noise(x, t, mel=mel)
            rows["engine"].append(snr(eps, int8.predict_noise(x, t, mel=mel)))
            for name, copy in copies.items():
                predicted = copy.predict_noise(torch.from_numpy(x)[None], d[step], conditioners[name])
                rows[name].append(snr(eps, predicted[0].numpy()))
        for name, row in rows.items():
            snrs[name].append(row)
    return {name: np.mean(rows, axis=0).tolist() for name, rows in snrs.items()}


def main() -> None:
    """Print the SNR of each rounding."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a calibrated checkpoint (default: the bundled voice)")
    parser.add_argument("--mels", type=Path, nargs="+", help=".npy files (default: the demo's mel)")
    options = parser.parse_args()
    model = options.model or BUNDLED
    mels = []
    for path in options.mels or [BUNDLED.with_name("demo_mel.npy")]:
        mel = np.load(path)
        begin = max(mel.shape[1] - FRAMES, 0) // 2
        mels.append(np.ascontiguousarray(mel[:, begin : begin + FRAMES], np.float32))
    print(f"{'rounded':<40}SNR of eps in dB, the noisiest step first")
    for name, row in measure(model, mels).items():
        print(f"{name:<40}" + "".join(f"{value:>8.1f}" for value in row))


if __name__ == "__main__":
    main()
