"""Parameters of requests: from the query string, a form or a JSON body to a checked model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from specflight.errors import InvalidRequest, LimitExceeded
from specflight.flight.protocol import explain_validation

__all__ = ["FORM", "MULTIPART", "MissingParameter", "Parameters", "read_parameters"]

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

NOT_GIVEN = ("", "None", None)
"""Old clients write the text of Python's None."""


class MissingParameter(InvalidRequest):
    """A parameter without which there is no answer; its name is the text."""


class Parameters(BaseModel):
    """What every endpoint of the documented interface takes; each has a model of its own with more."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    profile: str = Field("default", description="profile of the service; there has to be such a one")
    debug: str = Field("", description="sent by old clients; says nothing")
    verbose: str = Field("", description="sent by old clients; says nothing")


P = TypeVar("P", bound=Parameters)


async def read_parameters(request: Request, model: type[P], max_body: int) -> P:
    """Parameters of a request.

    Parameters
    ----------
    request : Request
    model : type of Parameters
    max_body : int
        Bytes that a body may have.

    Raises
    ------
    MissingParameter
        If one that is needed is not given.
    InvalidRequest
        If one cannot be understood, is given twice, or is not known.
    LimitExceeded
        If the body is too long.
    """
    given = _once(request.query_params.multi_items())
    if request.method == "POST":
        body = await _body_fields(request, max_body)
        if both := given.keys() & body.keys():
            raise InvalidRequest(f"{min(both)}: is given twice")
        given |= body
    return check_parameters(given, model)


def check_parameters(given: Mapping[str, Any], model: type[P]) -> P:
    """Parameters of a mapping of their names to texts, or to values of JSON; see `read_parameters`."""
    try:
        return model.model_validate(_without_blanks(given, model))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "request"
        if first["type"] == "missing":
            raise MissingParameter(name) from None
        if first["type"] == "extra_forbidden":
            raise InvalidRequest(f"{name}: is not a parameter here; there are {', '.join(_names(model))}") from None
        raise InvalidRequest(explain_validation(error)) from None


def _without_blanks(given: Mapping[str, Any], model: type[Parameters]) -> dict[str, Any]:
    needed = {field.alias or name for name, field in model.model_fields.items() if field.is_required()}
    return {name: value for name, value in given.items() if name in needed or value not in NOT_GIVEN}


def _names(model: type[Parameters]) -> list[str]:
    return list(model.model_json_schema()["properties"])


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(items)
    if len(given) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{twice}: is given twice")
    return given


async def _body_fields(request: Request, max_body: int) -> dict[str, Any]:
    kind = request.headers.get("content-type", FORM).partition(";")[0].strip().lower()
    body = await _read_body(request, max_body)
    if not body:
        return {}
    if kind == "application/json":
        return _json_fields(body)
    if kind == MULTIPART:
        return await _multipart_fields(request, body)
    # Whatever else a body calls itself, old clients and curl -d send forms.
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        raise InvalidRequest(f"body: is not text in UTF-8 but {body[:20]!r}") from None
    return _once(fields)


async def _read_body(request: Request, max_body: int) -> bytes:
    too_long = LimitExceeded(f"body: is longer than the limit max_body = {max_body}")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > max_body:
        raise too_long
    pieces, size = [], 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > max_body:
            raise too_long
    return b"".join(pieces)


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest(f"body: {body[:80]!r} is not a JSON object")
    return fields


async def _multipart_fields(request: Request, body: bytes) -> dict[str, Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_part_size=len(body)) as form:
            items = [
                (name, (await value.read()).decode() if isinstance(value, UploadFile) else value)
                for name, value in form.multi_items()
            ]
    except (UnicodeDecodeError, HTTPException) as error:
        raise InvalidRequest(f"body: is not a form of texts: {error}") from None
    return _once(items)
