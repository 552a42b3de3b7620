"""The public implementations of DiffWave: names of tensors and settings, and deviations from LMNT's network.

`FAMILIES` has one row per family. `engine.checkpoint.load` reads the rows and contains no name of a family. A loaded
network consists of LMNT's tensors and a `Config`; no other code depends on the family.

To add a family:

1. Add its name to `engine.config.FAMILIES`, and a `Family` to the table below. Of the rows of one layout, the first is
   taken where nothing decides.
2. Give its names of LMNT's modules (`engine.checkpoint.load.expected_shapes`) as a layout in
   `engine.checkpoint.layouts`. A family with LMNT's names needs `distinctive` settings or a `container`. `engine info
   FILE` names the tensors that are missing or unexpected.
3. Describe the storage of the weights with `weight_norm`, `tanh_first` and `split_output`. A new storage rule goes
   into `engine.checkpoint.canonical`.
4. Map its settings to the fields of `Config` with `sections` and `aliases`. State in `fixed` how its network computes.
   A new way to compute is a new field of `Config`, first implemented in `engine/kernels/reference.py`.
5. Give it the kind of mel. A new kind goes into `engine.config.MEL_KINDS` and `engine.audio.spectrogram`.
6. Add its layout to `tests/support/layouts.py`, written from the family's own code: tests/engine/checkpoint and
   tests/test_fixtures.py then load it, convert it and compare its audio with the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.checkpoint.layouts import LMNT, PHILSYN, SPEECHBRAIN, Layout
from engine.config import ENERGY_MAX, MAX_STEPS, Config, as_tuples, linear_schedule, plain_values
from engine.diffusion.prior import STD_MIN
from engine.errors import CheckpointError

# LMNT's names of the fields of `Config` (params.py), kept by the implementations derived from it.
_LMNT_NAMES = {
    "dilation_cycle_length": "dilation_cycle",
    "noise_schedule": "train_schedule",
    "inference_noise_schedule": "fast_schedule",
    "audio_len": "clip_samples",
}
# Settings that are no fields of `Config`: they are compared with the tensors, or become a schedule.
_OTHER_SETTINGS = {"hop_samples", "unconditional", "use_prior", "condition_prior", "condition_prior_global"}
# PriorGrad's constants, and the only values that `engine.diffusion.prior` implements.
_PRIOR_CONSTANTS = {"std_min": STD_MIN, "max_energy_override": ENERGY_MAX}
_ENDPOINTS = ("beta_first", "beta_last", "train_steps")
# LMNT's choices where the paper leaves the computation open.
_LMNT_FIXED = {
    "shared_upsampler": True,
    "step_embedding": "table",
    "padding": "zeros",
    "step_bias_in_residual": False,
    "clamp": True,
    "prior": False,
}


@dataclass(frozen=True)
class Family:
    """The distinctive properties of one implementation.

    Attributes:
        name: the value of `Config.family`.
        layout: its names of LMNT's modules.
        optional_biases: a pattern of biases, in LMNT's names, that a file may lack; a missing bias is zero.
        weight_norm: whether convolutions may be stored as a direction and a length, weight_v and weight_g.
        tanh_first: whether the first C of the 2C rows go through tanh; LMNT's go through the sigmoid.
        split_output: whether residual and skip come from separate convolutions, res_conv and skip_conv.
        distinctive: settings that only this family has among the families of its layout.
        typical: settings that imply the family where no family's distinctive setting is present.
        container: the key of the checkpoint's dict that identifies the family among those of its layout.
        sections: paths of the sections with its settings in a nested configuration.
        aliases: its names for the fields of `Config`, for ``hop_samples``, and for the ends and the length of the
            training schedule: ``beta_first``, ``beta_last``, ``train_steps``, or ``beta_range`` for the three together.
        fixed: fields of `Config` in which its code differs from LMNT's; settings may not contradict them.
        default_betas: (first, last) of the training schedule by its length, if no setting gives them.
        default_sample_rates: of its published networks, if no setting gives it: (conditional, unconditional).
        default_mel_kind: the kind of mel that its networks are trained with.
        settings_file: the name of its own file of settings beside the weights, read where config.json does not suffice.
    """

    name: str
    layout: Layout
    optional_biases: str = r"(?!)"
    weight_norm: bool = False
    tanh_first: bool = False
    split_output: bool = False
    distinctive: frozenset[str] = frozenset()
    typical: frozenset[str] = frozenset()
    container: str = ""
    sections: tuple[tuple[str, ...], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    default_betas: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    default_sample_rates: tuple[int | None, int | None] = (None, None)
    default_mel_kind: str = "lmnt"
    settings_file: str = ""


FAMILIES = (
    Family(  # github.com/philsyn/DiffWave-unconditional, WaveNet.py; github.com/tencent-ailab/bddm
        name="philsyn",
        layout=PHILSYN,
        optional_biases=r"residual_layers\.\d+\.conditioner_projection\.bias",
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
        fixed={
            "shared_upsampler": False,
            "step_embedding": "sinusoid",
            "step_bias_in_residual": True,
            "clamp": False,
        },
        default_sample_rates=(22050, 16000),  # LJ Speech and SC09
        default_mel_kind="tacotron",
    ),
    Family(  # github.com/speechbrain/speechbrain, lobes/models/DiffWave.py
        name="speechbrain",
        layout=SPEECHBRAIN,
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
            "timesteps": "train_steps",
        },
        fixed={"padding": "reflect"},
        default_betas={50: (1e-4, 0.05)},  # of its recipe
        default_sample_rates=(22050, 22050),
        default_mel_kind="speechbrain",
        settings_file="hyperparams.yaml",
    ),
    Family(  # github.com/lmnt-com/diffwave, model.py
        name="lmnt",
        layout=LMNT,
        # Of its params.py. A hand-written config.json has none of them, and may belong to a network with other mels.
        typical=frozenset(
            {"audio_len", "crop_mel_frames", "inference_noise_schedule", "max_grad_norm", "unconditional"}
        ),
        aliases=_LMNT_NAMES,
    ),
    Family(  # github.com/microsoft/NeuralSpeech, PriorGrad-vocoder
        name="priorgrad",
        layout=LMNT,
        distinctive=frozenset({"use_prior", "std_min"}),
        aliases=_LMNT_NAMES,
        fixed={"prior": True},
        default_mel_kind="hifigan",
    ),
    Family(  # github.com/open-mmlab/Amphion, models/vocoders/diffusion/diffwave
        name="amphion",
        layout=LMNT,
        distinctive=frozenset({"noise_schedule_factors"}),
        container="state_dict",
        sections=(("preprocess",), ("model", "diffwave")),
        aliases={
            **_LMNT_NAMES,
            "noise_schedule_factors": "beta_range",
            "upsample_factors": "upsample_strides",
            "n_mel": "n_mels",
            "hop_size": "hop_samples",
        },
        default_sample_rates=(24000, None),
        default_mel_kind="hifigan",
    ),
)

# The names under which a configuration may hold settings of a network, whatever its family.
SETTING_NAMES = frozenset(
    {*Config.__dataclass_fields__, *_OTHER_SETTINGS, *_PRIOR_CONSTANTS}.union(
        *({*family.aliases, *family.distinctive, *family.typical} for family in FAMILIES)
    )
)


def identify_family(layout: Layout, container: str, sources: Mapping[str, Mapping[Any, Any]]) -> tuple[Family, bool]:
    """Identify the family of a checkpoint among those of one layout, by the settings and the container.

    Args:
        layout: of the tensors' names.
        container: `engine.checkpoint.contents.Weights.container`.
        sources: settings as they were read, by the name of their source.

    Returns:
        The family, and whether it is certain: False if it is only the first family of its layout.

    Raises:
        CheckpointError: the settings name another family than the tensors or other settings do.
    """
    rows = [row for row in FAMILIES if row.layout is layout]
    keys = {row.name: {key for values in sources.values() for key in _flatten(values, row)} for row in rows}
    by_settings = [row for row in rows if row.distinctive & keys[row.name]]
    for source, values in sources.items():
        stated = values.get("family")
        if stated is None:
            continue
        candidates = by_settings or rows
        family = next((row for row in candidates if row.name == stated), None)
        if family is None:
            expected = " or ".join(row.name for row in candidates)
            raise CheckpointError(
                f"family: expected {expected} as in the rest of the checkpoint, got {_describe(stated)} in {source}"
            )
        return family, True
    by_typical = [row for row in rows if row.typical & keys[row.name]]
    by_container = [row for row in rows if container and row.container == container]
    evidence = by_settings + by_typical + by_container
    return (evidence + rows)[0], bool(evidence or len(rows) == 1 or sources.get("the checkpoint"))


def merge_settings(family: Family, sources: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Merge settings from all sources under the names of `Config`'s fields.

    Args:
        family: gives the names, and the settings that are fixed.
        sources: settings as they were read, by the name of their source.

    Raises:
        CheckpointError: two sources disagree, or one contradicts the family.
    """
    known = set(Config.__dataclass_fields__) | _OTHER_SETTINGS | set(_PRIOR_CONSTANTS) | {"beta_range", *_ENDPOINTS}
    merged: dict[str, Any] = {"family": family.name, **_LMNT_FIXED, **family.fixed}
    origin = dict.fromkeys(merged, f"family {family.name}")
    for source, values in sources.items():
        for alias, value in _flatten(values, family).items():
            name = family.aliases.get(alias, alias)
            value = as_tuples(value)
            if name not in known or value is None or (name == "fast_schedule" and value == ()):
                continue
            if name in merged and merged[name] != value:
                raise CheckpointError(
                    f"{alias}: expected {merged[name]!r:.80} as in {origin[name]}, got {value!r:.80} in {source}"
                )
            merged[name], origin[name] = value, source
    for name in ("condition_prior", "condition_prior_global"):
        if merged.pop(name, False):
            raise CheckpointError(
                f"{name}: expected False, got True; a prior among the network's inputs is not supported"
            )
    for name, supported in _PRIOR_CONSTANTS.items():
        value = merged.pop(name, supported)
        if value != supported:
            raise CheckpointError(f"{name}: expected PriorGrad's usual {supported}, got {value!r:.80}")
    if merged.pop("use_prior", True) is False and family.fixed.get("prior"):
        merged["prior"] = False  # PriorGrad's code with white noise
    return _with_train_schedule(merged, family)


