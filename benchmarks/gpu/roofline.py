"""Predicted times of whole `vocode` calls on GPUs, from a model of the kernels as compiled. Nothing here is measured.

python -m benchmarks.gpu.roofline [--output FILE.json] [--plot FILE.svg]

Instructions, bytes and bank conflicts of a program are counted by executing its PTX (`call_work.py`); registers and
shared memory are read from its machine code. `launch_model.py` turns the counts into the time of a launch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton

from benchmarks.committed import Results, Row
from benchmarks.figures import roofline as tables
from benchmarks.figures import roofline_plot
from benchmarks.gpu.call_work import NETWORKS, STEPS, plan_sizes, vocode_work
from benchmarks.gpu.group_model import launch_clocks, least_seconds
from benchmarks.gpu.launch_model import launch_seconds
from benchmarks.gpu.probes import copy_work, product_work
from benchmarks.gpu.specs import ASSUMPTIONS, GPUS, SHARED_BYTES, Gpu
from engine.cli.bench.machine import commit
from engine.config import Config
from engine.kernels.ampere import stack as mma
from engine.kernels.cuda.groups import Group, padded_bands
from engine.kernels.cuda.groups import groups as layer_groups
from engine.kernels.hopper import stack

VERSION = 2
CELLS = ((1, 1.0), (1, 5.0), (1, 10.0), (4, 5.0), (16, 5.0))  # items, seconds of each
PAPER = (("BASE, 6 steps", 5.6), ("LARGE, 6 steps", 3.5), ("BASE, 20 steps", 2.1))  # x real time on a V100
# Published rates of an H100: a bf16 product of 8192 x 8192 x 8192, and a copy (read and written).
PUBLISHED = {"product": (790.0, "TFLOP/s"), "copy": (3.0, "TB/s")}


def feed_bytes(config: Config, capability: int) -> float:
    """Return the bytes of shared memory for a sample of a layer whose rows never leave it, in 16 bits.

    Tensor cores read their operands from shared memory, both of them again for every tile of the product: with wgmma
    2048 + 32 * 128 bytes for 64 x 128 x 16 multiply-accumulates, with ldmatrix 3072 for 32 x 64 x 16. Beside them,
    weights arrive once for 256 samples, z is written, and h read and written.

    Args:
        config: the configuration of the network; the conditioner is computed on the spot.
        capability: compute capability.
    """
    C, bands = config.residual_channels, padded_bands(config)
    products = 2 * C * (3 * C + bands) + 2 * C * C  # multiply-accumulates
    operands = (2048 + 32 * 128) / (64 * 128 * 16) if capability == 90 else 3072 / (32 * 64 * 16)
    return products * operands + 2 * products / 256 + 3 * 2 * C


def feed_seconds(gpu: Gpu, config: Config, rows: float) -> float:
    """Return the least time in which shared memory feeds the tensor cores for these samples times layers."""
    return rows * feed_bytes(config, gpu.capability) / (gpu.multiprocessors * SHARED_BYTES * 1e9 * gpu.ghz)


def predict_groups(gpu: Gpu, items: int, seconds: float) -> Row:
    """Return the predicted seconds of BASE's steps in groups of layers, without the upsampler and the host.

    The kernel is that of isa "sm_90a" on compute capability 9.0, else that of "mma".

    Args:
        gpu: an element of GPUS.
        items: number of items in the batch.
        seconds: duration of each item.
    """
    config = NETWORKS["BASE"]
    samples, is_hopper = round(seconds * config.sample_rate), gpu.capability == stack.CAPABILITY
    groups, clocks = layer_groups(config.dilations), 0.0
    bounds: dict[str, float] = {}
    for group in groups:
        launch, bound = (_hopper_clocks if is_hopper else launch_clocks)(gpu, config, group, items, samples)
        clocks += launch
        bounds[bound] = bounds.get(bound, 0.0) + launch
    total = STEPS * (clocks / (1e9 * gpu.ghz) + len(groups) * 1e-6 * gpu.launch_us)
    rows = STEPS * items * samples
    arithmetic, feed = least_seconds(gpu, config, rows)
    if is_hopper:
        feed = feed_seconds(gpu, config, config.residual_layers * rows)
    return {
        "predicted": True,
        "gpu": gpu.name,
        "isa": stack.ISA if is_hopper else mma.ISA,
        "items": items,
        "seconds": seconds,
        "predicted_seconds": total,
        "times_real_time": items * seconds / total,
        "floor_arithmetic_seconds": arithmetic,
        "floor_feed_seconds": feed,
        "bound": max(bounds, key=lambda resource: bounds[resource]),
    }


def _hopper_clocks(gpu: Gpu, config: Config, group: Group, items: int, samples: int) -> tuple[float, str]:
    """Return the clocks of a launch on Hopper, which its shared memory is assumed to bound."""
    size = padded_bands(config), items, samples, gpu.multiprocessors
    return stack.launch_clocks(group, stack.best_columns(group, *size), *size), "shared memory"


def predict(gpu: Gpu, name: str, items: int, seconds: float, precision: str = "fp16") -> Row:
    """Return the predicted seconds of a call and its lower bounds.

    Args:
        gpu: an element of GPUS.
        name: a key of NETWORKS.
        items: number of items in the batch.
        seconds: duration of each item.
        precision: precision of the network.
    """
    config = NETWORKS[name]
    samples = round(seconds * config.sample_rate)
    total, launches = 0.0, 0
    bounds: dict[str, float] = {}
    for plan in plan_sizes(name, precision, items, samples):
        for work, repetitions in vocode_work(name, gpu.capability, precision, plan, samples):
            launch, resource = launch_seconds(gpu, work)
            total += repetitions * launch
            launches += repetitions
            bounds[resource] = bounds.get(resource, 0.0) + repetitions * launch
    gaps = launches * 1e-6 * gpu.launch_us
    audio = items * samples / config.sample_rate
    layers = config.residual_layers * STEPS * items * samples
    C, size = config.residual_channels, 2 if precision in ("fp16", "bf16") else 4
    return {
        "predicted": True,
        "gpu": gpu.name,
        "network": name,
        "precision": precision,
        "steps": STEPS,
        "items": items,
        "seconds": seconds,
        "predicted_seconds": total + gaps,
        "rtf": (total + gaps) / audio,
        "times_real_time": audio / (total + gaps),
        "floor_arithmetic_seconds": 16.0 * C * C * layers / gpu.tensor_tflops / 1e12,
        "floor_conditioner_seconds": 2.0 * C * size * layers / gpu.dram_gbytes / 1e9,
        "floor_feed_seconds": feed_seconds(gpu, config, layers),
        "launch_share": gaps / (total + gaps),
        "bound": max(bounds, key=lambda resource: bounds[resource]),
    }


def validation(gpu: Gpu) -> list[Row]:
    """Return the model's rates of a large product and of a copy, beside the published ones."""
    rows = []
    for name, (work, amount) in {"product": product_work(gpu.capability), "copy": copy_work(gpu.capability)}.items():
        seconds, bound = launch_seconds(gpu, work)
        published, unit = PUBLISHED[name]
        rate = amount / (seconds + 1e-6 * gpu.launch_us) / 1e12
        rows.append(
            {"gpu": gpu.name, "what": name, "predicted": rate, "published": published, "unit": unit, "bound": bound}
        )
    return rows


