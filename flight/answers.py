"""Answers to requests for spectra: rows of a source in, schema and record batches out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.table import CatalogueTable
from specflight.errors import DamagedData
from specflight.flight.grids import Grid, common_grid, cutout_grid, given_grid, span
from specflight.flight.protocol import (
    CATALOGUE_ID,
    STATUS_DAMAGED,
    STATUS_MISSING,
    STATUS_OK,
    FitsRequest,
    Request,
    SpectraRequest,
    choose_columns,
    fits_schema,
    spectra_schema,
)
from specflight.flight.settings import ContextSettings
from specflight.flight.source import EXPLICIT, NOT_FOUND, SpectrumSource
from specflight.flight.stream import SpectraPlan, spectra_batches

__all__ = ["Answer", "Context", "fits_answer", "span_answer", "spectra_answer"]

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


@dataclass(frozen=True, slots=True)
class Context:
    """A data set being served.

    Attributes
    ----------
    name : str
    about : ContextSettings
    source : SpectrumSource
    tables : dict of str to CatalogueTable
        By name without the schema; empty where nothing was ingested.
    """

    name: str
    about: ContextSettings
    source: SpectrumSource
    tables: dict[str, CatalogueTable]


def spectra_answer(
    context: Context, request: SpectraRequest, ids: NDArray[np.uint64], rows: NDArray[np.int64]
) -> Answer:
    """Answer a request for vectors.

    Parameters
    ----------
    context : Context
    request : SpectraRequest
    ids : ndarray of uint64, shape (n,)
        Identifiers in the order wanted.
    rows : ndarray of int64, shape (n,)
        Their rows in the context's source, or `NOT_FOUND`.

    Raises
    ------
    InvalidRequest
        If a column is none, or the spectra cannot be aligned or cut out as asked.
    """
    columns = choose_columns(request.columns)
    source = context.source
    grid: Grid | None = None
    if request.grid is not None:
        grid = given_grid(source, rows, request.grid)
    elif request.cutout is not None:
        grid = cutout_grid(source, rows, request.cutout)
    elif request.align:
        grid = common_grid(source, rows)
    place = (grid.k0, grid.npix) if grid else None
    on_grid = source.on_grid or not (source.k0[rows[rows != NOT_FOUND]] == EXPLICIT).any()
    schema = spectra_schema(columns, context.name, context.about.release, place, on_grid, request.layout)
    ids, rows = ids[request.start :], rows[request.start :]
    records, null_damaged = request.layout == "records", request.missing == "null"
    plan = SpectraPlan(schema, columns, ids, rows, grid, records, null_damaged)

    def size() -> int:
        pixels = grid.npix * len(rows) if grid else int(source.npix[rows[rows != NOT_FOUND]].sum())
        return 4 * pixels * len(columns)

    def parts(count: int) -> list[Request]:
        if not len(ids):
            return [request]
        fixed = {"query": None, "start": 0, "grid": place, "context": context.name}
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


def span_answer(context: Context, rows: NDArray[np.int64]) -> Answer:
    """Answer a request for the wavelength limits of rows: one row, the lowest and the highest loglam."""
    low, high = span(context.source, rows)
    batch = pa.record_batch([pa.array([low]), pa.array([high])], schema=SPAN_SCHEMA)
    return Answer(SPAN_SCHEMA, 1, lambda: batch.nbytes, lambda: iter([batch]))


def fits_answer(context: Context, request: FitsRequest, ids: NDArray[np.uint64], rows: NDArray[np.int64]) -> Answer:
    """Answer a request for original files; the parameters are those of `spectra_answer`.

    A file that is gone ends the stream with DamagedData, unless the request says ``missing='null'``.
    """
    schema = fits_schema(context.name)

    def batches() -> Iterator[pa.RecordBatch]:
        for specobjid, row in zip(ids.tolist(), rows.tolist(), strict=True):
            name, content, status = None, None, STATUS_MISSING
            if row != NOT_FOUND:
                try:
                    name, content = context.source.original(row)
                    status = STATUS_OK
                except DamagedData as error:
                    if request.missing != "null":
                        raise DamagedData(f"spectrum {specobjid}: {error}") from None
                    status = STATUS_DAMAGED
            yield pa.RecordBatch.from_pydict(
                {CATALOGUE_ID: [specobjid], "status": [status], "name": [name], "fits": [content]}, schema=schema
            )

    return Answer(schema, len(ids), lambda: -1, batches)
