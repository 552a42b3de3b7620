"""CpuNetwork on an emulated 64-bit Arm processor: the kernels of csrc, cross-compiled, under qemu.

`Network` and `Sweep` replace the classes of the native module. They send requests to one process, runner.cpp.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.kernels import cpu
from tests.support.paths import ROOT

TIERS = ("generic", "neon", "dotprod")
TOOLS = ("aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump", "qemu-aarch64")

LACKING = [tool for tool in TOOLS if shutil.which(tool) is None]
needs_tools = pytest.mark.skipif(
    bool(LACKING), reason=f"no {', '.join(LACKING)}: apt-get install g++-aarch64-linux-gnu qemu-user"
)

WEIGHTS = (
    *("input_weight", "input_bias", "dilated_weight", "dilated_bias", "projection_weight", "projection_bias"),
    *("skip_weight", "skip_bias", "out_weight", "out_bias"),
)


@cache
def build() -> Path:
    """Compile the runner if a source has changed, and return its path."""
    subprocess.run(["make", "-s", "-C", ROOT, "build/arm/runner"], check=True)
    return ROOT / "build/arm/runner"


class Runner:
    """The process that holds all networks and sweeps, by numbers that this class assigns."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["qemu-aarch64", build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._numbers = count()
        self._gone: list[int] = []

    def number(self) -> int:
        return next(self._numbers)

    def forget(self, number: int) -> None:
        """Delete an object at the next call, because Python may collect it during a call."""
        self._gone.append(number)

    def call(self, name: str, *integers: int, arrays: Sequence[FloatArray | None] = ()) -> bytes:
        while self._gone:
            self._exchange("forget", (self._gone.pop(),), ())
        return self._exchange(name, integers, arrays)

    def floats(self, name: str, *integers: int, arrays: Sequence[FloatArray | None] = ()) -> FloatArray:
        return np.frombuffer(self.call(name, *integers, arrays=arrays), np.float32).copy()

    def integers(self, name: str, *integers: int, arrays: Sequence[FloatArray | None] = ()) -> list[int]:
        return np.frombuffer(self.call(name, *integers, arrays=arrays), np.int64).tolist()

    def _exchange(self, name: str, integers: Sequence[int], arrays: Sequence[FloatArray | None]) -> bytes:
        assert self._process.stdin is not None
        signed = [(value + 2**63) % 2**64 - 2**63 for value in integers]
        parts = [_counted(name.encode(), 1), _counted(struct.pack(f"{len(signed)}q", *signed), 8)]
        parts.append(struct.pack("q", len(arrays)))
        parts += [_counted(b"" if a is None else np.ascontiguousarray(a, np.float32).tobytes(), 4) for a in arrays]
        try:
            self._process.stdin.write(b"".join(parts))
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # _read reports the reason
        error, result = self._read(), self._read()
        if error:
            raise RuntimeError(error.decode())
        return result

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        head = self._process.stdout.read(8)
        if len(head) < 8:
            raise RuntimeError(f"the runner ended with status {self._process.wait()}")
        return self._process.stdout.read(struct.unpack("q", head)[0])


