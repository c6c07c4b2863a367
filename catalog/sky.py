"""The sky index of a table: its rows sorted by HEALPix cell, so that a region finds them at once.

A region is covered with HEALPix cells; the index gives the few rows in them, and an exact test on unit vectors decides.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.healpix import NO_POSITION, Vector, unit_vectors
from specflight.catalog.regions import Region
from specflight.errors import DamagedData

__all__ = ["SkyIndex"]

_METADATA_KEY = b"specflight.parquet"


@dataclass(frozen=True)
class SkyIndex:
    """Positions of a table's rows, sorted by HEALPix cell, in one memory-mapped Arrow IPC file.

    Row i of the index is row i of the Parquet files taken one after the other.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Nested HEALPix cells of order 29, ascending; `NO_POSITION` where a row has no coordinates.
    x, y, z : ndarray of float64, shape (n,)
        Unit vectors; NaN where a row has no coordinates.
    ids : pyarrow.Array
        The table's column of identifiers.
    """

    cells: NDArray[np.int64]
    x: Vector
    y: Vector
    z: Vector
    ids: pa.Array

    @classmethod
    def build(
        cls, files: Sequence[Path], path: Path, *, ra: str = "ra", dec: str = "dec", id_column: str = "specobjid"
    ) -> SkyIndex:
        """Write the index of a table and open it; a file at `path` is replaced at once and whole.

        Parameters
        ----------
        files : sequence of Path
            The table's Parquet files, sorted by their column ``_healpix_29``.
        path : Path
            Where the index is written.
        ra, dec, id_column : str
            Names of the columns of positions (degrees) and of identifiers.

        Raises
        ------
        DamagedData
            If the rows are not sorted by cell, or a file cannot be read.
        """
        try:
            table = pa.concat_tables(pq.read_table(f, columns=["_healpix_29", ra, dec, id_column]) for f in files)
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the Parquet files of '{path.stem}' cannot be read: {error}") from error
        cells = table["_healpix_29"].to_numpy()
        if (cells[1:] < cells[:-1]).any():
            raise DamagedData(f"the Parquet files of '{path.stem}' are not sorted by _healpix_29")
        x, y, z = unit_vectors(table[ra].to_numpy(), table[dec].to_numpy())
        columns = [cells, *(np.where(cells == NO_POSITION, np.nan, v) for v in (x, y, z))]
        ids = table[id_column].combine_chunks()
        batch = pa.record_batch([*map(pa.array, columns), ids], names=["cells", "x", "y", "z", "ids"])
        batch = batch.replace_schema_metadata({_METADATA_KEY: _identity(files)})
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as sink:
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
        return cls._of(pa.ipc.open_file(pa.memory_map(str(path))))

    @classmethod
    def open(cls, path: Path, files: Sequence[Path]) -> SkyIndex | None:
        """Map an index that was built before.

        Returns
        -------
        SkyIndex or None
            None if there is no readable index at `path`, or it belongs to other Parquet files: build it anew.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            current = (reader.schema.metadata or {}).get(_METADATA_KEY) == _identity(files)
            return cls._of(reader) if current else None
        except (OSError, pa.ArrowException):
            return None

    @classmethod
    def _of(cls, reader: pa.ipc.RecordBatchFileReader) -> SkyIndex:
        batch = reader.get_batch(0)
        cells, x, y, z = (batch.column(i).to_numpy() for i in range(4))
        return cls(cells, x, y, z, batch.column(4))

    def __len__(self) -> int:
        return len(self.cells)

    def candidates(self, region: Region) -> NDArray[np.int64]:
        """Find the rows in the cells that cover a region.

        Returns
        -------
        ndarray of int64, shape (n, 2)
            Ranges [first, last) of row numbers, ascending; none is empty.
        """
        rows = np.searchsorted(self.cells, region.cover())
        return rows[rows[:, 0] < rows[:, 1]].astype(np.int64)

    def search(self, region: Region) -> NDArray[np.int64]:
        """Find the rows in a region.

        Parameters
        ----------
        region : Cone or Polygon

        Returns
        -------
        ndarray of int64, shape (n,)
            Row numbers, ascending.
        """
        found = [
            first + np.flatnonzero(region.contains_xyz(self.x[first:last], self.y[first:last], self.z[first:last]))
            for first, last in self.candidates(region).tolist()
        ]
        return np.concatenate(found) if found else np.empty(0, np.int64)


def _identity(files: Sequence[Path]) -> bytes:
    """Take the fingerprint of Parquet files: their sizes and footers, which hold every chunk's place and statistics."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            size = source.seek(-8, os.SEEK_END) + 8
            footer = min(int.from_bytes(source.read(4), "little"), size - 8)
            source.seek(-8 - footer, os.SEEK_END)
            digest.update(size.to_bytes(8, "little") + source.read())
    return digest.hexdigest().encode()
