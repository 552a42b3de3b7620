"""The bounds of the service: calls at work and waiting, lengths, sizes and times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.checks.arguments import check_count
from engine.errors import InputError

MAX_SLOTS, MAX_QUEUE, MAX_SECONDS = 1024, 100_000, 86_400.0


@dataclass(frozen=True)
class Limits:
    """The bounds of one service.

    Attributes:
        slots: calls at work at once. On a CPU they share the threads of the voice.
        queue: calls that wait for a slot; one more gets status 429.
        max_seconds: seconds of audio per request or stream.
        connections: open at once; one more gets status 503.
        body_bytes: of one request.
        json_bytes: of one request in JSON, whose parser needs a multiple of it.
        total_body_bytes: of all bodies in memory at once.
        body_seconds: until a body has arrived.
        stall_seconds: without progress of a client that reads its answer.
        idle_seconds: without a frame from the client of a stream.
        work_seconds: of one call.
        grace_seconds: from SIGTERM until unfinished calls are cancelled.
        outbox_bytes: of audio that waits for a slow reader.
        baseline_seconds: seconds of audio of Griffin-Lim, a draft included, which needs a multiple of the memory.
    """

    slots: int = 1
    queue: int = 8
    max_seconds: float = 120.0
    connections: int = 512
    body_bytes: int = 32 << 20
    json_bytes: int = 16 << 20
    total_body_bytes: int = 256 << 20
    body_seconds: float = 30.0
    stall_seconds: float = 30.0
    idle_seconds: float = 60.0
    work_seconds: float = 600.0
    grace_seconds: float = 30.0
    outbox_bytes: int = 1 << 18
    baseline_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_count(self.slots, "slots", MAX_SLOTS)
        if not isinstance(self.queue, int) or isinstance(self.queue, bool) or not 0 <= self.queue <= MAX_QUEUE:
            raise InputError(f"queue: expected an integer from 0 to {MAX_QUEUE}, got {self.queue!r:.80}")
        for name in ("connections", "body_bytes", "json_bytes", "total_body_bytes", "outbox_bytes"):
            check_count(getattr(self, name), name, 1 << 40)
        for name in ("body", "stall", "idle", "work", "grace", "baseline", "max"):
            name = f"{name}_seconds" if name != "max" else "max_seconds"
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 < value <= MAX_SECONDS:
                raise InputError(f"{name}: expected a number above 0 to {MAX_SECONDS:g}, got {value!r:.80}")
