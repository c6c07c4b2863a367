"""The rows of a table, memory-mapped, so that any of them are taken without decoding their neighbours.

Parquet is the truth; to take one row out of it a whole row group is decompressed, for tens of milliseconds. The copy
here is uncompressed Arrow: it about doubles the room of a catalogue, which is a hundredth of that of its spectra.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.derived import open_derived, write_derived
from specflight.errors import DamagedData, InvalidRequest

__all__ = ["ROW", "RowScan", "RowStore"]

ROW = "_row"
"""Name under which a scan gives the number of a row: no column of a table is called so."""

_BATCH = 100_000  # rows, as in a row group of the Parquet files
_LONGEST = b"specflight.longest"
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_LONG = 10_000  # rows of a piece that is handed on by itself; shorter ones are copied together


@dataclass(frozen=True)
class RowStore:
    """All columns of a table in the order of its rows, in one memory-mapped Arrow IPC file.

    Row i of the store is row i of the Parquet files taken one after the other.

    Attributes
    ----------
    schema : pyarrow.Schema
        Columns with their metadata, such as units.
    rows : int
    sizes : mapping of str to int
        Bytes of the longest text in each column of texts or binary values, or of lists of these.
    """

    schema: pa.Schema
    rows: int
    sizes: Mapping[str, int]
    _batches: tuple[pa.RecordBatch, ...]

    @classmethod
    def build(cls, files: Sequence[Path], path: Path) -> RowStore:
        """Write the rows of Parquet files and map them; a file at `path` is replaced at once and whole.

        Memory is needed for one row group and one batch of rows at a time.

        Raises
        ------
        DamagedData
            If a file cannot be read or has other columns than the first one.
        InvalidRequest
            If a column is called `ROW`.
        """
        try:
            schema = _plain(pq.read_schema(files[0]))
            if ROW in (name.lower() for name in schema.names):
                raise InvalidRequest(f"columns: the name '{ROW}' is taken by the number of a row; rename the column")
            batches = _even_batches(_parquet_batches(files, schema))
            write_derived(path, schema, map(_measured, batches), files)
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the Parquet files of '{path.parent.name}' cannot be read: {error}") from error
        store = cls.open(path, files)
        if store is None:
            raise DamagedData(f"the Parquet files of '{path.parent.name}' changed while their rows were copied")
        return store

    @classmethod
    def open(cls, path: Path, files: Sequence[Path]) -> RowStore | None:
        """Map rows that were written before.

        Returns
        -------
        RowStore or None
            None if there is no readable file at `path`, or it belongs to other Parquet files: build it anew.
        """
        reader = open_derived(path, files)
        if reader is None:
            return None
        sizes: dict[str, int] = {}
        batches = []
        for i in range(reader.num_record_batches):
            batch, metadata = reader.get_batch_with_custom_metadata(i)
            batches.append(batch)
            for name, size in json.loads(metadata[_LONGEST]).items():
                sizes[name] = max(size, sizes.get(name, 0))
        return cls(reader.schema.remove_metadata(), sum(map(len, batches)), sizes, tuple(batches))

    def take(self, rows: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Take rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Row numbers in any order, also more than once.
        names : sequence of str
            Columns, as the table spells them.

        Returns
        -------
        pyarrow.Table
            The n rows in the order asked for; where they lie together, a view of the file.
        """
        return pa.Table.from_batches(self.batches(rows, names), self._fields(names))

    def batches(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Take rows bit by bit; as `take`."""
        for first in range(0, len(rows), _BATCH):
            yield from self._gather(rows[first : first + _BATCH], names)

    def scan(self, rows: NDArray[np.int64] | None, names: Sequence[str]) -> RowScan:
        """Prepare a scan of some rows, or of all if `rows` is None, for `Database.execute`."""
        return RowScan(self, rows, tuple(names))

    def _fields(self, names: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in names])

    def _gather(self, rows: NDArray[np.int64], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        steps = np.diff(rows)
        if (steps < 0).any():
            order = np.argsort(rows)
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            yield pa.concat_batches(self._gather(rows[order], names)).take(pa.array(place))
            return
        numbers = rows // _BATCH
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
        parts = []
        for first, last in pairwise(edges):
            batch = self._batches[numbers[first]].select(names)
            within = rows[first:last] - numbers[first] * _BATCH
            together = (steps[first : last - 1] == 1).all()
            parts.append(batch.slice(within[0], last - first) if together else batch.take(pa.array(within)))
        yield from parts if len(rows) >= _LONG * len(parts) else [pa.concat_batches(parts)]


@dataclass(frozen=True)
class RowScan:
    """Rows of a store with their numbers in a column `ROW`, as any reader of Arrow's C stream takes them.

    The rows are taken when they are read, so a reader that has enough leaves the rest alone; every reader starts at
    the first one.
    """

    store: RowStore
    rows: NDArray[np.int64] | None
    names: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns, the row number last."""
        return self.store._fields(self.names).append(pa.field(ROW, pa.int64()))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        batches = self._numbered()
        if self.rows is not None and len(self.rows) <= _BATCH:
            # a reader without calls back into Python answers a small query in half the time
            return pa.Table.from_batches(batches, self.schema).__arrow_c_stream__(requested_schema)
        reader = pa.RecordBatchReader.from_batches(self.schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _numbered(self) -> Iterator[pa.RecordBatch]:
        first = 0
        batches = self.store._batches if self.rows is None else self.store.batches(self.rows, self.names)
        for batch in batches:
            last = first + len(batch)
            numbers = np.arange(first, last) if self.rows is None else self.rows[first:last]
            columns = batch.select(self.names).columns
            yield pa.record_batch([*columns, pa.array(numbers, pa.int64())], schema=self.schema)
            first = last


def _plain(schema: pa.Schema) -> pa.Schema:
    """Drop what the Parquet reader adds to a column's metadata, and dictionaries, which differ from file to file."""
    fields = []
    for field in schema:
        own = {key: value for key, value in (field.metadata or {}).items() if not key.startswith(b"PARQUET:")}
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fields.append(pa.field(field.name, kind, metadata=own or None))
    return pa.schema(fields)


def _parquet_batches(files: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != schema.names:
                raise DamagedData(f"the catalogue's file {path.name} has other columns than the first one")
            for batch in file.iter_batches(batch_size=_BATCH):
                yield batch.cast(schema)


def _measured(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Note the sizes of a batch's longest texts in its metadata."""
    sizes = {}
    for field, values in zip(batch.schema, batch.columns, strict=True):
        while any(test(values.type) for test in _LISTS):
            values = pc.list_flatten(values)
        kind = values.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
            sizes[field.name] = pc.max(pc.binary_length(values)).as_py() or 0
    return batch.replace_schema_metadata({_LONGEST: json.dumps(sizes).encode()})


def _even_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut batches anew, so that all but the last have `_BATCH` rows and a row's batch follows from its number."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        while sum(map(len, pending)) >= _BATCH:
            waiting = pa.concat_batches(pending)
            yield waiting.slice(0, _BATCH)
            pending = [waiting.slice(_BATCH)]
    if any(map(len, pending)):
        yield pa.concat_batches(pending)
