"""Seeds, shards and names of results."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from engine.bulk.items import Item, id_of, seed_of, shard_of, targets_of
from engine.errors import InputError


def items(*names: str) -> list[Item]:
    return [Item(name, Path(f"{name}.npy")) for name in names]


def test_seeds_follow_from_the_id_and_the_seed_of_the_job() -> None:
    first, second = items("a/b", "a/c")
    seeds = {seed_of(first, 0), seed_of(first, 1), seed_of(second, 0), seed_of(second, 1)}
    assert len(seeds) == 4 and all(0 <= seed < 2**64 for seed in seeds)
    assert seed_of(Item("a/b", Path("elsewhere.wav")), 0) == seed_of(first, 0)
    assert seed_of(Item("a/b", Path("x"), seed=7), 1) == 7
    # Fixed for ever: results that exist must stay the results of their job.
    assert seed_of(first, 0) == 1490796472958400787


def test_one_name_in_two_compositions_has_one_seed() -> None:
    names = [unicodedata.normalize(form, "für") for form in ("NFC", "NFD")]
    first, second = items(*names)
    assert first.id != second.id and seed_of(first, 3) == seed_of(second, 3)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_are_disjoint_and_together_whole(count: int) -> None:
    shards = [shard_of(item, count) for item in items(*map(str, range(700)))]
    assert set(shards) == set(range(1, count + 1))
    assert max(shards.count(number) for number in set(shards)) < 1.4 * 700 / count


def test_ids_keep_subfolders_and_lose_known_suffixes() -> None:
    suffixes = {".npy", ".wav"}
    paths = ("a/b.npy", "a/b.v2.WAV", "a/b.txt", "a/.npy")
    assert [id_of(Path(path), suffixes) for path in paths] == ["a/b", "a/b.v2", "a/b.txt", "a/.npy"]


def test_names_of_results() -> None:
    named = [*items("a/b", "c.d"), Item("e", Path("e.npy"), out="x/y.wav")]
    assert targets_of(named, ".wav") == ["a/b.wav", "c.d.wav", "x/y.wav"]


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/a", "", "a/", "a\0b", "..\\a"])
def test_a_name_must_not_leave_the_folder(name: str) -> None:
    with pytest.raises(InputError, match="id: expected a name below the folder of the results, got"):
        targets_of([Item(name, Path("a.npy"))], ".wav")
    with pytest.raises(InputError, match="out: expected a name"):
        targets_of([Item("a", Path("a.npy"), out=f"{name}.wav" if name != "a/" else "a/.wav")], ".wav")


def test_the_suffix_is_that_of_the_format() -> None:
    with pytest.raises(InputError, match=r"out: expected a name that ends in \.flac, that of .*, got 'a\.wav' for 'a"):
        targets_of([Item("a", Path("a.npy"), out="a.wav")], ".flac")


@pytest.mark.parametrize("other", ["A/B", "a/b"])
def test_two_inputs_of_one_file_are_refused(other: str) -> None:
    pair = [Item("a/b", Path("one.npy")), Item(other, Path("two.wav"))]
    with pytest.raises(InputError, match=r"got 'a/b\.wav'|got 'A/B\.wav'") as error:
        targets_of(pair, ".wav")
    assert "one.npy" in str(error.value) and "two.wav" in str(error.value)


def test_a_result_is_no_folder_of_another() -> None:
    with pytest.raises(InputError, match=r"'a\.wav' as the result of .* and as a folder"):
        targets_of(items("a", "a.wav/b"), ".wav")


def test_errors_name_the_lines_of_a_manifest() -> None:
    path = Path("u.npy")
    with pytest.raises(InputError, match=r"got 'a\.wav' of both 'u\.npy' \(m: line 1\) and 'u\.npy' \(m: line 9\)"):
        targets_of([Item("a", path, place="m: line 1"), Item("a", path, place="m: line 9")], ".wav")
    with pytest.raises(InputError, match=r"got '\.\./a\.wav' for 'u\.npy' \(m: line 3\)"):
        targets_of([Item("../a", path, place="m: line 3")], ".wav")


@pytest.mark.parametrize("name", [".engine-job/gate", "x/../.engine-job/a", "./.engine-job/a", ".ENGINE-JOB/a"])
def test_no_result_is_among_the_locks(name: str) -> None:
    with pytest.raises(InputError, match="id: expected a name"):
        targets_of(items(name), ".wav")


def test_one_id_has_one_result() -> None:
    with pytest.raises(InputError, match="id: expected different ids, got 'a'"):
        targets_of([Item("a", Path("1.npy")), Item("a", Path("2.npy"), out="b.wav")], ".wav")