def results() -> Results:
    """Return the whole prediction, as it is written to JSON."""
    rows = [predict(gpu, "BASE", *cell) for gpu in GPUS for cell in CELLS]
    rows += [predict(gpu, "LARGE", 1, 5.0) for gpu in GPUS]
    return {
        "version": VERSION,
        "kind": "predicted",
        "commit": commit(),
        "triton": triton.__version__,
        "assumptions": [{"name": n, "value": v, "source": source} for n, (v, source) in ASSUMPTIONS.items()],
        "gpus": [vars(gpu) for gpu in GPUS],
        "validation": validation(next(gpu for gpu in GPUS if gpu.name == "H100")),
        "rows": rows,
        "groups": [predict_groups(gpu, *cell) for gpu in GPUS for cell in CELLS],
        "paper": [{"what": name, "gpu": "V100", "times_real_time": x, "measured_by": "the paper"} for name, x in PAPER],
    }


def report(prediction: Results) -> str:
    """Return the tables for the terminal."""
    parts: dict[str, Any] = {
        "PREDICTED speed": tables.prediction(prediction),
        "PREDICTED speed of groups of layers": tables.groups(prediction),
        "The model on two programs with published rates": tables.validation(prediction),
        "Measured by the paper": tables.paper(prediction),
        "Assumptions": tables.assumptions(prediction),
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Print the prediction, and write it as JSON and as a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the prediction as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it beside the measured calls")
    arguments = parser.parse_args(argv)
    prediction = results()
    print(report(prediction))
    if arguments.output:
        arguments.output.write_text(json.dumps(prediction, indent=1) + "\n")
    if arguments.plot:
        arguments.plot.write_text(roofline_plot.svg(prediction))


if __name__ == "__main__":
    main()
