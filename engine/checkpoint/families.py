"""The public implementations of DiffWave: how each names its tensors and settings, and what else it does its own way.

One row per family; loading (`engine.checkpoint.load`) reads them and knows no family by name. After loading, a network is
LMNT's tensors and a `Config`: nothing else asks where it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.config import Config, linear_schedule, plain_values
from engine.errors import CheckpointError

# Other names for a Config field: LMNT's params.py and whoever kept its names.
_LMNT_NAMES = {
    "dilation_cycle_length": "dilation_cycle",
    "noise_schedule": "train_schedule",
    "inference_noise_schedule": "fast_schedule",
    "audio_len": "clip_samples",
}
# Settings that are not Config's: what they say is compared with the tensors, or becomes a schedule.
_OTHERS = {"hop_samples", "unconditional", "use_prior", "condition_prior", "condition_prior_global"}
# The constants of PriorGrad's noise that `engine.diffusion.prior` computes with.
_PRIOR = {"std_min": 0.1, "max_energy_override": 4.0}
_ENDPOINTS = ("beta_first", "beta_last", "train_steps")
# What the paper leaves open, the way LMNT does it.
_LMNT_FACTS = {
    "shared_upsampler": True,
    "step_embedding": "table",
    "padding": "zeros",
    "step_bias_in_residual": False,
    "clamp": True,
    "prior": False,
}
_BLOCK = r"residual_layer\.residual_blocks\.(\d+)\."


@dataclass(frozen=True)
class Family:
    r"""What distinguishes one implementation.

    Attributes:
        name: as in `Config.family`.
        key: a pattern; names of tensors that only files of this layout have begin with it.
        renames: (pattern, replacement) from the file's names to LMNT's; the first that fits is used.
        ignored: a pattern of names that are no part of the network.
        optional: a pattern of LMNT's names of biases that a file may lack; they are zero then.
        weight_norm: whether convolutions may be stored as a direction and a length, weight_v and weight_g.
        tanh_first: of the 2C rows, the first C go through tanh; LMNT's go through the sigmoid.
        split_output: residual and skip come from a convolution each, res_conv and skip_conv.
        tells: settings that only this family has among those of its layout.
        container: the key of the checkpoint's dict that tells the same.
        sections: where in nested settings its own are.
        aliases: its names for what `Config` has, for ``hop_samples``, and for the ends and length of the training
            schedule: ``beta_first``, ``beta_last``, ``train_steps``, or ``beta_range`` for the three of them.
        facts: what its code does otherwise than LMNT's, as fields of `Config`; settings may not contradict.
        usual_betas: (first, last) of the training schedule by its length, for when nothing says them.
        sample_rate: of its published networks, for when nothing says it: (conditional, unconditional).
        mel_kind: of the mels its networks are trained with.
    """

    name: str
    key: str
    renames: tuple[tuple[str, str], ...] = ()
    ignored: str = r"(?!)"
    optional: str = r"(?!)"
    weight_norm: bool = False
    tanh_first: bool = False
    split_output: bool = False
    tells: frozenset[str] = frozenset()
    container: str = ""
    sections: tuple[tuple[str, ...], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    usual_betas: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    sample_rate: tuple[int | None, int | None] = (None, None)
    mel_kind: str = "lmnt"


FAMILIES = (
    Family(  # github.com/philsyn/DiffWave-unconditional, WaveNet.py; github.com/tencent-ailab/bddm
        name="philsyn",
        key=r"(init_conv|final_conv|residual_layer)\.",
        renames=(
            (r"init_conv\.0\.conv\.", "input_projection."),
            (r"residual_layer\.fc_t([12])\.", r"diffusion_embedding.projection\1."),
            (_BLOCK + r"fc_t\.", r"residual_layers.\1.diffusion_projection."),
            (_BLOCK + r"dilated_conv_layer\.conv\.", r"residual_layers.\1.dilated_conv."),
            (_BLOCK + r"upsample_conv2d\.0\.", r"residual_layers.\1.spectrogram_upsampler.conv1."),
            (_BLOCK + r"upsample_conv2d\.1\.", r"residual_layers.\1.spectrogram_upsampler.conv2."),
            (_BLOCK + r"mel_conv\.conv\.", r"residual_layers.\1.conditioner_projection."),
            (_BLOCK + r"(res|skip)_conv\.", r"residual_layers.\1.\2_conv."),
            (r"final_conv\.0\.conv\.", "skip_projection."),
            (r"final_conv\.2\.conv\.", "output_projection."),
        ),
        ignored=r"schedule_net\.",  # of BDDM: what searched for schedules
        optional=r"residual_layers\.\d+\.conditioner_projection\.bias",
        weight_norm=True,
        tanh_first=True,
        split_output=True,
        sections=(("wavenet_config",), ("diffusion_config",), ("trainset_config",)),
        aliases={
            "dilation_cycle": "dilation_cycle",
            **_LMNT_NAMES,
            "res_channels": "residual_channels",
            "num_res_layers": "residual_layers",
            "sampling_rate": "sample_rate",
            "hop_length": "hop_samples",
            "hop_len": "hop_samples",
            "segment_length": "clip_samples",
            "beta_0": "beta_first",
            "beta_T": "beta_last",
            "T": "train_steps",
        },
        facts={
            "shared_upsampler": False,
            "step_embedding": "sinusoid",
            "step_bias_in_residual": True,
            "clamp": False,
        },
        sample_rate=(22050, 16000),  # LJ Speech and SC09
        mel_kind="tacotron",
    ),
    Family(  # github.com/speechbrain/speechbrain, lobes/models/DiffWave.py
        name="speechbrain",
        key=r"(input_projection|skip_projection|output_projection|residual_layers\.\d+\.\w+)\.(conv|w)\.",
        renames=((r"(.*)\.(?:conv|w)(\.(?:weight|bias))$", r"\1\2"),),
        aliases={
            **_LMNT_NAMES,
            "fast_sampling_noise_schedule": "fast_schedule",
            "spec_hop_length": "hop_samples",
            "spec_n_mels": "n_mels",
            "input_channels": "n_mels",
            "beta_start": "beta_first",
            "beta_end": "beta_last",
            "total_steps": "train_steps",
            "train_timesteps": "train_steps",
        },
        facts={"padding": "reflect"},
        usual_betas={50: (1e-4, 0.05)},  # its recipe's
        sample_rate=(22050, 22050),
        mel_kind="speechbrain",
    ),
    Family(  # github.com/lmnt-com/diffwave, model.py
        name="lmnt",
        key="",
        aliases=_LMNT_NAMES,
    ),
    Family(  # github.com/microsoft/NeuralSpeech, PriorGrad-vocoder
        name="priorgrad",
        key="",
        tells=frozenset({"use_prior", "std_min"}),
        aliases=_LMNT_NAMES,
        facts={"prior": True},
        mel_kind="hifigan",
    ),
    Family(  # github.com/open-mmlab/Amphion, models/vocoders/diffusion/diffwave
        name="amphion",
        key="",
        tells=frozenset({"noise_schedule_factors"}),
        container="state_dict",
        sections=(("preprocess",), ("model", "diffwave")),
        aliases={
            **_LMNT_NAMES,
            "noise_schedule_factors": "beta_range",
            "upsample_factors": "upsample_strides",
            "n_mel": "n_mels",
            "hop_size": "hop_samples",
        },
        sample_rate=(24000, None),
        mel_kind="hifigan",
    ),
)


def identify(names: Iterable[str], container: str, sources: Mapping[str, Mapping[Any, Any]]) -> tuple[Family, bool]:
    """Whose checkpoint it is, from the names of its tensors and, among families of one layout, from its settings.

    Args:
        names: of the tensors.
        container: `engine.checkpoint.pytorch.Archive.container`.
        sources: settings as they came, under the name of where from.

    Returns:
        The family, and whether anything told it: False when it is only the first of its layout.

    Raises:
        CheckpointError: the settings name another family than the tensors or other settings do.
    """
    names = list(names)
    key = next(f.key for f in FAMILIES if any(re.match(f.key, name) for name in names) or not f.key)
    rows = [row for row in FAMILIES if row.key == key]
    settings = {row.name: {k for v in sources.values() for k in _flattened(v, row)} for row in rows}
    told = [row for row in rows if row.tells & settings[row.name]]
    for source, values in sources.items():
        name = values.get("family")
        if name is None:
            continue
        named = [row for row in told or rows if row.name == name]
        if not named:
            fitting = " or ".join(row.name for row in told or rows)
            raise CheckpointError(f"family: {source} says {_shown(name)}, the rest of the checkpoint says {fitting}")
        return named[0], True
    boxed = [row for row in rows if container and row.container == container]
    return (told + boxed + rows)[0], bool(told or boxed or len(rows) == 1 or sources.get("the checkpoint"))


def settings(family: Family, sources: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Settings under Config's names; CheckpointError where two sources disagree, or one with what the family does."""
    known = set(Config.__dataclass_fields__) | _OTHERS | set(_PRIOR) | {"beta_range", *_ENDPOINTS}
    merged: dict[str, Any] = {"family": family.name, **_LMNT_FACTS, **family.facts}
    origin = dict.fromkeys(merged, f"family {family.name}")
    for source, values in sources.items():
        for given, value in _flattened(values, family).items():
            name = family.aliases.get(given, given)
            if name not in known or value is None:
                continue
            value = tuple(value) if isinstance(value, list) else value
            if name in merged and merged[name] != value:
                raise CheckpointError(f"{given}: {origin[name]} says {merged[name]!r:.80}, {source} says {value!r:.80}")
            merged[name], origin[name] = value, source
    for name in ("condition_prior", "condition_prior_global"):
        if merged.pop(name, False):
            raise CheckpointError(f"{name}: expected a network without the prior among its inputs, got one with it")
    for name, usual in _PRIOR.items():
        if merged.pop(name, usual) != usual:
            raise CheckpointError(f"{name}: expected PriorGrad's usual {usual}, got another, which is not built")
    if merged.pop("use_prior", True) is False and family.facts.get("prior"):
        merged["prior"] = False  # PriorGrad's code without its point
    return _with_schedule(merged, family)


