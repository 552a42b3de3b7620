"""`engine.compat.lmnt.predict` against the package `diffwave`: the same calls on a checkpoint that it wrote."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.compat import lmnt
from engine.compat.lmnt import predict
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.voice.api import load
from tests.support.layouts import random_checkpoint
from tests.support.originals import OWN, SEED, TRAINING, mels, run_original
from tests.support.tolerances import TOLERANCES, relative_error

torch = pytest.importorskip("torch")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Return the folder of a checkpoint and the package's results."""
    folder = tmp_path_factory.mktemp("lmnt")
    return str(folder), run_original("lmnt", ("diffwave",), folder)


@pytest.fixture
def small(tmp_path: Path) -> str:
    return str(random_checkpoint(tmp_path, "lmnt").path.parent)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    lmnt.models.clear()  # of tests before, such as the snippets of the pages
    yield
    lmnt.models.clear()


def test_calls_of_the_package(original: tuple[str, dict[str, Any]]) -> None:
    """The calls in the order of `tests.support.originals`, each after the same torch.manual_seed."""
    folder, expected = original
    mel = torch.from_numpy(mels(80))
    calls: dict[str, tuple[Any, dict[str, Any]]] = {
        "full": (mel[0], {}),
        "fast": (mel[0], {"fast_sampling": True}),
        "batch": (mel, {"fast_sampling": True}),
        "own": (mel[0], {"fast_sampling": True, "params": {"inference_noise_schedule": list(OWN)}}),
        "kept": (mel[0], {"fast_sampling": True}),
        "training": (mel[0], {"params": [{"noise_schedule": list(TRAINING)}, {"sample_rate": 16000}]}),
    }
    for name, (spectrogram, options) in calls.items():
        torch.manual_seed(SEED)
        audio, rate = predict(spectrogram, folder, device=CPU, **options)
        assert (audio.dtype, audio.device, audio.requires_grad) == (torch.float32, CPU, False)
        assert tuple(audio.shape) == expected[name].shape and rate == expected[f"{name} rate"], name
        assert relative_error(audio.numpy(), expected[name]) < TOLERANCES["compat_audio_fp32"], name
    assert len(lmnt.models) == 1


def test_positional_arguments_are_those_of_the_package() -> None:
    names = list(inspect.signature(predict).parameters)
    assert names[:5] == ["spectrogram", "model_dir", "params", "device", "fast_sampling"]


def test_forms_of_the_mel_and_the_model(small: str) -> None:
    mel = torch.from_numpy(mels(4))
    noise = (torch.randn(1, 4 * 24), torch.randn(5, 1, 4 * 24))
    options = {"device": "cpu", "fast_sampling": True, "noise": noise, "threads": 1}
    audio, rate = predict(mel[0], small, **options)
    assert audio.shape == (1, 4 * 24) and rate == 22050
    for spectrogram in (mel[:1], mel[0].numpy(), mel[0].clone().requires_grad_()):
        for model in (small, Path(small), f"{small}/weights.pt", Path(f"{small}/weights.pt").read_bytes()):
            assert torch.equal(predict(spectrogram, model, **options)[0], audio)
    voice = load(small, precision="fp32", threads=1)
    np.testing.assert_array_equal(voice.vocode(mel[0], noise=noise), audio[0])


def test_noise(small: str) -> None:
    mel = torch.from_numpy(mels(4))
    options: dict[str, Any] = {"model_dir": small, "device": "cpu", "fast_sampling": True, "threads": 1}
    state = torch.random.get_rng_state()
    seeded = predict(mel, **options, seed=3)[0]
    assert torch.equal(torch.random.get_rng_state(), state)  # the engine's noise
    assert torch.equal(seeded, load(small, precision="fp32", threads=1).vocode(mel, seed=3))
    one, other = (predict(mel, **options, generator=torch.Generator().manual_seed(8))[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state) and torch.equal(one, other)
    torch.manual_seed(8)
    assert torch.equal(predict(mel, **options)[0], one)
    assert not torch.equal(predict(mel, **options)[0], one)


def test_unconditional(tmp_path: Path) -> None:
    path = str(random_checkpoint(tmp_path, "lmnt_unconditional").path)
    audio, rate = predict(model_dir=path, params={"audio_len": 300}, device="cpu", fast_sampling=True, seed=1)
    assert audio.shape == (1, 300) and rate == 22050
    voice = load(path, precision="fp32")
    np.testing.assert_array_equal(voice.generate(samples=300, steps="fast", seed=1), audio)
    with pytest.raises(InputError, match="mel: this network takes none"):
        predict(torch.zeros(4, 3), path, device="cpu")


def test_mel_of_another_kind_is_a_warning(small: str) -> None:
    with pytest.warns(UserWarning, match="this checkpoint wants 'lmnt' mels") as caught:
        predict(torch.full((4, 3), -9.0), small, device="cpu", fast_sampling=True)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(torch.full((4, 3), 1.1), small, device="cpu", fast_sampling=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"spectrogram": None}, InputError, r"spectrogram: expected \[4, T\], got None"),
        ({"spectrogram": torch.zeros(4)}, InputError, r"spectrogram: expected a tensor \[M, T\] or .*, got shape \(4,"),
        ({"spectrogram": [1.0]}, InputError, "got list"),
        ({"spectrogram": torch.zeros(4, 3, dtype=torch.float64)}, InputError, "mel: expected float32, got float64"),
        ({"spectrogram": torch.zeros(80, 3)}, InputError, "4 mel bands"),
        ({"params": {"hop_samples": 300}}, InputError, "hop_samples: expected 24, as the network upsamples, got 300"),
        ({"params": {"noise_schedule": [0.01] * 80}}, InputError, "noise_schedule: expected steps up to 49"),
        ({"params": {"inference_noise_schedule": [0.9]}}, InputError, r"schedule: .*alpha_bar"),
        ({"params": 3}, InputError, "params: expected a dict or a sequence of them, got int"),
        ({"model_dir": "/absent"}, CheckpointError, "No such file"),
        ({"device": "tpu"}, UnavailableError, "device: this build has no backend for 'tpu'"),
    ],
)
def test_refusals(small: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"spectrogram": torch.zeros(4, 3), "model_dir": small, "device": "cpu", "fast_sampling": True}
    if "noise_schedule" in str(options) and "inference" not in str(options):
        arguments["fast_sampling"] = False
    with pytest.raises(error, match=message):
        predict(**{**arguments, **options})


def test_other_families_are_refused(tmp_path: Path) -> None:
    path = str(random_checkpoint(tmp_path, "priorgrad").path)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="a checkpoint of the family lmnt, got priorgrad; load it with"):
            predict(torch.zeros(4, 3), path, device="cpu")


@pytest.mark.parametrize(("first", "second"), [("noise", "seed"), ("noise", "generator"), ("seed", "generator")])
def test_two_sources_of_noise_are_refused(small: str, first: str, second: str) -> None:
    values = {"noise": (torch.zeros(1, 72), torch.zeros(49, 1, 72)), "seed": 3, "generator": torch.Generator()}
    options: dict[str, Any] = {name: values[name] for name in (first, second)}
    with pytest.raises(
        InputError, match=rf"^{first}: expected None beside {second}, got both; pass one of noise, seed, generator$"
    ):
        predict(torch.full((4, 3), 0.5), small, device=CPU, threads=1, **options)
