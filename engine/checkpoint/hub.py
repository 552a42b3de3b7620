"""Checkpoints on the Hugging Face Hub: addresses, and the files of a repository that loading needs.

huggingface_hub (the extra `hub`) downloads files into its cache and authenticates. Here stands which files: one with
weights, safetensors first, and the settings beside it where the weights need them.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

from engine.checkpoint.folders import (
    DANGLING,
    MAIN,
    SUFFIXES,
    checkpoint_names,
    find_snapshot,
    is_dangling,
    list_names,
    prefer_safetensors,
    select_name,
)
from engine.checkpoint.safetensors_file import read_safetensors
from engine.checkpoint.source import open_source
from engine.checks.callers import warn_caller
from engine.checks.installation import how_to_install
from engine.errors import CheckpointError, InputError, UnavailableError

EXTRA = "hub"
FORM = "hf://owner/name[@revision][/file]"
# The files beside the weights that hold hyper-parameters (`engine.checkpoint.load`).
SETTINGS = ("config.json", "hyperparams.yaml")
_SCHEME = re.compile(r"hf:/{1,2}(?=[^/])")  # Path("hf://x") has one slash
_NAME = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"(?P<repository>{_NAME}/{_NAME})(@(?P<revision>refs/(pr|convert)/[\w.-]+|[\w.%+-]+))?(/(?P<file>.*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_LOG_IN = "pass token=, or run 'hf auth login'"


@dataclass(frozen=True)
class Address:
    """A place on the hub.

    Attributes:
        repository: "owner/name".
        revision: a branch, a tag or the number of a commit; None for the default branch.
        file: the path of a file or a folder in the repository; "" for the repository itself.
    """

    repository: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{revision}" + (f"/{self.file}" if self.file else "")

    @property
    def names_file(self) -> bool:
        """Whether the address ends in the name of a checkpoint."""
        return self.file.endswith(SUFFIXES)


def is_address(text: str) -> bool:
    """Return whether a text is an address of the hub, well-formed or not.

    Args:
        text: a model.
    """
    return text.startswith("hf:/")


def is_repository(text: str) -> bool:
    """Return whether a text has the form "owner/name".

    Args:
        text: the id of a repository.
    """
    return re.fullmatch(f"{_NAME}/{_NAME}", text) is not None


def parse_address(text: str) -> Address:
    """Return the parts of an address.

    Args:
        text: `FORM`. In a revision, "/" is written as "%2F", except in "refs/pr/N".

    Raises:
        CheckpointError: the text has another form.
    """
    scheme = _SCHEME.match(text)
    match = _ADDRESS.fullmatch(text, scheme.end()) if scheme else None
    file = posixpath.normpath(match["file"]) if match and match["file"] else ""
    if match is None or file.startswith(("/", "..")) or "\\" in file:
        raise CheckpointError(f"model: expected an address {FORM}, got {text!r:.80}")
    revision = unquote(match["revision"]) if match["revision"] else None
    return Address(match["repository"], revision, "" if file == "." else file)


def address_of(id: str, revision: str | None = None, file: str | None = None) -> str:
    """Return the address of a repository's id with other parts.

    Args:
        id: "owner/name", or an address.
        revision: a branch, a tag or the number of a commit.
        file: a path in the repository.

    Raises:
        CheckpointError: the id is malformed.
        InputError: the address has the part already.
    """
    address = id if is_address(id) else f"hf://{id}"
    parts = parse_address(address)
    for name, value, stated in (("revision", revision, parts.revision), ("file", file, parts.file)):
        if value and stated:
            raise InputError(f"{name}: expected None beside the address {id!r:.80}, which has one, got {value!r:.80}")
    if revision:
        address = f"{address.rstrip('/')}@{revision.replace('/', '%2F')}"
    return f"{address.rstrip('/')}/{file}" if file else address


def download(
    address: Address,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    progress: bool = True,
    settings: tuple[str, ...] = SETTINGS,
) -> Path:
    """Return the checkpoint of an address, in the hub's cache; download what the cache lacks.

    Without a connection the newest cached files are used, with a warning. Neither a commit by its full number, which
    has no newer files, nor offline use on purpose (`local_files_only`, HF_HUB_OFFLINE) warns.

    Args:
        address: of a repository, a folder in it or a file.
        cache_dir: of the cache; None for that of huggingface_hub.
        local_files_only: whether to make no request.
        token: of an account, True for the stored one, False for none; None for the stored one if there is one.
        progress: whether huggingface_hub may show its progress bar, which it does on a terminal.
        settings: the names of the files beside weights that do not hold all hyper-parameters.

    Raises:
        CheckpointError: the hub has no such repository, revision or file, the repository has no checkpoint or several,
            access is denied, or the hub cannot be reached and the cache lacks the file.
        UnavailableError: huggingface_hub is not installed.
        OSError: the cache cannot be written.
    """
    library = _library(address)
    cache = Path(os.path.expanduser(cache_dir or library.constants.HF_HUB_CACHE))
    if local_files_only:
        return _cached(address, cache, "local_files_only=True")
    if library.constants.HF_HUB_OFFLINE:
        return _cached(address, cache, "HF_HUB_OFFLINE=1")
    try:
        with nullcontext() if progress else _without_progress(library):
            return _download(library, address, settings, {"cache_dir": cache, "token": token})
    except CheckpointError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in _LOCAL:  # of the cache, not of the connection
            raise
        if refusal := _refusal(library.errors, address, error):
            raise refusal from None
        reason = f"the hub cannot be reached ({_one_line(error.__cause__ or error)})"
    path = _cached(address, cache, reason)
    if not _COMMIT.fullmatch(address.revision or ""):
        warn_caller(f"{address}: used the cached files, because {reason}")
    return path


@contextmanager
def _without_progress(library: ModuleType) -> Iterator[None]:
    if library.utils.are_progress_bars_disabled():
        yield
        return
    library.utils.disable_progress_bars()
    try:
        yield
    finally:
        library.utils.enable_progress_bars()


def _library(address: Address) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise UnavailableError(f"{address}: it needs huggingface_hub; {how_to_install(EXTRA)}") from None
    return huggingface_hub


def _download(library: ModuleType, address: Address, settings: tuple[str, ...], options: dict[str, Any]) -> Path:
    """Download the weights and the settings that they need."""
    names: list[str] | None = None
    if not address.names_file:
        names = _list_files(library, address, options["token"])
    file = address.file if names is None else _select(address, names)
    try:
        path = Path(library.hf_hub_download(address.repository, file, revision=address.revision, **options))
    except library.errors.EntryNotFoundError as error:
        if isinstance(error, library.errors.LocalEntryNotFoundError):  # neither reached nor cached
            raise
        others = checkpoint_names(_list_files(library, address, options["token"]))
        raise CheckpointError(
            f"{address}: expected a file of the repository, got {file!r:.80}, which it lacks; its checkpoints are "
            f"{list_names(others) if others else 'none'}"
        ) from None
    if _is_complete(path):
        return path
    # Settings of the same commit: the name of the snapshot's folder.
    commit = path.parents[file.count("/")].name
    for setting in settings:
        beside = posixpath.join(posixpath.dirname(file), setting)
        if names is None or beside in names:
            try:
                library.hf_hub_download(address.repository, beside, revision=commit, **options)
            except library.errors.EntryNotFoundError as error:
                if isinstance(error, library.errors.LocalEntryNotFoundError):
                    raise
    return path


def _list_files(library: ModuleType, address: Address, token: str | bool | None) -> list[str]:
    names: list[str] = library.HfApi().list_repo_files(address.repository, revision=address.revision, token=token)
    return names


def _cached(address: Address, cache: Path, reason: str) -> Path:
    """Return the checkpoint of an address from the cache alone."""
    repository = cache / f"models--{address.repository.replace('/', '--')}"
    snapshot = find_snapshot(repository, address.revision or MAIN)
    names: list[str] = []
    dangling: list[str] = []
    for path in sorted(snapshot.rglob("*")) if snapshot is not None else ():
        if path.is_file() or is_dangling(path):
            (names if path.is_file() else dangling).append(path.relative_to(snapshot or cache).as_posix())
    file = address.file
    if not address.names_file and _candidates(address, names):
        file = _select(address, names)
    if snapshot is not None and file in names:
        return snapshot / file
    expected = repr(file) if address.names_file else f"a checkpoint in {file!r}" if file else "a checkpoint"
    links = [file] if file in dangling else _candidates(address, dangling)
    if links:
        got = f"{DANGLING.format(links[0])}; download it again"
    elif others := checkpoint_names(names):
        got = f"none; pass one that it holds, '{Address(address.repository, address.revision, others[0])}'"
    else:
        got = f"none; it holds {list_names(names)}" if names else "none"
    raise CheckpointError(f"{address}: expected {expected} in the cache {cache}, because {reason}, got {got}")


def _candidates(address: Address, names: list[str]) -> list[str]:
    """Return the names of the checkpoints in the folder of an address, safetensors if there are any."""
    inside = [name for name in names if posixpath.dirname(name) == address.file]
    return prefer_safetensors(checkpoint_names(inside))


def _select(address: Address, names: list[str]) -> str:
    """Return the checkpoint in the folder of an address.

    Raises:
        CheckpointError: there is none, or several.
    """
    candidates = _candidates(address, names)
    selected = select_name(posixpath.basename(name) for name in candidates)
    if selected is not None:
        return posixpath.join(address.file, selected)
    others = candidates or checkpoint_names(names)
    remedy = f"; pass one of them, '{Address(address.repository, address.revision, others[0])}'" if others else ""
    what = "folder" if address.file else "repository"
    raise CheckpointError(
        f"{address}: expected a {what} with one checkpoint, got {list_names(others or names)}{remedy}"
    )


def _is_complete(path: Path) -> bool:
    """Return whether a checkpoint holds all hyper-parameters, so that no other file can add any."""
    source = open_source(path)
    return source.start[8:] == b"{" and read_safetensors(source)[1] is not None


def _refusal(errors: ModuleType, address: Address, error: Exception) -> CheckpointError | None:
    """Return the error for an answer of the hub; None if the hub gave none."""
    expected = None
    if isinstance(error, errors.GatedRepoError):
        expected = f"access to the repository, got a refusal; accept its terms on the hub, and {_LOG_IN}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        expected = f"a repository of the hub, got none of this name; for a private one {_LOG_IN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        expected = f"a branch, a tag or a commit of the repository, got {address.revision!r:.80}"
    elif isinstance(error, errors.HFValidationError):
        expected = f"an address {FORM}, got: {_one_line(error)}"
    return CheckpointError(f"{address}: expected {expected}") if expected else None


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
