"""The training loop: batch, gradient, AdamW, moving average; its state can be written after any step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.checkpoint.load import load_checkpoint
from engine.errors import InputError
from engine.kernels.cuda import CudaDevice, obstacle
from engine.training.batches import batches
from engine.training.data import Corpus
from engine.training.gradient import Captured, Gradient, plain
from engine.training.grow import grown
from engine.training.network import DiffWave
from engine.training.objective import LEVELS, Batch
from engine.training.processes import Processes
from engine.training.settings import Recipe, recipe_of_json
from engine.training.state import State, is_state, read_state

BETAS = (0.9, 0.99)  # of AdamW: small batches of very different noise want a short memory
# Of a configuration: weights of networks that differ in them mean other things, though they have the same shapes.
MEANING = ("classes", "padding", "step_bias_in_residual", "shared_upsampler", "step_embedding", "signal_std", "prior")
FUSED_CHANNELS = (32, 64)  # more would spill registers


@dataclass(frozen=True, eq=False)
class Report:
    """What a step says.

    Attributes:
        step: its number, from 1.
        loss: mean over the batch.
        levels: [LEVELS,2] the sum of losses and how many, for every range of noise.
        gradient: its norm before it was clipped.
    """

    step: int
    loss: float
    levels: npt.NDArray[np.float64]
    gradient: float


class Trainer:
    """A network in training.

    Args:
        recipe: what to do.
        corpus: the recordings.
        processes: that share every batch.
        dtype: of the products in the residual layers, float32 or bfloat16.
        state: to go on from.

    Attributes:
        not_fused: why the residual layers are PyTorch's and not `engine.training.fused`, or None.
        grown_from: the channels of the narrower network that this one began from (`grow`), or 0.

    Raises:
        InputError: the state belongs to another recipe, other classes or other recordings, or there are more processes
            than examples in a batch.
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
                f"training.batch: expected an example or more for each of {processes.count} processes, got "
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
        if recipe.training.init and state is None:
            self.grown_from = _begin_from(network, recipe.training.init, corpus.classes)
        self.network = network.to(processes.device)
        self.parameters = dict(self.network.named_parameters())
        self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        on_gpu = processes.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=training.rate, betas=BETAS, weight_decay=training.decay, fused=on_gpu
        )
        if state is not None:
            self._restore(state)
        self._gradient: Gradient = (
            Captured(self.network, training.loss, training.batch)
            if on_gpu
            else plain(self.network, training.loss, training.batch)
        )
        self._batches: Iterator[Batch] | None = None
        self._next: Batch | None = None

    @property
    def done(self) -> bool:
        """All steps are."""
        return self.step >= self.recipe.training.steps

    def advance(self) -> Report:
        """One step."""
        training = self.recipe.training
        if self._batches is None:
            numbers = self.processes.share(training.batch)
            self._batches = batches(self.corpus, self.recipe, self.step, numbers, self.processes.workers)
        batch = self._next or next(self._batches)
        each = self._gradient(batch)
        self.processes.add(p.grad for p in self.parameters.values() if p.grad is not None)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, training.steps, training.warmup) * training.rate
        self.optimizer.step()
        self.step += 1
        # In the first steps the average is that of all weights so far, not of the random ones.
        share = min(training.average, self.step / (self.step + 10.0))
        values = [parameter.detach() for parameter in self.parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), values, 1.0 - share)
        # A GPU is still at work: nothing has asked for its results yet.
        self._next = next(self._batches, None)
        levels = np.zeros((LEVELS, 2))
        np.add.at(levels[:, 0], batch.level, each.double().cpu().numpy())
        np.add.at(levels[:, 1], batch.level, 1.0)
        counts = torch.from_numpy(levels).to(self.processes.device)
        self.processes.add([counts])
        levels = counts.cpu().numpy()
        return Report(self.step, float(levels[:, 0].sum() / training.batch), levels, float(norm))

    def state(self) -> State:
        """Where the training is."""
        moments = [self.optimizer.state.get(parameter, {}) for parameter in self.parameters.values()]

        def moment(key: str) -> dict[str, Tensor]:
            return {
                name: of[key] if key in of else torch.zeros_like(self.parameters[name])
                for name, of in zip(self.parameters, moments, strict=True)
            }

        tensors = {
            "weights": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "average": self.average,
            "moment1": moment("exp_avg"),
            "moment2": moment("exp_avg_sq"),
        }
        return State(self.step, self.recipe.to_json(), self.corpus.classes, tensors, self.corpus.fingerprint)

    def _restore(self, state: State) -> None:
        if other := _differences(recipe_of_json(state.recipe), self.recipe):
            raise InputError(
                f"recipe: the training in this folder has another one ({other}); choose another folder, and --init "
                "with this one's state to go on from what it has learnt"
            )
        if state.classes != self.corpus.classes:
            raise InputError(f"data: expected the classes {state.classes!r:.80}, got {self.corpus.classes!r:.80}")
        if state.recordings not in ("", now := self.corpus.fingerprint):
            had, have = state.recordings.split()[0], now.split()[0]
            raise InputError(
                f"data: expected the {had} recordings that this training began with, got {have} that are not all "
                "the same; give it those back, or begin another in another folder with --init"
            )
        if not all(state.tensors.values()):
            raise InputError("init: the state in this folder is one to begin from (--init), not one to go on with")
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


