"""Catalogue extracts: tables sorted by place on the sky, built from what ingest has staged.

The rows are sorted outside memory: only their keys are held at once, the wide rows are distributed over files of
neighbouring places and sorted there. The same rows give the same bytes, however they were staged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.hats import ROW_GROUP, ExtractTable, HatsWriter
from specflight.catalog.healpix import NO_POSITION, healpix_29, unit_vectors
from specflight.catalog.unify import conform, unify_schemas
from specflight.errors import DamagedData

__all__ = ["ExtractTable", "primary_view", "write_extract", "write_table"]

SAME_OBJECT = 2.0
"""Arcseconds within which two observations are of one object; the fibres of SDSS are 2 to 3 arcsec wide."""

MAX_FILES = 256
"""Files that rows are dealt to: their writers are open together."""

_Numbered = tuple[NDArray[np.int64], pa.Table]
_CELL = "_healpix_29"
_SOURCE = "_source"
_FIRST_COLUMNS = {_CELL: pa.int64(), "specobjid": pa.uint64(), "ra": pa.float64(), "dec": pa.float64()}
_RANK_COLUMNS = ("specprimary", "zwarning", "sn_median_all", "sn_median")
_KEYS = {**_FIRST_COLUMNS, _SOURCE: pa.int64(), **dict.fromkeys(_RANK_COLUMNS, pa.float64())}
_NO_KEYS = pa.schema(list(_KEYS.items())).empty_table()


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
    used, schema, keys = _plan(staged, np.sort(np.asarray(live, np.int64)))
    cells, order, kept = keys[_CELL].to_numpy(), keys[_SOURCE].to_numpy(), primary_view(keys)
    with (
        tempfile.TemporaryDirectory(dir=temp_directory, prefix="extract-") as scratch,
        HatsWriter("specobjall", schema, cells, out, ra="ra", dec="dec") as everything,
        HatsWriter("specobj", schema, cells[kept], out, ra="ra", dec="dec") as primary,
    ):
        first = 0
        for rows in _sorted_rows(_live_rows(used, np.sort(order), schema), order, cells, schema, Path(scratch)):
            everything.write(rows)
            primary.write(rows.filter(pa.array(kept[first : first + len(rows)])))
            first += len(rows)
        return everything.finish(), primary.finish()


def write_table(
    name: str,
    staged: Sequence[Path],
    out: Path,
    temp_directory: Path,
    *,
    id_column: str | None,
    ra: str | None,
    dec: str | None,
) -> ExtractTable:
    """Write any table, all rows of all staged files.

    The rows are sorted by (``_healpix_29``, identifier) and, where these are equal or not there, stay as they come;
    ``_healpix_29`` is the first column and the others keep their order.

    Parameters
    ----------
    name : str
        Name of the table.
    staged : sequence of Path
        Parquet files, taken one after the other; see `unify_schemas` for types that differ. A column
        ``_healpix_29`` is made anew.
    out : Path
        Folder of the table's folder.
    temp_directory : Path
        Where the rows are sorted; needs the room of the uncompressed table.
    id_column : str or None
        Column of identifiers; null ones come last among those of one place.
    ra, dec : str or None
        Columns of positions in degrees (ICRS), numbers. A table without them keeps its order.

    Returns
    -------
    ExtractTable

    Raises
    ------
    DamagedData
        If a staged file cannot be read, or has none of the columns named.
    """
    try:
        schema = _extract_schema([pq.read_schema(path) for path in staged], {_CELL: pa.int64()})
        keys = pa.concat_tables([_read_own_keys(path, id_column, ra, dec, schema) for path in staged])
        keys = keys.append_column(_SOURCE, pa.array(np.arange(len(keys))))
        by = [_SOURCE] if ra is None else keys.column_names
        keys = keys.select([_CELL, _SOURCE]).take(pc.sort_indices(keys, [(key, "ascending") for key in by]))
    except (OSError, pa.ArrowException) as error:
        raise DamagedData(f"a staged table cannot be read: {error}") from error
    cells, order = keys[_CELL].to_numpy(), keys[_SOURCE].to_numpy()
    with (
        tempfile.TemporaryDirectory(dir=temp_directory, prefix="extract-") as scratch,
        HatsWriter(name, schema, cells, out, ra=ra, dec=dec) as writer,
    ):
        for rows in _sorted_rows(_staged_rows(staged, schema), order, cells, schema, Path(scratch)):
            writer.write(rows)
        return writer.finish()


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


def _plan(staged: Sequence[Path], wanted: NDArray[np.int64]) -> tuple[list[Path], pa.Schema, pa.Table]:
    """Find the files that hold live rows, the schema, and the keys of the rows in their order."""
    try:
        keys = {path: _read_keys(path, wanted) for path in staged}
        used = sorted((p for p in staged if len(keys[p])), key=lambda p: int(keys[p][_SOURCE].to_numpy().min()))
        schemas = [pq.read_schema(path) for path in used]
        schema = _extract_schema([s.remove(s.get_field_index(_SOURCE)) for s in schemas], _FIRST_COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise DamagedData(f"a staged table cannot be read: {error}") from error
    return used, schema, _in_order(pa.concat_tables([_NO_KEYS, *(keys[path] for path in used)]), wanted)


def _in_order(keys: pa.Table, wanted: NDArray[np.int64]) -> pa.Table:
    """Sort the keys of the live rows as the extract is sorted, after a check that they are the ones wanted."""
    if not np.array_equal(np.sort(keys[_SOURCE].to_numpy()), wanted):
        raise DamagedData(f"the staged tables hold {len(keys)} rows of {len(wanted)} live ones")
    ids = keys["specobjid"].to_numpy()
    if len(np.unique(ids)) != len(ids):
        raise DamagedData("the live rows of the staged tables have a specobjid twice")
    return keys.take(pa.array(np.lexsort((ids, keys[_CELL].to_numpy()))))


def _read_keys(path: Path, live: NDArray[np.int64]) -> pa.Table:
    """Read what decides on the order and the choice of a staged file's live rows; null where it is no number."""
    there = pq.read_schema(path)
    usable = [n for n in _KEYS if n in there.names and _is_scalar_number(there.field(n).type)]
    table = pq.read_table(path, columns=usable)
    table = table.filter(pa.array(_member(table[_SOURCE].to_numpy(), live)))
    columns = {name: table[name] if name in usable else pa.nulls(len(table)) for name in _KEYS}
    columns[_CELL] = pa.array(healpix_29(_numbers(table, "ra"), _numbers(table, "dec")))
    return pa.table(columns).cast(_NO_KEYS.schema)


