"""The training loop: batch, gradient, AdamW, moving average. Its state can be written after any step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.checkpoint.bundled import path_of
from engine.checkpoint.load import load_checkpoint
from engine.errors import CheckpointError, InputError
from engine.kernels.device import CudaDevice, obstacle
from engine.training.adversary import Adversary
from engine.training.batches import AnyBatch, batches
from engine.training.data import Corpus
from engine.training.gradient import CapturedGradient, Gradient, NoisePrediction, Objective, gradient_by_example
from engine.training.grow import grow_weights
from engine.training.network import DiffWave
from engine.training.objective import LEVELS
from engine.training.processes import Processes
from engine.training.settings import Recipe, recipe_from_json
from engine.training.state import State, is_state, read_state
from engine.training.tuning import LOSSES, Tuning, total_loss

BETAS = (0.9, 0.99)  # AdamW's; the noise varies widely between small batches, which needs a short memory
# Fields of a configuration that change the meaning of weights but not their shapes.
SEMANTIC_FIELDS = (
    "classes",
    "padding",
    "step_bias_in_residual",
    "shared_upsampler",
    "step_embedding",
    "signal_std",
    "prior",
)
FUSED_CHANNELS = (32, 64)  # with more, the kernels would spill registers
AVERAGE_DELAY = 10.0  # steps; early averages are those of all weights so far, and the random ones fade


@dataclass(frozen=True, eq=False)
class Report:
    """The result of one step.

    Attributes:
        step: its number, from 1.
        loss: the objective.
        levels: [LEVELS,2] the sum of losses and their number at every noise level.
        gradient: the norm of the gradient before clipping.
        parts: the mean of every other loss by its name (`engine.training.tuning.LOSSES`).
    """

    step: int
    loss: float
    levels: npt.NDArray[np.float64]
    gradient: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Trainer:
    """A network in training.

    Args:
        recipe: the network, the data and the training.
        corpus: the recordings.
        processes: share every batch.
        dtype: of the matrix products in the residual layers, float32 or bfloat16.
        state: to resume from, one that `engine.training.resume.check_resumable` accepts; None to start.

    Attributes:
        not_fused: the reason why the residual layers run on PyTorch's operations instead of `engine.training.fused`,
            or None.
        objective: what it minimizes.
        grown_from: the channels of the narrower network whose weights this one started from
            (`engine.training.grow`), or 0.

    Raises:
        InputError: `training.init` does not fit the recipe, or there are more processes than examples in a batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        processes: Processes,
        dtype: torch.dtype = torch.float32,
        state: State | None = None,
    ) -> None:
        if recipe.training.batch < processes.count:
            raise InputError(
                f"training.batch: expected at least one example for each of {processes.count} processes, got "
                f"{recipe.training.batch}"
            )
        self.recipe, self.corpus, self.processes = recipe, corpus, processes
        self.step = 0
        torch.manual_seed(recipe.training.seed)
        training, channels = recipe.training, recipe.network.residual_channels
        self.not_fused = fused_obstacle(processes.device, dtype, channels)
        gpu = None
        if self.not_fused is None:
            from engine.training.fused import Gpu

            gpu = Gpu(CudaDevice(processes.device.index or 0), "bf16", recipe.network.dilations)
        network = DiffWave(recipe.network, len(corpus.classes), dtype, gpu)
        self.grown_from = 0
        if training.init and state is None:
            self.grown_from = _initialize_from(network, training.init, corpus.classes)
        self.network = network.to(processes.device)
        self.parameters = dict(self.network.named_parameters())
        self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        on_gpu = processes.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=training.rate, betas=BETAS, weight_decay=training.decay, fused=on_gpu
        )
        self._adversary: Adversary | None = None
        self.objective: Objective[Any] = NoisePrediction(self.network, training.loss, training.batch)
        if unroll := recipe.unroll:
            if unroll.adversarial:
                samples = recipe.data.frames * recipe.network.hop
                self._adversary = Adversary(unroll, samples, processes.device, training.seed)
            self.objective = Tuning(self.network, recipe, processes.device, self._adversary)
        if state is not None:
            self._restore(state)
        self._gradient: Gradient[Any] = (
            CapturedGradient(self.objective, processes.device) if on_gpu else gradient_by_example(self.objective)
        )
        self._batches: Iterator[AnyBatch] | None = None
        self._next: AnyBatch | None = None

    @property
    def done(self) -> bool:
        """Whether all steps are finished."""
        return self.step >= self.recipe.training.steps

    def advance(self) -> Report:
        """Run one step."""
        training = self.recipe.training
        if self._batches is None:
            numbers = self.processes.share(training.batch)
            self._batches = batches(self.corpus, self.recipe, self.step, numbers, self.processes.workers)
        batch = next(self._batches) if self._next is None else self._next
        losses, rows = self._gradient(batch)
        self.processes.add(p.grad for p in self.parameters.values() if p.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_factor(self.step, training.steps, training.warmup) * training.rate
        self.optimizer.step()
        self._advance_adversary()
        self.step += 1
        decay = min(training.average, self.step / (self.step + AVERAGE_DELAY))
        weights = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1.0 - decay)
        # Prepared here because a GPU is still computing: nothing has waited for its results yet.
        self._next = next(self._batches, None)
        unroll = self.recipe.unroll
        table = np.zeros((LEVELS + (0 if unroll is None else len(LOSSES)), 2))
        np.add.at(table[:, 0], rows, losses.double().cpu().numpy())
        np.add.at(table[:, 1], rows, 1.0)
        sums = torch.from_numpy(table).to(self.processes.device)
        self.processes.add([sums])
        table = sums.cpu().numpy()
        if unroll is None:
            return Report(self.step, float(table[:, 0].sum() / training.batch), table, float(norm))
        parts = {name: float(sum_ / n) for name, (sum_, n) in zip(LOSSES, table[LEVELS:], strict=True) if n}
        return Report(self.step, total_loss(unroll, table), table[:LEVELS], float(norm), parts)

    def _advance_adversary(self) -> None:
        training, unroll, adversary = self.recipe.training, self.recipe.unroll, self._adversary
        if adversary is None or unroll is None or not unroll.is_adversarial(self.step, training.steps):
            return
        self.processes.add(adversary.gradients())
        first = unroll.first_adversarial(training.steps)
        adversary.advance(rate_factor(self.step - first, training.steps - first, training.warmup))

    def state(self) -> State:
        """Return the position of the training, from which another trainer can resume."""
        moments = [self.optimizer.state.get(parameter, {}) for parameter in self.parameters.values()]

        def moment(key: str) -> dict[str, Tensor]:
            return {
                name: values[key] if key in values else torch.zeros_like(self.parameters[name])
                for name, values in zip(self.parameters, moments, strict=True)
            }

        tensors = {
            "weights": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "average": self.average,
            "moment1": moment("exp_avg"),
            "moment2": moment("exp_avg_sq"),
        }
        if self._adversary is not None:
            tensors |= self._adversary.tensors()
        return State(self.step, self.recipe.to_json(), self.corpus.classes, tensors, self.corpus.fingerprint)

    def _restore(self, state: State) -> None:
        self.step = state.step
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state.tensors["weights"][name])
                self.average[name].copy_(state.tensors["average"][name])
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(state.step), device=parameter.device),
                    "exp_avg": state.tensors["moment1"][name].to(parameter.device),
                    "exp_avg_sq": state.tensors["moment2"][name].to(parameter.device),
                }
        if self._adversary is not None and self.recipe.unroll is not None:
            first = self.recipe.unroll.first_adversarial(self.recipe.training.steps)
            self._adversary.restore(state.tensors, max(0, state.step - first))


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine down to zero.

    Args:
        step: from 0.
        steps: of the training.
        warmup: steps of the rise.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def fused_obstacle(device: torch.device, dtype: torch.dtype, channels: int) -> str | None:
    """Return the reason why `engine.training.fused` cannot run the residual layers, or None.

    Args:
        device: of the training.
        dtype: of the matrix products.
        channels: of the residual layers.
    """
    if device.type != "cuda":
        return "they run on a GPU only"
    if reason := obstacle(device.index or 0):
        return reason
    if dtype != torch.bfloat16:
        return "they compute in bf16 only"
    if channels not in FUSED_CHANNELS:
        return f"they have {' or '.join(map(str, FUSED_CHANNELS))} channels"
    return None


