"""Loading and saving of checkpoints, and the names and shapes of a network's weights.

Every statement in a file is checked before it is used: the header against the file's size, names and shapes against
each other, hyper-parameters against the shapes.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from engine.checkpoint.canonical import to_canonical
from engine.checkpoint.families import identify_family, merge_settings, missing_settings
from engine.checkpoint.folders import is_cached
from engine.checkpoint.hyperparams import read_hyperparams
from engine.checkpoint.layouts import LMNT, Layout
from engine.checkpoint.lazy_tensor import LazyTensor, Shape
from engine.checkpoint.pytorch import read_pytorch
from engine.checkpoint.safetensors_file import METADATA_KEY, read_safetensors
from engine.checkpoint.selection import WEIGHTS, Selection, select_weights
from engine.checkpoint.source import Source, open_source
from engine.checks.arrays import FloatArray
from engine.checks.file_kinds import START, mistaken_kind, promised_format
from engine.checks.output_files import replacing
from engine.config import MEL_KINDS, Config, parse_object
from engine.errors import CheckpointError, InputError

_LOG = logging.getLogger(__name__)
MAX_CONFIG = 1 << 20  # bytes
LABEL_WIDTH = 128  # of the label embedding


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One network: hyper-parameters, and weights under LMNT's names (`expected_shapes`).

    Attributes:
        config: the hyper-parameters.
        tensors: exactly the arrays of `expected_shapes(config)`: float32, C-contiguous, finite. Anything else
            raises CheckpointError, for files as for arrays from other code.
        weights: which weights of the file these are, one of `engine.checkpoint.selection.WEIGHTS`.
        other_weights: the others that the file has.
        unused: the names of tensors among the weights that the network does not use.
    """

    config: Config
    tensors: dict[str, FloatArray]
    weights: str = "raw"
    other_weights: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shapes({name: tensor.shape for name, tensor in self.tensors.items()}, self.config)
        for name, tensor in self.tensors.items():
            if tensor.dtype != np.float32 or not tensor.flags.c_contiguous:
                raise CheckpointError(f"{name}: expected contiguous float32 values, got {tensor.dtype}")
            if not np.isfinite(tensor).all():
                raise CheckpointError(f"{name}: expected finite float32 values, got NaN or infinity")

    def weights_line(self) -> tuple[str, ...]:
        """Return one line that names the weights, for a file that has others too or an average alone; else none."""
        if not self.other_weights:
            return ("weights ema: the file has no others",) if self.weights == "ema" else ()
        others = ", ".join(f"weights={name!r}" for name in self.other_weights)
        return (f"weights {self.weights}: the file also has others, {others}",)


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Return the shape of every tensor of a network by its name in LMNT's layout.

    The layout is that of github.com/lmnt-com/diffwave, model.py. If each layer has its own upsampler, the upsampler's
    names begin with the layer's.

    Args:
        config: the network.
    """
    return _shapes(
        config.residual_channels,
        config.residual_layers,
        config.n_mels,
        config.upsample_strides,
        config.shared_upsampler,
        config.labels,
    )


def load_checkpoint(
    path: str | os.PathLike[str] | bytes | Source,
    mel_kind: str | None = None,
    config: str | os.PathLike[str] | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Load a checkpoint; its content determines the format (safetensors or PyTorch zip archive) and the family.

    A safetensors file written by `save_checkpoint` is complete. For every other file, a config.json beside it supplies
    the hyper-parameters that the file lacks, under the family's names or `Config`'s. It may not contradict the file.
    SpeechBrain's hyperparams.yaml beside it is read where these do not suffice (extra `hub`).

    Args:
        path: the file, or its content.
        mel_kind: the kind of mel, one of `MEL_KINDS`; overrides the family's default.
        config: the path of the config.json, or of a hyperparams.yaml; None for those beside the file.
        weights: "raw", or "ema" for the average over the training that some trainers store beside them; None for the
            raw ones, or the average of a file that has nothing else.

    Raises:
        CheckpointError: the file is missing, damaged, hostile, incomplete, or not a DiffWave network of a known family.
        InputError: `mel_kind` is unknown, contradicts the kind recorded in the file, or is given for an unconditional
            network; the file lacks the `weights`; or `config` is given for a complete file.
    """
    if mel_kind is not None and mel_kind not in MEL_KINDS:
        raise InputError(f"mel_kind: expected one of {', '.join(MEL_KINDS)}, got {mel_kind!r:.80}")
    if weights is not None and weights not in WEIGHTS:
        raise InputError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r:.80}")
    source = path if isinstance(path, Source) else open_source(path)
    recorded: Config | None = None
    params: dict[Any, Any] = {}
    average: dict[str, LazyTensor] = {}
    container = ""
    if source.start[:4] == b"PK\x03\x04" or (source.start[:1] == b"\x80" and source.start[8:] != b"{"):
        archive = read_pytorch(source)
        tensors, average, params, container = archive.tensors, archive.average, archive.params, archive.container
    elif source.start[8:] == b"{":
        tensors, text = read_safetensors(source)
        recorded = _parse_recorded_config(source, text)
    else:
        start = source.read(0, START)
        others = {b"{": "JSON; pass the file of the weights", b"\x93": "a NumPy array; is it the mel?"}
        got = mistaken_kind(start) or others.get(start[:1]) or f"{source.size} bytes, the first {source.start!r}"
        raise CheckpointError(f"{source.name}: expected safetensors or a PyTorch zip archive, got {got}")
    if recorded is not None and config is not None:
        raise InputError(f"config: expected None, because {source.name} is complete, got {str(config)!r:.80}")
    sources = {} if recorded else {"the checkpoint": params, "config.json": _read_config_json(source, config)}
    try:
        if recorded is not None:
            selected = Selection(LMNT, "", tensors)
            checkpoint = _from_recorded_config(tensors, recorded)
        else:
            selected = select_weights(tensors, average, weights or WEIGHTS[0])
            checkpoint = _from_family(selected, container, sources, source.folder, config)
    except CheckpointError as error:
        raise CheckpointError(f"{source.name}: {error}") from None
    if weights not in (None, selected.weights):
        raise InputError(f"weights: expected {selected.weights!r}, the only ones in {source.name}, got {weights!r}")
    family = checkpoint.config.family
    _LOG.debug("%s: a checkpoint of the family %s, %d bytes", source.name, family, source.size)
    if mel_kind is None:
        return checkpoint
    recorded_kind = recorded.mel_kind if recorded else None
    if not checkpoint.config.n_mels:
        raise InputError(f"mel_kind: expected None for an unconditional network, got {mel_kind!r}")
    if recorded_kind not in (None, mel_kind):
        raise InputError(f"mel_kind: expected {recorded_kind!r} as recorded in {source.name}, got {mel_kind!r}")
    return replace(checkpoint, config=replace(checkpoint.config, mel_kind=mel_kind))


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, dtype: str = "float32") -> None:
    """Save a checkpoint as a safetensors file that `load_checkpoint` reads without a config.json.

    The file appears under its name only when it is complete. An existing file is replaced.

    Args:
        path: the file to write. A name that ends as those of another format (.pt, .ckpt, .wav) is refused.
        checkpoint: the network.
        dtype: "float32", or "float16" for half the size; loading converts both to float32.

    Raises:
        InputError: the name promises another format, the dtype is unknown, a weight exceeds float16, or the config
            exceeds MAX_CONFIG bytes.
        OSError: the file cannot be written.
    """
    if suffix := promised_format(path, (".safetensors",)):
        raise InputError(
            f"path: {os.fspath(path)!r:.300}: expected a name that ends in .safetensors, the format that is written, "
            f"got {suffix}"
        )
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype: expected 'float32' or 'float16', got {dtype!r:.80}")
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        with np.errstate(over="ignore"):
            tensors[name] = tensor.astype(dtype, copy=False)
        if not np.isfinite(tensors[name]).all():
            raise InputError(
                f"dtype: expected 'float32' for {name}, which reaches {np.abs(tensor).max():.6g}, got 'float16'"
            )
    text = checkpoint.config.to_json()
    if len(text) > MAX_CONFIG:
        raise InputError(f"checkpoint: expected a config of at most {MAX_CONFIG} bytes as JSON, got {len(text)}")
    content = save(tensors, metadata={METADATA_KEY: text})
    with replacing(path) as file:
        file.write(content)


