"""RTISI-LA: a waveform from a mel spectrogram that is still arriving, without a network.

Griffin-Lim corrects the phases of all frames in every round, so it needs the whole mel. Here the rounds run on a window
of a few frames. The oldest of them becomes final, and the window moves on (Zhu, Beauregard & Wyse, "Real-time signal
estimation from modified short-time Fourier transform magnitude spectra", 2007).
"""

from __future__ import annotations

import numpy as np

from engine.audio.mel_inversion import SMALLEST, Inversion, bands_of
from engine.audio.overlap import LEAST_ENERGY, PARTS, Array, Spectrum, added, windowed
from engine.audio.spectrogram import HOP, KINDS, N_FFT, WINDOW
from engine.checks.arrays import FloatArray

AHEAD = 3  # frames of a window behind the one that becomes final
ROUNDS = 8  # corrections of the phases of a window
GROUP = 8  # frames whose magnitudes are found together
MOMENTUM = 0.99
INERTIA = MOMENTUM / (1.0 + MOMENTUM)
FAINT = 1e-6  # magnitude of a bin whose phase is drawn, because nothing precedes it
SQUARES = (WINDOW**2).reshape(PARTS, HOP)


def rtisi_la(
    mel: Array, sample_rate: int, *, kind: str = "lmnt", fmax: float | None = None, seed: int = 0
) -> FloatArray:
    """Compute the waveform of a whole mel: that of `PhaseStream`.

    Args:
        mel: float [M, T].
        sample_rate: sample rate in Hz.
        kind: kind of the mel.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        seed: of the phases where nothing determines them.

    Returns:
        float32 [256 T] in [-1, 1].
    """
    stream = PhaseStream(len(mel), sample_rate, kind=kind, fmax=fmax, seed=seed)
    return np.concatenate([stream.feed(mel), stream.finish()])


