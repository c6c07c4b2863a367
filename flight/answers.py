"""Answers to requests for spectra: rows of a source in, schema and record batches out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from specflight.errors import DamagedData
from specflight.flight.grids import Grid, common_grid, cutout_grid, given_grid, span
from specflight.flight.protocol import (
    CATALOGUE_ID,
    STATUS_DAMAGED,
    STATUS_MISSING,
    STATUS_OK,
    choose_columns,
    fits_schema,
    spectra_schema,
)
from specflight.flight.requests import FitsRequest, Request, SpectraRequest
from specflight.flight.resolve import Found
from specflight.flight.source import EXPLICIT, NO_ID, NOT_FOUND
from specflight.flight.stream import SpectraPlan, spectra_batches

__all__ = ["Answer", "fits_answer", "span_answer", "spectra_answer", "table_answer"]

BATCH_ROWS = 1 << 16
"""Rows of a table that are sent at once, so that whoever passes them on needs little memory."""

SPAN_SCHEMA = pa.schema([pa.field("w0", pa.float64()), pa.field("w1", pa.float64())])


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it is sent.

    Attributes
    ----------
    schema : pyarrow.Schema
    rows : int
        Rows in all.
    size : callable
        Bytes of the values in all, about; -1 where that is not known.
    batches : callable
        Gives the record batches, in order.
    compression : str or None
        Of the batches on the wire.
    parts : callable or None
        Splits the request into that many consecutive requests at most; None where it cannot be split.
    """

    schema: pa.Schema
    rows: int
    size: Callable[[], int]
    batches: Callable[[], Iterator[pa.RecordBatch]]
    compression: str | None = None
    parts: Callable[[int], list[Request]] | None = None


def table_answer(table: pa.Table, start: int = 0) -> Answer:
    """Answer with a table, but for its first `start` rows."""
    rest = table.slice(start)
    return Answer(rest.schema, rest.num_rows, lambda: rest.nbytes, lambda: iter(rest.to_batches(BATCH_ROWS)))


def spectra_answer(request: SpectraRequest, found: Found) -> Answer:
    """Answer a request for vectors of the spectra found.

    Raises
    ------
    InvalidRequest
        If a column is none, or the spectra cannot be aligned or cut out as asked.
    """
    columns = choose_columns(request.columns)
    context, source, rows = found.context, found.context.source, found.rows
    grid: Grid | None = None
    if request.grid is not None:
        grid = given_grid(source, rows, request.grid)
    elif request.cutout is not None:
        grid = cutout_grid(source, rows, request.cutout)
    elif request.align:
        grid = common_grid(source, rows)
    place = (grid.k0, grid.npix) if grid else None
    on_grid = source.on_grid or not (source.k0[rows[rows != NOT_FOUND]] == EXPLICIT).any()
    schema = spectra_schema(
        columns, context.name, context.about.release, place, on_grid, request.layout, found.found_in
    )
    ids, rows = found.ids[request.start :], rows[request.start :]
    records, null_damaged = request.layout == "records", request.missing == "null"
    plan = SpectraPlan(schema, columns, ids, rows, grid, records, null_damaged)

    def size() -> int:
        pixels = grid.npix * len(rows) if grid else int(source.npix[rows[rows != NOT_FOUND]].sum())
        return 4 * pixels * len(columns)

    def parts(count: int) -> list[Request]:
        if not len(ids):
            return [request]
        # A part has to look where the whole did.
        place_asked = request.context if found.found_in else context.name
        fixed = {"query": None, "start": 0, "grid": place, "context": place_asked}
        step = -(-len(ids) // count)
        return [
            request.model_copy(update={**fixed, "ids": ids[at : at + step].tolist()}) for at in range(0, len(ids), step)
        ]

    return Answer(
        schema,
        len(ids),
        size,
        lambda: spectra_batches(source, plan),
        request.compression,
        parts,
    )


def span_answer(found: Found) -> Answer:
    """Answer a request for the wavelength limits of the spectra found: one row, the lowest and the highest loglam."""
    low, high = span(found.context.source, found.rows)
    batch = pa.record_batch([pa.array([low]), pa.array([high])], schema=SPAN_SCHEMA)
    return Answer(SPAN_SCHEMA, 1, lambda: batch.nbytes, lambda: iter([batch]))


def fits_answer(request: FitsRequest, found: Found) -> Answer:
    """Answer a request for the original files of the spectra found.

    A file that is gone ends the stream with DamagedData, unless the request says ``missing='null'``.
    """
    schema, source = fits_schema(found.context.name), found.context.source
    ids, rows = found.ids[request.start :], found.rows[request.start :]

    def batches() -> Iterator[pa.RecordBatch]:
        for specobjid, row in zip(ids.tolist(), rows.tolist(), strict=True):
            name, content, status = None, None, STATUS_MISSING
            if row != NOT_FOUND:
                try:
                    name, content = source.original(row)
                    status = STATUS_OK
                except DamagedData as error:
                    if request.missing != "null":
                        raise DamagedData(f"spectrum {specobjid}: {error}") from None
                    status = STATUS_DAMAGED
            yield pa.RecordBatch.from_pydict(
                {
                    CATALOGUE_ID: [specobjid if specobjid != NO_ID else None],
                    "status": [status],
                    "name": [name],
                    "fits": [content],
                },
                schema=schema,
            )

    return Answer(schema, len(ids), lambda: -1, batches)
