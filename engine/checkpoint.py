"""Weights on disk: which files are a network, and what a network's weights are called.

Everything a file says is checked against something else before it is believed: the header against the file's
size, the names and shapes against each other, the hyper-parameters against the shapes.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from engine.config import MEL_KINDS, Config, parse_object
from engine.convert import file_start, read_pytorch
from engine.errors import CheckpointError, InputError
from engine.replace import replacing

METADATA_KEY = "diffwave"
MAX_HEADER = 1 << 21  # bytes; the largest Config and 256 layers need 0.9 MB
MAX_CONFIG = 1 << 20

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

# Other names for a Config field: LMNT's and PriorGrad's params.py.
_ALIASES = {
    "dilation_cycle_length": "dilation_cycle",
    "noise_schedule": "train_schedule",
    "inference_noise_schedule": "fast_schedule",
}
# Needed, in no tensor's shape, and under which name a config.json usually has it.
_REQUIRED = {
    "dilation_cycle": "dilation_cycle_length",
    "sample_rate": "sample_rate",
    "train_schedule": "noise_schedule",
}
_KNOWN = {f.name for f in fields(Config)} | {"hop_samples", "unconditional", "family"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One network: what it is, and its weights under LMNT's names (`expected_shapes`).

    Attributes:
        config: the hyper-parameters.
        tensors: exactly the arrays of `expected_shapes(config)`: float32, C-contiguous, finite. Anything else
            raises CheckpointError here, whichever file or code it comes from.
    """

    config: Config
    tensors: dict[str, Array]

    def __post_init__(self) -> None:
        expected = expected_shapes(self.config)
        _check_names(self.tensors, expected)
        for name, shape in expected.items():
            tensor = self.tensors[name]
            if tensor.shape != shape:
                raise CheckpointError(f"{name}: expected shape {shape}, got {tensor.shape!r:.80}")
            if tensor.dtype != np.float32 or not tensor.flags.c_contiguous:
                raise CheckpointError(f"{name}: expected contiguous float32 values, got {tensor.dtype}")
            if not np.isfinite(tensor).all():
                raise CheckpointError(f"{name}: expected finite float32 values, got NaN or infinity")


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Name and shape of every tensor of a network, LMNT's layout (github.com/lmnt-com/diffwave, model.py)."""
    return _lmnt_shapes(config.residual_channels, config.residual_layers, config.n_mels, config.upsample_strides)


