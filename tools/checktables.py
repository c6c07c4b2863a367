"""The check of a catalogue table: its rows, its partition into pixels, and the indices beside them.

What is read here has been compared with its checksum before.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from specflight.catalog.hats import NO_POSITION_FILE
from specflight.catalog.healpix import NO_POSITION, healpix_29, unit_vectors
from specflight.catalog.rows import RowStore
from specflight.catalog.sky import SkyIndex
from specflight.errors import DamagedData
from specflight.flight.datadir import DataFile, TableEntry

__all__ = ["check_derived", "check_partitions", "check_sky", "check_store", "read_rows"]

_OTHER_ROWS = "holds other rows than its Parquet files; remove it, to have it rebuilt"

_PARTITION = re.compile(r"dataset/Norder=(\d+)/Dir=(\d+)/Npix=(\d+)\.parquet")


def read_rows(path: Path, expected: DataFile, entry: TableEntry) -> pa.Table:
    """Read what is compared of a Parquet file of a table, and check what needs no other file.

    Parameters
    ----------
    path : Path
    expected : DataFile
        What the manifest says of it.
    entry : TableEntry

    Returns
    -------
    pyarrow.Table
        ``_healpix_29`` and the columns of identifiers and positions.

    Raises
    ------
    DamagedData
        If it has another number of rows, if a cell is not that of its position or not in the pixel of the file, or if
        rows are not sorted.
    """
    table = pa.concat_tables(_groups(path, ["_healpix_29", *_named(entry)]))
    if len(table) != expected.rows:
        raise DamagedData(f"has {len(table)} rows in place of {expected.rows}")
    cells = table["_healpix_29"].to_numpy()
    if (cells[1:] < cells[:-1]).any():
        raise DamagedData("is not sorted by _healpix_29")
    if (wrong := cells != _cells(table, entry)).any():
        raise DamagedData(f"has a _healpix_29 that is not of its position, in row {int(np.argmax(wrong))}")
    first, last = _pixel(expected.name)
    if len(cells) and not first <= cells[0] <= cells[-1] <= last:
        raise DamagedData("has rows outside of the pixel in its name")
    return table


def check_partitions(folder: Path, entry: TableEntry) -> None:
    """Check that the list of pixels of a HATS catalogue names the files of the manifest.

    Raises
    ------
    DamagedData
        If it does not, or the catalogue has files of its own where no row has a position.
    """
    matches = [_PARTITION.fullmatch(file.name.partition("/")[2]) for file in entry.files]
    pixels = [(match[1], match[3]) for match in matches if match]
    if not pixels and not entry.hats:
        return
    with (folder / "partition_info.csv").open(newline="") as file:
        listed = [(row["Norder"], row["Npix"]) for row in csv.DictReader(file)]
    if listed != pixels:
        raise DamagedData("lists other pixels than the manifest has files")


def check_derived(name: str, rows: pa.Table, ids: NDArray[np.uint64]) -> None:
    """Check a table that is derived from the spectra.

    Parameters
    ----------
    name : str
        ``specobjall`` or ``specobj``.
    rows : pyarrow.Table
    ids : ndarray of uint64
        Identifiers of the spectra, ascending.

    Raises
    ------
    DamagedData
        If it has a spectrum twice, or other ones than the index.
    """
    own = np.sort(rows["specobjid"].to_numpy())
    if name == "specobjall" and not np.array_equal(own, ids):
        raise DamagedData(f"has other specobjids than the index, such as {np.setxor1d(own, ids)[0]}")
    if not np.isin(own, ids).all() or (own[1:] == own[:-1]).any():
        raise DamagedData("has a specobjid twice, or one that is not in the index")


def check_sky(path: Path, files: Sequence[Path], rows: pa.Table, entry: TableEntry) -> str | None:
    """Check the sky index of a table.

    Parameters
    ----------
    path : Path
    files : sequence of Path
        The Parquet files of the table, in order.
    rows : pyarrow.Table
        As `read_rows` gives them.
    entry : TableEntry

    Returns
    -------
    str or None
        Why it is written anew when the table is served; None if it is not.

    Raises
    ------
    DamagedData
        If it holds other rows than the table.
    """
    sky = SkyIndex.open(path, files)
    if sky is None:
        return _outdated(path)
    if not (_same_places(sky, rows, entry) and (entry.id is None or _same_ids(sky, rows[entry.id]))):
        raise DamagedData(_OTHER_ROWS)
    return None


def check_store(path: Path, files: Sequence[Path]) -> str | None:
    """Check the memory-mapped rows of a table; as `check_sky`."""
    store = RowStore.open(path, files)
    if store is None:
        return _outdated(path)
    if store.schema.names != pq.read_schema(files[0]).names:
        raise DamagedData(_OTHER_ROWS)
    first = 0
    for file in files:
        for rows in _groups(file, store.schema.names):
            own = store.take(np.arange(first, first + len(rows)), store.schema.names)
            if not all(_same(*columns) for columns in zip(own.columns, rows.columns, strict=True)):
                raise DamagedData(_OTHER_ROWS)
            first += len(rows)
    if first != store.rows:
        raise DamagedData(_OTHER_ROWS)
    return None


def _outdated(path: Path) -> str:
    return f"{'belongs to other Parquet files' if path.exists() else 'is missing'}; rebuilt when served"


def _named(entry: TableEntry) -> list[str]:
    return [name for name in dict.fromkeys((entry.id, entry.ra, entry.dec)) if name is not None]


def _groups(path: Path, names: list[str]) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        yield file.schema_arrow.empty_table().select(names)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=names).select(names)


def _cells(rows: pa.Table, entry: TableEntry) -> NDArray[np.int64]:
    if entry.ra is None or entry.dec is None:
        return np.full(len(rows), NO_POSITION)
    return healpix_29(*_position(rows, entry.ra, entry.dec))


def _position(rows: pa.Table, *names: str) -> list[NDArray[np.float64]]:
    return [np.asarray(rows[name].to_numpy(), np.float64) for name in names]


def _pixel(name: str) -> tuple[int, int]:
    """First and last cell that a file may hold."""
    inside = name.partition("/")[2]
    if inside == NO_POSITION_FILE:
        return NO_POSITION, NO_POSITION
    match = _PARTITION.fullmatch(inside)
    if match is None:
        raise DamagedData("has a name that is not one of a HATS catalogue")
    shift = 2 * (29 - int(match[1]))
    return int(match[3]) << shift, (int(match[3]) + 1 << shift) - 1


def _same_places(sky: SkyIndex, rows: pa.Table, entry: TableEntry) -> bool:
    if len(sky) != len(rows) or not np.array_equal(sky.cells, rows["_healpix_29"].to_numpy()):
        return False
    if entry.ra is None or entry.dec is None:
        return not sky.has_positions
    known = sky.cells != NO_POSITION
    places = np.stack(unit_vectors(*_position(rows, entry.ra, entry.dec)))[:, known]
    # The last bits of a sine are the machine's own.
    return np.allclose(np.stack([sky.x, sky.y, sky.z])[:, known], places, rtol=0, atol=1e-14)


def _same_ids(sky: SkyIndex, ids: pa.ChunkedArray) -> bool:
    order = pc.array_sort_indices(sky.ids).to_numpy()
    return _same(sky.ids, ids) and np.array_equal(sky.by_id, order) and _same(sky.sorted_ids, sky.ids.take(order))


def _same(left: pa.Array | pa.ChunkedArray, right: pa.Array | pa.ChunkedArray) -> bool:
    """Compare columns bit by bit: to Arrow a NaN is not equal to itself."""
    views = []
    for column in (left, right):
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        array = array.dictionary_decode() if pt.is_dictionary(array.type) else array
        views.append(array.view(_bits(array.type)))
    return bool(views[0].equals(views[1]))


def _bits(kind: pa.DataType) -> pa.DataType:
    """Type of the same layout with integers in place of floats."""
    if pt.is_floating(kind):
        return {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}[kind.bit_width]
    if pt.is_fixed_size_list(kind):
        return pa.list_(_bits(kind.value_type), kind.list_size)
    if pt.is_list(kind):
        return pa.list_(_bits(kind.value_type))
    if pt.is_large_list(kind):
        return pa.large_list(_bits(kind.value_type))
    return kind
