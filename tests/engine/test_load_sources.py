"""What `engine.load` accepts in place of a path: content, open files, folders, homes, and what it refuses by name."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import multiprocessing
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import engine
from engine.checkpoint.bundled import path_of
from engine.checkpoint.folders import find_checkpoint
from engine.checkpoint.load import Checkpoint, load_checkpoint, save_checkpoint
from engine.checkpoint.source import open_source
from engine.errors import CheckpointError, InputError
from engine.kernels import registry
from engine.voice import Voice
from tests.support.layouts import layout_config, random_checkpoint
from tests.support.networks import random_network

CONFIG = layout_config("lmnt")
MEL = np.random.default_rng(0).random((CONFIG.n_mels, 5), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same network as LMNT's weights.pt and as voice.safetensors."""
    folder = tmp_path_factory.mktemp("sources")
    random_checkpoint(folder, "lmnt")
    save_checkpoint(folder / "voice.safetensors", load_checkpoint(folder / "weights.pt"))
    return folder


@pytest.fixture(scope="module")
def audio(folder: Path) -> bytes:
    return audio_of(engine.load(folder / "weights.pt", threads=1))


def audio_of(voice: Voice) -> bytes:
    return voice.vocode(MEL, seed=3).tobytes()


class OwnPath:
    """A path of another library; ``os.fspath`` returns text or bytes."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


class Reader:
    """A file of another library, such as fsspec: it has a method `read` only."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, size: int = -1) -> bytes:
        return self.content


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "path as bytes": bytes,
    "PathLike": lambda path: OwnPath(str(path)),
    "PathLike with bytes": lambda path: OwnPath(bytes(path)),
    "content": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: open(path, "rb"),  # noqa: SIM115
    "unbuffered file": lambda path: open(path, "rb", buffering=0),  # noqa: SIM115
    "reader": lambda path: Reader(path.read_bytes()),
    "rest of a file": lambda path: after(io.BytesIO(b"before" + path.read_bytes()), 6),
}


def after(file: io.BytesIO, position: int) -> io.BytesIO:
    file.seek(position)
    return file


@pytest.mark.parametrize("suffix", ["weights.pt", "voice.safetensors"])
@pytest.mark.parametrize("kind", SOURCES)
def test_sources(folder: Path, audio: bytes, kind: str, suffix: str) -> None:
    model = SOURCES[kind](folder / suffix)
    assert audio_of(engine.load(model, threads=1)) == audio
    if hasattr(model, "close"):
        assert not model.closed
        model.close()


def test_functions_of_the_module_take_the_same(folder: Path, audio: bytes) -> None:
    content = (folder / "weights.pt").read_bytes()
    for model in (content, io.BytesIO(content), folder, str(folder)):
        voice_audio = engine.vocode(MEL, model=model, seed=3)
        assert voice_audio.tobytes() == engine.load(content).vocode(MEL, seed=3).tobytes()


def test_open_file_has_the_configuration_beside_it(tmp_path: Path) -> None:
    original = random_checkpoint(tmp_path, "speechbrain")
    with open(original.path, "rb") as file:
        assert engine.load(file).config == original.config
    with pytest.raises(CheckpointError, match=r"^bytes: dilation_cycle_length, .* missing: put them into config.json"):
        engine.load(original.path.read_bytes())


def test_content_is_not_changed_and_not_copied_into_the_weights(folder: Path) -> None:
    content = bytearray((folder / "voice.safetensors").read_bytes())
    before = bytes(content)
    voice = engine.load(content, threads=1)
    audio = audio_of(voice)
    content[:] = bytes(len(content))
    assert audio_of(voice) == audio and before != bytes(content)


# Folders


def test_lmnts_model_dir(folder: Path, audio: bytes, tmp_path: Path) -> None:
    shutil.copy(folder / "weights.pt", tmp_path / "weights-200.pt")
    (tmp_path / "weights-100.pt").write_bytes(b"older")
    (tmp_path / "weights.pt").symlink_to("weights-200.pt")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"x")
    for model in (tmp_path, str(tmp_path), f"{tmp_path}/", bytes(tmp_path)):
        assert audio_of(engine.load(model, threads=1)) == audio


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["weights.pt", "model.safetensors", "x.ckpt"], "weights.pt"),
        (["model.safetensors", "diffwave.ckpt", "optimizer.pt"], "model.safetensors"),
        (["diffwave.ckpt", "hyperparams.yaml", "optimizer.ckpt"], "diffwave.ckpt"),
        (["epoch=3-step=100.ckpt", "last.ckpt"], "last.ckpt"),
        (["epoch=3-step=100.ckpt", "hparams.yaml"], "epoch=3-step=100.ckpt"),
        (["epoch=3-step=900.ckpt", "epoch=12-step=1000.ckpt", "epoch=4-step=999.ckpt"], "epoch=12-step=1000.ckpt"),
        (["weights-99.pt", "weights-100.pt", "weights-1000.pt"], "weights-1000.pt"),
        (["1000.pkl", "200.pkl", "config.json"], "1000.pkl"),
        (["pytorch_model.bin", "args.json"], "pytorch_model.bin"),
        (["anything.safetensors", "README.md", ".hidden.pt"], "anything.safetensors"),
        (["generator.pth"], "generator.pth"),
    ],
)
def test_checkpoint_in_a_folder(tmp_path: Path, files: list[str], expected: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "samples.pt").mkdir()
    assert find_checkpoint(tmp_path) == path_of(tmp_path) == tmp_path / expected


