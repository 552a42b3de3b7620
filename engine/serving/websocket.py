"""WS /v1/stream: mel frames in as they are written, audio out as it becomes final.

The client sends, in this order: at most one text message of options, binary messages of frames (float32, little-endian,
[n, bands]), and {"type": "end"}; or {"type": "cancel"} at any time. The service sends {"type": "ready"}, binary
messages of samples, and {"type": "done"}. The slot is taken at the first frame, so that an idle connection holds none.

Close codes: 1000 done or cancelled, 1007 a bad message, 1008 no frame for too long or too much audio, 1013 busy or
about to end, 1011 a failure. A wrong token or origin, and a service without streams, refuse the handshake by HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.errors import Cancelled
from engine.serving import work
from engine.serving.bodies import parse_frames, parse_object
from engine.serving.calls import CLIENT_GONE
from engine.serving.options import STREAM, Options, parse_options
from engine.serving.problems import Problem, problem_of
from engine.serving.service import LOG, SUBPROTOCOL, Service, request_id
from engine.serving.slots import Busy
from engine.voice import Voice

ROUTE = "/v1/stream"
CLOSE_DONE, CLOSE_BAD, CLOSE_POLICY, CLOSE_TOO_BIG, CLOSE_FAILED, CLOSE_BUSY = 1000, 1007, 1008, 1009, 1011, 1013
MAX_REASON = 120  # bytes of the reason of a close frame
MAX_BYTES = 4 << 20  # of a binary message
MAX_TEXT = 4096  # bytes of a text message
HELD_FRAMES = 2048  # frames that wait for the network


class _Closing(Exception):  # noqa: N818
    """The stream ends with a close code."""

    def __init__(self, code: int, reason: str, status: int) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.status = status


class StreamEndpoint:
    """The route, as an ASGI application.

    Args:
        service: the service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
        """
        socket = WebSocket(scope, receive, send)
        name, begin = request_id(socket.headers), time.perf_counter()
        try:
            voice = self._checked(socket)
        except Problem as problem:
            self._record(name, problem.status, begin, f": {problem.detail}")
            try:
                await socket.send_denial_response(problem.response(name))
            except RuntimeError:  # not every server can refuse by HTTP
                await socket.close(CLOSE_POLICY)
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None, [(b"x-request-id", name.encode())])
        stream = _Stream(self._service, voice, socket, begin)
        status, code, reason = 200, CLOSE_DONE, ""
        self._service.streams += 1
        try:
            await stream.run()
        except _Closing as closing:
            status, code, reason = closing.status, closing.code, closing.reason
        except (WebSocketDisconnect, OSError, Cancelled, asyncio.TimeoutError):
            status = CLIENT_GONE
        except asyncio.CancelledError:
            self._record(name, CLIENT_GONE, begin, ", cancelled")
            raise
        except Exception as error:
            shown = problem_of(error)
            status, reason = shown.status, shown.detail
            code = CLOSE_BAD if status == 400 else CLOSE_FAILED
            if status == 500:
                LOG.error("%s %s failed", name, ROUTE, exc_info=error)
        finally:
            self._service.streams -= 1
        self._record(
            name, status, begin, f", {stream.audio_seconds:.2f} s of audio" + (f": {reason}" if reason else "")
        )
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await socket.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))

    def _checked(self, socket: WebSocket) -> Voice:
        self._service.authorize(socket.headers)
        voice = self._service.vocoder(None)
        if self._service.streams >= self._service.limits.connections:
            raise Problem(503, "the service has too many connections now; connect again later", {"Retry-After": "5"})
        if voice.choice.device != "cpu":
            raise Problem(501, "streams run on a CPU, and this service runs on a GPU; use /v1/vocode")
        return voice

    def _record(self, name: str, status: int, begin: float, note: str) -> None:
        seconds = time.perf_counter() - begin
        self._service.metrics.count(ROUTE, status, seconds)
        LOG.info("%s %s %d in %.3f s%s", name, ROUTE, status, seconds, note)


class _Stream:
    """One connection at work."""

    def __init__(self, service: Service, voice: Voice, socket: WebSocket, begin: float) -> None:
        self.audio_seconds = 0.0
        self._service = service
        self._limits = service.limits
        self._voice = voice
        self._socket = socket
        self._begin = begin
        self._cancel = threading.Event()
        self._inbox = work.Inbox(HELD_FRAMES, self._cancel)

    async def run(self) -> None:
        """Read the options and the first frames, take a slot, and stream until the end."""
        options, first = await self._opening()
        if first is None:
            return
        # The reader ends by an exception alone: it sees a client that leaves while the writer waits or works.
        reader = asyncio.ensure_future(self._read(first))
        writer = asyncio.ensure_future(self._work(options))
        try:
            await asyncio.wait({reader, writer}, timeout=self._limits.work_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done() and not writer.done():
                reason = f"expected the stream to end within {self._limits.work_seconds:g} s"
                raise _Closing(CLOSE_POLICY, reason, 408)
            (writer if writer.done() else reader).result()
        finally:
            self._cancel.set()  # the writer may be between its slot and its thread
            for task in (reader, writer):
                task.cancel()
                await work.settled(task)
                if not task.cancelled():
                    task.exception()  # one of both was reported

    async def _opening(self) -> tuple[Options, bytes | None]:
        """Return the options, and the first frames; None for a stream that is cancelled before."""
        values: dict[str, Any] = {}
        message = await self._message()
        if isinstance(message, str):
            values = _parsed(message)
            if values.get("type") == "cancel":
                return Options(), None
            if values.get("type", "options") not in ("options", "end"):
                text = f"type: expected options, end or cancel, got {values['type']!r:.40}"
                raise _Closing(CLOSE_BAD, text, 400)
            if values.get("type") == "end":
                raise _Closing(CLOSE_BAD, "mel: expected at least one frame before the end, got none", 400)
            values.pop("type", None)
        options = parse_options(values, STREAM, self._voice.config, self._service.steps)
        self._voice = self._service.vocoder(options.precision)
        while isinstance(message, str):
            message = await self._message()
            if isinstance(message, str):
                if _parsed(message).get("type") == "cancel":
                    return options, None
                raise _Closing(CLOSE_BAD, "mel: expected frames after the options, got text", 400)
        return options, message

    async def _message(self) -> str | bytes:
        """Return the next message.

        Raises:
            _Closing: none came for too long, or the text is too long.
            WebSocketDisconnect: the client left.
        """
        try:
            message = await work.within(self._limits.idle_seconds, self._socket.receive())
        except asyncio.TimeoutError:
            reason = f"expected a message within {self._limits.idle_seconds:g} s, got none"
            raise _Closing(CLOSE_POLICY, reason, 408) from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text = message.get("text")
        if text is None:
            return bytes(message.get("bytes") or b"")
        if len(text) > MAX_TEXT:
            raise _Closing(CLOSE_BAD, f"text: expected at most {MAX_TEXT} characters, got {len(text)}", 400)
        return str(text)

    async def _add(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise _Closing(CLOSE_TOO_BIG, f"message: expected at most {MAX_BYTES} bytes, got {len(data)}", 413)
        frames = parse_frames(data, self._voice.config.n_mels)
        if not len(frames):
            return
        seconds = (self._inbox.frames + len(frames)) * self._voice.hop / self._voice.sample_rate
        if seconds > self._limits.max_seconds:
            reason = f"expected at most {self._limits.max_seconds:g} s of audio, got more; open another stream"
            raise _Closing(CLOSE_POLICY, reason, 413)
        await self._inbox.put(frames.T)

    async def _read(self, first: bytes) -> None:
        """Pass messages on until the client leaves, which ends as an exception."""
        await self._add(first)
        is_complete = False
        while True:
            if is_complete:
                message = await self._socket.receive()  # the client waits for its audio, for any time
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1006))
                content: str | bytes = message.get("text") or bytes(message.get("bytes") or b"")
            else:
                content = await self._message()
            if isinstance(content, str):
                kind = _parsed(content).get("type")
                if kind == "cancel":
                    raise _Closing(CLOSE_DONE, "cancelled", CLIENT_GONE)
                if kind != "end":
                    raise _Closing(CLOSE_BAD, "text: expected the type end or cancel, got another", 400)
                is_complete = True
                self._inbox.end()
            elif is_complete and content:
                raise _Closing(CLOSE_BAD, "mel: expected no frames after the end, got some", 400)
            else:
                await self._add(content)

    async def _work(self, options: Options) -> None:
        """Hold a slot and send the audio."""
        service, rate = self._service, self._voice.sample_rate
        if service.draining:
            raise _Closing(CLOSE_BUSY, "the service is about to end; connect again", 503)
        run = work.vocode(
            self._voice,
            iter(self._inbox),
            options,
            energy_min=service.energy_min,
            streams=self._limits.slots,
            cancel=self._cancel,
        )
        try:
            async with service.slots.place():
                begin = time.perf_counter()
                try:
                    await self._send_object(
                        {"type": "ready", "sample_rate": rate, "format": options.format, "seed": options.seed}
                    )
                    async with work.running(service.executor, run, self._cancel, self._limits.outbox_bytes) as chunks:
                        async for chunk in chunks:
                            if not self.audio_seconds:
                                service.metrics.first_audio.add(time.perf_counter() - self._begin)
                            await self._deliver(self._socket.send_bytes(chunk))
                            self.audio_seconds += len(chunk) / options.width / rate
                finally:
                    seconds = time.perf_counter() - begin
                    service.metrics.add_work(self.audio_seconds, seconds)
        except Busy as busy:
            raise _Closing(CLOSE_BUSY, f"busy; connect again in {busy.retry_after} s", 429) from None
        await self._send_object(
            {
                "type": "done",
                "done": True,
                "sample_rate": rate,
                "seed": options.seed,
                "samples": round(self.audio_seconds * rate),
                "audio_seconds": self.audio_seconds,
                "work_seconds": seconds,
            }
        )

    async def _send_object(self, content: dict[str, Any]) -> None:
        await self._deliver(self._socket.send_text(json.dumps(content)))

    async def _deliver(self, sending: Any) -> None:
        await work.within(self._limits.stall_seconds, sending)


def _parsed(text: str) -> dict[str, Any]:
    return parse_object(text.encode())
