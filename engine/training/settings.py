"""What a training is told: one TOML file, a recipe, whose keys are these fields. Unknown keys are refused."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.audio.spectrogram import HOP
from engine.checks.mels import LOG_KINDS
from engine.config import Config, linear_schedule
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Data:
    """Which recordings, and what a training example is.

    Attributes:
        pattern: of the files below the data's folder, as `Path.glob` takes it; those that are no recordings are passed
            by.
        held_out: a regular expression; files whose name it finds are never trained on, but validated with.
        label: a regular expression with groups; what they match in a file's name, joined by spaces, is the class.
        frames: of a crop's mel, for a network with a mel.
        samples: of a clip, for a network without: shorter ones are padded, longer ones left out.
        lead: the most zeros before a clip.
        peak: what a clip's peak is scaled to; 0 for as it is.
        gain_db: the range of a random gain of crops, in dB, the least first.
    """

    pattern: str = "**/*"
    held_out: str = ""
    label: str = ""
    frames: int = 20
    samples: int = 0
    lead: int = 0
    peak: float = 0.0
    gain_db: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not self.pattern or Path(self.pattern).is_absolute():
            raise InputError(
                f"data.pattern: expected one below the data's folder, such as '**/*', got {self.pattern!r}"
            )
        for name in ("held_out", "label"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise InputError(f"data.{name}: expected a regular expression, got {error}") from None
        if self.label and not re.compile(self.label).groups:
            raise InputError(f"data.label: expected groups in it, got {self.label!r}")
        _at_least("data", self, frames=1, samples=0, lead=0, peak=0)
        gains = self.gain_db
        if len(gains) != 2 or not all(type(gain) in (int, float) for gain in gains) or not gains[0] <= gains[1]:
            raise InputError(f"data.gain_db: expected the least and the most, in dB, got {list(gains)!r:.80}")


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        steps: of the optimizer, in all.
        batch: examples of a step, over all processes.
        rate: AdamW's learning rate after `warmup` steps; it falls to zero along half a cosine.
        warmup: steps over which the rate rises.
        decay: AdamW's weight decay.
        clip: the norm that gradients are scaled down to.
        average: of the weights, exponential: the share that stays in a step. What is exported.
        loss: "l2", the paper's, or "l1", LMNT's.
        fast_share: of the examples, at the exact levels of the fast schedule; the rest at random t.
        drop_label: of the examples, trained without their label: they make the unconditional network, and guidance
            possible.
        seed: of the first weights, the data's order, and the noise.
        init: a file to begin from instead of random weights: a checkpoint, or a training's state (`--init`).
    """

    steps: int = 1000
    batch: int = 16
    rate: float = 2.5e-4
    warmup: int = 100
    decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    loss: str = "l1"
    fast_share: float = 0.0
    drop_label: float = 0.0
    seed: int = 0
    init: str = ""

    def __post_init__(self) -> None:
        _at_least("training", self, steps=1, batch=1, warmup=0, seed=0, decay=0)
        for name in ("average", "fast_share", "drop_label"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"training.{name}: expected a number from 0 to 1, got {getattr(self, name)!r}")
        for name in ("rate", "clip"):
            if not getattr(self, name) > 0.0:
                raise InputError(f"training.{name}: expected a number above 0, got {getattr(self, name)!r}")
        if self.loss not in ("l1", "l2"):
            raise InputError(f"training.loss: expected 'l1' or 'l2', got {self.loss!r:.80}")


@dataclass(frozen=True)
class Recipe:
    """A network, its data and its training.

    Attributes:
        network: the network, without its classes, which the data decides.
        data: what it hears.
        training: how.
    """

    network: Config
    data: Data
    training: Training

    def __post_init__(self) -> None:
        if self.network.padding != "zeros":
            raise InputError(f"network.padding: training has 'zeros' only, got {self.network.padding!r}")
        for name, only in {"step_bias_in_residual": False, "shared_upsampler": True}.items():
            if getattr(self.network, name) != only:
                raise InputError(f"network.{name}: training has {str(only).lower()} only")
        if self.network.n_mels and self.network.hop != HOP:
            strides = list(self.network.upsample_strides)
            raise InputError(f"network.upsample_strides: expected a product of {HOP}, the hop of mels, got {strides}")
        if self.network.n_mels and self.data.label:
            raise InputError("data.label: expected none for a network with a mel")
        if not self.network.n_mels and not self.data.samples:
            raise InputError("data.samples: a network without a mel needs the length of its clips")
        if self.network.prior and self.network.mel_kind not in LOG_KINDS:
            raise InputError(f"network.mel_kind: a prior needs a logarithmic mel, one of {', '.join(LOG_KINDS)}")
        if self.training.drop_label and not self.data.label:
            raise InputError("training.drop_label: expected 0 for a network without labels")
        if self.network.guidance and not self.training.drop_label:
            raise InputError("network.guidance: expected 0 for a network that is never trained without labels")
        if self.network.fast_schedule is None:
            if self.training.fast_share:
                raise InputError("training.fast_share: the network has no fast_schedule")
            return
        try:
            build_schedule(self.network, len(self.network.fast_schedule))
        except InputError as error:
            raise InputError(
                f"network.fast_schedule: it does not fit the schedule of training; say [] for none, or another: {error}"
            ) from None

    def to_json(self) -> str:
        """For the metadata of a training's state: two of them are equal when their trainings are."""
        return json.dumps(asdict(self), sort_keys=True)


