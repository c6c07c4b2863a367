"""Answers to match requests: rows of a catalogue beside a list of positions or identifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.frames import to_icrs
from specflight.catalog.identifiers import parse_ids
from specflight.catalog.match import Matches, match_positions
from specflight.catalog.table import CatalogueTable
from specflight.errors import InvalidRequest, LimitExceeded, NotFound
from specflight.flight.answers import Answer
from specflight.flight.protocol import CATALOGUE_ID, STATUS_MISSING, STATUS_OK
from specflight.flight.requests import MatchRequest

__all__ = ["check_length", "find_matches", "with_vectors"]

_ROW = pa.field("row", pa.int64(), metadata={"description": "number of the row in the list, from 0 on"})
_SEPARATION = pa.field("separation", pa.float64(), metadata={"unit": "deg", "description": "from the position given"})
_STATUS = pa.field("status", pa.string(), metadata={"description": "ok, or missing where nothing was found"})
NO_ROW = -1


def find_matches(
    table: CatalogueTable,
    request: MatchRequest,
    upload: pa.Table | None,
    max_list: int,
    max_rows: int,
    check: Callable[[], None],
) -> pa.Table:
    """Find the rows of a catalogue for each position or identifier of a list.

    Parameters
    ----------
    table : CatalogueTable
    request : MatchRequest
    upload : pyarrow.Table or None
        The list, in place of the one in the request: columns ``ra`` and ``dec``, or ``specobjid``.
    max_list : int
        Limit of the list.
    max_rows : int
        Limit of the rows of the answer.
    check : callable
        Raises when the time of the request is over.

    Returns
    -------
    pyarrow.Table
        ``row``, ``separation`` in degrees (positions only), ``status`` and the catalogue's columns, in the order of
        the list and then of separation.

    Raises
    ------
    InvalidRequest
        If there is no list, or it holds what is no position or no identifier.
    LimitExceeded
        If the list or the answer is too long.
    NotFound
        If the request wants an error where nothing is found.
    """
    columns = tuple(name.lower() for name in request.columns or (CATALOGUE_ID,))
    if CATALOGUE_ID not in columns:
        columns = (CATALOGUE_ID, *columns)
    if taken := {"row", "separation", "status", *(request.vectors or ())} & set(columns):
        raise InvalidRequest(f"columns: '{min(taken)}' is another column of this match; query it by itself")
    ids = upload[CATALOGUE_ID] if upload is not None and CATALOGUE_ID in upload.column_names else request.ids
    if ids is not None and table.id_column is None:
        raise InvalidRequest(f"ids: the catalogue {table.name} has no specobjid")
    if ids is None and table.position is None:
        raise InvalidRequest(f"ra: the catalogue {table.name} has no positions")
    if ids is not None:
        count, matches = _by_ids(table, request, ids, max_list)
    else:
        count, matches = _by_position(table, request, upload, max_list, max_rows, check)
    position, row, separation = _unmatched(request, count, matches)
    if len(row) > max_rows:
        raise LimitExceeded(f"match: {len(row)} rows are more than the limit max_rows = {max_rows}")
    found = row != NO_ROW
    fields = [_ROW, *([_SEPARATION] if ids is None else []), _STATUS]
    status = pa.array([STATUS_MISSING, STATUS_OK]).take(pa.array(found.astype(np.int8)))
    arrays = [pa.array(position), *([pa.array(separation, mask=~found)] if ids is None else []), status]
    result = pa.table(arrays, schema=pa.schema(fields))
    held = table.rows_table(row[found], columns)
    if not found.all():
        places = np.cumsum(found) - 1
        held = held.take(pa.array(places, mask=~found))
    for field, column in zip(held.schema, held.columns, strict=True):
        result = result.append_column(field, column)
    return result


def _by_ids(
    table: CatalogueTable, request: MatchRequest, ids: pa.ChunkedArray | list[Any], max_list: int
) -> tuple[int, Matches]:
    if request.radius is not None:
        raise InvalidRequest(f"radius: {request.radius} has no meaning for ids; leave it out")
    wanted = parse_ids(ids if isinstance(ids, list) else ids.to_pylist() if ids.null_count else ids.to_numpy())
    check_length("ids", len(wanted), max_list)
    position, row = table.sky.rows_of(pa.array(wanted))
    return len(wanted), Matches(position, row, np.zeros(len(row)))


def _by_position(
    table: CatalogueTable,
    request: MatchRequest,
    upload: pa.Table | None,
    max_list: int,
    max_rows: int,
    check: Callable[[], None],
) -> tuple[int, Matches]:
    ra, dec = _positions(request, upload)
    if request.radius is None:
        raise InvalidRequest("radius: a match of positions needs one, in degrees")
    check_length("ra", len(ra), max_list)
    if request.frame != "icrs":
        ra, dec = to_icrs(request.frame, ra, dec)
    found = match_positions(
        table.sky, ra, dec, request.radius, nearest=request.nearest, max_pairs=max_rows, check=check
    )
    return len(ra), found


def _positions(request: MatchRequest, upload: pa.Table | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if upload is not None:
        missing = [name for name in ("ra", "dec") if name not in upload.column_names]
        if missing:
            raise InvalidRequest(f"{missing[0]}: the table has no such column, only {upload.column_names}")
        columns = [upload[name] for name in ("ra", "dec")]
    else:
        columns = [pa.chunked_array([values or []], pa.float64()) for values in (request.ra, request.dec)]
    for name, column in zip(("ra", "dec"), columns, strict=True):
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise InvalidRequest(f"{name}: the column holds {column.type}, not degrees")
        if column.null_count:
            raise InvalidRequest(f"{name}: {column.null_count} of {len(column)} values are null")
    ra, dec = (np.asarray(column.to_numpy(), np.float64) for column in columns)
    return ra, dec


def check_length(name: str, length: int, limit: int) -> None:
    """Refuse a list that is empty or too long."""
    if not length:
        raise InvalidRequest(f"{name}: the list to match is empty")
    if length > limit:
        raise LimitExceeded(f"{name}: {length} entries are more than the limit max_ids = {limit}")


def _unmatched(
    request: MatchRequest, count: int, matches: Matches
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Positions, rows and separations, with a place for each entry of the list that nothing was found for."""
    gone = np.ones(count, np.bool_)
    gone[matches.position] = False
    if request.missing == "skip" or not gone.any():
        return matches.position, matches.row, matches.separation
    if request.missing == "raise":
        first = int(np.flatnonzero(gone)[0])
        raise NotFound(
            f"match: {int(gone.sum())} of {count} entries have no match; the first is row {first} of the list, "
            "counted from 0"
        )
    holes = np.flatnonzero(gone)
    position = np.concatenate([matches.position, holes])
    row = np.concatenate([matches.row, np.full(len(holes), NO_ROW)])
    separation = np.concatenate([matches.separation, np.full(len(holes), np.nan)])
    order = np.argsort(position, kind="stable")
    return position[order], row[order], separation[order]


def with_vectors(matches: pa.Table, vectors: Answer, start: int) -> Answer:
    """Put the vectors of spectra beside the matches that they belong to.

    Parameters
    ----------
    matches : pyarrow.Table
        From `find_matches`.
    vectors : Answer
        A row for each match from `start` on.
    start : int
    """
    kept = [name for name in vectors.schema.names if name not in (CATALOGUE_ID, "status")]
    schema = pa.schema([*matches.schema, *(vectors.schema.field(name) for name in kept)], vectors.schema.metadata)

    def batches() -> Iterator[pa.RecordBatch]:
        at = start
        for batch in vectors.batches():
            beside = matches.slice(at, batch.num_rows).combine_chunks().to_batches()[0]
            at += batch.num_rows
            columns = [batch["status"] if name == "status" else beside[name] for name in matches.schema.names]
            yield pa.record_batch([*columns, *(batch[name] for name in kept)], schema=schema)

    return Answer(schema, vectors.rows, lambda: vectors.size() + matches.nbytes, batches, vectors.compression)
