"""Audio matched to its mel after the last step, of whole calls and of streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.audio.mel_match import MatchedStream, MelMatch, matched
from engine.audio.spectrogram import mel_settings
from engine.checks.arrays import FloatArray, on_device
from engine.config import Config
from engine.errors import InputError
from engine.sampling.item import Event, Item, Progress, in_parts, stop_if_set
from engine.sampling.loops import StreamWindow

if TYPE_CHECKING:
    import torch


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
    try:
        largest = float(gain) if is_number else math.nan
    except OverflowError:  # an integer beyond all floats
        largest = math.nan
    if not largest >= 1.0:
        raise InputError(
            "match_mel: expected the largest gain of a band, 1 to only attenuate, or more up to math.inf, "
            f"got {gain!r:.80}"
        )
    try:
        mel_settings(config)
    except InputError as error:
        raise InputError(f"match_mel: this network's mels cannot be computed from audio ({error})") from None
    return largest


def front_end(config: Config, gain: float, device: torch.device | None = None) -> MelMatch:
    """Return the match of a network's audio to its mels, see `check_match`; of tensors if a device is given."""
    settings = mel_settings(config)
    kind, fmax = settings["kind"], settings["fmax"]
    return MelMatch(config.n_mels, config.sample_rate, kind=kind, fmax=fmax, largest_gain=gain, device=device)


def match_items(
    audios: Sequence[Any],
    items: Sequence[Item],
    gain: float,
    config: Config,
    threads: int,
    device: torch.device | None,
    cancel: Event | None,
    progress: Progress | None = None,
) -> list[Any]:
    """Return audio [L_i] per item, matched to the mel of the item, on the device of the audio.

    Args:
        audios: [L_i] per item, arrays or tensors.
        items: with a mel.
        gain: see `check_match`.
        config: of the network.
        threads: threads that share an item's frames on a CPU.
        device: of the audio; None for arrays.
        cancel: stops the computation.
        progress: called with the fraction done, after every item.

    Raises:
        Cancelled: the event was set.
    """
    match, stop = front_end(config, gain, device), partial(stop_if_set, cancel)
    result = []
    reports = in_parts(progress, *(item.length for item in items))
    for audio, item, report in zip(audios, items, reports, strict=True):
        mel = on_device(item.mel, None)
        result.append(matched(audio, mel, match, threads=threads, each_round=stop))
        if report is not None:
            report(1.0)
    return result


class MatchedWindow:
    """The window of a stream whose audio is matched to its mel.

    Args:
        window: of the network's audio.
        match: see `front_end`.
    """

    def __init__(self, window: StreamWindow, match: MelMatch) -> None:
        self._window, self._match = window, MatchedStream(match)
        self._has_finished = False

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""
        return self._window.bytes + self._match.bytes

    @property
    def has_ended(self) -> bool:
        """Whether the length of the audio is known."""
        return self._window.has_ended

    def add(self, frames: FloatArray) -> None:
        """Append mel frames [M, n]."""
        self._window.add(frames)
        self._match.add(frames)

    def end(self, length: int) -> None:
        """Set the length of the audio in samples, once it is known."""
        self._window.end(length)

    def advance(self, whole_tiles: bool, cancelled: Callable[[], bool]) -> FloatArray | None:
        """Return the samples that became final, see `StreamWindow.advance`."""
        if (chunk := self._window.advance(whole_tiles, cancelled)) is not None:
            final: FloatArray = self._match.feed(on_device(chunk, None))
            return final
        if self._has_finished or not self.has_ended:
            return None
        self._has_finished = True
        rest: FloatArray = self._match.finish()
        return rest

    def release(self) -> None:
        """Free the memory."""
        self._window.release()
