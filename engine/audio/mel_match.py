"""Correction of a waveform towards a mel spectrogram, band by band, as a whole or piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.audio.library import double, empty, library, packed, single
from engine.audio.mel_inversion import SMALLEST, Triangles, bands_of
from engine.audio.overlap import PARTS, Array, Run, Spectrum, block_size, in_order, in_rounds, shared_by
from engine.audio.spectrogram import HOP, KINDS, N_FFT, bank_of
from engine.checks.arrays import FloatArray, on_device

if TYPE_CHECKING:
    import torch

ROUNDS = 2  # in a trial of four clips, more changed little
DELAY = N_FFT + (ROUNDS - 1) * (PARTS - 1) * HOP - 1  # samples that a stream waits for behind a sample
PIECE = 1024  # frames that are matched at a time


class MelMatch:
    """Scales the bands of audio towards those of a mel.

    With S = STFT(x), B the filter bank of the mel and m its magnitudes, a round is::

        g = min(m / (B |S|), largest_gain),  x <- ISTFT(S * (transpose(B) g) / (transpose(B) 1))

    A bin takes the mean gain of the bands that hold it. Bins of no band stay as they are. A gain of at most 1 removes
    what the mel does not have, such as the noise of a network between words. Larger gains also restore what is missing,
    which helps only if a waveform with this mel exists.

    Attributes:
        count: M.
        device: of the audio, see below.
        pad: samples by which the front-end of the mel extends the audio at its beginning.

    Args:
        bands: M.
        sample_rate: sample rate in Hz.
        kind: kind of the mel, a key of `engine.audio.spectrogram.KINDS`.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        largest_gain: of a band in each round, at least 1; math.inf for no limit.
        device: of audio in tensors; None for arrays.
    """

    def __init__(
        self,
        bands: int,
        sample_rate: int,
        *,
        kind: str = "lmnt",
        fmax: float | None = None,
        largest_gain: float = 1.0,
        device: torch.device | None = None,
    ) -> None:
        bank = bank_of(kind, sample_rate, bands, None, fmax)
        self._triangles = Triangles(bank, device)
        self._outside = on_device((bank.sum(axis=0) <= 0.0)[:, None], device)
        self._kind, self._largest, self.device = kind, largest_gain, device
        self.count, self.pad = bands, KINDS[kind].pad

    def bands(self, mel: Array) -> Array:
        """Return the magnitudes [M, T] of a mel, an array, without its compression, on the device."""
        return bands_of(mel, self._kind, self.device)

    def padded(self, audio: Array, frames: int) -> Array:
        """Return audio that is extended by its mirror image, as the front-end does, for all frames of its mel."""
        length = HOP * (frames - 1) + N_FFT
        places = np.pad(np.arange(len(audio)), (self.pad, max(0, length - self.pad - len(audio))), "reflect")[:length]
        return audio[on_device(places, self.device)]  # type: ignore[no-any-return]

    def run(
        self, padded: Array, bands: Array, run: Run = in_order, each_round: Callable[[], None] | None = None
    ) -> FloatArray:
        """Return the audio of frames: float32 in [-1, 1], of the length of `padded`.

        Args:
            padded: [256 T + 768].
            bands: [M, T] magnitudes.
            run: see `in_rounds`.
            each_round: see `in_rounds`.
        """

        def scale(spectrum: Spectrum, block: slice) -> Spectrum:
            sums = library(spectrum).clip(self._triangles.collect(abs(spectrum).T), SMALLEST, None)
            gains = library(spectrum).clip(bands[:, block] / sums, None, self._largest)
            spectrum *= (self._triangles.mean(gains) + self._outside).T
            return spectrum

        audio = in_rounds(padded, ROUNDS, scale, run, each_round)
        return single(library(audio).clip(audio, -1.0, 1.0))  # type: ignore[no-any-return]


def matched(
    audio: Any, mel: Array, match: MelMatch, *, threads: int = 1, each_round: Callable[[], None] | None = None
) -> Any:
    """Return audio [256 T] whose bands are scaled towards those of its mel.

    Working memory does not grow with the length.

    Args:
        audio: float32 [256 T], an array, or a tensor on the device of the match.
        mel: float [M, T], an array.
        match: the front-end and the largest gain.
        threads: threads that share the frames of arrays. The result does not depend on them.
        each_round: called before every round; an exception of it ends the computation.
    """
    result, done = library(audio).empty_like(audio), 0
    piece = block_size(audio, PIECE)
    with shared_by(threads if match.device is None else 1) as run:
        stream = MatchedStream(match, run, each_round)
        for first in range(0, mel.shape[1], piece):
            stream.add(mel[:, first : first + piece])
            part = stream.feed(audio[HOP * first : HOP * (first + piece)])
            result[done : done + len(part)] = part
            done += len(part)
        result[done:] = stream.finish()
    return result


class MatchedStream:
    """The audio of `MelMatch.run`, identical to the last byte, while the audio is still arriving.

    It follows the audio at a distance of `DELAY` samples or less. The frames of the mel come before their audio.

    Args:
        match: the front-end and the largest gain.
        run: see `in_rounds`.
        each_round: see `in_rounds`.
    """

    def __init__(self, match: MelMatch, run: Run = in_order, each_round: Callable[[], None] | None = None) -> None:
        self._match, self._run, self._each_round = match, run, each_round
        self._first = 0  # the frame with which the bands and the extended audio begin
        self._bands = match.bands(np.empty((match.count, 0)))
        self._padded: Array = empty((0,), self._bands)
        self._nothing = single(self._padded)
        self._returned = 0  # samples of the extended audio; 0 before it is extended

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""
        return self._bands.nbytes + self._padded.nbytes

    def add(self, mel: Array) -> None:
        """Append mel frames [M, n]."""
        self._bands = library(self._bands).concatenate([self._bands, self._match.bands(mel)], axis=1)

    def feed(self, audio: Any) -> Any:
        """Take audio [n], and return what became final, maybe nothing."""
        pad = self._match.pad
        self._padded = library(audio).concatenate([self._padded, double(audio)])
        if not self._returned:
            if len(self._padded) <= pad:  # too few for the mirror image
                return self._nothing
            mirrored = library(audio).flip(self._padded[1 : pad + 1], (0,))
            self._extend(library(audio).concatenate([mirrored, self._padded]))
        frames = (len(self._padded) - N_FFT) // HOP + 1
        return self._take(frames, HOP * (self._first + frames - (ROUNDS - 1) * (PARTS - 1)))

    def finish(self) -> Any:
        """Return the rest of the audio."""
        frames = self._bands.shape[1]
        total = self._first + frames
        if not total:
            return self._nothing
        if not self._returned:
            self._extend(self._match.padded(self._padded, total))
        missing = HOP * (frames - 1) + N_FFT - len(self._padded)
        mirrored = library(self._padded).flip(self._padded[-1 - missing : -1], (0,))
        self._padded = library(self._padded).concatenate([self._padded, mirrored])
        return self._take(frames, self._match.pad + HOP * total)

    def _extend(self, padded: Array) -> None:
        self._padded, self._returned = padded, self._match.pad

    def _take(self, frames: int, end: int) -> Any:
        """Return the audio up to a sample of the extended audio, from this many frames, and drop what is not needed."""
        if end <= self._returned:
            return self._nothing
        padded, bands = self._padded[: HOP * (frames - 1) + N_FFT], self._bands[:, :frames]
        audio = self._match.run(padded, bands, self._run, self._each_round)
        begin = HOP * self._first
        result = audio[self._returned - begin : end - begin]
        self._returned = end
        past = max(0, end // HOP - ROUNDS * (PARTS - 1) - self._first)  # frames behind all that follows
        self._first += past
        self._bands, self._padded = packed(self._bands[:, past:]), self._padded[HOP * past :]
        return result
