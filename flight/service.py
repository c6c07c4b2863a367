"""What a data directory can answer: requests in, record batches out, no network.

The Flight server and the in-process client both stand on `Service.answer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from specflight.catalog.database import Cancellation, Deadline
from specflight.catalog.frames import region_in_icrs
from specflight.catalog.idlists import IdList
from specflight.catalog.regions import Box, Cone, Polygon, Region
from specflight.catalog.table import CatalogueTable
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded
from specflight.flight.answers import Answer, fits_answer, span_answer, spectra_answer, table_answer
from specflight.flight.contexts import Context, Contexts
from specflight.flight.matches import check_length, find_matches, with_vectors
from specflight.flight.pace import Pace
from specflight.flight.protocol import CATALOGUE_ID, unidentified
from specflight.flight.requests import (
    FitsRequest,
    MatchRequest,
    Query,
    QueryRequest,
    Request,
    SpanRequest,
    SpectraRequest,
)
from specflight.flight.resolve import find_spectra, specobjids, uploaded_ids
from specflight.flight.source import NO_ID, NOT_FOUND
from specflight.flight.tokens import TokenKey

__all__ = ["Forecast", "Service"]

T = TypeVar("T")

TRANSFER_FIXED, TRANSFER_BYTE = 1e-3, 1e-9
"""Seconds of a call and for each byte of spectra, as measured over loopback on two cores."""

FEW = 8
"""Spectra below which a transfer tells nothing about the pace."""

SEARCH_FIXED, SEARCH_ROW = 3e-3, 2e-8
"""Seconds of a query and for each row that it has to look at, as measured on two cores."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a request will cost.

    Attributes
    ----------
    rows : int
        Rows of the answer.
    exact : bool
        Whether `rows` is what will come, or was estimated from a sample.
    bytes : int
        Of the values of the answer, about; -1 where that is not known.
    seconds : float
        Time until the answer is complete; spectra at the pace that this server sent them so far.
    missing : int
        Entries of the list that have no spectrum.
    """

    rows: int
    exact: bool
    bytes: int
    seconds: float
    missing: int = 0


class Service:
    """Contexts of a data directory, and answers to requests for what is in them.

    Parameters
    ----------
    data : Path
        The data directory.

    Attributes
    ----------
    contexts : Contexts
    tokens : TokenKey
        Verifies who calls.

    Raises
    ------
    NotFound
        If there is no such folder.
    InvalidRequest
        If ``specflight.toml`` is at fault.
    """

    def __init__(self, data: Path) -> None:
        self.contexts = Contexts(data)
        self.tokens = TokenKey(data)
        self._transfer = Pace(TRANSFER_FIXED, TRANSFER_BYTE, least=1 << 20)

    def close(self) -> None:
        """Let go of the database."""
        self.contexts.close()

    def answer(
        self, request: Request, upload: pa.Table | None = None, cancellation: Cancellation | None = None
    ) -> Answer:
        """Answer to a request.

        Parameters
        ----------
        request : Request
        upload : pyarrow.Table or None
            Identifiers (column ``specobjid``) or positions (``ra`` and ``dec``) that came beside the request, in place
            of those in it.
        cancellation : Cancellation or None
            Stops what the database does for it.

        Raises
        ------
        SpecflightError
            Of the kind that says what is wrong; before anything is sent, but for damage found while reading.
        """
        match request:
            case QueryRequest():
                context = self.contexts.get(request.context)
                return table_answer(self._rows(context, request, request.columns, cancellation))
            case MatchRequest():
                return self._match(request, upload, self._deadline(cancellation))
            case _:
                wanted = self._wanted(request, upload, cancellation)
                return self._spectra(request, wanted, self._deadline(cancellation))

    def _deadline(self, cancellation: Cancellation | None) -> Deadline:
        return Deadline(self.contexts.settings.query_seconds, cancellation)

    def _spectra(
        self, request: SpectraRequest | SpanRequest | FitsRequest, wanted: IdList, deadline: Deadline
    ) -> Answer:
        found = find_spectra(self.contexts, request.context, wanted, request.missing, deadline.check)
        match request:
            case SpectraRequest():
                answer = spectra_answer(request, found)
                if answer.rows < FEW:
                    return answer
                return replace(answer, batches=lambda: self._transfer.watch(answer.batches(), answer.size))
            case SpanRequest():
                return span_answer(found)
            case FitsRequest():
                return fits_answer(request, found)

    def _wanted(
        self,
        request: SpectraRequest | SpanRequest | FitsRequest,
        upload: pa.Table | None,
        cancellation: Cancellation | None,
    ) -> IdList:
        given = [what for what in (request.ids, request.query, upload) if what is not None]
        if len(given) != 1:
            raise InvalidRequest(f"ids: give either a list of ids or a query, got {len(given)} of them")
        if request.query is not None:
            context = self.contexts.get(request.context)
            found = self._rows(context, request.query, (CATALOGUE_ID,), cancellation)[CATALOGUE_ID]
            if found.null_count:
                raise InvalidRequest(unidentified("query", found))
            ids = specobjids("query", found).to_numpy()
            return IdList(ids, ids)
        wanted = uploaded_ids(upload) if upload is not None else IdList.from_wire(request.ids or [])
        limit = self.contexts.settings.max_ids
        if len(wanted) > limit:
            raise LimitExceeded(f"ids: {len(wanted)} are more than the limit max_ids = {limit}")
        return wanted

    def _rows(
        self, context: Context, query: Query, columns: tuple[str, ...] | None, cancellation: Cancellation | None
    ) -> pa.Table:
        asked = (_region(query), query.where, query.order_by, query.limit, query.offset, columns, cancellation)
        return self._searched(context, query, lambda table: table.query(*asked))

    def _searched(self, context: Context, query: Query, search: Callable[[CatalogueTable], T]) -> T:
        try:
            return search(self.contexts.table(context, query.catalog))
        except DamagedData:
            # An ingest that ended in this moment has removed the files of the state before.
            return search(self.contexts.table(self.contexts.get(context.name), query.catalog))

    def _match(self, request: MatchRequest, upload: pa.Table | None, deadline: Deadline) -> Answer:
        context, settings = self.contexts.get(request.context), self.contexts.settings
        table = self.contexts.table(context, request.catalog)
        matches = find_matches(table, request, upload, settings.max_ids, settings.max_rows, deadline.check)
        if request.vectors is None:
            return table_answer(matches, request.start)
        ids = specobjids("columns", matches[CATALOGUE_ID]).fill_null(NO_ID).to_numpy()
        spectra = SpectraRequest(context=request.context, columns=request.vectors, missing="null", start=request.start)
        return with_vectors(matches, self._spectra(spectra, IdList(ids, ids), deadline), request.start)

    def count(self, query: Query, context: str, cancellation: Cancellation | None = None) -> int:
        """Number of rows that a query finds, however many they are."""
        asked = (_region(query), query.where, cancellation)
        found = self._searched(self.contexts.get(context), query, lambda table: table.count(*asked))
        rest = max(found - query.offset, 0)
        return rest if query.limit is None else min(rest, query.limit)

    def explain(self, request: Request, cancellation: Cancellation | None = None) -> Forecast:
        """Rows, bytes and time of a request before it is made; a condition is tried on a sample only."""
        match request:
            case QueryRequest():
                return self._explain_query(request, request.context, request.columns, cancellation)
            case MatchRequest():
                rows = len(request.ra or request.ids or ())
                check_length("ra", rows, self.contexts.settings.max_ids)
                return Forecast(rows, False, -1, SEARCH_FIXED + SEARCH_ROW * rows)
            case _:
                return self._explain_spectra(request, cancellation)

    def _explain_query(
        self, query: Query, context: str, columns: tuple[str, ...] | None, cancellation: Cancellation | None
    ) -> Forecast:
        asked = (_region(query), query.where, query.order_by, query.limit, query.offset, columns, cancellation)
        guess = self._searched(self.contexts.get(context), query, lambda table: table.estimate(*asked))
        size = round(guess.rows * guess.bytes_per_row)
        seconds = SEARCH_FIXED + SEARCH_ROW * guess.candidates + self._transfer.seconds(size)
        return Forecast(guess.rows, guess.exact, size, seconds)

    def _explain_spectra(
        self, request: SpectraRequest | SpanRequest | FitsRequest, cancellation: Cancellation | None
    ) -> Forecast:
        search = Forecast(0, True, 0, 0.0)
        if request.query is not None:
            search = self._explain_query(request.query, request.context, None, cancellation)
            if not search.exact:
                # Spectra are known by their ids only: take the mean of all.
                npix = self.contexts.get(request.context).source.npix
                columns = len(request.columns) if isinstance(request, SpectraRequest) and request.columns else 8
                size = round(search.rows * 4 * columns * float(npix.mean())) if len(npix) else 0
                return replace(search, bytes=size, seconds=search.seconds + self._transfer.seconds(size))
        wanted = self._wanted(request, None, cancellation)
        deadline = self._deadline(cancellation)
        found = find_spectra(self.contexts, request.context, wanted, "null", deadline.check)
        missing = int((found.rows == NOT_FOUND).sum())
        answer = self._spectra(request.model_copy(update={"missing": "null"}), wanted, deadline)
        seconds = search.seconds + self._transfer.seconds(max(answer.size(), 0))
        return Forecast(answer.rows, True, answer.size(), seconds, missing)


def _region(query: Query) -> Region | None:
    """Region of a query, in ICRS."""
    region: Region
    if query.cone is not None:
        region = Cone(*query.cone)
    elif query.polygon is not None:
        region = Polygon(query.polygon)
    elif query.box is not None:
        region = Box(*query.box)
    else:
        return None
    return region if query.frame == "icrs" else region_in_icrs(query.frame, region)
