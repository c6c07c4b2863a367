"""The endpoints that tell what there is: profiles, contexts and catalogues, and whether a name is one of them."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from specflight.errors import InvalidRequest
from specflight.http.endpoints import OLD_CLIENT, Call, Endpoint
from specflight.http.parameters import Parameters

__all__ = ["ENDPOINTS", "available", "catalogs", "contexts", "profiles", "validate"]

_FORMAT = "text, csv or json"


class ContextsParameters(Parameters):
    """Parameters of `contexts`."""

    context: str = Field("", description="one of them, of which all is told, as JSON; all when not given")
    format: str = Field("text", description=_FORMAT)


class ProfilesParameters(Parameters):
    """Parameters of `profiles`."""

    profile: str = Field("", description="one of them, of which all is told, as JSON; all when not given")
    format: str = Field("text", description=_FORMAT)


class CatalogsParameters(Parameters):
    """Parameters of `catalogs`."""

    context: str = Field("default", description="context whose catalogues are told")
    format: str = Field("text", description=_FORMAT)


class ValidateParameters(Parameters):
    """Parameters of `validate`."""

    what: str = Field(description="context or profile")
    value: str = Field(description="name to look for")


def contexts(parameters: ContextsParameters, call: Call) -> Response:
    """List the data sets that are served, or describe one.

    Parameters
    ----------
    parameters : ContextsParameters
    call : Call
    """
    return _listing(call.client.list_contexts(parameters.context, parameters.format), parameters.format)


def profiles(parameters: ProfilesParameters, call: Call) -> Response:
    """List the profiles of the service, or describe one.

    Parameters
    ----------
    parameters : ProfilesParameters
    call : Call
    """
    return _listing(call.client.list_profiles(parameters.profile, parameters.format), parameters.format)


def catalogs(parameters: CatalogsParameters, call: Call) -> Response:
    """List the catalogues of a data set; as JSON with their rows and columns.

    Parameters
    ----------
    parameters : CatalogsParameters
    call : Call
    """
    told = call.client.catalogs(parameters.context, parameters.format)
    if parameters.format == "json" and OLD_CLIENT in call.request.headers:
        # It fails on every text with a brace.
        return JSONResponse([[table["name"], table["description"]] for table in told])
    return _listing(told, parameters.format)


def validate(parameters: ValidateParameters, call: Call) -> Response:
    """Tell whether there is a context or a profile of a name: OK or Error.

    Parameters
    ----------
    parameters : ValidateParameters
    call : Call
    """
    if parameters.what not in ("context", "profile"):
        raise InvalidRequest(f'unknown validation "{parameters.what}"')
    return PlainTextResponse(call.client.act("validate", what=parameters.what, value=parameters.value))


def available(parameters: Parameters, call: Call) -> Response:
    """Tell whether the service can answer: True or False.

    Parameters
    ----------
    parameters : Parameters
    call : Call
    """
    return PlainTextResponse(str(call.client.isAlive()))


def _listing(told: Any, fmt: str) -> Response:  # noqa: ANN401 - a text or what becomes JSON
    if isinstance(told, str):
        return Response(told, media_type="text/csv" if fmt == "csv" else "text/plain")
    return JSONResponse(told)


_TEXT = {"text/plain": {"type": "string"}}
_LISTS = _TEXT | {"text/csv": {"type": "string"}}
_OBJECTS = _LISTS | {"application/json": {"type": "object"}}

ENDPOINTS = (
    Endpoint("/contexts", contexts, ContextsParameters, _OBJECTS, ("GET",)),
    Endpoint("/profiles", profiles, ProfilesParameters, _OBJECTS, ("GET",)),
    Endpoint(
        "/catalogs",
        catalogs,
        CatalogsParameters,
        _LISTS | {"application/json": {"type": "array", "items": {"type": ["object", "array"]}}},
        ("GET",),
    ),
    Endpoint("/validate", validate, ValidateParameters, _TEXT, ("GET",)),
    Endpoint("/available", available, Parameters, _TEXT, ("GET",)),
)
