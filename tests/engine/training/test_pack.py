"""Packed recordings: deterministic, within their limit, and a corpus like that of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.training import __main__ as command
from engine.training.data import read_corpus
from engine.training.fit import Options, fit
from engine.training.pack import common_length, pack
from engine.training.packed import read_packed, write_packed
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones

MIB = 2**20


def test_everything_that_fits_is_kept_whole(tmp_path: Path) -> None:
    data, recipe = write_tones(tmp_path / "data", 5, 22050, 0.3), voice_recipe()
    line = pack(recipe, data, tmp_path / "packed.safetensors", held_out=1)
    assert line.startswith("3 of 3 recordings to train on") and "and 1 held out" in line
    folder = read_corpus(data, recipe.data, recipe.network)
    packed = read_corpus(tmp_path / "packed.safetensors", recipe.data, recipe.network)
    assert [clip.name for clip in packed.train] == [clip.name for clip in folder.train]
    assert [clip.name for clip in packed.held_out] == ["0.wav"] and packed.rates == (22050,)
    for clip, other in zip(packed.train, folder.train, strict=True):
        assert clip.audio.dtype == np.float32 and clip.mel is not None and other.mel is not None
        np.testing.assert_allclose(clip.audio, other.audio, rtol=2.0**-11, atol=1e-7)
        assert clip.mel.shape == other.mel.shape
    assert fit(voice_recipe(training={"steps": 1}), tmp_path / "packed.safetensors", Options(tmp_path / "folder"))


def test_recordings_are_cut_to_fit_and_the_choice_is_repeatable(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 6, 22050, 0.5)
    write_tones(tmp_path / "data" / "short", 1, 22050, 0.12, seed=7)
    (tmp_path / "data" / "short" / "0.wav").rename(tmp_path / "data" / "7.wav")
    out, recipe = tmp_path / "packed.safetensors", voice_recipe()
    files = []
    for seed in (0, 0, 1):
        pack(voice_recipe(training={"seed": seed}), data, out, mib=0.05, held_out=0)
        files.append(out.read_bytes())
    assert files[0] == files[1] != files[2] and 0.04 * MIB < len(files[0]) <= 0.05 * MIB
    parts = dict(read_packed(out).recordings)
    assert sorted(parts) == ["2.wav", "3.wav", "4.wav", "5.wav", "7.wav"]
    assert len(parts["7.wav"]) == int(0.12 * 22050) < len(parts["2.wav"]) == len(parts["5.wav"])
    whole = {clip.name: clip.audio.astype(np.float16) for clip in read_corpus(data, recipe.data, recipe.network).train}
    for name, part in parts.items():
        starts = np.flatnonzero(whole[name][: len(whole[name]) - len(part) + 1] == part[0])
        assert any(np.array_equal(whole[name][s : s + len(part)], part) for s in starts), name


def test_few_recordings_are_kept_if_all_would_be_too_short(tmp_path: Path) -> None:
    data, out = write_tones(tmp_path / "data", 12, 22050, 0.5), tmp_path / "packed.safetensors"
    pack(voice_recipe(), data, out, mib=0.02, held_out=0)
    recordings = read_packed(out).recordings
    assert 1 < len(recordings) < 10 and min(len(audio) for _, audio in recordings) >= 2 * 4 * 256
    with pytest.raises(InputError, match=r"mib: expected room for 1 held-out recordings and more, got 0\.02 MiB"):
        pack(voice_recipe(), data, out, mib=0.02, held_out=1)


def test_labels_follow_from_the_names(tmp_path: Path) -> None:
    data, recipe = write_digits(tmp_path / "data"), digits_recipe()
    pack(recipe, data, tmp_path / "packed.safetensors", held_out=2)
    packed = read_corpus(tmp_path / "packed.safetensors", recipe.data, recipe.network)
    folder = read_corpus(data, recipe.data, recipe.network)
    assert packed.classes == folder.classes and len(packed.held_out) == 2
    assert [(clip.name, clip.label) for clip in packed.train] == [(clip.name, clip.label) for clip in folder.train]


@pytest.mark.parametrize(
    ("lengths", "total", "expected"),
    [([5, 5, 5], 15, 5), ([5, 5, 5], 12, 4), ([1, 9, 9], 9, 4), ([1, 2, 9], 100, 9), ([3], 2, 2), ([4, 1], 4, 3)],
)
def test_the_common_length_is_the_largest_that_fits(lengths: list[int], total: int, expected: int) -> None:
    limit = common_length(lengths, total)
    assert limit == expected
    assert sum(min(length, limit) for length in lengths) <= total
    assert limit == max(lengths) or sum(min(length, limit + 1) for length in lengths) > total


def test_other_files_are_refused(tmp_path: Path) -> None:
    data, recipe = write_tones(tmp_path / "data", 3, 22050, 0.3), voice_recipe()
    for damaged in (b"", b"x" * 100, (data / "0.wav").read_bytes()):
        (tmp_path / "packed.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match="expected a folder or packed recordings, got"):
            read_corpus(tmp_path / "packed.safetensors", recipe.data, recipe.network)
    write_packed(tmp_path / "packed.safetensors", [("2.wav", np.full(5000, np.nan, np.float32))], 22050)
    with pytest.raises(InputError, match="samples that are not finite"):
        read_corpus(tmp_path / "packed.safetensors", recipe.data, recipe.network)


def test_the_command_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_tones(tmp_path / "data", 12, 22050, 0.5), tmp_path / "packed.safetensors"
    arguments = ["pack", "voice", "--data", str(data), "-o", str(out), "--mib", "0.4", "--held-out", "1"]
    assert command.main(arguments) == 0
    assert f"wrote {out}" in capsys.readouterr().out and out.stat().st_size < 0.4 * MIB
    assert command.main([*arguments[:4], "-o", str(tmp_path / "packed.wav")]) == 2
    capsys.readouterr()
    for option, value, expected in (
        ("--mib", "0", "a number above 0, got '0'"),
        ("--mib", "many", "a number above 0, got 'many'"),
        ("--held-out", "-1", "a whole number of at least 0, got '-1'"),
        ("--held-out", "few", "a whole number of at least 0, got 'few'"),
    ):
        with pytest.raises(SystemExit):
            command.main([*arguments, option, value])
        assert f"argument {option}: expected {expected}" in capsys.readouterr().err
    assert command.main([*arguments, "--mib", "0.001"]) == 2
    assert capsys.readouterr().err.startswith("error: --mib: expected room for 1 held-out")


def test_a_packed_file_is_not_replaced_by_a_part_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "packed.safetensors"
    pack(voice_recipe(), write_tones(tmp_path / "data", 4, 22050, 0.5), out)
    content = out.read_bytes()
    assert command.main(["pack", "voice", "--data", str(out), "-o", str(out), "--mib", "0.1"]) == 2
    assert "error: -o: cannot write" in capsys.readouterr().err and out.read_bytes() == content
