"""The service: a voice behind HTTP and WebSockets, and a page to hear it. Needs the extra `serve`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from engine.checks.installation import how_to_install
from engine.errors import UnavailableError
from engine.serving.limits import Limits
from engine.voice import Voice

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Limits", "app"]
PACKAGES = ("starlette", "uvicorn", "websockets")  # of the extra


def app(
    voice: Voice,
    *,
    generator: Voice | None = None,
    precisions: Mapping[str, Voice] | None = None,
    limits: Limits | None = None,
    steps: int | str = "fast",
    energy_min: float | None = None,
    token: str | None = None,
    name: str = "voice",
) -> Starlette:
    """Return the service as an ASGI application, for `engine serve` or any other ASGI server.

    A call on a CPU holds a slot, and the calls at work share the threads of the voice. On a GPU the calls of a few
    milliseconds become one batch, and streams are unavailable.

    Args:
        voice: the network behind /v1/vocode and /v1/stream; or one without a mel, for /v1/generate alone.
        generator: a network without a mel for /v1/generate. Each call takes all of its threads.
        precisions: further voices of the same network by their precision, for the parameter `precision`.
        limits: the bounds of the service; None for the defaults.
        steps: the steps of a request that names none: "fast", "full" or a number.
        energy_min: for a PriorGrad network without a value of its own, see `Voice.vocode`.
        token: every request needs it as "Authorization: Bearer TOKEN"; None for a service without.
        name: the name of the voice in /v1/models.

    Raises:
        InputError: an argument has an impossible value.
        UnavailableError: the extra `serve` is not installed.
    """
    check_installed()
    from engine.serving.application import build
    from engine.serving.service import Service

    service = Service(
        voice,
        generator=generator,
        precisions=precisions or {},
        limits=limits or Limits(),
        steps=steps,
        energy_min=energy_min,
        token=token,
        name=name,
    )
    return build(service)


def check_installed() -> None:
    """Check that the packages of the extra `serve` are there.

    Raises:
        UnavailableError: one is missing; the message says how to install it.
    """
    for package in PACKAGES:
        try:
            import_module(package)
        except ImportError as error:
            missing = (error.name or package).partition(".")[0]
            raise UnavailableError(
                f"the service needs {missing}, which is not installed; {how_to_install('serve')}"
            ) from None
