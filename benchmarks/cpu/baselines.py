"""Baselines on a CPU: LMNT's model in other runtimes, each with its best settings.

The extra `bench` installs them. Exporting, compiling and quantizing are outside the clock. Each baseline computes the
conditioner in every step, as its users get it. The ones marked "once" run a network whose upsampler and conditioner
projections are hoisted out; PyTorch computes these at the beginning of every call.
"""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks import lmnt
from benchmarks.committed import EAGER
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule

Call = Callable[[], FloatArray]
Infer = Callable[[dict[str, FloatArray]], FloatArray]  # inputs of the network by name -> eps
Predict = Callable[[FloatArray, int], FloatArray]  # x [B,L] and the index of the step -> eps [B,L]

# Calibration of int8: parts of the mel, frames of each, and a seed of the noise that no timed call uses.
PARTS, PART_FRAMES, CALIBRATION_SEED = 4, 43, 1000
NOT_QUANTIZED = [
    "Add",
    "Multiply",
    "Divide",
    "Subtract",
    "Sigmoid",
    "Tanh",
    "Concat",
    "Slice",
    "PRelu",
    "VariadicSplit",
]


class Task:
    """The audio that all entries compute, and its inputs besides the network: noise, step biases, updates."""

    def __init__(self, checkpoint: Checkpoint, mels: FloatArray, seed: int, threads: int) -> None:
        """Draw the noise and compute the step biases.

        Args:
            checkpoint: the network.
            mels: [B,M,T].
            seed: seed of the first item's noise.
            threads: number of threads of every entry.
        """
        self.checkpoint, self.mels, self.threads = checkpoint, np.ascontiguousarray(mels), threads
        config = checkpoint.config
        self.plan = build_schedule(config)
        length = mels.shape[2] * config.hop
        self.noise = [np.stack([normal(seed + i, n, 0, length) for i in range(len(mels))]) for n in range(len(self))]
        self.d = step_biases(checkpoint.tensors, config, self.plan.t).astype(np.float32)

    def __len__(self) -> int:
        return len(self.plan)

    def states(self, predict: Predict) -> Iterator[FloatArray]:
        """Yield x before every step, and then the audio (paper, algorithm 2)."""
        plan, x = self.plan, self.noise[0]
        for n in range(len(plan)):
            yield x
            x = np.float32(plan.a[n]) * x + np.float32(plan.b[n]) * predict(x, n)
            if n + 1 < len(plan):
                x = x + np.float32(plan.sigma[n]) * self.noise[n + 1]
            x = np.clip(x, -1.0, 1.0)
        yield x

    def sample(self, predict: Predict) -> FloatArray:
        """Return audio [B,L], that of `Voice.vocode` from the same mels and seed."""
        *_, audio = self.states(predict)
        return audio


class Exported:
    """One network in the formats of other runtimes, each exported at its first use."""

    def __init__(self, checkpoint: Checkpoint, mel: FloatArray) -> None:
        """Keep the network.

        Args:
            checkpoint: the network.
            mel: [M,T] that int8 is calibrated on.
        """
        self.checkpoint, self._mel = checkpoint, mel

    @cached_property
    def network(self) -> lmnt.Network:
        """The network in PyTorch."""
        return lmnt.Network(self.checkpoint)

    @cached_property
    def onnx(self) -> bytes:
        """An ONNX model with inputs x, d and mel, and output eps."""
        return self._export(self.network, {"mel": torch.rand(1, self.checkpoint.config.n_mels, 2)}, "T")

    @cached_property
    def hoisted_onnx(self) -> bytes:
        """An ONNX model with inputs x, d and c0, c1, ..., the conditioners of the layers, and output eps."""
        config = self.checkpoint.config
        conditioner = torch.rand(1, 2 * config.residual_channels, 2 * config.hop)
        conditioners = {f"c{i}": conditioner for i in range(config.residual_layers)}
        return self._export(lmnt.Network(self.checkpoint, hoisted=True), conditioners, "L")

    @cached_property
    def int8(self) -> Any:
        """An OpenVINO model: `onnx` with weights and activations quantized by NNCF, calibrated on the demo mel.

        Only convolutions are quantized: NNCF's default also quantizes every sum, with lower SNR and speed.
        """
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        scope = nncf.IgnoredScope(types=NOT_QUANTIZED, validate=False)
        inputs = self._calibration()
        model = openvino.Core().read_model(self.onnx)
        return nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs), ignored_scope=scope)

    def _calibration(self) -> list[dict[str, FloatArray]]:
        inputs = []
        for number in range(PARTS):
            mel = self._mel[None, :, number * PART_FRAMES :][:, :, :PART_FRAMES]
            task = Task(self.checkpoint, mel, CALIBRATION_SEED + number, 1)
            *before, _ = task.states(_torch_predict(self, task))
            inputs += [{"x": x, "d": task.d[n], "mel": task.mels} for n, x in enumerate(before)]
        return inputs

    def _export(self, network: torch.nn.Module, conditions: Mapping[str, torch.Tensor], last: str) -> bytes:
        config, file = self.checkpoint.config, io.BytesIO()
        d = torch.rand(config.residual_layers, config.residual_channels)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter that needs no further package is the deprecated one
            torch.onnx.export(
                network,
                (torch.rand(1, 2 * config.hop), d, *conditions.values()),
                file,
                dynamo=False,
                input_names=["x", "d", *conditions],
                output_names=["eps"],
                dynamic_axes={"x": {0: "B", 1: "L"}, **{name: {0: "B", 2: last} for name in conditions}},
            )
        return file.getvalue()


