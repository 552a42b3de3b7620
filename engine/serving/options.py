"""Options of a request: parsed from text or JSON, and checked before the request waits for a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.audio.pcm import pcm16
from engine.checks.arguments import check_seed
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError
from engine.voice.draft import DRAFTS, check_draft_of_stream, check_name, schedule_of_draft
from engine.voice.matching import check_match

VOCODE = ("seed", "steps", "draft", "match_mel", "precision", "format", "stream")
STREAM = ("type", "seed", "steps", "draft", "match_mel", "precision", "format")
GENERATE = ("seed", "steps", "label", "guidance", "temperature", "seconds", "format")
FORMATS = {"s16": 2, "f32": 4}  # bytes of a sample


@dataclass(frozen=True)
class Options:
    """The checked options of one request.

    Attributes:
        seed: of the noise.
        steps: "fast", "full" or a number; None, beside a draft alone, for as many as suit it.
        draft: the name of a draft (`engine.voice.draft.DRAFTS`), or None to begin from noise.
        match_mel: the largest gain of a band towards the mel, or None for audio as the network computes it.
        precision: of the voice; None for that of the service.
        format: of PCM samples, a key of `FORMATS`.
        stream: whether the audio is sent as it becomes final.
        label: of a generated sound.
        guidance: of a generated sound.
        temperature: of a generated sound.
        seconds: of a generated sound.
    """

    seed: int = 0
    steps: int | str | None = "fast"
    draft: str | None = None
    match_mel: float | None = None
    precision: str | None = None
    format: str = "s16"
    stream: bool = False
    label: int | str | None = None
    guidance: float | None = None
    temperature: float | None = None
    seconds: float | None = None

    def encode(self, samples: FloatArray) -> bytes:
        """Return samples in the format of the request, little-endian.

        Args:
            samples: float32 [n].
        """
        return samples.astype("<f4").tobytes() if self.format == "f32" else pcm16(samples).tobytes()

    @property
    def width(self) -> int:
        """Bytes of a sample."""
        return FORMATS[self.format]


def parse_options(
    values: Mapping[str, Any], names: tuple[str, ...], config: Config, default_steps: int | str
) -> Options:
    """Return the options of a request.

    Args:
        values: text from the query, or values of JSON.
        names: the options that the route has.
        config: of the network.
        default_steps: the steps of a request without, and without a draft.

    Raises:
        InputError: an option is unknown or has an impossible value.
    """
    for name in values:
        if name not in names:
            raise InputError(f"{name:.40}: expected one of the options {', '.join(names)}, got another")
    seed = _integer(values.get("seed", 0), "seed")
    draft = values.get("draft")
    steps = values.get("steps", default_steps if draft is None else None)
    if steps not in ("fast", "full", None) or ("steps" in values and steps is None):
        steps = _integer(steps, "steps")
    stream = values.get("stream", False)
    if stream not in ("0", "1", "true", "false", True, False):
        raise InputError(f"stream: expected 0 or 1, got {stream!r:.40}")
    if draft is None:
        build_schedule(config, steps)
    else:
        schedule_of_draft(config, steps)
        if names is STREAM or stream in ("1", "true", True):
            check_draft_of_stream(draft, config)
        if draft not in DRAFTS:
            raise InputError(f"draft: expected {' or '.join(map(repr, DRAFTS))}, got {draft!r:.40}")
        check_name(draft, config)
    precision, label = values.get("precision"), values.get("label")
    if precision is not None and not isinstance(precision, str):
        raise InputError(f"precision: expected a name, got {precision!r:.40}")
    if label is not None and (isinstance(label, bool) or not isinstance(label, (int, str))):
        raise InputError(f"label: expected a number or a name, got {label!r:.40}")
    form = values.get("format", "s16")
    if form not in FORMATS:
        raise InputError(f"format: expected one of {', '.join(FORMATS)}, got {form!r:.40}")
    return Options(
        seed=check_seed(seed, 1)[0],
        steps=steps,
        draft=draft,
        match_mel=check_match(_gain(values.get("match_mel")), config),
        precision=precision,
        format=form,
        stream=stream in ("1", "true", True),
        label=label,
        guidance=_number(values.get("guidance"), "guidance"),
        temperature=_number(values.get("temperature"), "temperature"),
        seconds=_number(values.get("seconds"), "seconds"),
    )


def _integer(value: Any, name: str) -> int:
    if isinstance(value, str) and len(value) <= 24:
        try:
            return int(value)
        except ValueError:
            pass
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name}: expected an integer, got {value!r:.40}")
    return value


def _gain(value: Any) -> Any:
    """Return the number of a text, "inf" included; other values as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    except (OverflowError, ValueError):
        number = None
    if number is None or not np.isfinite(number):
        raise InputError(f"{name}: expected a finite number, got {value!r:.40}")
    return number
