"""The accuracy of every precision of the bundled voice (eps, audio, PESQ), and the calibration for int8."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from engine import Voice
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.config import BASE
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError, UnavailableError
from engine.kernels import reference, registry
from engine.tuning.int8 import (
    AUDIO_DB,
    CHANNEL_HEADROOM,
    EPS_DB,
    MIN_CHANNEL_SHARE,
    Agreement,
    calibrate,
    measure_agreement,
    trajectory,
)
from tests.support.networks import random_network
from tests.support.tolerances import TOLERANCES

PRECISIONS = ("fp32", "bf16", "int8")
FRAMES = slice(110, 118)  # of the demo: voiced, after its silence


def voice_of(checkpoint: Checkpoint, precision: str) -> Voice:
    try:
        return Voice(checkpoint, registry.select("cpu", precision, calibrated=True), 1)
    except UnavailableError as error:
        pytest.skip(str(error))


@cache
def network(name: str) -> Checkpoint:
    if name == "random":
        return Checkpoint(BASE, random_network(BASE, 1))
    return load_checkpoint(BUNDLED)


@cache
def demo() -> Any:
    return np.load(BUNDLED.with_name("demo_mel.npy"))


@cache
def exact_steps(name: str) -> list[tuple[float, Any, Any]]:
    """Return (t, x, eps) of every step: x computed in fp32, eps in float64."""
    checkpoint = network(name)
    tensors = reference.to_tensors(checkpoint.tensors, torch.float64)
    mel, steps = np.ascontiguousarray(demo()[:, FRAMES]), []
    for t, x in trajectory(voice_of(checkpoint, "fp32"), build_schedule(BASE), mel, 0):
        signal, condition = (torch.tensor(values).double()[None] for values in (x, mel))
        eps = reference.predict_noise(tensors, checkpoint.config, signal, t, condition)[0].numpy()
        steps.append((t, x, eps))
    return steps


@pytest.mark.parametrize(
    ("name", "precision"), [*(("voice", precision) for precision in PRECISIONS), ("random", "fp32"), ("random", "bf16")]
)
def test_eps_of_every_step(name: str, precision: str) -> None:
    voice, mel = voice_of(network(name), precision), np.ascontiguousarray(demo()[:, FRAMES])
    for t, x, eps in exact_steps(name):
        ratio = snr(eps, voice.predict_noise(x, t, mel=mel))
        assert ratio >= TOLERANCES[f"{name}_eps_{precision}_db"], f"step {t:g}: {ratio:.1f} dB"


@cache
def vocoded(precision: str) -> Any:
    return voice_of(network("voice"), precision).vocode(demo()[:, 60:180], seed=1)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_audio(precision: str) -> None:
    ratio = snr(vocoded("fp32"), vocoded(precision))
    assert ratio >= TOLERANCES[f"voice_audio_{precision}_db"]


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_perceived_quality_of_audio(precision: str) -> None:
    pesq = pytest.importorskip("pesq", reason="PESQ is in the extra 'quality'")
    soxr = pytest.importorskip("soxr", reason="resampling is in the extra 'audio'")
    exact, rounded = (soxr.resample(vocoded(name), BASE.sample_rate, 16000) for name in ("fp32", precision))
    assert pesq.pesq(16000, exact, rounded, "wb") >= TOLERANCES[f"voice_pesq_{precision}"]


def test_audio_of_louder_speech() -> None:
    """The mel is 10 dB louder than those of the calibration, up to its limit."""
    mel = np.minimum(demo()[:, 60:120] + 0.1, 1.0).astype(np.float32)
    exact, quantized = (voice_of(network("voice"), name).vocode(mel, seed=1) for name in ("fp32", "int8"))
    assert snr(exact, quantized) >= TOLERANCES["voice_louder_int8_db"]


def test_narrow_ranges_fail_the_accuracy_gate() -> None:
    checkpoint = network("voice")
    narrow = replace(checkpoint.config, int8_ranges=tuple(r / 4 for r in checkpoint.config.int8_ranges))
    voice, mel = voice_of(Checkpoint(narrow, checkpoint.tensors), "int8"), np.ascontiguousarray(demo()[:, FRAMES])
    ratios = [snr(eps, voice.predict_noise(x, t, mel=mel)) for t, x, eps in exact_steps("voice")]
    assert min(ratios) < TOLERANCES["voice_eps_int8_db"]


SMALL = replace(BASE, residual_channels=16, residual_layers=6, dilation_cycle=3, upsample_strides=(4, 4))


@pytest.mark.parametrize("sizes", [{}, {"upsample_strides": (3, 5)}, {"residual_channels": 20}])
def test_calibration_returns_ranges_and_their_agreement(sizes: dict[str, Any]) -> None:
    config = replace(SMALL, **sizes)
    checkpoint, fractions = Checkpoint(config, random_network(config, 3)), []
    mels = [np.random.default_rng(i).random((80, 20), np.float32) for i in range(2)]
    calibrated, agreement = calibrate(checkpoint, mels, fractions.append)
    ranges = calibrated.config.int8_ranges
    assert ranges[:3] == (0.0, 0.0, 0.0) and all(0.1 < r < 10.0 for r in ranges[3:])
    assert agreement.passed and agreement.eps >= EPS_DB and agreement.audio >= AUDIO_DB
    assert fractions == sorted(fractions) and 0.0 < fractions[-1] <= 1.0
    recalibrated, agreement_again = calibrate(calibrated, mels)
    assert (recalibrated.config, agreement_again) == (calibrated.config, agreement)
    voice = voice_of(calibrated, "int8")
    expected = voice.vocode(mels[0], seed=1).tobytes()
    assert b"".join(chunk.tobytes() for chunk in voice.stream(iter([mels[0]]), seed=1)) == expected


def test_a_loud_channel_of_the_conditioner_leaves_the_precision_of_the_others() -> None:
    tensors, key = random_network(SMALL, 3), "residual_layers.4.conditioner_projection.weight"
    plain, loud = ({**tensors, key: tensors[key].copy()} for _ in range(2))
    loud[key][5] *= 8.0
    loud[key][6] = 0.0
    mels = [np.random.default_rng(0).random((80, 20), np.float32)]
    usual, ranges = (
        np.reshape(calibrate(Checkpoint(SMALL, t), mels)[0].config.int8_conditioner_ranges, (SMALL.residual_layers, -1))
        for t in (plain, loud)
    )
    assert ranges[4, 5] == pytest.approx(8.0 * usual[4, 5], rel=0.02)  # both have three digits
    assert ranges[4, 6] == pytest.approx(MIN_CHANNEL_SHARE * ranges[4, 5] / CHANNEL_HEADROOM, rel=0.02)  # silent
    rest = np.delete(np.arange(32), [5, 6])
    np.testing.assert_allclose(ranges[4, rest], np.maximum(usual[4, rest], ranges[4, 6]), rtol=0.02)
    np.testing.assert_array_equal(ranges[:4], usual[:4])


def test_more_layers_are_excluded_until_int8_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def fail_once(checkpoint: Checkpoint, mels: Any) -> Agreement:
        counts.append(sum(r == 0.0 for r in checkpoint.config.int8_ranges))
        return measure_agreement(checkpoint, mels) if len(counts) > 1 else Agreement(30.0, 24.9)

    monkeypatch.setattr("engine.tuning.int8.measure_agreement", fail_once)
    config = replace(SMALL, residual_layers=8)
    calibrated, _ = calibrate(Checkpoint(config, random_network(config, 3)), [np.zeros((80, 5), np.float32)])
    assert counts == [3, 4] and calibrated.config.int8_ranges[3] == 0.0 < calibrated.config.int8_ranges[4]


def test_calibration_refuses_networks_that_int8_does_not_support(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, mel = Checkpoint(SMALL, random_network(SMALL, 3)), np.zeros((80, 5), np.float32)
    monkeypatch.setattr("engine.tuning.int8.measure_agreement", lambda *_: Agreement(19.0, 30.0))
    with pytest.raises(InputError, match=r"expected int8 to agree .* got 19.0 and 30.0 dB"):
        calibrate(checkpoint, [mel])
    for changes in ({"prior": True}, {"n_mels": 0, "upsample_strides": ()}):
        config = replace(SMALL, **changes)
        with pytest.raises(InputError, match="calibrate: expected a vocoder with white noise"):
            calibrate(Checkpoint(config, random_network(config, 3)), [mel])
    with pytest.raises(InputError, match="mel"):
        calibrate(checkpoint, [np.zeros((79, 5), np.float32)])
