"""The quality of the voice: scores, their means, and the choice of clips."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.quality import voice as quality
from benchmarks.quality.voice import HELD_OUT, Clips, Setting, choose, rows_of, table
from engine import Voice, load
from tests.support.paths import ROOT

CARD = (ROOT / "engine" / "assets" / "MODEL_CARD.md").read_text()


def fp32() -> Voice:
    return load(precision="fp32")


@pytest.mark.parametrize("name", ["quality", "quality-steps"])
def test_the_card_names_the_command(name: str) -> None:
    assert f"--results benchmarks/results/{name}.json" in CARD


def test_rows_are_means_of_finite_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"a": [[2.0, 0.8, math.inf], [1.0, 0.5, 20.0]], "b": [[math.nan, 0.9, math.inf], [2.0, 0.7, 30.0]]}
    monkeypatch.setattr(quality, "measure", lambda settings, file: figures[file.stem])
    settings = [Setting(fp32(), 6), Setting(fp32(), "full")]
    first, second = rows_of("clips", settings, [Path("a.wav"), Path("b.wav")])
    assert (first["pesq_wb"], first["stoi"], first["snr_db"]) == (2.0, pytest.approx(0.85), None)
    assert (second["pesq_wb"], second["stoi"], second["snr_db"]) == (1.5, pytest.approx(0.6), 25.0)
    assert (second["steps"], second["precision"], second["files"]) == ("full", "fp32", ["a", "b"])
    assert "| clips | 2 | full | fp32 | 1.500 | 0.600 | 25.0 dB |" in table([first, second])
    assert "| SNR against bf16 |" in table([{**first, "precision": "bf16"}, second])


def test_clips_are_spread_evenly(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"clip-{number:02}.flac").touch()
    (tmp_path / "notes-0.txt").touch()
    assert [path.stem for path in choose(Clips(tmp_path), 4)] == ["clip-00", "clip-25", "clip-50", "clip-75"]
    held_out = choose(Clips(tmp_path, pattern=HELD_OUT), 5)
    assert [path.stem for path in held_out] == ["clip-00", "clip-20", "clip-40", "clip-60", "clip-80"]
    assert len(choose(Clips(tmp_path), 1000)) == 100


def test_a_voice_is_measured_against_the_recording(tmp_path: Path) -> None:
    for name in quality.NEEDS:
        pytest.importorskip(name)
    import soundfile

    voice = fp32()
    if not Clips(quality.DEFAULT[1].folder).folder.is_dir():
        pytest.skip("no shared recordings beside the project")
    whole, rate = soundfile.read(choose(quality.DEFAULT[1], 1)[0], dtype="float32")
    soundfile.write(tmp_path / "short.wav", whole[rate // 2 : rate * 3 // 2], rate)
    first, second = quality.measure([Setting(voice, 6), Setting(voice, 6)], tmp_path / "short.wav")
    assert first[:2] == second[:2] and first[2] == math.inf
    assert 1.2 < first[0] < 4.6 and 0.7 < first[1] < 1.0
