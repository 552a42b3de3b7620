"""The roofline model: held to programs with published rates, to arithmetic by hand and to the committed prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("triton")

import torch
import triton

from benchmarks.committed import load
from benchmarks.figures import roofline_plot
from benchmarks.gpu import group_model, roofline
from benchmarks.gpu.call_work import program_costs, vocode_work
from benchmarks.gpu.launch_model import Cost, Work, launch_seconds
from benchmarks.gpu.specs import ASSUMPTIONS, GPUS
from engine.config import BASE
from engine.kernels.ampere import stack as mma
from engine.kernels.cuda.groups import groups
from engine.kernels.hopper import stack
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice, compile_once, program_of
from tests.gpu.ptx.counters import Counters

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
        assert row["predicted"] and row["predicted_seconds"] > row["floor_feed_seconds"]
        assert row["predicted_seconds"] > row["floor_arithmetic_seconds"]


def test_the_feed_of_the_tensor_cores_by_hand() -> None:
    """A tile of 256 samples of a layer: operands of 84 products of two warpgroups, z, h twice, and the weights."""
    config = roofline.NETWORKS["BASE"]
    tile = 84 * (2048 + 32 * 128) + 256 * 3 * 128 + 84 * 1024
    assert roofline.feed_bytes(config, 90) == tile / 256 == stack.feed_bytes(128, 80) / 256 == 2736
    clocks = 2736 / 128 * 22050 * 180
    assert roofline.feed_seconds(H100, config, 22050 * 180) == pytest.approx(clocks / 132 / 1.83e9)


def test_the_committed_groups_are_current() -> None:
    fresh = [roofline.predict_groups(gpu, *cell) for gpu in GPUS for cell in roofline.CELLS]
    numbers = ("predicted_seconds", "times_real_time", "floor_arithmetic_seconds", "floor_feed_seconds")
    assert len(COMMITTED["groups"]) == len(fresh)
    for row, new in zip(COMMITTED["groups"], fresh, strict=True):
        assert row == new | {name: pytest.approx(new[name]) for name in numbers}


def test_the_groups_by_hand() -> None:
    """22050 samples are 98 tiles of 226, one wave of an A100; 43008 multiply-adds of a sample take 42 clocks there."""
    first, *_, last = groups(BASE.dilations)
    clocks = {gpu.name: 2 * 43008 / (1e12 * gpu.tensor_tflops / gpu.multiprocessors / gpu.ghz / 1e9) for gpu in GPUS}
    assert [round(clocks[name]) for name in ("A100", "L4", "RTX 4090")] == [42, 84, 168]  # half rate on GeForce
    block = 4 * 256 * clocks["A100"] / 0.8 + 2500
    assert group_model.launch_clocks(A100, BASE, first, 1, 22050) == (pytest.approx(block), "tensor cores")
    assert group_model.launch_clocks(A100, BASE, first, 2, 108 * 226)[0] == pytest.approx(2 * block)  # two waves
    # 128 phases of 100 samples: two waves of blocks of 128 samples, with the output head.
    block = 128 * (3 + 64 * 64 / 43008) * clocks["A100"] / 0.8 + 2500
    assert group_model.launch_clocks(A100, BASE, last, 1, 128 * 100)[0] == pytest.approx(2 * block)


@pytest.mark.parametrize(
    ("changes", "clocks", "bound"),
    [
        ({"tensor_tflops": 1e6}, 4 * 256 * 34.125 / 0.8 + 2500, "shared memory"),
        # Rows of an audio of 4 bytes and a mel of 160, 256 for every 226; h and the skip sum are written.
        ({"dram_gbytes": 0.1, "l2_mbytes": 0}, 22050 * (164 * 256 / 226 + 256) / 0.09 * 1.41, "device memory"),
        ({"l2_gbytes": 0.1}, (22050 * (164 * 256 / 226 + 256) + 98 * 4 * 84 * 1024) / 0.09 * 1.41, "L2"),
    ],
)
def test_other_limits_of_the_groups(changes: dict[str, float], clocks: float, bound: str) -> None:
    gpu = replace(A100, **changes)
    first = groups(BASE.dilations)[0]
    assert group_model.launch_clocks(gpu, BASE, first, 1, 22050) == (pytest.approx(clocks), bound)


def test_later_groups_read_h_and_the_skip_sum_and_the_last_one_updates_the_audio() -> None:
    first, second, *_, last = groups(BASE.dilations)
    halo = 256 / 242
    read = halo * (128 + 160) + 128
    assert group_model.moved_bytes(BASE, second, 8, 100) == pytest.approx(100 * (read + 256))
    assert group_model.moved_bytes(BASE, last, 8, 100) == pytest.approx(100 * (read + 64))
    assert group_model.moved_bytes(BASE, first, 8, 100) == pytest.approx(100 * (164 * 256 / 226 + 256))


def test_the_counts_of_the_groups_are_those_of_the_kernel(one_torch_thread: None) -> None:
    """A block of four layers without the head: products, operands, h twice, and the weights."""
    pytest.importorskip("cuda.bindings.nvrtc")
    kernel, counters = mma.kernel(4, 4, 80, False), Counters()
    device = SimulatedDevice(80, checks=False)
    device.isa = mma.ISA  # type: ignore[attr-defined]
    net = checks.network(device, replace(BASE, residual_layers=4), "fp16")
    buffers = checks.allocate(device, net, (90,))
    for tensor in (buffers.biases, *buffers.h, buffers.skip, buffers.stages[-1]):
        device.fill(tensor, torch.zeros(tensor.shape))
    launch = net.residual_stack(buffers, 0, 0)
    ptx = compile_once(kernel, 80).asm["ptx"]
    size = {"shared_bytes": kernel.shared, "checks": False, "counters": counters}
    device.machine.launch(program_of(ptx), (1, 1, 1), kernel.threads, launch.arguments, **size)
    assert 4096 * counters.names["mma"] == group_model.block_flops(4, 4, 80, False)
    shared, weights = counters.shared_memory, group_model.weight_bytes(4, 80)
    operands, h = shared["ldmatrix"].bytes, shared["load"].bytes
    assert operands + 2 * h + weights == group_model.feed_bytes(4, 4, 80, False)
    assert shared["store"].bytes == h * 3 / 4  # the first layer's h arrives by cp.async
    assert weights < counters.global_memory["copy"].bytes < 1.1 * weights


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
    assert report.count("\n| A100 |") == report.count("\n| L4 |") == 6 + 5
    assert report.count("\n| H100 |") == 6 + 5 and all(f"`{name}`" in report for name in ASSUMPTIONS)
    picture = roofline_plot.svg()
    assert "PREDICTED" in picture and picture.count("<circle") == 1 + 3  # the paper's, and the H100 at 1, 5 and 10 s
