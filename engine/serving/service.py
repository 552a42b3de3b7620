"""The state of one service: its networks, slots, threads and measurements."""

from __future__ import annotations

import hmac
import logging
import secrets
import string
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from engine.audio.spectrogram import mel_settings
from engine.config import Config
from engine.diffusion.prior import resolve_energy_min
from engine.diffusion.schedule import build_schedule, step_counts
from engine.errors import InputError
from engine.serving.batches import Batcher
from engine.serving.bodies import Bodies
from engine.serving.limits import Limits
from engine.serving.metrics import Metrics
from engine.serving.problems import Problem
from engine.serving.slots import Busy, Slots
from engine.voice import Voice
from engine.voice.draft import DRAFTS, check_name, schedule_of_draft

LOG = logging.getLogger("engine.serving")
TOKEN_LETTERS = frozenset(string.ascii_letters + string.digits + "-._~")  # may stand in a header and a subprotocol
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 256
SUBPROTOCOL, TOKEN_PREFIX = "diffwave.v1", "bearer."
MAX_REQUEST_ID = 64
DRAIN_RETRY = 5  # seconds


class Service:
    """Everything that the routes share. The arguments are those of `engine.serving.app`.

    Attributes:
        voice: the vocoder; None for a service that only generates.
        generator: the network without a mel; None for a service without.
        precisions: voices by precision, that of `voice` included.
        limits: the bounds.
        steps: of a request that names none.
        energy_min: see `Voice.vocode`.
        name: of the voice.
        slots: the calls at work and waiting.
        bodies: the bodies in memory.
        metrics: the measurements.
        executor: the threads of the calls.
        parsers: the threads that parse bodies.
        streams: connections of /v1/stream.
        draining: whether new calls are refused because the service ends.
    """

    def __init__(
        self,
        voice: Voice,
        *,
        generator: Voice | None,
        precisions: Mapping[str, Voice],
        limits: Limits,
        steps: int | str,
        energy_min: float | None,
        token: str | None,
        name: str,
    ) -> None:
        if generator is not None and generator.config.n_mels:
            raise InputError("generator: expected a network without a mel, got one that takes a mel")
        if not voice.config.n_mels:
            if generator is not None:
                raise InputError("generator: expected None beside a voice without a mel, got a network")
            generator = voice
        self.voice = voice if voice.config.n_mels else None
        self.generator = generator
        self.precisions = {voice.choice.precision: voice, **precisions}
        for precision, other in self.precisions.items():
            if other.config.n_mels != voice.config.n_mels or other.config.hop != voice.config.hop:
                raise InputError(f"precisions[{precision!r}]: expected the network of the voice, got another")
        self.limits = limits
        build_schedule(voice.config, steps)
        self.steps = steps
        self.energy_min = _checked_energy_min(voice.config, energy_min)
        self._token = check_token(token)
        self.name = name
        self.slots = Slots(limits.slots, limits.queue)
        self.bodies = Bodies(limits)
        self.metrics = Metrics()
        self.executor = ThreadPoolExecutor(limits.slots, "serving")
        self.parsers = ThreadPoolExecutor(2, "serving-parser")
        self.streams = 0
        self.draining = False
        self.batchers = {
            precision: Batcher(other, ThreadPoolExecutor(1, "serving-batch"), energy_min=self.energy_min)
            for precision, other in self.precisions.items()
            if other.choice.device != "cpu"
        }

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token."""
        return self._token is not None

    def authorize(self, headers: Headers) -> None:
        """Check the origin and the token of a request.

        Args:
            headers: of the request. A browser cannot add a header to a WebSocket, so a subprotocol is taken there.

        Raises:
            Problem: the request comes from the page of another site, or its token is missing or wrong.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Problem(403, f"Origin: expected that of this service, {host!r:.80}, got {origin!r:.80}")
        if self._token is None:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            offered = [value.strip() for value in headers.get("sec-websocket-protocol", "").split(",")]
            token = next((value[len(TOKEN_PREFIX) :] for value in offered if value.startswith(TOKEN_PREFIX)), "")
        if not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            raise Problem(401, "Authorization: expected 'Bearer TOKEN' with the token of this service", _CHALLENGE)

    def admit(self) -> None:
        """Check that a call can be taken, before its body is read.

        Raises:
            Problem: the service ends, or its queue is full.
        """
        if self.draining:
            raise Problem(503, "the service is about to end; send it again", {"Retry-After": str(DRAIN_RETRY)})
        try:
            self.slots.check()
        except Busy as busy:
            raise busy_problem(busy) from None

    def vocoder(self, precision: str | None) -> Voice:
        """Return the voice of a request.

        Args:
            precision: None for the service's own.

        Raises:
            Problem: there is no vocoder.
            InputError: there is none of that precision.
        """
        if self.voice is None:
            raise Problem(501, "this service has no network that takes a mel; use /v1/generate")
        if precision is None or precision == "auto":
            return self.voice
        if precision not in self.precisions:
            raise InputError(f"precision: expected one of {', '.join(self.precisions)}, got {precision!r:.40}")
        return self.precisions[precision]

    def models(self) -> dict[str, Any]:
        """Return the networks as a JSON object."""
        listed = []
        if self.voice is not None:
            config = self.voice.config
            listed.append(
                {
                    **self._described(self.name, self.voice),
                    "kind": "vocoder",
                    "mel": {"bands": config.n_mels, "kind": config.mel_kind, "hop": config.hop},
                    "precisions": list(self.precisions),
                    "recordings": _takes_recordings(config),
                    "griffin_lim": config.mel_kind == "lmnt" and _takes_recordings(config),
                    "drafts": (drafts := _drafts(config)),
                    "draft_steps": len(schedule_of_draft(config, "fast")) if drafts else 0,
                    "streams": self.voice.choice.device == "cpu",
                }
            )
        if self.generator is not None:
            config = self.generator.config
            listed.append(
                {
                    **self._described("generator" if self.voice else self.name, self.generator),
                    "kind": "generator",
                    "classes": list(config.classes),
                    "labels": list(dict.fromkeys(name.split()[0] for name in config.classes)),
                    "clip_seconds": config.clip_samples / config.sample_rate if config.clip_samples else None,
                }
            )
        return {
            "models": listed,
            "limits": {
                "max_seconds": self.limits.max_seconds,
                "griffin_lim_seconds": self.limits.baseline_seconds,
                "body_bytes": self.limits.body_bytes,
            },
            "steps": self.steps,
        }

    def close(self) -> None:
        """Let the threads end when their work has ended."""
        for executor in (self.executor, self.parsers):
            executor.shutdown(wait=False)

    def _described(self, name: str, voice: Voice) -> dict[str, Any]:
        return {
            "id": name,
            "sample_rate": voice.sample_rate,
            "steps": [*step_counts(voice.config)],
            "device": voice.choice.device,
            "precision": voice.choice.precision,
            "threads": max(1, voice.threads // self.limits.slots) if voice is not self.generator else voice.threads,
        }


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="diffwave"'}


def busy_problem(busy: Busy) -> Problem:
    """Return the problem of a full queue.

    Args:
        busy: says when a slot is likely to be free.
    """
    return Problem(
        429,
        f"all slots are taken and the queue is full; send it again in {busy.retry_after} s or to another machine",
        {"Retry-After": str(busy.retry_after)},
    )


def request_id(headers: Headers) -> str:
    """Return the id of a request: the header X-Request-Id, if it is a short word, else a new one.

    Args:
        headers: of the request.
    """
    given = headers.get("x-request-id", "")
    return given if 0 < len(given) <= MAX_REQUEST_ID and TOKEN_LETTERS.issuperset(given) else secrets.token_hex(8)


def check_token(token: str | None) -> str | None:
    """Return a token that is long enough, and that a header and a subprotocol can hold.

    Args:
        token: the token; None for none.

    Raises:
        InputError: it is too short or too long, or has another character.
    """
    if token is None:
        return None
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not TOKEN_LETTERS.issuperset(token):
        raise InputError(
            f"token: expected {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits and -._~, got {len(token)} "
            "characters or others; for example that of 'python -c \"import secrets; print(secrets.token_urlsafe())\"'"
        )
    return token


def _checked_energy_min(config: Config, energy_min: float | None) -> float | None:
    resolved = resolve_energy_min(config, energy_min)
    if config.prior and resolved is None:
        raise InputError("energy_min: a PriorGrad network needs the smallest frame energy of its training data")
    return energy_min


def _drafts(config: Config) -> list[str]:
    try:
        schedule_of_draft(config, None)
        for draft in DRAFTS:
            check_name(draft, config)
    except InputError:
        return []
    return list(DRAFTS)


def _takes_recordings(config: Config) -> bool:
    try:
        mel_settings(config)
    except InputError:
        return False
    return True
