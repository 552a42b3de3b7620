"""What generated digits are worth, beside real ones: python -m benchmarks.quality.digits --data FOLDER [--results FILE].

A classifier trained on real recordings (digit_classifier.py) says how often the digit that was asked for is heard.
In the space of its features: the Frechet distance of generated clips to the training clips, and the spread within a
digit. Of the samples themselves: how much a clip resembles the nearest training clip. Recordings that nobody trained
on, the official test split, are measured in the same way beside them: what a perfect generator would reach.

Needs the extra `test`, and the free spoken digit dataset (github.com/Jakobovski/free-spoken-digit-dataset).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import engine
from benchmarks.paths import SHARED
from benchmarks.quality.digit_classifier import RATE, fitted, judge, read_digits, train
from engine.checks.arrays import FloatArray
from engine.cli.progress import progress_bar

Matrix = npt.NDArray[np.float64]

RECORDINGS = SHARED / "fsdd"
COPY = 0.9  # correlation with a training clip from which a clip counts as a copy; of real ones hardly any reaches it


def frechet(a: Matrix, b: Matrix) -> float:
    """The Frechet distance of two sets of features [n,F], as normal distributions."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    one, other = np.cov(a.T), np.cov(b.T)
    # The trace of the root of a product is the sum of the roots of its eigenvalues, all of them real and positive.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0.0))
    return float(difference @ difference + np.trace(one) + np.trace(other) - 2 * roots.sum())


def spread(features: Matrix, digits: npt.NDArray[np.int64]) -> float:
    """The mean distance of two clips of the same digit."""
    means = []
    for digit in range(10):
        of = features[digits == digit]
        if len(of) > 1:
            distance = np.sqrt(((of[:, None] - of) ** 2).sum(axis=2))
            means.append(distance.sum() / (len(of) * (len(of) - 1)))
    return float(np.mean(means)) if means else 0.0


def inception_score(probabilities: Matrix) -> float:
    """exp of the mean divergence of a clip's probabilities from those of all: 10 for ten clear, evenly used digits."""
    p = probabilities + 1e-12
    return float(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))


def resemblance(clips: FloatArray, others: FloatArray) -> Matrix:
    """[n] the largest correlation of a clip with any of the others, at any shift, both scaled to length 1."""
    size = 2 * clips.shape[1]
    unit = [of / np.maximum(np.linalg.norm(of, axis=1, keepdims=True), 1e-9) for of in (clips, others)]
    known = np.conj(np.fft.rfft(unit[1], size)).astype(np.complex64)
    found = []
    for clip in unit[0]:
        at = np.fft.rfft(clip, size).astype(np.complex64)
        found.append(max(np.fft.irfft(at * known[i : i + 256]).max() for i in range(0, len(known), 256)))
    return np.array(found)


def figures(name: str, clips: FloatArray, asked: npt.NDArray[np.int64] | None, judged: Any) -> dict[str, Any]:
    """What is measured of one set of clips."""
    model, known, known_features = judged
    probabilities, features = judge(model, clips)
    heard = probabilities.argmax(axis=1)
    nearest = resemblance(clips, known.audio)
    distance = np.array([np.sqrt(((known_features - one) ** 2).sum(axis=1)).min() for one in features])
    return {
        "name": name,
        "clips": len(clips),
        "accuracy": None if asked is None else float((heard == asked).mean()),
        "frechet": frechet(features, known_features),
        "inception_score": inception_score(probabilities),
        "spread": spread(features, heard if asked is None else asked),
        "digits_heard": np.bincount(heard, minlength=10).tolist(),
        "resemblance_median": float(np.median(nearest)),
        "resemblance_largest": float(nearest.max()),
        "copies": int((nearest > COPY).sum()),
        "nearest_feature_distance": float(np.median(distance)),
    }


def loaded(model: str) -> engine.Voice:
    """A network of the recordings' rate."""
    voice = engine.load(model)
    if voice.sample_rate != RATE:
        sys.exit(f"digits: expected a network of {RATE} Hz, got one of {voice.sample_rate}")
    return voice


def generated(
    voice: engine.Voice, count: int, steps: int | str, guidance: float | None
) -> tuple[FloatArray, npt.NDArray[np.int64] | None]:
    """Count clips of each digit, or ten times as many of an unconditional network."""
    clips: list[FloatArray] = []
    with progress_bar(sys.stderr) as show:
        for digit in range(10):

            def tell(fraction: float, done: int = digit) -> None:
                if show is not None:
                    show((done + fraction) / 10)

            label = digit if voice.config.classes else None
            options = {"guidance": guidance, "steps": steps, "seed": 1000 * digit}
            clips.extend(voice.generate(count, label, progress=tell, **options))
    asked = np.repeat(np.arange(10), count) if voice.config.classes else None
    return np.stack([fitted(clip) for clip in clips]), asked


def table(rows: list[dict[str, Any]]) -> str:
    """The figures, for a model card."""
    lines = [
        "| clips | n | digit as asked | Frechet distance | inception score | spread | nearest training clip: "
        "correlation, median / largest | copies |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        lines.append(
            f"| {row['name']} | {row['clips']} | {accuracy} | {row['frechet']:.2f} | {row['inception_score']:.2f} | "
            f"{row['spread']:.2f} | {row['resemblance_median']:.2f} / {row['resemblance_largest']:.2f} | "
            f"{row['copies']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["digits", "digits-unconditional"], help="names or checkpoints")
    parser.add_argument("--data", type=Path, default=RECORDINGS, help="the folder of the recordings")
    parser.add_argument("--count", type=int, default=30, help="clips per digit (default: 30, as the test split has)")
    parser.add_argument("--steps", default="full", help='"full" or a number')
    parser.add_argument(
        "--guidance", nargs="+", type=float, metavar="W", help="a row for each (default: one, by the network's own)"
    )
    parser.add_argument("--results", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"digits: no folder {options.data}; name the recordings with --data")
    known, unheard = read_digits(options.data)
    model = train(known)
    judged = (model, known, judge(model, known.audio)[1])
    rows = [figures("real, the test split", unheard.audio, unheard.digit, judged)]
    steps = int(options.steps) if options.steps.isdigit() else options.steps
    for name in options.model:
        voice = loaded(name)
        for guidance in (voice.config.classes and options.guidance) or [None]:
            clips, asked = generated(voice, options.count, steps, guidance)
            by = "" if guidance is None else f", guidance {guidance:g}"
            rows.append(figures(f"{Path(name).stem}, steps {steps}{by}", clips, asked, judged))
    print(table(rows))
    if options.results:
        options.results.write_text(json.dumps({"engine": engine.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
