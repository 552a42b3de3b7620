"""Windows and batches: every sample is kept once, with all samples that it depends on around it."""

from __future__ import annotations

from contextlib import nullcontext
from math import lcm
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Config
from engine.diffusion.schedule import build_schedule
from engine.errors import UnavailableError
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.gpu.windows import Window, cut, pack, padded_items, padded_length

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=4)
MOST = 1 << 30


@settings(deadline=None)  # thousands of windows, on a busy machine
@given(LENGTHS, st.integers(0, 300), st.sampled_from([1, 2, 16, 30, 256]), st.integers(1, 4000))
def test_every_sample_is_kept_once_with_its_surroundings(lengths: list[int], halo: int, hop: int, limit: int) -> None:
    lengths = [length * hop for length in lengths]
    windows = cut(lengths, halo, hop, limit, MOST)
    for item, length in enumerate(lengths):
        parts = [window for window in windows if window.item == item]
        ends = [0, *(window.keep_end for window in parts)]
        assert [window.keep_begin for window in parts] == ends[:-1] and ends[-1] == length
        for window in parts:
            assert window.begin <= max(0, window.keep_begin - halo)
            assert window.end >= min(length, window.keep_end + halo)
            assert window.begin % lcm(hop, 4) == 0 and window.end % hop == 0
            assert 0 <= window.begin <= window.keep_begin < window.keep_end <= window.end <= length
            assert window.length <= max(limit, 4 * (halo + lcm(hop, 4)))


def test_an_item_within_the_limit_is_one_window() -> None:
    assert cut([512, 256], 1000, 256, 512, MOST) == [Window(0, 0, 512, 0, 512), Window(1, 0, 256, 0, 256)]


def test_windows_stay_below_the_addressable_samples() -> None:
    assert max(window.length for window in cut([5000], 100, 4, 4000, 1001)) == 1000
    with pytest.raises(UnavailableError, match=r"up to 1001 samples .* needs 1200, as a sample depends on 300"):
        cut([5000], 300, 4, 4000, 1001)
    assert cut([1000], 300, 4, 4000, 1001) == [Window(0, 0, 1000, 0, 1000)]


def test_offsets_that_would_not_fit_in_32_bits_are_refused() -> None:
    pytest.importorskip("triton")
    from engine.kernels.gpu import GpuNetwork

    class Device:
        torch_device = None
        scope = staticmethod(nullcontext)

    config = Config(
        **{"residual_channels": 256, "residual_layers": 100, "dilation_cycle": 16, "n_mels": 0, "upsample_strides": ()}
    )
    network = SimpleNamespace(config=config, device=Device(), channels=256, bands=0, bytes_per_sample=lambda: 1568)
    network.most_samples = lambda: GpuNetwork.most_samples(network)
    assert (network.most_samples() + 128) * 2 * 256 == 2**31
    item = SimpleNamespace(length=10_000_000, x=None, label=None, scale=None)
    with pytest.raises(UnavailableError, match=r"device: a GPU takes up to 4194176 samples .* needs 9.*device='cpu'"):
        GpuLoop(network).sample([item], build_schedule(config, 6))


@given(LENGTHS, st.integers(1, 20000))
def test_batches_hold_everything_within_their_budget(lengths: list[int], budget: int) -> None:
    windows = cut(lengths, 10, 1, 2000, MOST)
    batches = pack(windows, budget)
    assert sorted((w for batch in batches for w in batch), key=str) == sorted(windows, key=str)
    for batch in batches:
        longest = max(window.length for window in batch)
        assert batch[0].length == longest
        assert len(batch) == 1 or padded_items(len(batch)) * padded_length(longest, 1) <= budget


@given(st.integers(1, 10**7), st.sampled_from([1, 128]))
def test_capacities_are_few_and_little_of_them_is_empty(length: int, grain: int) -> None:
    capacity = padded_length(length, grain)
    assert capacity % grain == 0 and length <= capacity < length * 1.125 + grain
    assert padded_length(capacity, grain) == capacity


def test_few_capacities() -> None:
    assert len({padded_length(n, 128) for n in range(1, 128 * 1024, 100)}) <= 70


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (3, 3), (4, 4), (5, 8), (9, 12), (64, 64)])
def test_batch_sizes(count: int, padded: int) -> None:
    assert padded_items(count) == padded
