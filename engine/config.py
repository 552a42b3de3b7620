"""What a DiffWave network is: sizes, rates and schedules. Everything that is not a weight."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from engine.errors import CheckpointError

MEL_KINDS = ("lmnt", "tacotron", "hifigan", "speechbrain")


def _linspace(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(first + (last - first) * n / (count - 1) for n in range(count))


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
    """

    residual_channels: int = 64
    residual_layers: int = 30
    dilation_cycle: int = 10
    n_mels: int = 80
    upsample_strides: tuple[int, ...] = (16, 16)
    sample_rate: int = 22050
    mel_kind: str | None = "lmnt"
    train_schedule: tuple[float, ...] = _linspace(1e-4, 0.05, 50)
    fast_schedule: tuple[float, ...] | None = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("residual_channels", 16, 1024),
            ("residual_layers", 1, 256),
            ("dilation_cycle", 1, 16),
            ("n_mels", 0, 1024),
            ("sample_rate", 1000, 384000),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise CheckpointError(f"config {name}: expected an integer from {low} to {high}, got {value!r}")
        if self.residual_channels % 16:
            raise CheckpointError(f"config residual_channels: expected a multiple of 16, got {self.residual_channels}")
        strides_ok = all(type(s) is int and 2 <= s <= 64 and s % 2 == 0 for s in self.upsample_strides)
        if not strides_ok or bool(self.upsample_strides) != bool(self.n_mels) or self.hop > 8192:
            raise CheckpointError(
                f"config upsample_strides: expected even strides from 2 to 64 with a product of at most 8192 "
                f"(none for an unconditional network), got {self.upsample_strides!r}"
            )
        if self.mel_kind is not None and self.mel_kind not in MEL_KINDS:
            raise CheckpointError(f"config mel_kind: expected one of {', '.join(MEL_KINDS)}, got {self.mel_kind!r}")
        for name in ("train_schedule", "fast_schedule"):
            betas = getattr(self, name)
            if betas is None and name == "fast_schedule":
                continue
            if not 1 <= len(betas) <= 10000 or not all(
                isinstance(b, float) and math.isfinite(b) and 0.0 < b < 1.0 for b in betas
            ):
                raise CheckpointError(f"config {name}: expected 1 to 10000 betas between 0 and 1, got {betas!r:.80}")

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_strides)

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every residual layer (paper, section 3.1)."""
        return tuple(2 ** (i % self.dilation_cycle) for i in range(self.residual_layers))

    @property
    def reach(self) -> int:
        """Samples of context that one denoising step needs on each side: the sum of the dilations."""
        return sum(self.dilations)

    def to_json(self) -> str:
        """The configuration as the text kept in a safetensors file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Read a configuration written by `to_json`; unknown or missing keys raise CheckpointError."""
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values))
        if unknown or missing:
            raise CheckpointError(f"config: expected exactly {sorted(known)}, got unknown {unknown}, missing {missing}")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for name in ("train_schedule", "fast_schedule", "upsample_strides"):
            if not isinstance(values[name], tuple) and not (name == "fast_schedule" and values[name] is None):
                raise CheckpointError(f"config {name}: expected a list, got {values[name]!r:.80}")
        return cls(**values)


BASE = Config()
LARGE = Config(
    residual_channels=128,
    train_schedule=_linspace(1e-4, 0.02, 200),
    fast_schedule=(1e-4, 1e-3, 0.01, 0.05, 0.2, 0.7),
)
