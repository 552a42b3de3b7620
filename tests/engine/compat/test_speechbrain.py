"""`engine.compat.speechbrain.DiffWaveVocoder` against the package: the same calls on a checkpoint that it wrote."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.compat.speechbrain import DiffWaveVocoder
from engine.errors import CheckpointError, InputError
from engine.voice.api import load
from tests.support.hub import Repository, running_hub, use_hub
from tests.support.layouts import random_checkpoint
from tests.support.originals import FAST, HYPERPARAMS, OWN, SEED, mels, run_original
from tests.support.tolerances import TOLERANCES, relative_error

torch = pytest.importorskip("torch")
pytest.importorskip("yaml", reason="PyYAML is in the extra 'hub'")
CPU = {"device": "cpu"}
SETTINGS = HYPERPARAMS.replace("spec_n_mels: 20", "spec_n_mels: 4").replace("_layers: 6", "_layers: 3")
HOP = 24  # of the small network


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a checkpoint and the package's results."""
    folder = tmp_path_factory.mktemp("speechbrain")
    return folder, run_original("speechbrain", ("speechbrain", "hyperpyyaml", "sentencepiece", "requests"), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small checkpoint with its hyperparams.yaml."""
    folder = tmp_path_factory.mktemp("small")
    path = random_checkpoint(folder, "speechbrain", dilation_cycle=3).path
    path.with_name("config.json").unlink()
    (folder / "hyperparams.yaml").write_text(SETTINGS.replace("hop_length: 256", f"hop_length: {HOP}"))
    return folder


@pytest.fixture(scope="module")
def vocoder(folder: Path) -> DiffWaveVocoder:
    return loaded(folder)


def loaded(source: str | Path, **options: Any) -> DiffWaveVocoder:
    vocoder = DiffWaveVocoder.from_hparams(source, **{"run_opts": CPU, "threads": 1, **options})
    assert vocoder is not None
    return vocoder


def test_calls_of_the_package(original: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = original
    vocoder = loaded(folder)
    assert (vocoder.device, vocoder.sample_rate, vocoder.hparams.spec_hop_length) == ("cpu", 22050, 256)
    mel = torch.from_numpy(mels(20))
    fast = {"fast_sampling": True, "fast_sampling_noise_schedule": list(FAST)}
    calls: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
        "full": (vocoder.decode_batch, (mel[:1], 256), {}),
        "fast": (vocoder.decode_batch, (mel[:1], 256), fast),
        "one": (vocoder.decode_batch, (mel[0], 256), fast),
        "masked": (vocoder.decode_batch, (mel[:1], 256, torch.tensor([3])), fast),
        "spectrogram": (vocoder.decode_spectrogram, (mel[0], 256), fast),
        "own": (vocoder.decode_spectrogram, (mel[1], 256, True, list(OWN)), {}),
        # The package's network with the axis that its batches lack.
        "batch": (vocoder.decode_batch, (mel, 256), fast),
        "batch masked": (vocoder.decode_batch, (mel, 256, torch.tensor([2, 4])), fast),
    }
    with pytest.warns(UserWarning, match="this checkpoint wants 'speechbrain' mels"):
        for name, (call, arguments, options) in calls.items():
            torch.manual_seed(SEED)
            audio = call(*arguments, **options)
            assert tuple(audio.shape) == expected[name].shape, name
            assert relative_error(audio.numpy(), expected[name]) < TOLERANCES["compat_audio_fp32"], name


def test_batches_of_the_package_fail(original: tuple[Path, dict[str, Any]]) -> None:
    """Where this fails, the package has been mended: compare whole batches then."""
    assert original[1]["batch fails"]


def test_positional_arguments_are_those_of_the_package() -> None:
    def names(call: Any) -> list[str]:
        parameters = inspect.signature(call).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]

    assert names(DiffWaveVocoder.from_hparams)[:6] == [
        *("source", "hparams_file", "overrides", "overrides_must_match", "savedir", "download_only")
    ]
    assert names(DiffWaveVocoder.decode_batch)[1:] == [
        *("mel", "hop_len", "mel_lens", "fast_sampling", "fast_sampling_noise_schedule")
    ]
    assert names(DiffWaveVocoder.decode_spectrogram)[1:] == [
        *("spectrogram", "hop_len", "fast_sampling", "fast_sampling_noise_schedule")
    ]


def test_audio_is_that_of_the_voice(folder: Path, vocoder: DiffWaveVocoder) -> None:
    mel = torch.from_numpy(8 * mels(4) - 8)
    voice = load(folder, precision="fp32", threads=1)
    audio = vocoder.decode_batch(mel, HOP, seed=2)
    assert torch.equal(audio, voice.vocode(mel, steps="full", seed=2))
    masked = vocoder.decode_batch(mel.numpy(), mel_lens=[2, 3], seed=2)
    assert masked.shape == (2, 1, 4 * HOP) and not masked[0, 0, 2 * HOP :].any() and not masked[1, 0, 3 * HOP :].any()
    assert torch.equal(masked[0, 0, : 2 * HOP], audio[0, : 2 * HOP])
    assert torch.equal(vocoder(mel, seed=2), audio) and torch.equal(vocoder.eval().forward(mel, seed=2), audio)
    noise = (torch.randn(1, 4 * HOP), torch.randn(5, 1, 4 * HOP))
    one = vocoder.decode_spectrogram(mel[0], HOP, True, FAST, noise=noise)
    np.testing.assert_array_equal(one, voice.vocode(mel[0], schedule=FAST, noise=noise))


def test_unconditional(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, "speechbrain", n_mels=0, upsample_strides=(), mel_kind=None, shared_upsampler=True)
    settings = SETTINGS.replace("unconditional: False", "unconditional: True").replace("length: 3", "length: 2")
    (tmp_path / "other.yaml").write_text(settings)
    (tmp_path / "config.json").unlink()
    vocoder = loaded(tmp_path, hparams_file="other.yaml")
    assert vocoder.infer(True, 300, seed=1).shape == (1, 300)
    with pytest.raises(InputError, match="condition: expected none, with unconditional=True"):
        vocoder.decode_batch(torch.zeros(1, 4, 3), HOP)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop_len": 256}, f"hop_len: expected {HOP}, as the network upsamples, got 256"),
        ({"fast_sampling": True}, "fast_sampling_noise_schedule: expected betas beside fast_sampling, got None"),
        ({"fast_sampling": True, "fast_sampling_noise_schedule": [0.9]}, "schedule: .*alpha_bar"),
        ({"mel_lens": torch.tensor([1, 2, 3])}, r"mel_lens: expected 1 lengths, got shape \(3,\)"),
        ({"mel": torch.zeros(1, 5, 3)}, "4 mel bands"),
        ({"mel": torch.zeros(3)}, r"spectrogram: expected a tensor \[M, T\] or \[B, M, T\]"),
    ],
)
def test_refusals(vocoder: DiffWaveVocoder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        vocoder.decode_batch(**{"mel": torch.full((1, 4, 3), -5.0), "hop_len": HOP, **options})


def test_files(folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    options: dict[str, Any] = {"savedir": saved, "run_opts": CPU}
    assert DiffWaveVocoder.from_hparams(folder, download_only=True, **options) is None
    assert sorted(path.name for path in saved.iterdir()) == ["diffwave.ckpt", "hyperparams.yaml"]
    assert loaded(saved).hparams.savedir is None and loaded(folder, savedir=saved).hparams.savedir == saved
    with pytest.raises(InputError, match=r"overrides: expected none, got \{'a': 1\}; change them in hyperparams.yaml"):
        DiffWaveVocoder.from_hparams(folder, overrides={"a": 1})
    with pytest.raises(CheckpointError, match=r"expected other\.yaml beside diffwave\.ckpt, got none"):
        DiffWaveVocoder.from_hparams(folder, "other.yaml")
    random_checkpoint(tmp_path, "lmnt")
    shutil.copy(folder / "hyperparams.yaml", tmp_path)
    with pytest.raises(CheckpointError, match=r"dilation_cycle_length|family speechbrain, got lmnt"):
        DiffWaveVocoder.from_hparams(tmp_path)


def test_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("diffwave.ckpt", "hyperparams.yaml")
    files = {name: (folder / name).read_bytes() for name in names}
    with running_hub() as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        hub.repositories["owner/vocoder"] = Repository({**files, "config.json": b"{}", "README.md": b"#"})
        vocoder = loaded("owner/vocoder", savedir=tmp_path / "saved")
        assert hub.downloads() == list(names) and (tmp_path / "saved" / "hyperparams.yaml").read_text()
        config = SimpleNamespace(allow_network=False, token=False, revision="main", huggingface_cache_dir=None)
        asked = len(hub.requests)
        again = loaded("owner/vocoder", fetch_config=config)
        assert len(hub.requests) == asked
    mel = torch.full((1, 4, 3), -5.0)
    assert torch.equal(vocoder.decode_batch(mel, HOP, seed=1), again.decode_batch(mel, HOP, seed=1))


@pytest.mark.parametrize(("first", "second"), [("noise", "seed"), ("noise", "generator"), ("seed", "generator")])
def test_two_sources_of_noise_are_refused(vocoder: DiffWaveVocoder, first: str, second: str) -> None:
    values = {"noise": (torch.zeros(1, 72), torch.zeros(49, 1, 72)), "seed": 3, "generator": torch.Generator()}
    options: dict[str, Any] = {name: values[name] for name in (first, second)}
    with pytest.raises(
        InputError, match=rf"^{first}: expected None beside {second}, got both; pass one of noise, seed, generator$"
    ):
        vocoder.decode_batch(torch.full((1, 4, 3), -5.0), HOP, **options)
