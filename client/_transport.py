"""Ways to reach a service: Flight over the network, or a data directory in this process."""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
from numpy.typing import NDArray

from specflight import errors
from specflight.errors import InvalidRequest, QueryTimeout, ServiceUnavailable, SpecflightError
from specflight.flight.protocol import CATALOGUE_ID, FitsRequest, Request, SpectraRequest, describe

__all__ = ["FlightTransport", "LocalTransport", "Stream", "Transport", "connect"]

ATTEMPTS = 5
"""Tries in a row that bring nothing before a stream is given up."""

MAX_TICKET_IDS = 10_000
"""Identifiers that travel in a ticket (200 kB); longer lists go up as a table."""

SHORT = 256
"""Identifiers of a request whose whole answer keeps the deadline; of a longer one each batch does."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Schema and record batches of an answer."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Transport(Protocol):
    """What the client needs of a service."""

    def stream(self, request: Request, ids: NDArray[np.uint64] | None = None) -> Stream:
        """Answer to a request; `ids` stand in place of those in the request."""

    def act(self, name: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
        """Answer of a small question."""

    def close(self) -> None:
        """Let go of connections."""


def connect(url: str, timeout: float) -> Transport:
    """Transport for a URL.

    Parameters
    ----------
    url : str
        ``grpc://host:port`` or ``grpc+tls://host:port``; ``http://host:port``, which is asked for its Flight
        endpoints; or ``file:///DATA``, a data directory opened in this process.
    timeout : float
        Deadline of an answer, in seconds.

    Raises
    ------
    InvalidRequest
        If the URL is none of these.
    ServiceUnavailable
        If an ``http://`` service does not answer.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "grpc" | "grpc+tcp" | "grpc+tls" if parts.netloc:
            return FlightTransport((url,), timeout)
        case "http" | "https" if parts.netloc:
            return FlightTransport(_endpoints(url, timeout), timeout)
        case "file" if parts.path:
            return LocalTransport(Path(unquote(parts.path)))
    raise InvalidRequest(
        f"url: '{url}' is not grpc://host:port, grpc+tls://host:port, http://host:port or file:///DATA"
    )


