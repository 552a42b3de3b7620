"""Files, folders, patterns, lists and manifests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.bulk.inputs import MELS, find_items, is_many
from engine.bulk.items import Item
from engine.errors import InputError

SUFFIXES = MELS | {".wav", ".flac"}
TREE = ("a.npy", "s/b.npy", "s/c.wav", "s/notes.txt", "s/t/d.pt", ".hidden/e.npy")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*inputs: str, folder: str = "out") -> dict[str, str]:
    return {item.id: item.path.as_posix() for item in find_items(inputs, Path(folder), SUFFIXES)[0]}


def test_files_and_folders(tree: Path) -> None:
    assert found("in/s/b.npy", "in/a.npy") == {"b": "in/s/b.npy", "a": "in/a.npy"}
    expected = {"a": "in/a.npy", "s/b": "in/s/b.npy", "s/c": "in/s/c.wav", "s/t/d": "in/s/t/d.pt"}
    assert found("in") == expected
    items, passed_by = find_items(["in"], Path("out"), SUFFIXES)
    assert passed_by == 'in: passed by 1 of other kinds (.txt), 1 hidden (names that begin with ".")'
    assert all(isinstance(item, Item) and not item.problem for item in items)


def test_patterns_keep_the_subfolders_below_their_fixed_part(tree: Path) -> None:
    assert found("in/**/*.npy") == {"a": "in/a.npy", "s/b": "in/s/b.npy"}
    assert found("in/s/*.wav") == {"c": "in/s/c.wav"}
    Path("in/odd[1].npy").touch()
    assert found("in/odd[1].npy") == {"odd[1]": "in/odd[1].npy"}  # a file that exists is no pattern
    with pytest.raises(InputError, match=r"expected a pattern that matches files, got 'in/\*\.mp3'"):
        found("in/*.mp3")


def test_lists(tree: Path) -> None:
    Path("in/list.txt").write_text("s/b.npy\n\n" + f"{tree}/in/a.npy\n./s/t/d.pt\n")
    assert found("@in/list.txt") == {"s/b": "in/s/b.npy", "a": f"{tree}/in/a.npy", "s/t/d": "in/s/t/d.pt"}
    Path("in/list.txt").write_text("\n")
    with pytest.raises(InputError, match=r"expected at least one file .*, got none in '@in/list\.txt'"):
        found("@in/list.txt")
    with pytest.raises(InputError, match=r"absent\.txt: cannot read it: No such file"):
        found("@absent.txt")


def test_manifests(tree: Path) -> None:
    lines = [
        {"id": "x/1", "mel": "s/b.npy", "text": "passed by", "meta": {"steps": 3}},
        {"id": 7, "audio": "s/c.wav", "seed": 3, "out": "y.wav"},
    ]
    Path("in/manifest.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, lines)), encoding="utf-8")
    items, _ = find_items(["in/manifest.jsonl"], Path("out"), SUFFIXES)
    assert items == [Item("x/1", Path("in/s/b.npy")), Item("7", Path("in/s/c.wav"), 3, "y.wav")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: expected a JSON object"),
        ("[1]", "line 2: expected a JSON object, got"),
        ('{"id": "a"}', "line 2: expected one path under 'mel' or 'audio'"),
        ('{"id": "a", "mel": "a", "audio": "b"}', "line 2: expected one path"),
        ('{"mel": "a.npy"}', "line 2: id: expected a string, got None"),
        ('{"id": "a", "mel": "a.npy", "seed": -1}', "line 2: seed: expected an integer from 0"),
        ('{"id": "a", "mel": "a.npy", "seed": true}', "line 2: seed: expected an integer from 0"),
        ('{"id": "a", "mel": "a.npy", "out": 1}', "line 2: out: expected a string"),
        ('{"id": "a", "mel": "a.npy", "sead": 1}', "line 2: expected keys among id, mel, audio, seed, out and"),
        ('{"id": "a", "mel": "a.npy", "steps": 3}', "got 'steps'; an option of the whole job is no key of a line"),
        ('{"id": "a", "mel": "a.npy", "draft": "griffin-lim"}', "got 'draft'"),
        ('{"id": "a", "mel": "a.npy", "seed": 1, "seed": 2}', "expected a JSON object, got: the key 'seed' twice"),
        ('{"id": "a", "mel": "s3://bucket/a.npy"}', "line 2: expected a path, got the address"),
    ],
)
def test_malformed_manifests_are_refused_with_the_line(tree: Path, line: str, message: str) -> None:
    Path("m.jsonl").write_text('{"id": "b", "mel": "in/a.npy"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"m\.jsonl: ") as error:
        found("m.jsonl")
    assert message in str(error.value)


def test_inputs_that_are_missing(tree: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.npy: cannot read it: No such file"):
        found("absent.npy")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"expected at least one file .*, got none in 'empty'"):
        found("empty")
    with pytest.raises(InputError, match="got the address 's3://bucket/mels'"):
        found("s3://bucket/mels")


def test_results_are_not_inputs(tree: Path) -> None:
    Path("in/out").mkdir()
    Path("in/out/a.wav").touch()
    for source, name in {"in": "out/a", "in/**/*": "out/a", "**/*.wav": "in/out/a"}.items():
        assert name not in found(source, folder="in/out") and name in found(source, folder="elsewhere")
    with pytest.raises(InputError, match="expected another folder than that of the results"):
        found("in", folder="in")


def test_inputs_inside_of_the_folder_of_the_results(tree: Path) -> None:
    """Mels are not mistaken for results there; recordings may be results of this job, and are refused."""
    Path("in/s/c.wav").unlink()
    everything = {"a": "in/a.npy", "s/b": "in/s/b.npy", "s/t/d": "in/s/t/d.pt"}
    assert found("in", folder=".") == everything and found("in/s", folder="in").keys() == {"b", "t/d"}
    assert found("in/**/*.npy", folder=".").keys() == {"a", "s/b"} == found("in/**/*.npy", folder="in").keys()
    Path("in/s/c.wav").touch()
    for source in ("in", "in/s/*.wav"):
        with pytest.raises(InputError) as error:
            found(source, folder=".")
        assert str(error.value) == (
            "inputs: expected files outside of the folder of the results, got 'in/s/c.wav' in '.', where it may be a "
            "result; pass another folder as -o, or a pattern that matches no results"
        )
    items, _ = find_items(["in"], Path("."), frozenset({".wav"}), ".npy")
    assert [item.id for item in items] == ["s/c"]  # engine mel in -o .


def test_every_link_to_a_file_has_a_result(tree: Path) -> None:
    os.symlink("a.npy", "in/link.npy")
    os.symlink("s", "in/again")
    assert found("in").items() >= {"a": "in/a.npy", "link": "in/link.npy"}.items()
    items, passed_by = find_items(["in"], Path("out"), SUFFIXES)
    assert len(items) == 5 and "1 links to what is read already" in passed_by


def test_broken_links_are_failures_not_errors(tree: Path) -> None:
    os.symlink("nowhere.npy", "in/s/link.npy")
    (item,) = [item for item in find_items(["in"], Path("out"), SUFFIXES)[0] if item.problem]
    assert (item.id, item.problem) == ("s/link", "it links to nothing")


def test_which_inputs_may_be_many(tree: Path) -> None:
    Path("m.jsonl").touch()
    assert all(map(is_many, ("in", "in/*.npy", "@list.txt", "m.jsonl", "absent.jsonl")))
    assert not any(map(is_many, ("in/a.npy", "absent.npy", "-")))
