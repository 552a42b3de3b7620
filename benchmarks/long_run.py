"""How much memory an hour of audio takes: streams a mel of any length to a WAV file and prints the peak.

    python -m benchmarks.long_run --minutes 60
    python -m benchmarks.long_run --minutes 60 --channels 16 --layers 4    # random weights: minutes instead of hours

The resident memory is the process's own account (/proc/self/status), its peak reset after the voice is loaded; pages of
the mel file and of the WAV file that count towards it are in the figures. Linux only.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import engine
from engine.audio.mel_files import read_mel_in_pieces
from engine.audio.pcm import writing_wav
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.cli.progress import progress_bar
from engine.config import BASE
from engine.voice import BUNDLED

MIB = 1 << 20


def resident(field="VmRSS"):
    """Bytes of this process in memory; VmHWM is the most there were."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")


def write_long_mel(path, frames):
    """The demo mel again and again, written without holding it."""
    demo = np.load(BUNDLED.with_name("demo_mel.npy"))
    mel = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(demo), frames))
    for begin in range(0, frames, demo.shape[1]):
        part = mel[:, begin : begin + demo.shape[1]]
        part[:] = demo[:, : part.shape[1]]
    mel.flush()


def run(voice, path, out, steps=6, schedule=None):
    """Streams a mel file to a WAV file. Returns what was measured."""
    frames, pieces = read_mel_in_pieces(path)
    total, samples, digest, quarters = frames * voice.hop, 0, hashlib.sha256(), []
    loaded = resident()
    reset_peak()
    begin = time.perf_counter()
    with writing_wav(out, voice.sample_rate) as write, progress_bar(sys.stderr) as progress:
        for chunk in voice.stream(pieces, steps, schedule=schedule):
            write(chunk)
            digest.update(chunk.tobytes())
            samples += len(chunk)
            if progress is not None:
                progress(samples / total)
            if samples * 4 >= total * (len(quarters) + 1):
                quarters.append(resident("VmHWM") - loaded)
    return {
        "audio_seconds": samples / voice.sample_rate,
        "work_seconds": time.perf_counter() - begin,
        "steps": len(schedule) if schedule else steps,
        "precision": voice.choice.precision,
        "isa": voice.choice.isa,
        "threads": voice.threads,
        "mib_after_load": loaded / MIB,
        "mib_peak_growth": (resident("VmHWM") - loaded) / MIB,
        "mib_peak_growth_at_each_quarter": [one / MIB for one in quarters],
        "sha256": digest.hexdigest(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", default=6, type=lambda text: text if text == "full" else int(text))
    parser.add_argument("--channels", type=int, help="random weights instead of the bundled voice, of this width")
    parser.add_argument("--layers", type=int, default=BASE.residual_layers, help="and of so many layers")
    parser.add_argument("--schedule", type=float, nargs="+", help="betas of your own instead of --steps")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="fp32", help="fp32 unless told otherwise")
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
