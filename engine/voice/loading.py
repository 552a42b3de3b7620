"""Loading of a network for this machine: what `engine.load` and `Voice.from_pretrained` share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import PicklingError
from typing import Any, TypeVar

from engine.checkpoint import hub
from engine.checkpoint.bundled import NAMES, Model, source_of
from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.checkpoint.source import Source
from engine.checks.arguments import check_count
from engine.errors import InputError
from engine.kernels import registry
from engine.kernels.processors import default_threads

_LOG = logging.getLogger(__name__)
MAX_THREADS = 1024

_IDS = f"'owner/name', an existing folder or file, or one of {', '.join(map(repr, NAMES))}"

LoadableT = TypeVar("LoadableT", bound="Loadable")


class Loadable:
    """A network that is built from (checkpoint, choice, threads, reason for the threads).

    It is pickled as the call that loaded it, so that another process loads it anew.

    Attributes:
        origin: the call, as (function, arguments); None for a network that was built from arrays.
    """

    origin: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.origin is None:
            raise PicklingError("voice: expected one from engine.load, got one of arrays; load it in the other process")
        return self.origin

    @classmethod
    def from_pretrained(
        cls: type[LoadableT],
        id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        file: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        isa: str | None = None,
        mel_kind: str | None = None,
        weights: str | None = None,
    ) -> LoadableT:
        """Load a network from the Hugging Face Hub, or from a folder; needs the extra `hub` for the hub.

        Only the checkpoint is downloaded, safetensors first, and the settings beside it where the checkpoint lacks
        them. Nothing in a file is executed.

        Args:
            id: "owner/name" of a repository, or its address; or an existing folder or file, or the name of a bundled
                network, as `engine.load` takes them.
            revision: a branch, a tag or the number of a commit; None for the default branch.
            cache_dir: of the hub's cache; None for that of huggingface_hub.
            local_files_only: whether to take the files from the cache and make no request.
            token: of an account, for a private repository. True is the stored token, False is none, None is the stored
                one if there is one.
            file: the path of the checkpoint in the repository, where it has several.
            device: see `engine.load`, as for the following.
            precision: of the arithmetic.
            threads: the most threads of a call on a CPU.
            isa: the instruction set.
            mel_kind: the kind of mel that the checkpoint needs.
            weights: "raw" or "ema".

        Raises:
            CheckpointError: the repository, the revision or the file does not exist, the repository has several
                checkpoints, the hub cannot be reached and the cache lacks the file; or see `engine.load`.
            UnavailableError: huggingface_hub is not installed; or see `engine.load`.
            InputError: an argument has an impossible value, or there is a revision beside a folder or a file.
        """
        _check_place(id, revision=revision, cache_dir=cache_dir, token=token, file=file)
        text = os.fsdecode(id)
        path: str | Path = Path(os.path.expanduser(text))
        if os.path.exists(path):
            if revision:
                remedy = "a revision belongs to a repository of the hub"
                if hub.is_repository(text):
                    remedy = f"the hub's repository of this name is 'hf://{text}@{revision}'"
                got = f"{revision!r:.80} beside {text!r:.80}, which exists here"
                raise InputError(f"revision: expected None for a folder or a file, got {got}; {remedy}")
            path = Path(path, file) if file else path
        elif os.path.islink(path):
            pass  # it leads nowhere, which the reader of the file says
        elif id in NAMES:
            for name, value in (("revision", revision), ("file", file)):
                if value:
                    raise InputError(f"{name}: expected None for the bundled network {id!r}, got {value!r:.80}")
            path = text
        else:
            if not hub.is_address(text) and not hub.is_repository(text):
                raise InputError(f"id: expected {_IDS}, got {text!r:.80}")
            address = hub.parse_address(hub.address_of(text, revision, file))
            path = hub.download(address, cache_dir=cache_dir, local_files_only=local_files_only, token=token)
        return load_as(
            cls,
            path,
            device=device,
            precision=precision,
            threads=threads,
            isa=isa,
            mel_kind=mel_kind,
            weights=weights,
        )


def _check_place(id: object, **options: object) -> None:
    """Check the types of what `from_pretrained` passes to the hub."""
    if not isinstance(id, (str, os.PathLike)):
        raise InputError(f"id: expected {_IDS}, got {id!r:.80}")
    kinds: dict[str, tuple[str, tuple[type, ...]]] = {
        "revision": ("the name of a branch, a tag or a commit", (str,)),
        "cache_dir": ("a path", (str, os.PathLike)),
        "token": ("a text, True or False", (str, bool)),
        "file": ("a path in the repository", (str, os.PathLike)),
    }
    for name, value in options.items():
        expected, types = kinds[name]
        if value is not None and not isinstance(value, types):
            got = type(value).__name__ if name == "token" else f"{value!r:.80}"  # a token may be secret
            raise InputError(f"{name}: expected {expected}, or None, got {got}")


def load_as(
    kind: type[LoadableT],
    path: Model | None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    isa: str | None = None,
    mel_kind: str | None = None,
    weights: str | None = None,
    config: str | os.PathLike[str] | None = None,
) -> LoadableT:
    """Load a checkpoint as an object of a class.

    Args:
        kind: the class.
        path: see `engine.load`, as for the others.
        device: the device.
        precision: of the arithmetic.
        threads: the most threads of a call on a CPU.
        isa: the instruction set.
        mel_kind: the kind of mel that the checkpoint needs.
        weights: "raw" or "ema".
        config: see `engine.checkpoint.load_checkpoint`.

    Raises:
        CheckpointError: see `engine.load`.
        UnavailableError: see `engine.load`.
        InputError: see `engine.load`.
    """
    if threads is None:
        limit = default_threads()
        count, reason = min(limit.count, MAX_THREADS), limit.reason
    else:
        count, reason = check_count(threads, "threads", MAX_THREADS), "requested"
    source = source_of(path)
    checkpoint = load_checkpoint(source, mel_kind, config, weights)
    _warn(checkpoint, source.name)
    choice = registry.select(device, precision, isa, bool(checkpoint.config.int8_ranges))
    voice: Any = kind(checkpoint, choice, count, reason)  # type: ignore[call-arg]
    options: dict[str, Any] = {"device": device, "precision": precision, "threads": threads, "isa": isa}
    options |= {"mel_kind": mel_kind, "weights": weights, "config": config and os.path.abspath(config)}
    voice.origin = partial(load_as, kind, **options), (portable(path, source),)
    for line in voice.explain().splitlines():
        _LOG.info("%s", line)
    return voice  # type: ignore[no-any-return]


def portable(path: Model | None, source: Source) -> Model | None:
    """Return an argument of `load_as` that means the same in another process."""
    if path is None or (isinstance(path, str) and path in NAMES):
        return path
    return source.content if isinstance(source.content, bytes) else os.path.abspath(source.content)


def _warn(checkpoint: Checkpoint, name: str) -> None:
    """Warn about parameters in the file of modules that DiffWave does not have."""
    if foreign := [tensor for tensor in checkpoint.unused if tensor.endswith((".weight", ".bias"))]:
        listed = ", ".join(f"{tensor!r:.60}" for tensor in foreign[:2]) + ", ..." * (len(foreign) > 2)
        warnings.warn(
            f"{name}: ignored {len(foreign)} tensors of modules that DiffWave does not have ({listed}); the audio is "
            "wrong if the network needs them",
            UserWarning,
            stacklevel=4,
        )
