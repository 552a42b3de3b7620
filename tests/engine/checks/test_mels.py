from __future__ import annotations

import dataclasses
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from engine.checks.mels import LOG_KINDS, MelBatch, bounds_of, check_kind, check_mel, fit_to_kind
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


def test_elements_of_packed_records_are_copied() -> None:
    packed = np.zeros((80, 6), [("flag", "u1"), ("mel", "<f4")])
    packed["mel"] = uniform(80, 6)
    item = check_mel(packed["mel"], BASE).items[0]
    assert item.flags.aligned and not packed["mel"].flags.aligned
    np.testing.assert_array_equal(item, uniform(80, 6))


def test_torch_forms() -> None:
    single, batch = torch.from_numpy(uniform(80, 7)), torch.from_numpy(uniform(2, 80, 5))
    checked = check_mel(single, BASE)
    assert np.shares_memory(checked.items[0], single.numpy())
    audio = checked.restore(audios([7]))
    assert isinstance(audio, torch.Tensor) and audio.shape == (7,) and audio.device == single.device
    audio = check_mel(batch, BASE).restore(audios([5, 5]))
    assert isinstance(audio, torch.Tensor) and audio.tolist() == [[0] * 5, [1] * 5]
    audio = check_mel([single, single.T.contiguous().T], BASE).restore(audios([7, 7]))
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
    (
        np.ma.masked_array(uniform(80, 5), uniform(80, 5) > 0.5),
        r"^mel: expected a plain array, got a masked one; pass mel.filled",
    ),
    ([np.ma.masked_array(uniform(80, 5))], r"^mel\[0\]: expected a plain array, got a masked one"),
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


def spread(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 240, dtype=np.float32).reshape(80, 3)


def fitted(mel: Any, kind: str | None, **options: bool) -> MelBatch:
    return fit_to_kind(check_mel(mel, BASE), kind, **options)


def test_every_kind_has_a_range() -> None:
    assert set(LOG_KINDS) | {"lmnt"} == set(MEL_KINDS)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("lmnt", 0, 1), ("lmnt", 0.3, 0.31), (None, -80, 900), (None, 0, 1)]
    + [(kind, low, high) for kind in LOG_KINDS for low, high in ((-11.52, 2), (-11.52, -11.51), (-12, 5), (-3, 0.5))],
)
def test_possible_mels_pass_unchanged_in_silence(kind: str | None, low: float, high: float) -> None:
    mel = spread(low, high)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.shares_memory(fitted(mel, kind).items[0], mel)


def test_a_log_mel_for_an_lmnt_checkpoint_names_both_kinds() -> None:
    with pytest.raises(InputError) as caught:
        fitted(spread(-11.5, 1.9), "lmnt")
    assert str(caught.value) == (
        "mel: this checkpoint wants 'lmnt' mels in [0, 1], got values from -11.5 to 1.9, which look like a "
        "log mel ('tacotron', 'hifigan' or 'speechbrain'); make it with "
        "engine.mel(audio, sample_rate, kind='lmnt'), or convert it with engine.audio.convert_mel (in Python)"
    )


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("lmnt", low, high) for low, high in ((-0.26, 1), (0, 1.26), (-1, 1), (-80, 0), (0, 255), (-11.5, 5.1))]
    + [(kind, low, high) for kind in LOG_KINDS for low, high in ((-15.1, 0), (-11.5, 8.1), (-80, 0), (0, 255))],
)
def test_mels_of_another_kind_are_refused(kind: str, low: float, high: float) -> None:
    with pytest.raises(InputError, match=f"this checkpoint wants '{kind}' mels .*; make it with engine.mel"):
        fitted(spread(low, high), kind)


@pytest.mark.parametrize(
    ("kind", "values", "limits"),
    [("lmnt", (-0.037, 0.5), (0, 1)), ("lmnt", (0.5, 1.02), (0, 1)), ("lmnt", (-0.24, 1.24), (0, 1))]
    + [(kind, values, (-12, 5)) for kind in LOG_KINDS for values in ((-12.3, -5), (-14.9, 7.9), (-1, 5.02))],
)
@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_values_slightly_outside_are_clipped_with_one_warning(
    kind: str, values: tuple[float, float], limits: tuple[float, float], form: Any
) -> None:
    mel = np.full((80, 10), np.mean(limits), np.float32)
    mel[3, 4], mel[7, 9] = values
    before, count = mel.copy(), sum(not limits[0] <= value <= limits[1] for value in values)
    with pytest.warns(UserWarning) as caught:
        batch = fitted(form(mel), kind)
    assert len(caught) == 1 and caught[0].filename == __file__
    message = str(caught[0].message)
    assert f"got values from {np.float32(min(mel.min(), values[0])):.4g} to" in message
    assert f"; {count} of 800 were clipped to {limits[0]} to {limits[1]}" in message
    np.testing.assert_array_equal(batch.items[0], before.clip(*limits))
    np.testing.assert_array_equal(mel, before)


def test_the_warning_counts_over_the_whole_batch() -> None:
    mels = [uniform(80, 5), uniform(80, 9)]
    mels[0][1, 1], mels[1][:2, 2] = -0.1, 1.1
    with pytest.warns(UserWarning, match="got values from -0.1 to 1.1; 3 of 1120 were clipped"):
        batch = fitted(mels, "lmnt")
    assert [item.min() >= 0 and item.max() <= 1 for item in batch.items] == [True, True]


def test_rounding_is_clipped_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(spread(-0.005, 1.005), "lmnt").items[0].min() == 0.0


