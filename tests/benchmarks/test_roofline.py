"""The roofline model: held to programs with published rates, to arithmetic by hand and to the committed prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("triton")

import triton

from benchmarks.committed import load
from benchmarks.figures import roofline_plot
from benchmarks.gpu import roofline
from benchmarks.gpu.call_work import program_costs, vocode_work
from benchmarks.gpu.launch_model import Cost, Work, launch_seconds
from benchmarks.gpu.specs import ASSUMPTIONS, GPUS
from engine.kernels.hopper import stack

A100, H100 = (next(gpu for gpu in GPUS if gpu.name == name) for name in ("A100", "H100"))
COMMITTED = load("gpu-predicted")
FREE = Cost(0, 0, 0, 0, 0, 0, 1)


def near(rows: list[dict[str, Any]]) -> list[bool]:
    return [abs(row["predicted"] / row["published"] - 1) < 0.3 for row in rows]


def test_the_model_reproduces_published_rates() -> None:
    assert near(roofline.validation(H100)) == [True, True]
    slow = replace(H100, tensor_tflops=H100.tensor_tflops / 2, dram_gbytes=H100.dram_gbytes / 2)
    assert near(roofline.validation(slow)) == [False, False]


@pytest.mark.parametrize(
    ("changes", "work", "seconds", "bound"),
    [
        ({"flops": 1e9}, {"programs": 132}, 1e9 / (989e12 / 132 * 0.85), "tensor cores"),
        ({"flops": 1e9}, {"programs": 133}, 2e9 / (989e12 / 132 * 0.85), "tensor cores"),  # one more is another round
        ({"instructions": 4e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "issue"),
        ({"special": 16e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "special functions"),
        ({"shared": 1e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "shared memory"),
        ({}, {"streamed": 3.35e9}, 1e-3 / 0.9, "device memory"),
        ({}, {"kept": 3.35e9, "footprint": 1e6}, 0.0, "tensor cores"),  # all of it is still in the L2: nothing waits
        ({}, {"kept": 3.35e9, "footprint": 70e6}, 0.5e-3 / 0.9, "device memory"),  # twice what stays there
        ({"resident": 2}, {"programs": 132 * 5}, 2 * 4 * 0.6e-6, "latency"),  # the third round of two
    ],
)
def test_one_launch_by_hand(changes: dict[str, Any], work: dict[str, Any], seconds: float, bound: str) -> None:
    counts = {"programs": 1, "streamed": 0.0, "kept": 0.0, "footprint": 0.0} | work
    time = launch_seconds(H100, Work(replace(FREE, **changes), **counts))
    assert time == (pytest.approx(seconds + 4 * 0.6e-6), bound)  # with the latencies of the first programs


def test_counts_are_those_of_the_kernel() -> None:
    block = program_costs("BASE", 80, "fp16")["residual_block"]
    assert block.rows == 64 and block.flops == 64 * 65536  # 32768 multiply-accumulates per sample and layer
    # Two tanh per channel and row; a product of m16n8k16 is 4096 flops of one warp.
    assert block.special == 64 * 64 * 2
    # Three taps, h, skip twice, next and the conditioner, 128 or 256 bytes per row, and 64 KB of weights must pass.
    least = 64 * (3 * 128 + 4 * 128 + 256) + 65536
    assert least < block.l2 < least * 1.2


def test_more_bytes_take_longer() -> None:
    [block] = [work for work, count in vocode_work("BASE", 80, "fp16", 1, 22050) if count == 180]
    doubled = replace(block, streamed=2 * block.streamed, kept=2 * block.kept)
    gpu = replace(A100, l2_mbytes=0.1)
    assert launch_seconds(gpu, doubled)[0] > 1.5 * launch_seconds(gpu, block)[0]


def test_nothing_is_faster_than_its_floor() -> None:
    for row in COMMITTED["rows"]:
        floors = ("floor_arithmetic_seconds", "floor_conditioner_seconds", "floor_feed_seconds")
        assert row["predicted_seconds"] > max(row[floor] for floor in floors)
    for row in COMMITTED["groups"]:
        assert row["predicted_seconds"] > row["floor_feed_seconds"]


def test_the_feed_of_the_tensor_cores_by_hand() -> None:
    """A tile of 256 samples of a layer: operands of 84 products of two warpgroups, z, h twice, and the weights."""
    config = roofline.NETWORKS["BASE"]
    tile = 84 * (2048 + 32 * 128) + 256 * 3 * 128 + 84 * 1024
    assert roofline.feed_bytes(config, 90) == tile / 256 == stack.feed_bytes(128, 80) / 256 == 2736
    clocks = 2736 / 128 * 22050 * 180
    assert roofline.feed_seconds(H100, config, 22050 * 180) == pytest.approx(clocks / 132 / 1.83e9)


def test_the_committed_groups_are_current() -> None:
    fresh = [roofline.predict_groups(H100, *cell) for cell in roofline.CELLS]
    assert [row["predicted_seconds"] for row in COMMITTED["groups"]] == pytest.approx(
        [row["predicted_seconds"] for row in fresh]
    )


def test_the_committed_assumptions_are_current() -> None:
    assert COMMITTED["version"] == roofline.VERSION and COMMITTED["kind"] == "predicted"
    assert all(row["predicted"] for row in COMMITTED["rows"])
    assert {row["name"]: (row["value"], row["source"]) for row in COMMITTED["assumptions"]} == ASSUMPTIONS


@pytest.mark.parametrize("network", ["BASE", pytest.param("LARGE", marks=pytest.mark.slow)])
def test_the_committed_prediction_is_current(network: str) -> None:
    if COMMITTED["triton"] != triton.__version__:
        pytest.skip(f"computed with Triton {COMMITTED['triton']}, installed is {triton.__version__}")
    rows = [row for row in COMMITTED["rows"] if (row["gpu"], row["network"]) == ("A100", network)]
    assert rows
    for row in rows:
        fresh = roofline.predict(A100, network, row["items"], row["seconds"])
        assert fresh["predicted_seconds"] == pytest.approx(row["predicted_seconds"], rel=1e-3)


def test_the_report_and_the_plot_show_every_row() -> None:
    report = roofline.report(COMMITTED)
    assert report.count("\n| H100 |") == 6 + 5 and all(f"`{name}`" in report for name in ASSUMPTIONS)
    picture = roofline_plot.svg()
    assert "PREDICTED" in picture and picture.count("<circle") == 1 + 3  # the paper's, and the H100 at 1, 5 and 10 s