@dataclass(frozen=True)
class Baseline:
    """One way to run LMNT's model.

    Attributes:
        name: title of its row.
        precision: "fp32", "bf16" or "int8"; selects the accuracy gate and the peak.
        needs: modules to import.
        build: function that returns the timed call.
        conditioner: when it is computed, in "every step" or "once".
    """

    name: str
    precision: str
    needs: tuple[str, ...]
    build: Callable[[Exported, Task], Call]
    conditioner: str = "every step"


def prepare(baseline: Baseline, exported: Exported, task: Task) -> tuple[Call, FloatArray] | str:
    """Return a baseline's call and the audio of a first one, or the reason why it cannot run."""
    for module in baseline.needs:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{error}; pip install '.[bench]'"
    try:
        call = baseline.build(exported, task)
        return call, call()
    except Exception as error:  # compilers and other runtimes raise many types
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _eager(exported: Exported, task: Task) -> Call:
    try:
        model = lmnt.published(task.checkpoint)
    except ImportError:
        return _in_torch(_torch_predict(exported, task), task)
    mel, t = torch.from_numpy(task.mels), [torch.tensor([t], dtype=torch.float32) for t in task.plan.t]
    return _in_torch(lambda x, n: model(torch.from_numpy(x), mel, t[n])[:, 0].numpy(), task)


def _autocast(exported: Exported, task: Task) -> Call:
    return _in_torch(_torch_predict(exported, task), task, bf16=True)


def _compiled(bf16: bool) -> Callable[[Exported, Task], Call]:
    def build(exported: Exported, task: Task) -> Call:
        network = torch.compile(exported.network, dynamic=False)
        return _in_torch(_torch_predict(exported, task, network), task, bf16)

    return build


def _torch_predict(exported: Exported, task: Task, network: Any = None) -> Predict:
    run = network if network is not None else exported.network
    mel, d = torch.from_numpy(task.mels), torch.from_numpy(task.d)

    def predict(x: FloatArray, n: int) -> FloatArray:
        with torch.no_grad():
            eps: FloatArray = run(torch.from_numpy(x), d[n], mel).float().numpy()
            return eps

    return predict


def _in_torch(predict: Predict, task: Task, bf16: bool = False) -> Call:
    def call() -> FloatArray:
        with _torch_threads(task.threads), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return task.sample(predict)

    return call


def _onnxruntime(exported: Exported, task: Task) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    items, _, frames = task.mels.shape
    for axis, size in {"B": items, "T": frames, "L": frames * task.checkpoint.config.hop}.items():
        options.add_free_dimension_override_by_name(axis, size)
    session = onnxruntime.InferenceSession(exported.onnx, options, providers=["CPUExecutionProvider"])

    def predict(x: FloatArray, n: int) -> FloatArray:
        eps: FloatArray = session.run(None, {"x": x, "d": task.d[n], "mel": task.mels})[0]
        return eps

    return lambda: task.sample(predict)


def _openvino(hint: str, quantized: bool = False) -> Callable[[Exported, Task], Call]:
    def build(exported: Exported, task: Task) -> Call:
        model = exported.int8.clone() if quantized else _read(exported.onnx)
        infer = _openvino_request(model, hint, task, {"mel": task.mels})
        return lambda: task.sample(lambda x, n: infer({"x": x, "d": task.d[n], "mel": task.mels}))

    return build


def _openvino_hoisted(hint: str) -> Callable[[Exported, Task], Call]:
    def build(exported: Exported, task: Task) -> Call:
        mel = torch.from_numpy(task.mels)

        def conditioners() -> dict[str, FloatArray]:
            with _torch_threads(task.threads):
                return {f"c{i}": layer.numpy() for i, layer in enumerate(exported.network.conditioners(mel))}

        infer = _openvino_request(_read(exported.hoisted_onnx), hint, task, conditioners())

        def call() -> FloatArray:
            inputs = conditioners()
            return task.sample(lambda x, n: infer({"x": x, "d": task.d[n], **inputs}))

        return call

    return build


def _read(onnx: bytes) -> Any:
    import openvino

    return openvino.Core().read_model(onnx)


def _openvino_request(model: Any, hint: str, task: Task, conditions: Mapping[str, FloatArray]) -> Infer:
    """Compile a model for the shapes of the task and of the network's other inputs."""
    import openvino

    inputs = {"x": task.noise[0], "d": task.d[0], **conditions}
    model.reshape({name: values.shape for name, values in inputs.items()})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": task.threads,
        "INFERENCE_PRECISION_HINT": hint,
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def infer(inputs: dict[str, FloatArray]) -> FloatArray:
        eps: FloatArray = request.infer(inputs, share_inputs=True)["eps"].copy()
        return eps

    return infer


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


BASELINES: Sequence[Baseline] = (
    Baseline(EAGER, "fp32", (), _eager),
    Baseline("PyTorch bf16 autocast", "bf16", (), _autocast),
    Baseline("torch.compile fp32", "fp32", (), _compiled(False)),
    Baseline("torch.compile bf16 autocast", "bf16", (), _compiled(True)),
    Baseline("ONNX Runtime fp32", "fp32", ("onnx", "onnxruntime"), _onnxruntime),
    Baseline("OpenVINO fp32", "fp32", ("onnx", "openvino"), _openvino("f32")),
    Baseline("OpenVINO bf16", "bf16", ("onnx", "openvino"), _openvino("bf16")),
    Baseline("OpenVINO int8", "int8", ("onnx", "openvino", "nncf"), _openvino("bf16", quantized=True)),
    Baseline("OpenVINO fp32, hoisted", "fp32", ("onnx", "openvino"), _openvino_hoisted("f32"), "once"),
    Baseline("OpenVINO bf16, hoisted", "bf16", ("onnx", "openvino"), _openvino_hoisted("bf16"), "once"),
)
