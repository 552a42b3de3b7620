"""Play speech while its mel spectrogram is still being written.

    python examples/stream_from_tts.py speech.wav
    python examples/stream_from_tts.py - | aplay -f S16_LE -r 22050   # played as it comes

The audio follows the mel at the distance of `voice.config.look_ahead(6)` samples (docs/streaming.md).
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import engine
from engine.audio.mel_files import read_mel
from engine.audio.pcm import writing_pcm, writing_wav
from engine.checkpoint.bundled import ASSETS


def front_end(mel_file: str) -> Iterator[npt.NDArray[np.float32]]:
    """Stand for a text-to-speech front-end, which writes a few frames at a time."""
    mel = read_mel(Path(mel_file))
    for frame in range(0, mel.shape[1], 10):
        time.sleep(0.01)
        yield mel[:, frame : frame + 10]


def main(output: str = "speech.wav", mel_file: str = str(ASSETS / "demo_mel.npy")) -> None:
    """Stream the mel through the bundled voice."""
    voice = engine.load(device="cpu")
    begin = time.monotonic()
    with writing_pcm(sys.stdout.buffer) if output == "-" else writing_wav(output, voice.sample_rate) as write:
        for chunk in voice.stream(front_end(mel_file), steps=6, seed=0, chunk=2048):
            write(chunk)
            print(f"{time.monotonic() - begin:6.2f} s: {len(chunk)} samples", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit("usage: python examples/stream_from_tts.py [SPEECH.wav or -] [MEL.npy]")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"stream_from_tts: {error}")
