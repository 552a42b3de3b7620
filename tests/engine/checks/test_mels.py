from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from engine.checks import mels
from engine.checks.mels import LOG_KINDS, check_mel, check_range
from engine.config import BASE, MEL_KINDS, Config
from engine.errors import InputError

HOP = BASE.hop


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


def audios(lengths: list[int]) -> list[np.ndarray]:
    return [np.full(n, i, np.float32) for i, n in enumerate(lengths)]


def test_one_mel() -> None:
    mel = uniform(80, 7)
    batch = check_mel(mel, BASE)
    assert len(batch.items) == 1 and np.shares_memory(batch.items[0], mel)
    np.testing.assert_array_equal(batch.items[0], mel)
    audio = audios([7 * HOP])[0]
    assert batch.restore([audio]) is audio


def test_a_batch() -> None:
    mel = uniform(3, 80, 5)
    batch = check_mel(mel, BASE)
    assert [i.shape for i in batch.items] == [(80, 5)] * 3
    for i, item in enumerate(batch.items):
        assert np.shares_memory(item, mel)
        np.testing.assert_array_equal(item, mel[i])
    audio = batch.restore(audios([5 * HOP] * 3))
    assert audio.shape == (3, 5 * HOP) and audio[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_unequal_lengths(kind: Any) -> None:
    mels = kind([uniform(80, 4), uniform(80, 9)])
    batch = check_mel(mels, BASE)
    assert all(np.shares_memory(a, b) for a, b in zip(batch.items, mels, strict=True))
    audio = batch.restore(audios([4 * HOP, 9 * HOP]))
    assert isinstance(audio, list) and [a.shape for a in audio] == [(4 * HOP,), (9 * HOP,)]


def test_a_batch_of_one_and_a_list_of_one_keep_their_form() -> None:
    assert check_mel(uniform(1, 80, 4), BASE).restore(audios([4])).shape == (1, 4)
    assert isinstance(check_mel([uniform(80, 4)], BASE).restore(audios([4])), list)


def test_strided_views_are_taken_as_they_are() -> None:
    for mel in (
        uniform(7, 80).T,
        uniform(80, 14)[:, ::2],
        uniform(80, 7)[:, ::-1],
        np.asfortranarray(uniform(80, 7)),
    ):
        item = check_mel(mel, BASE).items[0]
        assert np.shares_memory(item, mel)
        np.testing.assert_array_equal(item, mel)


def test_torch_forms() -> None:
    one, many = torch.from_numpy(uniform(80, 7)), torch.from_numpy(uniform(2, 80, 5))
    batch = check_mel(one, BASE)
    assert np.shares_memory(batch.items[0], one.numpy())
    audio = batch.restore(audios([7]))
    assert isinstance(audio, torch.Tensor) and audio.shape == (7,) and audio.device == one.device
    audio = check_mel(many, BASE).restore(audios([5, 5]))
    assert isinstance(audio, torch.Tensor) and audio.tolist() == [[0] * 5, [1] * 5]
    audio = check_mel([one, one.T.contiguous().T], BASE).restore(audios([7, 7]))
    assert isinstance(audio, list) and all(isinstance(a, torch.Tensor) for a in audio)


def test_gradients_are_detached() -> None:
    mel = torch.from_numpy(uniform(80, 7)).requires_grad_()
    batch = check_mel(mel * 1, BASE)
    np.testing.assert_array_equal(batch.items[0], mel.detach().numpy())
    assert not batch.restore(audios([7])).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_mels_come_back_on_their_device() -> None:
    mel = torch.from_numpy(uniform(2, 80, 7)).cuda()
    batch = check_mel(mel, BASE)
    np.testing.assert_array_equal(batch.items[1], mel[1].cpu().numpy())
    assert batch.restore(audios([7, 7])).device == mel.device
    mixed = check_mel([mel[0], mel[1].cpu()], BASE).restore(audios([7, 7]))
    assert [a.device.type for a in mixed] == ["cuda", "cpu"]


def test_other_band_counts() -> None:
    config = dataclasses.replace(BASE, n_mels=100)
    assert check_mel(uniform(100, 5), config).items[0].shape == (100, 5)
    assert check_mel(uniform(80, 80), BASE).items[0].shape == (80, 80)  # square: cannot tell, so not refused
    with pytest.raises(InputError, match=r"\(100 mel bands\), got shape \(80, 5\)"):
        check_mel(uniform(80, 5), config)


def with_value(value: float, *shape: int) -> np.ndarray:
    mel = uniform(*shape)
    mel[..., 3, 2] = value
    return mel


ragged = np.empty(2, object)
ragged[:] = [uniform(80, 4), uniform(80, 5)]

BAD: list[tuple[Any, str]] = [
    (None, "mel: expected a numpy array or a torch tensor, got NoneType"),
    ("mel.npy", "got str"),
    (uniform(80, 3).tolist(), r"mel\[0\]: expected a numpy array or a torch tensor, got list"),
    ((m for m in [uniform(80, 3)]), "got generator"),
    (
        uniform(80, 5).astype(np.float64),
        r"^mel: expected float32, got float64; convert with mel.astype\('float32'\)$",
    ),
    (uniform(80, 5).astype(np.float16), "got float16; convert"),
    (uniform(80, 5).astype(">f4"), "expected float32, got >f4"),
    (np.zeros((80, 5), int), r"got int64; convert with mel.astype\('float32'\)"),
    (np.zeros((80, 5), bool), "got bool"),
    (np.zeros((80, 5), np.complex64), "got complex64"),
    (torch.zeros(80, 5).double(), r"^mel: expected float32, got float64; convert with mel.float\(\)$"),
    (torch.zeros(80, 5).bfloat16(), r"got bfloat16; convert with mel.float\(\)"),
    (torch.zeros(80, 5).long(), "got int64"),
    ([uniform(80, 5), uniform(80, 5).astype(np.float64)], r"mel\[1\]: .* convert with mel\[1\].astype"),
    (ragged, r"mel: expected float32, got an array of objects; pass unequal lengths as a list of \[M, T\]"),
    (uniform(80), r"mel: expected shape \[80, T\] or \[B, 80, T\], got shape \(80,\)"),
    (np.zeros((), np.float32), r"got shape \(\)"),
    (uniform(1, 1, 80, 5), r"got shape \(1, 1, 80, 5\)"),
    ([uniform(1, 80, 5)], r"mel\[0\]: expected shape \[80, T\], got shape \(1, 80, 5\)"),
    (uniform(5, 80), r"mel: .*got \(5, 80\), which looks transposed; pass mel.T$"),
    (torch.zeros(5, 80), "looks transposed; pass mel.T$"),
    (uniform(2, 5, 80), r"looks transposed; pass mel.transpose\(0, 2, 1\)$"),
    (torch.zeros(2, 5, 80), "looks transposed; pass mel.mT$"),
    ([uniform(80, 5), uniform(5, 80)], r"mel\[1\]: .* looks transposed; pass mel\[1\].T$"),
    (
        uniform(128, 5),
        r"mel: expected shape \[80, T\] or \[B, 80, T\] \(80 mel bands\), got shape \(128, 5\)",
    ),
    (uniform(2, 128, 5), r"got shape \(2, 128, 5\)"),
    (uniform(80, 0), r"mel: expected at least one frame, got the empty shape \(80, 0\)"),
    (uniform(0, 80, 5), r"empty shape \(0, 80, 5\)"),
    (uniform(2, 80, 0), r"empty shape \(2, 80, 0\)"),
    (torch.zeros(80, 0), "empty shape"),
    ([uniform(80, 5), uniform(80, 0)], r"mel\[1\]: expected at least one frame"),
    ([], r"mel: expected at least one \[80, T\], got an empty list"),
    ((), "got an empty tuple"),
    (with_value(np.nan, 80, 5), "mel: expected finite values, got nan at band 3, frame 2"),
    (with_value(-np.inf, 80, 5), "got -inf at band 3, frame 2"),
    (torch.from_numpy(with_value(np.inf, 80, 5)), "got inf at band 3, frame 2"),
    (np.stack([uniform(80, 5), with_value(np.nan, 80, 5)]), r"mel\[1\]: expected finite values"),
    ([uniform(80, 5), with_value(np.nan, 80, 5)], r"mel\[1\]: expected finite values"),
    (
        [uniform(80, 5), torch.zeros(80, 5)],
        "mel: expected only numpy arrays or only torch tensors, got a list of both",
    ),
    ([torch.zeros(80, 5), None], "got a list of both|got NoneType"),
]


@pytest.mark.parametrize(("mel", "message"), BAD, ids=range(len(BAD)))
def test_bad_mels_are_refused(mel: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_mel(mel, BASE)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


def test_an_unconditional_network_takes_no_mel() -> None:
    config = Config(n_mels=0, upsample_strides=(), mel_kind=None)
    with pytest.raises(InputError, match="mel: this network takes none; generate makes sound with it"):
        check_mel(uniform(80, 5), config)


def spread(low: float, high: float) -> list[np.ndarray]:
    return [np.full((80, 3), (low + high) / 2, np.float32), np.linspace(low, high, 240).reshape(80, 3)]


def test_every_kind_has_a_range() -> None:
    assert set(LOG_KINDS) | {"lmnt"} == set(MEL_KINDS)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("lmnt", 0, 1), ("lmnt", -0.005, 1.005), ("lmnt", 0.3, 0.31), (None, -80, 900), (None, 0, 1)]
    + [(kind, low, high) for kind in LOG_KINDS for low, high in ((-11.52, 2), (-11.52, -11.51), (-12, 5), (-3, 0.5))],
)
def test_possible_mels_pass_in_silence(kind: str | None, low: float, high: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_range(spread(low, high), kind)


def test_a_log_mel_for_an_lmnt_checkpoint_names_both_kinds() -> None:
    with pytest.raises(InputError) as caught:
        check_range(spread(-11.5, 1.9), "lmnt")
    assert str(caught.value) == (
        "mel: this checkpoint wants 'lmnt' mels in [0, 1], got values from -11.5 to 1.9, which look like a "
        "log mel ('tacotron', 'hifigan' or 'speechbrain'); make it with "
        "engine.mel(audio, sample_rate, kind='lmnt')"
    )


@pytest.mark.parametrize(("low", "high"), [(-0.02, 1), (0, 1.02), (-80, 0), (0, 255), (-11.5, 5.1)])
def test_impossible_lmnt_mels(low: float, high: float) -> None:
    with pytest.raises(InputError, match="this checkpoint wants 'lmnt' mels"):
        check_range(spread(low, high), "lmnt")


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize(("low", "high"), [(-12.1, 0), (-11.5, 5.1), (-80, 0), (0, 255)])
def test_impossible_log_mels(kind: str, low: float, high: float) -> None:
    with pytest.raises(
        InputError, match=f"wants '{kind}' mels .* fit no kind this engine knows; make it with engine.mel"
    ):
        check_range(spread(low, high), kind)


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (-0.005, 0.4)])
def test_an_lmnt_mel_for_a_log_checkpoint_warns(kind: str, low: float, high: float) -> None:
    def vocode() -> None:
        check_range(spread(low, high), kind)

    with pytest.warns(UserWarning, match=f"wants '{kind}' mels .* look like an 'lmnt' mel") as caught:
        vocode()
    last_line_of_vocode = vocode.__code__.co_firstlineno + 1
    assert caught[0].filename == __file__ and caught[0].lineno == last_line_of_vocode + 3  # points at the caller


@pytest.mark.parametrize("kind", [None, *MEL_KINDS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_never_pass(kind: str | None, value: float) -> None:
    with pytest.raises(InputError, match="mel: expected finite values"):
        check_range([uniform(80, 5), with_value(value, 80, 5)], kind)


def test_tensors_that_stay_where_they_are_are_checked_too() -> None:
    """As on a GPU, where a mel is not brought to the host: the two figures that come back decide."""
    good = torch.rand(80, 4, generator=torch.Generator().manual_seed(0))
    mels._check_finite(good, "mel")
    check_range([good], "lmnt")
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = good.clone()
        bad[7, 2] = value
        with pytest.raises(InputError, match=r"mel: expected finite values, got -?(nan|inf) at band 7, frame 2"):
            mels._check_finite(bad, "mel")
        with pytest.raises(InputError, match="mel: expected finite values"):
            check_range([good, bad], "lmnt")
    with pytest.raises(InputError, match="mel: "):
        check_range([good, good - 8.0], "lmnt")
