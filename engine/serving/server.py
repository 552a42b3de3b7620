"""The server behind `engine serve`: uvicorn with bounded waiting for headers, and an end that loses no call."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.errors import InputError
from engine.serving.service import Service
from engine.serving.websocket import MAX_BYTES

HEADER_SECONDS = 10.0  # for the headers of a request, and for the rest of a body after its answer
MAX_HEADERS = 32 << 10  # bytes
# Bytes of a WebSocket message that break the connection off. The service refuses those above its own limit, with a
# reason, once they have arrived.
MAX_MESSAGE = 2 * MAX_BYTES
TICK = 0.05  # seconds


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections whose headers do not arrive; uvicorn itself waits for them for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers.

        Args:
            transport: of the connection.
        """
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on.

        Args:
            data: the bytes.
        """
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer.

        Args:
            exc: why the connection ended.
        """
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits_for_headers = self.conn.their_state is h11.IDLE
        rest_of_body = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if not waits_for_headers and not rest_of_body:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not is_answering and self.transport.get_protocol() is self:
            self.transport.close()


class Server(uvicorn.Server):
    """A server that finishes the calls it took before it ends, and then ends with success.

    Args:
        config: of uvicorn.
        service: the service behind it.
        started: called with the port when connections are taken.
    """

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[int], None]) -> None:
        super().__init__(config)
        self._service = service
        self._report_start = started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second Ctrl-C ends at once.

        Args:
            sig: the number of the signal.
            frame: where it came.
        """
        self._service.draining = True
        self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and report the port.

        Args:
            sockets: to listen on.
        """
        await super().startup(sockets)
        if self.started and sockets:
            self._report_start(sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new calls, finish those that were taken, and close all connections.

        uvicorn itself would close the WebSockets first.

        Args:
            sockets: that it listens on.
        """
        self._service.draining = True
        deadline = asyncio.get_running_loop().time() + self._service.limits.grace_seconds
        while not self._service.slots.is_idle and not self.force_exit:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(TICK)
        rest = deadline - asyncio.get_running_loop().time()  # for bodies that are still on their way
        self.config.timeout_graceful_shutdown = max(1, int(rest))
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 takes a free one.

    Args:
        host: a name or an address.
        port: its number.

    Raises:
        InputError: the address is not to be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise InputError(f"port: cannot listen on {host}:{port}: {error.strerror or error}") from None
    return bound


def serve(
    application: Starlette,
    listening: socket.socket,
    *,
    started: Callable[[int], None],
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> None:
    """Serve an application of `engine.serving.app` until SIGTERM or Ctrl-C.

    Args:
        application: the application.
        listening: a bound socket.
        started: called with the port when connections are taken.
        tls_cert: a file of certificates in PEM, for HTTPS.
        tls_key: the file of its private key.

    Raises:
        InputError: the certificate or the key cannot be read.
    """
    service: Service = application.state.service
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the service logs its failures itself
    options: dict[str, Any] = {
        "loop": "asyncio",  # uvloop, where it is installed, was not tested
        "http": TimedProtocol,
        "ws": "websockets-sansio",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "ws_max_size": MAX_MESSAGE,
        "ws_per_message_deflate": False,
        "h11_max_incomplete_event_size": MAX_HEADERS,
        "limit_concurrency": service.limits.connections,
        "proxy_headers": False,
        "ssl_certfile": tls_cert,
        "ssl_keyfile": tls_key,
    }
    config = uvicorn.Config(application, **options)
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise InputError(f"tls_cert: cannot use {tls_cert!r} and {tls_key!r}: {error}") from None
    Server(config, service, started).run([listening])