@pytest.mark.parametrize("kind", LOG_KINDS)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (-0.005, 0.4)])
def test_an_lmnt_mel_for_a_log_checkpoint_warns(kind: str, low: float, high: float) -> None:
    with pytest.warns(UserWarning, match=f"wants '{kind}' mels .* look like an 'lmnt' mel") as caught:
        fit_to_kind(check_mel(spread(low, high), BASE), kind)
        line = sys._getframe().f_lineno - 1
    assert caught[0].filename == __file__ and caught[0].lineno == line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(spread(low, high), kind, piece=True)


def test_a_later_piece_of_a_stream_is_not_refused() -> None:
    with pytest.raises(InputError, match="wants 'lmnt' mels"):
        fitted(spread(-5, 3), "lmnt", piece=True)
    with pytest.warns(UserWarning, match="were clipped to 0 to 1"):
        batch = fitted(spread(-5, 3), "lmnt", piece=True, continues=True)
    np.testing.assert_array_equal(batch.items[0], spread(-5, 3).clip(0, 1))


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_padded_batches_are_cut_to_their_lengths(form: Any, kind: Any) -> None:
    mel = uniform(3, 80, 9)
    mel[0, :, 4:] = np.nan
    batch = check_mel(form(mel), BASE, lengths=kind([4, 9, 1]))
    assert [item.shape for item in batch.items] == [(80, 4), (80, 9), (80, 1)]
    assert batch.lengths(HOP) == [4 * HOP, 9 * HOP, HOP]
    audio = batch.restore([np.full(count * HOP, 1.0, np.float32) for count in (4, 9, 1)])
    assert isinstance(audio, type(form(mel))) and tuple(audio.shape) == (3, 9 * HOP)
    assert [int(row.sum()) for row in audio] == [4 * HOP, 9 * HOP, HOP] and not audio[2, HOP:].any()


@pytest.mark.parametrize(
    ("mel", "lengths", "message"),
    [
        (uniform(80, 9), [9], r"lengths: expected a padded batch \[B, M, T\] beside it, got shape \(80, 9\)"),
        ([uniform(80, 9)], [9], "lengths: expected None beside a list of mels"),
        (uniform(2, 80, 9), [9], "lengths: expected 2 integers, one per item of the batch"),
        (uniform(2, 80, 9), 9, "lengths: expected 2 integers"),
        (uniform(2, 80, 9), np.ones((2, 1), int), r"lengths\[0\]: expected an integer from 1 to 9 frames, got \[1\]"),
        (uniform(2, 80, 9), [9, 0], r"lengths\[1\]: expected an integer from 1 to 9 frames, got 0"),
        (uniform(2, 80, 9), [10, 1], r"lengths\[0\]: expected an integer from 1 to 9 frames, got 10"),
        (uniform(2, 80, 9), [1.0, 2.0], r"lengths\[0\]: expected an integer from 1 to 9 frames, got 1.0"),
        (uniform(2, 80, 9), [True, True], r"lengths\[0\]: expected an integer"),
    ],
)
def test_impossible_lengths_are_refused(mel: Any, lengths: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        check_mel(mel, BASE, lengths=lengths)


def test_bounds_are_over_all_items() -> None:
    for form in (np.stack, list, lambda items: list(map(torch.from_numpy, items))):
        assert check_mel(form([uniform(80, 5) - 8, uniform(80, 5), uniform(80, 5) + 3]), BASE).bounds == (
            float(uniform(80, 5).min() - np.float32(8)),
            float(uniform(80, 5).max() + np.float32(3)),
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bounds_keep_what_is_not_finite(value: float) -> None:
    for item in (with_value(value, 80, 5), torch.from_numpy(with_value(value, 80, 5))):
        assert not all(map(np.isfinite, bounds_of(item)))


@pytest.mark.parametrize(("form", "name"), [("single", "mel"), ("batch", r"mel\[1\]"), ("list", r"mel\[1\]")])
def test_tensors_that_stay_on_their_device_are_checked_when_their_bounds_are_read(form: str, name: str) -> None:
    """A mel on a GPU is not copied to the host unless a value is not finite; the CPU stands in for the device."""
    device = torch.device("cpu")
    mel = torch.rand(3, 80, 4, generator=torch.Generator().manual_seed(0))

    def in_form(values: torch.Tensor) -> Any:
        return {"single": values[1], "batch": values, "list": list(values)}[form]

    batch, read = check_mel(in_form(mel), BASE, device), mel[1] if form == "single" else mel
    assert batch.stays and batch.bounds == (float(read.min()), float(read.max()))
    for value in (float("nan"), float("inf"), -float("inf")):
        damaged = mel.clone()
        damaged[1, 7, 2] = value
        batch = check_mel(in_form(damaged), BASE, device)
        with pytest.raises(InputError, match=f"^{name}: expected finite values, got -?(nan|inf) at band 7, frame 2"):
            _ = batch.bounds
    assert not check_mel(mel[0].numpy(), BASE, device).stays


def test_bounds_that_something_else_read_are_checked_as_well() -> None:
    batch = check_mel(torch.full((80, 4), 0.5), BASE, torch.device("cpu"))
    check_kind(dataclasses.replace(batch, known_bounds=(0.0, 1.0)), "lmnt")
    with pytest.raises(InputError, match="got values from -9 to 1, which look like a log mel"):
        check_kind(dataclasses.replace(batch, known_bounds=(-9.0, 1.0)), "lmnt")
