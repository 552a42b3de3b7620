"""`engine vocode` in chunks: --stream, raw samples to stdout, raw frames from stdin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.audio.mel_files import PIECE, read_mel_in_pieces
from tests.support.commands import MEL, SMALL, Run

OPTIONS = ("--model", "small.safetensors", "--seed", "3", "--device", "cpu")


def run_process(*arguments: str, source: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command line in a process of its own, with pipes."""
    line = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(line, input=source, capture_output=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})


def frames(mel: Any) -> bytes:
    raw: bytes = np.ascontiguousarray(mel.T, "<f4").tobytes()
    return raw


@pytest.mark.parametrize("source", ["mel.npy", "m64.npy", "order.npy", "batch.npy", "m.npz", "in.wav"])
def test_a_streamed_file_is_bit_identical(workspace: Path, run: Run, source: str) -> None:
    np.save("m64.npy", MEL.astype(np.float64))
    np.save("order.npy", np.asfortranarray(MEL))
    np.save("batch.npy", MEL[None])
    np.savez("m.npz", mel=MEL)
    status, out, err = run("vocode", source, "-o", "a.wav", *OPTIONS)
    assert status == 0, err
    status, streamed, err = run("vocode", source, "-o", "b.wav", "--stream", *OPTIONS)
    assert status == 0 and err == ""
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert streamed.splitlines()[0] == "wrote b.wav" and "real time" in streamed.splitlines()[-1]
    assert out.split(" of audio")[0].split()[-2:] == streamed.split(" of audio")[0].split()[-2:]


def test_raw_samples_and_raw_frames(workspace: Path, run: Run) -> None:
    assert run("vocode", "mel.npy", "-o", "a.wav", *OPTIONS)[0] == 0
    expected = Path("a.wav").read_bytes()[44:]
    process = run_process("vocode", "mel.npy", "-o", "-", *OPTIONS)
    assert process.returncode == 0 and process.stdout == expected
    assert process.stderr.decode().startswith("engine: ") and b"real time" in process.stderr
    process = run_process("vocode", "-", "-o", "-", *OPTIONS, source=frames(MEL))
    assert process.returncode == 0 and process.stdout == expected
    process = run_process("vocode", "-", "-o", "b.wav", *OPTIONS, source=frames(MEL))
    assert process.returncode == 0 and Path("b.wav").read_bytes() == Path("a.wav").read_bytes()


def recording_of(workspace: Path, size: int | None = None) -> bytes:
    """Return the recording of the workspace, with another size of its audio in the header."""
    content = (workspace / "in.wav").read_bytes()
    return content if size is None else content[:40] + size.to_bytes(4, "little") + content[44:]


def write_sources(workspace: Path) -> dict[str, bytes]:
    """Write the mel in every format, and return the content of the files and of recordings."""
    torch = pytest.importorskip("torch")
    np.save("order.npy", np.asfortranarray(MEL.astype(np.float64)))
    np.savez("m.npz", mel=MEL, other=np.zeros(3))
    save_file({"mel": MEL}, "m.safetensors")
    torch.save(torch.from_numpy(MEL), "m.wav.pt")
    torch.save({"mel": torch.from_numpy(MEL[None]), "text": "Hello."}, "d.pt")
    Path("pipe.wav").write_bytes(recording_of(workspace, 0xFFFFFFFF))
    names = ("mel.npy", "order.npy", "m.npz", "m.safetensors", "m.wav.pt", "d.pt", "in.wav", "pipe.wav")
    return {name: Path(name).read_bytes() for name in names}


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_the_first_bytes_of_stdin_decide_its_format(workspace: Path, run: Run, stream: list[str]) -> None:
    sources = write_sources(workspace)
    for name, source in sources.items():
        assert run("vocode", name, "-o", "a.wav", *OPTIONS)[0] == 0
        process = run_process("vocode", "-", "-o", "b.wav", *stream, *OPTIONS, source=source)
        assert process.returncode == 0 and process.stderr == b"", name
        assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes(), name
    process = run_process("vocode", "-", "-o", "-", *OPTIONS, source=sources["m.wav.pt"])
    assert process.stdout == run_process("vocode", "m.npz", "-o", "-", *OPTIONS).stdout != b""


