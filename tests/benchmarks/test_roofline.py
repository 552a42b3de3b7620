"""The model of GPUs: held to programs whose speed is known, to arithmetic by hand, and to the committed prediction."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("triton")

import triton

from benchmarks.gpu import plot as gpu_plot
from benchmarks.gpu import roofline
from benchmarks.gpu.specs import ASSUMPTIONS, GPUS
from tests.support.paths import ROOT

H100 = next(gpu for gpu in GPUS if gpu.name == "H100")
COMMITTED = json.loads((ROOT / "benchmarks" / "results" / "gpu-predicted.json").read_text())
FREE = roofline.Cost(0, 0, 0, 0, 0, 0, 1)


def within(rows):
    return [abs(row["predicted"] / row["published"] - 1) < 0.3 for row in rows]


def test_a_product_and_a_copy_come_out_as_published():
    assert within(roofline.validation(H100)) == [True, True]


def test_another_card_would_not():
    slow = replace(H100, tensor_tflops=H100.tensor_tflops / 2, dram_gbytes=H100.dram_gbytes / 2)
    assert within(roofline.validation(slow)) == [False, False]


@pytest.mark.parametrize(
    ("changes", "work", "seconds", "bound"),
    [
        ({"flops": 1e9}, {"programs": 132}, 1e9 / (989e12 / 132 * 0.85), "tensor cores"),
        ({"flops": 1e9}, {"programs": 133}, 2e9 / (989e12 / 132 * 0.85), "tensor cores"),  # one more is another round
        ({"instructions": 4e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "issue"),
        ({"special": 16e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "special functions"),
        ({"shared": 1e6}, {"programs": 1}, 1e6 / (1.83e9 * 0.85), "shared memory"),
        ({}, {"streamed": 3.35e9}, 1e-3 / 0.9, "device memory"),
        ({}, {"kept": 3.35e9, "footprint": 1e6}, 0.0, "tensor cores"),  # all of it still in the L2: nothing to wait for
        ({}, {"kept": 3.35e9, "footprint": 70e6}, 0.5e-3 / 0.9, "device memory"),  # twice what stays there
        ({"resident": 2}, {"programs": 132 * 5}, 2 * 4 * 0.6e-6, "latency"),  # the third round of two
    ],
)
def test_one_launch_by_hand(changes, work, seconds, bound):
    of = {"programs": 1, "streamed": 0.0, "kept": 0.0, "footprint": 0.0} | work
    found = roofline.launch_seconds(H100, roofline.Work(replace(FREE, **changes), **of))
    assert found == (pytest.approx(seconds + 4 * 0.6e-6), bound)  # and the latencies of the first programs


def test_counts_are_those_of_the_kernel():
    costs = roofline.counted("BASE", 80, "fp16")
    block = costs["residual_block"]
    assert block.rows == 64 and block.flops == 64 * 65536  # SPEC: 32768 multiply-adds a sample and layer
    # Two tanh a channel and row; a product of m16n8k16 is 4096 flops of one warp.
    assert block.special == 64 * 64 * 2
    # What must pass: three taps, h, skip twice, next and the conditioner, 128 or 256 bytes a row, and 64 KB of weights.
    least = 64 * (3 * 128 + 4 * 128 + 256) + 65536
    assert least < block.l2 < least * 1.2


def test_more_bytes_take_longer():
    [block] = [w for w, n in roofline.vocode_work("BASE", 90, "fp16", 1, 22050) if n == 180]
    doubled = replace(block, streamed=2 * block.streamed, kept=2 * block.kept)
    big = replace(H100, l2_mbytes=0.1)
    assert roofline.launch_seconds(big, doubled)[0] > 1.5 * roofline.launch_seconds(big, block)[0]


def test_nothing_is_faster_than_its_floor():
    for row in COMMITTED["rows"]:
        assert row["predicted_seconds"] > max(row["floor_arithmetic_seconds"], row["floor_conditioner_seconds"])


def test_the_committed_prediction_is_this_codes():
    assert COMMITTED["version"] == roofline.VERSION and COMMITTED["kind"] == "predicted"
    assert all(row["predicted"] for row in COMMITTED["rows"])
    assert {one["name"] for one in COMMITTED["assumptions"]} == set(ASSUMPTIONS)
    if COMMITTED["triton"] != triton.__version__:
        pytest.skip(f"made with Triton {COMMITTED['triton']}, here is {triton.__version__}")
    for row in COMMITTED["rows"]:
        if row["gpu"] == "A100":
            gpu = next(gpu for gpu in GPUS if gpu.name == row["gpu"])
            fresh = roofline.predict(gpu, row["network"], row["items"], row["seconds"])
            assert fresh["predicted_seconds"] == pytest.approx(row["predicted_seconds"], rel=1e-3)


def test_page_and_picture_show_the_committed_prediction():
    page = (ROOT / "docs" / "gpu-roofline.md").read_text()
    for line in roofline.table(COMMITTED):
        assert not line.startswith("| ") or line in page, line
    picture = (ROOT / "docs" / "gpu-roofline.svg").read_text()
    assert picture == gpu_plot.svg(COMMITTED, roofline.measured()) and "PREDICTED" in picture
    assert picture.count("<circle") == 1 + 3  # the paper's, and the H100 at 1, 5 and 10 s
