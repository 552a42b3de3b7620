"""The sampler inside the training: its audio is the engine's, its gradient is that of its values, and it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engine
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.diffusion.prior import energy_std
from engine.diffusion.schedule import build_schedule
from engine.training.data import Corpus, draw, generator, read_corpus
from engine.training.export import checkpoint_from_state, export
from engine.training.fit import STATE, Options, fit
from engine.training.network import DiffWave
from engine.training.objective import make_batch
from engine.training.processes import Processes
from engine.training.quality import log_mel_error
from engine.training.settings import Recipe
from engine.training.spectral import SpectralLoss
from engine.training.trainer import Trainer
from engine.training.unroll import Sampler, TuningBatch, make_tuning_batch
from tests.engine.training.networks import random_diffwave
from tests.engine.training.recordings import unrolled_recipe, voice_recipe, write_tones
from tests.support.networks import SMALL, random_network
from tests.support.tolerances import TOLERANCES, relative_error

PRIOR = replace(SMALL, mel_kind="hifigan", prior=True, energy_min=0.05)
CPU = torch.device("cpu")


def corpus_of(folder: Path, recipe: Recipe) -> Corpus:
    return read_corpus(write_tones(folder, 5, 22050, 0.3), recipe.data, recipe.network)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("config", [SMALL, PRIOR, replace(SMALL, signal_std=0.14)], ids=["plain", "prior", "signal"])
def test_the_unrolled_audio_is_that_of_the_engine(tmp_path: Path, config: Config, steps: int) -> None:
    tensors = random_network(config, seed=5)
    save_checkpoint(tmp_path / "voice.safetensors", Checkpoint(config, tensors))
    voice = engine.load(tmp_path / "voice.safetensors", device="cpu", precision="fp32")
    network = DiffWave(config)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    random = np.random.default_rng(steps)
    mel = (random.random((80, 6)) - (2.0 if config.prior else 0.0)).astype(np.float32)
    noise = random.standard_normal((steps, 6 * 256)).astype(np.float32)
    std = np.repeat(energy_std(mel, 0.05), 256) if config.prior else np.float32(1.0)
    scaled = torch.from_numpy(noise * std)[:, None]
    with torch.no_grad():
        audio = Sampler(config, build_schedule(config, steps))(network, scaled, torch.from_numpy(mel)[None])[0]
    expected = voice.vocode(mel, steps=steps, noise=(noise[0], noise[1:]))
    assert expected.std() > 0.01 and (np.abs(expected) < 1.0).mean() > 0.3  # not all of it is clamped
    assert relative_error(audio, expected) < TOLERANCES["network_audio_fp32"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_audio_from_drafts_is_that_of_the_engine(tmp_path: Path, steps: int) -> None:
    recipe = unrolled_recipe(
        data={"frames": 12, "gain_db": [0.0, 0.0]}, unroll={"steps": [steps], "draft": "griffin-lim"}
    )
    corpus = read_corpus(write_tones(tmp_path / "data", 3, 22050, 12.5 * 256 / 22050), recipe.data, recipe.network)
    trainer = Trainer(recipe, corpus, Processes(0, 1, CPU))
    checkpoint = checkpoint_from_state(recipe, trainer.state())
    save_checkpoint(tmp_path / "voice.safetensors", checkpoint)
    voice = engine.load(tmp_path / "voice.safetensors", device="cpu", precision="fp32")
    unrolled = make_tuning_batch(corpus, recipe, 0, [3]).unrolled
    assert unrolled is not None and recipe.unroll is not None and unrolled.audio.shape == (1, 12 * 256)
    schedule = recipe.unroll.schedule(recipe.network, steps)
    with torch.no_grad():
        audio = Sampler(recipe.network, schedule)(trainer.network, unrolled.noise, unrolled.mel)[0]
    # The crop is the whole clip, so that its draft is that of its mel. The noise is what the draft does not explain.
    random = generator(0, 0, 3)
    example = draw(corpus, recipe.data, recipe.network, random, with_draft=True)
    noise = random.standard_normal((steps, 12 * 256), dtype=np.float32)
    assert example.draft is not None and 0.5 < example.draft.std() / example.audio.std() < 2.0
    mel = unrolled.mel[0].numpy()
    expected = voice.vocode(mel, steps=steps, draft=example.draft, noise=(noise[0], noise[1:]))
    assert relative_error(audio, expected) < TOLERANCES["network_audio_fp32"]


def test_a_training_unrolls_the_steps_of_drafts(tmp_path: Path) -> None:
    recipe = unrolled_recipe(unroll={"steps": [2], "draft": "griffin-lim", "anchor": 0.0})
    corpus = corpus_of(tmp_path, recipe)
    trainer = Trainer(recipe, corpus, Processes(0, 1, CPU))
    batch, unroll = make_tuning_batch(corpus, recipe, 0, range(4)), recipe.unroll
    assert batch.unrolled is not None and unroll is not None
    sampler = Sampler(recipe.network, unroll.schedule(recipe.network, 2))
    with torch.no_grad():
        audio = sampler(trainer.network, batch.unrolled.noise, batch.unrolled.mel)
        distance = SpectralLoss(unroll.windows, recipe.network.sample_rate)(audio, batch.unrolled.audio)
    assert trainer.advance().parts["spectral"] == pytest.approx(float(distance.mean()), rel=1e-4)


def test_a_network_for_drafts_keeps_its_schedules(tmp_path: Path) -> None:
    recipe = unrolled_recipe(unroll={"steps": [2], "draft": "griffin-lim"})
    state = Trainer(recipe, corpus_of(tmp_path, recipe), Processes(0, 1, CPU)).state()
    config = checkpoint_from_state(recipe, state).config
    assert config.schedules == () and config.objective is not None and config.objective.startswith("2 steps on drafts")


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_the_gradient_goes_through_all_steps(checkpointing: bool) -> None:
    config = replace(SMALL, residual_channels=4, residual_layers=3, dilation_cycle=3, n_mels=5)
    network = random_diffwave(config).double()
    network.dtype = torch.float64
    random = torch.Generator().manual_seed(3)
    noise = torch.randn(3, 1, 512, generator=random, dtype=torch.float64)
    mel = torch.rand(1, 5, 2, generator=random, dtype=torch.float64)
    recording = 0.3 * torch.randn(1, 512, generator=random, dtype=torch.float64)
    sampler, distance = Sampler(config, build_schedule(config, 3), checkpointing), SpectralLoss((128, 256), 22050)
    parameters = list(network.parameters())

    def loss() -> torch.Tensor:
        return distance(sampler(network, noise, mel), recording).sum()

    loss().backward()  # type: ignore[no-untyped-call]
    directions = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in parameters]
    slope = sum(float((d * p.grad).sum()) for d, p in zip(directions, parameters, strict=True) if p.grad is not None)
    size, values = 1e-7, []
    with torch.no_grad():
        for sign in (1.0, -2.0):  # from the middle to one side, then to the other
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=sign * size)
            values.append(float(loss()))
    assert abs(slope) > 0.01
    assert slope == pytest.approx((values[0] - values[1]) / (2 * size), rel=TOLERANCES["finite_difference"])


def test_the_noise_of_every_step_reaches_the_audio() -> None:
    network, random = random_diffwave(SMALL), torch.Generator().manual_seed(3)
    noise = torch.randn(3, 1, 512, generator=random).requires_grad_()
    Sampler(SMALL, build_schedule(SMALL, 3))(network, noise, torch.rand(1, 80, 2)).abs().sum().backward()
    assert noise.grad is not None and (noise.grad.abs().amax(dim=(1, 2)) > 1e-5).all()


def test_a_batch_has_an_anchor_and_examples_to_unroll(tmp_path: Path) -> None:
    recipe = unrolled_recipe(unroll={"steps": [3, 2], "anchor_share": 0.25})
    corpus = corpus_of(tmp_path, recipe)
    batches = [make_tuning_batch(corpus, recipe, step, range(4)) for step in range(4)]
    for step, batch in enumerate(batches):
        assert batch.anchor is not None and batch.unrolled is not None and len(batch) == 4
        assert torch.equal(batch.anchor.x, make_batch(corpus, recipe, step, [0]).x)
        assert batch.unrolled.noise.shape == ((3, 2)[step % 2], 3, 1024) and batch.unrolled.mel.shape == (3, 80, 4)
    assert len({batch.kind for batch in batches}) == 2
    whole = make_tuning_batch(corpus, recipe, 2, range(4))
    parts = [make_tuning_batch(corpus, recipe, 2, numbers) for numbers in ([0, 2], [1, 3])]
    assert whole.unrolled is not None and parts[0].unrolled is not None and parts[1].anchor is None
    assert torch.equal(parts[0].unrolled.noise[:, 0], whole.unrolled.noise[:, 1])
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors(), batches[2].tensors(), strict=True))


def test_a_prior_scales_the_noise_of_every_step(tmp_path: Path) -> None:
    network = {"mel_kind": "hifigan", "prior": True, "energy_min": 0.05}
    recipe = unrolled_recipe(network=network)
    corpus = corpus_of(tmp_path, recipe)
    plain = unrolled_recipe(network={"mel_kind": "hifigan"})
    scaled, white = (make_tuning_batch(corpus, kind, 1, [3]).unrolled for kind in (recipe, plain))
    assert scaled is not None and white is not None
    std = np.repeat(energy_std(scaled.mel[0].numpy(), 0.05), 256)
    np.testing.assert_allclose(scaled.noise[:, 0].numpy(), white.noise[:, 0].numpy() * std, rtol=1e-6)


def test_the_gradient_of_a_batch_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """A CPU computes example by example and processes share a batch; a GPU computes it at once."""
    recipe = unrolled_recipe(unroll={"adversarial": 1.0, "adversarial_after": 0.0})
    trainer = Trainer(recipe, corpus_of(tmp_path, recipe), Processes(0, 1, CPU))
    objective = trainer.objective
    batch = make_tuning_batch(trainer.corpus, recipe, 0, range(4))
    gradients, tables = [], []
    singles, shares = [batch.part(n, n + 1, CPU) for n in range(4)], [batch.part(0, 1, CPU), batch.part(1, 4, CPU)]
    for parts in ([batch], singles, shares):
        for parameter in objective.parameters():
            parameter.grad = None
        table = np.zeros((20, 2))
        for part in parts:
            rows = objective.rows(part)
            np.add.at(table, rows, np.stack([objective.backward(part).numpy(), np.ones(len(rows))], axis=1))
        tables.append(table)
        gradients.append([p.grad.clone() for p in objective.parameters() if p.grad is not None])
    for other, table in zip(gradients[1:], tables[1:], strict=True):
        assert len(other) == len(gradients[0]) > 100
        np.testing.assert_allclose(table, tables[0], rtol=1e-4)
        for a, b in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_thirty_steps_lower_the_loss_and_leave_six_steps_usable(tmp_path: Path) -> None:
    """From weights that know six steps a little, as the bundled voice's do."""
    data = write_tones(tmp_path / "data", 8, 22050, 0.4)
    start = voice_recipe(training={"steps": 60, "warmup": 5, "rate": 3e-3})
    fit(start, data, Options(tmp_path / "start"))
    tuned = unrolled_recipe(
        training={"steps": 30, "rate": 1e-3, "average": 0.8, "init": str(tmp_path / "start" / STATE)}
    )
    fit(tuned, data, Options(tmp_path / "tuned"))
    trainers = [
        Trainer(replace(tuned, training=replace(tuned.training, init=str(tmp_path / name / STATE))), corpus, one)
        for corpus, one in [(read_corpus(data, tuned.data, tuned.network), Processes(0, 1, CPU))]
        for name in ("start", "tuned")
    ]
    batch = make_tuning_batch(trainers[0].corpus, tuned, 10**6, range(4))
    losses = []
    for trainer in trainers:
        rows, values = trainer.objective.rows(batch), trainer.objective.backward(batch).numpy()
        losses.append(float(values[rows >= 6].mean()))
    assert losses[1] < 0.9 * losses[0], losses
    errors: dict[str, list[float]] = {}
    corpus = trainers[0].corpus
    for name in ("start", "tuned"):
        export(tmp_path / name / STATE, tmp_path / f"{name}.safetensors")
        voice = engine.load(tmp_path / f"{name}.safetensors", device="cpu", precision="fp32")
        errors[name] = [vocoding_error(voice, corpus, steps) for steps in (3, 6)]
    assert errors["tuned"][0] < 0.95 * errors["start"][0], errors
    assert errors["tuned"][1] < 1.05 * errors["start"][1], errors


