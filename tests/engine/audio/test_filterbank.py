"""Filter banks against the direct formula and librosa."""

from __future__ import annotations

import numpy as np
import pytest

from engine.audio.filterbank import SCALES, filter_bank
from tests.support.banks import direct_bank

SIZES = [(22050, 80, 0.0, 8000.0), (24000, 100, 0.0, 12000.0), (16000, 80, 0.0, 8000.0), (48000, 128, 40.0, 16000.0)]

# librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000, dtype=float64), librosa 0.11.0:
# row, first and last bin that is not 0, bin of the largest value, largest value, sum of the row.
LIBROSA = [
    (0, 1, 3, 2, 0.0226513902105538, 0.0453027804211076),
    (10, 18, 20, 19, 0.0264925358502063, 0.0491439260607601),
    (24, 42, 44, 43, 0.02321001204630218, 0.04586140225685599),
    (30, 53, 56, 54, 0.01725950468669133, 0.04637007224563365),
    (45, 94, 100, 97, 0.01208103066783534, 0.046747730434505336),
    (60, 166, 179, 172, 0.006637413294323858, 0.04631116664600793),
    (79, 345, 371, 358, 0.003265992825300361, 0.04641479418463011),
]


def bins(rate: float) -> np.ndarray:
    return np.linspace(0.0, rate / 2, 513)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("rate", "n_mels", "fmin", "fmax"), [*SIZES, (8000, 80, 20.0, 4000.0), (11025, 3, 0.5, 5512.5)]
)
def test_against_the_direct_formula(scale: str, rate: int, n_mels: int, fmin: float, fmax: float) -> None:
    bank = filter_bank(bins(rate), scale, n_mels, fmin, fmax)
    assert bank.shape == (n_mels, 513) and bank.dtype == np.float64
    np.testing.assert_allclose(bank, direct_bank(scale, rate, n_mels, fmin, fmax, rate / 2), rtol=0, atol=1e-9)


def test_values_of_librosa() -> None:
    bank = filter_bank(bins(22050), "slaney", 80, 0.0, 8000.0)
    for row, first, last, peak, value, total in LIBROSA:
        assert np.flatnonzero(bank[row])[[0, -1]].tolist() == [first, last] and bank[row].argmax() == peak
        np.testing.assert_allclose([bank[row, peak], bank[row].sum()], [value, total], rtol=1e-12)


@pytest.mark.parametrize(("rate", "n_mels", "fmin", "fmax"), SIZES)
def test_against_librosa(rate: int, n_mels: int, fmin: float, fmax: float) -> None:
    filters = pytest.importorskip("librosa.filters", reason="librosa is not in the test extra: it needs numba")
    expected = filters.mel(sr=rate, n_fft=1024, n_mels=n_mels, fmin=fmin, fmax=fmax, dtype=np.float64)
    np.testing.assert_allclose(filter_bank(bins(rate), "slaney", n_mels, fmin, fmax), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_hz_inverts_mel(scale: str) -> None:
    hz = np.linspace(0, 24000, 4801)
    pitch = SCALES[scale]
    np.testing.assert_allclose(pitch.hz(pitch.mel(hz)), hz, rtol=1e-12, atol=1e-9)
    assert (np.diff(pitch.mel(hz)) > 0).all()
