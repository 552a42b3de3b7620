"""Figures in pages and pictures are those of the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import blocks, committed, report
from tests.support.paths import ROOT


def test_pages_and_pictures_are_fresh() -> None:
    changed = [str(path.relative_to(ROOT)) for path, _ in blocks.stale()]
    assert not changed, f"run python -m benchmarks.blocks: {', '.join(changed)}"


def test_links_in_blocks_lead_to_files() -> None:
    for name, block in blocks.BLOCKS.items():
        for link in blocks.LINK.findall(block()):
            assert (ROOT / link.partition("#")[0]).exists(), f"{name}: {link}"


def test_a_stale_block_is_rewritten() -> None:
    page = ROOT / "docs" / "page.md"
    text = "a <!-- figures: gpu-times-lmnt begin -->1.0<!-- figures: gpu-times-lmnt end --> b"
    assert blocks.rewritten(text, page) == text.replace("1.0", blocks.BLOCKS["gpu-times-lmnt"]())
    text = "<!-- figures: machines begin -->\n<!-- figures: machines end -->\n"
    fresh = blocks.rewritten(text, page)
    assert fresh.splitlines()[1].startswith("Speed relative to real time") and fresh.endswith(
        "\n" + text.splitlines()[1] + "\n"
    )
    assert "](../benchmarks/results/epyc-zen4-2-cores.json)" in fresh
    assert blocks.rewritten(fresh, page) == fresh


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures: nothing begin -->\n<!-- figures: nothing end -->", "nothing: expected a block"),
        ("<!-- figures: machines begin -->\n", "machines: expected a begin and an end"),
        ("<!-- figures: machines begin -->\n<!-- figures: claims end -->", "claims, machines: expected a begin"),
    ],
)
def test_a_wrong_marker_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blocks.rewritten(text, ROOT / "page.md")


def test_check_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    monkeypatch.setattr(blocks, "PICTURES", {"picture.svg": lambda: "<svg/>"})
    monkeypatch.setattr(blocks, "pages", lambda: [])
    assert blocks.main(["--check"]) == 1 and capsys.readouterr().out == "stale: picture.svg\n"
    assert blocks.main([]) == 0 and (tmp_path / "picture.svg").read_text() == "<svg/>"
    assert blocks.main(["--check"]) == 0


def test_a_red_accuracy_gate_reports_no_speed() -> None:
    row = {"contender": "int8", "peer": False, "passed": False, "audio_seconds": 2.0, "work_seconds": 1.0}
    with pytest.raises(ValueError, match="int8: no speed is reported"):
        committed.speed(row)
    assert committed.speed({**row, "passed": True}) == 2.0
    baseline = {**row, "peer": True, "contender": "other"}
    assert committed.fastest_baseline({"other": baseline}) is None
    assert committed.fastest_baseline({"other": {**baseline, "passed": None}}) is not None


def test_caveats_stay_with_their_tables() -> None:
    for name in ("machines", "kernel-levels", "cpu-zen5", "gpu-comparison"):
        block = blocks.BLOCKS[name]()
        assert "earlier weights of the bundled voice" in block, name
        assert "PyTorch's threads spun while waiting" in block, name
    readme = blocks.BLOCKS["readme-speed"]()
    assert "the engines alternate" in readme and "docs/performance.md#zen-4" in readme
    machines = blocks.BLOCKS["machines"]()
    assert all(re.search(rf"\[{name}\]\S+ \\\* \|", machines) for name in ("Ice Lake", "Zen 3"))
    assert "disturbed, the measured peak varied by more than a tenth" in machines
    assert "Disturbed" in blocks.BLOCKS["cpu-zen3"]() and "earlier weights" not in blocks.BLOCKS["cpu-zen3"]()


def test_fp32_before_winograd_is_marked() -> None:
    before, after = (
        ("machines", "kernel-levels", "cpu-zen5", "stream-overhead"),
        ("readme-speed", "cpu-zen4", "cpu-zen3"),
    )
    for names, marked in ((before, True), (after, False)):
        for name in names:
            assert ("measured before Winograd (direct convolution)" in blocks.BLOCKS[name]()) == marked, name
    assert "measured before Winograd" not in blocks.BLOCKS["gpu-comparison"]()
    assert "Winograd's savings" not in report.markdown(committed.load("epyc-zen4-2-cores-direct"))
    assert "Winograd's savings" in report.markdown(committed.load("epyc-zen3-2-cores"))
    assert blocks.PICTURES["docs/images/speed.svg"]().count("fp32 \u2020") == 1
