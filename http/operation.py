"""Endpoints for administrators: end the service, log its requests."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from specflight.http.endpoints import Call, Endpoint
from specflight.http.parameters import Parameters

__all__ = ["ENDPOINTS"]

_TEXT = {"text/plain": {"type": "string"}}


def shutdown(parameters: Parameters, call: Call) -> Response:
    """End the service when what is in flight is finished; needs the token of an administrator."""
    return PlainTextResponse(call.client.act("shutdown"))


def debug(parameters: Parameters, call: Call) -> Response:
    """Log every request to the Flight servers, or stop doing so; needs the token of an administrator.

    Each call changes to the other of the two, and answers ``True`` or ``False``.
    """
    first, *others = call.clients
    on: bool = first.act("debug")
    for client in others:
        client.act("debug", on=str(on).lower())
    return PlainTextResponse(str(on))


ENDPOINTS = (
    Endpoint("/shutdown", shutdown, Parameters, _TEXT, ("GET",)),
    Endpoint("/debug", debug, Parameters, _TEXT, ("GET",)),
)
