"""The quality of a voice: its rows, their intervals, the choice of clips, and an interrupted measurement."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from benchmarks.committed import load as committed
from benchmarks.figures.quality import (
    MATCHED,
    REFINED_ONLINE,
    RTISI_LA,
    VOICE,
    figure,
    merged,
    precisions,
    spread,
    table_of_voice,
)
from benchmarks.quality import voice as quality
from benchmarks.quality.partial import Partial
from benchmarks.quality.scores import NEEDS, Interval, Judged, Scores, gain, interval
from benchmarks.quality.voice import GRIFFIN_LIM, HELD_OUT, LEAST, NO_NETWORK, REFINED, Clips, Setting, choose, rows_of
from engine import Voice, load
from tests.support.paths import ROOT

CARD = (ROOT / "engine" / "assets" / "MODEL_CARD.md").read_text()


def need_judges() -> None:
    """Skip without the extra `quality`; DistillMOS cannot be imported by itself where torchaudio is missing."""
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} of the extra `quality` not installed")


def fp32() -> Voice:
    return load(device="cpu", precision="fp32")


@pytest.mark.parametrize("name", VOICE)
def test_the_card_names_the_command(name: str) -> None:
    assert f"--results benchmarks/results/{name}.json" in CARD


@pytest.mark.parametrize("name", VOICE)
def test_committed_results_are_complete(name: str) -> None:
    results = committed(name)
    held_out = [file for file in results["files"] if file.endswith("0")]
    assert held_out == results["files"] and len(set(held_out)) == results["count"] >= LEAST
    assert {"distillmos", "pesq", "pystoi", "numpy"} <= set(results["versions"])
    for mels in ("exact", "blurred"):
        names = {row["name"] for row in results["rows"] if row["mels"] == mels}
        online = {RTISI_LA} if "online" in name else set()
        voice = REFINED if "draft" in name else REFINED_ONLINE if online else "voice"
        ends = (f"{MATCHED}1", f"{MATCHED}inf")[: 1 if online else 2] if name.endswith("matched") else ("",)
        assert names == {GRIFFIN_LIM, NO_NETWORK, *online, *(f"{voice}{end}" for end in ends)}
    for row in results["rows"]:
        assert len(row["scores"]) == results["count"]
        for column, judge in enumerate(results["columns_of_scores"]):
            values = [scores[column] for scores in row["scores"] if scores[column] is not None]
            if values:
                assert row[judge]["mean"] == pytest.approx(np.mean(values))
                assert row[judge]["low"] <= row[judge]["mean"] <= row[judge]["high"]
    assert results["rows"][0]["name"] == "recordings"


def test_intervals_cover_the_mean_and_repeat() -> None:
    pytest.importorskip("scipy")
    values = np.random.default_rng(1).normal(3.0, 0.5, 40)
    ends = interval(list(values))
    assert ends is not None and ends == interval(list(values))
    assert ends.low is not None and ends.high is not None and ends.low < ends.mean < ends.high
    # Of normal values: 1.96 standard errors on both sides.
    error = values.std() / math.sqrt(40)
    assert ends.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert ends.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert interval([2.0, math.nan, 2.0]) == Interval(2.0, 2.0, 2.0)
    assert interval([2.0]) == Interval(2.0) and interval([math.nan]) is None


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    pytest.importorskip("scipy")
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(60):
        ends = interval(list(random.exponential(1.0, 30)))
        assert ends is not None and ends.low is not None and ends.high is not None
        hits += ends.low <= 1.0 <= ends.high
    assert 50 <= hits < 60


def test_the_gain_is_of_the_same_clips() -> None:
    pytest.importorskip("scipy")
    levels = np.linspace(1.5, 4.5, 20)
    ours, theirs = ([Scores(mos=float(level + more)) for level in levels] for more in (0.25, 0.0))
    ends, alone = gain(ours, theirs), interval([score.mos for score in ours])
    assert ends is not None and ends.mean == pytest.approx(0.25)
    assert ends.low == pytest.approx(0.25) and ends.high == pytest.approx(0.25)
    assert alone is not None and alone.low is not None and alone.high is not None and alone.high - alone.low > 0.5


def clip(mos: float, snr_db: float = 20.0) -> dict[tuple[str, str], Judged]:
    """Return the judgments of a clip; the voice is better than Griffin-Lim by 0.5 on blurred mels, and else worse."""
    judged = {("", "recordings"): Judged(Scores(mos=4.0))}
    for mels, more in (("exact", -0.5), ("blurred", 0.5)):
        judged |= {
            (mels, GRIFFIN_LIM): Judged(Scores(3.0, 0.9, mos, 0.1)),
            (mels, NO_NETWORK): Judged(Scores(2.5, 0.9, mos + 1, 0.1)),
            (mels, "fp32, 6"): Judged(Scores(2.0, 0.8, mos + more, 0.7), math.inf),
            (mels, "int8, 6"): Judged(Scores(math.nan, 0.7, mos + more, 0.8), snr_db),
        }
    return judged


def rows() -> list[dict[str, object]]:
    pytest.importorskip("scipy")
    try:
        settings = [Setting(load(device="cpu", precision=precision), 6) for precision in ("fp32", "int8")]
    except RuntimeError as error:
        pytest.skip(str(error))
    return rows_of(settings, [clip(2.0, 20.0), clip(3.0, 30.0)])


def test_rows_are_means_of_finite_scores() -> None:
    by_name = {(row["mels"], row["name"], row["precision"]): row for row in rows()}
    assert len(by_name) == 9
    ours = by_name["exact", "voice", "fp32"]
    assert ours["pesq_wb"] == {"mean": 2.0, "low": 2.0, "high": 2.0} and ours["steps"] == 6
    assert ours["mos_gain"]["mean"] == -0.5 and by_name["blurred", "voice", "int8"]["mos_gain"]["mean"] == 0.5
    assert ours["snr_db"] is None and by_name["exact", "voice", "int8"]["snr_db"] == 25.0
    assert by_name["exact", "voice", "int8"]["pesq_wb"] is None
    assert ours["scores"] == [[2.0, 0.8, 1.5, 0.7], [2.0, 0.8, 2.5, 0.7]]
    assert by_name["", "recordings", None]["pesq_wb"] is None
    json.dumps(list(by_name.values()), allow_nan=False)


def test_the_table_has_the_baselines_and_both_sets_of_mels() -> None:
    text = table_of_voice(rows())
    assert "| - | recordings | - |  |  | 4.00 (4.00 to 4.00) |  |  |" in text
    assert (
        f"| exact | {GRIFFIN_LIM} | - | 3.00 (3.00 to 3.00) | 0.900 (0.900 to 0.900) | 2.50 (2.00 to 3.00) |  |" in text
    )
    assert "| 2.00 (1.50 to 2.50) | -0.50 (-0.50 to -0.50) | -1.50 (-1.50 to -1.50) |" in text
    assert "| +0.50 (+0.50 to +0.50) | -0.50 (-0.50 to -0.50) |" in text
    assert len(text.splitlines()) == 2 + 7 and text.count(f"| {NO_NETWORK} |") == text.count("**the voice**") == 2
    of_precisions = precisions(rows())
    assert (
        "| SNR against fp32 |" in of_precisions and "| exact | 6 | int8 |  | 0.700 | 2.00 | 25.0 dB |" in of_precisions
    )
    assert spread({"mean": 2.0, "low": None, "high": None}, 2) == "2.00" and spread(None, 2) == ""


def test_results_of_the_same_clips_are_merged() -> None:
    first = {"files": ["a"], "rows": rows()}
    full = [{**row, "steps": "full"} for row in first["rows"] if row["precision"] == "fp32"]
    second = {"files": ["a"], "rows": [row for row in first["rows"] if row["precision"] is None] + full}
    merged_rows = merged(first, second)
    assert [row["mels"] for row in merged_rows] == [""] + ["exact"] * 5 + ["blurred"] * 5
    assert len(table_of_voice(merged_rows).splitlines()) == 2 + 9
    with pytest.raises(ValueError, match="same clips"):
        merged(first, {**second, "files": ["b"]})


def test_figures_of_sentences_are_found() -> None:
    for mels in ("exact", "blurred"):
        assert 1.0 < float(figure(mels, GRIFFIN_LIM, "pesq_wb")) < 4.7
        assert 1.0 <= float(figure(mels, "voice", "mos", steps=6)) <= 5.0


def test_clips_are_spread_evenly(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"clip-{number:02}.flac").touch()
    (tmp_path / "notes-0.txt").touch()
    assert [path.stem for path in choose(Clips(tmp_path), 4)] == ["clip-00", "clip-25", "clip-50", "clip-75"]
    held_out = choose(Clips(tmp_path, pattern=HELD_OUT), 5)
    assert [path.stem for path in held_out] == ["clip-00", "clip-20", "clip-40", "clip-60", "clip-80"]
    assert len(choose(Clips(tmp_path), 1000)) == 100


def test_an_interrupted_measurement_continues(tmp_path: Path) -> None:
    results, header = tmp_path / "out.json", {"seed": 0, "settings": ["fp32, 6"]}
    partial = Partial(results, header)
    assert partial["a"] is None
    partial.add("a", clip(2.5))
    partial.add("b", clip(1.0))
    file = tmp_path / "out.json.partial"
    file.write_text(file.read_text()[:-20])  # killed while it wrote the second line
    again = Partial(results, header)
    read, expected = again["a"], clip(2.5)
    assert read is not None and again["b"] is None and list(read) == list(expected)
    for method, judged in expected.items():
        assert astuple(read[method].scores) == pytest.approx(astuple(judged.scores), nan_ok=True)
    assert Partial(results, {**header, "seed": 1})["a"] is None
    again.remove()
    assert not file.exists()
    Partial(None, header).add("a", clip(2.0))


def test_a_result_of_few_clips_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need_judges()
    for number in range(LEAST - 1):
        (tmp_path / f"{number}.wav").touch()
    arguments = ["voice", "--clips", str(tmp_path), "--results", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="expected at least 16 clips for --results, got 15"):
        quality.main()


def test_a_voice_is_measured_on_both_mels(tmp_path: Path) -> None:
    need_judges()
    import soundfile

    if not quality.DEFAULT.folder.is_dir():
        pytest.skip("no shared recordings beside the project")
    whole, rate = soundfile.read(choose(quality.DEFAULT, 1)[0], dtype="float32")
    soundfile.write(tmp_path / "short.wav", whole[rate // 2 : rate * 5 // 4], rate)
    settings = [Setting(fp32(), 6), Setting(fp32(), 2, "griffin-lim")]
    judged = quality.measure(settings, tmp_path / "short.wav")
    assert [mels for mels, _ in judged] == ["", *["exact"] * 4, *["blurred"] * 4]
    names = [(row["name"], row["steps"]) for row in quality.rows_of(settings, [judged])]
    assert names[3:5] == [("voice", 6), ("voice on Griffin-Lim", 2)]
    # Two steps that refine a draft keep most of what it has of an exact mel.
    refined = judged["exact", "fp32, 2, griffin-lim"].scores.pesq_wb
    assert judged["exact", "fp32, 6"].scores.pesq_wb + 0.2 < refined < judged["exact", GRIFFIN_LIM].scores.pesq_wb
    exact, inexact = (judged[mels, "fp32, 6"] for mels in ("exact", "blurred"))
    assert 1.2 < exact.scores.pesq_wb < 4.6 and 0.7 < exact.scores.stoi < 1.0
    assert inexact.scores.log_mel_error > exact.scores.log_mel_error
    # Phase retrieval loses much more by the blur than a network that knows what speech is like.
    lost = judged["exact", GRIFFIN_LIM].scores.pesq_wb - judged["blurred", GRIFFIN_LIM].scores.pesq_wb
    assert lost > exact.scores.pesq_wb - inexact.scores.pesq_wb > -0.3
