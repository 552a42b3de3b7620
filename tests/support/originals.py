"""The packages of LMNT and SpeechBrain at work: python -m tests.support.originals lmnt|speechbrain FOLDER.

It runs in a process of its own, because the packages change global state: they patch modules, import lazily and set
loggers. It writes a checkpoint as the package writes it, and cases.npz with the results of the package's own calls.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import torchaudio_stub
from tests.support.paths import ROOT

SEED, FRAMES = 5, 4
FAST = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
OWN = (0.0002, 0.004, 0.03, 0.3)  # a fast schedule passed by a caller
TRAINING = tuple(np.linspace(1e-4, 0.04, 40).tolist())  # a training schedule passed by a caller
# hyperparams.yaml in the form of SpeechBrain's repositories.
HYPERPARAMS = """
sample_rate: 22050
spec_n_mels: 20
spec_hop_length: 256
train_timesteps: 50
beta_start: 0.0001
beta_end: 0.05
residual_layers: 6
residual_channels: 16
dilation_cycle_length: 3
unconditional: False

diffwave: !new:speechbrain.lobes.models.DiffWave.DiffWave
    input_channels: !ref <spec_n_mels>
    residual_layers: !ref <residual_layers>
    residual_channels: !ref <residual_channels>
    dilation_cycle_length: !ref <dilation_cycle_length>
    total_steps: !ref <train_timesteps>
    unconditional: !ref <unconditional>

noise: !new:speechbrain.nnet.diffusion.GaussianNoise

diffusion: !new:speechbrain.lobes.models.DiffWave.DiffWaveDiffusion
    model: !ref <diffwave>
    beta_start: !ref <beta_start>
    beta_end: !ref <beta_end>
    timesteps: !ref <train_timesteps>
    noise: !ref <noise>

modules:
    diffwave: !ref <diffwave>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        diffwave: !ref <diffwave>
"""


def run_original(package: str, modules: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Run a package in a process of its own and return its results; skip the test if the package is absent.

    Args:
        package: "lmnt" or "speechbrain".
        modules: what must be installed.
        folder: receives the checkpoint.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; `make test` installs it where the index has it")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "tests.support.originals", package, str(folder)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "cases.npz") as cases:
        return dict(cases)


def mels(bands: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return two mels [2, bands, FRAMES] with values in [0, 1]."""
    return np.random.default_rng(1).random((2, bands, FRAMES), dtype=np.float32)


def _randomize(network: Any) -> None:
    """Give the last convolution weights: it starts as zero, and eps with it."""
    import torch

    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)


def lmnt(folder: Path) -> None:
    """Write weights.pt as the package's learner does, and the results of `predict`."""
    import torch
    from diffwave.inference import predict
    from diffwave.model import DiffWave
    from diffwave.params import AttrDict, params

    sys.modules["torch.utils.tensorboard"] = type(sys)("tensorboard")
    sys.modules["torch.utils.tensorboard"].SummaryWriter = None  # type: ignore[attr-defined]
    from diffwave.learner import DiffWaveLearner

    # As users do in params.py: the sizes are those of a small network.
    params.override({"residual_channels": 16, "residual_layers": 6, "dilation_cycle_length": 3})
    network = DiffWave(AttrDict(params))
    _randomize(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    DiffWaveLearner(str(folder), network, None, optimizer, params).save_to_checkpoint()
    mel = torch.from_numpy(mels(80))
    # The first call of a model draws initial weights, too, from the generator of the noise.
    predict(mel[0], str(folder), device=torch.device("cpu"), fast_sampling=True)
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "full": (mel[0], {}),
        "fast": (mel[0], {"fast_sampling": True}),
        "batch": (mel, {"fast_sampling": True}),
        "own": (mel[0], {"fast_sampling": True, "params": {"inference_noise_schedule": list(OWN)}}),
        "kept": (mel[0], {"fast_sampling": True}),  # the override stays
        "training": (mel[0], {"params": [{"noise_schedule": list(TRAINING)}, {"sample_rate": 16000}]}),
    }
    results = {}
    for name, (spectrogram, options) in calls.items():
        torch.manual_seed(SEED)
        audio, rate = predict(spectrogram, str(folder), device=torch.device("cpu"), **options)
        results[name], results[f"{name} rate"] = audio.numpy(), rate
    np.savez(folder / "cases.npz", **results)


def speechbrain(folder: Path) -> None:
    """Write diffwave.ckpt as the package's checkpointer does, and the results of `DiffWaveVocoder`."""
    import shutil

    import torch
    from hyperpyyaml import load_hyperpyyaml
    from speechbrain.inference.vocoders import DiffWaveVocoder
    from speechbrain.utils.checkpoints import Checkpointer

    (folder / "hyperparams.yaml").write_text(HYPERPARAMS)
    network = load_hyperpyyaml(HYPERPARAMS)["diffwave"]
    _randomize(network)
    saved = Checkpointer(folder / "save", {"diffwave": network}).save_checkpoint()
    shutil.copy(saved.paramfiles["diffwave"], folder / "diffwave.ckpt")
    vocoder = DiffWaveVocoder.from_hparams(str(folder), savedir=str(folder / "linked"), run_opts={"device": "cpu"})
    mel = torch.from_numpy(mels(20))
    fast = {"fast_sampling": True, "fast_sampling_noise_schedule": list(FAST)}
    calls: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
        "full": (vocoder.decode_batch, (mel[:1], 256), {}),
        "fast": (vocoder.decode_batch, (mel[:1], 256), fast),
        "one": (vocoder.decode_batch, (mel[0], 256), fast),
        "masked": (vocoder.decode_batch, (mel[:1], 256, torch.tensor([3])), fast),
        "spectrogram": (vocoder.decode_spectrogram, (mel[0], 256), fast),
        "own": (vocoder.decode_spectrogram, (mel[1], 256, True, list(OWN)), {}),
    }
    results = {}
    for name, (call, arguments, options) in calls.items():
        torch.manual_seed(SEED)
        results[name] = call(*arguments, **options).numpy()
    try:
        vocoder.decode_batch(mel, 256, **fast)
        results["batch fails"] = np.array(False)
    except RuntimeError:
        results["batch fails"] = np.array(True)
    # Two items with their noise in one call, by the package's network alone, whose forward takes [B, 1, L].
    forward = vocoder.mods.diffwave.forward
    vocoder.mods.diffwave.forward = lambda audio, *rest: forward(audio.unsqueeze(1), *rest)
    torch.manual_seed(SEED)
    results["batch"] = vocoder.decode_batch(mel, 256, **fast).numpy()
    torch.manual_seed(SEED)
    results["batch masked"] = vocoder.decode_batch(mel, 256, torch.tensor([2, 4]), **fast).numpy()
    np.savez(folder / "cases.npz", **results)


if __name__ == "__main__":
    torchaudio_stub.install()
    {"lmnt": lmnt, "speechbrain": speechbrain}[sys.argv[1]](Path(sys.argv[2]))
