"""What a DiffWave network is: sizes, rates and schedules. Everything that is not a weight."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from engine.errors import CheckpointError, InputError

FAMILIES = ("lmnt", "priorgrad", "amphion", "speechbrain", "philsyn")
MEL_KINDS = ("lmnt", "tacotron", "hifigan", "speechbrain")
MAX_CLASSES, MAX_CLASS_NAME = 1024, 64
MAX_GUIDANCE = 100.0
# Fields that came after files had been written: what they are where a file has none.
_LATER: dict[str, Any] = {
    "classes": (),
    "clip_samples": 0,
    "signal_std": 0.0,
    "int8_ranges": (),
    "int8_mel_range": 0.0,
    "int8_conditioner_ranges": (),
    "guidance": 0.0,
    "energy_min": 0.0,
}


def linear_schedule(first: float, last: float, count: int) -> tuple[float, ...]:
    """The betas of a training: count of them, evenly spaced from the first to the last."""
    return tuple(first + (last - first) * n / max(count - 1, 1) for n in range(count))


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of one network (paper, section 3 and table 1).

    Attributes:
        residual_channels: C, a multiple of 16.
        residual_layers: N.
        dilation_cycle: layer i dilates by ``2 ** (i % dilation_cycle)``.
        n_mels: M, the bands of the local conditioner; 0 for an unconditional network.
        upsample_strides: the transposed convolutions' strides in time; their product is the hop.
        sample_rate: of the audio, in Hz.
        mel_kind: which front-end the mel comes from (one of ``MEL_KINDS``), None when unknown.
        train_schedule: beta_1 .. beta_T of training.
        fast_schedule: the checkpoint's own inference schedule, None when it has none.
        family: whose code trained it (one of ``FAMILIES``). The fields below are what follows from that; nothing
            else asks for the family.
        shared_upsampler: one mel upsampler for all layers; else each layer has its own.
        step_embedding: "table", interpolated between the rows of the training steps, or "sinusoid", of t itself.
        padding: what a dilated convolution sees beyond the ends: "zeros" or the signal's own reflection, "reflect".
        step_bias_in_residual: the residual connection carries the step bias, too: (x + d + res) * sqrt(1/2).
        clamp: limit x to [-1,1] after every step.
        prior: noise is scaled by a standard deviation per sample that follows the mel's energy (PriorGrad).
        energy_min: beside it, the smallest energy of a frame of the training data (`engine.diffusion.prior`); 0 when unknown.
        classes: the names of the classes that a label can be (global conditioner), one or two words each: "3", or
            "3 jackson"; () for a network without labels. Not together with a mel.
        clip_samples: length of the training clips in samples, what is generated unless told otherwise; 0 when unknown.
        signal_std: above 0, the network's output F is not eps but what a line cannot say of it, for audio of this
            standard deviation: eps = p x + q F, see `preconditioning`. 0 is the paper's network, whose output is eps.
        int8_ranges: one for every residual layer, the largest |x| that its input keeps where precision is "int8"; 0
            where only the conditioner is made with bytes, as always in the first layer. () for a network that has
            not been calibrated (`engine.calibration`).
        int8_mel_range: beside them, where there is a mel, the largest |value| that the upsampled mel keeps.
        int8_conditioner_ranges: and the largest |value| that the projected mel keeps, for every residual layer and
            each of its 2C channels in turn.
        guidance: above 0, a network with classes has also learnt to be without a label, and this is how far `generate`
            goes from there towards the label unless told otherwise (`engine.sampling.guidance`), 1 for the label alone. 0 for a
            network that has not, and for one without classes.
    """

    residual_channels: int = 64
    residual_layers: int = 30
    dilation_cycle: int = 10
    n_mels: int = 80
    upsample_strides: tuple[int, ...] = (16, 16)
    sample_rate: int = 22050
    mel_kind: str | None = "lmnt"
    train_schedule: tuple[float, ...] = linear_schedule(1e-4, 0.05, 50)
    fast_schedule: tuple[float, ...] | None = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
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
    int8_ranges: tuple[float, ...] = ()
    int8_mel_range: float = 0.0
    int8_conditioner_ranges: tuple[float, ...] = ()
    guidance: float = 0.0
    energy_min: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("residual_channels", 16, 1024),
            ("residual_layers", 1, 256),
            ("dilation_cycle", 1, 16),
            ("n_mels", 0, 1024),
            ("sample_rate", 1000, 384000),
            ("clip_samples", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise _refusal(name, f"an integer from {low} to {high}", value)
        if self.residual_channels % 16:
            raise _refusal("residual_channels", "a multiple of 16", self.residual_channels)
        strides = self.upsample_strides
        strides_ok = type(strides) is tuple and all(type(s) is int and 2 <= s <= 64 and s % 2 == 0 for s in strides)
        if not strides_ok or bool(strides) != bool(self.n_mels) or self.hop > 8192:
            expected = "a tuple of even strides from 2 to 64 with a product of at most 8192"
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
        least = self.energy_min
        if not isinstance(least, float) or not 0.0 <= least < 4.0 or (least and not self.prior):
            raise _refusal("energy_min", "a float from 0 to below 4, and 0 without prior", least)
        if not _are_classes(self.classes):
            expected = f"a tuple of up to {MAX_CLASSES} different names, each one or two printable words"
            raise _refusal("classes", f"{expected} of at most {MAX_CLASS_NAME} characters", self.classes)
        if self.classes and self.n_mels:
            raise _refusal("classes", "none in a network with a mel (both together are not built)", self.classes)
        for name in ("train_schedule", "fast_schedule"):
            betas = getattr(self, name)
            if betas is None and name == "fast_schedule":
                continue
            if (
                type(betas) is not tuple
                or not 1 <= len(betas) <= 10000
                or not all(isinstance(b, float) and 0.0 < b < 1.0 for b in betas)
            ):
                raise _refusal(name, "a tuple of 1 to 10000 floats between 0 and 1", betas)

    def _check_ranges(self) -> None:
        for name in ("int8_ranges", "int8_conditioner_ranges"):
            ranges = getattr(self, name)
            if type(ranges) is not tuple or not all(isinstance(r, float) and 0.0 <= r <= 1e6 for r in ranges):
                raise _refusal(name, "a tuple of floats from 0 to 1e6", ranges)
        if self.int8_ranges and (len(self.int8_ranges) != self.residual_layers or self.int8_ranges[0]):
            raise _refusal("int8_ranges", "one float per residual layer, 0 for the first, or none", self.int8_ranges)
        if not isinstance(self.int8_mel_range, float) or not 0.0 <= self.int8_mel_range <= 1e6:
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
        """Rows of the labels' embedding: the classes and, where `guidance` says so, a last one for "no label"."""
        return len(self.classes) + (bool(self.classes) and self.guidance > 0.0)

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every residual layer (paper, section 3.1)."""
        return tuple(2 ** (i % self.dilation_cycle) for i in range(self.residual_layers))

    @property
    def mel_reach(self) -> int:
        """Samples by which the mel's upsampler looks ahead: 136 for 16 x 16."""
        reach = 0
        for stride in self.upsample_strides:
            reach = reach * stride + stride // 2
        return reach

    def look_ahead(self, steps: int) -> int:
        """Samples that must be known after a sample before so many steps can give its audio, itself included."""
        return steps * self.reach + self.mel_reach + 1

    @property
    def reach(self) -> int:
        """Samples of context that one denoising step needs on each side: the sum of the dilations."""
        return sum(self.dilations)

    def alpha_bar(self, t: float) -> float:
        """At a step of the training scale; between two steps, its root lies on the line between theirs.

        Raises:
            InputError: t is not from 0 to T-1.
        """
        if not 0 <= t <= len(self.train_schedule) - 1:
            raise InputError(f"t: expected a step from 0 to {len(self.train_schedule) - 1}, got {t!r}")
        low, share = int(t), t - int(t)
        roots = [math.sqrt(math.prod(1.0 - beta for beta in self.train_schedule[: n + 1])) for n in (low, low + 1)]
        return ((1.0 - share) * roots[0] + share * roots[1]) ** 2

    def preconditioning(self, alpha_bar: float) -> tuple[float, float]:
        """(p, q) of eps = p x + q F at a level of noise, F the network's output; (0, 1) for the paper's networks.

        p x is the best guess at eps from a sample alone, for audio of variance s^2 = signal_std^2, and q the deviation
        of what it misses, so that F has variance 1 at every level (Karras et al., NeurIPS 2022, appendix B.6)::

            v = alpha_bar s^2 + 1 - alpha_bar,  p = sqrt(1 - alpha_bar) / v,  q = sqrt(alpha_bar s^2 / v)
        """
        if not self.signal_std:
            return 0.0, 1.0
        signal = alpha_bar * self.signal_std**2
        variance = signal + 1.0 - alpha_bar
        return math.sqrt(1.0 - alpha_bar) / variance, math.sqrt(signal / variance)

    def to_json(self) -> str:
        """The configuration as the text kept in a safetensors file's metadata."""
        values = asdict(self)
        for name in _LATER:  # files of networks without these stay as they always were
            if values[name] == _LATER[name]:
                del values[name]
        return json.dumps(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Read what `asdict` gives, or lists for its tuples; CheckpointError for unknown or missing keys."""
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values) - set(_LATER))
        if unknown or missing:
            raise CheckpointError(f"config: unknown keys {unknown!r:.80}, missing keys {missing}")
        tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**tuples)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read what `to_json` gives; anything else raises CheckpointError."""
        return cls.from_dict(plain_values(parse_object(text)))


def _are_classes(names: object) -> bool:
    if type(names) is not tuple or len(names) > MAX_CLASSES or not all(type(name) is str for name in names):
        return False
    fit = (len(name) <= MAX_CLASS_NAME and name.isprintable() and _is_one_or_two_words(name) for name in names)
    return all(fit) and len(set(names)) == len(names)


def _is_one_or_two_words(name: str) -> bool:
    words = name.split()
    return len(words) in (1, 2) and name == " ".join(words)


def _refusal(name: str, expected: str, got: object) -> CheckpointError:
    return CheckpointError(f"config {name}: expected {expected}, got {got!r:.80}")


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a text is; CheckpointError when it is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"config: expected JSON, got {error!s:.80}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"config: expected a JSON object, got a {type(values).__name__}")
    return values


def plain_values(values: dict[Any, Any]) -> dict[str, Any]:
    """Of a foreign dict, the entries that a hyper-parameter can be: scalars, strings, flat lists of them.

    The rest is dropped: comparing or printing nested, self-referring or 10,000-digit values can itself fail.
    """
    return {k: v for k, v in values.items() if isinstance(k, str) and _is_plain(v)}


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
    fast_schedule=(1e-4, 1e-3, 0.01, 0.05, 0.2, 0.7),
)
# Of sounds from nothing: one second of a spoken digit (section 5.2). With labels, replace(SC09, classes=...).
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
