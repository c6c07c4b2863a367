"""The Arrow Flight server: the service on a socket."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.flight as fl

from specflight.catalog.database import Cancellation
from specflight.errors import (
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    QueryTimeout,
    ServiceUnavailable,
    SpecflightError,
    Unauthenticated,
)
from specflight.flight.actions import ACTIONS, HERE, REQUESTS, Host, act
from specflight.flight.answers import Answer
from specflight.flight.protocol import VECTORS, spectra_schema
from specflight.flight.requests import Query, QueryRequest, Request, SpectraRequest, parse_request
from specflight.flight.service import Service
from specflight.flight.tokens import ANONYMOUS, Identity, TokenKey

__all__ = ["FlightServer"]

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

LONGEST_ERROR = 1000
"""Characters of an error: gRPC takes some 8 kB, and Flight says it three times."""

ENDPOINT_ROWS = 256
"""Spectra worth an endpoint of their own: below, opening a second stream costs more than it gains."""


_STATUS: tuple[tuple[type[SpecflightError], type[Exception]], ...] = (
    (NotFound, pa.ArrowKeyError),
    (InvalidRequest, pa.ArrowInvalid),
    (LimitExceeded, pa.ArrowInvalid),
    (Unauthenticated, fl.FlightUnauthenticatedError),
    (Forbidden, fl.FlightUnauthorizedError),
    (QueryTimeout, fl.FlightTimedOutError),
    (ServiceUnavailable, fl.FlightUnavailableError),
    (SpecflightError, fl.FlightServerError),
)
"""Flight's counterparts of our errors."""


def _translated(error: Exception) -> Exception:
    if isinstance(error, SpecflightError):
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        # The name of the class in front is how a client knows it again.
        return status(f"{type(error).__name__}: {_short(str(error))}")
    # The whole story goes to the log, not to strangers.
    log.error("internal error\n%s", "".join(traceback.format_exception(error, limit=50)))
    told: Exception = fl.FlightInternalError(f"SpecflightError: internal error ({type(error).__name__}), see the log")
    return told


def _short(text: str) -> str:
    """Text that fits into the trailers of gRPC, in characters that it takes."""
    told = text.encode(errors="backslashreplace").decode()
    return told if len(told) <= LONGEST_ERROR else told[: LONGEST_ERROR - 3] + "..."


def _edge(method: Callable[P, R]) -> Callable[P, R]:
    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            raise _translated(error) from None

    return call


def _watched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except Exception as error:
        raise _translated(error) from None


_CALLER = "caller"


class _Known(fl.ServerMiddleware):  # type: ignore[misc]
    """Remembers who makes a call."""

    def __init__(self, caller: Identity) -> None:
        self.caller = caller


class _Door(fl.ServerMiddlewareFactory):  # type: ignore[misc]
    """Looks at the token of every call."""

    def __init__(self, tokens: TokenKey) -> None:
        self._tokens = tokens

    def start_call(self, info: fl.CallInfo, headers: dict[str, list[str]]) -> _Known | None:
        """Refuse a token that is none; a call without one is anonymous."""
        token = _token(headers)
        if not token:
            return None
        try:
            return _Known(self._tokens.identify(token))
        except SpecflightError as error:
            raise _translated(error) from None


def _token(headers: dict[str, list[str]]) -> str:
    for value in headers.get("authorization", ()):
        kind, _, token = value.partition(" ")
        if kind.lower() == "bearer":
            return token.strip()
    return next(iter(headers.get("x-dl-authtoken", ())), "").strip()


def _caller(context: fl.ServerCallContext) -> Identity:
    known = context.get_middleware(_CALLER)
    return ANONYMOUS if known is None else known.caller


