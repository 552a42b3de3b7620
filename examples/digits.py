"""Generate spoken digits by label.

    python examples/digits.py 3 1 4            # one clip for each digit
    python examples/digits.py "7 jackson"      # a digit and one of its six speakers

Writes digit-0.wav, digit-1.wav, ... into the working directory.
"""

import sys

import engine
from engine.audio import write_wav


def main(*labels: str) -> None:
    """Generate one clip for each label and write it."""
    network = engine.load("digits")
    clips = network.generate(n=len(labels), label=list(labels), seed=0, steps="full")

    names = network.classes_of(n=len(labels), label=list(labels), seed=0)
    for number, (name, clip) in enumerate(zip(names, clips, strict=True)):
        write_wav(f"digit-{number}.wav", clip, network.sample_rate)
        print(f"wrote digit-{number}.wav: {name}")


if __name__ == "__main__":
    try:
        main(*(sys.argv[1:] or ["3", "1", "4"]))
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"digits: {error}")