def _shapes(C: int, N: int, M: int, strides: Shape, shared: bool, labels: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}

    def add(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        # The number of output channels, and so of biases, is the number of rows of the weight.
        shapes[f"{name}.bias"] = (weight[0],)

    def add_upsampler(prefix: str) -> None:
        for k, stride in enumerate(strides, start=1):
            add(f"{prefix}spectrogram_upsampler.conv{k}", 1, 1, 3, 2 * stride)

    add("input_projection", C, 1, 1)
    add("diffusion_embedding.projection1", 512, 128)
    add("diffusion_embedding.projection2", 512, 512)
    if shared:
        add_upsampler("")
    if labels:
        shapes["label_embedding.weight"] = (labels, LABEL_WIDTH)
    for i in range(N):
        layer = f"residual_layers.{i}."
        add(f"{layer}dilated_conv", 2 * C, C, 3)
        add(f"{layer}diffusion_projection", C, 512)
        if not shared:
            add_upsampler(layer)
        if M:
            add(f"{layer}conditioner_projection", 2 * C, M, 1)
        if labels:
            add(f"{layer}label_projection", 2 * C, LABEL_WIDTH, 1)
        add(f"{layer}output_projection", 2 * C, C, 1)
    add("skip_projection", C, C, 1)
    add("output_projection", 1, C, 1)
    return shapes


def _check_shapes(shapes: Mapping[str, Shape], config: Config, layout: Layout = LMNT) -> None:
    expected = expected_shapes(config)
    _check_names(shapes, expected, layout)
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise CheckpointError(f"{name}: expected shape {shape}, got {shapes[name]!r:.80}")


def _check_names(names: Collection[str], expected: Mapping[str, Shape], layout: Layout) -> None:
    unexpected = [name for name in names if name not in expected]
    missing = [name for name in expected if name not in names]
    if missing or unexpected:
        raise CheckpointError(
            f"expected the {len(expected)} tensors of a DiffWave network, in {layout.name}'s names "
            f"missing: {_list_names(_originals(missing, layout, names))}; "
            f"unexpected: {_list_names(_originals(unexpected, layout, ()))}"
        )


def _originals(names: Iterable[str], layout: Layout, present: Collection[str]) -> list[str]:
    """Return names of a layout for LMNT's; of a projection that it splits, the halves that are not present."""
    originals = []
    for name in names:
        halves = [name]
        if "residual_layers.#.res_conv" in layout.modules and re.match(r"residual_layers\.\d+\.output_pro", name):
            halves = [name.replace("output_projection", half) for half in ("res_conv", "skip_conv")]
        originals += [layout.original(half) for half in halves if half not in present]
    return originals


def _list_names(names: list[str]) -> str:
    listed = ", ".join(f"{name!r:.80}" for name in names[:2]) or "none"
    return f"{listed} and {len(names) - 2} more" if len(names) > 2 else listed


def _from_family(
    selected: Selection,
    container: str,
    sources: dict[str, dict[Any, Any]],
    folder: Path | None,
    config_path: str | os.PathLike[str] | None,
) -> Checkpoint:
    """Build a network from a family's tensors and settings, with the family's own file of settings where it is needed.

    Raises:
        CheckpointError: tensors and settings disagree, or something is missing.
    """
    layout = selected.layout
    family, certain = identify_family(layout, "" if selected.prefix else container, sources)
    settings = merge_settings(family, sources)
    if missing_settings(family, settings) and folder is not None and (folder / family.settings_file).is_file():
        sources = {**sources, family.settings_file: read_hyperparams(folder / family.settings_file)}
        settings = merge_settings(family, sources)
    tensors = to_canonical(selected.tensors, family)
    sizes = _infer_sizes(tensors, layout)
    unconditional = sizes["n_mels"] == 0
    if unconditional:  # LMNT's params contain these even if the network does not use them
        sizes["shared_upsampler"] = settings["shared_upsampler"] = True
        settings = {k: v for k, v in settings.items() if k not in ("n_mels", "hop_samples", "upsample_strides")}
    inferred = {**sizes, "hop_samples": math.prod(sizes["upsample_strides"]), "unconditional": unconditional}
    _check_agreement(settings, inferred)
    default_rate = family.default_sample_rates[unconditional]
    if default_rate is not None:
        settings.setdefault("sample_rate", default_rate)
    if missing := missing_settings(family, settings):
        place = "config.json beside the file" if config_path is None else Path(config_path).name
        them = "them" if len(missing) > 1 else "it"
        remedy = f"put {them} into {place}"
        if config_path is None and folder is not None and is_cached(folder):
            remedy = (
                f"the hub's cache has no settings with {them} beside the file; load the repository once while online, "
                f"or {remedy}"
            )
        raise CheckpointError(f"{', '.join(missing)} missing: {remedy}")
    default_kind = family.default_mel_kind if certain and not unconditional else None
    if not unconditional:  # the length of a vocoder's training clips has no meaning for its audio
        settings.pop("clip_samples", None)
    settings = {"mel_kind": default_kind, "fast_schedule": None, **settings, **sizes}
    config = Config(**{k: v for k, v in settings.items() if k in Config.__dataclass_fields__})
    return replace(
        _read_network(config, tensors, layout),
        weights=selected.weights,
        other_weights=selected.other_weights,
        unused=selected.unused,
    )


def _from_recorded_config(tensors: dict[str, LazyTensor], config: Config) -> Checkpoint:
    """Build a network from a complete file."""
    sizes = _infer_sizes(tensors, LMNT)
    if not sizes["n_mels"]:
        del sizes["shared_upsampler"]
    _check_agreement({name: getattr(config, name) for name in sizes}, sizes)
    return _read_network(config, tensors, LMNT)


def _check_agreement(settings: Mapping[str, Any], inferred: Mapping[str, Any]) -> None:
    for name, value in inferred.items():
        if name in settings and settings[name] != value:
            raise CheckpointError(
                f"{name}: expected {value} as in the tensors' shapes, got {settings[name]!r:.80} in the configuration"
            )


def _read_network(config: Config, tensors: Mapping[str, LazyTensor], layout: Layout) -> Checkpoint:
    """Read all values, after checking the shapes."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if "label_embedding.weight" in shapes and config.labels != shapes["label_embedding.weight"][0]:
        count = shapes["label_embedding.weight"][0] - (config.guidance > 0.0)
        raise CheckpointError(
            f"classes: expected {count} names as in the rows of label_embedding.weight, got {len(config.classes)}"
        )
    _check_shapes(shapes, config, layout)
    return Checkpoint(config, {name: tensors[name].read() for name in expected_shapes(config)})


def _infer_sizes(tensors: Mapping[str, LazyTensor], layout: Layout) -> dict[str, Any]:
    """Infer C, N, M and the upsamplers with their strides (half the width of their kernels) from names and shapes."""
    layers = {m[1] for name in tensors if (m := re.match(r"residual_layers\.(\d+)\.", name))}
    pattern = r"(residual_layers\.\d+\.)?spectrogram_upsampler\.conv(\d+)\."
    upsamplers = [m for name in tensors if (m := re.match(pattern, name))]
    shared = not any(m[1] for m in upsamplers)
    stages = {m[2] for m in upsamplers}
    conditional = bool(stages) or any(".conditioner_projection." in name for name in tensors)
    labelled = any(re.match(r"label_embedding\.|residual_layers\.\d+\.label_projection\.", name) for name in tensors)
    # The names depend on these counts only; 16, 1 and 2 are placeholders for sizes that are not known yet.
    strides = (2,) * max(len(stages), int(conditional))
    expected = _shapes(16, len(layers), int(conditional), strides, shared, int(labelled))
    _check_names(tensors, expected, layout)
    for name, shape in expected.items():
        if tensors[name].problem:
            raise CheckpointError(tensors[name].problem)
        if len(tensors[name].shape) != len(shape):
            raise CheckpointError(f"{name}: expected {len(shape)} dimensions, got {tensors[name].shape!r:.80}")
    prefix = "" if shared else "residual_layers.0."
    return {
        "residual_channels": tensors["input_projection.weight"].shape[0],
        "residual_layers": len(layers),
        "n_mels": tensors["residual_layers.0.conditioner_projection.weight"].shape[1] if conditional else 0,
        "upsample_strides": tuple(
            tensors[f"{prefix}spectrogram_upsampler.conv{k + 1}.weight"].shape[3] // 2 for k in range(len(stages))
        ),
        "shared_upsampler": shared,
    }


def _read_config_json(source: Source, config: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Read the settings of a configuration file, JSON or YAML; {} if there is none beside the checkpoint."""
    if config is None and source.folder is None:
        return {}
    config_path = Path(config) if config is not None else Path(source.folder or "", "config.json")
    if not config_path.is_file():
        if config is None:
            return {}
        raise CheckpointError(f"{config_path}: expected a configuration, got no such file")
    if config_path.suffix in (".yaml", ".yml"):
        return read_hyperparams(config_path)
    try:
        with open(config_path, "rb") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise CheckpointError(f"expected at most {MAX_CONFIG} bytes, got more")
        return parse_object(text)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(f"{config_path}: {error}") from None


def _parse_recorded_config(source: Source, text: str | None) -> Config | None:
    try:
        return Config.from_json(text) if text is not None else None
    except CheckpointError as error:
        raise CheckpointError(f"{source.name}: {error}") from None
