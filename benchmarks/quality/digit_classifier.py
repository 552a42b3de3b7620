"""A small classifier of spoken digits, trained on real recordings, that judges generated ones.

It maps log-mels, 40 bands every 10 ms, to 64 features of a clip and these to ten digits. Its training clips are varied
in level and noise, so that its judgment of a noisy clip means something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.audio.wav import read_channels
from engine.checks.arrays import FloatArray

RATE, SAMPLES = 8000, 5120
BANDS, WINDOW, HOP = 40, 256, 80
EPOCHS, BATCH, SEED = 7, 32, 0


@dataclass(frozen=True, eq=False)
class Clips:
    """Recordings and their digits.

    Attributes:
        audio: [n, SAMPLES], padded with zeros at the end.
        digit: [n].
        names: file stems.
    """

    audio: FloatArray
    digit: npt.NDArray[np.int64]
    names: tuple[str, ...]


def read_digits(folder: Path) -> tuple[Clips, Clips]:
    """Read the free spoken digit dataset, DIGIT_NAME_INDEX.flac or .wav.

    Returns:
        The training and the test split; the test split is index 0 to 4.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in (".flac", ".wav"))
    parts: tuple[list[Path], list[Path]] = ([], [])
    for file in files:
        parts[int(file.stem.split("_")[2]) < 5].append(file)
    train, test = (_clips(part) for part in parts)
    return train, test


def fitted(audio: FloatArray) -> FloatArray:
    """Return [SAMPLES] that begin at the onset of the sound, with a peak of 0.9; longer audio is cut."""
    loud = np.flatnonzero(np.abs(audio) > 0.02 * np.abs(audio).max())
    sound = audio[max(loud[0] - 80, 0) : loud[-1] + 80] if len(loud) else audio
    out = np.zeros(SAMPLES, np.float32)
    sound = sound[:SAMPLES]
    out[: len(sound)] = sound * (0.9 / max(float(np.abs(sound).max()), 1e-6))
    return out


class Classifier(nn.Module):
    """A convolutional network from [B,SAMPLES] to 64 features and to ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW))
        self.register_buffer("filters", torch.from_numpy(mel_filters()))
        sizes = [1, 24, 32, 48]
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in pairwise(sizes)
        )
        self.features = nn.Linear(48 * (BANDS // 8), 64)
        self.digits = nn.Linear(64, 10)

    def embed(self, audio: Tensor) -> Tensor:
        """Return the features [B,64] of clips [B,SAMPLES]."""
        spectrum = torch.stft(audio, WINDOW, HOP, window=self.window, return_complex=True).abs()
        rows = torch.log((self.filters @ spectrum).clamp(min=1e-3))[:, None] / 3 + 1
        for convolution in self.convolutions:
            rows = convolution(rows)
        return torch.tanh(self.features(rows.amax(dim=3).flatten(1)))

    def forward(self, audio: Tensor) -> Tensor:
        """Return the logits [B,10] of clips [B,SAMPLES]."""
        logits: Tensor = self.digits(functional.dropout(self.embed(audio), 0.3, self.training))
        return logits


def train(clips: Clips) -> Classifier:
    """Train a classifier on recordings; it is the same one each time."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    model = Classifier()
    steps = EPOCHS * -(-len(clips.audio) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order = random.permutation(len(clips.audio))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            audio = torch.from_numpy(_varied(clips.audio[chosen], random))
            loss = functional.cross_entropy(model(audio), torch.from_numpy(clips.digit[chosen]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    return model.eval()


def judge(model: Classifier, audio: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the probabilities [n,10] and the features [n,64] of clips [n,SAMPLES]."""
    with torch.no_grad():
        features = torch.cat([model.embed(part) for part in torch.from_numpy(audio).split(64)])
        return model.digits(features).softmax(1).double().numpy(), features.double().numpy()


def _varied(audio: FloatArray, random: np.random.Generator) -> FloatArray:
    out = np.empty_like(audio)
    for i, clip in enumerate(audio):
        noise = random.standard_normal(SAMPLES) * 10 ** random.uniform(-4, -1.3) if random.random() < 0.7 else 0.0
        out[i] = np.roll(clip, int(random.integers(0, 500))) * 10 ** random.uniform(-0.5, 0.1) + noise
    return out


def _clips(files: Sequence[Path]) -> Clips:
    audio = np.stack([fitted(read_channels(file)[0].reshape(-1)) for file in files])
    return Clips(audio, np.array([int(file.stem[0]) for file in files]), tuple(file.stem for file in files))


def mel_filters() -> FloatArray:
    """Return [BANDS, WINDOW/2+1] triangles, evenly spaced on the mel scale (HTK) from 60 Hz to 3800 Hz."""
    ends = 2595 * np.log10(1 + np.array([60.0, 3800.0]) / 700)
    centers = 700 * (10 ** (np.linspace(*ends, BANDS + 2) / 2595) - 1)
    frequency = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    low, mid, high = (centers[i : i + BANDS, None] for i in range(3))
    rising, falling = (frequency - low) / (mid - low), (high - frequency) / (high - mid)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
