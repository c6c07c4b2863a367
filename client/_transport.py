"""Ways to reach a service: Flight over the network, or a data directory in this process."""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.flight as fl

from specflight import errors
from specflight.errors import InvalidRequest, QueryTimeout, ServiceUnavailable, SpecflightError
from specflight.flight.protocol import CATALOGUE_ID, describe
from specflight.flight.requests import FitsRequest, MatchRequest, QueryRequest, Request, SpanRequest, SpectraRequest

__all__ = ["FlightTransport", "LocalTransport", "Stream", "Transport", "connect"]

ATTEMPTS = 5
"""Tries to get a small answer before the service counts as unreachable: one and a half seconds."""

ANSWER_ATTEMPTS = 8
"""Tries to get any other answer: five seconds, in which a worker that died is replaced."""

RESUME_ATTEMPTS = 30
"""Tries in a row to go on with a stream that broke: half a minute, in which a worker is replaced several times over."""

MAX_TICKET_ROWS = 10_000
"""Identifiers or positions that travel in a ticket (200 kB); longer lists go up as a table."""

SHORT = 256
"""Identifiers of a request that is answered in one call; a longer answer is read batch by batch."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Schema and record batches of an answer."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Transport(Protocol):
    """What the client needs of a service."""

    def stream(self, request: Request, upload: pa.Table | None = None, timeout: float | None = None) -> Stream:
        """Answer to a request.

        Parameters
        ----------
        request : Request
        upload : pyarrow.Table or None
            In place of the ids, or of the positions, in the request.
        timeout : float or None
            Deadline of a query in seconds, in place of the transport's.
        """

    def stream_once(self, request: Request) -> Stream:
        """Answer to a request as it arrives, in bounded memory; one that breaks off is an error, and not resumed."""

    def act(self, name: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
        """Answer of a small question."""

    def close(self) -> None:
        """Let go of connections."""


def connect(url: str | Sequence[str], timeout: float, token: str | None = None) -> Transport:
    """Transport for a URL.

    Parameters
    ----------
    url : str or sequence of str
        ``grpc://host:port`` or ``grpc+tls://host:port``; ``http://host:port``, which is asked for its Flight
        endpoints; or ``file:///DATA``, a data directory opened in this process. Several Flight endpoints of one
        service are tried in their order.
    timeout : float
        Deadline of an answer, in seconds.
    token : str or None
        Says who asks; nobody in particular when None.

    Raises
    ------
    InvalidRequest
        If the URL is none of these.
    """
    if not isinstance(url, str):
        return FlightTransport(partial(tuple, url), timeout, token)
    if url.startswith("file:///"):
        return LocalTransport(Path(unquote(urlsplit(url).path)))
    with contextlib.suppress(ValueError):  # of a port that is none
        parts = urlsplit(url)
        reachable = bool(parts.hostname) and parts.port is not None
        match parts.scheme:
            case "grpc" | "grpc+tcp" | "grpc+tls" if reachable:
                return FlightTransport(lambda: (url,), timeout, token)
            case "http" | "https" if parts.hostname:
                return FlightTransport(partial(_endpoints, url, timeout), timeout, token)
    expected = "grpc://host:port, grpc+tls://host:port, http://host:port or file:///DATA"
    raise InvalidRequest(f"url: '{url}' is not {expected}")


def _endpoints(url: str, timeout: float) -> tuple[str, ...]:
    import httpx

    try:
        answer = httpx.get(url.rstrip("/") + "/flight", timeout=timeout, follow_redirects=True)
        answer.raise_for_status()
        endpoints: list[str] = answer.json()["endpoints"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(f"url: {url} does not name its Flight endpoints: {error}") from None
    # So that clients spread over the workers.
    return tuple(random.sample(endpoints, len(endpoints)))


class FlightTransport:
    """A service on the network.

    Parameters
    ----------
    find : callable
        Gives the Flight locations of replicas, when they are first needed; the next one is tried when one fails.
    timeout : float
        Deadline of a call, in seconds. A stream that has brought something by then is resumed in another call.
    token : str or None
        Sent along with every call.
    """

    def __init__(self, find: Callable[[], tuple[str, ...]], timeout: float, token: str | None = None) -> None:
        self._find = find
        self._headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        self._endpoints: tuple[str, ...] = ()
        self._timeout = timeout
        self._current = 0
        self._client: fl.FlightClient | None = None
        self._lock = threading.Lock()

    @property
    def _url(self) -> str:
        return self._endpoints[self._current % len(self._endpoints)]

    def _connected(self) -> fl.FlightClient:
        with self._lock:
            if self._client is None:
                self._endpoints = self._endpoints or self._find()
                self._client = fl.connect(self._url)
            return self._client

    def _next_endpoint(self, failed: fl.FlightClient) -> None:
        with self._lock:
            if self._client is failed:
                self._client = None
                self._current += 1

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def act(self, name: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """See `Transport.act`."""
        action = fl.Action(name, json.dumps(body).encode())
        options = fl.FlightCallOptions(timeout=self._timeout, headers=self._headers)
        for attempt in range(ATTEMPTS):
            client = self._connected()
            try:
                return json.loads(b"".join(r.body.to_pybytes() for r in client.do_action(action, options)))
            except pa.ArrowException as error:
                self._recover(client, error, attempt, ATTEMPTS)
        raise AssertionError("unreachable")

    def stream(self, request: Request, upload: pa.Table | None = None, timeout: float | None = None) -> Stream:
        """See `Transport.stream`; a long stream that breaks is resumed where it broke."""
        if isinstance(request, QueryRequest | SpanRequest) or _count(request, upload) <= SHORT:
            table = self._whole(request, upload, timeout or self._timeout)
            return Stream(table.schema, iter(table.to_batches()))
        return self._resuming(request, upload)

    def stream_once(self, request: Request) -> Stream:
        """See `Transport.stream_once`."""
        _, reader = self._opened(request, None)
        return Stream(reader.schema, self._passed_on(reader))

    def _passed_on(self, reader: _Reader) -> Iterator[pa.RecordBatch]:
        complete = False
        try:
            while True:
                yield reader.read_chunk().data
        except StopIteration:
            complete = True
        except pa.ArrowException as error:
            complete = True
            raise _meaning(error, self._url, self._timeout) from None
        finally:
            if not complete:
                reader.cancel()

    def _opened(self, request: Request, upload: pa.Table | None) -> tuple[fl.FlightClient, _Reader]:
        for attempt in range(ANSWER_ATTEMPTS):
            client = self._connected()
            try:
                return client, self._open(client, request, upload)
            except pa.ArrowException as error:
                self._recover(client, error, attempt, ANSWER_ATTEMPTS)
        raise AssertionError("unreachable")

    def _whole(self, request: Request, upload: pa.Table | None, timeout: float) -> pa.Table:
        ticket = fl.Ticket(_ticket(request, upload))
        options = fl.FlightCallOptions(timeout=timeout, headers=self._headers)
        for attempt in range(ANSWER_ATTEMPTS):
            client = self._connected()
            try:
                return client.do_get(ticket, options).read_all()
            except pa.ArrowException as error:
                self._recover(client, error, attempt, ANSWER_ATTEMPTS, timeout)
        raise AssertionError("unreachable")

    def _resuming(self, request: SpectraRequest | FitsRequest | MatchRequest, upload: pa.Table | None) -> Stream:
        client, reader = self._opened(request, upload)
        if isinstance(request, SpectraRequest) and (request.align or request.cutout):
            # A resumed list is shorter, so the span of the whole has to be told.
            grid = describe(reader.schema)["grid"]
            request = request.model_copy(update={"grid": (grid["k0"], grid["npix"]), "cutout": None})
        return Stream(reader.schema, self._batches(client, reader, request, upload))

    def _batches(
        self,
        client: fl.FlightClient,
        reader: _Reader | None,
        request: SpectraRequest | FitsRequest | MatchRequest,
        upload: pa.Table | None,
    ) -> Iterator[pa.RecordBatch]:
        attempt, start, received = 0, request.start, 0
        try:
            while True:
                try:
                    if reader is None:
                        client, received = self._connected(), 0
                        reader = self._open(client, request.model_copy(update={"start": start}), upload)
                    batch = reader.read_chunk().data
                except StopIteration:
                    reader = None
                    return
                except pa.ArrowException as error:
                    # A call that brought something before its deadline was only a long one.
                    if not (isinstance(error, fl.FlightTimedOutError) and received):
                        self._recover(client, error, attempt, RESUME_ATTEMPTS)
                        attempt += 1
                    reader = None
                else:
                    attempt, start, received = 0, start + batch.num_rows, received + batch.num_rows
                    yield batch
        finally:
            if reader is not None:
                reader.cancel()

    def _open(self, client: fl.FlightClient, request: Request, upload: pa.Table | None) -> _Reader:
        options = fl.FlightCallOptions(timeout=self._timeout, headers=self._headers)
        if upload is None or len(upload) <= MAX_TICKET_ROWS:
            return _Reader(client.do_get(fl.Ticket(_ticket(request, upload)), options))
        descriptor = fl.FlightDescriptor.for_command(_ticket(request, None))
        writer, reader = client.do_exchange(descriptor, options)
        try:
            writer.begin(upload.schema)
            writer.write_table(upload)
            writer.done_writing()
            return _Reader(reader, writer)
        except pa.ArrowException:
            # It would complain of the refusal when it is collected.
            with contextlib.suppress(pa.ArrowException):
                writer.close()
            raise

    def _recover(
        self, client: fl.FlightClient, error: Exception, attempt: int, attempts: int, timeout: float | None = None
    ) -> None:
        """Wait before another try, or raise what the error means."""
        ours = _meaning(error, self._url, timeout or self._timeout)
        if not isinstance(ours, ServiceUnavailable) or attempt >= attempts - 1:
            raise ours from None
        self._next_endpoint(client)
        time.sleep(min(0.1 * 2**attempt, 1.0))


class _Reader:
    """Reader of a DoGet, or of a DoExchange together with its writer, without which it ends."""

    def __init__(self, reader: Any, writer: Any = None) -> None:  # noqa: ANN401 - unrelated classes of pyarrow's
        self._reader, self._writer = reader, writer
        self.schema: pa.Schema = reader.schema
        self.read_chunk = reader.read_chunk

    def cancel(self) -> None:
        """Tell the service that nobody reads on."""
        self._reader.cancel()
        if self._writer is not None:
            # It would complain of the cancellation when it is collected.
            with contextlib.suppress(pa.ArrowException):
                self._writer.close()


def _count(request: SpectraRequest | FitsRequest | MatchRequest, upload: pa.Table | None) -> float:
    """Rows of the answer, infinite where they are not known."""
    if upload is not None:
        return len(upload)
    plain = request.ids is not None and all(isinstance(entry, int) for entry in request.ids[: SHORT + 1])
    return len(request.ids or ()) if plain else math.inf


def _ticket(request: Request, upload: pa.Table | None) -> bytes:
    fields = request.model_dump(mode="json", exclude_defaults=True) | {"what": request.what}
    if upload is not None:
        names = ["ids" if name == CATALOGUE_ID else name for name in upload.column_names]
        fields |= zip(names, (column.to_pylist() for column in upload.columns), strict=True)
    return json.dumps(fields, separators=(",", ":")).encode()


_NAMED = re.compile(r"(\w+): (.*)", re.DOTALL)


def _meaning(error: Exception, url: str, timeout: float) -> SpecflightError:
    """What an error of Flight means, as the server would have raised it."""
    text = str(error).partition(". Detail: ")[0].partition(". gRPC client debug context: ")[0].strip()
    if match := _NAMED.fullmatch(text):
        kind = getattr(errors, match[1], None)
        if isinstance(kind, type) and issubclass(kind, SpecflightError):
            return kind(match[2])
    match error:
        case fl.FlightTimedOutError():
            return QueryTimeout(f"timeout: {url} gave no answer within {timeout:g} s")
        case fl.FlightUnauthenticatedError():
            return errors.Unauthenticated(text)
        case fl.FlightUnauthorizedError():
            return errors.Forbidden(text)
        case fl.FlightError():
            # Whatever a connection dies of: refused, reset, closed in the middle of a stream.
            return ServiceUnavailable(f"url: {url} cannot be reached or broke off: {text}")
        case _:
            return SpecflightError(text)


class LocalTransport:
    """A data directory opened in this process, with no server; needs the server's packages.

    Parameters
    ----------
    data : Path
        The data directory.
    """

    def __init__(self, data: Path) -> None:
        try:
            from specflight.catalog.database import Cancellation
            from specflight.flight.actions import act
            from specflight.flight.service import Service
        except ModuleNotFoundError as error:
            raise InvalidRequest(f"url: file:// needs the package {error.name}: install specflight[server]") from None

        self._service, self._act, self._cancellation = Service(data), act, Cancellation
        # The database complains at the end of a program that leaves it open.
        self.close = weakref.finalize(self, self._service.close)

    def holds(self, context: str) -> bool:
        """Whether a context was ingested, so that its spectra are found at once."""
        contexts = self._service.contexts
        return (contexts.data / contexts.meant(context) / "MANIFEST.json").exists()

    def stream(self, request: Request, upload: pa.Table | None = None, timeout: float | None = None) -> Stream:
        """See `Transport.stream`."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        answer = self._service.answer(request, upload, self._cancellation(lambda: time.monotonic() > end))
        return Stream(answer.schema, answer.batches())

    def stream_once(self, request: Request) -> Stream:
        """See `Transport.stream_once`."""
        return self.stream(request)

    def act(self, name: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """See `Transport.act`."""
        return self._act(self._service, name, json.dumps(body).encode())
