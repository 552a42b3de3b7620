"""How close the voice comes to recordings that it re-synthesises from their mel: PESQ-WB and STOI.

python benchmarks/quality.py [--model FILE] [--clips FOLDER ...] [--count N] [--precision fp32 bf16 int8]
    [--steps 6|full]

Needs the extra `quality`. Without --clips, the shared recordings beside the project: 16 clips of LJ Speech, a voice
that the bundled one never heard, and of Kerstin, its own voice, 10 which may be among the clips it was trained on and
12 that its last training held out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from engine import Voice
from engine.errors import UnavailableError
from engine.report import snr
from engine.training.quality import perceived

try:
    import pesq  # noqa: F401
    import pystoi  # noqa: F401
    import scipy  # noqa: F401
    import soundfile
except ImportError as error:
    sys.exit(f"quality: {error.name} is missing; run pip install -e '.[quality]'")

Array = npt.NDArray[np.float32]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
HELD_OUT = "*0.*"  # of Kerstin, by the recipe of the bundled voice
SEED = 0


@dataclass(frozen=True)
class Clips:
    """So many recordings of a folder, or all, spread evenly over those whose names fit."""

    folder: Path
    count: int | None = None
    pattern: str = "*"

    @property
    def name(self) -> str:
        """For the heading."""
        return self.folder.name if self.pattern == "*" else f"{self.folder.name}, {self.pattern}"


DEFAULT = (
    Clips(SHARED / "ljspeech16", 16),
    Clips(SHARED / "kerstin_22k", 10),
    Clips(SHARED / "kerstin_22k", 12, HELD_OUT),
)


def measure(voices: Sequence[Voice], file: Path, steps: int | str) -> list[float]:
    """PESQ-WB and STOI of each voice on one clip, then the SNR of the second voice against the first."""
    recording, rate = soundfile.read(file, dtype="float32")
    if rate != voices[0].sample_rate:
        sys.exit(f"quality: {file.name}: expected {voices[0].sample_rate} Hz, got {rate}")
    mel = engine.mel(recording, rate, voices[0].config.mel_kind)
    # The last frame is centred on the clip's end, so the audio is up to a frame longer.
    made = [voice.vocode(mel, steps, seed=SEED)[: len(recording)] for voice in voices]
    figures = [figure for audio in made for figure in perceived(recording[: len(audio)], audio, rate)]
    return [*figures, *(snr(made[0], audio) for audio in made[1:])]


def choose(clips: Clips, count: int) -> list[Path]:
    """The same ones each time."""
    files = sorted(path for path in clips.folder.glob(clips.pattern) if path.suffix in (".flac", ".wav"))
    if not files:
        sys.exit(f"quality: no .flac or .wav files in {clips.folder}")
    return [files[i * len(files) // count] for i in range(count)] if count < len(files) else files


def print_table(name: str, voices: Sequence[Voice], files: Sequence[Path], steps: int | str) -> None:
    """A line per clip, as it is ready, and the means of what is known."""
    precisions = [voice.choice.precision for voice in voices]
    heads = [f"{what} {p}" for p in precisions for what in ("PESQ-WB", "STOI")]
    heads += [f"SNR dB {p}/{precisions[0]}" for p in precisions[1:]]
    print(f"\n{name}\n{'clip':<22}" + "".join(f"{head:>18}" for head in heads), flush=True)
    found = []
    for file in files:
        found.append(measure(voices, file, steps))
        print(_line(file.stem, found[-1]), flush=True)
    print(_line(f"mean of {len(files)}", np.nanmean(found, axis=0)), flush=True)


def _line(name: str, figures: Any) -> str:
    return f"{name:<22}" + "".join(f"{figure:>18.3f}" for figure in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint; without it, the bundled voice")
    parser.add_argument("--clips", type=Path, nargs="+", help="folders of recordings at the voice's sample rate")
    parser.add_argument("--count", type=int, help="clips of each folder, spread evenly")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"], choices=["fp32", "bf16", "int8"])
    parser.add_argument("--steps", default="6", help="6 (default), or full")
    options = parser.parse_args()
    steps = int(options.steps) if options.steps.isdecimal() else options.steps
    voices = []
    for precision in options.precision:
        try:
            voices.append(engine.load(options.model, precision=precision))
        except UnavailableError as error:
            print(f"left out: {error}")
    if not voices:
        sys.exit("quality: none of the precisions is available here")
    print(f"engine {engine.__version__}, steps {steps}, seed {SEED}\n{voices[0].explain().splitlines()[0]}")
    for clips in map(Clips, options.clips) if options.clips else DEFAULT:
        if not clips.folder.is_dir():
            sys.exit(f"quality: no folder {clips.folder}; name one with --clips")
        print_table(clips.name, voices, choose(clips, options.count or clips.count or sys.maxsize), steps)


if __name__ == "__main__":
    main()
