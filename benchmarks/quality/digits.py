"""Quality of generated digits beside real ones: python -m benchmarks.quality.digits --data FOLDER [--results FILE].

Two judges trained on real recordings measure how often they hear the label: a convolutional network
(digit_classifier.py) and a support vector machine (digit_svm.py). The accuracy of a generator is the worse of the two.
In the space of the network's features: the Frechet distance of the clips to the training clips, and the spread within a
digit. Of the samples themselves: the correlation of a clip with the nearest training clip. The official test split is
measured in the same way: no network was trained on it, so its figures are those of a perfect generator.

Needs the extras `test` and `quality`, and the free spoken digit dataset
(github.com/Jakobovski/free-spoken-digit-dataset).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import engine
from benchmarks.committed import Row
from benchmarks.figures.quality import digits as table
from benchmarks.figures.quality import disagreements as table_of_disagreements
from benchmarks.paths import SHARED
from benchmarks.quality.digit_classifier import RATE, Classifier, Clips, fitted, judge, read_digits, train
from benchmarks.quality.digit_svm import DigitMachine, train_machine
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.cli.progress import progress_bar

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

RECORDINGS = SHARED / "fsdd"
COPY = 0.9  # correlation with a training clip from which a clip counts as a copy; few real ones reach it


@dataclass(frozen=True, eq=False)
class Reference:
    """The judges and their training clips.

    Attributes:
        model: the network.
        machine: the support vector machine.
        known: the training clips.
        features: [n,64] of them, the network's.
    """

    model: Classifier
    machine: DigitMachine
    known: Clips
    features: Matrix


def frechet(a: Matrix, b: Matrix) -> float:
    """Return the Frechet distance of two sets of features [n,F], as normal distributions."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    first, second = np.cov(a.T), np.cov(b.T)
    # The trace of the root of a product is the sum of the roots of its eigenvalues, all of them real and positive.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0.0))
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * roots.sum())


def spread(features: Matrix, digits: Labels) -> float:
    """Return the mean distance of two clips of the same digit."""
    means = []
    for digit in range(10):
        clips = features[digits == digit]
        if len(clips) > 1:
            distance = np.sqrt(((clips[:, None] - clips) ** 2).sum(axis=2))
            means.append(distance.sum() / (len(clips) * (len(clips) - 1)))
    return float(np.mean(means)) if means else 0.0


def inception_score(probabilities: Matrix) -> float:
    """Return exp of the mean divergence of a clip's probabilities from the mean: 10 for clear, evenly used digits."""
    p = probabilities + 1e-12
    return float(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))


def resemblance(clips: FloatArray, others: FloatArray) -> Matrix:
    """Return the largest correlation [n] of each clip with any of the others, at any shift, independent of level."""
    size = 2 * clips.shape[1]
    unit = [audio / np.maximum(np.linalg.norm(audio, axis=1, keepdims=True), 1e-9) for audio in (clips, others)]
    known = np.conj(np.fft.rfft(unit[1], size)).astype(np.complex64)
    largest = []
    for clip in unit[0]:
        spectrum = np.fft.rfft(clip, size).astype(np.complex64)
        largest.append(max(np.fft.irfft(spectrum * known[i : i + 256]).max() for i in range(0, len(known), 256)))
    return np.array(largest)


def verdicts(network: Labels, machine: Labels, labels: Labels | None) -> Row:
    """Return how often two judges hear the label, and where they disagree.

    Args:
        network: the digits [n] that the network hears.
        machine: the digits [n] that the support vector machine hears.
        labels: the requested digits [n]; None without labels.

    Returns:
        "accuracy" (the network's), "accuracy_svm" and "accuracy_worse", which are None without labels, "agreement", the
        share of clips in which both hear the same digit, and "disagreements": the label, the network's digit, the
        machine's, and the number of clips, the most frequent first.
    """
    asked = np.full(len(network), -1) if labels is None else labels
    pairs = Counter(zip(asked.tolist(), network.tolist(), machine.tolist(), strict=True))
    different = sorted((key for key in pairs if key[1] != key[2]), key=lambda key: (-pairs[key], key))
    accuracies = [None if labels is None else float((heard == labels).mean()) for heard in (network, machine)]
    return {
        "accuracy": accuracies[0],
        "accuracy_svm": accuracies[1],
        "accuracy_worse": None if labels is None else min(float(value) for value in accuracies if value is not None),
        "agreement": float((network == machine).mean()),
        "disagreements": [
            {
                "label": None if label < 0 else label,
                "network": first,
                "svm": second,
                "clips": pairs[label, first, second],
            }
            for label, first, second in different
        ],
    }


