"""Files, folders, patterns, lists and manifests."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.bulk import vocode_files
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
        ('{"id": "a", "mel": "a\\u0000.npy"}', r"line 2: mel: expected the name of a file, got 'a\x00.npy'"),
        ('{"id": "a", "audio": "\\ud800.wav"}', r"line 2: audio: expected the name of a file, got '\ud800.wav'"),
        ('{"id": "\\ud800", "mel": "a.npy"}', r"line 2: id: expected the name of a file, got '\ud800'"),
        ('{"id": "a", "mel": "a.npy", "out": "\\udbff.wav"}', r"line 2: out: expected the name of a file, got '\udbff"),
        ("# comment", "line 2: expected a JSON object, got '# comment'"),
    ],
)
def test_malformed_manifests_are_refused_with_the_line(tree: Path, line: str, message: str) -> None:
    Path("m.jsonl").write_text('{"id": "b", "mel": "in/a.npy"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"m\.jsonl: ") as error:
        found("m.jsonl")
    assert message in str(error.value)


@pytest.mark.parametrize("source", ["@list", "m.jsonl"])
def test_lists_and_manifests_that_are_other_files(tree: Path, source: str) -> None:
    path = Path(source.removeprefix("@"))
    for content, message in (
        (gzip.compress(b"in/a.npy"), "expected lines of text, got a gzip file; decompress it first"),
        ("in/a.npy\n".encode("utf-16"), "expected lines of UTF-8, got UTF-16"),
        (b"in/a.npy\0in/s/b.npy\0", "line 1: expected "),
        (b"<!DOCTYPE html>", "got a web page"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            found(source)
        assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    for text in ("", "@", "@in"):
        with pytest.raises(InputError, match=r"got an empty text|expected a list|in: expected a list .*, got a folder"):
            found(text)


def test_addresses_in_lists(tree: Path) -> None:
    Path("list").write_text("in/a.npy\ns3://bucket/b.npy\n")
    with pytest.raises(InputError, match=r"list: line 2: expected a path, got the address 's3://bucket/b\.npy'"):
        found("@list")


@pytest.mark.parametrize("source", [None, 3, b"in", ["in", None], [b"in"], [["in"]], "in\0", "\ud800"])
def test_inputs_that_are_no_paths(tree: Path, source: Any) -> None:
    with pytest.raises(InputError, match=r"^inputs: expected (paths|the name of a file), got "):
        vocode_files(source, "out", model="voice", device="cpu")
    assert not Path("out").exists()


@pytest.mark.parametrize("folder", [None, 3, b"out", "", "out\0", "\ud800"])
def test_folders_that_are_no_paths(tree: Path, folder: Any) -> None:
    with pytest.raises(InputError, match=r"^folder: expected (a path|the name of a file), got "):
        vocode_files("in/a.npy", folder, model="voice", device="cpu")


def test_the_home_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert found("~/in/s/*.npy").keys() == {"b"} == found("~/in/s/b.npy").keys() and len(found("~/in")) == 4
    Path("in/list").write_text("a.npy\n")
    assert found("@~/in/list") == {"a": f"{tree}/in/a.npy"}
    Path("~.npy").touch()
    assert found("~.npy") == {"~": "~.npy"}
    summary = vocode_files("~/in/a.npy", "~/out", model="voice", device="cpu", dry_run=True)
    assert summary.folder == tree / "out"


def test_inputs_that_are_missing(tree: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.npy: cannot read it: No such file"):
        found("absent.npy")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"expected at least one file .*, got none in 'empty'"):
        found("empty")
    with pytest.raises(InputError, match="got the address 's3://bucket/mels'"):
        found("s3://bucket/mels")
    with pytest.raises(InputError, match="x: cannot read it: File name too long"):
        found("x" * 300)


def test_an_input_that_cannot_be_reached_does_not_end_a_job(tree: Path) -> None:
    Path("m.jsonl").write_text(json.dumps({"id": "a", "mel": "x" * 300}))
    summary = vocode_files("m.jsonl", "out", model="voice", device="cpu")
    assert summary.failures == {"a": f"{tree / ('x' * 300)}: cannot read it: File name too long"}
    Path("out/a.wav").write_bytes(b"audio")
    assert vocode_files("m.jsonl", "out", model="voice", device="cpu").done_before == 1


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