def missing(family: Family, found: Mapping[str, Any]) -> list[str]:
    """What a network needs and no shape says, under the name that a config.json usually has for it."""
    usual = _usual_names(family)
    absent = [usual.get(n, n) for n in ("dilation_cycle", "sample_rate") if n not in found]
    if "train_schedule" not in found:
        ends = [usual[n] for n in _ENDPOINTS if n in usual and n not in found]
        absent += ends or [usual["train_schedule"]]
    return absent


def _with_schedule(found: dict[str, Any], family: Family) -> dict[str, Any]:
    """The training schedule from its ends and length, where it is not given itself."""
    ends = found.pop("beta_range", None)
    if ends is not None:
        if not isinstance(ends, tuple) or len(ends) != 3:
            raise CheckpointError(f"noise_schedule_factors: expected first beta, last beta and count, got {ends!r:.80}")
        found = {**found, **dict(zip(_ENDPOINTS, ends, strict=True))}
    steps = found.get("train_steps")
    usual = _usual_names(family)
    if steps is not None and (type(steps) is not int or not 1 <= steps <= 10000):
        name = usual.get("train_steps", "steps")
        raise CheckpointError(f"{name}: expected an integer from 1 to 10000, got {steps!r:.80}")
    given = found.get("train_schedule")
    if given is not None:
        if steps is not None and isinstance(given, tuple) and len(given) != steps:
            raise CheckpointError(f"noise_schedule: expected {steps} betas as the configuration says, got {len(given)}")
        return found
    if steps is not None and steps in family.usual_betas:
        found = {**dict(zip(_ENDPOINTS, family.usual_betas[steps], strict=False)), **found}
    if steps is None or not {"beta_first", "beta_last"} <= set(found):
        return found
    for name in ("beta_first", "beta_last"):
        value = found[name]
        if type(value) is not float or not 0.0 < value < 1.0:
            raise CheckpointError(f"{usual.get(name, name)}: expected a beta between 0 and 1, got {value!r:.80}")
    return {**found, "train_schedule": linear_schedule(found["beta_first"], found["beta_last"], steps)}


def _usual_names(family: Family) -> dict[str, str]:
    """From our name of a setting to the first of the family's."""
    return {name: given for given, name in reversed(list(family.aliases.items()))}


def _flattened(values: Mapping[Any, Any], family: Family) -> dict[str, Any]:
    """Plain settings, those in the family's sections included."""
    flat = plain_values(dict(values))
    for path in family.sections:
        section: Any = values
        for name in path:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict):
            flat.update(plain_values(section))
    return flat


def _shown(value: object) -> str:
    return f"{value!r:.80}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
