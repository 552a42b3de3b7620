"""Which rounding takes int8 from fp32: each kind alone, in a copy of the network in PyTorch.

python -m benchmarks.quality.rounding [--model FILE] [--mels FILE.npy ...]

Needs PyTorch. Without --mels, the demo's. A line per kind: the SNR of eps in every step, the noisiest first, each from
the x that fp32 had there. "engine" is int8 itself; "all" is the copy with every rounding, and should be close to it.
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
from engine.bundled import BUNDLED
from engine.calibration import trajectory
from engine.checkpoint.load import load_checkpoint
from engine.config import Config
from engine.diffusion.embedding import step_biases
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference

KINDS = (
    "gated rows",
    "gated rows of the first layer of bytes",
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
    """To the nearest multiple of unit that a signed byte can count."""
    return (values / unit).round().clamp(-127, 127) * unit


def units(weight: Tensor) -> Tensor:
    """[rows,1,1]: 127 of them are the largest of a row."""
    return weight.abs().amax((1, 2), keepdim=True) / 127.0


class Copy:
    """A vocoder's network with some of the roundings that int8 has.

    Args:
        weights: from `reference.to_tensors`.
        config: calibrated.
        kinds: of KINDS.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: Config, kinds: Collection[str]) -> None:
        self.config, self.kinds, self.weights = config, kinds, dict(weights)
        C = config.residual_channels
        places = [f"residual_layers.{i}." for i in range(config.residual_layers)]
        self.dilated = [weights[f"{place}dilated_conv.weight"] for place in places]
        self.outputs = [weights[f"{place}output_projection.weight"].clone() for place in places]
        skip = torch.stack([units(output[C:]) for output in self.outputs]).amax(0)  # one for the sum of all layers
        for i, output in enumerate(self.outputs):
            if "weights of conditioners" in kinds:
                key = f"{places[i]}conditioner_projection.weight"
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
        """[1,2C,L] of every layer, for a mel [1,M,T]."""
        config, found = self.config, []
        ranges = torch.tensor(config.int8_conditioner_ranges).reshape(config.residual_layers, -1, 1)
        for i in range(config.residual_layers):
            layer = None if config.shared_upsampler else i
            if i == 0 or layer is not None:
                stretched = reference.upsample_mel(mel, self.weights, config.upsample_strides, layer)
                if "upsampled mel" in self.kinds:
                    stretched = rounded(stretched, config.int8_mel_range / 127.0)
            place = f"residual_layers.{i}."
            projected = functional.conv1d(stretched, self.weights[f"{place}conditioner_projection.weight"])
            if "conditioners" in self.kinds and config.int8_ranges[i]:
                own = units(self.weights[f"{place}dilated_conv.weight"])[:, 0] * config.int8_ranges[i] / 127.0
                projected = rounded(projected, own * 2.0 ** (ranges[i] / (127.0 * own)).clamp(min=1.0).log2().ceil())
            bias = self.weights[f"{place}conditioner_projection.bias"] + self.weights[f"{place}dilated_conv.bias"]
            found.append(projected + bias[:, None])
        return found

    def predict_noise(self, x: Tensor, d: Tensor, conditioners: Sequence[Tensor]) -> Tensor:
        """Eps [1,L] from x [1,L] and the step biases d [N,C]."""
        config, weights = self.config, self.weights
        h = reference.input_projection(x, weights["input_projection.weight"], weights["input_projection.bias"])
        skips = torch.zeros_like(h)
        bytes_ = [i for i, limit in enumerate(config.int8_ranges) if limit]
        gates = {i for i in bytes_ if "gated rows" in self.kinds}
        if "gated rows of the first layer of bytes" in self.kinds:
            gates.add(bytes_[0])
        for i, dilation in enumerate(config.dilations):
            x_i = h
            if "inputs of layers" in self.kinds and i in bytes_:
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
            weights[f"{name}.{of}"] for name in ("skip_projection", "output_projection") for of in ("weight", "bias")
        ]
        return reference.output_head(skips, *head, config.residual_layers)


@torch.inference_mode()
def measure(model: str | Path, mels: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """The mean SNR in dB of every step, for "engine", "all", each of KINDS, and for the copy without any ("none")."""
    checkpoint = load_checkpoint(model)
    config, plan = checkpoint.config, build_schedule(checkpoint.config)
    if not config.int8_ranges or not config.n_mels:
        sys.exit("rounding: expected a calibrated vocoder; run engine convert --calibrate")
    if config.padding != "zeros" or config.step_bias_in_residual or config.signal_std:
        sys.exit(f"rounding: the copy knows LMNT's network alone, and this one is {config.family}'s")
    exact, bytes_ = (engine.load(model, "cpu", precision) for precision in ("fp32", "int8"))
    weights = reference.to_tensors(checkpoint.tensors, torch.float32)
    d = torch.from_numpy(step_biases(checkpoint.tensors, config, plan.t).astype(np.float32))
    runs = {"none": (), "all": KINDS, **{kind: (kind,) for kind in KINDS}}
    copies = {name: Copy(weights, config, kinds) for name, kinds in runs.items()}
    found: dict[str, list[list[float]]] = {name: [] for name in ("engine", *runs)}
    for seed, mel in enumerate(mels):
        conditioners = {name: copy.conditioners(torch.from_numpy(mel)[None]) for name, copy in copies.items()}
        rows: dict[str, list[float]] = {name: [] for name in found}
        for step, (t, x) in enumerate(trajectory(exact, plan, mel, seed)):
            eps = exact.predict_noise(x, t, mel)
            rows["engine"].append(snr(eps, bytes_.predict_noise(x, t, mel)))
            for name, copy in copies.items():
                got = copy.predict_noise(torch.from_numpy(x)[None], d[step], conditioners[name])
                rows[name].append(snr(eps, got[0].numpy()))
        for name, row in rows.items():
            found[name].append(row)
    return {name: np.mean(rows, axis=0).tolist() for name, rows in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a calibrated checkpoint; without it, the bundled voice")
    parser.add_argument("--mels", type=Path, nargs="+", help=".npy files; without them, the demo's mel")
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