class FlightServer(fl.FlightServerBase):  # type: ignore[misc]
    """Serves a `specflight.flight.service.Service` over Arrow Flight; it listens as soon as it is made.

    Parameters
    ----------
    service : Service
    location : str
        ``grpc://host:port``; port 0 takes a free one (see `port`).
    host : Host
        Its endpoints are the locations of all servers of the same data directory, which share large answers; this one
        alone when there are none.
    """

    def __init__(self, service: Service, location: str, host: Host = HERE) -> None:
        self._service = service
        self._host = host
        self._endpoints = host.endpoints
        super().__init__(location, middleware={_CALLER: _Door(service.tokens)})

    @_edge
    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.RecordBatchStream:
        """Stream the answer to the request that the ticket holds."""
        if REQUESTS.isEnabledFor(logging.DEBUG):
            REQUESTS.debug("%s get %.1000s", _caller(context).name, ticket.ticket)
        answer = self._service.answer(parse_request(ticket.ticket), cancellation=_cancellation(context))
        reader = pa.RecordBatchReader.from_batches(answer.schema, _watched(answer.batches()))
        return fl.RecordBatchStream(reader, options=_options(answer))

    @_edge
    def do_exchange(
        self,
        context: fl.ServerCallContext,
        descriptor: fl.FlightDescriptor,
        reader: fl.MetadataRecordBatchReader,
        writer: fl.MetadataRecordBatchWriter,
    ) -> None:
        """Answer a request whose identifiers or positions come as a table."""
        REQUESTS.debug("%s exchange %.1000s", _caller(context).name, descriptor.command)
        request = parse_request(descriptor.command or b"")
        if isinstance(request, QueryRequest):
            raise InvalidRequest("what: a query takes no table; send it by DoGet")
        upload = _read(reader, self._service.contexts.settings.max_ids)
        answer = self._service.answer(request, upload, _cancellation(context))
        writer.begin(answer.schema, options=_options(answer))
        for batch in answer.batches():
            if context.is_cancelled():
                return
            try:
                writer.write_batch(batch)
            except fl.FlightInternalError:
                # Whoever still listens must not take what came for the whole.
                raise ServiceUnavailable("the stream broke off while it was sent") from None

    @_edge
    def get_flight_info(self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        """Schema, size and endpoints of the answer to the request in the descriptor's command."""
        request = parse_request(descriptor.command or b"")
        return self._info(descriptor, self._service.answer(request, cancellation=_cancellation(context)), request)

    def _info(self, descriptor: fl.FlightDescriptor, answer: Answer, request: Request) -> fl.FlightInfo:
        requests: list[Request] = [request]
        if answer.parts is not None:
            requests = answer.parts(max(1, min(len(self._endpoints), answer.rows // ENDPOINT_ROWS)))
        endpoints = [
            fl.FlightEndpoint(
                part.model_dump_json(exclude_defaults=False, exclude_none=True).encode(),
                [self._endpoints[number % len(self._endpoints)]] if len(self._endpoints) > 1 else [],
            )
            for number, part in enumerate(requests)
        ]
        return fl.FlightInfo(answer.schema, descriptor, endpoints, answer.rows, answer.size())

    @_edge
    def get_schema(self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor) -> fl.SchemaResult:
        """Schema of the answer to the request in the descriptor's command."""
        request = parse_request(descriptor.command or b"")
        return fl.SchemaResult(self._service.answer(request, cancellation=_cancellation(context)).schema)

    @_edge
    def list_flights(self, context: fl.ServerCallContext, criteria: bytes) -> Iterator[fl.FlightInfo]:
        """Everything that can be had: the spectra of each context that has a catalogue, and each catalogue."""
        return iter(list(self._flights()))

    def _flights(self) -> Iterator[fl.FlightInfo]:
        for name in self._service.contexts.names():
            held = self._service.contexts.get(name)
            for _, table in sorted(held.tables.items()):
                request = QueryRequest(context=name, catalog=table.name, columns=tuple(table.schema.names))
                yield self._flight(request, table.schema, table.rows, -1)
            # With no condition a query finds everything; without a catalogue the ids have to be given.
            everything = Query(catalog="specobjall") if "specobjall" in held.tables else None
            spectra = SpectraRequest(context=name, query=everything)
            schema = spectra_schema(tuple(VECTORS), name, held.about.release)
            yield self._flight(spectra, schema, len(held.source.ids), int(held.source.npix.sum()) * 32)

    def _flight(self, request: Request, schema: pa.Schema, rows: int, size: int) -> fl.FlightInfo:
        command = request.model_dump_json(exclude_none=True).encode()
        complete = not isinstance(request, SpectraRequest) or request.query is not None
        endpoints = [fl.FlightEndpoint(command, [])] if complete else []
        return fl.FlightInfo(schema, fl.FlightDescriptor.for_command(command), endpoints, rows, size)

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        """Actions with what they do."""
        return list(ACTIONS.items())

    @_edge
    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> list[bytes]:
        """Answer a small question with one JSON value."""
        body = action.body.to_pybytes() if action.body is not None else b""
        asked = (self._service, action.type, body, self._host, _cancellation(context), _caller(context))
        REQUESTS.debug("%s %s %.1000s", asked[-1].name, action.type, body)
        return [json.dumps(act(*asked)).encode()]


def _cancellation(context: fl.ServerCallContext) -> Cancellation:
    """Stops what is done for a client that hangs up or whose deadline has passed."""
    return Cancellation(context.is_cancelled)


def _read(reader: fl.MetadataRecordBatchReader, limit: int) -> pa.Table:
    """Table that a client sends, of `limit` rows at most."""
    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        schema = reader.schema
    except (OSError, pa.ArrowException):
        raise InvalidRequest("ids: no table was sent") from None
    if twice := {name for name in schema.names if schema.names.count(name) > 1}:
        raise InvalidRequest(f"ids: the table has two columns '{min(twice)}'")
    while True:
        try:
            batch = reader.read_chunk().data
        except StopIteration:
            return pa.Table.from_batches(batches, schema)
        batches.append(batch)
        rows += batch.num_rows
        if rows > limit:
            raise LimitExceeded(f"ids: more rows came than the limit max_ids = {limit}")


def _options(answer: Answer) -> pa.ipc.IpcWriteOptions:
    return pa.ipc.IpcWriteOptions(compression=answer.compression)