def _endpoints(url: str, timeout: float) -> tuple[str, ...]:
    import httpx

    try:
        answer = httpx.get(url.rstrip("/") + "/flight", timeout=timeout, follow_redirects=True)
        answer.raise_for_status()
        endpoints: list[str] = answer.json()["endpoints"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(f"url: {url} does not name its Flight endpoints: {error}") from None
    return tuple(endpoints)


class FlightTransport:
    """A service on the network.

    Parameters
    ----------
    endpoints : tuple of str
        Flight locations of replicas; the next one is tried when one fails.
    timeout : float
        Deadline in seconds: of small answers as a whole, of streams from batch to batch.
    """

    def __init__(self, endpoints: tuple[str, ...], timeout: float) -> None:
        self._endpoints = endpoints
        self._timeout = timeout
        self._current = random.randrange(len(endpoints))  # so that clients spread over the workers
        self._client: fl.FlightClient | None = None
        self._lock = threading.Lock()

    @property
    def _url(self) -> str:
        return self._endpoints[self._current % len(self._endpoints)]

    def _connected(self) -> fl.FlightClient:
        with self._lock:
            if self._client is None:
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
        options = fl.FlightCallOptions(timeout=self._timeout)
        for attempt in range(ATTEMPTS):
            client = self._connected()
            try:
                return json.loads(b"".join(r.body.to_pybytes() for r in client.do_action(action, options)))
            except pa.ArrowException as error:
                self._recover(client, error, attempt)
        raise AssertionError("unreachable")

    def stream(self, request: Request, ids: NDArray[np.uint64] | None = None) -> Stream:
        """See `Transport.stream`; a stream that breaks is resumed where it broke."""
        for attempt in range(ATTEMPTS):
            client = self._connected()
            try:
                reader = self._open(client, request, ids)
                schema = reader.schema
            except pa.ArrowException as error:
                self._recover(client, error, attempt)
            else:
                return Stream(schema, self._batches(client, reader, request, ids))
        raise AssertionError("unreachable")

    def _open(
        self, client: fl.FlightClient, request: Request, ids: NDArray[np.uint64] | None
    ) -> fl.FlightStreamReader | fl.MetadataRecordBatchReader:
        short = ids is not None and len(ids) <= SHORT
        options = fl.FlightCallOptions(timeout=self._timeout) if short else fl.FlightCallOptions()
        if ids is None or len(ids) <= MAX_TICKET_IDS:
            return client.do_get(fl.Ticket(_ticket(request, ids)), options)
        descriptor = fl.FlightDescriptor.for_command(_ticket(request, None))
        writer, reader = client.do_exchange(descriptor, options)
        batch = pa.record_batch([pa.array(ids)], names=[CATALOGUE_ID])
        writer.begin(batch.schema)
        writer.write_batch(batch)
        writer.done_writing()
        return _Exchange(writer, reader)

    def _batches(
        self,
        client: fl.FlightClient,
        reader: Any,  # noqa: ANN401 - one of two unrelated classes
        request: Request,
        ids: NDArray[np.uint64] | None,
    ) -> Iterator[pa.RecordBatch]:
        if isinstance(request, SpectraRequest) and (request.align or request.cutout):
            # A resumed list is shorter, so the span of the whole has to be told.
            grid = describe(reader.schema)["grid"]
            request = request.model_copy(update={"grid": (grid["k0"], grid["npix"]), "cutout": None})
        attempt, received = 0, 0
        while True:
            try:
                if reader is None:
                    client = self._connected()
                    reader = self._open(client, *_resumed(request, ids, received))
                watched = ids is None or len(ids) > SHORT
                for batch in _watch(reader, self._timeout) if watched else _chunks(reader):
                    attempt, received = 0, received + batch.num_rows
                    yield batch
                reader = None
                return
            except pa.ArrowException as error:
                if not isinstance(request, SpectraRequest | FitsRequest):
                    attempt = ATTEMPTS
                self._recover(client, error, attempt)
                attempt, reader = attempt + 1, None
            finally:
                if reader is not None:
                    reader.cancel()

    def _recover(self, client: fl.FlightClient, error: Exception, attempt: int) -> None:
        """Wait before another try, or raise what the error means."""
        ours = _meaning(error, self._url, self._timeout)
        if not isinstance(ours, ServiceUnavailable) or attempt >= ATTEMPTS - 1:
            raise ours from None
        self._next_endpoint(client)
        time.sleep(0.1 * 2**attempt)


class _Exchange:
    """Reader of a DoExchange that keeps its writer alive."""

    def __init__(self, writer: fl.FlightStreamWriter, reader: fl.FlightStreamReader) -> None:
        self._writer, self._reader = writer, reader
        self.schema = reader.schema
        self.read_chunk = reader.read_chunk
        self.cancel = reader.cancel


def _ticket(request: Request, ids: NDArray[np.uint64] | None) -> bytes:
    fields = request.model_dump(mode="json", exclude_defaults=True) | {"what": request.what}
    if ids is not None:
        fields["ids"] = ids.tolist()
    return json.dumps(fields, separators=(",", ":")).encode()


def _resumed(
    request: Request, ids: NDArray[np.uint64] | None, received: int
) -> tuple[Request, NDArray[np.uint64] | None]:
    assert isinstance(request, SpectraRequest | FitsRequest)
    return request.model_copy(update={"start": request.start + received}), ids


def _chunks(reader: Any) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    with contextlib.suppress(StopIteration):
        while True:
            yield reader.read_chunk().data


def _watch(reader: Any, timeout: float) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    """Batches of a stream, which is cancelled when the next one takes longer than `timeout`."""
    done = threading.Event()
    deadline = time.monotonic() + timeout

    def watch() -> None:
        while not done.wait(min(1.0, timeout / 4)):
            if time.monotonic() > deadline:
                reader.cancel()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        for batch in _chunks(reader):
            deadline = float("inf")
            yield batch
            deadline = time.monotonic() + timeout
    except pa.ArrowException:
        if time.monotonic() > deadline:
            raise fl.FlightTimedOutError("no data") from None
        raise
    finally:
        done.set()


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
        from specflight.flight.service import Service

        self._service = Service(data)

    def stream(self, request: Request, ids: NDArray[np.uint64] | None = None) -> Stream:
        """See `Transport.stream`."""
        answer = self._service.answer(request, ids)
        return Stream(answer.schema, answer.batches())

    def act(self, name: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        """See `Transport.act`."""
        return self._service.act(name, json.dumps(body).encode())

    def close(self) -> None:
        """See `Transport.close`."""
        self._service.close()
