"""Catalogue extracts: Parquet tables sorted by place on the sky, built from what ingest has staged.

The rows are sorted outside memory: only their keys are held at once, the wide rows are distributed over files of
neighbouring places and sorted there. The same rows give the same bytes, however they were staged.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.healpix import healpix_29, unit_vectors
from specflight.catalog.unify import conform, unify_schemas
from specflight.errors import DamagedData

__all__ = ["ROW_GROUP", "ExtractTable", "TableWriter", "primary_view", "write_extract"]

ROW_GROUP = 100_000
SAME_OBJECT = 2.0
"""Arcseconds within which two observations are of one object; the fibres of SDSS are 2 to 3 arcsec wide."""

_FIRST_COLUMNS = {"_healpix_29": pa.int64(), "specobjid": pa.uint64(), "ra": pa.float64(), "dec": pa.float64()}
_RANK_COLUMNS = ("specprimary", "zwarning", "sn_median_all", "sn_median")
_KEYS = {**_FIRST_COLUMNS, "_source": pa.int64(), **dict.fromkeys(_RANK_COLUMNS, pa.float64())}
_NO_KEYS = pa.schema(list(_KEYS.items())).empty_table()


@dataclass(frozen=True, slots=True)
class ExtractTable:
    """One table of an extract.

    Attributes
    ----------
    name : str
    files : tuple of Path
        The Parquet files, in order; each name holds the start of the file's checksum, so that a file is never
        replaced by one of other content.
    sha256 : tuple of str
        Checksums of the files.
    rows : int
    """

    name: str
    files: tuple[Path, ...]
    sha256: tuple[str, ...]
    rows: int


class TableWriter:
    """Writes one table as a Parquet file of full row groups; a context manager.

    The file appears under its name only when `finish` has closed it; left without, nothing remains.

    Parameters
    ----------
    name : str
        Name of the table: the folder of its file.
    schema : pyarrow.Schema
        Schema of every table that is written, field metadata included.
    out : Path
        Folder of the extract.
    """

    def __init__(self, name: str, schema: pa.Schema, out: Path) -> None:
        self._name, self._schema, self._folder = name, schema, out / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".part-", suffix=".tmp", delete=False) as file:
            self._path = Path(file.name)
        self._path.chmod(0o644)
        self._writer = pq.ParquetWriter(self._path, schema, compression="zstd", compression_level=3)
        self._pending: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def write(self, rows: pa.Table) -> None:
        """Append rows, in the order of the table."""
        self._pending.append(rows)
        while sum(len(t) for t in self._pending) >= ROW_GROUP:
            waiting = pa.concat_tables(self._pending)
            self._write_group(waiting.slice(0, ROW_GROUP))
            self._pending = [waiting.slice(ROW_GROUP)]

    def finish(self) -> ExtractTable:
        """Write what is left and put the file under its name.

        Returns
        -------
        ExtractTable
        """
        if any(len(t) for t in self._pending) or not self._rows:
            self._write_group(pa.concat_tables([self._schema.empty_table(), *self._pending]))
        self._writer.close()
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        path = self._folder / f"part-{sha256[:16]}.parquet"
        self._path.rename(path)
        return ExtractTable(self._name, (path,), (sha256,), self._rows)

    def _write_group(self, rows: pa.Table) -> None:
        # pages end where chunks do: one chunk makes the bytes independent of how the rows arrived
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)
        self._rows += len(rows)


def write_extract(
    staged: Sequence[Path], live: NDArray[np.int64], out: Path, temp_directory: Path
) -> tuple[ExtractTable, ExtractTable]:
    """Write the tables ``specobjall`` and ``specobj`` of staged rows.

    Both are sorted by (``_healpix_29``, ``specobjid``), with ``_healpix_29``, ``specobjid``, ``ra``, ``dec`` in front
    and the other columns in the order of their first appearance. See `primary_view` for what ``specobj`` holds.

    Parameters
    ----------
    staged : sequence of Path
        Parquet files with the columns ``specobjid`` (uint64), ``ra`` and ``dec`` (degrees, null where unknown),
        ``_source`` (int64, the number of the row's file) and any others; see `unify_schemas` for types that differ.
    live : ndarray of int64, shape (n,)
        The ``_source`` of every row to take, one for each specobjid.
    out : Path
        Folder of the tables' folders.
    temp_directory : Path
        Where the rows are sorted; needs the room of the uncompressed tables.

    Returns
    -------
    specobjall, specobj : ExtractTable

    Raises
    ------
    DamagedData
        If a staged file cannot be read, or its rows are not those that `live` names.
    """
    used, schema, order, kept = _plan(staged, np.sort(np.asarray(live, np.int64)))
    with (
        tempfile.TemporaryDirectory(dir=temp_directory, prefix="extract-") as scratch,
        TableWriter("specobjall", schema, out) as everything,
        TableWriter("specobj", schema, out) as primary,
    ):
        first = 0
        for rows in _sorted_rows(used, order, schema, Path(scratch)):
            everything.write(rows)
            primary.write(rows.filter(pa.array(kept[first : first + len(rows)])))
            first += len(rows)
        return everything.finish(), primary.finish()


def primary_view(rows: pa.Table) -> NDArray[np.bool_]:
    """Choose one observation of every object.

    Where the files say which one is primary (``specprimary`` not null) they are believed. Of the others, those
    within `SAME_OBJECT` of a better one are left out: better is ``zwarning`` = 0, then the higher signal to noise
    (``sn_median_all``, else ``sn_median``), then the lower ``specobjid``. Rows without a position are all kept.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns ``specobjid``, ``ra``, ``dec`` and as many of the above as there are.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    stated = _numbers(rows, "specprimary")
    kept = np.asarray(stated > 0)
    position = np.isfinite(ra := _numbers(rows, "ra")) & np.isfinite(dec := _numbers(rows, "dec"))
    silent = np.isnan(stated)
    kept[silent & ~position] = True
    places = np.flatnonzero(silent & position)
    signal = np.where(np.isnan(s := _numbers(rows, "sn_median_all")), _numbers(rows, "sn_median"), s)
    good = _numbers(rows, "zwarning") == 0
    rank = np.lexsort((rows["specobjid"].to_numpy()[places], -np.nan_to_num(signal[places]), ~good[places]))
    best_first = places[rank]
    kept[best_first[_lone(ra[best_first], dec[best_first])]] = True
    return kept


def _lone(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Keep the positions that are not within `SAME_OBJECT` of one that comes before them and is kept."""
    from scipy.spatial import cKDTree

    kept = np.ones(len(ra), np.bool_)
    if len(ra):
        chord = 2 * np.sin(np.radians(SAME_OBJECT / 3600) / 2)
        pairs = cKDTree(np.stack(unit_vectors(ra, dec), axis=1)).query_pairs(chord, output_type="ndarray")
        for better, worse in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():
            if kept[better]:
                kept[worse] = False
    return kept


def _numbers(rows: pa.Table, name: str) -> NDArray[np.float64]:
    """Give a column as floats; NaN where it is null, no number or not there."""
    if name not in rows.column_names:
        return np.full(len(rows), np.nan)
    return np.asarray(rows[name].to_numpy(), np.float64)


def _plan(
    staged: Sequence[Path], wanted: NDArray[np.int64]
) -> tuple[list[Path], pa.Schema, NDArray[np.int64], NDArray[np.bool_]]:
    """Find the files that hold live rows, the schema, and for every row its ``_source`` and if it is primary."""
    try:
        keys = {path: _read_keys(path, wanted) for path in staged}
        used = sorted((p for p in staged if len(keys[p])), key=lambda p: int(keys[p]["_source"].to_numpy().min()))
        schema = _extract_schema([pq.read_schema(path) for path in used])
    except (OSError, pa.ArrowException) as error:
        raise DamagedData(f"a staged table cannot be read: {error}") from error
    rows = _in_order(pa.concat_tables([_NO_KEYS, *(keys[path] for path in used)]), wanted)
    return used, schema, rows["_source"].to_numpy(), primary_view(rows)


def _in_order(keys: pa.Table, wanted: NDArray[np.int64]) -> pa.Table:
    """Sort the keys of the live rows as the extract is sorted, after a check that they are the ones wanted."""
    if not np.array_equal(np.sort(keys["_source"].to_numpy()), wanted):
        raise DamagedData(f"the staged tables hold {len(keys)} rows of {len(wanted)} live ones")
    ids = keys["specobjid"].to_numpy()
    if len(np.unique(ids)) != len(ids):
        raise DamagedData("the live rows of the staged tables have a specobjid twice")
    return keys.take(pa.array(np.lexsort((ids, keys["_healpix_29"].to_numpy()))))


def _read_keys(path: Path, live: NDArray[np.int64]) -> pa.Table:
    """Read what decides on the order and the choice of a staged file's live rows; null where it is no number."""
    there = pq.read_schema(path)
    usable = [n for n in _KEYS if n in there.names and _is_scalar_number(there.field(n).type)]
    table = pq.read_table(path, columns=usable)
    table = table.filter(pa.array(_member(table["_source"].to_numpy(), live)))
    columns = {name: table[name] if name in usable else pa.nulls(len(table)) for name in _KEYS}
    columns["_healpix_29"] = pa.array(healpix_29(_numbers(table, "ra"), _numbers(table, "dec")))
    return pa.table(columns).cast(_NO_KEYS.schema)


def _is_scalar_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _member(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[place] == values)


def _extract_schema(staged: Sequence[pa.Schema]) -> pa.Schema:
    """Find the schema of the extract: the fixed columns in front, metadata of the first file that has some."""
    unified = unify_schemas([s.remove_metadata() for s in staged]) if staged else pa.schema([])
    stated: dict[str, dict[bytes, bytes]] = {}
    for schema in staged:
        for field in schema:
            own = {k: v for k, v in (field.metadata or {}).items() if not k.startswith(b"PARQUET:")}
            if own:
                stated.setdefault(field.name, own)
    others = {field.name: field.type for field in unified if field.name not in {*_FIRST_COLUMNS, "_source"}}
    fields = {**_FIRST_COLUMNS, **others}
    return pa.schema([pa.field(name, kind, metadata=stated.get(name)) for name, kind in fields.items()])


def _sorted_rows(
    staged: Sequence[Path], order: NDArray[np.int64], schema: pa.Schema, scratch: Path
) -> Iterator[pa.Table]:
    """Give the rows whose ``_source`` is in `order`, in that order, in tables of `ROW_GROUP` rows at most.

    Rows are dealt to files by their hundred thousand first, then each file is sorted by itself.
    """
    by_source = np.argsort(order)
    sources = order[by_source]
    ranked = schema.append(pa.field("_rank", pa.int64()))
    files = [scratch / f"{first}.arrow" for first in range(0, len(order), ROW_GROUP)]
    with ExitStack() as stack:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        writers = [stack.enter_context(pa.ipc.new_file(str(file), ranked, options=options)) for file in files]
        for rows in _live_rows(staged, sources, schema):
            rank = by_source[np.searchsorted(sources, rows["_source"].to_numpy())]
            ascending = np.argsort(rank)
            cells = pa.array(healpix_29(_numbers(rows, "ra"), _numbers(rows, "dec")))
            rows = (
                rows.drop_columns("_source").add_column(0, "_healpix_29", cells).append_column("_rank", pa.array(rank))
            )
            rows = rows.cast(ranked).take(pa.array(ascending))
            edges = np.searchsorted(rank[ascending], np.arange(len(files) + 1) * ROW_GROUP).tolist()
            for writer, first, last in zip(writers, edges[:-1], edges[1:], strict=True):
                if first < last:
                    writer.write_table(rows.slice(first, last - first))
    for file in files:
        with pa.ipc.open_file(str(file)) as reader:
            rows = reader.read_all().combine_chunks()
        file.unlink()
        yield rows.take(pa.array(np.argsort(rows["_rank"].to_numpy()))).drop_columns("_rank")


def _live_rows(staged: Sequence[Path], sources: NDArray[np.int64], schema: pa.Schema) -> Iterator[pa.Table]:
    """Give the rows with these ``_source`` in tables of about `ROW_GROUP` rows, of this schema and ``_source``."""
    wanted = pa.schema([pa.field("_source", pa.int64()), *(field for field in schema if field.name != "_healpix_29")])
    pending: list[pa.Table] = []
    for path in staged:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP // 4):
                rows = pa.Table.from_batches([batch])
                rows = rows.filter(pa.array(_member(rows["_source"].to_numpy(), sources)))
                pending.append(conform(rows, wanted))
                if sum(map(len, pending)) >= ROW_GROUP:
                    yield pa.concat_tables(pending).combine_chunks()
                    pending = []
    if pending:
        yield pa.concat_tables(pending).combine_chunks()
