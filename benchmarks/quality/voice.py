"""How close the voice comes to recordings that it re-synthesises from their mel: PESQ-WB and STOI.

python -m benchmarks.quality.voice [--model FILE] [--clips FOLDER ...] [--count N] [--precision fp32 bf16 int8]
    [--steps 6 full] [--results FILE]

Needs the extra `quality`. Without --clips, the shared recordings beside the project: 16 clips of LJ Speech, a voice
that the bundled one never heard, and of Kerstin, its own voice, 10 which may be among the clips it was trained on and
12 that its last training held out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import engine
from benchmarks.paths import SHARED
from engine import Voice
from engine.audio.metrics import snr
from engine.checks.arrays import FloatArray
from engine.cli.bench.machine import commit
from engine.errors import UnavailableError
from engine.training.quality import perceived

NEEDS = ("pesq", "pystoi", "scipy", "soundfile")
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
        return self.folder.name if self.pattern == "*" else f"{self.folder.name}, held out (`{self.pattern}`)"


@dataclass(frozen=True)
class Way:
    """One way to speak."""

    voice: Voice
    steps: int | str

    @property
    def name(self) -> str:
        """For a column."""
        return f"{self.voice.choice.precision}, {self.steps}"


DEFAULT = (
    Clips(SHARED / "ljspeech16", 16),
    Clips(SHARED / "kerstin_22k", 10),
    Clips(SHARED / "kerstin_22k", 12, HELD_OUT),
)


def measure(ways: Sequence[Way], file: Path) -> list[list[float]]:
    """Of each way on one clip: PESQ-WB, STOI, and the SNR in dB against the first way with as many steps."""
    import soundfile

    recording, rate = soundfile.read(file, dtype="float32")
    if rate != ways[0].voice.sample_rate:
        sys.exit(f"quality: {file.name}: expected {ways[0].voice.sample_rate} Hz, got {rate}")
    mel = engine.mel(recording, rate, ways[0].voice.config.mel_kind)
    first: dict[int | str, FloatArray] = {}
    found = []
    for way in ways:
        # The last frame is centred on the clip's end, so the audio is up to a frame longer.
        made = way.voice.vocode(mel, way.steps, seed=SEED)[: len(recording)]
        against = first.setdefault(way.steps, made)
        found.append([*perceived(recording[: len(made)], made, rate), snr(against, made)])
    return found


def choose(clips: Clips, count: int) -> list[Path]:
    """The same ones each time."""
    files = sorted(path for path in clips.folder.glob(clips.pattern) if path.suffix in (".flac", ".wav"))
    if not files:
        sys.exit(f"quality: no .flac or .wav files in {clips.folder}")
    return [files[i * len(files) // count] for i in range(count)] if count < len(files) else files


def rows_of(name: str, ways: Sequence[Way], files: Sequence[Path]) -> list[dict[str, Any]]:
    """A row per way, with the means of what is known. Shows a line per clip, as it is ready."""
    print(f"\n{name}: PESQ-WB, STOI, SNR dB\n{'clip':<18}" + "".join(f"{way.name:>24}" for way in ways), flush=True)
    found = []
    for file in files:
        found.append(measure(ways, file))
        print(f"{file.stem:<18}" + "".join(_cell(figures) for figures in found[-1]), flush=True)
    means = np.nanmean(found, axis=0)
    print(f"{f'mean of {len(files)}':<18}" + "".join(map(_cell, means)), flush=True)
    return [
        {
            **{"clips": name, "count": len(files), "steps": way.steps, "precision": way.voice.choice.precision},
            **{"pesq_wb": float(mean[0]), "stoi": float(mean[1])},
            "snr_db": float(mean[2]) if np.isfinite(mean[2]) else None,
            "files": [file.stem for file in files],
        }
        for way, mean in zip(ways, means, strict=True)
    ]


def _cell(figures: Sequence[float]) -> str:
    pesq_wb, stoi, snr_db = figures
    return f"{pesq_wb:>10.3f}{stoi:>7.3f}" + (f"{snr_db:>7.1f}" if np.isfinite(snr_db) else f"{'-':>7}")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures, for a model card."""
    lines = [
        f"| clips | n | steps | precision | PESQ-WB | STOI | SNR against {rows[0]['precision']} |",
        "|---|---:|---|---|---:|---:|---:|",
    ]
    for row in rows:
        against = "" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB"
        lines.append(
            f"| {row['clips']} | {row['count']} | {row['steps']} | {row['precision']} | "
            f"{row['pesq_wb']:.3f} | {row['stoi']:.3f} | {against} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint; without it, the bundled voice")
    parser.add_argument("--clips", type=Path, nargs="+", help="folders of recordings at the voice's sample rate")
    parser.add_argument("--count", type=int, help="clips of each folder, spread evenly")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16", "int8"], choices=["fp32", "bf16", "int8"])
    parser.add_argument("--steps", nargs="+", default=["6"], help="6 (default), full, or both")
    parser.add_argument("--results", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        sys.exit(f"quality: {missing[0]} is missing; run pip install -e '.[quality]'")
    if options.results and not options.results.parent.is_dir():
        sys.exit(f"quality: --results: no folder {options.results.parent}")
    voices = []
    for precision in options.precision:
        try:
            voices.append(engine.load(options.model, precision=precision))
        except UnavailableError as error:
            print(f"left out: {error}")
    if not voices:
        sys.exit("quality: none of the precisions is available here")
    ways = [Way(voice, int(one) if one.isdecimal() else one) for one in options.steps for voice in voices]
    print(f"engine {engine.__version__}, seed {SEED}\n{voices[0].explain().splitlines()[0]}")
    rows = []
    for clips in map(Clips, options.clips) if options.clips else DEFAULT:
        if not clips.folder.is_dir():
            sys.exit(f"quality: no folder {clips.folder}; name one with --clips")
        rows += rows_of(clips.name, ways, choose(clips, options.count or clips.count or sys.maxsize))
    print(f"\n{table(rows)}")
    if options.results:
        tiers = {voice.choice.precision: voice.choice.isa for voice in voices}
        facts = {"engine": engine.__version__, "commit": commit(), "tiers": tiers, "seed": SEED, "rows": rows}
        options.results.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
