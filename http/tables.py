"""Tables as CSV, JSON, Arrow, Parquet and VOTable, written while their rows arrive.

Nothing is kept but the rows that are being written: a table of any length takes the memory of one record batch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from specflight.client._transport import Stream
from specflight.errors import InvalidRequest
from specflight.http.cells import csv_cells, join, json_cells, slices
from specflight.http.votable import votable_pieces

__all__ = ["FORMATS", "Format", "Pieces", "about_columns", "choose_format"]

Pieces = Iterator[bytes | memoryview]

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format"""


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write a table.

    Attributes
    ----------
    media_type : str
    write : callable
        Gives the pieces of the file, in order, while it reads the stream.
    schema : dict
        JSON schema of the file, for the documentation.
    """

    media_type: str
    write: Callable[[Stream], Pieces]
    schema: dict[str, Any]


def choose_format(name: str | None, accept: str | None) -> Format:
    """Format of an answer.

    Parameters
    ----------
    name : str or None
        As the request names it, in any case; wins.
    accept : str or None
        The header Accept (RFC 9110, section 12.5.1).

    Returns
    -------
    Format
        The best that the header accepts; CSV where it accepts none, or there is no header.

    Raises
    ------
    InvalidRequest
        If there is no format of that name.
    """
    if name is not None:
        found = FORMATS.get(name.lower())
        if found is None:
            raise InvalidRequest(f"format: '{name}' is not one of {', '.join(FORMATS)}")
        return found
    ranges = _accepted(accept or "*/*")
    known = list(FORMATS.values())
    best = max(known, key=lambda candidate: ranges.get(candidate.media_type, 0.0))
    others = max(ranges.get("*/*", 0.0), ranges.get("text/*", 0.0))
    return best if ranges.get(best.media_type, 0.0) > others else FORMATS["csv"]


def _accepted(header: str) -> dict[str, float]:
    """Weights of the media types in the header."""
    weights: dict[str, float] = {}
    for entry in header.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = next((value for name, _, value in (p.partition("=") for p in parameters) if name == "q"), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    return weights


def about_columns(schema: pa.Schema) -> list[dict[str, str]]:
    """Name, type, unit and description of each column, the last two empty where they are not known."""
    told = [{key.decode(): value.decode() for key, value in (field.metadata or {}).items()} for field in schema]
    return [
        {
            "name": field.name,
            "type": str(field.type),
            "unit": about.get("unit", ""),
            "description": about.get("description", ""),
        }
        for field, about in zip(schema, told, strict=True)
    ]


def csv_pieces(stream: Stream) -> Pieces:
    """CSV with a header, as astropy writes it: missing values are empty, texts in quotes where they need them.

    Where there is but one column, an empty cell is ``""``, or readers would take the row for none.
    """
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(stream.schema.names)
    yield header.getvalue().encode()
    alone = len(stream.schema) == 1
    for rows in slices(stream.batches):
        cells = [csv_cells(column) for column in rows.columns]
        if alone:
            cells = [_quoted_empty(cells[0])]
        yield join(cells, "", ",", "\n", "")


def _quoted_empty(cells: pa.Array) -> pa.Array:
    filled = cells.fill_null("")
    return pa.compute.if_else(pa.compute.equal(filled, ""), '""', filled)


def json_pieces(stream: Stream) -> Pieces:
    """JSON object of ``columns``, what they are, and ``rows``, arrays of their values in that order."""
    yield f'{{"columns":{json.dumps(about_columns(stream.schema), ensure_ascii=False)},\n"rows":['.encode()
    before = "\n"
    for rows in slices(stream.batches):
        text = join([json_cells(column) for column in rows.columns], ",\n[", ",", "]", "null")
        # No comma before the first row.
        yield text if before == ",\n" else text[1:]
        before = ",\n"
    yield b"]}\n"


def arrow_pieces(stream: Stream) -> Pieces:
    """Arrow IPC stream: its schema and the batches as they come."""
    yield stream.schema.serialize().to_pybytes()
    for batch in stream.batches:
        yield memoryview(batch.serialize()).cast("B")
    yield _END_OF_STREAM


def parquet_pieces(stream: Stream) -> Pieces:
    """Parquet file with a row group for each batch."""
    sink = _Sink()
    # Numbers hardly repeat: to try dictionaries for them takes three quarters of the time.
    texts = [field.name for field in stream.schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(sink, stream.schema, use_dictionary=texts, compression="zstd", compression_level=1) as writer:
        for batch in stream.batches:
            writer.write_batch(batch)
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """A file whose bytes are taken away while it is written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def taken(self) -> list[bytes]:
        """What was written since it was last asked."""
        pieces, self._pieces = self._pieces, []
        return pieces


_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_COLUMN = {
    "type": "object",
    "required": ["name", "type", "unit", "description"],
    "properties": {name: {"type": "string"} for name in ("name", "type", "unit", "description")},
}
_JSON = {
    "type": "object",
    "required": ["columns", "rows"],
    "properties": {
        "columns": {"type": "array", "items": _COLUMN, "description": "the type is Arrow's, such as uint64 or float"},
        "rows": {
            "type": "array",
            "items": {"type": "array", "items": {}},
            "description": "values in the order of the columns; integers of 64 bits, such as specobjid, are strings "
            "of digits, since JavaScript's numbers do not hold them; NaN and infinities are null",
        },
    },
}

FORMATS = {
    "csv": Format("text/csv", csv_pieces, _TEXT),
    "json": Format("application/json", json_pieces, _JSON),
    "arrow": Format("application/vnd.apache.arrow.stream", arrow_pieces, _BINARY),
    "parquet": Format("application/vnd.apache.parquet", parquet_pieces, _BINARY),
    "votable": Format("application/x-votable+xml", votable_pieces, _TEXT),
}
"""Formats by the names that requests have for them."""