def _read_own_keys(path: Path, id_column: str | None, ra: str | None, dec: str | None, schema: pa.Schema) -> pa.Table:
    """Read what decides on the order of a staged file's rows: the cell and, where there is one, the identifier."""
    if ra is None or dec is None:
        return pa.table({_CELL: np.full(pq.read_metadata(path).num_rows, NO_POSITION)})
    table = pq.read_table(path, columns=[name for name in (id_column, ra, dec) if name is not None])
    keys = {_CELL: pa.array(healpix_29(_numbers(table, ra), _numbers(table, dec)))}
    if id_column is not None:
        keys["id"] = conform(table, pa.schema([schema.field(id_column)]))[id_column]
    return pa.table(keys)


def _is_scalar_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _member(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[place] == values)


def _extract_schema(staged: Sequence[pa.Schema], first: Mapping[str, pa.DataType]) -> pa.Schema:
    """Find the schema of a table: the columns `first` in front, metadata of the first file that has some."""
    unified = unify_schemas([s.remove_metadata() for s in staged]) if staged else pa.schema([])
    stated: dict[str, dict[bytes, bytes]] = {}
    for schema in staged:
        for field in schema:
            own = {k: v for k, v in (field.metadata or {}).items() if not k.startswith(b"PARQUET:")}
            if own:
                stated.setdefault(field.name, own)
    others = {field.name: field.type for field in unified if field.name not in first}
    fields = {**first, **others}
    return pa.schema([pa.field(name, kind, metadata=stated.get(name)) for name, kind in fields.items()])


def _sorted_rows(
    rows: Iterator[_Numbered], order: NDArray[np.int64], cells: NDArray[np.int64], schema: pa.Schema, scratch: Path
) -> Iterator[pa.Table]:
    """Give the rows in the order in which `order` has their numbers, with their cells, in tables of this schema.

    They are dealt to files of neighbouring rows first, then each file is sorted by itself.
    """
    by_source = np.argsort(order)
    sources = order[by_source]
    # the rank is found by its place: a table may have a column of any name
    ranked = _without_cell(schema).append(pa.field("rank", pa.int64()))
    step = max(ROW_GROUP, -(-len(order) // MAX_FILES))
    files = [scratch / f"{first}.arrow" for first in range(0, len(order), step)]
    with ExitStack() as stack:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        writers = [stack.enter_context(pa.ipc.new_file(str(file), ranked, options=options)) for file in files]
        for numbers, some in rows:
            rank = by_source[np.searchsorted(sources, numbers)]
            ascending = np.argsort(rank)
            dealt = some.append_column("rank", pa.array(rank)).take(pa.array(ascending))
            edges = np.searchsorted(rank[ascending], np.arange(len(files) + 1) * step).tolist()
            for writer, first, last in zip(writers, edges[:-1], edges[1:], strict=True):
                if first < last:
                    writer.write_table(dealt.slice(first, last - first))
    for number, file in enumerate(files):
        with pa.ipc.open_file(str(file)) as reader:
            near = reader.read_all().combine_chunks()
        file.unlink()
        last = near.num_columns - 1
        near = near.take(pa.array(np.argsort(near.column(last).to_numpy()))).remove_column(last)
        places = pa.array(cells[number * step : (number + 1) * step])
        yield near.add_column(schema.get_field_index(_CELL), schema.field(_CELL), places)


def _live_rows(staged: Sequence[Path], sources: NDArray[np.int64], schema: pa.Schema) -> Iterator[_Numbered]:
    """Give the rows with these ``_source``, of this schema without cells, about `ROW_GROUP` at a time."""
    wanted = _without_cell(schema).append(pa.field(_SOURCE, pa.int64()))
    pending: list[pa.Table] = []
    for path in staged:
        for rows in _batches(path):
            rows = rows.filter(pa.array(_member(rows[_SOURCE].to_numpy(), sources)))
            pending.append(conform(rows, wanted))
            if sum(map(len, pending)) >= ROW_GROUP:
                yield _split_off_source(pending)
                pending = []
    if pending:
        yield _split_off_source(pending)


def _split_off_source(rows: list[pa.Table]) -> _Numbered:
    table = pa.concat_tables(rows).combine_chunks()
    return table[_SOURCE].to_numpy(), table.drop_columns(_SOURCE)


def _staged_rows(staged: Sequence[Path], schema: pa.Schema) -> Iterator[_Numbered]:
    """Give all rows, numbered through all files, of this schema without cells."""
    wanted = _without_cell(schema)
    first = 0
    for path in staged:
        for rows in _batches(path):
            yield np.arange(first, first + len(rows)), conform(rows, wanted)
            first += len(rows)


def _without_cell(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index(_CELL))


def _batches(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP // 4):
            yield pa.Table.from_batches([batch])
