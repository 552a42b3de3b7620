"""Checkpoints by address: which files are fetched, the cache, and what is refused."""

from __future__ import annotations

import builtins
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engine
from engine import CheckpointError, InputError, UnavailableError, Voice
from engine.checkpoint.folders import find_checkpoint
from engine.checkpoint.hub import Address, _one_line, download, parse_address
from engine.checkpoint.load import load_checkpoint, save_checkpoint
from engine.config import Config
from tests.support.hub import COMMIT, TOKEN, Hub, Repository, cached_repository, running_hub, use_hub
from tests.support.layouts import random_checkpoint

NAME = "owner/voice-1.2"
ADDRESS = f"hf://{NAME}"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the content of a complete file, of LMNT's and of SpeechBrain's, and of settings."""
    pytest.importorskip("torch")
    contents: dict[str, bytes] = {}
    for layout in ("lmnt", "speechbrain"):
        folder = tmp_path_factory.mktemp(layout)
        original = random_checkpoint(folder, layout)
        contents[original.path.name] = original.path.read_bytes()
        if layout == "lmnt":
            save_checkpoint(folder / "x.safetensors", load_checkpoint(original.path))
            contents["safetensors"] = (folder / "x.safetensors").read_bytes()
    settings = {"dilation_cycle_length": 2, "total_steps": 50}
    contents["config.json"] = json.dumps(settings).encode()
    contents["hyperparams.yaml"] = (
        b"spec_n_mels: 4\ntrain_timesteps: 50\nbeta_start: 0.0001\nbeta_end: 0.05\n"
        b"diffwave: !new:speechbrain.lobes.models.DiffWave.DiffWave\n    dilation_cycle_length: 2\n"
        b"    input_channels: !ref <spec_n_mels>\n    total_steps: !ref <train_timesteps>\n"
    )
    return contents


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """Return the running hub, empty."""
    use_hub(monkeypatch, server.url, tmp_path / "cache")
    server.repositories.clear()
    server.requests.clear()
    server.status = 0
    return server


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://owner/name", Address("owner/name")),
        ("hf:/owner/name", Address("owner/name")),  # Path("hf://owner/name")
        ("hf://owner/name/", Address("owner/name")),
        ("hf://o.w-n_er/n.1@v1.0", Address("o.w-n_er/n.1", "v1.0")),
        ("hf://owner/name@refs/pr/3/a.pt", Address("owner/name", "refs/pr/3", "a.pt")),
        ("hf://owner/name@feature%2Fx", Address("owner/name", "feature/x")),
        ("hf://owner/name/sub/./a.safetensors", Address("owner/name", None, "sub/a.safetensors")),
        (f"hf://owner/name@{COMMIT}/sub", Address("owner/name", COMMIT, "sub")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    if address.revision != "feature/x":
        assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("hf://", "hf://owner", "hf:///owner/name", "hf:owner/name", "hf://owner/", "hf://-x/name", "hf://a b/c"),
        *("hf://owner/name@", "hf://owner/name/../x", "hf://owner/name//etc/passwd", "hf://owner/name@a@b"),
        *("hf://owner/name/a\\..\\b", "hf://owner/name@x y"),
    ],
)
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"^model: expected an address hf://owner/name\[@revision\]\[/file\], g"):
        parse_address(text)


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UnavailableError, match=r"^hf://owner/name: it needs huggingface_hub; pip install .*\[hub\]"):
        engine.load("hf://owner/name")


# Downloads


def test_complete_checkpoint_is_the_only_download(hub: Hub, checkpoints: dict[str, bytes], tmp_path: Path) -> None:
    files = {
        "README.md": b"#",
        "config.json": b"{}",
        "model.safetensors": checkpoints["safetensors"],
        "weights.pt": b"not read",
    }
    hub.repositories[NAME] = Repository(files)
    voice = engine.load(ADDRESS, threads=1)
    assert hub.downloads() == ["model.safetensors"]
    assert voice.config.family == "lmnt"
    assert engine.load(ADDRESS, threads=1).config == voice.config
    assert hub.downloads() == ["model.safetensors"]  # the second load asks whether it is the newest
    folder = tmp_path / "cache" / "models--owner--voice-1.2"
    for path in (folder, folder / "snapshots" / COMMIT, folder / "snapshots" / COMMIT / "model.safetensors"):
        assert engine.load(path, threads=1).config == voice.config


@pytest.mark.parametrize("settings", ["config.json", "hyperparams.yaml"])
def test_settings_beside_the_weights(hub: Hub, checkpoints: dict[str, bytes], settings: str) -> None:
    name = "diffwave.ckpt"
    hub.repositories[NAME] = Repository({name: checkpoints[name], settings: checkpoints[settings], "x.wav": b"RIFF"})
    config = engine.load(ADDRESS, threads=1).config
    assert (config.family, config.dilation_cycle, len(config.train_schedule)) == ("speechbrain", 2, 50)
    assert hub.downloads() == [name, settings]
    assert f"HEAD /{NAME}/resolve/{COMMIT}/{settings}" in hub.requests  # of the commit of the weights


def test_file_and_folder_of_a_repository(hub: Hub, checkpoints: dict[str, bytes]) -> None:
    name = "diffwave.ckpt"
    files = {f"v1/{name}": checkpoints[name], "v1/config.json": checkpoints["config.json"], "v2/weights.pt": b"x"}
    hub.repositories[NAME] = Repository({**files, "a.pt": b"x", "b.pt": b"x"}, ("main", "other"))
    expected = Config.to_json(engine.load(f"{ADDRESS}@other/v1/{name}", threads=1).config)
    # Without a list of the files, both settings are requested, and one does not exist.
    assert hub.downloads() == [f"v1/{name}", "v1/config.json"]
    assert not any("/api/" in request for request in hub.requests)
    assert engine.load(f"{ADDRESS}/v1", threads=1).config.to_json() == expected
    assert engine.load(f"{ADDRESS}@{COMMIT}/v1", threads=1).config.to_json() == expected
    voice = Voice.from_pretrained(NAME, revision="other", file=f"v1/{name}", threads=1, mel_kind="lmnt")
    assert voice.config.mel_kind == "lmnt"
    assert replace(voice.config, mel_kind="speechbrain").to_json() == expected


@pytest.mark.parametrize(
    ("repository", "address", "message"),
    [
        (Repository({"a.pt": b"x", "b.pt": b"x"}), ADDRESS, r"with one checkpoint, got 'a\.pt', 'b\.pt'; pass one of"),
        (Repository({"x/a.pt": b""}), ADDRESS, rf"with one checkpoint, got 'x/a\.pt'; pass .* '{ADDRESS}/x/a\.pt'$"),
        (Repository({"README.md": b"#"}), ADDRESS, r"a repository with one checkpoint, got 'README\.md'$"),
        (Repository({}), ADDRESS, "a repository with one checkpoint, got an empty one$"),
        (Repository({"README.md": b"#"}), f"{ADDRESS}/sub", "a folder with one checkpoint, got 'README"),
        (Repository({"a.pt": b"x"}), f"{ADDRESS}/b.pt", r"got 'b\.pt', which it lacks; its checkpoints are 'a\.pt'$"),
        (Repository({"a.pt": b"x"}), f"{ADDRESS}@v9", "a branch, a tag or a commit of the repository, got 'v9'"),
        (Repository({"a.pt": b"x"}), f"{ADDRESS}@v9/a.pt", "a branch, a tag or a commit of the repository, got 'v9'"),
        (Repository({}), "hf://owner/other", "a repository of the hub, got none of this name; for a private one pass"),
        (Repository({}), "hf://owner/other/a.pt", "a repository of the hub, got none of this name"),
        (Repository({"a.pt": b"x"}, gated=True), ADDRESS, "access to the repository, got a refusal; accept its terms"),
        (Repository({}), f"hf://owner/{'x' * 120}", "got: HFValidationError|expected an address"),
    ],
)
def test_refusals(hub: Hub, repository: Repository, address: str, message: str) -> None:
    hub.repositories[NAME] = repository
    with pytest.raises(CheckpointError, match=message) as refusal:
        engine.load(address)
    text = str(refusal.value)
    assert text.startswith(f"{address}: expected") and "\n" not in text and len(text) < 600
    assert not hub.downloads()


def test_private_repository(hub: Hub, checkpoints: dict[str, bytes]) -> None:
    hub.repositories[NAME] = Repository({"a.safetensors": checkpoints["safetensors"]}, private=True)
    for token in (None, False, "hf_other"):
        with pytest.raises(CheckpointError, match="for a private one pass token="):
            Voice.from_pretrained(NAME, token=token)
    assert Voice.from_pretrained(NAME, token=TOKEN, threads=1).config.family == "lmnt"


def test_parts_stated_twice(hub: Hub) -> None:
    for options, name in (({"revision": "b"}, "revision"), ({"file": "b.pt"}, "file")):
        with pytest.raises(
            InputError, match=rf"^{name}: expected None beside the address 'hf://.*', which has one, got"
        ):
            Voice.from_pretrained(f"{ADDRESS}@a/a.pt", **options)  # type: ignore[arg-type]
    assert not hub.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": None}, "id: expected 'owner/name', an existing folder or file, or one of 'voice', .*, got None"),
        ({"id": 3}, "id: expected 'owner/name', .*, got 3"),
        ({"id": "absent"}, "id: expected 'owner/name', .*, got 'absent'"),
        ({"id": "a/b/c"}, "id: expected 'owner/name', .*, got 'a/b/c'"),
        ({"id": "digits", "revision": "v1"}, "revision: expected None for the bundled network 'digits', got 'v1'"),
        ({"id": "digits", "file": "a.pt"}, r"file: expected None for the bundled network 'digits', got 'a\.pt'"),
        ({"revision": 3}, "revision: expected the name of a branch, a tag or a commit, or None, got 3"),
        ({"file": 3}, "file: expected a path in the repository, or None, got 3"),
        ({"cache_dir": 3}, "cache_dir: expected a path, or None, got 3"),
        ({"token": 5}, "token: expected a text, True or False, or None, got int"),
    ],
)
def test_arguments_of_from_pretrained(hub: Hub, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        Voice.from_pretrained(**{"id": NAME, **options})
    assert not hub.requests


def test_bundled_network_by_from_pretrained(hub: Hub) -> None:
    assert Voice.from_pretrained("digits", threads=1).config == engine.load("digits", threads=1).config
    assert not hub.requests


# The cache


def test_local_files_only(hub: Hub, checkpoints: dict[str, bytes], tmp_path: Path) -> None:
    cache = tmp_path / "other"
    files = {"diffwave.ckpt": checkpoints["diffwave.ckpt"], "config.json": checkpoints["config.json"]}
    cached_repository(cache, NAME, {**files, "x/a.pt": b"x"})
    for revision in (None, "main", COMMIT):
        voice = Voice.from_pretrained(NAME, revision=revision, cache_dir=cache, local_files_only=True, threads=1)
        assert voice.config.family == "speechbrain"
    for options, held in (
        ({"revision": "v2"}, "expected a checkpoint .*got none$"),
        ({"file": "b.pt"}, rf"expected 'b\.pt' .*got none; pass one that it holds, '{ADDRESS}/diffwave\.ckpt'$"),
        ({"file": "y"}, "expected a checkpoint in 'y' .*got none; pass one that it holds, "),
    ):
        before, after = held.split(".*", 1)
        with pytest.raises(CheckpointError, match=rf"{before}in the cache .*, because local_files_only=True, {after}"):
            Voice.from_pretrained(NAME, cache_dir=cache, local_files_only=True, **options)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"in the cache .*, because local_files_only=True, got none$"):
        Voice.from_pretrained("owner/other", cache_dir=cache, local_files_only=True)
    assert not hub.requests


def test_offline(monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, bytes], tmp_path: Path) -> None:
    """A hub that does not answer: the cache with a warning, or an error that names the reason."""
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub retries
    with pytest.raises(CheckpointError, match=r"in the cache .*, because the hub cannot be reached \(.*\), got none"):
        engine.load("hf://owner/absent/a.pt")
    with pytest.raises(CheckpointError, match="because the hub cannot be reached"):
        engine.load("hf://owner/absent")
    cached_repository(tmp_path, NAME, {"a.safetensors": checkpoints["safetensors"]})
    with pytest.warns(UserWarning, match=rf"^{ADDRESS}: used the cached files, because the hub cannot be reached"):
        assert engine.load(ADDRESS, threads=1).config.family == "lmnt"
    with pytest.warns(UserWarning) as caught:
        Voice.from_pretrained(NAME, threads=1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.load(f"{ADDRESS}@{COMMIT}", threads=1)  # a commit has no newer files


def test_offline_on_purpose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = cached_repository(tmp_path, NAME, {"vocoder/model.safetensors": b"x", "vocoder/b/config.json": b"{}"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = download(parse_address(f"{ADDRESS}/vocoder"))
    assert path == snapshot / "vocoder" / "model.safetensors"
    remedy = rf"got none; pass one that it holds, '{ADDRESS}/vocoder/model\.safetensors'$"
    for file, missing in (("", "a checkpoint"), ("/a.pt", r"'a\.pt'"), ("/vocoder/b", "a checkpoint in 'vocoder/b'")):
        with pytest.raises(
            CheckpointError, match=rf"expected {missing} in the cache .*, because HF_HUB_OFFLINE=1, {remedy}"
        ):
            download(parse_address(f"{ADDRESS}{file}"))
    shutil.rmtree(snapshot.parents[1] / "blobs")
    for file in ("vocoder", "vocoder/model.safetensors"):
        with pytest.raises(CheckpointError, match=r"got 'vocoder/model\.safetensors', which is a link to a missing"):
            download(parse_address(f"{ADDRESS}/{file}"))


def test_long_reasons_end_with_a_word() -> None:
    words = "word " * 100
    assert _one_line(OSError(f"a\n{words}")).endswith("word ...")


def test_cache_that_cannot_be_written(hub: Hub, checkpoints: dict[str, bytes], tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({"a.safetensors": checkpoints["safetensors"]})
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="Not a directory"):
        Voice.from_pretrained(NAME, cache_dir=tmp_path / "file" / "cache")


def test_hub_that_is_down(
    hub: Hub, checkpoints: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 500
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub retries
    cached_repository(tmp_path / "cache", NAME, {"a.safetensors": checkpoints["safetensors"]})
    with pytest.warns(UserWarning, match="because the hub cannot be reached"):
        assert download(parse_address(ADDRESS)).name == "a.safetensors"


@pytest.mark.parametrize(("ref", "kind"), [("main", "main"), (None, "the only snapshot"), ("v2", "the only snapshot")])
def test_layout_of_the_cache_as_a_folder(
    checkpoints: dict[str, bytes], tmp_path: Path, ref: str | None, kind: str
) -> None:
    snapshot = cached_repository(tmp_path, NAME, {"a.safetensors": checkpoints["safetensors"]}, ref)
    folder = snapshot.parents[1]
    assert engine.load(folder, threads=1).config.family == "lmnt"
    (folder / "snapshots" / "f00").mkdir()
    if ref == "main":
        assert engine.load(str(folder), threads=1).config.family == "lmnt"
        return
    with pytest.raises(CheckpointError, match=r"with the branch 'main' or one snapshot, got '0123.*', 'f00'; pass the"):
        engine.load(folder)


@pytest.mark.parametrize("folder", ["", "vocoder/"])
def test_address_and_path_in_the_cache_select_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    files = {f"{folder}{name}": b"x" for name in ("voice.safetensors", "weights.pt")}
    snapshot = cached_repository(tmp_path, NAME, files)
    expected = snapshot / folder / "voice.safetensors"
    address = parse_address(f"{ADDRESS}/{folder}")
    assert download(address, cache_dir=tmp_path, local_files_only=True) == expected
    assert find_checkpoint(snapshot / folder) == expected
    if not folder:
        assert find_checkpoint(snapshot.parents[1]) == expected
    monkeypatch.chdir(snapshot / folder)
    assert find_checkpoint(Path()).name == expected.name
    (tmp_path / "trained").mkdir()
    for name in ("voice.safetensors", "weights.pt"):
        (tmp_path / "trained" / name).write_bytes(b"x")
    assert find_checkpoint(tmp_path / "trained").name == "weights.pt"  # a trainer's folder


def test_links_to_missing_files_in_the_cache(tmp_path: Path) -> None:
    snapshot = cached_repository(tmp_path, NAME, {"model.safetensors": b"x", "config.json": b"{}"})
    shutil.rmtree(snapshot.parents[1] / "blobs")
    for folder in (snapshot, snapshot.parents[1]):
        with pytest.raises(
            CheckpointError, match=r"got 'model\.safetensors', which is a link to a missing file; download it again$"
        ):
            engine.load(folder)


def test_a_revision_of_a_folder_is_refused(
    checkpoints: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(NAME, "a.safetensors")
    file.parent.mkdir(parents=True)
    file.write_bytes(checkpoints["safetensors"])
    for place, remedy in ((NAME, f"'hf://{NAME}@v2'"), (file, "a revision belongs to a repository of the hub")):
        with pytest.raises(InputError, match=rf"^revision: expected None for a folder or a file, got 'v2' .*{remedy}"):
            Voice.from_pretrained(place, revision="v2")
    assert Voice.from_pretrained(NAME, threads=1).config.family == "lmnt"


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to("gone.safetensors")
    for read in (Voice.from_pretrained, engine.load):
        with pytest.raises(
            CheckpointError,
            match=r"a\.safetensors: cannot read it: it is a link to 'gone\.safetensors', which does not",
        ):
            read(tmp_path / "a.safetensors")


def test_weights_without_their_settings_in_the_cache(checkpoints: dict[str, bytes], tmp_path: Path) -> None:
    cached_repository(tmp_path, NAME, {"diffwave.ckpt": checkpoints["diffwave.ckpt"]})
    with pytest.raises(CheckpointError, match=r"missing: the hub's cache has no settings .*; load the repository once"):
        Voice.from_pretrained(NAME, cache_dir=tmp_path, local_files_only=True)


def test_folder_and_file_by_from_pretrained(
    checkpoints: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.safetensors").write_bytes(checkpoints["safetensors"])
    (tmp_path / "b.safetensors").write_bytes(checkpoints["safetensors"])
    for arguments in ({"id": tmp_path, "file": "a.safetensors"}, {"id": str(tmp_path / "b.safetensors")}):
        assert Voice.from_pretrained(**arguments, threads=1).config.family == "lmnt"  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"'a\.safetensors', 'b\.safetensors'; pass one of its files"):
        Voice.from_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "a.safetensors").rename("digits/a.safetensors")
    assert Voice.from_pretrained("digits", threads=1).config.family == "lmnt"  # the folder, not the bundled network
