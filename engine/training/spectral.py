"""The distance of generated audio from its recording, in log-mels and magnitudes of several windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine.audio.filterbank import filter_bank

BANDS_PER_SAMPLE = 80 / 1024  # of a window: as many as the network's mel has in its window of 1024
FLOOR = 1e-5  # the least magnitude of a band, as in the logarithmic mels of `engine.audio.spectrogram`
POWER_FLOOR = 1e-12  # below the root, whose slope at 0 is infinite


class SpectralLoss(nn.Module):
    """Distances of log-mels plus spectral convergence (Yamamoto et al., ICASSP 2020), averaged over the windows.

    With S_w the magnitudes of frames of w samples and M_w their mel::

        mean over w of  mean |log M_w(y) - log M_w(r)|  +  ||S_w(y) - S_w(r)|| / ||S_w(r)||

    A mel weighs the bands as an ear does. A magnitude loss on linear bins alone leaves an electric noise.

    Args:
        windows: w in samples; frames overlap by three quarters.
        sample_rate: of the audio in Hz.
    """

    def __init__(self, windows: Sequence[int], sample_rate: int) -> None:
        super().__init__()
        self.windows = tuple(windows)
        for size in self.windows:
            frequencies = np.arange(size // 2 + 1) * sample_rate / size
            bands = max(1, round(BANDS_PER_SAMPLE * size))
            bank = filter_bank(frequencies, "htk", bands, 0.0, sample_rate / 2)
            self.register_buffer(f"bank{size}", torch.from_numpy(bank).float(), persistent=False)
            self.register_buffer(f"window{size}", torch.hann_window(size), persistent=False)

    def forward(self, audio: Tensor, recording: Tensor) -> Tensor:
        """Return the distance of every example, [B].

        Args:
            audio: [B,L], L longer than half the largest window.
            recording: [B,L].
        """
        total = torch.zeros(len(audio), dtype=audio.dtype, device=audio.device)
        for size in self.windows:
            actual, expected = (self._magnitudes(signal, size) for signal in (audio, recording))
            bank = getattr(self, f"bank{size}").to(audio.dtype)
            logs = [torch.log((bank @ values).clamp_min(FLOOR)) for values in (actual, expected)]
            total = total + (logs[0] - logs[1]).abs().mean(dim=(1, 2))
            distance, norm = (values.square().sum(dim=(1, 2)) for values in (actual - expected, expected))
            total = total + torch.sqrt(distance.clamp_min(POWER_FLOOR) / norm.clamp_min(POWER_FLOOR))
        return total / len(self.windows)

    def _magnitudes(self, audio: Tensor, size: int) -> Tensor:
        return magnitudes(audio, getattr(self, f"window{size}").to(audio.dtype))


def magnitudes(audio: Tensor, window: Tensor) -> Tensor:
    """Return the magnitudes [B,F,frames] of audio [B,L] in frames that overlap by three quarters."""
    size = len(window)
    spectrum = torch.stft(audio, size, size // 4, window=window, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(dim=-1)
    return torch.sqrt(power.clamp_min(POWER_FLOOR))
