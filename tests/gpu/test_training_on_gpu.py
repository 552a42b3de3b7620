"""Training on a real GPU: the fused layers, the captured step, resuming and validation. Skipped without a GPU."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from engine.kernels import device as gpu_device
from engine.training import validation
from engine.training.data import Clip, Corpus
from engine.training.processes import Processes
from engine.training.settings import Recipe, recipe_from_tables
from engine.training.trainer import Trainer
from engine.training.validation import validate
from tests.support.tolerances import TOLERANCES, relative_error

OBSTACLE = gpu_device.obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no GPU: {OBSTACLE}")]
CASES = {
    "a voice": {"channels": 64, "bands": 80, "length": 5120, "dilations": (1, 16, 512)},
    "digits": {"channels": 64, "length": 5120, "batch": 3, "dilations": (1, 32, 1024)},
    "narrow": {"channels": 32, "bands": 80, "length": 1000},
    "shorter than a tile": {"channels": 64, "length": 40},
}


@pytest.mark.parametrize("case", CASES)
def test_fused_layers_match_the_reference(case: str) -> None:
    from tests.gpu import training_checks

    errors = training_checks.errors(gpu_device.CudaDevice(), "bf16", **CASES[case])
    assert all(error < TOLERANCES["training_bf16"] for error in errors.values()), errors


def recipe(**changes: object) -> Recipe:
    network = {"residual_channels": 32, "residual_layers": 6, "dilation_cycle": 6}
    training = {"steps": 12, "batch": 6, "warmup": 2, "fast_share": 0.5}
    return recipe_from_tables({"network": network, "data": {"frames": 8}, "training": training | changes})


def corpus(held_out: int = 0) -> Corpus:
    random = np.random.default_rng(0)
    clips = []
    for number in range(4 + held_out):
        audio = 0.2 * random.standard_normal(256 * 40).astype(np.float32)
        clips.append(Clip(f"{number}.wav", audio, random.random((80, 40), dtype=np.float32), -1))
    return Corpus(clips[:4], clips[4:], (), 0)


def train(device: str, dtype: torch.dtype, steps: int = 12) -> tuple[list[float], list[float], Trainer]:
    """Return the losses and the gradient norms of some steps, and the trainer."""
    trainer = Trainer(recipe(), corpus(), Processes(0, 1, torch.device(device)), dtype)
    reports = [trainer.advance() for _ in range(steps)]
    return [report.loss for report in reports], [report.gradient for report in reports], trainer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_matches_the_cpu(dtype: torch.dtype) -> None:
    cpu_losses, cpu_norms, _ = train("cpu", torch.float32)
    losses, norms, trainer = train("cuda", dtype)
    assert (trainer.not_fused is None) == (dtype == torch.bfloat16)
    limit = TOLERANCES["training_fp32" if dtype == torch.float32 else "training_bf16"]
    assert relative_error(losses, cpu_losses) < 20 * limit, (losses, cpu_losses)
    assert relative_error(norms, cpu_norms) < 20 * limit, (norms, cpu_norms)


def test_training_resumes_where_it_stopped() -> None:
    """Equal up to rounding, because not every sum of PyTorch has a fixed order on a GPU."""
    losses, norms, _ = train("cuda", torch.bfloat16)
    stopped = train("cuda", torch.bfloat16, 5)[2]
    resumed = Trainer(recipe(), corpus(), Processes(0, 1, torch.device("cuda")), torch.bfloat16, stopped.state())
    reports = [resumed.advance() for _ in range(7)]
    assert resumed.done and not stopped.done
    assert relative_error([report.loss for report in reports], losses[5:]) < TOLERANCES["training_bf16"]
    assert relative_error([report.gradient for report in reports], norms[5:]) < TOLERANCES["training_bf16"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_validation_matches_the_cpu(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """For the same weights; without PESQ, STOI and MOS, which do not depend on the device."""
    monkeypatch.setattr(validation, "perceptual_scores", lambda recording, audio, rate: (1.0, 0.5))
    monkeypatch.setattr(validation, "mos_installed", lambda: False)
    on_gpu = Trainer(recipe(), corpus(held_out=2), Processes(0, 1, torch.device("cuda")), dtype)
    on_cpu = Trainer(recipe(), corpus(held_out=2), Processes(0, 1, torch.device("cpu")))
    for _ in range(3):
        on_gpu.advance()
    for name, tensor in on_gpu.average.items():
        on_cpu.average[name].copy_(tensor)
    figures, expected = validate(on_gpu), validate(on_cpu)
    names = {"pesq_wb", "stoi", "log_mel_error"}
    assert figures.keys() == expected.keys() == {"loss", *names, *(f"{name}_blurred" for name in names)}
    limit = 20 * TOLERANCES["training_fp32"] if dtype == torch.float32 else TOLERANCES["training_bf16"]
    assert relative_error(figures["loss"], expected["loss"]) < limit
    assert figures["log_mel_error"] == expected["log_mel_error"]  # both are vocoded on the CPU
    before = on_gpu.step
    on_gpu.advance()  # the captured step still runs after a validation
    assert on_gpu.step == before + 1 and np.isfinite(validate(on_gpu)["loss"])


def tune(device: str, dtype: torch.dtype, **unroll: object) -> tuple[list[float], list[float]]:
    """Return the losses and the gradient norms of steps through the sampler, some of them with discriminators."""
    plain = recipe()
    settings = {"steps": [3, 2], "windows": [256, 1024], "adversarial": 1.0, "adversarial_after": 0.5, **unroll}
    tuned = recipe_from_tables(
        {
            "network": {"residual_channels": 32, "residual_layers": 6, "dilation_cycle": 6},
            "data": {"frames": 8},
            "training": {"steps": 8, "batch": 4, "warmup": 2, "fast_share": plain.training.fast_share},
            "unroll": settings,
        }
    )
    trainer = Trainer(tuned, corpus(), Processes(0, 1, torch.device(device)), dtype)
    reports = [trainer.advance() for _ in range(8)]
    return [report.loss for report in reports], [report.gradient for report in reports]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tuning_matches_the_cpu(dtype: torch.dtype, checkpointing: bool) -> None:
    expected, _ = tune("cpu", torch.float32)
    losses, norms = tune("cuda", dtype, checkpointing=checkpointing)
    assert np.isfinite(norms).all()
    # Discriminators take the rounding of a step into the next one; the first steps have none.
    assert relative_error(losses[:4], expected[:4]) < TOLERANCES["training_bf16"], (losses, expected)
    assert relative_error(losses, expected) < 5 * TOLERANCES["training_bf16"], (losses, expected)
