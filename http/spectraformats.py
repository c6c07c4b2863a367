"""Spectra as Arrow, Parquet and CSV, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from specflight.client._transport import Stream
from specflight.flight.protocol import CATALOGUE_ID, VECTORS
from specflight.http.tables import FORMATS as TABLES
from specflight.http.tables import Pieces

__all__ = ["FORMATS"]

_SPECTRA_AT_ONCE = 32
"""Spectra that become text together: 10 MB with all vectors."""


def _csv(spectra: Stream) -> Pieces:
    """CSV with a row for each pixel: specobjid, then the vectors."""
    names = [name for name in spectra.schema.names if name in VECTORS]
    kinds = [pa.field(name, spectra.schema.field(name).type.value_type) for name in names]
    schema = pa.schema([spectra.schema.field(CATALOGUE_ID), *kinds])
    return TABLES["csv"].write(Stream(schema, _pixels(spectra.batches, schema)))


def _pixels(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, _SPECTRA_AT_ONCE):
            some = batch.slice(start, _SPECTRA_AT_ONCE)
            spectrum = pc.list_parent_indices(some.column(schema.names[1]))
            vectors = [some.column(name).flatten() for name in schema.names[1:]]
            yield pa.record_batch([some.column(CATALOGUE_ID).take(spectrum), *vectors], schema=schema)


FORMATS: dict[str, tuple[str, Callable[[Stream], Pieces]]] = {
    "arrow": (TABLES["arrow"].media_type, TABLES["arrow"].write),
    "parquet": (TABLES["parquet"].media_type, TABLES["parquet"].write),
    "csv": (TABLES["csv"].media_type, _csv),
}
"""Media type of each, and what writes an answer of the layout ``columns``."""
