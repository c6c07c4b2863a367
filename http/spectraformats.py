"""Spectra as Arrow, Parquet and CSV, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from specflight.flight.protocol import CATALOGUE_ID, VECTORS

__all__ = ["FORMATS", "Encoder", "arrow_stream", "csv_lines", "parquet_file"]

Encoder = Callable[[pa.Schema, Iterable[pa.RecordBatch]], Iterator[bytes | memoryview]]
"""From the schema and the batches of an answer (layout ``columns``) to the bytes of a body."""

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format"""

_SPECTRA_AT_ONCE = 32
"""Spectra that become text together: 10 MB with all vectors."""


def arrow_stream(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | memoryview]:
    """Arrow IPC stream of the batches."""
    yield memoryview(schema.serialize())
    for batch in batches:
        yield memoryview(batch.serialize())
    yield _END_OF_STREAM


class _Written:
    """File whose contents are taken away while it is written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: pa.Buffer | bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def parquet_file(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | memoryview]:
    """Parquet file with a row group for each batch."""
    file = _Written()
    # Vectors hardly repeat: a dictionary would only be tried and thrown away.
    with pq.ParquetWriter(pa.PythonFile(file, "w"), schema, compression="zstd", use_dictionary=False) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield file.take()
    yield file.take()


def csv_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes | memoryview]:
    """CSV with a row for each pixel: specobjid, then the vectors, each number as the shortest text that reads back."""
    names = [name for name in schema.names if name in VECTORS]
    plain = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    yield (",".join([CATALOGUE_ID, *names]) + "\n").encode()
    for batch in batches:
        for start in range(0, batch.num_rows, _SPECTRA_AT_ONCE):
            some = batch.slice(start, _SPECTRA_AT_ONCE)
            lengths = pc.list_value_length(some.column(names[0])).to_numpy()
            ids = np.repeat(some.column(CATALOGUE_ID).to_numpy(), lengths)
            vectors = [some.column(name).flatten() for name in names]
            text = pa.BufferOutputStream()
            pa.csv.write_csv(pa.RecordBatch.from_arrays([pa.array(ids), *vectors], [CATALOGUE_ID, *names]), text, plain)
            yield memoryview(text.getvalue())


FORMATS: dict[str, tuple[str, Encoder]] = {
    "arrow": ("application/vnd.apache.arrow.stream", arrow_stream),
    "parquet": ("application/vnd.apache.parquet", parquet_file),
    "csv": ("text/csv", csv_lines),
}
"""Media type and encoder of each."""
