"""Lengths from headers, the order of the work, and groups."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.audio.lengths import count_samples
from engine.audio.mel_files import count_frames
from engine.audio.wav import write_wav
from engine.bulk.items import Item
from engine.bulk.plan import Length, grouped, length_of, plan_works
from engine.bulk.tasks import Work
from engine.errors import InputError, UnavailableError
from tests.support.commands import MEL, SMALL


def works(*frames: int) -> list[Work]:
    return [Work(str(number), "", "", 0, count) for number, count in enumerate(frames)]


def test_groups_keep_to_a_budget() -> None:
    planned = works(50, 40, 20, 20, 10, 0, 0)
    assert [[work.frames for work in group] for group in grouped(planned, 60)] == [[50], [40, 20], [20, 10, 0, 0]]
    assert [len(group) for group in grouped(planned, 0)] == [1] * 7
    assert [len(group) for group in grouped(planned, 10**6)] == [7] and grouped([], 60) == []


def test_lengths_of_mels_come_from_headers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MEL)
    np.save(tmp_path / "batch.npy", MEL[None])
    np.savez(tmp_path / "a.npz", mel=MEL, other=np.zeros(3))
    save_file({"mel": MEL}, tmp_path / "a.safetensors")
    for name in ("a.npy", "batch.npy", "a.npz", "a.safetensors"):
        assert count_frames(tmp_path / name) == MEL.shape[1], name
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-1000])
    with pytest.raises(InputError, match="the file is cut off"):
        count_frames(tmp_path / "cut.npy")
    torch = pytest.importorskip("torch")
    torch.save({"mel": torch.from_numpy(MEL)}, tmp_path / "a.pt")
    assert count_frames(tmp_path / "a.pt") == MEL.shape[1]


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x01\x00garbage", b"noise", b"PK\x03\x04", b"", b"\x10" + bytes(7) + b"{"]
)
def test_damaged_mels_have_no_length(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy"):
        count_frames(tmp_path / "a.npy")
    length = length_of(tmp_path / "a.npy", SMALL)
    assert length == Length(0, problem=length.problem) and "a.npy" in length.problem


def test_lengths_of_recordings(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(2560), SMALL.sample_rate)
    assert count_samples(tmp_path / "a.wav") == (2560, SMALL.sample_rate)
    assert length_of(tmp_path / "a.wav", SMALL) == Length(10, SMALL.sample_rate)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:100])
    with pytest.raises(InputError, match=r"b\.wav.*the file is truncated"):
        count_samples(tmp_path / "b.wav")
    soundfile = pytest.importorskip("soundfile")
    for name in ("c.flac", "c.ogg"):
        soundfile.write(tmp_path / name, np.zeros(4800), 48000)
        assert count_samples(tmp_path / name) == (4800, 48000)


def test_work_is_planned_longest_first(tmp_path: Path) -> None:
    for name, frames in {"a": 3, "b": 9, "c": 9}.items():
        np.save(tmp_path / f"{name}.npy", MEL[:, :frames])
    items = [Item(name, tmp_path / f"{name}.npy") for name in "acb"] + [Item("x", tmp_path / "x", problem="a loop")]
    planned = plan_works([(item, f"{item.id}.wav") for item in items], SMALL, 0)
    assert [(work.id, work.frames, work.problem) for work in planned] == [
        ("b", 9, ""),
        ("c", 9, ""),
        ("a", 3, ""),
        ("x", 0, "a loop"),
    ]


def test_missing_extras_are_an_error_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("soundfile", "soxr"):
        monkeypatch.setitem(sys.modules, name, None)
    write_wav(tmp_path / "slow.wav", np.zeros(1600), 16000)
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    for name, message in {"slow.wav": "expected 22050 Hz, .* got 16000 Hz", "a.flac": "FLAC needs soundfile"}.items():
        with pytest.raises(UnavailableError, match=message):
            plan_works([(Item("a", tmp_path / name), "a.wav")], SMALL, 0)