@pytest.mark.parametrize(
    ("files", "got"),
    [
        ([], "an empty one$"),
        (["notes.txt", "a.wav"], r"'a.wav', 'notes.txt'$"),
        (["a.pt", "b.pt"], "'a.pt', 'b.pt'; pass one of its files"),
        (["a.pt", "a.ckpt"], "'a.ckpt', 'a.pt'; pass one of its files"),
        (["g-1.pt", "d-1.pt", "g-2.pt"], "'d-1.pt', 'g-1.pt', 'g-2.pt'; pass one"),
    ],
)
def test_folder_without_one_checkpoint_is_refused(tmp_path: Path, files: list[str], got: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=rf"expected a folder with one checkpoint or weights\.pt, got {got}"):
        engine.load(tmp_path)


def test_broken_link_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").symlink_to("weights-5.pt")
    with pytest.raises(
        CheckpointError, match=r"with one checkpoint, got 'weights\.pt', which is a link to a missing file$"
    ):
        engine.load(tmp_path)


def test_home_is_expanded(folder: Path, audio: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    for model in (f"~/{folder.name}/weights.pt", Path("~", folder.name, "weights.pt"), f"~/{folder.name}"):
        assert audio_of(engine.load(model, threads=1)) == audio
    assert path_of(f"~/{folder.name}/voice.safetensors") == folder / "voice.safetensors"


# Refusals


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("https://example.org/weights.pt", CheckpointError, "the address 'https://example.org/weights.pt'; download"),
        (Path("https://example.org/weights.pt"), CheckpointError, "the address 'https:/example.org/weights.pt'; downl"),
        ("s3://bucket/x", CheckpointError, "the address"),
        ("gs://bucket/x.pt", CheckpointError, "the address"),
        ("owner/name", CheckpointError, "'owner/name', which is neither a file nor .* pass 'hf://owner/name'"),
        (
            "speechbrain/tts-diffwave-ljspeech",
            CheckpointError,
            "if it is the id of a repository on the Hugging Face Hub, pass 'hf",
        ),
        ("owner/name-v1.2", CheckpointError, "if it is the id of a repository on the Hugging Face Hub, pass"),
        ("owner/name.pt", CheckpointError, "No such file"),
        ("/absent/name", CheckpointError, "No such file"),
        ("a/b/c", CheckpointError, "No such file"),
        ("./absent", CheckpointError, "No such file"),
        (b"absent", CheckpointError, "No such file"),
        ("absent", CheckpointError, "expected a file or one of 'voice', 'digits', .*, got 'absent'"),
        ("", CheckpointError, "expected a"),
        ("x" * 5000, CheckpointError, "expected a"),
        ("a\0b", CheckpointError, "expected a file"),
        (b"", CheckpointError, "bytes: expected a checkpoint, got no bytes"),
        (bytearray(b'{"channels": 64}'), CheckpointError, "bytes: .* got JSON; pass the file of the weights"),
        (bytearray(b"version https://git-lfs.github.com/spec/v1"), CheckpointError, "run 'git lfs pull'"),
        (bytearray(b"<!DOCTYPE html><title>Sign in</title>"), CheckpointError, "got a web page; download the file"),
        (bytearray(b"\x93NUMPY\x01\x00"), CheckpointError, r"got a NumPy array; is it the mel\?"),
        (bytearray(b"\x1f\x8b\x08\x08weights"), CheckpointError, "got a gzip file; decompress it first"),
        (b"\0" * 100, CheckpointError, "bytes: expected safetensors or a PyTorch zip archive, got 100 bytes"),
        (bytearray(b"hello"), CheckpointError, "bytes: expected safetensors or a PyTorch zip archive, got 5 bytes"),
        (b"PK\x03\x04" + bytes(99), CheckpointError, "bytes: expected a zip archive"),
        (io.BytesIO(), CheckpointError, r"<BytesIO>: expected a checkpoint, got no bytes; rewind it with seek\(0\)"),
        (
            io.StringIO("text"),
            InputError,
            "path: expected a file opened with mode 'rb', got one opened as text, <StringIO>",
        ),
        (Reader(None), InputError, "path: expected a file opened with mode 'rb', got one that gives NoneType"),  # type: ignore[arg-type]
        (3, InputError, "path: expected a path, the name of a bundled network, an open binary file or bytes, got int"),
        (["weights.pt"], InputError, "got list"),
        ({"model": {}}, InputError, "got dict"),
        (np.zeros(3), InputError, "got ndarray"),
        (True, InputError, "got bool"),
    ],
)
def test_refusals(
    model: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as refusal:
        engine.load(model)
    assert len(str(refusal.value)) < 6000 and str(refusal.value).count("\n") == 0


def test_files_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    with open(folder / "weights.pt", "rb") as file:
        pass
    with pytest.raises(InputError, match=r"path: expected a file opened with .*, got .*weights\.pt: "):
        engine.load(file)
    with open(tmp_path / "x", "wb") as file, pytest.raises(InputError, match="opened with mode 'rb'"):
        engine.load(file)
    with open(folder / "weights.pt", encoding="utf-8") as text, pytest.raises(InputError, match="with mode 'rb'"):
        engine.load(text)  # type: ignore[arg-type]


def test_relative_path_with_one_slash_is_a_file(folder: Path, audio: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert audio_of(engine.load(f"{folder.name}/weights.pt", threads=1)) == audio
    with pytest.raises(CheckpointError, match="No such file"):
        engine.load(f"{folder.name}/absent")


# Pickled voices


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_voice(folder: Path, audio: bytes, kind: str, protocol: int) -> None:
    voice = engine.load(SOURCES[kind](folder / "weights.pt"), threads=1, precision="fp32", isa="generic")
    again = pickle.loads(pickle.dumps(voice, protocol=protocol))
    assert (again.threads, again.choice, again.config) == (voice.threads, voice.choice, voice.config)
    assert audio_of(again) == audio_of(voice)


def test_pickled_voice_has_its_options_and_its_path(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    voice = engine.load("weights.pt", threads=1, mel_kind="hifigan", device="cpu")
    small = pickle.dumps(voice)
    assert len(small) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(small)
    assert again.config.mel_kind == "hifigan" and again.choice.device == "cpu"
    assert copy.copy(again).config == copy.deepcopy(again).config == again.config


def test_pickled_bundled_voice_is_a_name() -> None:
    for model in ("voice", None):
        content = pickle.dumps(engine.load(model, threads=1))
        assert len(content) < 300 and b"assets" not in content
        assert pickle.loads(content).config == engine.load().config


def test_voice_of_arrays_cannot_be_pickled() -> None:
    checkpoint = Checkpoint(CONFIG, random_network(CONFIG, 1))
    voice = Voice(checkpoint, registry.select("cpu"), 1)
    with pytest.raises(pickle.PicklingError, match=r"voice: expected one from engine\.load, got one of arrays"):
        pickle.dumps(voice)


def _audio_elsewhere(voice: Voice) -> bytes:
    return audio_of(voice)


def test_voice_in_another_process(folder: Path, audio: bytes) -> None:
    voice = engine.load(folder / "weights.pt", threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_audio_elsewhere, [voice]) == [audio]


# What a checkpoint does not say


@pytest.fixture
def unnamed(tmp_path: Path) -> Iterator[Path]:
    """Write a checkpoint in LMNT's layout that does not say of which kind its mels are."""
    network = random_network(CONFIG, 1)
    save_file(network, tmp_path / "model.safetensors")
    settings = {"dilation_cycle_length": 2, "sample_rate": 22050, "noise_schedule": list(CONFIG.train_schedule)}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    yield tmp_path


LMNT_PARAMS = {"unconditional": False, "crop_mel_frames": 62, "audio_len": 110250, "inference_noise_schedule": [0.1]}


@pytest.mark.parametrize("name", LMNT_PARAMS)
def test_lmnts_settings_imply_its_kind_of_mel(unnamed: Path, name: str) -> None:
    settings = json.loads((unnamed / "config.json").read_text())
    (unnamed / "config.json").write_text(json.dumps({**settings, name: LMNT_PARAMS[name]}))
    voice = engine.load(unnamed)
    assert voice.config.mel_kind == "lmnt"
    with pytest.raises(InputError, match="which look like a log mel"):
        voice.vocode(8 * MEL - 8)


def test_unknown_kind_of_mel_is_a_warning_once(unnamed: Path, recwarn: pytest.WarningsRecorder) -> None:
    voice = engine.load(unnamed)
    assert voice.config.mel_kind is None and len(recwarn) == 0
    warnings.simplefilter("always")
    for _ in range(3):
        voice.vocode(8 * MEL - 8)
        list(voice.stream(MEL))
    (warning,) = recwarn
    assert str(warning.message).startswith("mel: this checkpoint does not say which kind it wants")
    assert "pass mel_kind=, one of 'lmnt', 'tacotron', 'hifigan' or 'speechbrain'" in str(warning.message)
    assert warning.filename == __file__
    engine.load(unnamed, mel_kind="hifigan").vocode(8 * MEL - 8)
    assert len(recwarn) == 1


def test_unknown_kind_of_mel_is_a_warning_of_a_stream(unnamed: Path) -> None:
    with pytest.warns(UserWarning, match="does not say which kind it wants"):
        list(engine.load(unnamed).stream(MEL))


def test_unknown_parameters_are_a_warning(folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    loaded = load_checkpoint(folder / "weights.pt")
    buffers = {"betas": np.zeros(3, np.float32), "step": np.zeros(1, np.int64)}
    settings = json.dumps({"dilation_cycle_length": 2, "sample_rate": 22050, "family": "lmnt", "noise_schedule": [0.1]})
    (tmp_path / "config.json").write_text(settings)
    save_file({**loaded.tensors, **buffers}, tmp_path / "a.safetensors")
    engine.load(tmp_path / "a.safetensors")
    assert len(recwarn) == 0
    more = {**loaded.tensors, **buffers, "speaker_table.weight": np.zeros((3, 3), np.float32)}
    save_file(more, tmp_path / "b.safetensors")
    with pytest.warns(UserWarning, match=r"b.safetensors: ignored 1 tensors of modules .* \('speaker_table.weight'\)"):
        engine.load(tmp_path / "b.safetensors")


# Averages


def test_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    original = random_checkpoint(tmp_path, "lmnt")
    content = torch.load(original.path, weights_only=True)
    average = random_network(CONFIG, 9)
    content["ema"] = {name: torch.from_numpy(value) for name, value in average.items()}
    torch.save(content, original.path)
    raw, ema = engine.load(original.path, threads=1), engine.load(original.path, threads=1, weights="ema")
    expected = Voice(Checkpoint(original.config, average), raw.choice, 1)
    assert audio_of(ema) == audio_of(expected) != audio_of(raw)
    assert audio_of(pickle.loads(pickle.dumps(ema))) == audio_of(ema)
    assert "\nweights raw: the file also has others, weights='ema'\n" in raw.explain()
    assert "\nweights ema: the file also has others, weights='raw'\n" in ema.explain()
    with pytest.raises(InputError, match="weights: expected one of raw, ema, got 'best'"):
        engine.load(original.path, weights="best")
    with pytest.raises(InputError, match=r"weights: expected 'raw', the only ones in .*voice\.safetensors, got 'ema'"):
        engine.load(weights="ema")
    assert "weights" not in engine.load(threads=1).explain()


# The checkpoint's own fast schedule, odd strides and any number of channels, to the audio


def test_own_fast_schedule_is_the_default(tmp_path: Path) -> None:
    own = tuple(np.geomspace(1e-4, 0.3, 12).tolist())
    config = replace(CONFIG, fast_schedule=own)
    save_checkpoint(tmp_path / "x.safetensors", Checkpoint(config, random_network(config, 1)))
    voice = engine.load(tmp_path / "x.safetensors", threads=1)
    audio = voice.vocode(MEL, seed=3).tobytes()
    for steps in ("fast", 12):
        assert voice.vocode(MEL, steps=steps, seed=3).tobytes() == audio
        assert b"".join(chunk.tobytes() for chunk in voice.stream(MEL, steps=steps, seed=3)) == audio
    assert voice.vocode(MEL, schedule=own, seed=3).tobytes() == audio
    assert b"".join(chunk.tobytes() for chunk in voice.stream(MEL, seed=3)) == audio
    assert (
        engine.vocode(MEL, model=tmp_path / "x.safetensors", seed=3).tobytes()
        == engine.load(tmp_path / "x.safetensors").vocode(MEL, seed=3).tobytes()
    )
    for call in (voice.vocode, voice.stream, lambda mel, steps: voice.open_stream(steps=steps)):
        with pytest.raises(InputError, match=r'steps: expected 12 or 50, "fast" \(12 steps, '):
            call(MEL, steps=6)
    for call in (voice.vocode, voice.stream):
        with pytest.raises(InputError, match="schedule: expected betas that ascend"):
            call(MEL, schedule=own[::-1])


@pytest.mark.parametrize("size", [1, 1000, 1 << 20, (1 << 20) + 1, (3 << 20) - 7])
def test_the_checksum_is_of_the_whole_content(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "weights.pt").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert open_source(tmp_path / "weights.pt").sha256() == open_source(content, "bytes").sha256() == expected
