"""Training on a real GPU: the fused layers, the captured step, and a training that is interrupted. Skipped without."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from engine.kernels import cuda
from engine.training import validation
from engine.training.data import Clip, Corpus
from engine.training.processes import Processes
from engine.training.settings import Recipe, recipe_of
from engine.training.trainer import Trainer
from engine.training.validation import validate
from tests.support.tolerances import TOLERANCES, relative_error

OBSTACLE = cuda.obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]
CASES = {
    "a voice": {"channels": 64, "bands": 80, "length": 5120, "dilations": (1, 16, 512)},
    "digits": {"channels": 64, "length": 5120, "batch": 3, "dilations": (1, 32, 1024)},
    "narrow": {"channels": 32, "bands": 80, "length": 1000},
    "shorter than a tile": {"channels": 64, "length": 40},
}


@pytest.mark.parametrize("case", CASES)
def test_fused_layers_are_the_reference(case: str) -> None:
    from tests.gpu import training_checks

    found = training_checks.errors(cuda.CudaDevice(), "bf16", **CASES[case])
    assert all(error < TOLERANCES["training_bf16"] for error in found.values()), found


def recipe(**changes: object) -> Recipe:
    network = {"residual_channels": 32, "residual_layers": 6, "dilation_cycle": 6}
    training = {"steps": 12, "batch": 6, "warmup": 2, "fast_share": 0.5}
    return recipe_of({"network": network, "data": {"frames": 8}, "training": training | changes})


def corpus(held_out: int = 0) -> Corpus:
    random = np.random.default_rng(0)
    clips = []
    for number in range(4 + held_out):
        audio = 0.2 * random.standard_normal(256 * 40).astype(np.float32)
        clips.append(Clip(f"{number}.wav", audio, random.random((80, 40), dtype=np.float32), -1))
    return Corpus(clips[:4], clips[4:], (), 0)


def losses(device: str, dtype: torch.dtype, steps: int = 12) -> tuple[list[float], list[float], Trainer]:
    trainer = Trainer(recipe(), corpus(), Processes(0, 1, torch.device(device)), dtype)
    reports = [trainer.advance() for _ in range(steps)]
    return [one.loss for one in reports], [one.gradient for one in reports], trainer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_is_that_of_the_cpu(dtype: torch.dtype) -> None:
    expected, norms, _ = losses("cpu", torch.float32)
    found, found_norms, other = losses("cuda", dtype)
    assert (other.not_fused is None) == (dtype == torch.bfloat16)
    limit = TOLERANCES["training_fp32" if dtype == torch.float32 else "training_bf16"]
    assert relative_error(found, expected) < 20 * limit, (found, expected)
    assert relative_error(found_norms, norms) < 20 * limit, (found_norms, norms)


def test_it_goes_on_where_it_was() -> None:
    """Up to rounding: not every sum of PyTorch's has a fixed order on a GPU."""
    whole, norms, _ = losses("cuda", torch.bfloat16)
    half = losses("cuda", torch.bfloat16, 5)[2]
    again = Trainer(recipe(), corpus(), Processes(0, 1, torch.device("cuda")), torch.bfloat16, half.state())
    reports = [again.advance() for _ in range(7)]
    assert again.done and not half.done
    assert relative_error([one.loss for one in reports], whole[5:]) < TOLERANCES["training_bf16"]
    assert relative_error([one.gradient for one in reports], norms[5:]) < TOLERANCES["training_bf16"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_validation_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Of the same weights; without PESQ and STOI, which know no device."""
    monkeypatch.setattr(validation, "perceived", lambda recording, audio, rate: (1.0, 0.5))
    trainers = [
        Trainer(recipe(), corpus(held_out=2), Processes(0, 1, torch.device("cuda")), dtype),
        Trainer(recipe(), corpus(held_out=2), Processes(0, 1, torch.device("cpu"))),
    ]
    for _ in range(3):
        trainers[0].advance()
    for name, tensor in trainers[0].average.items():
        trainers[1].average[name].copy_(tensor)
    found, expected = map(validate, trainers)
    assert found.keys() == expected.keys() == {"loss", "pesq_wb", "stoi", "log_mel_error"}
    limit = 20 * TOLERANCES["training_fp32"] if dtype == torch.float32 else TOLERANCES["training_bf16"]
    assert relative_error(found["loss"], expected["loss"]) < limit
    assert found["log_mel_error"] == expected["log_mel_error"]  # a voice on a CPU spoke both
    before = trainers[0].step
    trainers[0].advance()  # the captured step goes on
    assert trainers[0].step == before + 1 and np.isfinite(validate(trainers[0])["loss"])
