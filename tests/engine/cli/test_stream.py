"""`engine vocode --stream`, raw samples to stdout and raw frames from stdin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.audio.mel_files import PIECE, read_mel_in_pieces
from tests.support.commands import MEL, SMALL, Run

SPEAK = ("--model", "small.safetensors", "--seed", "3", "--device", "cpu")


def command(*arguments: str, source: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """In a process of its own, with pipes."""
    line = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(line, input=source, capture_output=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})


def frames(mel: Any) -> bytes:
    raw: bytes = np.ascontiguousarray(mel.T, "<f4").tobytes()
    return raw


@pytest.mark.parametrize("source", ["mel.npy", "m64.npy", "order.npy", "batch.npy", "m.npz", "in.wav"])
def test_a_streamed_file_is_the_file(here: Path, run: Run, source: str) -> None:
    np.save("m64.npy", MEL.astype(np.float64))
    np.save("order.npy", np.asfortranarray(MEL))
    np.save("batch.npy", MEL[None])
    np.savez("m.npz", mel=MEL)
    status, out, err = run("vocode", source, "-o", "a.wav", *SPEAK)
    assert status == 0, err
    status, streamed, err = run("vocode", source, "-o", "b.wav", "--stream", *SPEAK)
    assert status == 0 and err == ""
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert streamed.splitlines()[0] == "wrote b.wav" and "real time" in streamed.splitlines()[-1]
    assert out.split(" of audio")[0].split()[-2:] == streamed.split(" of audio")[0].split()[-2:]


def test_raw_samples_and_raw_frames(here: Path, run: Run) -> None:
    assert run("vocode", "mel.npy", "-o", "a.wav", *SPEAK)[0] == 0
    expected = Path("a.wav").read_bytes()[44:]
    done = command("vocode", "mel.npy", "-o", "-", *SPEAK)
    assert done.returncode == 0 and done.stdout == expected
    assert done.stderr.decode().startswith("engine: ") and b"real time" in done.stderr
    done = command("vocode", "-", "-o", "-", *SPEAK, source=frames(MEL))
    assert done.returncode == 0 and done.stdout == expected
    done = command("vocode", "-", "-o", "b.wav", *SPEAK, source=frames(MEL))
    assert done.returncode == 0 and Path("b.wav").read_bytes() == Path("a.wav").read_bytes()


def test_audio_comes_out_while_frames_go_in(here: Path) -> None:
    mel = np.tile(MEL, 60)
    line = [sys.executable, "-m", "engine", "vocode", "-", "-o", "-", *SPEAK]
    ahead = -(-SMALL.look_ahead(6) // SMALL.hop)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(frames(mel[:, : ahead + 2]))
        process.stdin.flush()
        first = process.stdout.read(200)  # the input is not at its end
        assert len(first) == 200
        process.stdin.write(frames(mel[:, ahead + 2 : ahead + 9]))
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 0 and len(first) + len(rest) == 2 * (ahead + 9) * SMALL.hop


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", b"at least one frame, got none"),
        (frames(MEL)[:-3], b"stdin: expected whole frames of 80 float32, got 317 bytes more"),
        (frames(MEL * np.nan), b"expected finite values"),
        (frames(MEL + 4), b"wants 'lmnt' mels in [0, 1]"),
    ],
)
def test_bad_frames_are_refused_and_nothing_is_left(here: Path, source: bytes, message: bytes) -> None:
    before = sorted(here.iterdir())
    done = command("vocode", "-", "-o", "out.wav", *SPEAK, source=source)
    assert done.returncode == 2 and message in done.stderr and b"Traceback" not in done.stderr
    assert sorted(here.iterdir()) == before


def test_a_reader_that_leaves_is_no_traceback(here: Path) -> None:
    line = (
        f"{sys.executable} -m engine vocode mel.npy -o - {' '.join(SPEAK)} | head -c 100 >out; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() in ("0", "141") and "Traceback" not in done.stderr


def test_usual_refusals(here: Path, run: Run) -> None:
    for arguments, message in (
        (("nothing.npy", "-o", "a.wav", "--stream"), "cannot read it"),
        (("mel.npy", "-o", "a.mp3", "--stream"), "ends in .wav"),
        (("mel.npy", "-o", "mel.npy", "--stream"), "ends in .wav"),
        (("mel.npy", "-o", "-", "--steps", "7"), "steps: expected one of"),
    ):
        status, out, err = run("vocode", *arguments, *SPEAK)
        assert status == 2 and message in err and out == ""


def test_a_mapped_mel_comes_in_pieces(tmp_path: Path) -> None:
    mel = np.random.default_rng(0).random((3, 2 * PIECE + 5))
    np.save(tmp_path / "m.npy", mel)
    count, pieces = read_mel_in_pieces(tmp_path / "m.npy")
    made = list(pieces)
    assert count == 2 * PIECE + 5 and [piece.shape[1] for piece in made] == [PIECE, PIECE, 5]
    np.testing.assert_array_equal(np.concatenate(made, axis=1), mel.astype(np.float32))