def _counted(values: bytes, size: int) -> bytes:
    return struct.pack("q", len(values) // size) + values


runner = cache(Runner)


class Network:
    """Replacement of `_native.Network_fp32`; kernels/_native.pyi documents the methods."""

    def __init__(
        self,
        isa: str,
        arrays: Mapping[str, FloatArray],
        dilations: Sequence[int],
        strides: Sequence[int],
        bands: int,
        reflect: bool,
        residual_carries_d: bool,
    ) -> None:
        names = list(WEIGHTS)
        if bands:
            names += ["conditioner_weight", "conditioner_bias"]
            names += [f"upsample_{kind}_{i}" for i in range(len(strides)) for kind in ("weight", "bias")]
        names += [name for name in ("ranges", "mel_range", "conditioner_ranges") if name in arrays]
        self.id = runner().number()
        integers = self.id, bands, reflect, residual_carries_d, len(dilations), *dilations, *strides
        (self.reach,) = runner().integers(f"network {isa}", *integers, arrays=[arrays[name] for name in names])
        self._channels, self._bands = arrays["input_weight"].size, bands

    def __del__(self) -> None:
        runner().forget(self.id)

    def frames_of(self, begin: int, end: int) -> list[int]:
        return runner().integers("frames_of", self.id, begin, end)

    def sweep_bytes(self, steps: int, length: int | None, threads: int, rows: int) -> int:
        return runner().integers("sweep_bytes", self.id, steps, -1 if length is None else length, threads, rows)[0]

    def upsample_mel(self, layer: int, mel: FloatArray) -> FloatArray:
        return runner().floats("upsample_mel", self.id, layer, arrays=[mel]).reshape(-1, self._bands)

    def project_conditioner(self, layer: int, mel: FloatArray) -> FloatArray:
        return runner().floats("project_conditioner", self.id, layer, arrays=[mel]).reshape(len(mel), -1)

    def input_projection(self, x: FloatArray) -> FloatArray:
        return runner().floats("input_projection", self.id, arrays=[x]).reshape(len(x), -1)

    def residual_block(
        self, layer: int, conditioner: FloatArray | None, d: FloatArray, h: FloatArray, skip: FloatArray
    ) -> None:
        h[:], skip[:] = (
            runner().floats("residual_block", self.id, layer, arrays=[h, skip, d, conditioner]).reshape(2, *h.shape)
        )

    def output_head(self, skip: FloatArray) -> FloatArray:
        return runner().floats("output_head", self.id, arrays=[skip])


class Sweep:
    """Replacement of `_native.Sweep_fp32`; kernels/_native.pyi documents the methods."""

    def __init__(
        self,
        network: Network,
        d: FloatArray,
        coefficients: FloatArray,
        clamp: bool,
        seed: int,
        noise_step: int,
        length: int | None,
        threads: int,
        rows: int,
        conditioner_rows: FloatArray | None = None,
    ) -> None:
        self.id = runner().number()
        integers = self.id, network.id, clamp, seed, noise_step, -1 if length is None else length, threads, rows
        self.tile, self.bytes = runner().integers("sweep", *integers, arrays=[d, coefficients, conditioner_rows])

    def __del__(self) -> None:
        runner().forget(self.id)

    def bind(
        self,
        x: FloatArray,
        origin: int = 0,
        mel: FloatArray | None = None,
        first_frame: int = 0,
        noise: FloatArray | None = None,
        scale: FloatArray | None = None,
        scale_origin: int = 0,
        repeat: int = 1,
    ) -> None:
        self._integers = origin, first_frame, scale_origin, repeat
        self._arrays = x, mel, noise, scale

    def advance(self, step: int, begin: int, rows: int) -> None:
        """Send the bound arrays with their current values, and update x."""
        integers = self.id, step, begin, rows, *self._integers
        self._arrays[0][:] = runner().floats("advance", *integers, arrays=self._arrays)

    def end(self, length: int) -> None:
        runner().call("end", self.id, length)


class ArmNetwork(cpu.CpuNetwork):
    """CpuNetwork with the replacements of this module."""

    def __init__(self, config: Config, tensors: Mapping[str, FloatArray], isa: str, precision: str = "fp32") -> None:
        native = SimpleNamespace(
            Network_fp32=Network,
            Sweep_fp32=Sweep,
            tiers=lambda: [(name, True, "an emulator", ["fp32", "int8"]) for name in TIERS],
        )
        with mock.patch.object(cpu, "_native", native):
            super().__init__(config, tensors, isa, precision)

    def normal(self, seed: int, step: int, begin: int, count: int) -> Any:
        return runner().floats("normal", seed, step, begin, count)
