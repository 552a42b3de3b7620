"""16-bit audio in chunks: bit-identical to a whole file, and no incomplete files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from engine.audio import pcm
from engine.audio.pcm import pcm16, writing_pcm, writing_wav
from engine.audio.wav import read_wav, write_wav
from engine.errors import InputError

AUDIO = np.sin(np.arange(1000) / 7).astype(np.float32) * 1.2


@pytest.mark.parametrize("sizes", [(1000,), (1, 0, 999), (300, 300, 300, 100)])
def test_chunks_give_the_same_file(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    write_wav(tmp_path / "whole.wav", AUDIO, 22050)
    with writing_wav(tmp_path / "chunks.wav", 22050) as write:
        for chunk in np.split(AUDIO, np.cumsum(sizes)[:-1]):
            write(chunk)
    assert (tmp_path / "chunks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()
    samples, rate = read_wav(tmp_path / "chunks.wav")
    assert rate == 22050 and len(samples) == 1000


def test_a_file_without_samples(tmp_path: Path) -> None:
    with writing_wav(tmp_path / "a.wav", 8000):
        pass
    assert len(read_wav(tmp_path / "a.wav")[0]) == 0


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), writing_wav(tmp_path / "a.wav", 22050) as write:
        write(AUDIO)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"old"


def test_a_file_longer_than_the_format_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcm, "MAX_DATA", 2000)
    with writing_wav(tmp_path / "a.wav", 22050) as write:
        write(AUDIO)
    with pytest.raises(InputError, match="at most 1000 samples"), writing_wav(tmp_path / "b.wav", 22050) as write:
        write(AUDIO)
        write(AUDIO[:1])
    assert not (tmp_path / "b.wav").exists()


def test_raw_samples_are_flushed() -> None:
    class Pipe(io.BytesIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed = len(self.getvalue())

    pipe = Pipe()
    with writing_pcm(pipe) as write:
        write(np.float32([0.0, 1.0, -1.0, 2.0, -2.0, 0.5]))
        assert pipe.flushed == 12
    assert np.frombuffer(pipe.getvalue(), "<i2").tolist() == [0, 32767, -32768, 32767, -32768, 16384]
    assert pcm16(np.float32([1 / 65536, 3 / 65536])).tolist() == [0, 2]  # ties to even
