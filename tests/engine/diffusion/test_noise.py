"""Noise: published Philox words, fixed bits, statistics, and equality of NumPy and native code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from engine.diffusion.noise import box_muller, normal, philox4x32
from engine.kernels import cpu
from tests.support.tolerances import TOLERANCES

SEEDS = (0, 1, 2**32 - 1, 2**32, 2**64 - 1)
STEPS = (0, 1, 6, 2**32 - 1)
# A block has four samples: the spans cover every alignment of both ends. Beyond sample 2**34, the block number needs
# its second word.
SPANS = [(0, 0), (5, 0), *itertools.product(range(4), range(1, 6)), (4093, 4099), (2**34 - 6, 13), (2**40 + 3, 9)]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Random123 (D. E. Shaw Research, kat_vectors, philox4x32 with 10 rounds)
        (
            "00000000 00000000 00000000 00000000",
            "00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_agrees_with_the_published_words(counter: str, key: str, words: str) -> None:
    c0, c1, c2, c3 = (np.full(3, int(word, 16), np.uint64) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    results = philox4x32((c0, c1, c2, c3), (k0, k1))
    for word, expected in zip(results, words.split(), strict=True):
        assert word.dtype == np.uint32 and word.tolist() == [int(expected, 16)] * 3


@pytest.mark.parametrize(
    ("seed", "step", "begin", "expected"),
    [  # the audio of a seed must never change
        (0, 0, 0, "468840bd0066adbf9f1b1ebfb2d1f63e682a393e"),
        (0, 3, 2**34 + 1, "c26913bf84c7093ed067ea3f91181a3fbe5530bf"),
        (2**32 - 1, 0, 0, "ebb031be682863be4fc6f13e518607bf4c1660bf"),
        (2**32, 3, 2**34 + 1, "2e6ad0bfa11118409e61a43e6baa87bf2dcf853f"),
        (2**64 - 1, 0, 0, "c99e8c3f8fde213f8147723d00f8783f298e0340"),
    ],
)
def test_noise_of_a_seed_never_changes(seed: int, step: int, begin: int, expected: str) -> None:
    assert normal(seed, step, begin, 5).astype("<f4").tobytes().hex() == expected
    assert cpu.normal(seed, step, begin, 5).astype("<f4").tobytes().hex() == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", SEEDS)
def test_native_noise_equals_numpy(seed: int, step: int) -> None:
    for begin, count in SPANS:
        expected, native = normal(seed, step, begin, count), cpu.normal(seed, step, begin, count)
        assert native.dtype == expected.dtype == np.float32 and native.shape == expected.shape == (count,)
        assert native.tobytes() == expected.tobytes(), f"samples {begin} to {begin + count}"


def test_span_equals_part_of_a_longer_span() -> None:
    whole = normal(5, 2, 0, 64)
    for begin, count in itertools.product(range(9), range(9)):
        assert normal(5, 2, begin, count).tobytes() == whole[begin : begin + count].tobytes()


def test_box_muller_agrees_with_the_formula() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (2, 100_000), dtype=np.uint32)
    # The smallest and the largest radius, and the angles at and beside the borders of the octants.
    edges = [0, 1, 2, 31, 32, 2**31, 2**32 - 1, *(k * 2**29 + d for k in range(1, 8) for d in (-1, 0, 31, 32))]
    ends = np.array(list(itertools.product(edges, edges)), np.uint32).T
    radius_word, angle_word = np.concatenate([words, ends], axis=1)
    uniform = np.maximum(radius_word, 1).astype(np.float32).astype(np.float64) / 2**32
    radius = np.sqrt(-2.0 * np.log(uniform))
    phi = (angle_word >> 5 & 0xFFFFFF) * (math.pi / 4 / 2**24)
    swap, first_sign, second_sign = (np.where(angle_word >> bit & 1, -1.0, 1.0) for bit in (29, 31, 30))
    sine, cosine = np.sin(phi), np.cos(phi)
    first, second = box_muller(radius_word, angle_word)
    np.testing.assert_allclose(
        first, radius * first_sign * np.where(swap < 0, sine, cosine), rtol=0, atol=TOLERANCES["box_muller"]
    )
    np.testing.assert_allclose(
        second, radius * second_sign * np.where(swap < 0, cosine, sine), rtol=0, atol=TOLERANCES["box_muller"]
    )


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_moments(seed: int) -> None:
    count = 2**20
    values = normal(seed, 1, 0, count).astype(np.float64)
    # The moments of a normal variable and the variance of each estimate: E x^2k = (2k - 1)!!
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(values**power) - expected) < 4 * math.sqrt(variance / count), f"moment {power}"
    assert 4.2 < values.max() < 6.7 and -6.7 < values.min() < -4.2


@pytest.mark.parametrize("offset", range(4))
def test_kolmogorov_smirnov(offset: int) -> None:
    """Test each of a block's four samples against the normal distribution at the 1 % level."""
    values = np.sort(normal(7, 0, 0, 2**18)[offset::4].astype(np.float64))
    count = len(values)
    cumulative = np.array([0.5 + 0.5 * math.erf(value / math.sqrt(2.0)) for value in values])
    steps = np.arange(count + 1) / count
    distance = max(np.max(steps[1:] - cumulative), np.max(cumulative - steps[:-1]))
    assert distance < 1.63 / math.sqrt(count)


def test_streams_are_independent() -> None:
    count = 2**18
    base = normal(3, 1, 0, count)
    others = {
        "seed + 1": normal(4, 1, 0, count),
        "seed + 2^32": normal(3 + 2**32, 1, 0, count),
        "step + 1": normal(3, 2, 0, count),
        "sample + 2^34": normal(3, 1, 2**34, count),
        **{f"sample + {lag}": normal(3, 1, lag, count) for lag in range(1, 6)},
    }
    for name, other in others.items():
        assert not np.array_equal(base, other)
        # Squares as well: the two samples of a Box-Muller pair could only correlate through their common radius.
        for power in (1, 2):
            correlation = np.corrcoef(base.astype(np.float64) ** power, other.astype(np.float64) ** power)[0, 1]
            assert abs(correlation) < 4 / math.sqrt(count), f"{name}, power {power}: {correlation}"


def test_global_generator_is_not_used() -> None:
    before = np.random.get_state()
    normal(0, 0, 0, 9)
    cpu.normal(0, 0, 0, 9)
    after = np.random.get_state()
    assert before[2:] == after[2:] and np.array_equal(before[1], after[1])


@pytest.mark.parametrize("arguments", [(-1, 0, 0, 1), (2**64, 0, 0, 1), (0, -1, 0, 1), (0, 2**32, 0, 1)])
def test_native_noise_refuses_seeds_and_steps_outside_its_words(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(TypeError):
        cpu.normal(*arguments)


@pytest.mark.parametrize(("begin", "count"), [(-1, 1), (0, -1)])
def test_native_noise_refuses_negative_spans(begin: int, count: int) -> None:
    with pytest.raises(ValueError, match="expected begin >= 0 and count >= 0, got"):
        cpu.normal(0, 0, begin, count)
