"""Mel spectrograms against the formula, against torch.stft and against published fixtures."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from engine.audio.spectrogram import BLOCK, KINDS, mel, mel_settings
from engine.config import MEL_KINDS, Config
from engine.errors import InputError
from tests.support.banks import direct_bank
from tests.support.paths import SHARED
from tests.support.tolerances import TOLERANCES

CLIPS = ("LJ001-0017", "LJ001-0018", "LJ001-0019", "LJ001-0020")
RATE = 22050


def noise(n: int, seed: int = 0, scale: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).clip(-1, 1).astype(np.float32)


def compress(magnitude: np.ndarray) -> np.ndarray:
    return ((20 * np.log10(np.maximum(magnitude, 1e-5)) - 20 + 100) / 100).clip(0, 1)


def direct_filter_bank(rate: int) -> np.ndarray:
    return direct_bank("htk", rate, 80, 20.0, rate / 2, rate // 2)


def through_torch(audio: np.ndarray, rate: int, kind: str, n_mels: int = 80, fmax: float = 8000.0) -> np.ndarray:
    """Compute the logarithmic kinds as in their published code, in float64."""
    x = torch.from_numpy(audio).double()
    window = torch.hann_window(1024, dtype=torch.float64)
    options = {"window": window, "return_complex": True}
    if kind == "hifigan":
        padded = torch.nn.functional.pad(x[None, None], (384, 384), mode="reflect")[0, 0]
        spectrum = torch.stft(padded, 1024, 256, center=False, **options)
        magnitude = torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9)
    else:
        magnitude = torch.stft(x, 1024, 256, center=True, pad_mode="reflect", **options).abs()
    nyquist = rate // 2 if kind == "speechbrain" else rate / 2
    bank = torch.from_numpy(direct_bank("slaney", rate, n_mels, 0.0, fmax, nyquist))
    return torch.log(torch.clamp(bank @ magnitude, min=1e-5)).numpy()


@pytest.mark.parametrize("kind", ["lmnt", "tacotron"])
@pytest.mark.parametrize("clip", CLIPS)
def test_against_the_fixtures(clip: str, kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    fixture, speech = SHARED / f"fixtures/mel/{clip}.npz", SHARED / f"data/ljspeech16/{clip}.flac"
    if not fixture.exists() or not speech.exists():
        pytest.skip("the shared fixtures are not beside the project")
    audio, rate = soundfile.read(speech, dtype="float32")
    expected = np.load(fixture)[kind]
    got = mel(audio, rate, kind)
    assert got.shape == expected.shape and got.dtype == np.float32
    assert np.abs(got - expected).max() <= TOLERANCES["mel_fixture" if kind == "lmnt" else "mel_fixture_log"]


def test_frames_against_a_direct_dft() -> None:
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
    band = (2595 * math.log10(1 + frequency / 700) - low) / (high - low) * 81 - 1  # the band centered on the frequency
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


def test_the_audio_is_not_changed_and_may_be_strided() -> None:
    stereo = np.stack([noise(4000, seed=1) * 1.9, noise(4000, seed=2)], axis=1)
    before = stereo.copy()
    got = mel(stereo[:, 0], RATE)
    np.testing.assert_array_equal(stereo, before)
    np.testing.assert_array_equal(got, mel(stereo[:, 0].copy(), RATE))
    frozen = noise(4000)
    frozen.flags.writeable = False
    mel(frozen, RATE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_gives_a_tensor(dtype: torch.dtype) -> None:
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
def test_impossible_audio(audio: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mel(audio, RATE)


@pytest.mark.parametrize("rate", [0, -1, 999, 400000, 22050.0, True, "22050", None])
def test_impossible_sample_rates(rate: object) -> None:
    with pytest.raises(InputError, match="sample_rate: expected an integer from 1000 to 384000 Hz"):
        mel(noise(1000), rate)  # type: ignore[arg-type]


LOG_KINDS = ["tacotron", "hifigan", "speechbrain"]


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize("n", [513, 1000, 1280, 5000, 256 * (BLOCK + 3) - 1, 256 * (2 * BLOCK)])
def test_the_logarithmic_kinds_against_torch_stft(kind: str, n: int) -> None:
    audio = noise(n, seed=n)
    audio[: n // 2] *= 1e-5  # quiet enough for the floors
    expected = through_torch(audio, RATE, kind)
    got = mel(audio, RATE, kind)
    assert got.shape == expected.shape == (80, n // 256 if kind == "hifigan" else 1 + n // 256)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= TOLERANCES["mel_formula_log"]


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize(
    ("rate", "n_mels", "fmax"), [(24000, 100, 12000), (16000, 80, 8000), (48000, 128, 16000.5), (11025, 40, 5512)]
)
def test_sizes(kind: str, rate: int, n_mels: int, fmax: float) -> None:
    audio = noise(3000)
    got = mel(audio, rate, kind, n_mels=n_mels, fmax=fmax)
    assert np.abs(got - through_torch(audio, rate, kind, n_mels, fmax)).max() <= TOLERANCES["mel_formula_log"]
    assert len(mel(audio, rate, "lmnt", n_mels=n_mels)) == n_mels


def test_bands_begin_at_fmin() -> None:
    audio = 0.5 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)
    for kind in MEL_KINDS:
        low, high = mel(audio, RATE, kind)[:, 40], mel(audio, RATE, kind, fmin=1000)[:, 40]
        assert low.max() - high.max() > (0.3 if kind == "lmnt" else 3)


def test_differences_between_the_kinds() -> None:
    audio = noise(5000)
    # torchaudio and librosa place the bins differently for odd rates only
    np.testing.assert_array_equal(mel(audio, RATE, "tacotron"), mel(audio, RATE, "speechbrain"))
    assert np.abs(mel(audio, 16001, "tacotron") - mel(audio, 16001, "speechbrain")).max() > 1e-5
    # hifigan's frame t lies between the centered frames t and t + 1
    assert mel(audio, RATE, "hifigan").shape[1] + 1 == mel(audio, RATE, "tacotron").shape[1]
    shifted = mel(np.concatenate([noise(128, 9), audio]), RATE, "tacotron")[:, 4:15]
    np.testing.assert_allclose(mel(audio, RATE, "hifigan")[:, 3:14], shifted, atol=1e-3)


def test_silence_has_a_floor() -> None:
    for kind in LOG_KINDS:
        np.testing.assert_array_equal(mel(np.zeros(3000), RATE, kind), np.float32(math.log(1e-5)))


def test_only_lmnt_clips_the_audio() -> None:
    audio = noise(4000, scale=0.5) * 1.5
    for kind in LOG_KINDS:
        assert np.abs(mel(audio, RATE, kind) - mel(audio.clip(-1, 1), RATE, kind)).max() > 1e-3


def test_memory_does_not_grow_with_the_audio() -> None:
    audio = noise(256 * 20000)
    for kind in MEL_KINDS:
        tracemalloc.start()
        result = mel(audio, RATE, kind)
        peak = tracemalloc.get_traced_memory()[1] - result.nbytes
        tracemalloc.stop()
        assert peak < min(audio.nbytes, 20e6)  # less than a copy of the audio


@pytest.mark.parametrize("kind", MEL_KINDS)
def test_the_shortest_audio(kind: str) -> None:
    pad = 384 if kind == "hifigan" else 512
    assert mel(noise(pad + 1), RATE, kind).shape == (80, 1 if kind == "hifigan" else 3)
    with pytest.raises(InputError, match=f"audio: expected more than {pad} samples .*, got {pad}"):
        mel(noise(pad), RATE, kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tacotron", "sample_rate": 8000}, "fmax: expected at most half the sample rate, 4000 Hz, got 8000 "),
        ({"kind": "hifigan", "fmax": 11026}, r"fmax: expected at most half the sample rate, 11025 Hz, got 11026$"),
        ({"fmax": 11025.5}, "fmax: expected at most half"),
        ({"fmin": 11025}, "fmin: expected from 0 to less than fmax, 11025 Hz, got 11025"),
        ({"fmin": 5000, "fmax": 4000.0}, "fmin: expected from 0 to less than fmax, 4000 Hz, got 5000"),
        ({"fmin": -1}, "fmin: expected from 0"),
        ({"fmax": 0}, "fmin: expected from 0 to less than fmax, 0 Hz, got 20"),
        ({"fmax": math.nan}, "fmax: expected a frequency in Hz, got nan"),
        ({"fmax": math.inf}, "fmax: expected a frequency in Hz, got inf"),
        ({"fmax": 10**400}, "fmax: expected a frequency in Hz, got 1000"),
        ({"fmin": "20"}, "fmin: expected a frequency in Hz, got '20'"),
        ({"fmin": True}, "fmin: expected a frequency in Hz, got True"),
        ({"n_mels": 0}, "n_mels: expected an integer from 1 to 1024, got 0"),
        ({"n_mels": 1025}, "n_mels: expected"),
        ({"n_mels": 80.0}, "n_mels: expected"),
        ({"n_mels": None}, "n_mels: expected"),
    ],
)
def test_impossible_sizes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mel(noise(1000), **{"sample_rate": RATE, **options})


def test_kinds() -> None:
    assert tuple(KINDS) == MEL_KINDS
    for kind in ("LMNT", "", None, ["lmnt"]):
        with pytest.raises(InputError, match="kind: expected one of lmnt, tacotron, hifigan, speechbrain, got"):
            mel(noise(1000), RATE, kind=kind)  # type: ignore[arg-type]


def test_settings_of_a_checkpoint() -> None:
    assert mel_settings(Config()) == {"kind": "lmnt", "n_mels": 80, "fmax": None}
    assert mel_settings(Config(mel_kind="tacotron")) == {"kind": "tacotron", "n_mels": 80, "fmax": None}
    amphion = Config(family="amphion", mel_kind="hifigan", sample_rate=24000, n_mels=100)
    assert mel_settings(amphion) == {"kind": "hifigan", "n_mels": 100, "fmax": 12000.0}
    audio = noise(3000)
    got = mel(audio, amphion.sample_rate, **mel_settings(amphion))
    assert np.abs(got - through_torch(audio, 24000, "hifigan", 100, 12000)).max() <= TOLERANCES["mel_formula_log"]
    for config, message in (
        (
            Config(n_mels=0, upsample_strides=(), mel_kind=None),
            "config: expected a network that takes a mel, got an unconditional one",
        ),
        (Config(mel_kind=None), "config: expected a checkpoint that records its kind of mel, got one without"),
        (Config(upsample_strides=(16, 20)), "config: expected a hop of 256 samples, got 320"),
    ):
        with pytest.raises(InputError, match=message):
            mel_settings(config)
