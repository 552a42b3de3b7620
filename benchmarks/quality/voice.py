"""Quality of the voice: PESQ-WB and STOI of recordings re-synthesized from their mel.

python -m benchmarks.quality.voice [--model FILE] [--clips FOLDER ...] [--count N] [--precision fp32 bf16 int8]
    [--steps 6 full] [--results FILE]

Needs the extra `quality`. Without --clips, the shared recordings beside the project: 16 clips of LJ Speech, a speaker
that is not in the bundled voice's training data, and clips of Kerstin, its own speaker: 10 that may be among the
training clips, and 12 that its last training held out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engine
from benchmarks.committed import Row
from benchmarks.figures.quality import voice as table
from benchmarks.paths import SHARED
from engine import Voice
from engine.audio.metrics import snr
from engine.checks.arrays import FloatArray
from engine.cli.bench.machine import commit
from engine.errors import UnavailableError
from engine.training.quality import perceptual_scores

NEEDS = ("pesq", "pystoi", "scipy", "soundfile")
HELD_OUT = "*0.*"  # of Kerstin, by the recipe of the bundled voice
SEED = 0


@dataclass(frozen=True)
class Clips:
    """Recordings of a folder.

    Attributes:
        folder: folder of .flac and .wav files.
        count: number of recordings, spread evenly; None for all.
        pattern: pattern of their names.
    """

    folder: Path
    count: int | None = None
    pattern: str = "*"

    @property
    def name(self) -> str:
        """Title of the rows."""
        return self.folder.name if self.pattern == "*" else f"{self.folder.name}, held out (`{self.pattern}`)"


@dataclass(frozen=True)
class Setting:
    """A voice and its number of steps."""

    voice: Voice
    steps: int | str

    @property
    def name(self) -> str:
        """Title of the column."""
        return f"{self.voice.choice.precision}, {self.steps}"


DEFAULT = (
    Clips(SHARED / "ljspeech16", 16),
    Clips(SHARED / "kerstin_22k", 10),
    Clips(SHARED / "kerstin_22k", 12, HELD_OUT),
)


def measure(settings: Sequence[Setting], file: Path) -> list[list[float]]:
    """Measure one clip.

    Returns:
        By setting: PESQ-WB, STOI, and the SNR in dB against the first setting with as many steps.
    """
    import soundfile

    recording, rate = soundfile.read(file, dtype="float32")
    if rate != settings[0].voice.sample_rate:
        sys.exit(f"quality: {file.name}: expected {settings[0].voice.sample_rate} Hz, got {rate}")
    mel = engine.mel(recording, rate, settings[0].voice.config.mel_kind)
    first: dict[int | str, FloatArray] = {}
    scores = []
    for setting in settings:
        # The last frame is centered on the clip's end, so the audio is up to a frame longer.
        audio = setting.voice.vocode(mel, steps=setting.steps, seed=SEED)[: len(recording)]
        reference = first.setdefault(setting.steps, audio)
        scores.append([*perceptual_scores(recording[: len(audio)], audio, rate), snr(reference, audio)])
    return scores


def choose(clips: Clips, count: int) -> list[Path]:
    """Return this many files, spread evenly; the same ones each time."""
    files = sorted(path for path in clips.folder.glob(clips.pattern) if path.suffix in (".flac", ".wav"))
    if not files:
        sys.exit(f"quality: no .flac or .wav files in {clips.folder}")
    return [files[i * len(files) // count] for i in range(count)] if count < len(files) else files


def rows_of(name: str, settings: Sequence[Setting], files: Sequence[Path]) -> list[Row]:
    """Return a row per setting, with the means of the finite scores; print each clip's scores as they come.

    Args:
        name: name of the clips.
        settings: the settings to compare.
        files: files of the clips.
    """
    titles = "".join(f"{setting.name:>24}" for setting in settings)
    print(f"\n{name}: PESQ-WB, STOI, SNR dB\n{'clip':<18}{titles}", flush=True)
    scores = []
    for file in files:
        scores.append(measure(settings, file))
        print(f"{file.stem:<18}" + "".join(_cell(figures) for figures in scores[-1]), flush=True)
    means = np.nanmean(scores, axis=0)
    print(f"{f'mean of {len(files)}':<18}" + "".join(map(_cell, means)), flush=True)
    return [
        {
            "clips": name,
            "count": len(files),
            "steps": setting.steps,
            "precision": setting.voice.choice.precision,
            "pesq_wb": float(mean[0]),
            "stoi": float(mean[1]),
            "snr_db": float(mean[2]) if np.isfinite(mean[2]) else None,
            "files": [file.stem for file in files],
        }
        for setting, mean in zip(settings, means, strict=True)
    ]


def _cell(figures: Sequence[float]) -> str:
    pesq_wb, stoi, snr_db = figures
    return f"{pesq_wb:>10.3f}{stoi:>7.3f}" + (f"{snr_db:>7.1f}" if np.isfinite(snr_db) else f"{'-':>7}")


def main() -> None:
    """Measure the clips, print the card's table and write the results."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint (default: the bundled voice)")
    parser.add_argument("--clips", type=Path, nargs="+", help="folders of recordings at the voice's sample rate")
    parser.add_argument("--count", type=int, help="clips of each folder, spread evenly (default: all)")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"], choices=["fp32", "bf16", "int8"])
    parser.add_argument("--steps", nargs="+", default=["6"], help="6 (default), full, or both")
    parser.add_argument("--results", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        sys.exit(f"quality: {missing[0]} is missing; run pip install -e '.[quality]'")
    if options.results and not options.results.parent.is_dir():
        sys.exit(f"quality: --results: expected a file in an existing folder, got {options.results}")
    voices = []
    for precision in options.precision:
        try:
            voices.append(engine.load(options.model, precision=precision))
        except UnavailableError as error:
            print(f"left out: {error}")
    if not voices:
        sys.exit("quality: none of the precisions is available here")
    steps = [int(text) if text.isdecimal() else text for text in options.steps]
    settings = [Setting(voice, number) for number in steps for voice in voices]
    print(f"engine {engine.__version__}, seed {SEED}\n{voices[0].explain().splitlines()[0]}")
    rows = []
    for clips in map(Clips, options.clips) if options.clips else DEFAULT:
        if not clips.folder.is_dir():
            sys.exit(f"quality: no folder {clips.folder}; name one with --clips")
        rows += rows_of(clips.name, settings, choose(clips, options.count or clips.count or sys.maxsize))
    print(f"\n{table(rows)}")
    if options.results:
        tiers = {voice.choice.precision: voice.choice.isa for voice in voices}
        header = {"engine": engine.__version__, "commit": commit(), "tiers": tiers, "seed": SEED}
        options.results.write_text(json.dumps({**header, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
