from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES

from engine.errors import InputError, UnavailableError
from engine.frontend import BLOCK, filter_bank, mel

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CLIPS = ("LJ001-0017", "LJ001-0018", "LJ001-0019", "LJ001-0020")
RATE = 22050


def noise(n: int, seed: int = 0, scale: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).clip(-1, 1).astype(np.float32)


def compress(magnitude: np.ndarray) -> np.ndarray:
    return ((20 * np.log10(np.maximum(magnitude, 1e-5)) - 20 + 100) / 100).clip(0, 1)


def direct_filter_bank(rate: int) -> np.ndarray:
    """One triangle at a time, with the scalar formulas of HTK."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (20.0, rate / 2))
    edges = [700 * (10 ** ((low + (high - low) * i / 81) / 2595) - 1) for i in range(82)]
    bank = np.zeros((80, 513))
    for b in range(80):
        left, centre, right = edges[b : b + 3]
        for k in range(513):
            f = k * (rate // 2) / 512
            if left < f <= centre:
                bank[b, k] = (f - left) / (centre - left)
            elif centre < f < right:
                bank[b, k] = (right - f) / (right - centre)
    return bank


@pytest.mark.parametrize("clip", CLIPS)
def test_lmnt_matches_the_fixtures(clip: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    fixture, speech = SHARED / f"fixtures/mel/{clip}.npz", SHARED / f"data/ljspeech16/{clip}.flac"
    if not fixture.exists() or not speech.exists():
        pytest.skip("the shared fixtures are not beside the project")
    audio, rate = soundfile.read(speech, dtype="float32")
    expected = np.load(fixture)["lmnt"]
    got = mel(audio, rate)
    assert got.shape == expected.shape and got.dtype == np.float32
    assert np.abs(got - expected).max() <= TOLERANCES["mel_fixture"]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, RATE, 24000, 48000])
def test_filter_bank_is_the_direct_formula(rate: int) -> None:
    np.testing.assert_allclose(filter_bank(rate), direct_filter_bank(rate), rtol=0, atol=1e-9)


def test_one_frame_against_a_slow_dft() -> None:
    audio = noise(4096).astype(np.float64)
    t = np.arange(1024)
    window = np.sin(np.pi * t / 1024) ** 2
    for frame in (2, 7, 13):
        x = audio[frame * 256 - 512 : frame * 256 + 512] * window
        spectrum = np.exp(-2j * np.pi * np.outer(np.arange(513), t) / 1024) @ x
        magnitude = np.abs(spectrum) / math.sqrt(sum(window**2))
        expected = compress(direct_filter_bank(RATE) @ magnitude)
        assert np.abs(mel(audio, RATE)[:, frame] - expected).max() <= TOLERANCES["mel_formula"]


@pytest.mark.parametrize("n", [513, 1000, 1024, 1280, 5000, 256 * (2 * BLOCK + 3) + 17])
def test_every_frame_against_torch_stft(n: int) -> None:
    audio = noise(n, seed=n)
    window = torch.hann_window(1024, dtype=torch.float64)
    magnitude = (
        torch.stft(
            torch.from_numpy(audio).double(),
            1024,
            256,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        ).abs()
        / window.pow(2).sum().sqrt()
    )
    expected = compress(direct_filter_bank(RATE) @ magnitude.numpy())
    got = mel(audio, RATE)
    assert got.shape == expected.shape == (80, 1 + n // 256)
    assert np.abs(got - expected).max() <= TOLERANCES["mel_formula"]


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 4000.0, 9000.0])
def test_a_sine_peaks_in_its_band(frequency: float) -> None:
    low, high = (2595 * math.log10(1 + f / 700) for f in (20.0, RATE / 2))
    band = (2595 * math.log10(1 + frequency / 700) - low) / (high - low) * 81 - 1  # the band centred on frequency
    audio = 0.5 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    peaks = mel(audio, RATE)[:, 4:-4].argmax(axis=0)
    assert np.abs(peaks - band).max() <= 1


def test_silence_is_zero_and_full_scale_stays_in_range() -> None:
    assert not mel(np.zeros(3000), RATE).any()
    loud = mel(np.sign(noise(20000)), RATE)
    assert loud.min() >= 0 and loud.max() <= 1


def test_audio_is_clipped_before_the_transform() -> None:
    audio = noise(4000, scale=0.5) * 1.5
    assert np.abs(audio).max() > 1
    np.testing.assert_array_equal(mel(audio, RATE), mel(audio.clip(-1, 1), RATE))


def test_the_callers_audio_is_left_alone_and_may_be_strided() -> None:
    stereo = np.stack([noise(4000, seed=1) * 1.9, noise(4000, seed=2)], axis=1)
    before = stereo.copy()
    got = mel(stereo[:, 0], RATE)
    np.testing.assert_array_equal(stereo, before)
    np.testing.assert_array_equal(got, mel(stereo[:, 0].copy(), RATE))
    frozen = noise(4000)
    frozen.flags.writeable = False
    mel(frozen, RATE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_in_torch_out(dtype: torch.dtype) -> None:
    audio = torch.from_numpy(noise(4000)).to(dtype)
    got = mel(audio.requires_grad_(), RATE)
    assert isinstance(got, torch.Tensor) and got.dtype == torch.float32 and not got.requires_grad
    np.testing.assert_array_equal(got.numpy(), mel(audio.detach().numpy(), RATE))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ([0.0] * 1000, "audio: expected a numpy array or a torch tensor, got list"),
        (
            np.zeros((1, 1000), np.float32),
            r"audio: expected one channel of shape \[n\], got shape \(1, 1000\)",
        ),
        (torch.zeros(1, 1000), "one channel"),
        (np.zeros(1000, np.int16), "audio: expected float32 or float64, got int16; divide .* by 32768"),
        (torch.zeros(1000, dtype=torch.int32), "got int32"),
        (np.zeros(1000, np.float16), "got float16"),
        (torch.zeros(1000, dtype=torch.bfloat16), "got bfloat16"),
        (np.zeros(1000, complex), "got complex128"),
        (np.zeros(0, np.float32), "audio: expected more than 512 samples .*, got 0"),
        (np.zeros(512, np.float32), "got 512"),
        (np.where(np.arange(1000) == 700, np.nan, 0.0), "audio: expected finite values"),
        (np.where(np.arange(1000) == 700, -np.inf, 0.0), "audio: expected finite values"),
        (noise(1000) * 20000, r"audio: expected values in \[-1, 1\], got .* by 32768"),
        (-np.full(1000, 3.0), r"audio: expected values in \[-1, 1\], got -3 to -3"),
    ],
)
def test_bad_audio_is_refused(audio: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mel(audio, RATE)


@pytest.mark.parametrize("rate", [0, -1, 999, 400000, 22050.0, True, "22050", None])
def test_bad_sample_rate_is_refused(rate: object) -> None:
    with pytest.raises(InputError, match="sample_rate: expected an integer from 1000 to 384000 Hz"):
        mel(noise(1000), rate)  # type: ignore[arg-type]


def test_kinds() -> None:
    for kind in ("tacotron", "hifigan", "speechbrain"):
        with pytest.raises(UnavailableError, match=f"kind '{kind}' is not built yet: expected 'lmnt'"):
            mel(noise(1000), RATE, kind=kind)
    for kind in ("LMNT", "", None, ["lmnt"]):
        with pytest.raises(InputError, match="kind: expected one of lmnt, tacotron, hifigan, speechbrain, got"):
            mel(noise(1000), RATE, kind=kind)  # type: ignore[arg-type]