def test_other_recordings_on_stdin(workspace: Path, run: Run) -> None:
    soundfile = pytest.importorskip("soundfile")
    audio, rate = soundfile.read("in.wav")
    soundfile.write("in.flac", np.stack([audio, audio], axis=1), rate)
    assert run("vocode", "in.wav", "-o", "a.wav", *OPTIONS)[0] == 0
    process = run_process("vocode", "-", "-o", "b.wav", *OPTIONS, source=Path("in.flac").read_bytes())
    assert process.returncode == 0 and process.stderr == b"engine: stdin: mixed 2 channels into one\n"
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_errors_of_a_file_on_stdin(workspace: Path) -> None:
    sources = write_sources(workspace)
    np.save("wrong.npy", MEL.T)
    sources |= {"wrong.npy": Path("wrong.npy").read_bytes(), "video": bytes(4) + b"ftypmp42" + bytes(99)}
    before = sorted(workspace.iterdir())
    for source, message in (
        (sources["in.wav"][:1000], rb"stdin: expected \d+ bytes of audio, got 956: the file is truncated"),
        (sources["mel.npy"][:-9], rb"stdin: expected \d+ bytes of data for shape .*; the file is cut off"),
        (sources["m.wav.pt"][:-9], rb"stdin: expected an \.npz or \.pt archive, got a damaged or incomplete one "),
        (sources["wrong.npy"], rb"stdin, piece 0: .*got \(12, 80\)"),
        (sources["video"], rb"stdin: expected a mel or a recording, got an MP4 file; convert it with 'ffmpeg"),
        (Path("small.safetensors").read_bytes(), rb"stdin: expected one array, or one called 'mel', got "),
    ):
        process = run_process("vocode", "-", "-o", "out.wav", *OPTIONS, source=source)
        assert process.returncode == 2 and re.match(rb"engine: error: " + message, process.stderr), process.stderr
    assert sorted(workspace.iterdir()) == before


def test_a_warning_about_stdin_names_stdin(workspace: Path) -> None:
    process = run_process("vocode", "-", "-o", "out.wav", *OPTIONS, source=recording_of(workspace, 2 * 10**9))
    assert process.returncode == 0
    assert process.stderr.startswith(
        b"engine: warning: stdin: expected 2000000000 bytes of audio, as the header states"
    )


def test_audio_is_written_before_the_end_of_the_input(workspace: Path) -> None:
    mel = np.tile(MEL, 60)
    line = [sys.executable, "-m", "engine", "vocode", "-", "-o", "-", *OPTIONS]
    look_ahead = -(-SMALL.look_ahead(6) // SMALL.hop)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(frames(mel[:, : look_ahead + 2]))
        process.stdin.flush()
        first = process.stdout.read(200)  # before the end of the input
        assert len(first) == 200
        process.stdin.write(frames(mel[:, look_ahead + 2 : look_ahead + 9]))
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 0 and len(first) + len(rest) == 2 * (look_ahead + 9) * SMALL.hop


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", b"stdin: expected at least one frame, got none"),
        (frames(MEL)[:-3], b"stdin: expected whole frames of 80 float32 values, got 317 bytes more"),
        (frames(MEL * np.nan), b"stdin, piece 0: expected finite values"),
        (frames(MEL + 4), b"'lmnt' mels in [0, 1]"),
    ],
)
def test_impossible_frames_leave_no_file(workspace: Path, source: bytes, message: bytes) -> None:
    before = sorted(workspace.iterdir())
    process = run_process("vocode", "-", "-o", "out.wav", *OPTIONS, source=source)
    assert process.returncode == 2 and message in process.stderr and b"Traceback" not in process.stderr
    assert sorted(workspace.iterdir()) == before


def test_a_reader_that_closes_the_pipe_gives_no_traceback(workspace: Path) -> None:
    writer = f"{sys.executable} -m engine vocode mel.npy -o - {' '.join(OPTIONS)}"
    line = f"{writer} | head -c 100 >out; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert process.stdout.strip() in ("0", "141") and "Traceback" not in process.stderr


def test_errors_are_those_of_a_whole_call(workspace: Path, run: Run) -> None:
    for arguments, message in (
        (("nothing.npy", "-o", "a.wav", "--stream"), "nothing.npy: cannot read it"),
        (("mel.npy", "-o", "a.mp3", "--stream"), "ends in .wav"),
        (("mel.npy", "-o", "mel.npy", "--stream"), "ends in .wav"),
        (("mel.npy", "-o", "-", "--steps", "7"), "--steps: expected 1 to 6 or 50"),
    ):
        status, out, err = run("vocode", *arguments, *OPTIONS)
        assert status == 2 and message in err and out == ""


def test_a_mapped_mel_is_read_in_pieces(tmp_path: Path) -> None:
    mel = np.random.default_rng(0).random((3, 2 * PIECE + 5))
    np.save(tmp_path / "m.npy", mel)
    count, pieces = read_mel_in_pieces(tmp_path / "m.npy")
    parts = list(pieces)
    assert count == 2 * PIECE + 5 and [piece.shape[1] for piece in parts] == [PIECE, PIECE, 5]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), mel.astype(np.float32))