def figures(name: str, clips: FloatArray, labels: Labels | None, reference: Reference) -> Row:
    """Return the row of one set of clips.

    Args:
        name: title of the row.
        clips: [n,SAMPLES].
        labels: the requested digits; None without labels.
        reference: recordings to compare with.
    """
    probabilities, features = judge(reference.model, clips)
    heard, heard_svm = probabilities.argmax(axis=1), reference.machine.hear(clips)
    nearest = resemblance(clips, reference.known.audio)
    distance = np.array([np.sqrt(((reference.features - clip) ** 2).sum(axis=1)).min() for clip in features])
    return {
        "name": name,
        "clips": len(clips),
        **verdicts(heard, heard_svm, labels),
        "frechet": frechet(features, reference.features),
        "inception_score": inception_score(probabilities),
        "spread": spread(features, heard if labels is None else labels),
        "digits_heard": np.bincount(heard, minlength=10).tolist(),
        "digits_heard_svm": np.bincount(heard_svm, minlength=10).tolist(),
        "resemblance_median": float(np.median(nearest)),
        "resemblance_largest": float(nearest.max()),
        "copies": int((nearest > COPY).sum()),
        "nearest_feature_distance": float(np.median(distance)),
    }


def loaded(model: str) -> engine.Voice:
    """Return a network of the recordings' sample rate, or exit."""
    voice = engine.load(model)
    if voice.sample_rate != RATE:
        sys.exit(f"digits: --model: expected a network of {RATE} Hz, got {voice.sample_rate} Hz")
    return voice


def generated(
    voice: engine.Voice, count: int, steps: int | str, guidance: float | None, temperature: float | None = None
) -> tuple[FloatArray, Labels | None]:
    """Generate clips of each digit, or ten times as many of an unconditional network.

    Args:
        voice: the network.
        count: clips per digit.
        steps: see `Voice.generate`.
        guidance: see `Voice.generate`.
        temperature: see `Voice.generate`.

    Returns:
        The clips [n,SAMPLES], and their labels if the network has any.
    """
    clips: list[FloatArray] = []
    with progress_bar(sys.stderr) as show:
        for digit in range(10):

            def report(fraction: float, done: int = digit) -> None:
                if show is not None:
                    show((done + fraction) / 10)

            label = digit if voice.config.classes else None
            batch = voice.generate(
                n=count,
                label=label,
                steps=steps,
                seed=1000 * digit,
                guidance=guidance,
                temperature=temperature,
                progress=report,
            )
            clips.extend(batch)
    labels = np.repeat(np.arange(10), count) if voice.config.classes else None
    return np.stack([fitted(clip) for clip in clips]), labels


def main() -> None:
    """Measure the networks, print the card's table and write the results."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["digits", "digits-unconditional"], help="names or checkpoints")
    parser.add_argument("--data", type=Path, default=RECORDINGS, help="folder of the recordings")
    parser.add_argument("--count", type=int, default=30, help="clips per digit (default: 30, as in the test split)")
    parser.add_argument("--steps", default="full", help='"full" (default) or a number')
    parser.add_argument(
        "--guidance", nargs="+", type=float, metavar="W", help="a row for each (default: the network's own)"
    )
    parser.add_argument(
        "--temperature", nargs="+", type=float, metavar="T", help="a row for each (default: the network's own)"
    )
    parser.add_argument("--results", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"digits: --data: expected a folder of recordings, got {options.data}")
    if importlib.util.find_spec("sklearn") is None:
        sys.exit(f"digits: sklearn is missing; run {how_to_install('quality')}")
    known, test = read_digits(options.data)
    model = train(known)
    reference = Reference(model, train_machine(known), known, judge(model, known.audio)[1])
    rows = [figures("real, the test split", test.audio, test.digit, reference)]
    steps = int(options.steps) if options.steps.isdigit() else options.steps
    for name in options.model:
        voice = loaded(name)
        for guidance in (voice.config.classes and options.guidance) or [None]:
            for temperature in options.temperature or [None]:
                clips, labels = generated(voice, options.count, steps, guidance, temperature)
                suffix = "" if guidance is None else f", guidance {guidance:g}"
                suffix += "" if temperature is None else f", temperature {temperature:g}"
                rows.append(figures(f"{Path(name).stem}, steps {steps}{suffix}", clips, labels, reference))
    print(f"{table(rows)}\n\n{table_of_disagreements(rows)}")
    if options.results:
        versions = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn", "torch")}
        about = {"engine": engine.__version__, "versions": versions}
        options.results.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
