"""Who takes part in the duel besides this engine: LMNT's model in other runtimes, each at its best settings.

The extra `bench` installs them. Exporting, compiling and quantising are outside the clock. Each computes the
conditioner anew in every step, as its users get it, unless its row says "once": then the upsampler and the projections
were moved out of the network for it, and run in PyTorch at the beginning of every call.
"""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from benchmarks import lmnt
from benchmarks.report import EAGER
from engine.checkpoint.load import Checkpoint
from engine.checks.arrays import FloatArray
from engine.diffusion.embedding import step_biases
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule

Call = Callable[[], FloatArray]
Infer = Callable[[dict[str, FloatArray]], FloatArray]  # the network's inputs by name -> eps
Predict = Callable[[FloatArray, int], FloatArray]  # x [B,L] and the number of the step -> eps [B,L]

# For int8: stretches of the mel, frames of each, and the seed of their noise, which no timed call has.
STRETCHES, STRETCH, CALIBRATION_SEED = 4, 43, 1000
NOT_QUANTISED = [
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
    """What all contenders make audio of, and all of it that is not the network: noise, step biases, updates.

    Args:
        checkpoint: the network.
        mels: [B,M,T].
        seed: of the first item's noise.
        threads: for every contender.
    """

    def __init__(self, checkpoint: Checkpoint, mels: FloatArray, seed: int, threads: int) -> None:
        self.checkpoint, self.mels, self.threads = checkpoint, np.ascontiguousarray(mels), threads
        config = checkpoint.config
        self.plan = build_schedule(config)
        length = mels.shape[2] * config.hop
        self.noise = [np.stack([normal(seed + i, n, 0, length) for i in range(len(mels))]) for n in range(len(self))]
        self.d = step_biases(checkpoint.tensors, config, self.plan.t).astype(np.float32)

    def __len__(self) -> int:
        return len(self.plan)

    def states(self, predict: Predict) -> Iterator[FloatArray]:
        """x before every step, and the audio (paper, algorithm 2)."""
        plan, x = self.plan, self.noise[0]
        for n in range(len(plan)):
            yield x
            x = np.float32(plan.a[n]) * x + np.float32(plan.b[n]) * predict(x, n)
            if n + 1 < len(plan):
                x = x + np.float32(plan.sigma[n]) * self.noise[n + 1]
            x = np.clip(x, -1.0, 1.0)
        yield x

    def sample(self, predict: Predict) -> FloatArray:
        """`Voice.vocode` of the same mels and seed: audio [B,L]."""
        *_, audio = self.states(predict)
        return audio


class Exported:
    """One network in the forms that other runtimes read, made when first asked for.

    Args:
        checkpoint: the network.
        mel: [M,T], what int8 is calibrated on.
    """

    def __init__(self, checkpoint: Checkpoint, mel: FloatArray) -> None:
        self.checkpoint, self._mel = checkpoint, mel

    @cached_property
    def network(self) -> lmnt.Network:
        """In PyTorch."""
        return lmnt.Network(self.checkpoint)

    @cached_property
    def onnx(self) -> bytes:
        """Inputs x, d and mel, output eps."""
        return self._export(self.network, {"mel": torch.rand(1, self.checkpoint.config.n_mels, 2)}, "T")

    @cached_property
    def hoisted_onnx(self) -> bytes:
        """Inputs x, d and c0, c1, ..., the conditioners of the layers; output eps."""
        config = self.checkpoint.config
        one = torch.rand(1, 2 * config.residual_channels, 2 * config.hop)
        given = {f"c{i}": one for i in range(config.residual_layers)}
        return self._export(lmnt.Network(self.checkpoint, hoisted=True), given, "L")

    @cached_property
    def int8(self) -> Any:
        """`onnx` as an OpenVINO model, weights and activations quantised by NNCF, calibrated on the demo mel.

        Only convolutions are: with NNCF's own choice, which quantises every sum, too, SNR and speed are lower.
        """
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        scope = nncf.IgnoredScope(types=NOT_QUANTISED, validate=False)
        inputs = self._calibration()
        model = openvino.Core().read_model(self.onnx)
        return nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs), ignored_scope=scope)

    def _calibration(self) -> list[dict[str, FloatArray]]:
        inputs = []
        for number in range(STRETCHES):
            mel = self._mel[None, :, number * STRETCH :][:, :, :STRETCH]
            one = Task(self.checkpoint, mel, CALIBRATION_SEED + number, 1)
            *before, _ = one.states(_torch_predict(self, one))
            inputs += [{"x": x, "d": one.d[n], "mel": one.mels} for n, x in enumerate(before)]
        return inputs

    def _export(self, network: torch.nn.Module, given: dict[str, torch.Tensor], last: str) -> bytes:
        config, file = self.checkpoint.config, io.BytesIO()
        d = torch.rand(config.residual_layers, config.residual_channels)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one
            torch.onnx.export(
                network,
                (torch.rand(1, 2 * config.hop), d, *given.values()),
                file,
                dynamo=False,
                input_names=["x", "d", *given],
                output_names=["eps"],
                dynamic_axes={"x": {0: "B", 1: "L"}, **{k: {0: "B", 2: last} for k in given}},
            )
        return file.getvalue()