def _initialize_from(network: DiffWave, file: str, classes: tuple[str, ...]) -> int:
    """Load initial weights from a checkpoint (`engine.load`) or a state, of the same network or a narrower one.

    Returns:
        The channels of the narrower network, or 0.
    """
    weights: Mapping[str, Tensor]
    try:
        path = path_of(file)
    except (CheckpointError, InputError) as error:
        raise type(error)(f"init: {str(error).removeprefix('model: ')}") from None
    if is_state(path):
        state = read_state(path)
        weights, config = state.tensors["weights"], recipe_from_json(state.recipe).network
        config = replace(config, classes=state.classes)
    else:
        checkpoint = load_checkpoint(path)
        weights = {name: torch.from_numpy(tensor) for name, tensor in checkpoint.tensors.items()}
        config = checkpoint.config
    for name in SEMANTIC_FIELDS:
        value, expected = getattr(config, name), getattr(replace(network.config, classes=classes), name)
        if value != expected:
            raise InputError(f"init: {file}: expected a network with {name} = {expected!r:.80}, got {value!r:.80}")
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    grown_from = 0
    if {name: tensor.shape for name, tensor in weights.items()} != {name: p.shape for name, p in parameters.items()}:
        grown = grow_weights(weights, parameters)
        if grown is None:
            raise InputError(f"init: {file}: expected a network of the recipe's sizes and classes, or fewer channels")
        grown_from, weights = len(weights["input_projection.bias"]), grown
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])
    return grown_from