def vocoding_error(voice: Any, corpus: Corpus, steps: int) -> float:
    """Return the mean error of the log-mel over the held-out clips."""
    clips = [(clip.mel, clip.audio) for clip in corpus.held_out if clip.mel is not None]
    audios = [voice.vocode(mel, steps=steps) for mel, _ in clips]
    return float(np.mean([log_mel_error(r[: len(a)], a, 22050) for a, (_, r) in zip(audios, clips, strict=True)]))


def test_the_export_says_which_steps_it_was_tuned_for(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    recipe = unrolled_recipe(training={"steps": 1}, unroll={"steps": [3, 2]})
    fit(recipe, data, Options(tmp_path))
    export(tmp_path / STATE, tmp_path / "voice.safetensors")
    config = engine.load(tmp_path / "voice.safetensors", device="cpu").config
    assert sorted(map(len, config.schedules)) == [2, 3]
    for betas in config.schedules:
        expected = build_schedule(recipe.network, len(betas))
        assert build_schedule(config, len(betas)).beta == expected.beta
        assert math.isclose(math.prod(1 - b for b in betas), expected.alpha_bar[0])
    assert (
        config.objective.startswith("2 and 3 steps: log-mels and spectral convergence") and "noise" in config.objective
    )
    assert config.fast_schedule == recipe.network.fast_schedule
    fit(voice_recipe(training={"steps": 1}), data, Options(tmp_path / "paper"))
    export(tmp_path / "paper" / STATE, tmp_path / "paper.safetensors")
    paper = engine.load(tmp_path / "paper.safetensors", device="cpu").config
    assert paper.schedules == () and paper.objective == ""


def test_own_schedules_are_unrolled_and_exported(tmp_path: Path) -> None:
    own = [1e-4, 0.05, 0.6]
    recipe = unrolled_recipe(network={"schedules": [own, [0.01, 0.5]]}, training={"steps": 1})
    data = write_tones(tmp_path / "data", 4, 22050, 0.3)
    trainer = Trainer(recipe, read_corpus(data, recipe.data, recipe.network), Processes(0, 1, CPU))
    batch = make_tuning_batch(trainer.corpus, recipe, 0, [3])
    assert batch.unrolled is not None
    expected = Sampler(recipe.network, build_schedule(recipe.network, schedule=own))
    audio = expected(trainer.network, batch.unrolled.noise, batch.unrolled.mel)
    loss = SpectralLoss((128, 256, 512), 22050)(audio, batch.unrolled.audio)
    torch.testing.assert_close(trainer.objective.backward(batch), loss.detach())
    config = checkpoint_from_state(recipe, trainer.state()).config
    assert {len(betas): betas[-1] for betas in config.schedules} == {3: pytest.approx(0.6), 2: 0.5}


def test_parts_of_a_batch_keep_their_kind() -> None:
    batch = TuningBatch(None, None, True)
    assert len(batch) == 0 and batch.kind == (0, 0, 0, True)
