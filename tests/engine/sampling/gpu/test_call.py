"""What the host does in a call on a GPU: torch operations, launches and waits, counted on a device without kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

import engine
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from tests.gpu.devices import SilentDevice, install
from tests.support.networks import SMALL, random_network

OPERATIONS, WAITS = 5, 1  # the bounds and their copy, the mel, the other inputs, the audio
SEVEN = (0.000135594, 0.0010096, 0.00877838, 0.035964, 0.077557, 0.18931, 0.3)


class Count(TorchDispatchMode):
    """Counts what reaches PyTorch's dispatcher, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def device() -> SilentDevice:
    return SilentDevice()


@pytest.fixture
def load(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, device: SilentDevice) -> Callable[[Config], engine.Voice]:
    install(monkeypatch, device)

    def loaded(config: Config) -> engine.Voice:
        path = tmp_path / "v.safetensors"
        save_checkpoint(path, Checkpoint(config, random_network(config, 1)))
        return engine.load(path, device="cuda")

    return loaded


@pytest.mark.parametrize("steps", [3, 6])
@pytest.mark.parametrize("shape", [(80, 5), (1, 80, 5), (4, 80, 5), (7, 80, 9)])
def test_a_call_takes_five_operations_and_one_wait(
    load: Callable[[Config], engine.Voice], device: SilentDevice, shape: tuple[int, ...], steps: int
) -> None:
    voice = load(SMALL)
    for seed in range(2):  # the first call builds the plan and its graph, the second shows that there is no other
        voice.vocode(torch.rand(shape), steps=steps, seed=seed)
    captured, _ = device.captured, device.log.clear()
    for seed in range(10):
        mel, count = torch.rand(shape), Count()
        with count:
            audio = voice.vocode(mel, steps=steps, seed=seed)
        assert audio.shape == (*shape[:-2], shape[-1] * voice.hop)
        assert len(count.names) <= OPERATIONS, count.names
        assert device.log == ["replay", *["synchronize"] * WAITS]  # the device has all its work before the host waits
        device.log.clear()
    assert device.captured == captured
    if shape[0] == 80:
        print(f"{shape}: {len(count.names)} torch operations: {count.names}")


@pytest.mark.parametrize("kind", ["tacotron", None])
@pytest.mark.filterwarnings("ignore:mel. this checkpoint")
def test_every_kind_of_mel_takes_as_few(
    load: Callable[[Config], engine.Voice], device: SilentDevice, kind: str | None
) -> None:
    voice, count = load(replace(SMALL, mel_kind=kind)), Count()
    mel = -5.0 * torch.rand(80, 5)
    for _ in range(2):
        voice.vocode(mel)
    with count:
        voice.vocode(mel)
    assert len(count.names) <= OPERATIONS, count.names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, r"^mel\[1\]: expected finite values, got nan at band 2, frame 1$"),
        (torch.inf, r"^mel\[1\]: expected finite values, got inf at band 2, frame 1$"),
        (-9.0, "^mel: this checkpoint wants 'lmnt' mels in .0, 1., got values from -9 to .*look like a log mel"),
    ],
)
def test_a_refused_mel_raises_after_the_launch_and_frees_the_plan(
    load: Callable[[Config], engine.Voice], device: SilentDevice, value: float, message: str
) -> None:
    voice, mel = load(SMALL), torch.rand(2, 80, 5)
    voice.vocode(mel)
    bad = mel.clone()
    bad[1, 2, 1] = value
    device.log.clear()
    with pytest.raises(engine.InputError, match=message) as on_device:
        voice.vocode(bad)
    assert device.log[:2] == ["replay", "synchronize"]
    with pytest.raises(engine.InputError) as on_host:
        voice.vocode(bad.numpy())
    assert str(on_device.value) == str(on_host.value)
    plans: Any = voice._loop.plans  # type: ignore[attr-defined]
    assert len(plans) == 1
    voice.vocode(mel)
    assert len(plans) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"cancel": type("Never", (), {"is_set": lambda self: False})()},
        {"progress": lambda fraction: None},
        {"noise": (np.zeros((1, 80), np.float32), np.zeros((5, 1, 80), np.float32))},
        {"schedule": SEVEN},
        {"lengths": [4]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_calls_take_the_general_way(
    load: Callable[[Config], engine.Voice],
    device: SilentDevice,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    config = replace(SMALL, upsample_strides=(4, 4))
    voice, ways = load(config), []
    general = voice._loop.sample
    monkeypatch.setattr(voice._loop, "sample", lambda *arguments: ways.append("general") or general(*arguments))
    mel = torch.rand(1, 80, 5)
    voice.vocode(mel)
    assert ways == []
    assert voice.vocode(mel, **options).shape == (1, 80)
    assert ways == ["general"]
    voice.vocode([mel[0], mel[0]])
    assert ways == ["general"] * 2


def test_the_bounds_of_a_list_come_in_one_transfer(
    load: Callable[[Config], engine.Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice, transfers = load(SMALL), []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: transfers.append(tensor.shape) or original(tensor))
    voice.vocode([torch.rand(80, frames) for frames in (5, 9, 2, 7)])
    assert transfers == [(4, 2)]


@pytest.mark.parametrize(
    "options", [{"match_mel": 1}, {"draft": "griffin-lim"}], ids=lambda options: next(iter(options))
)
def test_drafts_and_matching_take_the_general_way(
    load: Callable[[Config], engine.Voice],
    device: SilentDevice,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    """The one with a single wait knows neither, and would leave them out without a word."""
    voice, ways = load(SMALL), []
    general = voice._loop.sample
    monkeypatch.setattr(voice._loop, "sample", lambda *arguments: ways.append("general") or general(*arguments))
    assert voice.vocode(torch.rand(1, 80, 5), **options).shape == (1, 5 * voice.hop)
    assert ways == ["general"]


def test_drafts_and_matching_stay_on_the_device(
    load: Callable[[Config], engine.Voice], device: SilentDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the spectra of phase retrieval nor those of the match are computed by NumPy."""
    voice, mel = load(SMALL), torch.rand(2, 80, 5)
    for name in ("rfft", "irfft"):
        monkeypatch.delattr(np.fft, name)
    audio = voice.vocode(mel, draft="griffin-lim", match_mel=1)
    assert isinstance(audio, torch.Tensor) and audio.shape == (2, 5 * voice.hop) and torch.isfinite(audio).all()
    assert voice.vocode(list(mel.numpy()), draft="griffin-lim", match_mel=1)[0].shape == (5 * voice.hop,)


def test_matched_streams_return_all_samples(load: Callable[[Config], engine.Voice], device: SilentDevice) -> None:
    voice = load(SMALL)
    chunks = list(voice.stream(torch.rand(80, 30).split(7, dim=1), match_mel=1))
    assert all(isinstance(chunk, torch.Tensor) for chunk in chunks)
    assert sum(map(len, chunks)) == 30 * voice.hop
