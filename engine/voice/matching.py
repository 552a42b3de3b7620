"""Audio matched to its mel after the last step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from engine.audio.mel_match import matched
from engine.audio.spectrogram import mel_settings
from engine.checks.arrays import FloatArray, on_device
from engine.config import Config
from engine.errors import InputError
from engine.sampling.item import Event, Item, stop_if_set


def check_match(gain: Any, config: Config) -> float | None:
    """Return the largest gain of a band, or None for audio as the network computes it.

    Args:
        gain: a number of at least 1, or None.
        config: of the network.

    Raises:
        InputError: it is something else, or this network's mels cannot be computed from audio.
    """
    if gain is None:
        return None
    is_number = isinstance(gain, (int, float, np.integer, np.floating)) and not isinstance(gain, bool)
    if not is_number or not float(gain) >= 1.0:
        raise InputError(
            "match_mel: expected the largest gain of a band, 1 to only attenuate, or more up to math.inf, "
            f"got {gain!r:.80}"
        )
    try:
        mel_settings(config)
    except InputError as error:
        raise InputError(f"match_mel: this network's mels cannot be computed from audio ({error})") from None
    return float(gain)


def match_items(
    audios: Sequence[Any], items: Sequence[Item], gain: float, config: Config, threads: int, event: Event | None
) -> list[FloatArray]:
    """Return audio [L_i] per item, matched to the mel of the item.

    Args:
        audios: [L_i] per item, arrays or tensors.
        items: with a mel.
        gain: see `check_match`.
        config: of the network.
        threads: threads that share an item's frames.
        event: stops the computation.

    Raises:
        Cancelled: the event was set.
    """
    settings, stop = mel_settings(config), partial(stop_if_set, event)
    rows = []
    for audio, item in zip(audios, items, strict=True):
        samples, mel = on_device(audio, None), on_device(item.mel, None)
        rows.append(
            matched(
                samples,
                mel,
                config.sample_rate,
                kind=settings["kind"],
                fmax=settings["fmax"],
                largest_gain=gain,
                threads=threads,
                each_round=stop,
            )
        )
    return rows
