"""philsyn's command line: `python -m engine.compat.philsyn` in place of `python inference.py`, in the same folder.

    python -m engine.compat.philsyn -c config.json -cond LJ001-0001     # DiffWave-Vocoder
    python -m engine.compat.philsyn -c config.json -n 16                # DiffWave-unconditional

The config, the checkpoint, the mel and the results have the places that the original code gives them. Differences:

- A CPU suffices, and neither PyTorch nor SciPy is needed. Checkpoints and mels are read without unpickling.
- A result is a WAV file of 16 bits, where the original writes 32-bit floats that most players refuse. Samples beyond
  [-1, 1] are clipped, which the networks' audio seldom reaches.
- A mel whose values cannot be of Tacotron 2's kind is an error.
- No events for TensorBoard are written.
- `--seed` repeats the audio. Without it every run has other noise, as in the original.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.audio.mel_files import read_mel
from engine.audio.wav import write_wav
from engine.checks.arrays import FloatArray
from engine.compat.original import check_noise
from engine.config import parse_object
from engine.errors import CheckpointError, InputError
from engine.voice.loading import load_as
from engine.voice.voice import Voice

_SETTINGS = ("wavenet_config", "diffusion_config", "gen_config")


def generate(
    config: str | os.PathLike[str] = "config.json",
    condition_name: str | None = None,
    num_samples: int = 4,
    ckpt_iter: int | str = "max",
    *,
    steps: int | str = "full",
    seed: int | None = None,
    noise: tuple[FloatArray, FloatArray] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> list[Path]:
    """Write audio as philsyn's inference.py does.

    Args:
        config: the path of the configuration in JSON. Other paths in it begin in the working directory.
        condition_name: the name of a mel, NAME.wav.pt in the folder `mel_path`; for a vocoder.
        num_samples: the number of clips; for an unconditional network.
        ckpt_iter: the number of the checkpoint, or "max" for the last.
        steps: see `engine.Voice.vocode`. "full" is the original's.
        seed: of the noise; None for a new one.
        noise: see `engine.Voice.vocode`, in place of the seed.
        device: see `engine.load`, as for the others.
        precision: "fp32" is the original's; "auto" is the fastest.
        threads: the most threads on a CPU.

    Returns:
        The files, exp/ch{C}_T{T}_betaT{beta}/{output_directory}/{C}_{T}_{thousands of steps}k_{name}.wav.

    Raises:
        CheckpointError: the configuration or the checkpoint is missing or damaged.
        InputError: the mel is missing or of another shape, or an argument has an impossible value.
    """
    check_noise(noise=noise, seed=seed)
    settings = _read_config(Path(config))
    network, diffusion, places = (settings[name] for name in _SETTINGS)
    folder = Path("exp", f"ch{network['res_channels']}_T{diffusion['T']}_betaT{diffusion['beta_T']}")
    number, checkpoint = _find(folder / places["ckpt_path"], ckpt_iter)
    voice = load_as(Voice, checkpoint, device=device, precision=precision, threads=threads, config=config)
    if bool(voice.config.n_mels) != (condition_name is not None):
        wanted = "the name of a mel for this vocoder" if voice.config.n_mels else "None for this unconditional network"
        raise InputError(f"condition_name: expected {wanted}, got {condition_name!r:.80}")
    start = secrets.randbits(63) if seed is None else seed
    if condition_name is not None:
        mel = read_mel(Path(places["mel_path"], f"{condition_name}.wav.pt"))
        audio = {condition_name: voice.vocode(mel, steps=steps, seed=start, noise=noise)}
    else:
        clips = voice.generate(n=num_samples, steps=steps, seed=start, noise=noise)
        audio = {str(i): clip for i, clip in enumerate(clips)}
    output = folder / places["output_directory"]
    output.mkdir(parents=True, exist_ok=True)
    name = f"{network['res_channels']}_{diffusion['T']}_{number // 1000}k"
    files = {output / f"{name}_{key}.wav": samples for key, samples in audio.items()}
    for path, samples in files.items():
        write_wav(path, samples, voice.sample_rate)
    return list(files)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read it: {error.strerror or error}") from None
    settings = parse_object(text)
    keys = {"wavenet_config": ("res_channels",), "diffusion_config": ("T", "beta_T")}
    keys["gen_config"] = ("output_directory", "ckpt_path")
    for section, names in keys.items():
        values = settings.get(section)
        for name in names:
            if not isinstance(values, dict) or name not in values:
                raise CheckpointError(f"{path}: expected {section}.{name}, got none")
    return settings


def _find(folder: Path, ckpt_iter: int | str) -> tuple[int, Path]:
    """Return the number and the path of a checkpoint N.pkl."""
    try:
        numbers = [int(match[1]) for name in os.listdir(folder) if (match := re.fullmatch(r"(\d+)\.pkl", name))]
    except OSError as error:
        raise CheckpointError(f"{folder}: expected a folder of checkpoints, got: {error.strerror}") from None
    wanted = max(numbers, default=-1) if ckpt_iter == "max" else int(ckpt_iter)
    if wanted not in numbers:
        held = ", ".join(map(str, sorted(numbers))) or "none"
        raise CheckpointError(f"{folder}: expected {ckpt_iter if ckpt_iter != 'max' else 'N'}.pkl, got {held}")
    return wanted, folder / f"{wanted}.pkl"
