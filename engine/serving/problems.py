"""Errors of the service as problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from engine.errors import Cancelled, InputError, UnavailableError

MAX_DETAIL = 600  # characters


class Problem(Exception):  # noqa: N818
    """An error that the client can see.

    Attributes:
        status: of the HTTP response.
        detail: one sentence, of the form "argument: expected X, got Y; remedy".
        headers: further headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail[:MAX_DETAIL]
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """Return the response.

        Args:
            request_id: is named in it.
        """
        title = HTTPStatus(self.status).phrase
        content = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        content["instance"] = f"urn:request:{request_id}"
        return Response(
            json.dumps(content), self.status, {**self.headers, "Cache-Control": "no-store"}, "application/problem+json"
        )


def problem_of(error: BaseException) -> Problem:
    """Return the problem that an exception of the engine is for a client.

    An exception that no client can cause has no details in the answer; the log has them.

    Args:
        error: the exception.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, InputError):
        return Problem(400, str(error))
    if isinstance(error, UnavailableError):
        return Problem(501, str(error))
    if isinstance(error, Cancelled):
        return Problem(503, "the service ended the call before it was complete; send it again", {"Retry-After": "5"})
    if isinstance(error, MemoryError):
        return Problem(503, "the service has too little memory for the call now; send it again later")
    return Problem(500, "the service failed; its log has the details under the id of this request")
