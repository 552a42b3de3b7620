"""One request of HTTP from its headers to its measurements, whatever its route computes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from engine.serving.bodies import Gone, media_type
from engine.serving.problems import Problem, problem_of
from engine.serving.service import LOG, Service, busy_problem, request_id
from engine.serving.slots import Busy
from engine.serving.work import settled, within

CLIENT_GONE = 499  # the status that logs and measurements give a client that left
POST = "POST"


class Call:
    """One request: its options, its times and its answer.

    Attributes:
        service: the service.
        request: its headers and query.
        id: names it in the answer and in the log.
        kind: the media type of its body.
        audio_seconds: of the audio sent so far.
        status: of the answer; 0 before its head.
        is_complete: whether the last part of the answer was sent, or is about to be.
    """

    def __init__(self, service: Service, request: Request, send: Send) -> None:
        self.service = service
        self.request = request
        self.id = request_id(request.headers)
        self.kind = media_type(request.headers.get("content-type"))
        self.audio_seconds = 0.0
        self.status = 0
        self.is_complete = False
        self._send = send
        self._begin = time.perf_counter()
        self._times: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._begin

    @property
    def is_started(self) -> bool:
        """Whether the head of the answer was sent."""
        return self.status > 0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure the block for the header Server-Timing.

        Args:
            name: of the measurement.
        """
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._times[name] = self._times.get(name, 0.0) + time.perf_counter() - begin

    def first_audio(self) -> None:
        """Record that the first audio is there."""
        if "first" not in self._times:
            self._times["first"] = self.seconds
            self.service.metrics.first_audio.add(self.seconds)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for the block, for at most the time that a call may work.

        Raises:
            Problem: the queue is full, or the time is over.
        """
        limit = self.service.limits.work_seconds
        place, begin = self.service.slots.place(), time.perf_counter()
        try:
            await place.__aenter__()
        except Busy as busy:
            raise busy_problem(busy) from None
        self._times["queue"] = time.perf_counter() - begin
        begin = time.perf_counter()
        task = asyncio.current_task()
        assert task is not None
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        timer = asyncio.get_running_loop().call_later(limit, expire)
        try:
            yield
        except asyncio.CancelledError:
            if expired:
                raise Problem(503, f"the call took longer than {limit:g} s; send less at a time") from None
            raise
        finally:
            timer.cancel()
            self._times["work"] = time.perf_counter() - begin
            self.service.metrics.add_work(self.audio_seconds, self._times["work"])
            await place.__aexit__(None, None, None)

    async def start(self, headers: Mapping[str, str], length: int | None = None, status: int = 200) -> None:
        """Send the head of the answer.

        Args:
            headers: of the answer.
            length: of its body in bytes; None sends it in chunks.
            status: of the answer.
        """
        self.status = status
        times = ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in self._times.items())
        own = {"X-Request-Id": self.id, "Server-Timing": times, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if length is not None:
            own["Content-Length"] = str(length)
        pairs = [
            (name.lower().encode(), value.encode("latin-1")) for name, value in {**own, **headers}.items() if value
        ]
        await self._deliver({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes, more: bool) -> None:
        """Send a part of the body.

        Args:
            data: the bytes.
            more: whether another part follows.

        Raises:
            Gone: the client does not read.
        """
        self.is_complete = not more
        await self._deliver({"type": "http.response.body", "body": data, "more_body": more})

    async def refuse(self, problem: Problem) -> None:
        """Send a problem as the answer.

        Args:
            problem: what is wrong.
        """
        self.status = problem.status
        response = problem.response(self.id)
        response.headers["X-Request-Id"] = self.id
        await response(self.request.scope, self.request.receive, self._deliver)

    async def _deliver(self, message: Message) -> None:
        try:
            await within(self.service.limits.stall_seconds, self._send(message))
        except (asyncio.TimeoutError, OSError):
            raise Gone from None

    def record(self, route: str, status: int, note: str = "") -> None:
        """Write the line of the log, and count the request.

        Args:
            route: its path.
            status: of the answer.
            note: ends the line.
        """
        self.service.metrics.count(route, status, self.seconds)
        audio = f", {self.audio_seconds:.2f} s of audio" if self.audio_seconds else ""
        LOG.info("%s %s %d in %.3f s%s%s", self.id, route, status, self.seconds, audio, note)


Answer = Callable[[Call, bytes], Awaitable[None]]


class Endpoint:
    """A route that takes a body and holds a slot, as an ASGI application.

    It owns `receive`, because only that tells when the client leaves: its answer is cancelled then.

    Args:
        service: the service.
        route: its path.
        answer: computes and sends the answer.
    """

    def __init__(self, service: Service, route: str, answer: Answer) -> None:
        self._service = service
        self._route = route
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
        """
        call = Call(self._service, Request(scope, receive), send)
        try:
            self._service.authorize(call.request.headers)
            self._service.admit()
            _check_encoding(call.request.headers.get("content-encoding", ""))
            claimed = call.request.headers.get("content-length")
            async with self._service.bodies.read(receive, call.kind, claimed) as body:
                await self._unless_gone(call, body, receive)
        except Gone:
            call.record(self._route, CLIENT_GONE, ", the client left")
        except asyncio.CancelledError:
            call.record(self._route, CLIENT_GONE, ", cancelled")
            raise
        except Exception as error:
            await self._fail(call, error)
        else:
            call.record(self._route, call.status)

    async def _unless_gone(self, call: Call, body: bytes, receive: Receive) -> None:
        """Run the answer, and cancel it when the client leaves."""
        answer = asyncio.ensure_future(self._answer(call, body))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not call.is_complete:  # a complete answer looks like a client that left
                raise Gone
            await answer
        finally:
            gone.cancel()
            if not answer.done():
                answer.cancel()
                await settled(answer)

    async def _fail(self, call: Call, error: Exception) -> None:
        problem = problem_of(error)
        if problem.status == 500:
            LOG.error("%s %s failed", call.id, self._route, exc_info=error)
        if call.is_started:  # too late for a status: the missing end of the body says it
            call.record(self._route, problem.status, f", broken off: {problem.detail}")
            raise ConnectionAbortedError(problem.detail)
        try:
            await call.refuse(problem)
        except Gone:
            call.record(self._route, CLIENT_GONE, ", the client left")
        else:
            call.record(self._route, problem.status, f": {problem.detail}")


def _check_encoding(header: str) -> None:
    if header.strip().lower() not in ("", "identity"):
        text = f"Content-Encoding: expected a body that is not compressed, got {header!r:.40}"
        raise Problem(415, text, {"Accept-Encoding": "identity"})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
