"""Hostile archives: bombs, overlaps and entries whose sizes or names lie."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable

from tests.support.hostile import CASES, CaseFiles, case


@case
def zip_bomb(files: CaseFiles) -> None:
    files.pack({"data/999": bytes(300 << 20)}, zipfile.ZIP_DEFLATED)


@case
def zip_bomb_in_the_pickle(files: CaseFiles) -> None:
    files.pack({"data.pkl": b"N" * (300 << 20) + b"."}, zipfile.ZIP_DEFLATED)


@case
def lzma_bomb(files: CaseFiles) -> None:
    files.pack({"data/999": bytes(100 << 20)}, zipfile.ZIP_LZMA)


@case
def nested_zip(files: CaseFiles) -> None:
    inner = files.sound["pt"]
    for _ in range(3):
        files.pack({"data.pkl": inner})
        inner = files.path.read_bytes()


@case
def overlapping_records(files: CaseFiles) -> None:
    _repeat_entry(files, 3000, "data/{}", 3000)


@case
def crowded_directory(files: CaseFiles) -> None:
    _repeat_entry(files, 30000, "data/{}", 3000)


def _repeat_entry(files: CaseFiles, count: int, name: str, first: int) -> None:
    """Write an archive with many entries for the same bytes."""
    import copy

    files.pack({"data/1000": bytes(100000)})
    with zipfile.ZipFile(files.path, "a") as archive:
        archive.comment = b"changed"
        last = archive.infolist()[-1]
        for number in range(first, first + count):
            clone = copy.copy(last)
            clone.filename = f"{files.folder}/{name.format(number)}"
            archive.filelist.append(clone)


def _directory(files: CaseFiles, change: Callable[[bytearray, int], None]) -> None:
    """Write a sound archive with a changed directory entry of its first tensor."""
    files.pack({})
    content = bytearray(files.path.read_bytes())
    position = content.index(b"PK\x01\x02", content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0")))
    change(content, position)
    files.write(bytes(content))


@case
def ten_gigabytes_in_a_directory(files: CaseFiles) -> None:
    """Set the size of one entry of a small archive to 4 GB."""

    def change(content: bytearray, position: int) -> None:
        content[position + 20 : position + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)

    _directory(files, change)


@case
def record_beyond_the_end(files: CaseFiles) -> None:
    def change(content: bytearray, position: int) -> None:
        content[position + 42 : position + 46] = struct.pack("<I", len(content) - 10)

    _directory(files, change)


@case
def wrong_checksum(files: CaseFiles) -> None:
    def change(content: bytearray, position: int) -> None:
        content[position + 16 : position + 20] = b"none"

    _directory(files, change)


@case
def encrypted_record(files: CaseFiles) -> None:
    def change(content: bytearray, position: int) -> None:
        content[position + 8] |= 1

    _directory(files, change)


@case
def shifted_record(files: CaseFiles) -> None:
    """Move a record beyond the end of the file by the length in its own header."""
    files.pack({})
    content = bytearray(files.path.read_bytes())
    position = content.index(b"PK\x03\x04", content.index(b"/data/0") - 60)
    content[position + 28 : position + 30] = b"\xff\xff"
    files.write(bytes(content))


def _entry(label: str, name: str) -> None:
    def make(files: CaseFiles) -> None:
        files.pack({})
        import warnings

        with zipfile.ZipFile(files.path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(name.format(folder=files.folder), files.entries[f"{files.folder}/data.pkl"])

    CASES[label] = make


_entry("entry_twice", "{folder}/data.pkl")
_entry("entry_twice_in_capitals", "{folder}/DATA.PKL")
_entry("second_folder", "other/data.pkl")
_entry("path_upwards", "../{folder}/data.pkl")
_entry("path_from_the_root", "/etc/passwd")
_entry("path_of_windows", "C:\\x")
_entry("name_of_60000_letters", "{folder}/" + "x/" * 30000)
_entry("torchscript", "{folder}/constants.pkl")


@case
def no_pickle(files: CaseFiles) -> None:
    files.pack({"data.pkl": None})


@case
def record_too_short(files: CaseFiles) -> None:
    files.pack({"data/3": b"12"})


@case
def prepended_archive(files: CaseFiles) -> None:
    files.write(files.sound["pt"] + b"PK\x03\x04" + files.sound["pt"][4:-22])


@case
def gzip_file(files: CaseFiles) -> None:
    import gzip

    files.write(gzip.compress(files.sound["pt"]))


@case
def tar_file(files: CaseFiles) -> None:
    import tarfile

    with tarfile.open(files.path, "w") as archive:
        archive.add(__file__)
