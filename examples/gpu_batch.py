"""Vocode a batch of mels of different lengths on an NVIDIA GPU.

    python examples/gpu_batch.py

Needs the extra `gpu`: pip install -e '.[gpu]'. The first call compiles the kernels and captures a CUDA graph.
"""

import sys
import time

import numpy as np

import engine
from engine.audio import RealTime
from engine.checkpoint.bundled import ASSETS


def main() -> None:
    """Vocode the batch twice: to compile, and to measure."""
    try:
        voice = engine.load(device="cuda", precision="fp16")
    except engine.UnavailableError as error:
        sys.exit(f"gpu_batch: this example needs an NVIDIA GPU: {error}")

    demo = np.load(ASSETS / "demo_mel.npy")
    mels = [demo[:, : 200 + 4 * number] for number in range(32)]
    voice.vocode(mels, steps=6, seed=0)

    begin = time.perf_counter()
    audio = voice.vocode(mels, steps=6, seed=0)  # a list of 32 arrays; mel i has the seed 0 + i
    seconds = time.perf_counter() - begin
    print(RealTime(sum(map(len, audio)) / voice.sample_rate, seconds))


if __name__ == "__main__":
    main()