def load_checkpoint(path: str | os.PathLike[str], mel_kind: str | None = None) -> Checkpoint:
    """Read a checkpoint; the content decides its format: safetensors, or a PyTorch zip archive.

    A safetensors file written by `save_checkpoint` is complete. For every other file, a config.json beside it
    supplies the hyper-parameters that the file lacks (LMNT's names or `Config`'s); it may not contradict.

    Args:
        path: the file. PyTorch archives need the extra `convert`.
        mel_kind: the front-end of the mels, one of `MEL_KINDS`; wins over a family's default.

    Raises:
        CheckpointError: missing, damaged, hostile, incomplete, or not a DiffWave network of LMNT's layout.
        InputError: an unknown `mel_kind`, one that contradicts the kind recorded in the file, or one for an
            unconditional network.
        UnavailableError: a PyTorch archive, and torch is not installed.
    """
    if mel_kind is not None and mel_kind not in MEL_KINDS:
        raise InputError(f"mel_kind: expected one of {', '.join(MEL_KINDS)}, got {mel_kind!r:.80}")
    path = Path(path)
    size, start = file_start(path)
    recorded: Config | None = None
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:] != b"{"):
        tensors, params = read_pytorch(path)
        sources = {"the checkpoint": {**_family(params), **params}}
    elif start[8:] == b"{":
        tensors, text = _read_safetensors(path, size)
        recorded = _recorded_config(path, text)
        sources = {"the checkpoint": asdict(recorded) if recorded else {}}
    else:
        raise CheckpointError(
            f"{path}: expected safetensors or a PyTorch zip archive, got {size} bytes, the first {start!r}"
        )
    if recorded is None:
        sources["config.json"] = _config_beside(path)
    try:
        checkpoint = _assemble(tensors, _merged(sources))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if mel_kind is None:
        return checkpoint
    known = recorded.mel_kind if recorded else None
    if not checkpoint.config.n_mels:
        raise InputError(f"mel_kind: expected None for an unconditional network, got {mel_kind!r}")
    if known not in (None, mel_kind):
        raise InputError(f"mel_kind: {path} was made for {known!r} mels, got {mel_kind!r}")
    return replace(checkpoint, config=replace(checkpoint.config, mel_kind=mel_kind))


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, dtype: str = "float32") -> None:
    """Write a safetensors file that `load_checkpoint` reads without a config.json.

    The file appears under its name only when it is complete; an existing one is replaced.

    Args:
        path: the file to write.
        checkpoint: what to write.
        dtype: "float32", or "float16" for half the size; loading gives float32 either way.

    Raises:
        InputError: another dtype, or a weight that float16 cannot hold.
        OSError: the file cannot be written.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype: expected 'float32' or 'float16', got {dtype!r:.80}")
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        with np.errstate(over="ignore"):
            tensors[name] = tensor.astype(dtype, copy=False)
        if not np.isfinite(tensors[name]).all():
            raise InputError(f"dtype: float16 cannot hold {name}, which reaches {np.abs(tensor).max():.6g}")
    content = save(tensors, metadata={METADATA_KEY: checkpoint.config.to_json()})
    with replacing(path) as file:
        file.write(content)


def _lmnt_shapes(C: int, N: int, M: int, strides: Shape) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}

    def add(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        # Every layer writes as many channels as its weight has rows.
        shapes[f"{name}.bias"] = (weight[0],)

    add("input_projection", C, 1, 1)
    add("diffusion_embedding.projection1", 512, 128)
    add("diffusion_embedding.projection2", 512, 512)
    for k, stride in enumerate(strides, start=1):
        add(f"spectrogram_upsampler.conv{k}", 1, 1, 3, 2 * stride)
    for i in range(N):
        add(f"residual_layers.{i}.dilated_conv", 2 * C, C, 3)
        add(f"residual_layers.{i}.diffusion_projection", C, 512)
        if M:
            add(f"residual_layers.{i}.conditioner_projection", 2 * C, M, 1)
        add(f"residual_layers.{i}.output_projection", 2 * C, C, 1)
    add("skip_projection", C, C, 1)
    add("output_projection", 1, C, 1)
    return shapes


def _check_names(names: Collection[str], expected: Mapping[str, Shape]) -> None:
    unexpected = [name for name in names if name not in expected]
    missing = [name for name in expected if name not in names]
    if missing or unexpected:
        raise CheckpointError(
            f"expected the {len(expected)} tensors of an LMNT network, "
            f"missing: {_some(missing)}; unexpected: {_some(unexpected)}"
        )


def _some(names: list[str]) -> str:
    listed = ", ".join(f"{name!r:.80}" for name in names[:3]) or "none"
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed


def _family(params: dict[str, Any]) -> dict[str, str]:
    """Whose `params` these are: PriorGrad's keys are LMNT's, but its mel and its noise are not."""
    if not params:
        return {}
    return {"family": "priorgrad" if {"use_prior", "std_min"} & set(params) else "lmnt"}


def _assemble(tensors: dict[str, Array], settings: dict[str, Any]) -> Checkpoint:
    """Shapes and settings to a network; CheckpointError where they disagree or something is missing."""
    if settings.get("family", "lmnt") != "lmnt":
        raise CheckpointError(f"expected an LMNT network, got one of family {settings['family']!r:.80}")
    sizes = _sizes(tensors)
    hop, unconditional = math.prod(sizes["upsample_strides"]), sizes["n_mels"] == 0
    seen: dict[str, Any] = {**sizes, "hop_samples": hop, "unconditional": unconditional}
    if unconditional:  # LMNT's params state these even when nothing uses them
        settings = {k: v for k, v in settings.items() if k not in ("n_mels", "hop_samples")}
    for name, value in seen.items():
        if name in settings and settings[name] != value:
            raise CheckpointError(
                f"{name}: the configuration says {settings[name]!r:.80}, the tensors' shapes say {value}"
            )
    missing = [alias for name, alias in _REQUIRED.items() if name not in settings]
    if missing:
        raise CheckpointError(f"{', '.join(missing)} missing: put it into config.json beside the file")
    family_kind = settings.get("family") if not unconditional else None  # one name for both
    config = Config(
        **sizes,
        **{name: settings[name] for name in _REQUIRED},
        mel_kind=settings.get("mel_kind", family_kind),
        fast_schedule=settings.get("fast_schedule"),
    )
    return Checkpoint(config, tensors)


def _sizes(tensors: dict[str, Array]) -> dict[str, Any]:
    """C, N, M and the upsampler's strides (half its kernels' widths), from names and shapes."""
    layers = {m[1] for name in tensors if (m := re.match(r"residual_layers\.(\d+)\.", name))}
    stages = {m[1] for name in tensors if (m := re.match(r"spectrogram_upsampler\.conv(\d+)\.", name))}
    conditional = bool(stages) or any(".conditioner_projection." in name for name in tensors)
    # The names follow from these counts alone; the 16, 1 and 2 stand for sizes not known yet.
    expected = _lmnt_shapes(16, len(layers), int(conditional), (2,) * max(len(stages), int(conditional)))
    _check_names(tensors, expected)
    for name, shape in expected.items():
        if tensors[name].ndim != len(shape):
            raise CheckpointError(f"{name}: expected {len(shape)} dimensions, got {tensors[name].shape!r:.80}")
    return {
        "residual_channels": tensors["input_projection.weight"].shape[0],
        "residual_layers": len(layers),
        "n_mels": tensors["residual_layers.0.conditioner_projection.weight"].shape[1] if conditional else 0,
        "upsample_strides": tuple(
            tensors[f"spectrogram_upsampler.conv{k + 1}.weight"].shape[3] // 2 for k in range(len(stages))
        ),
    }


def _merged(sources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings under Config's names; CheckpointError where two sources disagree."""
    settings: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in sources.items():
        for given, value in values.items():
            name = _ALIASES.get(given, given)
            if name not in _KNOWN or value is None:
                continue
            value = tuple(value) if isinstance(value, list) else value
            if name in settings and settings[name] != value:
                raise CheckpointError(
                    f"{given}: {origin[name]} says {settings[name]!r:.80}, {source} says {value!r:.80}"
                )
            settings[name], origin[name] = value, source
    return settings


