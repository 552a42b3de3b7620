"""Recipes: TOML files of the tables network, data, training and unroll. Their keys are the fields of the classes."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.audio.spectrogram import HOP
from engine.checks.mels import LOG_KINDS
from engine.config import MAX_SAMPLES, MAX_STEPS, Config, as_tuples, linear_schedule
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError
from engine.training.unroll_settings import Unroll

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"
SUPPORTED = {"padding": "zeros", "step_bias_in_residual": False, "shared_upsampler": True}  # fields of LMNT's structure
MAX_SEED = 2**63 - 1  # NumPy turns larger ones into floating-point numbers beside small ones
MAX_GAIN_DB = 100.0
TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", tuple: "a list"}


@dataclass(frozen=True)
class Data:
    """The recordings, and how they become training examples.

    Attributes:
        pattern: of the files below the data folder, in the syntax of `Path.glob`; files that are not recordings are
            skipped.
        held_out: a regular expression; files whose name it matches are never trained on, but validated with.
        label: a regular expression with groups; the parts of a file's name that they match, joined by spaces, are the
            class.
        frames: of a crop's mel, for a network with a mel.
        samples: of a clip, for a network without a mel: shorter recordings are padded, longer ones left out.
        lead: the largest number of zeros before a clip.
        peak: the level to which the peak of a clip is scaled; 0 for no scaling.
        gain_db: the range of a random gain of crops, [lowest, highest] in dB.
        blur: the share of the crops whose mel is blurred as an acoustic model's (`engine.training.blur`), by a random
            strength. The audio to reach stays sharp.
    """

    pattern: str = "**/*"
    held_out: str = ""
    label: str = ""
    frames: int = 20
    samples: int = 0
    lead: int = 0
    peak: float = 0.0
    gain_db: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not self.pattern or Path(self.pattern).is_absolute():
            raise InputError(
                f"data.pattern: expected a pattern below the data folder, for example '**/*', got {self.pattern!r}"
            )
        for name in ("held_out", "label"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise InputError(f"data.{name}: expected a regular expression, got {error}") from None
        if self.label and not re.compile(self.label).groups:
            raise InputError(f"data.label: expected a regular expression with groups, got {self.label!r}")
        _check_minimum("data", self, frames=1, samples=0, lead=0, peak=0)
        if self.samples > MAX_SAMPLES:
            raise InputError(f"data.samples: expected at most {MAX_SAMPLES}, got {self.samples}")
        if self.peak > 1.0:
            raise InputError(f"data.peak: expected a level from 0 to 1, got {self.peak!r}")
        if not 0.0 <= self.blur <= 1.0:
            raise InputError(f"data.blur: expected a number from 0 to 1, got {self.blur!r}")
        gains = self.gain_db
        if (
            len(gains) != 2
            or not all(type(gain) in (int, float) for gain in gains)
            or not -MAX_GAIN_DB <= gains[0] <= gains[1] <= MAX_GAIN_DB
        ):
            raise InputError(
                f"data.gain_db: expected [lowest, highest] in dB, from {-MAX_GAIN_DB:g} to {MAX_GAIN_DB:g}, got "
                f"{list(gains)!r:.80}"
            )


@dataclass(frozen=True)
class Training:
    """The optimization of a network.

    Attributes:
        steps: of the optimizer, in total.
        batch: examples of a step, over all processes.
        rate: AdamW's learning rate after `warmup` steps; it falls to zero along half a cosine.
        warmup: steps over which the rate rises.
        decay: AdamW's weight decay.
        clip: the norm to which larger gradients are scaled down.
        average: the decay per step of the exponential moving average of the weights, which `export` writes.
        loss: "l2", the paper's, or "l1", LMNT's.
        weight: the weight of errors: "none" for 1, or "energy" for the inverse of the mel's energy, frame by frame.
        fast_share: the share of the examples at the exact levels of the fast schedule; the others have a random t.
        drop_label: the share of the examples that are trained without their label. It enables the unconditional
            network and guidance.
        seed: of the initial weights, the order of the data, and the noise.
        init: a file to start from instead of random weights: a checkpoint, or the state of a training (`--init`).
    """

    steps: int = 1000
    batch: int = 16
    rate: float = 2.5e-4
    warmup: int = 100
    decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    loss: str = "l1"
    weight: str = "none"
    fast_share: float = 0.0
    drop_label: float = 0.0
    seed: int = 0
    init: str = ""

    def __post_init__(self) -> None:
        _check_minimum("training", self, steps=1, batch=1, warmup=0, seed=0, decay=0)
        if self.seed > MAX_SEED:
            raise InputError(f"training.seed: expected at most {MAX_SEED}, got {self.seed}")
        for name in ("average", "fast_share", "drop_label"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"training.{name}: expected a number from 0 to 1, got {getattr(self, name)!r}")
        for name in ("rate", "clip"):
            if not getattr(self, name) > 0.0:
                raise InputError(f"training.{name}: expected a number above 0, got {getattr(self, name)!r}")
        if self.loss not in ("l1", "l2"):
            raise InputError(f"training.loss: expected 'l1' or 'l2', got {self.loss!r:.80}")
        if self.weight not in ("none", "energy"):
            raise InputError(f"training.weight: expected 'none' or 'energy', got {self.weight!r:.80}")


@dataclass(frozen=True)
class Recipe:
    """A network, its data and its training.

    Attributes:
        network: the hyper-parameters, without the classes, which follow from the data.
        data: the recordings.
        training: the optimization.
        unroll: training through the steps of the sampler; None for the paper's objective alone.
    """

    network: Config
    data: Data
    training: Training
    unroll: Unroll | None = None

    def __post_init__(self) -> None:
        network, data, training = self.network, self.data, self.training
        for name, supported in SUPPORTED.items():
            if (value := getattr(network, name)) != supported:
                expected, got = json.dumps(supported), json.dumps(value)
                raise InputError(f"network.{name}: expected {expected}, the only value for training, got {got}")
        if network.residual_channels % 16:  # inference pads them, so that they cost what the next multiple does
            channels = network.residual_channels
            raise InputError(f"network.residual_channels: expected a multiple of 16, got {channels}")
        if network.n_mels and network.hop != HOP:
            strides = list(network.upsample_strides)
            raise InputError(f"network.upsample_strides: expected a product of {HOP}, the hop of mels, got {strides}")
        if network.n_mels and data.label:
            raise InputError(f"data.label: expected '' for a network with a mel, got {data.label!r}")
        if not network.n_mels and not data.samples:
            raise InputError("data.samples: expected the length of clips for a network without a mel, got 0")
        if data.blur and network.mel_kind is None:
            raise InputError(f"data.blur: expected 0 for a network without a known kind of mel, got {data.blur}")
        if network.prior and not network.n_mels:
            raise InputError("network.prior: expected false for a network without a mel, got true")
        if network.prior and network.mel_kind not in LOG_KINDS:
            kinds = ", ".join(LOG_KINDS)
            raise InputError(
                f"network.mel_kind: expected a logarithmic mel for a prior, one of {kinds}, got {network.mel_kind!r}"
            )
        if training.weight == "energy" and (network.prior or network.mel_kind is None):
            reason = "whose prior weights the errors" if network.prior else "without a known kind of mel"
            raise InputError(f"training.weight: expected 'none' for a network {reason}, got 'energy'")
        if training.drop_label and not data.label:
            raise InputError(f"training.drop_label: expected 0 for a network without labels, got {training.drop_label}")
        if network.guidance and not training.drop_label:
            raise InputError(
                f"network.guidance: expected 0 for a network that is never trained without labels, "
                f"got {network.guidance}"
            )
        self._check_unroll()
        if network.fast_schedule is None:
            if training.fast_share:
                raise InputError(
                    f"training.fast_share: expected 0 for a network without a fast_schedule, got {training.fast_share}"
                )
            return
        try:
            build_schedule(network, "fast")
        except InputError as error:
            raise InputError(
                f"network.fast_schedule: expected one that fits the training schedule, or [] for none, got: {error}"
            ) from None

    def _check_unroll(self) -> None:
        unroll, network, training = self.unroll, self.network, self.training
        if unroll is None:
            return
        if not network.n_mels:
            raise InputError("unroll: expected a network with a mel, because spectral losses need a recording to reach")
        for steps in unroll.steps:
            try:
                unroll.schedule(network, steps)
            except InputError as error:
                raise InputError(f"unroll.{error}") from None
        samples = self.data.frames * network.hop
        if max(unroll.windows) > samples:
            raise InputError(
                f"unroll.windows: expected at most {samples} samples, a crop of data.frames, got {max(unroll.windows)}"
            )
        if unroll.anchors(training.batch) >= training.batch:
            raise InputError(
                f"unroll.anchor_share: expected an example to unroll in a batch of {training.batch}, got "
                f"{unroll.anchor_share!r}, which leaves none"
            )

    def to_json(self) -> str:
        """Return the recipe as JSON for a state's metadata; equal recipes give equal texts."""
        tables = {name: table for name, table in asdict(self).items() if table is not None}
        return json.dumps(tables, sort_keys=True)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file, or a bundled recipe by its name.

    Raises:
        InputError: the file does not exist or is not TOML, or a key or value is impossible.
    """
    file = Path(path)
    bundled_file = RECIPES / f"{file.name}.toml"
    # Not `exists`: the folder of a training may have the name of a bundled recipe.
    if str(path) == file.name and not file.is_file() and bundled_file.is_file():
        file = bundled_file
    try:
        tables = tomllib.loads(file.read_text("utf-8-sig"))  # editors on Windows begin files with a BOM
    except OSError as error:
        bundled = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.toml")))
        raise InputError(f"recipe: {path}: {error.strerror}; bundled recipes: {bundled}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"recipe: {file}: expected TOML in UTF-8, got {error}; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe: {file}: expected TOML, got {error}") from None
    try:
        return recipe_from_tables(tables)
    except (InputError, CheckpointError) as error:
        raise InputError(f"recipe: {file}: {error}") from None


def recipe_from_json(text: str) -> Recipe:
    """Parse the text that `Recipe.to_json` returns.

    Raises:
        CheckpointError: the text is not a recipe.
    """
    kinds = {"network": Config, "data": Data, "training": Training}
    try:
        tables = json.loads(text)
        if "unroll" in tables:
            kinds["unroll"] = Unroll
        return Recipe(**{name: _from_table(kind, name, tables[name]) for name, kind in kinds.items()})
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"recipe: expected that of a training's state, got {text!r:.80} ({error})") from None


def recipe_from_tables(tables: dict[str, Any]) -> Recipe:
    """Build a recipe from the tables of its TOML file; missing keys get their defaults.

    Raises:
        InputError: a table, a key or a value is impossible.
        CheckpointError: a value of the network is impossible.
    """
    if unknown := sorted(set(tables) - {"network", "data", "training", "unroll"}):
        raise InputError(f"expected the tables network, data, training and unroll, got {unknown!r:.80}")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{name}: expected a table, [{name}], got {table!r:.80}")
    network = dict(tables.get("network", {}))
    if "beta" in network:
        if "train_schedule" in network:
            raise InputError("network.beta: expected one of beta and train_schedule, got both")
        network["train_schedule"] = _train_schedule(network.pop("beta"))
    if network.get("n_mels") == 0:
        network = {"upsample_strides": (), "mel_kind": None, **network}
    if network.get("fast_schedule") == []:
        network["fast_schedule"] = None
    recipe = Recipe(
        _from_table(Config, "network", network),
        _from_table(Data, "data", tables.get("data", {})),
        _from_table(Training, "training", tables.get("training", {})),
        _from_table(Unroll, "unroll", tables["unroll"]) if "unroll" in tables else None,
    )
    _check_effects(recipe)
    return recipe


def _check_effects(recipe: Recipe) -> None:
    """Refuse settings that have no effect on this kind of network."""
    network, data = recipe.network, recipe.data
    kind = "with a mel, which learns crops" if network.n_mels else "without a mel, which learns whole clips"
    for name in ("samples", "lead", "peak") if network.n_mels else ("gain_db", "blur"):
        value, default = getattr(data, name), getattr(Data(), name)
        if value != default:
            expected, got = json.dumps(default), json.dumps(value)
            raise InputError(f"data.{name}: expected {expected} for a network {kind}, got {got}")
    if not network.n_mels and network.mel_kind is not None:
        raise InputError(f"network.mel_kind: expected none beside n_mels = 0, got {network.mel_kind!r}")


def _train_schedule(beta: Any) -> tuple[float, ...]:
    """Return the linear schedule that `network.beta` describes by its first and last value and its length."""
    kinds = {"first": (int, float), "last": (int, float), "steps": (int,)}
    if (
        not isinstance(beta, dict)
        or set(beta) != set(kinds)
        or not all(type(beta[key]) in kind for key, kind in kinds.items())
        or not 1 <= beta["steps"] <= MAX_STEPS
    ):
        raise InputError(
            f"network.beta: expected a table like {{ first = 1e-4, last = 0.05, steps = 50 }}, got {beta!r:.80}"
        )
    return linear_schedule(beta["first"], beta["last"], beta["steps"])


def _from_table(kind: Any, name: str, table: dict[str, Any]) -> Any:
    types = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(table) - set(types)):
        raise InputError(f"{name}: unknown keys {', '.join(unknown)}; known: {', '.join(types)}")
    values = {key: as_tuples(value) for key, value in table.items()}
    for key, value in values.items():
        default = types[key].default
        if isinstance(default, float) and type(value) in (int, float) and not _is_finite(key, value):
            raise InputError(f"{name}.{key}: expected a finite number, got {value!r:.80}")
        if isinstance(default, float) and type(value) is int:
            values[key] = float(value)
        elif kind is not Config and type(value) is not type(default):
            raise InputError(f"{name}.{key}: expected {TYPE_NAMES[type(default)]}, got {value!r:.80}")
    return kind(**values)


def _is_finite(key: str, value: float) -> bool:
    """Return whether a number is a finite floating-point number, or an infinity with a meaning."""
    try:
        return math.isfinite(float(value)) or (key, value) == ("clip", math.inf)  # that never clips
    except OverflowError:  # TOML's whole numbers have no limit
        return False


def _check_minimum(table: str, settings: Any, **minimum: int) -> None:
    for name, value in minimum.items():
        if getattr(settings, name) < value:
            raise InputError(f"{table}.{name}: expected at least {value}, got {getattr(settings, name)}")
