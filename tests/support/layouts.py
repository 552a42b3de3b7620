"""Random checkpoints in the layouts of the published implementations: names, dicts, orders, configuration files.

The layouts follow the code of those implementations, independently of `engine.checkpoint.families`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import Config, linear_schedule
from tests.support.networks import Arrays, random_network

SMALL = Config(residual_channels=16, residual_layers=3, dilation_cycle=2, n_mels=4, upsample_strides=(4, 6))
_PHILSYN = {
    "family": "philsyn",
    "mel_kind": "tacotron",
    "shared_upsampler": False,
    "step_embedding": "sinusoid",
    "step_bias_in_residual": True,
    "clamp": False,
    "train_schedule": linear_schedule(1e-4, 0.02, 20),
    "fast_schedule": None,
}
_UNCONDITIONAL: dict[str, Any] = {"n_mels": 0, "upsample_strides": (), "mel_kind": None, "shared_upsampler": True}
# The expected configuration of a loaded network in each layout, apart from its sizes.
LAYOUTS: dict[str, dict[str, Any]] = {
    "lmnt": {},
    "lmnt_unconditional": {**_UNCONDITIONAL, "clip_samples": 110250},
    "priorgrad": {"family": "priorgrad", "mel_kind": "hifigan", "prior": True},
    "amphion": {"family": "amphion", "mel_kind": "hifigan", "sample_rate": 24000, "n_mels": 100},
    "speechbrain": {"family": "speechbrain", "mel_kind": "speechbrain", "padding": "reflect", "fast_schedule": None},
    "philsyn": _PHILSYN,
    "philsyn_parametrized": _PHILSYN,
    "philsyn_without_norm": _PHILSYN,
    "philsyn_unconditional": {**_PHILSYN, **_UNCONDITIONAL, "sample_rate": 16000, "clip_samples": 16000},
    "bddm": {**_PHILSYN, "sample_rate": 24000},
}


@dataclass(frozen=True)
class RandomCheckpoint:
    """A checkpoint file, and the network that loading it must give."""

    path: Path
    config: Config
    tensors: Arrays


def layout_config(layout: str, **sizes: Any) -> Config:
    """Return the configuration of a small network in one layout."""
    return replace(SMALL, **{**LAYOUTS[layout], **sizes})


def random_checkpoint(folder: Path, layout: str, seed: int = 0, **sizes: Any) -> RandomCheckpoint:
    """Write a random network in one of `LAYOUTS`, with a config.json if that implementation writes one.

    Args:
        folder: the folder of the checkpoint; its config.json applies to no other checkpoint.
        layout: a key of `LAYOUTS`.
        seed: seed of the weights.
        **sizes: fields of `Config`, instead of those of a small network.
    """
    config = layout_config(layout, **sizes)
    tensors = random_network(config, seed)
    name, content, settings = content_of(layout, config, tensors, seed)
    torch = pytest.importorskip("torch")
    torch.save(content, folder / name)
    if settings is not None:
        (folder / "config.json").write_text(json.dumps(settings))
    return RandomCheckpoint(folder / name, config, tensors)


def content_of(layout: str, config: Config, tensors: Arrays, seed: int = 0) -> tuple[str, Any, dict[str, Any] | None]:
    """Return (file name, argument of torch.save, config.json) of a network in one layout.

    In a layout with weight norm, `tensors` is overwritten with the values of the stored direction and length, which
    differ from the original values by rounding.
    """
    if layout in ("philsyn", "philsyn_parametrized", "philsyn_without_norm", "philsyn_unconditional", "bddm"):
        model = _torch(_philsyn(layout, config, tensors, np.random.default_rng(seed)))
        if layout == "bddm":
            model["schedule_net.ratio_nn.0.weight"] = _torch({"x": np.ones((2, 2), np.float32)})["x"]
            settings = argparse.Namespace(T=20, beta_0=1e-4, beta_T=0.02, tau=66, N=12, load="x.pkl")
            vars(settings).update(_wavenet(config), hop_len=config.hop, sampling_rate=config.sample_rate)
            return "DiffWave_GALR.pkl", {"config": settings, "model_state_dict": model}, None
        sections = {
            "wavenet_config": _wavenet(config),
            "diffusion_config": {"T": len(config.train_schedule), "beta_0": 1e-4, "beta_T": 0.02},
            "train_config": {"batch_size_per_gpu": 2},
        }
        if layout == "philsyn_parametrized":
            sections["trainset_config"] = {"sampling_rate": config.sample_rate, "hop_length": config.hop}
            sections["trainset_config"]["segment_length"] = 16000  # of a vocoder's training clips, not of its audio
        if layout == "philsyn_unconditional":
            sections["trainset_config"] = {"segment_length": config.clip_samples, "data_path": "./data"}
        return "1000.pkl", {"model_state_dict": model, "optimizer_state_dict": {"state": {}}}, sections
    model = _torch(tensors)
    if layout == "speechbrain":
        linear = ("diffusion_embedding.", "diffusion_projection.")
        wrapped = {}
        for key, tensor in model.items():
            stem, kind = key.rsplit(".", 1)
            inner = "w." if any(part in key for part in linear) else "conv."
            wrapped[key if "upsampler" in key else f"{stem}.{inner}{kind}"] = tensor
        return "diffwave.ckpt", wrapped, {"dilation_cycle_length": config.dilation_cycle, "total_steps": 50}
    params: dict[str, Any] = {
        "sample_rate": config.sample_rate,
        "n_mels": config.n_mels or 80,
        "n_fft": 1024,
        "hop_samples": config.hop if config.n_mels else 256,
        "residual_layers": config.residual_layers,
        "residual_channels": config.residual_channels,
        "dilation_cycle_length": config.dilation_cycle,
        "noise_schedule": list(config.train_schedule),
        "inference_noise_schedule": list(config.fast_schedule or ()),
        "max_grad_norm": None,
    }
    if layout == "amphion":
        sections = {
            "preprocess": {"n_mel": config.n_mels, "hop_size": config.hop, "sample_rate": config.sample_rate},
            "model": {
                "generator": "diffwave",
                "diffwave": {
                    "residual_channels": config.residual_channels,
                    "residual_layers": config.residual_layers,
                    "dilation_cycle_length": config.dilation_cycle,
                    "noise_schedule_factors": [1e-4, 0.05, 50],
                    "inference_noise_schedule": list(config.fast_schedule or ()),
                    "upsample_factors": list(config.upsample_strides),
                },
            },
            "dataset": ["ljspeech"],
        }
        return "pytorch_model.bin", {"state_dict": model}, sections
    if layout == "priorgrad":
        params.update(use_prior=True, std_min=0.1, max_energy_override=4.0, condition_prior=False)
    else:
        params.update(unconditional=not config.n_mels, audio_len=110250)
    return "weights.pt", {"step": 1, "model": model, "optimizer": {}, "params": params, "scaler": None}, None


def _wavenet(config: Config) -> dict[str, Any]:
    return {
        "in_channels": 1,
        "res_channels": config.residual_channels,
        "skip_channels": config.residual_channels,
        "out_channels": 1,
        "num_res_layers": config.residual_layers,
        "dilation_cycle": config.dilation_cycle,
        "diffusion_step_embed_dim_in": 128,
    }


def _torch(tensors: Arrays) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {key: torch.from_numpy(tensor.copy()) for key, tensor in tensors.items()}


def _philsyn(layout: str, config: Config, tensors: Arrays, rng: np.random.Generator) -> Arrays:
    """Return the tensors under philsyn's names and in its order; overwrite `tensors` with the folded values."""
    C, model = config.residual_channels, {}

    def conv(name: str, key: str, rows: slice = slice(None), order: list[slice] | None = None) -> None:
        """Add a convolution with weight norm: some rows of one of LMNT's tensors, in another order."""
        order = order or [rows]
        weight, bias = (
            np.concatenate([tensors[f"{key}.{part}"][half] for half in order]) for part in ("weight", "bias")
        )
        model[f"{name}.bias"] = bias
        if layout == "philsyn_without_norm":
            model[f"{name}.weight"] = weight
            return
        axes = tuple(range(1, weight.ndim))
        v = (weight * rng.uniform(0.5, 2.0, (len(weight), *(1 for _ in axes)))).astype(np.float32)
        g = np.sqrt(np.square(weight, dtype=np.float64).sum(axes, keepdims=True)).astype(np.float32)
        norm = np.sqrt(np.square(v, dtype=np.float64).sum(axes, keepdims=True))
        folded = (g.astype(np.float64) * v / norm).astype("f4")
        begin = 0
        for half in order:
            count = len(tensors[f"{key}.weight"][half])
            tensors[f"{key}.weight"][half] = folded[begin : begin + count]
            begin += count
        names = ("weight_g", "weight_v")
        if layout == "philsyn_parametrized":
            names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
        model[f"{name}.{names[0]}"], model[f"{name}.{names[1]}"] = g, v

    def plain(name: str, key: str) -> None:
        model[f"{name}.weight"], model[f"{name}.bias"] = tensors[f"{key}.weight"], tensors[f"{key}.bias"]

    swapped = [slice(C, None), slice(0, C)]
    conv("init_conv.0.conv", "input_projection")
    for number in (1, 2):
        plain(f"residual_layer.fc_t{number}", f"diffusion_embedding.projection{number}")
    for i in range(config.residual_layers):
        block, layer = f"residual_layer.residual_blocks.{i}", f"residual_layers.{i}"
        plain(f"{block}.fc_t", f"{layer}.diffusion_projection")
        conv(f"{block}.dilated_conv_layer.conv", f"{layer}.dilated_conv", order=swapped)
        for k in range(len(config.upsample_strides)):
            conv(f"{block}.upsample_conv2d.{k}", f"{layer}.spectrogram_upsampler.conv{k + 1}")
        if config.n_mels:
            conv(f"{block}.mel_conv.conv", f"{layer}.conditioner_projection", order=swapped)
        conv(f"{block}.res_conv", f"{layer}.output_projection", slice(0, C))
        conv(f"{block}.skip_conv", f"{layer}.output_projection", slice(C, None))
    conv("final_conv.0.conv", "skip_projection")
    plain("final_conv.2.conv", "output_projection")
    return model
