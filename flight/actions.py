"""Actions: small questions, answered with one JSON value."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import specflight
from specflight.catalog.database import Cancellation
from specflight.errors import InvalidRequest
from specflight.flight.listings import (
    ContextDescription,
    TableDescription,
    as_default,
    catalogs_listing,
    contexts_listing,
    describe_table,
    profiles_listing,
)
from specflight.flight.requests import QueryRequest, SpanRequest, parse_request
from specflight.flight.service import Service
from specflight.flight.store import ArrowStore
from specflight.flight.tokens import ANONYMOUS, Identity, require_admin

__all__ = ["ACTIONS", "HERE", "REQUESTS", "Host", "act"]

REQUESTS = logging.getLogger("specflight.requests")
"""Where requests are logged, at the level DEBUG."""

ACTIONS = {
    "health": "is the service well, and where are its Flight endpoints",
    "contexts": 'contexts, or one; body {"context": NAME, "format": "text" | "csv" | "json"}',
    "profiles": 'profiles, or one; body {"profile": NAME, "format": "text" | "csv" | "json"}',
    "catalogs": 'catalogues of a context with rows and columns; body {"context": NAME, "format": ...}',
    "validate": 'OK or Error; body {"what": "context" | "profile", "value": NAME}',
    "span": "wavelength limits of a list of spectra; body a span request",
    "count": "number of rows that a query finds; body a query request",
    "explain": "rows, bytes and seconds of a request before it is made; body any request",
    "whoami": "name of the caller, whether an administrator, and for how many seconds the token lasts",
    "debug": 'for administrators: log every request of this worker, or stop doing so; body {"on": "true" | "false"}',
    "shutdown": "for administrators: end the service when what is in flight is finished",
}


@dataclass(frozen=True, slots=True)
class Host:
    """Where an action is done.

    Attributes
    ----------
    endpoints : sequence of str
        Flight locations to tell with ``health``.
    shutdown : callable or None
        Ends the service; None where there is none to end.
    """

    endpoints: Sequence[str] = ()
    shutdown: Callable[[], None] | None = None


HERE = Host()
"""No server around it."""


def act(
    service: Service,
    name: str,
    body: bytes,
    host: Host = HERE,
    cancellation: Cancellation | None = None,
    caller: Identity = ANONYMOUS,
) -> Any:  # noqa: ANN401 - any JSON value
    """Answer of a small question.

    Parameters
    ----------
    service : Service
    name : str
        One of `ACTIONS`.
    body : bytes
        JSON object with its parameters.
    host : Host
    cancellation : Cancellation or None
        Stops what the database does for it.
    caller : Identity

    Returns
    -------
    object
        What JSON can hold.

    Raises
    ------
    InvalidRequest
        If there is no such action or its body is at fault.
    Unauthenticated, Forbidden
        If it is for administrators only.
    """
    match name:
        case "health":
            return {
                "status": "ok",
                "version": specflight.__version__,
                "contexts": service.contexts.names(),
                "endpoints": list(host.endpoints),
            }
        case "contexts":
            fields = _fields(body, context="", format="json")
            name = fields["context"]
            name = name if name == "default" else service.contexts.meant(name)
            return contexts_listing(_described(service), name, fields["format"])
        case "profiles":
            fields = _fields(body, profile="", format="json")
            return profiles_listing(service.contexts.settings.profiles, fields["profile"], fields["format"])
        case "catalogs":
            fields = _fields(body, context="default", format="json")
            # Old clients write the text of Python's None.
            name = "default" if fields["context"] in ("", "None") else fields["context"]
            return catalogs_listing(name, _tables(service, name), fields["format"])
        case "validate":
            fields = _fields(body, what=None, value=None)
            return _validate(service, fields["what"], fields["value"])
        case "span":
            request = parse_request(body)
            if not isinstance(request, SpanRequest):
                raise InvalidRequest(f"what: the action span takes a span request, not '{request.what}'")
            return next(service.answer(request, cancellation=cancellation).batches()).to_pylist()[0]
        case "count":
            request = parse_request(body)
            if not isinstance(request, QueryRequest):
                raise InvalidRequest(f"what: the action count takes a query request, not '{request.what}'")
            return service.count(request, request.context, cancellation)
        case "explain":
            return asdict(service.explain(parse_request(body), cancellation))
        case "whoami":
            seconds = None if caller is ANONYMOUS else caller.expires - time.time()
            return {"name": caller.name, "admin": caller.admin, "seconds": seconds}
        case "debug":
            require_admin(caller, "debug")
            return _log_requests(_fields(body, on="")["on"])
        case "shutdown":
            require_admin(caller, "shutdown")
            if host.shutdown is None:
                raise InvalidRequest("action: 'shutdown' has no service to end here")
            host.shutdown()
            return "Spectro service shutting down ....\n"
        case _:
            raise InvalidRequest(f"action: '{name}' is not one of {', '.join(ACTIONS)}")


def _log_requests(on: str) -> bool:
    """Log every request or not; the other of the two when `on` is empty."""
    choices = {"": not REQUESTS.isEnabledFor(logging.DEBUG), "true": True, "false": False}
    if on not in choices:
        raise InvalidRequest(f"on: '{on}' is neither true nor false")
    REQUESTS.setLevel(logging.DEBUG if choices[on] else logging.NOTSET)
    return choices[on]


def _fields(body: bytes, **defaults: str | None) -> dict[str, str]:
    """Text fields of a JSON object; those without a default have to be there."""
    try:
        values = json.loads(body or b"{}")
        given = {name: values.get(name, default) for name, default in defaults.items()}
    except (ValueError, AttributeError, RecursionError):
        raise InvalidRequest(f"body: {body[:80]!r} is not a JSON object") from None
    if unknown := set(values) - set(defaults):
        raise InvalidRequest(f"body: '{min(unknown)}' is not one of {', '.join(defaults)}")
    for name, value in given.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"{name}: expected a text, got {value!r}")
    return given


def _validate(service: Service, what: str, value: str) -> str:
    if what == "context":
        known, value = [*service.contexts.names(), "default"], service.contexts.meant(value)
    elif what == "profile":
        known = list(service.contexts.settings.profiles)
    else:
        raise InvalidRequest(f"what: '{what}' cannot be validated, only 'context' and 'profile' can")
    return "OK" if value in known else "Error"


def _described(service: Service) -> list[ContextDescription]:
    contexts = [_describe(service, name) for name in service.contexts.names()]
    default = [as_default(context) for context in contexts if context.name == service.contexts.default]
    return [*default, *contexts]


def _describe(service: Service, name: str) -> ContextDescription:
    settings = service.contexts.about(name)
    if not service.contexts.scanned(name):
        return ContextDescription(name, settings, None, "archive")
    context = service.contexts.get(name)
    spectra = len(context.source.ids)
    data: Literal["store", "archive", "none"] = "none"
    if spectra:
        data = "store" if isinstance(context.source, ArrowStore) else "archive"
    return ContextDescription(name, settings, spectra, data, tuple(_tables(service, name)))


def _tables(service: Service, name: str) -> list[TableDescription]:
    context = service.contexts.get(name)
    return [
        describe_table(context.name, key, table.rows, table.schema, table.description, context.about)
        for key, table in sorted(context.tables.items())
    ]
