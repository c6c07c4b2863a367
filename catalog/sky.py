"""The index of a table: its rows sorted by HEALPix cell and by identifier, so that regions and ids are found at once.

A region is covered with HEALPix cells; the index gives the few rows in them, and an exact test on unit vectors decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.derived import open_derived, write_derived
from specflight.catalog.healpix import NO_POSITION, Vector, unit_vectors
from specflight.catalog.regions import Region
from specflight.errors import DamagedData, InvalidRequest

__all__ = ["CELL", "SkyIndex"]

CELL = "_healpix_29"
"""The column of HEALPix cells: it can be queried but is not listed."""

Rows = NDArray[np.int64]

_PIECE = 16_384  # rows that are tested at once: they stay in the cache, and in half a second with 1000 vertices


@dataclass(frozen=True)
class SkyIndex:
    """Positions of a table's rows, sorted by HEALPix cell, and its identifiers, in one memory-mapped Arrow IPC file.

    Row i of the index is row i of the Parquet files taken one after the other.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Nested HEALPix cells of order 29, ascending; `NO_POSITION` where a row has no coordinates.
    x, y, z : ndarray of float64, shape (n,)
        Unit vectors; NaN where a row has no coordinates.
    ids : pyarrow.Array
        The table's column of identifiers; of type null if it has none.
    sorted_ids : pyarrow.Array
        The identifiers ascending, null ones last.
    by_id : ndarray of int64, shape (n,)
        Row of each of `sorted_ids`; those of equal ones ascend.
    has_positions : bool
        Whether the table has columns of positions at all.
    """

    cells: Rows
    x: Vector
    y: Vector
    z: Vector
    ids: pa.Array
    sorted_ids: pa.Array
    by_id: Rows
    has_positions: bool

    @classmethod
    def build(
        cls,
        files: Sequence[Path],
        path: Path,
        *,
        ra: str | None = "ra",
        dec: str | None = "dec",
        id_column: str | None = "specobjid",
    ) -> SkyIndex:
        """Write the index of a table and open it; a file at `path` is replaced at once and whole.

        Parameters
        ----------
        files : sequence of Path
            The table's Parquet files, sorted by their column ``_healpix_29`` if it has positions.
        path : Path
            Where the index is written.
        ra, dec, id_column : str or None
            Names of the columns of positions (degrees) and of identifiers; None where there are none.

        Raises
        ------
        DamagedData
            If the rows are not sorted by cell, or a file cannot be read.
        """
        wanted = [*((CELL, ra, dec) if ra and dec else ()), *((id_column,) if id_column else ())]
        try:
            table = pa.concat_tables(pq.read_table(file, columns=[*dict.fromkeys(wanted)]) for file in files)
            absent = pa.nulls(sum(pq.read_metadata(file).num_rows for file in files))
            positions = _positions(table, ra, dec) if ra and dec else [absent] * 4
            identifiers = _identifiers(table[id_column]) if id_column else [absent] * 3
            columns = [*positions, *identifiers]
            batch = pa.record_batch(columns, names=["cells", "x", "y", "z", "ids", "sorted_ids", "by_id"])
            write_derived(path, batch.schema, [batch], files)
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the Parquet files of '{path.parent.name}' cannot be read: {error}") from error
        index = cls.open(path, files)
        if index is None:
            raise DamagedData(f"the Parquet files of '{path.parent.name}' changed while they were indexed")
        return index

    @classmethod
    def open(cls, path: Path, files: Sequence[Path]) -> SkyIndex | None:
        """Map an index that was built before.

        Returns
        -------
        SkyIndex or None
            None if there is no readable index at `path`, or it belongs to other Parquet files: build it anew.
        """
        reader = open_derived(path, files)
        if reader is None:
            return None
        batch = reader.get_batch(0)
        ids, sorted_ids = batch.column("ids"), batch.column("sorted_ids")
        has_positions = not pa.types.is_null(batch.column("cells").type)
        if has_positions:
            cells, x, y, z = (batch.column(name).to_numpy() for name in ("cells", "x", "y", "z"))
        else:
            cells, nowhere = np.broadcast_to(np.int64(NO_POSITION), len(batch)), np.broadcast_to(np.nan, len(batch))
            x = y = z = nowhere
        by_id = np.empty(0, np.int64) if pa.types.is_null(ids.type) else batch.column("by_id").to_numpy()
        return cls(cells, x, y, z, ids, sorted_ids, by_id, has_positions)

    def __len__(self) -> int:
        return len(self.cells)

    def candidates(self, region: Region) -> Rows:
        """Find the rows in the cells that cover a region.

        Returns
        -------
        ndarray of int64, shape (n, 2)
            Ranges [first, last) of row numbers, ascending; none is empty.

        Raises
        ------
        InvalidRequest
            If the table has no positions.
        """
        if not self.has_positions:
            raise InvalidRequest("region: this catalogue has no positions; ask for its rows by identifier or condition")
        rows = np.searchsorted(self.cells, region.cover())
        return rows[rows[:, 0] < rows[:, 1]].astype(np.int64)

    def search(self, *regions: Region) -> Rows:
        """Find the rows that lie in every one of some regions.

        Parameters
        ----------
        *regions : Region
            At least one.

        Returns
        -------
        ndarray of int64, shape (n,)
            Row numbers, ascending.

        Raises
        ------
        InvalidRequest
            If the table has no positions.
        """
        return np.concatenate([np.empty(0, np.int64), *self.pieces(*regions)])

    def pieces(self, *regions: Region) -> Iterator[Rows]:
        """Find rows bit by bit, so that the caller can stop in between; as `search`.

        There is a piece without rows after the cover of each region, which takes time, too.
        """
        covers = []
        for region in regions:
            covers.append(self.candidates(region))
            yield np.empty(0, np.int64)
        ranges = min(covers, key=lambda r: int((r[:, 1] - r[:, 0]).sum()))
        for rows in _row_pieces(ranges):
            for region in regions:
                rows = rows[region.contains_xyz(self.x[rows], self.y[rows], self.z[rows])]
            yield rows

    def rows_of(self, ids: pa.Array) -> tuple[Rows, Rows]:
        """Find the rows of identifiers.

        Parameters
        ----------
        ids : pyarrow.Array, shape (n,)
            Integers of any kind, or texts; null finds nothing.

        Returns
        -------
        position, row : ndarray of int64
            Places in `ids` and the rows found for them, several where an identifier stands in several rows, sorted by
            place and then row. An identifier that no row has is not among them.

        Raises
        ------
        InvalidRequest
            If the table has no identifiers, or `ids` are of another kind than they.
        """
        kind = self.ids.type
        if pa.types.is_null(kind):
            raise InvalidRequest("ids: this catalogue has no identifiers")
        if pa.types.is_integer(kind) != pa.types.is_integer(ids.type):
            raise InvalidRequest(f"ids: they are of type {ids.type}, the identifiers of this catalogue of type {kind}")
        if pa.types.is_integer(kind):
            ids = _within(ids, kind)
        # ascending needles find their way through the cache: three times as fast
        order = pc.array_sort_indices(ids)
        needles = ids.take(order).drop_null().cast(kind)
        first, last = np.zeros((2, len(ids)), np.int64)
        known = order.to_numpy()[: len(needles)]
        first[known] = pc.search_sorted(self.sorted_ids, needles, side="left")
        last[known] = pc.search_sorted(self.sorted_ids, needles, side="right")
        counts = last - first
        position = np.repeat(np.arange(len(ids)), counts)
        return position, self.by_id[first[position] + _count_up(counts)]


def _positions(table: pa.Table, ra: str, dec: str) -> list[pa.Array]:
    cells = table[CELL].to_numpy()
    if (cells[1:] < cells[:-1]).any():
        raise DamagedData(f"the Parquet files of the catalogue are not sorted by {CELL}")
    vectors = unit_vectors(table[ra].to_numpy(), table[dec].to_numpy())
    return [pa.array(cells), *(pa.array(np.where(cells == NO_POSITION, np.nan, v)) for v in vectors)]


def _identifiers(column: pa.ChunkedArray) -> list[pa.Array]:
    """Give identifiers in the order of the rows, then ascending, and the rows of these."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    ids = column.cast(kind).combine_chunks()
    order = pc.array_sort_indices(ids)
    return [ids, ids.take(order), order.cast(pa.int64())]


def _row_pieces(ranges: Rows) -> Iterator[Rows]:
    """Give the rows of ranges [first, last) in pieces that are tested at once."""
    counts = ranges[:, 1] - ranges[:, 0]
    if counts.sum() <= _PIECE:
        yield np.repeat(ranges[:, 0], counts) + _count_up(counts)
        return
    for first, last in ranges.tolist():
        for start in range(first, last, _PIECE):
            yield np.arange(start, min(start + _PIECE, last))


def _count_up(counts: Rows) -> Rows:
    """Count from 0 to each count in turn."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) - np.repeat(ends - counts, counts)


def _within(ids: pa.Array, kind: pa.DataType) -> pa.Array:
    """Make those integers null that are beyond a type, which would become others or floats in a comparison."""
    least, most = (np.iinfo(kind.to_pandas_dtype()).min, np.iinfo(kind.to_pandas_dtype()).max)
    own = np.iinfo(ids.type.to_pandas_dtype())
    inside = pc.and_(
        pc.greater_equal(ids, pa.scalar(max(least, own.min), ids.type)),
        pc.less_equal(ids, pa.scalar(min(most, own.max), ids.type)),
    )
    return pc.if_else(inside, ids, pa.scalar(None, ids.type))
