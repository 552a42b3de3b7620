"""Classifier-free guidance against its formula in float64, on every instruction set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import engine
from engine import InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.sampling.cpu.loop import SHORT
from tests.support.networks import CLASSES, SMALL_LABELLED, random_network
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

GUIDED = replace(SMALL_LABELLED, residual_channels=16, residual_layers=5, clip_samples=120, guidance=2.0)
NETWORKS = {
    "guided": GUIDED,
    "no clamp": replace(GUIDED, clamp=False),
    "output is F": replace(GUIDED, signal_std=0.14),
    "never without a label": replace(GUIDED, guidance=0.0),
    "no classes": replace(GUIDED, classes=()),
}
LABELS, NUMBERS = ["1 ben", "0 ann", "2 ann"], [3, 0, 4]
FEW = [1e-3, 0.02, 0.2]
Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("networks")

    def load_network(name: str, **options: Any) -> Voice:
        path = folder / f"{name}.safetensors"
        save_checkpoint(path, Checkpoint(NETWORKS[name], weights(name)))
        return engine.load(path, **{"device": "cpu", "threads": 1, "precision": "fp32", **options})

    return load_network


def weights(name: str) -> dict[str, Array]:
    """Return the same weights for all networks, as far as they have them."""
    config, tensors = NETWORKS[name], random_network(GUIDED, 0)
    if not config.classes:
        return {key: tensor for key, tensor in tensors.items() if "label_" not in key}
    return {**tensors, "label_embedding.weight": tensors["label_embedding.weight"][: config.labels]}


def gaussian(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def exact(name: str, weight: float, x: Array, z: Array) -> Any:
    """Compute the formula: x [B,L] and z [S-1,B,L] are the noise, S the steps of the fast schedule."""
    config, plan = NETWORKS[name], build_schedule(NETWORKS[name], 6)
    tensors = reference.to_tensors(weights(name), torch.float64)
    audio, noise = torch.tensor(x).double(), torch.tensor(z).double()
    labels, no_label = torch.tensor(NUMBERS), torch.full((len(x),), len(CLASSES))
    for n, t in enumerate(plan.t):
        with_label, without = (
            reference.predict_noise(tensors, config, audio, t, labels=which) for which in (labels, no_label)
        )
        eps = without + weight * (with_label - without)
        step = plan.a[n], plan.b[n], plan.sigma[n], noise[n] if n < len(noise) else None
        audio = reference.noise_update(audio, eps, *step, config.clamp)
    return audio


@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_every_tier_is_the_formula(load: Any, isa: str, precision: str) -> None:
    voice, x, z = load("guided", isa=isa, precision=precision), gaussian(3, 90), gaussian(5, 3, 90)
    audio = voice.generate(n=3, label=LABELS, guidance=1.5, steps=6, noise=(x, z))
    assert audio.shape == (3, 90) and audio.dtype == np.float32
    assert relative_error(audio, exact("guided", 1.5, x, z)) < TOLERANCES[f"network_audio_{precision}"]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 3])
@pytest.mark.parametrize("name", ["guided", "no clamp", "output is F"])
def test_own_noise_and_noise_of_seeds(load: Any, name: str, weight: float) -> None:
    voice, seeds = load(name), [2**64 - 1, 5, 8]
    x, *z = np.array([[normal(seed, step, 0, 120) for seed in seeds] for step in range(6)])
    audio = voice.generate(n=3, label=LABELS, guidance=weight, steps=6, noise=(x, np.array(z)))
    assert relative_error(audio, exact(name, weight, x, np.array(z))) < TOLERANCES["network_audio_fp32"]
    drawn = voice.generate(n=3, label=LABELS, guidance=weight, steps=6, seed=seeds)
    assert drawn.tobytes() == audio.tobytes()
    assert (np.abs(drawn).max() > 1.0) == (name == "no clamp")


def test_meaning_of_the_weight(load: Any) -> None:
    """Weight 1 is the plain network; 0 ignores the label; a greater weight strengthens its influence."""
    voice, options = load("guided"), {"steps": 6, "seed": 3}
    plain = voice.generate(n=2, label="0 ann", guidance=1, **options)
    assert plain.tobytes() == load("never without a label").generate(n=2, label="0 ann", **options).tobytes()
    unlabelled = [voice.generate(n=2, label=label, guidance=0, **options) for label in ("0 ann", "2 ann")]
    assert unlabelled[0].tobytes() == unlabelled[1].tobytes() != plain.tobytes()
    default = voice.generate(n=2, label="0 ann", **options)
    assert default.tobytes() == voice.generate(n=2, label="0 ann", guidance=2.0, **options).tobytes() != plain.tobytes()
    assert relative_error(default, voice.generate(n=2, label="2 ann", **options)) > 0.05


def test_without_a_label_classes_are_drawn(load: Any) -> None:
    voice, options = load("guided"), {"schedule": FEW, "seed": 3}
    audio = voice.generate(n=5, **options)
    assert len(set(voice.classes_of(n=5, seed=3))) > 1
    assert audio.tobytes() == voice.generate(n=5, label=voice.classes_of(n=5, seed=3), **options).tobytes()


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_neither_threads_nor_batches_change_a_byte(load: Any, precision: str) -> None:
    for length, n in ((90, 3), (SHORT + 1, 1)):
        options: dict[str, Any] = {"samples": length, "schedule": FEW, "guidance": 3.0}
        alone = load("guided", precision=precision)
        expected = [alone.generate(n=1, label=LABELS[i], seed=7 + i, **options).tobytes() for i in range(n)]
        for threads in (1, 3):
            voice = load("guided", precision=precision, threads=threads)
            assert [row.tobytes() for row in voice.generate(n=n, label=LABELS[:n], seed=7, **options)] == expected


def test_noise_is_not_changed_and_tensors_stay_tensors(load: Any) -> None:
    voice, x, z = load("guided"), gaussian(1, 50), gaussian(5, 1, 50)
    before = x.copy(), z.copy()
    audio = voice.generate(label="0 ann", steps=6, noise=(x, z))
    assert all(np.array_equal(a, b) for a, b in zip((x, z), before, strict=True))
    tensor = voice.generate(label="0 ann", steps=6, noise=(torch.from_numpy(x), torch.from_numpy(z)))
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == audio.tobytes()


def test_progress_after_every_step(load: Any) -> None:
    seen: list[float] = []
    load("guided").generate(label="0 ann", schedule=FEW, samples=30, progress=seen.append)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("guided", -0.1, "guidance: expected a number from 0 to 100, got -0.1"),
        ("guided", 100.1, "guidance: expected a number from 0 to 100, got 100.1"),
        ("guided", float("nan"), "guidance: expected a number from 0 to 100, got nan"),
        ("guided", float("inf"), "guidance: expected a number from 0 to 100, got inf"),
        ("guided", "2", "guidance: expected a number from 0 to 100, got '2'"),
        ("guided", True, "guidance: expected a number from 0 to 100, got True"),
        ("guided", [2.0], "guidance: expected a number from 0 to 100, got"),
        ("no classes", 1.0, "guidance: this network has no classes; expected None, got 1.0"),
        ("no classes", 2.0, "guidance: this network has no classes; expected None, got 2.0"),
        (
            "never without a label",
            2.0,
            "guidance: this network never learnt to be without a label; expected None or 1, got 2.0",
        ),
    ],
)
def test_impossible_weights_are_refused(load: Any, name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        load(name).generate(guidance=value)


def test_networks_without_guidance_need_no_weight(load: Any) -> None:
    for name in ("no classes", "never without a label"):
        assert load(name).generate(schedule=FEW).shape == (1, 120)


def test_the_row_of_no_label_belongs_to_guided_networks(load: Any, tmp_path: Path) -> None:
    """A guided network needs the row of "no label"; any other network must not have it."""
    voice = load("guided")
    assert voice.config == GUIDED and voice.classes_of(n=40, seed=0).count("2 ann") > 0
    for name, guidance in (("guided", 0.0), ("never without a label", 2.0)):
        with pytest.raises(engine.CheckpointError, match=r"label_embedding.weight: expected shape \([56], 128\), got"):
            Checkpoint(replace(GUIDED, guidance=guidance), weights(name))
