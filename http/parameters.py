"""Parameters of requests: from the query string, a form or a JSON body to a checked model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from specflight.errors import InvalidRequest, LimitExceeded
from specflight.flight.protocol import explain_validation

__all__ = ["FORM", "MULTIPART", "MissingParameter", "Parameters", "read_parameters"]

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

NOT_GIVEN = ("", "None", None)
"""Old clients write the text of Python's None."""

MAX_FIELDS = 1000
"""Parameters of a request, known or not; as many as Starlette takes in a multipart form."""

MAX_JSON_VALUES = 5_000_000
"""Values in a JSON body: a million tuples of four. Reading them stops the whole process for a second or two."""

SHORT_BODY = 1 << 16
"""Bytes of a body that is read as soon as it has come: no others wait for that."""


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
    body = await _read_body(request, max_body) if request.method == "POST" else b""
    if len(body) > SHORT_BODY or _kind(request) == MULTIPART:
        return await run_in_threadpool(_understood, request, body, model)
    return _understood(request, body, model)


def _understood(request: Request, body: bytes, model: type[P]) -> P:
    items = request.query_params.multi_items()
    if body:
        items += _body_items(request, body)
    return check_parameters(_once(items), model)


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
    if len(items) > MAX_FIELDS:
        raise LimitExceeded(f"request: has more than {MAX_FIELDS} parameters")
    given: dict[str, Any] = {}
    for name, value in items:
        if name in given:
            raise InvalidRequest(f"{name}: is given twice")
        given[name] = value
    return given


def _kind(request: Request) -> str:
    return request.headers.get("content-type", FORM).partition(";")[0].strip().lower()


def _body_items(request: Request, body: bytes) -> list[tuple[str, Any]]:
    kind = _kind(request)
    if kind == "application/json":
        return _json_items(body)
    if kind == MULTIPART:
        return asyncio.run(_multipart_items(request, body))
    # Whatever else a body calls itself, old clients and curl -d send forms.
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"body: is not text in UTF-8 but {body[:20]!r}") from None
    if text.count("&") >= MAX_FIELDS:
        raise LimitExceeded(f"body: has more than {MAX_FIELDS} parameters")
    return parse_qsl(text, keep_blank_values=True)


async def _read_body(request: Request, max_body: int) -> bytes:
    too_long = LimitExceeded(f"body: is longer than the limit max_body = {max_body}")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > max_body:
        raise too_long
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > max_body:
                raise too_long
    except ClientDisconnect:
        raise InvalidRequest("body: the connection ended before it did") from None
    return b"".join(pieces)


def _json_items(body: bytes) -> list[tuple[str, Any]]:
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise LimitExceeded(f"body: has more than {MAX_JSON_VALUES} values")
    try:
        fields = json.loads(body)
        if b"\\u" in body:  # which can be half of a character, that is in no other text
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest(f"body: {body[:80]!r} is not a JSON object")
    return list(fields.items())


async def _multipart_items(request: Request, body: bytes) -> list[tuple[str, Any]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_part_size=len(body)) as form:
            return [
                (name, (await value.read()).decode() if isinstance(value, UploadFile) else value)
                for name, value in form.multi_items()
            ]
    except (UnicodeDecodeError, HTTPException) as error:
        raise InvalidRequest(f"body: is not a form of texts: {error}") from None
