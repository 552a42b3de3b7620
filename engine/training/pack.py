"""`pack`: the part of a recipe's recordings that fits into a small file, chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.errors import InputError
from engine.training.data import Clip, read_corpus
from engine.training.packed import write_packed
from engine.training.settings import Recipe

BYTES = 2  # per sample
HEADER = 128  # bytes of the file's header per recording, more than any
CROPS = 2  # at least this many crops' length is kept of a recording: its crops begin at different samples


def pack(recipe: Recipe, data: Path, out: Path, mib: float = 40.0, held_out: int = 16) -> str:
    """Write recordings in float16, at the network's sample rate, into a file that `fit --data` reads.

    Held-out recordings are kept whole, evenly spaced. Of each recording to train on, the file has one part at a random
    place: all are cut to one length so that they fit, and shorter ones stay whole. Recordings are left out, evenly
    spaced, if that length would be below two crops. The same recordings give the same file.

    Args:
        recipe: selects the files, and holds the seed and the size of a crop.
        data: the folder of the recordings.
        out: the file to write.
        mib: the size that the file may have, in MiB.
        held_out: the number of recordings to validate with.

    Returns:
        What the file has, in one line.

    Raises:
        InputError: the recordings cannot be read, or nothing fits.
    """
    config = recipe.network
    corpus = read_corpus(data, recipe.data, config)
    kept = _evenly_spaced(corpus.held_out, held_out)
    budget = int(mib * 2**20) // BYTES - sum(len(clip.audio) + HEADER for clip in kept)
    shortest = (recipe.data.frames if config.n_mels else 1) * (config.hop if config.n_mels else recipe.data.samples)
    count = max(0, budget) // (CROPS * shortest + HEADER)
    if not count:
        raise InputError(f"mib: expected room for {len(kept)} held-out recordings and more, got {mib:g} MiB")
    train = _evenly_spaced(corpus.train, count)
    limit = common_length([len(clip.audio) for clip in train], budget - HEADER * len(train))
    parts = [(clip.name, _part(clip, limit, recipe.training.seed, n)) for n, clip in enumerate(train)]
    whole = [(clip.name, clip.audio) for clip in kept]
    size = write_packed(out, [*parts, *whole], config.sample_rate)
    seconds = sum(len(audio) for _, audio in parts) / config.sample_rate
    return (
        f"{len(parts)} of {len(corpus.train)} recordings to train on, {seconds / 60:.1f} minutes in parts of at most "
        f"{limit / config.sample_rate:.2f} s, and {len(kept)} held out: {size / 2**20:.1f} MiB"
    )


def common_length(lengths: Sequence[int], total: int) -> int:
    """Return the largest length to which all may be cut so that their sum is at most `total`.

    Args:
        lengths: of the recordings.
        total: of the parts.
    """
    rest = total
    ordered = sorted(lengths)
    for number, length in enumerate(ordered):
        limit = rest // (len(ordered) - number)
        if length > limit:
            return limit
        rest -= length
    return ordered[-1]


def _part(clip: Clip, limit: int, seed: int, number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    first = int(random.integers(max(len(clip.audio) - limit, 0) + 1))
    return clip.audio[first : first + limit]


def _evenly_spaced(clips: Sequence[Clip], count: int) -> list[Clip]:
    return [clips[i * len(clips) // count] for i in range(count)] if count < len(clips) else list(clips)
