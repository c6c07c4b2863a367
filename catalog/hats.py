"""Tables as HATS catalogues: folders of Parquet files, each the rows of one HEALPix pixel, which lsdb opens.

HATS is described at https://www.ivoa.net/documents/Notes/HATS/; what is written here is what its library, hats 0.11,
reads. The bytes of a folder depend on its rows only, and its name on its bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.errors import DamagedData

__all__ = ["NO_POSITION_FILE", "ROWS_PER_FILE", "ROW_GROUP", "ExtractTable", "HatsWriter", "Partition", "WrittenFile"]

ROW_GROUP = 100_000
ROWS_PER_FILE = 1_000_000
"""Rows above which a pixel is split; the usual size of HATS catalogues."""

NO_POSITION_FILE = "no_position.parquet"
"""Beside the folder `dataset`: a row outside of every pixel has no place in HATS."""

_ORDER = 29
_FILES_PER_DIR = 10_000


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of a table: where it is, its size, its checksum and its rows."""

    path: Path
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class ExtractTable:
    """A table on the disk.

    Attributes
    ----------
    name : str
    folder : Path
        ``<name>-<12 digits of a checksum over all of its files>``, so that it is never replaced by other content.
    data : tuple of WrittenFile
        Parquet files, at least one; in their order, the rows are ascending by ``_healpix_29``.
    hats : tuple of WrittenFile
        The other files that make the folder a HATS catalogue; none where no row has a position.
    """

    name: str
    folder: Path
    data: tuple[WrittenFile, ...]
    hats: tuple[WrittenFile, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the Parquet files, in order."""
        return tuple(file.path for file in self.data)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(file.rows for file in self.data)


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows `first` to `last` (exclusive) of a table, which lie in one nested HEALPix pixel."""

    order: int
    pixel: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """Path of its file in the folder of the catalogue."""
        folder = self.pixel // _FILES_PER_DIR * _FILES_PER_DIR
        return f"dataset/Norder={self.order}/Dir={folder}/Npix={self.pixel}.parquet"

    @classmethod
    def split(cls, cells: NDArray[np.int64]) -> list[Partition]:
        """Split a table into the largest pixels that have at most `ROWS_PER_FILE` rows.

        Parameters
        ----------
        cells : ndarray of int64, shape (n,)
            Nested HEALPix cells of order 29 of the rows, ascending.

        Returns
        -------
        list of Partition
            Pixels with rows, in the order of the rows; those beyond the last pixel (`NO_POSITION`) are in none.
        """
        found = []
        waiting = [(0, pixel) for pixel in reversed(range(12))]
        while waiting:
            order, pixel = waiting.pop()
            shift = 2 * (_ORDER - order)
            first, last = np.searchsorted(cells, np.array([pixel, pixel + 1]) << shift).tolist()
            if last - first > ROWS_PER_FILE and order < _ORDER:
                waiting += [(order + 1, 4 * pixel + child) for child in (3, 2, 1, 0)]
            elif first < last:
                found.append(cls(order, pixel, first, last))
        return found


class HatsWriter:
    """Writes a table whose rows come in their order; a context manager.

    The folder appears under its name only when `finish` has completed it; left without, nothing remains.

    Parameters
    ----------
    name : str
        Name of the table.
    schema : pyarrow.Schema
        Schema of every table that is written, ``_healpix_29`` and field metadata included.
    cells : ndarray of int64, shape (n,)
        ``_healpix_29`` of all rows, ascending.
    out : Path
        Folder of the table's folder.
    ra, dec : str or None
        Names of the columns of positions in degrees (ICRS); None only where no row has a position.
    """

    def __init__(
        self, name: str, schema: pa.Schema, cells: NDArray[np.int64], out: Path, *, ra: str | None, dec: str | None
    ) -> None:
        self._name, self._schema, self._out, self._position = name, schema, out, (ra, dec)
        self._partitions = Partition.split(cells)
        self._waiting = [(partition.name, partition.last - partition.first) for partition in self._partitions]
        placed = sum(rows for _, rows in self._waiting)
        if placed < len(cells) or not placed:
            self._waiting.append((NO_POSITION_FILE, len(cells) - placed))
        self._waiting.reverse()
        out.mkdir(parents=True, exist_ok=True)
        self._folder = out / f".{name}.{os.getpid()}.tmp"
        shutil.rmtree(self._folder, ignore_errors=True)  # of a killed process of the same number
        self._folder.mkdir()
        self._pending: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._left = 0
        self._files: list[WrittenFile] = []
        self._footers: list[pq.FileMetaData] = []

    def __enter__(self) -> HatsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()  # which writes a footer: a full disk may refuse it
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, rows: pa.Table) -> None:
        """Append rows, in the order of the table."""
        self._pending.append(rows)
        while self._writer is not None or self._waiting:
            if self._writer is None:
                self._begin_file()
            count = min(ROW_GROUP, self._left)
            if sum(map(len, self._pending)) < count:
                break
            self._write_group(count)

    def finish(self) -> ExtractTable:
        """Write what is left and give the folder its name.

        Returns
        -------
        ExtractTable

        Raises
        ------
        DamagedData
            If there were more rows or fewer than cells.
        """
        self.write(self._schema.empty_table())
        if self._writer is not None or any(map(len, self._pending)):
            raise DamagedData(f"the table '{self._name}' got other rows than announced")
        hats = self._write_hats() if self._partitions else []
        digest = hashlib.sha256()
        for file in (*self._files, *hats):
            digest.update(f"{file.sha256}  {file.path.relative_to(self._folder)}\n".encode())
        target = self._out / f"{self._name}-{digest.hexdigest()[:12]}"
        self._adopt(target, [file.path.relative_to(self._folder) for file in (*self._files, *hats)])
        moved = [[replace(f, path=target / f.path.relative_to(self._folder)) for f in fs] for fs in (self._files, hats)]
        return ExtractTable(self._name, target, tuple(moved[0]), tuple(moved[1]))

    def _begin_file(self) -> None:
        name, self._left = self._waiting[-1]
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=3)

    def _write_group(self, count: int) -> None:
        """Write a row group, and end the file if it was the last one."""
        assert self._writer is not None
        waiting = pa.concat_tables([self._schema.empty_table(), *self._pending])
        # pages end where chunks do: one chunk makes the bytes independent of how the rows arrived
        self._writer.write_table(waiting.slice(0, count).combine_chunks(), row_group_size=ROW_GROUP)
        self._pending = [waiting.slice(count)]
        self._left -= count
        if self._left:
            return
        self._writer.close()
        self._writer = None
        name, rows = self._waiting.pop()
        self._files.append(_finished(self._folder / name, rows))
        if name != NO_POSITION_FILE:
            footer = pq.read_metadata(self._folder / name)
            footer.set_file_path(name.removeprefix("dataset/"))
            self._footers.append(footer)

    def _write_hats(self) -> list[WrittenFile]:
        """Write what makes the folder a HATS catalogue."""
        dataset = self._folder / "dataset"
        pq.write_metadata(self._schema, dataset / "_metadata", metadata_collector=self._footers)
        pq.write_metadata(self._schema, dataset / "_common_metadata")
        pixels = "".join(f"{partition.order},{partition.pixel}\n" for partition in self._partitions)
        (self._folder / "partition_info.csv").write_text(f"Norder,Npix\n{pixels}")
        ra, dec = self._position
        assert ra is not None
        assert dec is not None
        properties = {
            "obs_collection": self._name,
            "dataproduct_type": "object",
            "hats_nrows": str(self._partitions[-1].last),
            "hats_col_ra": ra,
            "hats_col_dec": dec,
            "hats_col_healpix": "_healpix_29",
            "hats_col_healpix_order": str(_ORDER),
            "hats_npix_suffix": ".parquet",
            "hats_max_rows": str(ROWS_PER_FILE),
            "hats_builder": "specflight",
            "hats_version": "v1.0",
        }
        # a backslash begins an escape in a Java properties file
        lines = [f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in properties.items()]
        (self._folder / "hats.properties").write_text("".join(lines), encoding="utf-8")
        names = ("hats.properties", "partition_info.csv", "dataset/_common_metadata", "dataset/_metadata")
        return [_finished(self._folder / name, 0) for name in names]

    def _adopt(self, target: Path, names: list[Path]) -> None:
        """Give the finished folder its name; where there is one of this content, its files are replaced by the same."""
        folders = {parent for name in names for parent in name.parents}
        for folder in folders:
            _sync(self._folder / folder)
        if target.exists():
            for folder in sorted(folders):
                (target / folder).mkdir(exist_ok=True)
            for name in names:
                (self._folder / name).replace(target / name)
            for folder in folders:
                _sync(target / folder)
        else:
            self._folder.rename(target)
        _sync(self._out)


def _finished(path: Path, rows: int) -> WrittenFile:
    """Wait until a file is on the disk, and describe it."""
    _sync(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return WrittenFile(path, path.stat().st_size, sha256, rows)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
