"""The spectral losses follow their formula, in any precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.audio.filterbank import filter_bank
from engine.training.spectral import SpectralLoss
from tests.support.tolerances import TOLERANCES

RATE = 22050


def signals() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    recording = 0.3 * torch.sin(torch.arange(1024) / 9.0).expand(2, -1).double()
    noise = torch.randn(2, 2, 1024, generator=random, dtype=torch.float64)
    recording = recording + 0.01 * noise[0]  # a pure tone would leave the window's rounding in the other bands
    return recording + 0.1 * noise[1], recording


def spectrum(audio: np.ndarray, size: int) -> np.ndarray:
    """Return the magnitudes [F,frames] of centered frames, reflected at the ends."""
    padded = np.pad(audio, size // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    starts = range(0, len(audio) + 1, size // 4)
    return np.abs(np.fft.rfft([padded[s : s + size] * window for s in starts], axis=1)).T


def test_the_loss_follows_its_formula() -> None:
    audio, recording = signals()
    expected = np.zeros(2)
    for size, bands in ((128, 10), (512, 40)):
        bank = filter_bank(np.arange(size // 2 + 1) * RATE / size, "htk", bands, 0.0, RATE / 2)
        for i in range(2):
            y, r = spectrum(audio[i].numpy(), size), spectrum(recording[i].numpy(), size)
            logs = [np.log(np.maximum(bank @ values, 1e-5)) for values in (y, r)]
            expected[i] += np.abs(logs[0] - logs[1]).mean() + np.linalg.norm(y - r) / np.linalg.norm(r)
    loss = SpectralLoss((128, 512), RATE)(audio, recording)
    np.testing.assert_allclose(loss.numpy(), expected / 2, rtol=TOLERANCES["spectral_loss"])
    single = SpectralLoss((128, 512), RATE)(audio.float(), recording.float())
    np.testing.assert_allclose(single.numpy(), expected / 2, rtol=1e-4)


def test_equal_audio_has_no_loss_and_silence_a_finite_gradient() -> None:
    audio, recording = signals()
    loss = SpectralLoss((128, 256), RATE)
    assert loss(recording, recording).abs().max() < 1e-5 < loss(audio, recording).min()
    silence = torch.zeros(1, 1024, requires_grad=True)
    loss(silence, torch.zeros(1, 1024)).sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_the_loss_grows_with_the_difference_in_level(gain: float) -> None:
    _, recording = signals()
    loss = SpectralLoss((256,), RATE)
    near, far = loss(recording * gain**0.5, recording), loss(recording * gain, recording)
    assert (near > 0.2).all() and (far > 1.5 * near).all()
