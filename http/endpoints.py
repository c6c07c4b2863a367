"""Endpoints: a path, a model of its parameters and a function; how they are served, and what OpenAPI says of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from specflight.client import Client
from specflight.errors import ServiceUnavailable
from specflight.http.parameters import FORM, MULTIPART, Parameters, read_parameters
from specflight.http.state import Caller, State

__all__ = ["ERRORS", "OLD_CLIENT", "Call", "Endpoint", "add_endpoints", "answer", "token_of"]

P = TypeVar("P", bound=Parameters)

OLD_CLIENT = "x-dl-clientversion"
"""Header by which the client of the service before this one is known."""

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
ERRORS: Mapping[int, str] = {
    400: "a parameter is missing, or cannot be understood or used; the text names it and its value",
    401: "the token is forged, truncated or expired, or one is needed",
    403: "the caller may not do that",
    404: "there is no such context, catalogue or spectrum",
    413: "more was asked for, or sent, than the service allows; the text names the limit",
    500: "data of the service are damaged",
    503: "the service is busy, stopping, or out of order",
    504: "it took longer than the service allows",
}
"""Statuses of refusals, all with a sentence as text."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets beside its parameters.

    Attributes
    ----------
    request : Request
        Its headers and its URL.
    clients : tuple of Client
        One for each Flight server; they carry the caller's token, and go to another server when their own fails.
    caller : Caller
        Who asks, verified.
    state : State
        What lives as long as the process.
    """

    request: Request
    clients: tuple[Client, ...]
    caller: Caller
    state: State

    @property
    def client(self) -> Client:
        """The client whose turn it is."""
        return self.clients[0]


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[P]):
    """One path of the service.

    Attributes
    ----------
    path : str
    handler : callable
        Answers in a thread; its docstring is the documentation of the endpoint.
    parameters : type of Parameters
    content : mapping of str to dict
        Media types of a success, with their JSON schemas.
    methods : tuple of str
    status : int
        Of a success.
    also : mapping of int to str
        Further statuses, and what they mean.
    """

    path: str
    handler: Callable[[P, Call], Response]
    parameters: type[P]
    content: Mapping[str, Mapping[str, Any]]
    methods: tuple[str, ...] = ("GET", "POST")
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)


def token_of(request: Request) -> str:
    """Token in the headers of a request; empty if there is none."""
    told = request.headers.get("x-dl-authtoken", "").strip()
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" and bearer.strip() else told


async def answer(endpoint: Endpoint[P], request: Request) -> Response:
    """Answer of an endpoint to a request."""
    state: State = request.app.state.specflight
    parameters = await read_parameters(request, endpoint.parameters, state.settings.max_body)
    token = token_of(request)

    def handle() -> Response:
        caller, clients = state.admit(token)
        if parameters.profile not in ("", "default"):
            clients[0].list_profiles(parameters.profile)
        return endpoint.handler(parameters, Call(request, clients, caller, state))

    try:
        # Half as long a way into a thread as that of Starlette's pool, which streams and files use.
        answered = await asyncio.get_running_loop().run_in_executor(state.threads, handle)
    except asyncio.CancelledError:
        raise ServiceUnavailable("the service is ending, and could not wait for this answer") from None
    if token:  # what is told to one caller is not kept for others on the way
        answered.headers.setdefault("cache-control", "private, no-store")
    return answered


class _Direct(APIRoute):
    """A route whose function is called with the request as it is: the endpoints read their parameters themselves."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def add_endpoints(router: APIRouter, endpoints: tuple[Endpoint[Any], ...]) -> None:
    """Serve endpoints at a router."""
    for endpoint in endpoints:
        for method in endpoint.methods:
            _add(router, endpoint, method)


def _add(router: APIRouter, endpoint: Endpoint[Any], method: str) -> None:
    async def serve(request: Request) -> Response:
        return await answer(endpoint, request)

    text = inspect.cleandoc(endpoint.handler.__doc__ or "").split("\n\nParameters\n")[0]
    summary, _, description = text.partition("\n\n")
    router.add_api_route(
        endpoint.path,
        serve,
        methods=[method],
        route_class_override=_Direct,
        response_class=Response,
        status_code=endpoint.status,
        operation_id=f"{method.lower()}_{endpoint.path.strip('/').replace('/', '_') or 'root'}",
        summary=summary,
        description=description,
        responses=_responses(endpoint),
        openapi_extra=_query(endpoint.parameters) if method == "GET" else _body(endpoint.parameters),
    )


def _responses(endpoint: Endpoint[Any]) -> dict[int | str, dict[str, Any]]:
    content = {kind: {"schema": dict(schema)} for kind, schema in endpoint.content.items()}
    success: dict[int | str, dict[str, Any]] = {endpoint.status: {"description": "success", "content": content}}
    for status, text in endpoint.also.items():
        success[status] = {"description": text, "content": content if status == 206 else _TEXT if status >= 400 else {}}
    return success | {status: {"description": text, "content": _TEXT} for status, text in ERRORS.items()}


def _schema(model: type[Parameters]) -> dict[str, Any]:
    schema = model.model_json_schema()
    assert "$defs" not in schema, f"{model.__name__}: OpenAPI needs parameters without models in them"
    return schema


def _query(model: type[Parameters]) -> dict[str, Any]:
    schema = _schema(model)
    needed = schema.get("required", [])
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in needed,
                "description": about.get("description", ""),
                "schema": _as_text({key: value for key, value in about.items() if key not in ("title", "description")}),
            }
            for name, about in schema["properties"].items()
        ]
    }


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """Schema of a parameter in a query string, where JSON's arrays and null cannot be written."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") not in ("array", "null")]
    return schema | {"anyOf": kinds} if kinds else schema


def _body(model: type[Parameters]) -> dict[str, Any]:
    schema = {"schema": _schema(model)}
    content = {kind: schema for kind in (FORM, MULTIPART, "application/json")}
    return {"requestBody": {"required": bool(schema["schema"].get("required")), "content": content}}
