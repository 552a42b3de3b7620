"""Write the clips of docs/samples: the bundled networks' output, and Griffin-Lim's of the same mel.

    python -m benchmarks.quality.samples [--recording FILE] [--out FOLDER]

With --recording, the recording of the demo mel, also writes the figures of the page: PESQ-WB and STOI against it. The
recording itself is not written. Needs the extra `audio`, with --recording also the extra `quality`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import engine
from benchmarks.paths import RESULTS, ROOT
from engine.audio.griffin_lim import griffin_lim
from engine.audio.pcm import pcm16
from engine.audio.wav import read_audio
from engine.checkpoint.bundled import ASSETS
from engine.checks.arrays import FloatArray
from engine.training.quality import perceptual_scores

FOLDER = ROOT / "docs" / "samples"
SEED = 0  # of every clip; none was selected
DEMO = ASSETS / "demo_mel.npy"
RATES = {"voice": 22050, "digits": 8000}


def voice(steps: int | str, mel: FloatArray | None = None, **options: Any) -> FloatArray:
    """Vocode the demo mel, or another, with the bundled voice in fp32."""
    mel = np.load(DEMO) if mel is None else mel
    return engine.load("voice", device="cpu", precision="fp32").vocode(mel, steps=steps, seed=SEED, **options)


def digits(*labels: int) -> FloatArray:
    """Generate the digits one after another. Digit n has the seed SEED + n and a speaker that follows from it."""
    network = engine.load("digits", device="cpu", precision="fp32")
    seeds = [SEED + label for label in labels]
    return network.generate(n=len(labels), label=list(labels), seed=seeds).reshape(-1)


CLIPS: dict[str, Callable[[], FloatArray]] = {
    "voice-6-steps": lambda: voice(6),
    "voice-full-steps": lambda: voice("full"),
    "griffin-lim-refined": lambda: voice(2, draft="griffin-lim"),
    "griffin-lim-refined-matched": lambda: voice(2, draft="griffin-lim", match_mel=1),
    "griffin-lim": lambda: griffin_lim(np.load(DEMO), RATES["voice"]),
    "digits": lambda: digits(*range(10)),
}


def rate_of(name: str) -> int:
    """Return the sample rate of a clip in Hz."""
    return RATES["digits" if name == "digits" else "voice"]


def mel_error(audio: FloatArray, mel: FloatArray | None = None) -> float:
    """Compute the mean absolute difference of an audio's mel from the demo mel, or from another, in dB."""
    mel = np.load(DEMO) if mel is None else mel
    measured = engine.mel(audio, RATES["voice"], kind="lmnt")[:, : mel.shape[1]]
    return float(100.0 * np.mean(np.abs(measured - mel)))  # 1 is 100 dB


def main() -> None:
    """Run the command line."""
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", type=Path, help="the recording of the demo mel; writes the figures")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the clips (default: docs/samples)")
    options = parser.parse_args()
    rows = []
    for name, generate in CLIPS.items():
        audio = generate()
        soundfile.write(options.out / f"{name}.flac", pcm16(audio), rate_of(name))
        print(f"wrote {options.out / name}.flac", flush=True)
        if options.recording and name != "digits":
            recording, rate = read_audio(options.recording)
            pesq_wb, stoi = perceptual_scores(recording, audio[: len(recording)], rate)
            rows.append({"clip": name, "pesq_wb": pesq_wb, "stoi": stoi, "mel_error_db": mel_error(audio)})
    if rows:
        (RESULTS / "samples.json").write_text(json.dumps({"seed": SEED, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
