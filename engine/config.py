"""Hyper-parameters of a DiffWave network: sizes, rates and schedules, everything except the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import CheckpointError, InputError

FAMILIES = ("lmnt", "priorgrad", "amphion", "speechbrain", "philsyn")
MEL_KINDS = ("lmnt", "tacotron", "hifigan", "speechbrain")
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384000  # Hz
MAX_SAMPLES = 2**31 - 1
MAX_MELS = 1024
MAX_HOP = 8192
MAX_STEPS = 10000  # of a schedule
MAX_SCHEDULES = 64
MAX_OBJECTIVE = 200  # characters
MAX_CLASSES, MAX_CLASS_NAME = 1024, 64
MAX_GUIDANCE = 100.0
MAX_INT8_RANGE = 1e6
ENERGY_MAX = 4.0  # PriorGrad limits the energy of a frame to it; `Config.energy_min` lies below
# Relative tolerance of -log(alpha_bar), which is nearly the sum of the betas. Betas rounded to float32 change it by
# 1e-7. A schedule that begins with the training's first beta must not be refused for that.
_ROUNDING = 1e-6
# The paper's schedules of 6 steps (appendix B).
BASE_FAST_SCHEDULE = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
LARGE_FAST_SCHEDULE = (*BASE_FAST_SCHEDULE[:-1], 0.7)
# Fields that older files lack, with the value that a file without them implies.
_IMPLIED: dict[str, Any] = {
    "classes": (),
    "clip_samples": 0,
    "signal_std": 0.0,
    "int8_ranges": (),
    "int8_mel_range": 0.0,
    "int8_conditioner_ranges": (),
    "guidance": 0.0,
    "temperature": 1.0,
    "energy_min": 0.0,
    "schedules": (),
    "objective": "",
}


def linear_schedule(first: float, last: float, count: int) -> tuple[float, ...]:
    """Return the betas of a training schedule: `count` values, evenly spaced from `first` to `last`."""
    return tuple(first + (last - first) * n / max(count - 1, 1) for n in range(count))


def upsample_padding(stride: int) -> tuple[int, int]:
    """Return padding and output padding in time of a transposed convolution of the mel upsampler.

    With a kernel of twice the stride, T frames become exactly T * stride columns. For an odd stride this is the recipe
    of LMNT's author.

    Args:
        stride: s.
    """
    return (stride + 1) // 2, stride % 2


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of one network (paper, section 3 and table 1).

    Attributes:
        residual_channels: C. The kernels pad other numbers than multiples of 16 with zeros.
        residual_layers: N.
        dilation_cycle: layer i has the dilation ``2 ** (i % dilation_cycle)``.
        n_mels: M, the bands of the local conditioner; 0 for an unconditional network.
        upsample_strides: strides in time of the transposed convolutions (`upsample_padding`); their product is the hop.
        sample_rate: of the audio, in Hz.
        mel_kind: the front-end that computes the mel (one of ``MEL_KINDS``); None if unknown.
        train_schedule: beta_1 .. beta_T of the training.
        fast_schedule: the checkpoint's own inference schedule; None if it has none.
        family: the implementation that trained the network (one of ``FAMILIES``). The fields below hold everything
            that follows from it; no other code depends on the family.
        shared_upsampler: whether all layers share one mel upsampler; otherwise each layer has its own.
        step_embedding: "table", interpolated between the rows of the training steps, or "sinusoid", of t itself.
        padding: the values of a dilated convolution beyond the ends of the signal: "zeros", or "reflect" for the
            signal's own reflection.
        step_bias_in_residual: whether the residual connection carries the step bias too: (x + d + res) * sqrt(1/2).
        clamp: whether x is limited to [-1,1] after every step.
        prior: whether a standard deviation per sample scales the noise, computed from the mel's energy (PriorGrad).
        classes: the names of the classes that a label can select (global conditioner), one or two words each: "3", or
            "3 jackson"; () for a network without labels. A network with a mel has no classes.
        clip_samples: length of the training clips in samples, the default length of generated audio; 0 if unknown.
        signal_std: above 0, the output is preconditioned for audio of this standard deviation: the network computes F
            of eps = p x + q F, see `preconditioning`. 0 is the paper's network, whose output is eps.
        int8_ranges: for every residual layer, the largest |x| of its input that precision "int8" represents. 0 for a
            layer in which only the conditioner is computed in int8; the first layer always has 0. () for a network
            without calibration (`engine.tuning.int8`).
        int8_mel_range: the largest |value| of the upsampled mel that int8 represents; 0 without a mel or calibration.
        int8_conditioner_ranges: the largest |value| of the projected mel that int8 represents, for every residual
            layer and each of its 2C channels in turn; () without a mel or calibration.
        guidance: above 0, a network with classes was also trained without a label. The value is the default weight of
            classifier-free guidance in `generate` (`engine.sampling.guidance`); 1 is the label alone. 0 for a
            network that was never trained without a label, and for one without classes.
        temperature: the default temperature of `generate`, 0 to 1; 1 for a network with a mel.
        energy_min: for a network with `prior`, the smallest energy of a frame of its training data
            (`engine.diffusion.prior`); 0 if unknown.
        schedules: the checkpoint's own few-step schedules, of different lengths. Each consists of betas that ascend and
            lie on the training scale. ``steps=N`` selects the one of N betas before any other schedule.
        objective: what the last training minimized, in one line; "" for the paper's objective, the error of eps.
    """

    residual_channels: int = 64
    residual_layers: int = 30
    dilation_cycle: int = 10
    n_mels: int = 80
    upsample_strides: tuple[int, ...] = (16, 16)
    sample_rate: int = 22050
    mel_kind: str | None = "lmnt"
    train_schedule: tuple[float, ...] = linear_schedule(1e-4, 0.05, 50)
    fast_schedule: tuple[float, ...] | None = BASE_FAST_SCHEDULE
    family: str = "lmnt"
    shared_upsampler: bool = True
    step_embedding: str = "table"
    padding: str = "zeros"
    step_bias_in_residual: bool = False
    clamp: bool = True
    prior: bool = False
    classes: tuple[str, ...] = ()
    clip_samples: int = 0
    signal_std: float = 0.0
    int8_ranges: tuple[float, ...] = field(default=(), repr=False)
    int8_mel_range: float = 0.0
    int8_conditioner_ranges: tuple[float, ...] = field(default=(), repr=False)
    guidance: float = 0.0
    temperature: float = 1.0
    energy_min: float = 0.0
    schedules: tuple[tuple[float, ...], ...] = ()
    objective: str = ""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("residual_channels", 1, 1024),
            ("residual_layers", 1, 256),
            ("dilation_cycle", 1, 16),
            ("n_mels", 0, MAX_MELS),
            ("sample_rate", MIN_SAMPLE_RATE, MAX_SAMPLE_RATE),
            ("clip_samples", 0, MAX_SAMPLES),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise _refusal(name, f"an integer from {low} to {high}", value)
        strides = self.upsample_strides
        strides_ok = type(strides) is tuple and all(type(s) is int and 2 <= s <= 64 for s in strides)
        if not strides_ok or bool(strides) != bool(self.n_mels) or self.hop > MAX_HOP:
            expected = f"a tuple of strides from 2 to 64 with a product of at most {MAX_HOP}"
            raise _refusal("upsample_strides", f"{expected} (empty for an unconditional network)", strides)
        if self.mel_kind is not None and self.mel_kind not in MEL_KINDS:
            raise _refusal("mel_kind", f"one of {', '.join(MEL_KINDS)}", self.mel_kind)
        for name, choices in (
            ("family", FAMILIES),
            ("step_embedding", ("table", "sinusoid")),
            ("padding", ("zeros", "reflect")),
            ("shared_upsampler", (True, False)),
            ("step_bias_in_residual", (True, False)),
            ("clamp", (True, False)),
            ("prior", (True, False)),
        ):
            value = getattr(self, name)
            if type(value) is not type(choices[0]) or value not in choices:
                raise _refusal(name, f"one of {', '.join(map(repr, choices))}", value)
        self._check_ranges()
        if not isinstance(self.signal_std, float) or not 0.0 <= self.signal_std <= 1.0:
            raise _refusal("signal_std", "a float from 0 to 1", self.signal_std)
        if not isinstance(self.guidance, float) or not 0.0 <= self.guidance <= MAX_GUIDANCE:
            raise _refusal("guidance", f"a float from 0 to {MAX_GUIDANCE:g}", self.guidance)
        temperature = self.temperature
        if not isinstance(temperature, float) or not 0.0 <= temperature <= 1.0 or (temperature != 1.0 and self.n_mels):
            raise _refusal("temperature", "a float from 0 to 1, and 1 with a mel", temperature)
        energy_min = self.energy_min
        if not isinstance(energy_min, float) or not 0.0 <= energy_min < ENERGY_MAX or (energy_min and not self.prior):
            raise _refusal("energy_min", f"a float from 0 to below {ENERGY_MAX:g}, and 0 without prior", energy_min)
        if not _are_classes(self.classes):
            expected = f"a tuple of up to {MAX_CLASSES} different names, each one or two printable words"
            raise _refusal("classes", f"{expected} of at most {MAX_CLASS_NAME} characters", self.classes)
        if self.classes and self.n_mels:
            raise _refusal("classes", "none in a network with a mel (both together are not supported)", self.classes)
        for name in ("train_schedule", "fast_schedule"):
            betas = getattr(self, name)
            if betas is None and name == "fast_schedule":
                continue
            if not _are_betas(betas):
                raise _refusal(name, f"a tuple of 1 to {MAX_STEPS} floats between 0 and 1", betas)
        self._check_schedules()
        if type(self.objective) is not str or len(self.objective) > MAX_OBJECTIVE or not self.objective.isprintable():
            raise _refusal("objective", f"a printable line of up to {MAX_OBJECTIVE} characters", self.objective)

    def _check_schedules(self) -> None:
        schedules = self.schedules
        if type(schedules) is not tuple or len(schedules) > MAX_SCHEDULES or not all(map(_are_betas, schedules)):
            expected = f"a tuple of up to {MAX_SCHEDULES} tuples of 1 to {MAX_STEPS} floats between 0 and 1"
            raise _refusal("schedules", expected, schedules)
        lengths = [len(betas) for betas in schedules]
        if len(set(lengths)) < len(lengths):
            raise _refusal("schedules", "schedules of different lengths", lengths)
        for betas in schedules:
            if list(betas) != sorted(betas):
                raise _refusal("schedules", "betas that ascend, in the order of the diffusion", betas)
            try:
                check_levels(betas, self.train_schedule)
            except InputError as error:
                raise CheckpointError(f"config schedules: {error}") from None

    def _check_ranges(self) -> None:
        for name in ("int8_ranges", "int8_conditioner_ranges"):
            ranges = getattr(self, name)
            if type(ranges) is not tuple or not all(map(_is_int8_range, ranges)):
                raise _refusal(name, "a tuple of floats from 0 to 1e6", ranges)
        if self.int8_ranges and (len(self.int8_ranges) != self.residual_layers or self.int8_ranges[0]):
            raise _refusal("int8_ranges", "one float per residual layer, 0 for the first, or none", self.int8_ranges)
        if not _is_int8_range(self.int8_mel_range):
            raise _refusal("int8_mel_range", "a float from 0 to 1e6", self.int8_mel_range)
        with_mel = bool(self.int8_ranges) and self.n_mels > 0
        if len(self.int8_conditioner_ranges) != with_mel * self.residual_layers * 2 * self.residual_channels:
            expected = "a float per layer and channel, N x 2C, where a network with a mel has int8_ranges, or none"
            raise _refusal("int8_conditioner_ranges", expected, self.int8_conditioner_ranges)

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def labels(self) -> int:
        """Rows of the label embedding: one per class and, if `guidance` is above 0, a last one for "no label"."""
        return len(self.classes) + (bool(self.classes) and self.guidance > 0.0)

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every residual layer (paper, section 3.1)."""
        return tuple(2 ** (i % self.dilation_cycle) for i in range(self.residual_layers))

    @property
    def mel_reach(self) -> int:
        """Look-ahead of the mel upsampler in samples: 136 for strides 16 x 16."""
        reach = 0
        for stride in self.upsample_strides:
            reach = reach * stride + upsample_padding(stride)[0]
        return reach

    @property
    def reach(self) -> int:
        """Samples of context that one denoising step needs on each side: the sum of the dilations."""
        return sum(self.dilations)

    def look_ahead(self, steps: int) -> int:
        """Return the look-ahead of `steps` denoising steps in samples, the current sample included."""
        return steps * self.reach + self.mel_reach + 1

    def alpha_bar(self, t: float) -> float:
        """Return alpha_bar at a step of the training scale.

        Between two steps, its square root is interpolated linearly.

        Args:
            t: the step, 0 to T-1, fractions allowed.

        Raises:
            InputError: t is not from 0 to T-1.
        """
        check_step(t, len(self.train_schedule))
        low, fraction = int(t), t - int(t)
        roots = [math.sqrt(math.prod(1.0 - beta for beta in self.train_schedule[: n + 1])) for n in (low, low + 1)]
        return ((1.0 - fraction) * roots[0] + fraction * roots[1]) ** 2

    def preconditioning(self, alpha_bar: float) -> tuple[float, float]:
        """Return (p, q) of eps = p x + q F at a noise level, F the network's output; (0, 1) for the paper's networks.

        p x is the best linear estimate of eps from the sample x, for audio of variance s^2 = signal_std^2. q is the
        standard deviation of its residual, so F has variance 1 at every level (Karras et al., NeurIPS 2022, appendix
        B.6)::

            v = alpha_bar s^2 + 1 - alpha_bar,  p = sqrt(1 - alpha_bar) / v,  q = sqrt(alpha_bar s^2 / v)

        Args:
            alpha_bar: the noise level, above 0 to 1.
        """
        if not self.signal_std:
            return 0.0, 1.0
        signal = alpha_bar * self.signal_std**2
        variance = signal + 1.0 - alpha_bar
        return math.sqrt(1.0 - alpha_bar) / variance, math.sqrt(signal / variance)

    def summary(self) -> str:
        """Return the sizes, the condition and the sample rate in one line."""
        size = f"C={self.residual_channels} N={self.residual_layers} cycle={self.dilation_cycle}"
        condition = f"{len(self.classes)} classes" if self.classes else "no mel"
        if self.n_mels:
            condition = f"{self.n_mels} mel bands of kind {self.mel_kind}, hop {self.hop}"
        return f"{size}, {condition}, {self.sample_rate} Hz"

    def to_json(self) -> str:
        """Return the configuration as the JSON text in a safetensors file's metadata."""
        values = asdict(self)
        for name in _IMPLIED:  # the file of a network without these does not change
            if values[name] == _IMPLIED[name]:
                del values[name]
        return json.dumps(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Build a configuration from a dict of its fields, with tuples or lists.

        Args:
            values: the fields by name, as `dataclasses.asdict` returns them.

        Raises:
            CheckpointError: a key is unknown or missing, or a value is impossible.
        """
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values) - set(_IMPLIED))
        if unknown or missing:
            raise CheckpointError(f"config: unknown keys {unknown!r:.80}, missing keys {missing}")
        return cls(**{name: as_tuples(value) for name, value in values.items()})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Parse the text that `to_json` returns.

        Args:
            text: a JSON object of the fields.

        Raises:
            CheckpointError: the text is not JSON, or does not describe a possible configuration.
        """
        parsed = parse_object(text)
        values = plain_values(parsed)
        for name in _IMPLIED:  # a value that is not plain must not pass for a missing one
            if name in parsed and name not in values:
                raise CheckpointError(f"config {name}: expected plain values, got a {type(parsed[name]).__name__}")
        return cls.from_dict(values)


def _are_betas(values: object) -> bool:
    return (
        type(values) is tuple
        and 1 <= len(values) <= MAX_STEPS
        and all(isinstance(beta, float) and 0.0 < beta < 1.0 for beta in values)
    )


def _is_int8_range(value: object) -> bool:
    return isinstance(value, float) and 0.0 <= value <= MAX_INT8_RANGE


def _are_classes(names: object) -> bool:
    if type(names) is not tuple or len(names) > MAX_CLASSES or not all(type(name) is str for name in names):
        return False
    valid = (len(name) <= MAX_CLASS_NAME and name.isprintable() and _is_one_or_two_words(name) for name in names)
    return all(valid) and len(set(names)) == len(names)


def _is_one_or_two_words(name: str) -> bool:
    words = name.split()
    return len(words) in (1, 2) and name == " ".join(words)


def _refusal(name: str, expected: str, got: object) -> CheckpointError:
    return CheckpointError(f"config {name}: expected {expected}, got {got!r:.80}")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: JSON, at most a few megabytes.

    Raises:
        CheckpointError: the text is not JSON, or not an object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"config: expected JSON, got {error!s:.80}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"config: expected a JSON object, got a {type(values).__name__}")
    return values


def check_step(t: float, train_steps: int) -> None:
    """Check that t lies on the training scale.

    Args:
        t: a step, fractions allowed.
        train_steps: T, the number of training steps.

    Raises:
        InputError: t is not from 0 to T-1.
    """
    if not 0 <= t <= train_steps - 1:  # refuses NaN, too
        raise InputError(f"t: expected a step from 0 to {train_steps - 1}, got {t!r}")


def noise_levels(betas: Sequence[float]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return alpha_bar and -log(alpha_bar) of every beta of a schedule, float64 [S] each.

    Args:
        betas: S values between 0 and 1 in the order of the diffusion.
    """
    beta = np.asarray(betas, dtype=np.float64)
    return np.cumprod(1.0 - beta), np.cumsum(-np.log1p(-beta))


def check_levels(betas: Sequence[float], train_betas: Sequence[float]) -> None:
    """Check that the noise levels of a schedule lie within those of the training schedule.

    Args:
        betas: the schedule, values between 0 and 1 in the order of the diffusion.
        train_betas: the training schedule in the same form.

    Raises:
        InputError: a noise level lies outside of the training schedule's.
    """
    levels, decays = noise_levels(betas)
    train, train_decays = noise_levels(train_betas)
    above = decays < train_decays[0] * (1.0 - _ROUNDING)
    outside = above | (decays > train_decays[-1] * (1.0 + _ROUNDING))
    if outside.any():
        n = int(np.argmax(outside))
        raise InputError(
            f"beta[{n}] = {float(betas[n])!r} gives alpha_bar {levels[n]:.7g}, which is "
            f"{'above' if above[n] else 'below'} the training schedule's {train[-1]:.7g} to {train[0]:.7g}"
        )


def as_tuples(value: Any) -> Any:
    """Return a value of a file as `Config` takes it: a list, and the lists in it, as tuples.

    Args:
        value: a plain value (`plain_values`).
    """
    if not isinstance(value, list):
        return value
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def plain_values(values: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries of a foreign dict that can be hyper-parameters: scalars, strings, flat lists of them.

    The key "schedules" may have a list of such lists. Other entries are dropped: comparing or printing nested,
    self-referring or 10,000-digit values can itself fail.

    Args:
        values: a dict from a file, with keys and values of any type.
    """
    return {k: v for k, v in values.items() if isinstance(k, str) and (_is_plain(v) or _are_plain_schedules(k, v))}


def _are_plain_schedules(key: str, value: object) -> bool:
    return (
        key == "schedules"
        and isinstance(value, (list, tuple))
        and all(isinstance(item, (list, tuple)) and _is_plain(item) for item in value)
    )


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(v, (int, float, str)) and _is_plain(v) for v in value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, (float, str))


BASE = Config()
LARGE = Config(
    residual_channels=128,
    train_schedule=linear_schedule(1e-4, 0.02, 200),
    fast_schedule=LARGE_FAST_SCHEDULE,
)
# Unconditional: one second of a spoken digit (section 5.2). With labels, replace(SC09, classes=...).
SC09 = Config(
    residual_channels=256,
    residual_layers=36,
    dilation_cycle=12,
    n_mels=0,
    upsample_strides=(),
    sample_rate=16000,
    mel_kind=None,
    train_schedule=linear_schedule(1e-4, 0.02, 200),
    fast_schedule=None,
    clip_samples=16000,
)
SC09_THIN = replace(SC09, residual_channels=128, residual_layers=48)  # the paper's "deep and thin"