def read_recipe(path: str | Path) -> Recipe:
    """A recipe from a TOML file, or one of the package's by its name.

    Raises:
        InputError: there is no such file, it is no TOML, or a key or value is impossible.
    """
    file = Path(path)
    if not file.suffix and not file.exists():
        file = RECIPES / f"{path}.toml"
    try:
        values = tomllib.loads(file.read_text())
    except OSError as error:
        known = ", ".join(sorted(one.stem for one in RECIPES.glob("*.toml")))
        raise InputError(f"recipe: {path}: {error.strerror}; bundled recipes: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"recipe: {file}: expected TOML, got {error}") from None
    try:
        return recipe_of(values)
    except (InputError, CheckpointError) as error:
        raise InputError(f"recipe: {file}: {error}") from None


def recipe_of_json(text: str) -> Recipe:
    """What `Recipe.to_json` wrote; CheckpointError for anything else."""
    kinds = {"network": Config, "data": Data, "training": Training}
    try:
        values = json.loads(text)
        return Recipe(**{name: _made(kind, name, values[name]) for name, kind in kinds.items()})
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"recipe: expected that of a training's state, got {text!r:.80} ({error})") from None


def recipe_of(values: dict[str, Any]) -> Recipe:
    """A recipe from the tables of its TOML file; what is not given has its default."""
    if unknown := sorted(set(values) - {"network", "data", "training"}):
        raise InputError(f"expected the tables network, data and training, got {unknown!r:.80}")
    for name, table in values.items():
        if not isinstance(table, dict):
            raise InputError(f"{name}: expected a table, [{name}], got {table!r:.80}")
    network = dict(values.get("network", {}))
    if "beta" in network:
        network["train_schedule"] = _schedule(network.pop("beta"))
    if network.get("n_mels") == 0:
        network = {"upsample_strides": (), "mel_kind": None, **network}
    if network.get("fast_schedule") == []:
        network["fast_schedule"] = None
    return Recipe(
        _made(Config, "network", network),
        _made(Data, "data", values.get("data", {})),
        _made(Training, "training", values.get("training", {})),
    )


def _schedule(beta: Any) -> tuple[float, ...]:
    """From first to last in so many steps, as `network.beta` says."""
    kinds = {"first": (int, float), "last": (int, float), "steps": (int,)}
    if (
        not isinstance(beta, dict)
        or set(beta) != set(kinds)
        or not all(type(beta[key]) in kind for key, kind in kinds.items())
        or beta["steps"] < 1
    ):
        raise InputError(f"network.beta: expected {{ first = 1e-4, last = 0.05, steps = 50 }} or so, got {beta!r:.80}")
    return linear_schedule(beta["first"], beta["last"], beta["steps"])


def _made(kind: Any, name: str, values: dict[str, Any]) -> Any:
    types = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(values) - set(types)):
        raise InputError(f"{name}: unknown keys {', '.join(unknown)}; known: {', '.join(types)}")
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in made.items():
        default = types[key].default
        if isinstance(default, float) and type(value) is int:
            made[key] = float(value)
        elif kind is not Config and type(value) is not type(default):
            raise InputError(f"{name}.{key}: expected {_kind_of(default)}, got {value!r:.80}")
    return kind(**made)


def _kind_of(default: Any) -> str:
    return {int: "a whole number", float: "a number", str: "a text", tuple: "a list"}[type(default)]


def _at_least(table: str, settings: Any, **least: int) -> None:
    for name, value in least.items():
        if getattr(settings, name) < value:
            raise InputError(f"{table}.{name}: expected at least {value}, got {getattr(settings, name)}")
