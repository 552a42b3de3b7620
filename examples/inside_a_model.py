"""Put the vocoder into a model of your own, and compile the whole.

    python examples/inside_a_model.py slower.wav

The acoustic model stretches a mel spectrogram in time: speech at another tempo and the same pitch. `fullgraph=True`
shows that the vocoder does not break the graph (docs/front-ends.md).
"""

import sys
from pathlib import Path

import torch

import engine
from engine.audio.mel_files import read_mel
from engine.audio.wav import write_wav
from engine.checkpoint.bundled import ASSETS
from engine.nn import Vocoder


class SlowSpeech(torch.nn.Module):
    """Stand for an acoustic model: anything that computes a mel."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.vocoder = factor, Vocoder()

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Turn a mel [B, M, T] into audio [B, about factor * T * hop]."""
        stretched = torch.nn.functional.interpolate(mel, scale_factor=self.factor, mode="linear")
        return self.vocoder(stretched)  # type: ignore[no-any-return]


def main(output: str = "slower.wav", mel_file: str = str(ASSETS / "demo_mel.npy")) -> None:
    """Speak a mel file at 1.3 times its length."""
    model = torch.compile(SlowSpeech(1.3), fullgraph=True, backend="aot_eager")  # a backend that needs no compiler
    with torch.no_grad():
        audio = model(torch.from_numpy(read_mel(Path(mel_file)))[None])
    write_wav(output, audio[0].numpy(), engine.config.BASE.sample_rate)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit("usage: python examples/inside_a_model.py [SLOWER.wav] [MEL.npy]")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"inside_a_model: {error}")
