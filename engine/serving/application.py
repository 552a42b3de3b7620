"""The routes of the service, as an application of Starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from engine.serving import endpoints, pages
from engine.serving.calls import POST, Endpoint
from engine.serving.metrics import CONTENT_TYPE
from engine.serving.openapi import description
from engine.serving.problems import Problem, problem_of
from engine.serving.service import DRAIN_RETRY, LOG, Service, request_id
from engine.serving.websocket import ROUTE, StreamEndpoint

ANSWERS = {
    "/v1/vocode": endpoints.vocode,
    "/v1/generate": endpoints.generate,
    "/v1/mel": endpoints.analyze,
    "/v1/griffin-lim": endpoints.invert,
}


def build(service: Service) -> Starlette:
    """Return the application of a service; its `state.service` is the service.

    Args:
        service: the state behind the routes.
    """

    async def models(request: Request) -> Response:
        service.authorize(request.headers)
        return JSONResponse(service.models(), headers={"Cache-Control": "no-store"})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        if service.draining:
            return PlainTextResponse("ending\n", 503, {"Retry-After": str(DRAIN_RETRY)})
        return PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        service.authorize(request.headers)
        slots = service.slots
        text = service.metrics.text(working=slots.working, waiting=slots.waiting, slots=slots.slots)
        return Response(text, media_type=CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        return JSONResponse(description(service))

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request_id(request.headers))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = {404: f"expected one of the routes in /openapi.json, got {request.url.path!r:.80}"}
        detail[405] = f"expected another method than {request.method!r:.20} for this route"
        text = detail.get(error.status_code, error.detail)
        return Problem(error.status_code, text, error.headers).response(request_id(request.headers))

    async def failed(request: Request, error: Exception) -> Response:
        name = request_id(request.headers)
        LOG.error("%s %s failed", name, request.url.path, exc_info=error)
        return problem_of(error).response(name)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    application = Starlette(
        routes=[
            *(Route(route, Endpoint(service, route, answer), methods=[POST]) for route, answer in ANSWERS.items()),
            WebSocketRoute(ROUTE, StreamEndpoint(service)),
            Route("/v1/models", models),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
            *pages.routes(),
        ],
        exception_handlers={Problem: problem, HTTPException: refused, Exception: failed},
        lifespan=lifespan,
    )
    application.state.service = service
    return application