def missing_settings(family: Family, settings: Mapping[str, Any]) -> list[str]:
    """List the settings that neither the tensors' shapes nor `settings` give, by the family's usual names."""
    names = _usual_names(family)
    absent = [names.get(name, name) for name in ("dilation_cycle", "sample_rate") if name not in settings]
    if "train_schedule" not in settings:
        ends = [names[name] for name in _ENDPOINTS if name in names and name not in settings]
        absent += ends or [names["train_schedule"]]
    return absent


def _with_train_schedule(settings: dict[str, Any], family: Family) -> dict[str, Any]:
    """Add the training schedule, computed from its ends and length, unless the settings contain it."""
    ends = settings.pop("beta_range", None)
    if ends is not None:
        if not isinstance(ends, tuple) or len(ends) != 3:
            raise CheckpointError(f"noise_schedule_factors: expected first beta, last beta and count, got {ends!r:.80}")
        settings = {**settings, **dict(zip(_ENDPOINTS, ends, strict=True))}
    steps = settings.get("train_steps")
    names = _usual_names(family)
    if steps is not None and (type(steps) is not int or not 1 <= steps <= MAX_STEPS):
        name = names.get("train_steps", "steps")
        raise CheckpointError(f"{name}: expected an integer from 1 to {MAX_STEPS}, got {steps!r:.80}")
    betas = settings.get("train_schedule")
    if betas is not None:
        if steps is not None and isinstance(betas, tuple) and len(betas) != steps:
            raise CheckpointError(f"noise_schedule: expected {steps} betas as in the configuration, got {len(betas)}")
        return settings
    if steps is not None and steps in family.default_betas:
        settings = {**dict(zip(_ENDPOINTS, family.default_betas[steps], strict=False)), **settings}
    if steps is None or not {"beta_first", "beta_last"} <= set(settings):
        return settings
    for name in ("beta_first", "beta_last"):
        beta = settings[name]
        if type(beta) is not float or not 0.0 < beta < 1.0:
            raise CheckpointError(f"{names.get(name, name)}: expected a beta between 0 and 1, got {beta!r:.80}")
    return {**settings, "train_schedule": linear_schedule(settings["beta_first"], settings["beta_last"], steps)}


def _usual_names(family: Family) -> dict[str, str]:
    """Return the first of the family's names for every setting, by the name in `Config`."""
    return {name: alias for alias, name in reversed(list(family.aliases.items()))}


def _flatten(values: Mapping[Any, Any], family: Family) -> dict[str, Any]:
    """Return plain settings, with those of the family's sections."""
    flat = plain_values(dict(values))
    for path in family.sections:
        section: Any = values
        for key in path:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            flat.update(plain_values(section))
    return flat


def _describe(value: object) -> str:
    return f"{value!r:.80}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