class PhaseStream:
    """The waveform of a mel that arrives in pieces; it does not depend on the pieces.

    A sample becomes final with the last frame that reaches it, once `AHEAD` further frames are known. Working memory
    does not grow with the length.

    Args:
        bands: M.
        sample_rate: sample rate in Hz.
        kind: kind of the mel.
        fmax: the highest frequency of the mel in Hz, None for the kind's.
        seed: of the phases where nothing determines them.
    """

    def __init__(
        self, bands: int, sample_rate: int, *, kind: str = "lmnt", fmax: float | None = None, seed: int = 0
    ) -> None:
        self._kind = kind
        self._inversion = Inversion(bands, sample_rate, kind, fmax, few=True)
        self._phases = np.random.default_rng(seed)
        self._bands: Array = np.empty((bands, 0))  # of the frames, less than a group, without magnitudes yet
        self._size: Array = np.empty((0, N_FFT // 2 + 1))  # magnitudes of the frames that are not final
        self._frames: Array = np.empty((0, N_FFT))  # the first of these frames: those of the last window
        self._spectrum: Spectrum = np.empty((0, N_FFT // 2 + 1), complex)  # before their last correction
        # Sums over the final frames, at the samples that later frames reach.
        self._sum: Array = np.zeros((PARTS - 1, HOP))
        self._energy: Array = np.zeros((PARTS - 1, HOP))
        self._skipped = KINDS[kind].pad  # samples of the front-end's padding that are left to drop
        self._missing = 0  # samples of the frames taken so far that are not returned yet

    @property
    def bytes(self) -> int:
        """Working memory in bytes."""
        return self._bands.nbytes + self._size.nbytes + self._frames.nbytes + self._spectrum.nbytes

    def feed(self, mel: Array) -> FloatArray:
        """Take mel frames [M, n], and return the samples that became final, maybe none."""
        self._bands = np.concatenate([self._bands, bands_of(mel, self._kind)], axis=1)
        self._missing += HOP * mel.shape[1]
        self._invert(self._bands.shape[1] // GROUP * GROUP)
        hops = []
        while len(self._size) > AHEAD:
            hops.append(self._advance())
        return self._audio(hops)

    def finish(self) -> FloatArray:
        """Return the rest of the waveform."""
        self._invert(self._bands.shape[1])
        hops = []
        while len(self._size):
            hops.append(self._advance())
        return self._audio([*hops, *(self._sum / np.maximum(self._energy, LEAST_ENERGY))])

    def _invert(self, count: int) -> None:
        """Find the magnitudes of the first frames, in groups: a sum may depend on the size of its group."""
        groups = [slice(first, min(first + GROUP, count)) for first in range(0, count, GROUP)]
        sizes = [self._inversion.magnitudes(self._bands[:, group]).T for group in groups]
        self._size = np.concatenate([self._size, *sizes])
        self._bands = self._bands[:, count:].copy()

    def _advance(self) -> Array:
        """Correct the phases of a window, and return the hop [256] that is final with its first frame."""
        size = self._size[: AHEAD + 1]
        base, sums = np.zeros((2, len(size) + PARTS - 1, HOP))
        base[: PARTS - 1], sums[: PARTS - 1] = self._sum, self._energy
        frames, previous = self._begin(size, base.copy(), sums), self._spectrum
        np.maximum(sums, LEAST_ENERGY, out=sums)
        for _ in range(ROUNDS):
            rebuilt = _spectrum((base + added(frames)) / sums)
            ahead = rebuilt.copy()
            ahead[: len(previous)] -= INERTIA * previous
            gain = np.abs(ahead)
            gain += SMALLEST
            ahead *= np.divide(size, gain, out=gain)
            frames, previous = windowed(ahead), rebuilt
        return self._commit(frames, previous)

    def _begin(self, size: Array, base: Array, sums: Array) -> Array:
        """Return the frames of a window: those of the last one, and new ones with the phases of what precedes them.

        Args:
            size: [n, 513] their magnitudes.
            base: [n + 3, 256] sum of the final frames; the frames of the window are added.
            sums: the same of the squared windows.
        """
        frames = list(self._frames)
        for place in range(len(size)):
            span = slice(place, place + PARTS)
            if place == len(frames):
                partial = _spectrum(base[span] / np.maximum(sums[span], LEAST_ENERGY))
                gain, drawn = np.abs(partial), np.exp(2j * np.pi * self._phases.random(partial.shape))
                phase = np.where(gain > FAINT, partial / np.maximum(gain, SMALLEST), drawn)
                frames.append(windowed(phase * size[place])[0])
            base[span] += frames[place].reshape(PARTS, HOP)
            sums[span] += SQUARES
        return np.array(frames)

    def _commit(self, frames: Array, rebuilt: Spectrum) -> Array:
        """Make the first frame of a window final, and return the hop [256] that no later frame reaches."""
        total, energy = frames[0].reshape(PARTS, HOP).copy(), SQUARES.copy()
        total[:-1] += self._sum
        energy[:-1] += self._energy
        self._sum, self._energy = total[1:], energy[1:]
        self._size, self._frames, self._spectrum = self._size[1:], frames[1:], rebuilt[1:]
        hop: Array = total[0] / np.maximum(energy[0], LEAST_ENERGY)
        return hop

    def _audio(self, hops: list[Array]) -> FloatArray:
        """Return what is due of hops [256] that became final."""
        samples = np.concatenate([np.empty(0), *hops])
        skipped = min(self._skipped, len(samples))
        self._skipped -= skipped
        samples = samples[skipped:][: self._missing]
        self._missing -= len(samples)
        audio: FloatArray = np.clip(samples, -1.0, 1.0).astype(np.float32)
        return audio


def _spectrum(audio: Array) -> Spectrum:
    """Return the spectrum [n, 513] of the frames of [n + 3, 256] samples."""
    last = len(audio) - PARTS + 1
    frames = np.concatenate([audio[part : part + last] for part in range(PARTS)], axis=1)
    frames *= WINDOW
    return np.fft.rfft(frames)
