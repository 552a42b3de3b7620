"""The bundled voice on mels that `engine.audio.convert_mel` converts from other kinds, beside the exact ones.

python -m benchmarks.quality.conversion [--count N] [--results FILE]

The mels are those of recordings and, blurred as an acoustic model's are, of the same recordings. docs/front-ends.md
shows the figures. Needs the extra `quality`, and the shared recordings beside the project: clips that the training of
the voice held out.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from statistics import fmean

import numpy as np

import engine
from benchmarks.committed import Row
from benchmarks.figures.conversion import table
from benchmarks.quality.scores import Scores, judge, means, versions
from benchmarks.quality.voice import DEFAULT, SEED, choose
from engine import Voice
from engine.audio import convert_mel, read_audio
from engine.checks.arrays import FloatArray
from engine.cli.bench.machine import commit
from engine.training.blur import blurred

STEPS = 6
Judged = tuple[Scores, float, float]
ESPNET_FMIN, ESPNET_FMAX = 80.0, 7600.0


def mels_of(recording: FloatArray, rate: int, seed: int) -> dict[str, FloatArray]:
    """Return lmnt mels of a recording by name: exact, blurred, and converted from "tacotron" mels.

    Args:
        recording: [L].
        rate: in Hz.
        seed: of the blur.
    """
    exact, tacotron = engine.mel(recording, rate), engine.mel(recording, rate, "tacotron")
    espnet = engine.mel(recording, rate, "tacotron", fmin=ESPNET_FMIN, fmax=ESPNET_FMAX)
    predicted = blurred(tacotron, seed, "tacotron")
    return {
        "exact": exact,
        "converted": convert_mel(tacotron, "tacotron", "lmnt", rate),
        "converted from 80 to 7600 Hz": convert_mel(
            espnet, "tacotron", "lmnt", rate, fmin=ESPNET_FMIN, fmax=ESPNET_FMAX
        ),
        "blurred": blurred(exact, seed, "lmnt"),
        "blurred, converted": convert_mel(predicted, "tacotron", "lmnt", rate),
    }


def errors(mel: FloatArray, exact: FloatArray, bands: slice) -> float:
    """Return the mean absolute error of some bands of an lmnt mel in dB."""
    return float(100.0 * np.abs(mel[bands] - exact[bands]).mean())


def measure(voice: Voice, file: Path) -> dict[str, Judged]:
    """Judge the audio of every mel of one clip.

    Returns:
        By name of the mel the scores of the audio, and the errors of the mel in dB below 8 kHz and above.
    """
    recording, rate = read_audio(file)
    mels = mels_of(recording, rate, zlib.crc32(file.stem.encode()))
    result = {}
    for name, mel in mels.items():
        audio = voice.vocode(mel, steps=STEPS, seed=SEED)[: len(recording)]
        below, above = (errors(mel, mels["exact"], bands) for bands in (slice(0, 71), slice(71, 80)))
        result[name] = judge(recording[: len(audio)], audio, rate), below, above
    return result


def rows_of(clips: Sequence[Mapping[str, Judged]]) -> list[Row]:
    """Return a row per mel, with means and intervals over the clips.

    Args:
        clips: by clip and name of the mel, see `measure`.
    """
    rows = []
    for name in clips[0]:
        scores, below, above = zip(*(clip[name] for clip in clips), strict=True)
        judges = {judge: asdict(ends) if ends else None for judge, ends in means(scores).items()}
        rows.append({"mels": name, "below_8_khz_db": fmean(below), "above_8_khz_db": fmean(above), **judges})
    return rows


def main() -> None:
    """Measure the clips, print the scores and write the results."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8, help="number of clips, spread evenly (default: 8)")
    parser.add_argument("--results", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if not DEFAULT.folder.is_dir():
        sys.exit(f"quality: no folder {DEFAULT.folder}")
    voice, files = engine.load(device="cpu", precision="fp32", threads=1), choose(DEFAULT, options.count)
    clips = []
    for file in files:
        clips.append(measure(voice, file))
        for name, (scores, *decibels) in clips[-1].items():
            print(file.stem, name, *(f"{value:.3f}" for value in (*astuple(scores), *decibels)), flush=True)
    rows = rows_of(clips)
    print(table(rows))
    if options.results:
        about = {"engine": engine.__version__, "versions": versions(), "commit": commit(), "seed": SEED, "steps": STEPS}
        content = {**about, "clips": [file.stem for file in files], "rows": rows}
        options.results.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
