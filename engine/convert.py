"""PyTorch checkpoints, read without running what they contain.

A .pt file is a zip archive of raw tensor bytes and one pickle. The archive and the names in the pickle are
checked before torch sees the file, because torch trusts both: its own list of harmless names includes
`bytearray` and `torch.Tensor`, which a pickle can ask for at any size.
"""

from __future__ import annotations

import io
import os
import pickletools
import re
import stat
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.config import plain_values
from engine.errors import CheckpointError, UnavailableError

MAX_DIRECTORY = 1 << 20  # bytes of zip directory: about 10,000 tensors
MAX_PICKLE = 1 << 20  # LARGE with its Adam state needs 0.1 MB
MAX_LIST = 10000  # entries of a hyper-parameter that is a tensor

_ENTRY = re.compile(r"(?!\.\.?/)[^/\\]+/(data\.pkl|data/\d+|\.data/\w+|\.?\w+)")
# The storages of torch.save and the bytes of one value. Complex and quantised ones are no weights.
_STORAGES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
_HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor_v2|parameter)"
    r"|torch (Size|device|(bfloat|float|int|uint)\d+|bool)|" + "|".join(_STORAGES)
)


def file_start(path: str | os.PathLike[str]) -> tuple[int, bytes]:
    """Size and first 9 bytes of a regular, non-empty, readable file; CheckpointError for anything else."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "something that is not a regular file"
            raise CheckpointError(f"{path}: expected a checkpoint file, got {what}")
        with open(path, "rb") as file:
            start = file.read(9)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: expected a checkpoint file, got: {reason}") from None
    if not start:
        raise CheckpointError(f"{path}: expected a checkpoint, got an empty file")
    return status.st_size, start


def read_pytorch(path: str | os.PathLike[str]) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, Any]]:
    """The weights and hyper-parameters of a PyTorch checkpoint (zip format, torch 1.6 or later).

    Reads dict{model, params, ...} as LMNT's trainer writes it (github.com/lmnt-com/diffwave, learner.py), and
    a bare state_dict, which has no hyper-parameters. Optimizer state and storage devices do not matter.

    Returns:
        (tensors, params): contiguous float32 arrays by key, from tensors of float16, bfloat16, float32 or
        float64; `params` as plain Python values, {} when there are none.

    Raises:
        CheckpointError: not such a file, damaged, larger inside than outside, or asking for code.
        UnavailableError: torch is not installed.
    """
    path = os.fspath(path)
    size, start = file_start(path)
    _check_archive(path, size, start)
    try:
        import torch
    except ImportError:
        raise UnavailableError(
            f"{path}: reading a PyTorch checkpoint needs the extra 'convert' (pip install 'torch>=2.10,<2.14')"
        ) from None
    try:
        # Mapped: optimizer state costs no memory, and no storage can claim more than the file holds.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        model, params = _model_and_params(content, torch.Tensor)
        floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        total = 0
        for name, tensor in model.items():
            if type(name) is not str:
                raise CheckpointError(f"expected tensors under names, got a key of type {type(name).__name__}")
            if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
                raise CheckpointError(f"{name!r:.80}: expected a tensor, got a {type(tensor).__name__}")
            if tensor.dtype not in floats or tensor.layout != torch.strided:
                raise CheckpointError(f"{name!r:.80}: expected dense float values, got {tensor.dtype}")
            total += tensor.numel() * tensor.element_size()
        if total > size:  # expanded views: strides of zero
            raise CheckpointError(f"expected at most the file's {size} bytes of weights, got {total}")
        layout = torch.contiguous_format
        tensors = {
            name: tensor.detach().to(torch.float32, copy=True, memory_format=layout).numpy()
            for name, tensor in model.items()
        }
        for name, value in params.items():
            if isinstance(value, torch.Tensor) and value.numel() <= MAX_LIST:
                params[name] = value.tolist()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: torch cannot read it: {reason:.160}") from None
    return tensors, plain_values(params)


def _model_and_params(content: object, tensor_type: type) -> tuple[dict[Any, Any], dict[Any, Any]]:
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        params = content.get("params")
        return dict(content["model"]), dict(params) if isinstance(params, dict) else {}
    if isinstance(content, dict) and content and all(isinstance(v, tensor_type) for v in content.values()):
        return dict(content), {}
    keys = [str(key)[:40] for key in list(content)[:3]] if isinstance(content, dict) else type(content).__name__
    raise CheckpointError(f"expected a dict with 'model' or a state_dict, got {keys}")


class _Directory(io.FileIO):
    """A file that refuses the single large read with which zipfile takes in a whole zip directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its directory has an absurd number of entries")
        return super().read(-1 if size is None else size) or b""


def _check_archive(path: str, size: int, start: bytes) -> None:
    """Refuse every archive that torch.save does not write; CheckpointError says why."""
    try:
        if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError("expected a zip archive, got a legacy pickle: save it again with torch.save")
        if start[:4] != b"PK\x03\x04":
            raise CheckpointError(f"expected a PyTorch zip archive, got a file that begins with {start!r}")
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
            name = _checked_entries(archive.infolist(), size)
            records = {entry.filename: entry.file_size for entry in archive.infolist()}
            _check_pickle(archive.read(name), name.removesuffix(".pkl"), records)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # zipfile alone raises nine kinds
        raise CheckpointError(f"{path}: a damaged zip archive: {error!s:.160}") from None


def _checked_entries(entries: list[zipfile.ZipInfo], size: int) -> str:
    """The name of the pickle among the entries."""
    seen = set()
    for entry in entries:
        name = entry.filename
        if not _ENTRY.fullmatch(name):
            raise CheckpointError(f"expected the entries of torch.save, got {name!r:.80}")
        if name.lower() in seen:  # torch looks names up without regard to case
            raise CheckpointError(f"expected every entry once, got {name!r:.80} twice")
        seen.add(name.lower())
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(f"expected plainly stored entries, got {name!r:.80} compressed or encrypted")
        if name.endswith("/data.pkl") and entry.file_size > MAX_PICKLE:
            raise CheckpointError(f"expected a pickle of at most {MAX_PICKLE} bytes, got {entry.file_size}")
    total = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if total > size:
        raise CheckpointError(f"expected at most the file's {size} bytes of content, got a claim of {total}")
    roots = {entry.filename.split("/")[0] for entry in entries}
    pickles = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(roots) != 1 or len(pickles) != 1:
        raise CheckpointError(f"expected one folder with one data.pkl, got {len(roots)} with {len(pickles)}")
    return pickles[0]


def _check_pickle(program: bytes, folder: str, records: dict[str, int]) -> None:
    """Refuse a pickle that names more than tensors, or storages of another size than their records.

    torch maps as many bytes as the pickle says, whatever the record has.
    """
    values: list[Any] = []  # what the operations push, as far as the id of a storage needs it
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise CheckpointError(f"expected a pickle of tensors, got one with the operation {opcode.name}")
        if opcode.name == "GLOBAL" and not _HARMLESS.fullmatch(str(argument)):
            raise CheckpointError(f"expected a pickle of tensors, got one that asks for {argument!r:.80}")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = values[-1] if values else None
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            values.append(memo.get(argument))
        elif opcode.name == "BINPERSID":  # of ("storage", type, key, device, count)
            kind, key, _, count = values[-4:]
            record = f"{folder}/{key:.20}"
            if records.get(record) != _STORAGES[kind] * count:
                raise CheckpointError(
                    f"{record}: expected the {_STORAGES[kind] * count} bytes that the pickle claims, "
                    f"got {records.get(record, 'nothing')}"
                )
        elif argument is not None:
            values.append(argument)