def _config_beside(path: Path) -> dict[str, Any]:
    beside = path.with_name("config.json")
    if not beside.is_file():
        return {}
    try:
        with open(beside, "rb") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise CheckpointError(f"expected at most {MAX_CONFIG} bytes, got more")
        return parse_object(text)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(f"{beside}: {error}") from None


def _recorded_config(path: Path, text: str | None) -> Config | None:
    try:
        return Config.from_json(text) if text is not None else None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Array], str | None]:
    """Float32 arrays, and our metadata if the file has it."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        limit = min(size - 8, MAX_HEADER)
        if length > limit:
            raise CheckpointError(f"{path}: expected a header of at most {limit} bytes, got a claim of {length}")
        header = file.read(length)
    tensors: dict[str, Array] = {}
    try:
        entries = json.loads(header)
        with safe_open(path, framework="numpy") as content:
            text = (content.metadata() or {}).get(METADATA_KEY)
            for name in content.keys():  # noqa: SIM118 - not a mapping
                dtype = content.get_slice(name).get_dtype()
                if dtype not in ("F16", "BF16", "F32", "F64"):
                    raise CheckpointError(f"{path}: {name!r:.80}: expected float values, got {dtype}")
                if dtype == "BF16":
                    tensors[name] = _bfloat16(path, length, entries[name])
                    continue
                with np.errstate(over="ignore"):  # becomes infinite, which Checkpoint refuses
                    tensors[name] = content.get_tensor(name).astype(np.float32, copy=False)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: expected safetensors, got: {error!s:.160}") from None
    return tensors, text


def _bfloat16(path: Path, header: int, entry: dict[str, Any]) -> Array:
    """NumPy has no bfloat16: its 16 bits are the upper half of a float32."""
    begin, end = entry["data_offsets"]
    bits = np.fromfile(path, "<u2", count=(end - begin) // 2, offset=8 + header + begin)
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
