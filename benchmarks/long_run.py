"""Memory of an hour of audio: streams a mel of any length to a WAV file and prints the peak.

    python -m benchmarks.long_run --minutes 60
    python -m benchmarks.long_run --minutes 60 --channels 16 --layers 4    # random weights: minutes instead of hours

The resident memory is the process's own figure (/proc/self/status); its peak is reset after the voice is loaded. It
includes pages of the mel file and of the WAV file. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import engine
from engine.audio.mel_files import read_mel_in_pieces
from engine.audio.pcm import writing_wav
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.bench import memory
from engine.cli.progress import progress_bar
from engine.config import BASE
from engine.diffusion.schedule import build_schedule

MIB = 1 << 20


def write_long_mel(path: Path, frames: int) -> None:
    """Write the demo mel repeatedly, without holding the whole in memory."""
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))
    mel = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(demo), frames))
    for begin in range(0, frames, demo.shape[1]):
        part = mel[:, begin : begin + demo.shape[1]]
        part[:] = demo[:, : part.shape[1]]
    mel.flush()


def run(
    voice: engine.Voice, path: Path, out: Path, steps: int | str | None = None, schedule: Sequence[float] | None = None
) -> dict[str, Any]:
    """Stream a mel file to a WAV file.

    Args:
        voice: a voice on the CPU.
        path: path of the mel.
        out: the WAV file.
        steps: see `Voice.vocode`.
        schedule: see `Voice.vocode`.

    Returns:
        The lengths in seconds, the memory in MiB, and a digest of the audio.
    """
    frames, pieces = read_mel_in_pieces(path)
    total, samples, digest = frames * voice.hop, 0, hashlib.sha256()
    quarters: list[int] = []
    loaded = memory.resident()
    memory.reset_peak()
    begin = time.perf_counter()
    with writing_wav(out, voice.sample_rate) as write, progress_bar(sys.stderr) as progress:
        for chunk in voice.stream(pieces, steps=steps, schedule=schedule):
            write(chunk)
            digest.update(chunk.tobytes())
            samples += len(chunk)
            if progress is not None:
                progress(samples / total)
            if samples * 4 >= total * (len(quarters) + 1):
                quarters.append(memory.peak() - loaded)
    return {
        "audio_seconds": samples / voice.sample_rate,
        "work_seconds": time.perf_counter() - begin,
        "steps": len(build_schedule(voice.config, steps, schedule)),
        "precision": voice.choice.precision,
        "isa": voice.choice.isa,
        "threads": voice.threads,
        "mib_after_load": loaded / MIB,
        "mib_peak_growth": (memory.peak() - loaded) / MIB,
        "mib_peak_growth_at_each_quarter": [growth / MIB for growth in quarters],
        "sha256": digest.hexdigest(),
    }


def main() -> None:
    """Measure and print the figures as JSON."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the audio (default: 60)")
    parser.add_argument(
        "--steps", type=lambda text: text if text == "full" else int(text), help="a number, or full (default: 6)"
    )
    parser.add_argument("--channels", type=int, help="random weights of this width instead of the bundled voice")
    parser.add_argument("--layers", type=int, default=BASE.residual_layers, help="number of their layers")
    parser.add_argument("--schedule", type=float, nargs="+", help="betas, instead of --steps")
    parser.add_argument("--threads", type=int, help="default: one per processor")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = None
        if arguments.channels:
            config = replace(BASE, residual_channels=arguments.channels, residual_layers=arguments.layers)
            from tests.support.networks import random_network

            path = Path(folder) / "random.safetensors"
            save_checkpoint(path, Checkpoint(config, random_network(config, 0)))
        voice = engine.load(path, device="cpu", precision=arguments.precision, threads=arguments.threads)
        mel = Path(folder) / "mel.npy"
        write_long_mel(mel, round(arguments.minutes * 60 * voice.sample_rate / voice.hop))
        print(json.dumps(run(voice, mel, Path(folder) / "audio.wav", arguments.steps, arguments.schedule), indent=2))


if __name__ == "__main__":
    main()
