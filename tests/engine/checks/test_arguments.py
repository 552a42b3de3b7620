from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.checks.arguments import (
    MAX_SEED,
    check_clip_length,
    check_fraction,
    check_guidance,
    check_noise,
    check_number,
    check_recording,
    check_reflection,
    check_sample_rate,
    check_seed,
)
from engine.config import Config
from engine.errors import InputError

CONFIG_16K = Config(n_mels=0, upsample_strides=(), mel_kind=None, sample_rate=16000)


def test_sample_rates() -> None:
    assert check_sample_rate(22050) == 22050 and type(check_sample_rate(np.int64(8000))) is int
    assert check_sample_rate(1000) == 1000 and check_sample_rate(384000) == 384000
    for bad in (999, 384001, -1, 22050.0, "22050", None, True):
        with pytest.raises(InputError, match="sample_rate: expected an integer from 1000 to 384000 Hz, got"):
            check_sample_rate(bad)


@pytest.mark.parametrize(
    ("seed", "n", "seeds"),
    [
        (0, 1, [0]),
        (7, 3, [7, 8, 9]),
        (np.uint64(MAX_SEED), 1, [MAX_SEED]),
        (MAX_SEED - 1, 2, [MAX_SEED - 1, MAX_SEED]),
        ([5, 5, 1], 3, [5, 5, 1]),
        ((4,), 1, [4]),
        (range(2, 8, 2), 3, [2, 4, 6]),
        (np.array([3, 1], np.uint64), 2, [3, 1]),
        (np.array(MAX_SEED - 1, np.uint64), 2, [MAX_SEED - 1, MAX_SEED]),
        (torch.tensor(6), 2, [6, 7]),
    ],
)
def test_seeds(seed: Any, n: int, seeds: list[int]) -> None:
    got = check_seed(seed, n)
    assert got == seeds and all(type(s) is int for s in got)


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, r"seed: expected integers from 0 to 2\*\*64 - 1, got -1"),
        (2**64, "got 18446744073709551616"),
        (MAX_SEED, "got 18446744073709551616"),  # the second item's
        (True, "seed: expected an integer or one integer per item, got True"),
        (1.0, "got 1.0"),
        (None, "got None"),
        ("1", "got '1'"),
        (np.zeros((2, 1), int), "seed: expected an integer or one integer per item"),
        ([1], r"seed: expected one seed per item \(2\), got 1"),
        ([1, 2, 3], r"seed: expected one seed per item \(2\), got 3"),
        ([1, True], r"seed\[1\]: expected an integer, got True"),
        ([1.0, 2], r"seed\[0\]: expected an integer, got 1.0"),
        (np.zeros(2), r"seed\[0\]: expected an integer"),
        (np.array(1.0), "got 1.0"),
        (np.array(True), "got True"),
        (torch.tensor(2.5), "got 2.5"),
        (np.ma.masked_array([1, 2], [False, True]), "seed: expected an integer or one integer per item"),
        (np.ma.masked_array(1, False), "seed: expected an integer or one integer per item"),
        (np.zeros(2, bool), r"seed\[0\]: expected an integer"),
        ([1, -2], "got -2"),
        ([1, 2**64], "got 18446744073709551616"),
    ],
)
def test_bad_seeds_are_refused(seed: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_seed(seed, 2)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_noise_is_split_by_item_without_a_copy() -> None:
    x_t, z = normal(3, 512), normal(5, 3, 512)
    for i, (x, steps) in enumerate(check_noise((x_t, z), [512] * 3, 6)):
        assert x.shape == (512,) and steps.shape == (5, 512) and x.dtype == steps.dtype == np.float32
        np.testing.assert_array_equal(x, x_t[i])
        np.testing.assert_array_equal(steps, z[:, i])
        assert np.shares_memory(x, x_t) and np.shares_memory(steps, z)


def test_one_item_needs_no_batch_axis() -> None:
    x_t, z = normal(512), normal(5, 512)
    for pair in ((x_t, z), (x_t[None], z[:, None]), (x_t, z[:, None]), [x_t[None], z]):
        ((x, steps),) = check_noise(pair, [512], 6)
        np.testing.assert_array_equal(x, x_t)
        np.testing.assert_array_equal(steps, z)


def test_other_sources_of_noise() -> None:
    x_t, z = normal(2, 256).astype(np.float64), torch.from_numpy(normal(5, 2, 256)).requires_grad_()
    pairs = check_noise((x_t, z), [256, 256], 6)
    assert all(x.dtype == steps.dtype == np.float32 for x, steps in pairs)
    np.testing.assert_array_equal(pairs[1][1], z.detach().numpy()[:, 1])
    ((_, steps),) = check_noise((normal(256), normal(0, 256)), [256], 1)
    assert steps.shape == (0, 256)


def spoiled(value: float, *shape: int, dtype: type = np.float64) -> np.ndarray:
    array = np.zeros(shape, dtype)
    array[..., -1] = value
    return array


@pytest.mark.parametrize(
    ("noise", "lengths", "message"),
    [
        (None, [256, 256], r"noise: expected a pair \(x_T, z\), got NoneType"),
        (normal(2, 256), [256, 256], "got ndarray"),
        ((normal(2, 256),), [256, 256], "expected a pair"),
        ((normal(2, 256), normal(5, 2, 256)), [256, 512], r"items of one length, got lengths \[256, 512\]"),
        ((normal(256), normal(5, 2, 256)), [256] * 2, r"noise x_T: expected shape \(2, 256\), got \(256,\)"),
        ((normal(2, 255), normal(5, 2, 256)), [256] * 2, r"noise x_T: .* got \(2, 255\)"),
        (
            (normal(2, 256), normal(6, 2, 256)),
            [256] * 2,
            r"noise z: expected shape \(5, 2, 256\), got \(6, 2, 256\)",
        ),
        ((normal(2, 256), normal(2, 5, 256)), [256] * 2, r"noise z: .* got \(2, 5, 256\)"),
        (
            (normal(256), normal(4, 256)),
            [256],
            r"noise z: expected shape \(5, 1, 256\) or \(5, 256\), got \(4, 256\)",
        ),
        (
            (np.zeros((2, 256), int), normal(5, 2, 256)),
            [256] * 2,
            "noise x_T: expected float32 or float64, got int64",
        ),
        ((normal(2, 256), torch.zeros(5, 2, 256).half()), [256] * 2, "noise z: .* got float16"),
        (
            ([[0.0] * 256] * 2, normal(5, 2, 256)),
            [256] * 2,
            "noise x_T: expected a numpy array or a torch tensor",
        ),
        ((spoiled(np.nan, 2, 256), normal(5, 2, 256)), [256] * 2, "noise x_T: expected finite values"),
        ((normal(2, 256), spoiled(-np.inf, 5, 2, 256)), [256] * 2, "noise z: expected finite values"),
        ((spoiled(1e300, 2, 256), normal(5, 2, 256)), [256] * 2, "noise x_T: expected finite values"),
    ],
)
def test_bad_noise_is_refused(noise: Any, lengths: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_noise(noise, lengths, 6)


def test_recordings() -> None:
    audio = np.float32([[0.5, -1.0], [0.0, 7.9]])
    for values, rows in ((audio, audio), (audio[0], audio[:1]), (torch.from_numpy(audio), audio)):
        np.testing.assert_array_equal(check_recording(values, "a"), rows)
    assert np.shares_memory(check_recording(audio, "a"), audio)
    for bad, message in (
        (audio * 32768, r"a: expected samples in about \[-1, 1\], got up to 258867; divide 16-bit samples by 32768"),
        (-2.0 * audio, r"a: expected samples in about \[-1, 1\], got up to 15.8"),
        (audio * np.nan, "a: expected finite values, got NaN or infinity"),
        (audio[:, :0], r"a: expected shape \[B, L\] or \[L\], not empty, got \(2, 0\)"),
        (audio[None], r"a: expected shape \[B, L\] or \[L\], not empty, got \(1, 2, 2\)"),
        (audio.astype(np.float64), "a: expected float32, got float64"),
        (audio.tolist(), "a: expected a numpy array or a torch tensor, got list"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            check_recording(bad, "a")


def test_fractions() -> None:
    assert [check_fraction(value, "w") for value in (0, 1, 0.25, np.float32(0.5), np.int64(1))] == [0, 1, 0.25, 0.5, 1]
    for bad in (-1e-9, 1.0000001, float("nan"), float("inf"), "0.5", None, True, [0.5]):
        with pytest.raises(InputError, match="w: expected a number from 0 to 1, got"):
            check_fraction(bad, "w")


def test_guidance() -> None:
    plain = Config(16, 1, 1, n_mels=0, upsample_strides=())
    labelled = replace(plain, classes=("3", "4"))
    guided = replace(labelled, guidance=2.5)
    assert [check_guidance(value, guided) for value in (None, 0, 1, np.float32(3), 100)] == [2.5, 0, 1, 3, 100]
    assert [check_guidance(value, labelled) for value in (None, 1, 1.0)] == [1, 1, 1]
    assert check_guidance(None, plain) == check_guidance(None, replace(plain, guidance=2.0)) == 1


def seconds(value: Any) -> int:
    return check_clip_length(CONFIG_16K, value, None, None)


def test_seconds() -> None:
    assert [seconds(value) for value in (1, 0.5, 1e-4)] == [16000, 8000, 2]
    assert [seconds(value) for value in (np.float64(2.00004), 0.99997)] == [32001, 16000]
    for bad in (0, -1, 1e-5, 134217.8, 1e300, float("nan"), float("inf"), "1", True):
        with pytest.raises(
            InputError, match="seconds: expected a number that gives 1 to 2147483647 samples at 16000 Hz"
        ):
            seconds(bad)


def test_the_length_of_a_clip() -> None:
    """Seconds or samples come first, then the caller's noise, then the network's own length."""
    own = replace(CONFIG_16K, clip_samples=90)
    x, z = np.zeros((2, 70), np.float32), np.zeros((5, 2, 70), np.float32)
    for config in (CONFIG_16K, own):
        assert check_clip_length(config, 0.5, None, (x, z)) == 8000
        assert check_clip_length(config, None, 11, (x, z)) == 11
        assert check_clip_length(config, None, None, (x, z)) == 70
    assert check_clip_length(own, None, None, None) == 90
    with pytest.raises(InputError, match="samples: expected an integer, or seconds; this network does not tell"):
        check_clip_length(CONFIG_16K, None, None, None)
    with pytest.raises(InputError, match="samples: expected None beside seconds, got 3"):
        check_clip_length(own, 1.0, 3, None)


def test_reflection_needs_the_longest_dilation() -> None:
    config = replace(CONFIG_16K, padding="reflect", residual_layers=4, dilation_cycle=4)
    check_reflection(replace(config, padding="zeros"), 1)
    check_reflection(config, 9)
    with pytest.raises(InputError, match="a: this network pads by reflection and needs more than 8 samples, got 8"):
        check_reflection(config, 8, "a")


def test_numbers() -> None:
    assert [check_number(value, "t") for value in (1, 0.5, np.float32(2), "3")] == [1, 0.5, 2, 3]
    for bad in (None, "x", [1, 2], 10**400):
        with pytest.raises(InputError, match="t: expected a number, got"):
            check_number(bad, "t")