@dataclass(frozen=True)
class Peer:
    """One way to run LMNT's model.

    Attributes:
        name: of its row.
        precision: "fp32", "bf16" or "int8": which gate it passes, and whose peak stands beside it.
        needs: modules to import.
        prepare: makes the call that is timed.
        conditioner: computed in "every step" or "once".
    """

    name: str
    precision: str
    needs: tuple[str, ...]
    prepare: Callable[[Exported, Task], Call]
    conditioner: str = "every step"


def prepared(peer: Peer, exported: Exported, task: Task) -> tuple[Call, FloatArray] | str:
    """Its call, and the audio of a first one; or, where it cannot take part, why."""
    for module in peer.needs:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{error}; pip install '.[bench]'"
    try:
        call = peer.prepare(exported, task)
        return call, call()
    except Exception as error:  # whatever a compiler or another runtime may raise
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
    def prepare(exported: Exported, task: Task) -> Call:
        network = torch.compile(exported.network, dynamic=False)
        return _in_torch(_torch_predict(exported, task, network), task, bf16)

    return prepare


def _torch_predict(exported: Exported, task: Task, network: Any = None) -> Predict:
    run, mel, d = (
        network if network is not None else exported.network,
        torch.from_numpy(task.mels),
        torch.from_numpy(task.d),
    )

    def predict(x: FloatArray, n: int) -> FloatArray:
        with torch.no_grad():
            return run(torch.from_numpy(x), d[n], mel).float().numpy()

    return predict


def _in_torch(predict: Predict, task: Task, bf16: bool = False) -> Call:
    def call() -> FloatArray:
        with _torch(task.threads), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
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


def _openvino(hint: str, quantised: bool = False) -> Callable[[Exported, Task], Call]:
    def prepare(exported: Exported, task: Task) -> Call:
        model = exported.int8.clone() if quantised else _read(exported.onnx)
        infer = _openvino_request(model, hint, task, {"mel": task.mels})
        return lambda: task.sample(lambda x, n: infer({"x": x, "d": task.d[n], "mel": task.mels}))

    return prepare


def _openvino_hoisted(hint: str) -> Callable[[Exported, Task], Call]:
    def prepare(exported: Exported, task: Task) -> Call:
        mel = torch.from_numpy(task.mels)

        def conditioners() -> dict[str, FloatArray]:
            with _torch(task.threads):
                return {f"c{i}": one.numpy() for i, one in enumerate(exported.network.conditioners(mel))}

        infer = _openvino_request(_read(exported.hoisted_onnx), hint, task, conditioners())

        def call() -> FloatArray:
            given = conditioners()
            return task.sample(lambda x, n: infer({"x": x, "d": task.d[n], **given}))

        return call

    return prepare


def _read(onnx: bytes) -> Any:
    import openvino

    return openvino.Core().read_model(onnx)


def _openvino_request(
    model: Any, hint: str, task: Task, given: dict[str, FloatArray]
) -> Callable[[dict[str, FloatArray]], FloatArray]:
    """Compiled for the shapes of the task and of what else the network is given."""
    import openvino

    model.reshape({name: one.shape for name, one in {"x": task.noise[0], "d": task.d[0], **given}.items()})
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
def _torch(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


PEERS: Sequence[Peer] = (
    Peer(EAGER, "fp32", (), _eager),
    Peer("PyTorch bf16 autocast", "bf16", (), _autocast),
    Peer("torch.compile fp32", "fp32", (), _compiled(False)),
    Peer("torch.compile bf16 autocast", "bf16", (), _compiled(True)),
    Peer("ONNX Runtime fp32", "fp32", ("onnx", "onnxruntime"), _onnxruntime),
    Peer("OpenVINO fp32", "fp32", ("onnx", "openvino"), _openvino("f32")),
    Peer("OpenVINO bf16", "bf16", ("onnx", "openvino"), _openvino("bf16")),
    Peer("OpenVINO int8", "int8", ("onnx", "openvino", "nncf"), _openvino("bf16", quantised=True)),
    Peer("OpenVINO fp32, hoisted", "fp32", ("onnx", "openvino"), _openvino_hoisted("f32"), "once"),
    Peer("OpenVINO bf16, hoisted", "bf16", ("onnx", "openvino"), _openvino_hoisted("bf16"), "once"),
)