def rate(step: int, steps: int, warmup: int) -> float:
    """The share of the learning rate in a step, from 0: a linear rise, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))


def fused_obstacle(device: torch.device, dtype: torch.dtype, channels: int) -> str | None:
    """Why `engine.training.fused` cannot run the residual layers, or None."""
    if device.type != "cuda":
        return "they run on a GPU"
    if why := obstacle(device.index or 0):
        return why
    if dtype != torch.bfloat16:
        return "they keep bf16"
    if channels not in FUSED_CHANNELS:
        return f"they have {' or '.join(map(str, FUSED_CHANNELS))} channels"
    return None


def _differences(had: Recipe, have: Recipe) -> str:
    """What is not the same but for where they begin: a training that goes on does not begin again."""
    found = []
    for table in ("network", "data", "training"):
        one, other = asdict(getattr(had, table)), asdict(getattr(have, table))
        different = [key for key in one if one[key] != other[key] and (table, key) != ("training", "init")]
        found += [f"{table}.{key} = {one[key]!r:.40}, not {other[key]!r:.40}" for key in different]
    return "; ".join(found)


def _begin_from(network: DiffWave, file: str, classes: tuple[str, ...]) -> int:
    """Weights of the same network or of a narrower one, whose channels are returned, from a checkpoint or a state."""
    given: Mapping[str, Tensor]
    if is_state(Path(file)):
        state = read_state(Path(file))
        given, theirs = state.tensors["weights"], recipe_of_json(state.recipe).network
        theirs = replace(theirs, classes=state.classes)
    else:
        checkpoint = load_checkpoint(file)
        given = {name: torch.from_numpy(tensor) for name, tensor in checkpoint.tensors.items()}
        theirs = checkpoint.config
    ours = replace(network.config, classes=classes)
    for name in MEANING:
        is_, expected = getattr(theirs, name), getattr(ours, name)
        if is_ != expected:
            raise InputError(f"init: expected a network with {name} = {expected!r:.80}, got {is_!r:.80} in {file}")
    wanted = {name: parameter.detach() for name, parameter in network.named_parameters()}
    grown_from = 0
    if {name: tensor.shape for name, tensor in given.items()} != {name: p.shape for name, p in wanted.items()}:
        wider = grown(given, wanted)
        if wider is None:
            raise InputError(
                f"init: expected a network of the recipe's sizes and classes, or of fewer channels, got {file}"
            )
        grown_from, given = len(given["input_projection.bias"]), wider
    for name, parameter in wanted.items():
        parameter.copy_(given[name])
    return grown_from
