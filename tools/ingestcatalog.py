"""A catalogue in a file into a table of a context.

The rows are staged as Parquet with identifiers and positions in the catalogue's types, sorted into a version folder,
indexed, and made live by the manifest at once: an ingest that is killed leaves the table as it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.extract import primary_view, write_table
from specflight.catalog.rows import ROW
from specflight.catalog.table import index_table
from specflight.catalog.tablecells import BATCH_ROWS
from specflight.catalog.tablefiles import open_table_file
from specflight.catalog.tableids import fibre_columns
from specflight.catalog.tablekeys import TableKeys, find_keys, is_number
from specflight.errors import InvalidRequest
from specflight.flight.datadir import ContextDirectory, Manifest, TableEntry
from specflight.flight.store import read_index
from specflight.tools.publish import clean, drop_if_empty, locked, publish_tables, table_entry, writing

__all__ = ["CatalogReport", "ingest_catalog", "table_key"]

PRIMARY_SOURCE = "catalog/specobjall"
"""Source of a ``specobj`` that is the primary view of an ingested ``specobjall``; no file can be called so."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_QUICKLY = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}  # what is read but once
_RANKS = ("specprimary", "zwarning", "sn_median_all", "sn_median")  # what `primary_view` reads beside the keys


@dataclass(frozen=True, slots=True)
class CatalogReport:
    """What an ingest of a catalogue did.

    Attributes
    ----------
    table : str
        Name of the table in the manifest: ``table``, or ``schema.table`` where the schema is not the context's name.
    rows, columns : int
        Of the table as it is served.
    positions, ids : int
        Rows that have a position, and an identifier.
    id_column, ra, dec : str or None
        The columns that were taken for them; None where there are none.
    origin : str
        How the identifiers were made, where they were no column of the file.
    unmatched : tuple of str
        Columns of plate, MJD and fibre whose spectra could not be looked up, because the context has none.
    primary : int or None
        Rows of ``specobj``, where it was written as the primary view of the table.
    """

    table: str
    rows: int
    columns: int
    positions: int
    ids: int
    id_column: str | None
    ra: str | None
    dec: str | None
    origin: str = ""
    unmatched: tuple[str, ...] = ()
    primary: int | None = None


def table_key(context: str, catalog: str) -> str:
    """Name of a table in the manifest of a context.

    Parameters
    ----------
    context : str
    catalog : str
        ``SCHEMA.TABLE``, in any case.

    Returns
    -------
    str
        Only the table's name where the schema is the context's.

    Raises
    ------
    InvalidRequest
        If it is no such name.
    """
    schema, _, table = catalog.lower().partition(".")
    if not (_NAME.fullmatch(schema) and _NAME.fullmatch(table)):
        raise InvalidRequest(f"catalog: '{catalog}' is not SCHEMA.TABLE, two names of letters, digits and underscores")
    return table if schema == context else f"{schema}.{table}"


def ingest_catalog(
    data: Path,
    context: str,
    catalog: str,
    file: Path,
    *,
    ra: str | None = None,
    dec: str | None = None,
    id_column: str | None = None,
    description: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CatalogReport:
    """Take a catalogue into a context; a table of the same name is replaced.

    Parameters
    ----------
    data : Path
        The data directory; made when missing.
    context : str
        Name of the context, with spectra or without.
    catalog : str
        ``SCHEMA.TABLE``. With ``CONTEXT.specobjall`` comes ``specobj``, its primary view, unless that was ingested
        from a file of its own.
    file : Path
        FITS, CSV, Parquet, VOTable or ECSV; see `open_table_file`.
    ra, dec, id_column : str, optional
        Columns of positions in degrees and of identifiers, where their names do not tell; see `find_keys`.
    description : str
        Of the table.
    progress : callable
        Called with the rows read and the rows in all.

    Returns
    -------
    CatalogReport

    Raises
    ------
    InvalidRequest
        If the file is no table that can be taken, a name will not do, or another ingest of this context is running.
    DamagedData
        If the data directory cannot be written, is full, or holds damaged files of this context.
    """
    directory = ContextDirectory(data, context)
    key = table_key(context, catalog)
    if not file.is_file():
        raise InvalidRequest(f"FILE: {file} is {'no file' if file.exists() else 'not there'}")
    source = os.fsencode(file.name).decode(errors="backslashreplace")
    with writing(data), locked(directory):
        manifest = directory.manifest()
        directory.staging.mkdir(exist_ok=True)
        directory.catalog.mkdir(exist_ok=True)
        try:
            with TemporaryDirectory(dir=directory.staging, prefix="catalog-") as scratch:
                staged = _stage(directory, manifest, file, Path(scratch), (ra, dec, id_column), progress)
                _check_own(context, key, file, staged)
                tables = {key: _write(directory, manifest, key, staged, description, source)}
                if key == "specobjall" and _follows(manifest):
                    primary = replace(staged, path=_primary_rows(staged))
                    about = f"Primary view of {context}.specobjall"
                    tables["specobj"] = _write(directory, manifest, "specobj", primary, about, PRIMARY_SOURCE)
            publish_tables(directory, tables)
        except BaseException:
            # What was live stays live; of this one nothing is left.
            with suppress(OSError):
                clean(directory, directory.manifest())
                directory.staging.rmdir()
            if manifest is None:
                drop_if_empty(directory)
            raise
    keys = staged.keys
    lonely = keys.id_column is None and (manifest is None or manifest.index is None)
    return CatalogReport(
        table=key,
        rows=staged.rows,
        columns=len(keys.schema),
        positions=staged.positions,
        ids=staged.ids,
        id_column=keys.id_column,
        ra=keys.ra,
        dec=keys.dec,
        origin=keys.maker.origin if keys.maker else "",
        unmatched=fibre_columns(keys.schema) or () if lonely else (),
        primary=sum(part.rows for part in tables["specobj"].files) if len(tables) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Staged:
    """Rows of a file as Parquet, in the catalogue's types."""

    path: Path
    keys: TableKeys
    rows: int
    positions: int
    ids: int


def _check_own(context: str, key: str, file: Path, staged: _Staged) -> None:
    """Refuse to have a table in the place of the context's own unless it has what everything there relies on."""
    if key in ("specobj", "specobjall") and not (staged.positions and staged.ids):
        lack = "identifiers" if staged.positions else "positions"
        raise InvalidRequest(f"catalog: {file} has no {lack}, so it cannot be {context}.{key}; give it another name")


def _stage(
    directory: ContextDirectory,
    manifest: Manifest | None,
    file: Path,
    scratch: Path,
    columns: tuple[str | None, str | None, str | None],
    progress: Callable[[int, int], None],
) -> _Staged:
    ra, dec, id_column = columns
    with open_table_file(file, scratch) as table:
        if ROW in table.schema.names:
            raise InvalidRequest(f"FILE: {file} has a column '{ROW}', which is the number of a row here: rename it")
        keys = find_keys(table.schema, id_column=id_column, ra=ra, dec=dec, spectra=_spectra(directory, manifest))
        path = scratch / "staged.parquet"
        rows = positions = ids = 0
        with pq.ParquetWriter(path, keys.schema, **_QUICKLY) as writer:
            for batch in table.batches:
                taken = keys.apply(batch, rows + 1)
                writer.write_batch(taken)
                rows += len(taken)
                positions += _count(taken, keys.ra, keys.dec)
                ids += _count(taken, keys.id_column)
                progress(rows, table.rows)
    return _Staged(path, keys, rows, positions, ids)


def _spectra(directory: ContextDirectory, manifest: Manifest | None) -> NDArray[np.uint64]:
    if manifest is None or manifest.index is None:
        return np.zeros(0, np.uint64)
    ids: NDArray[np.uint64] = read_index(directory.spectra / manifest.index.name)["specobjid"].to_numpy()
    return ids


def _count(batch: pa.RecordBatch, *names: str | None) -> int:
    """Rows that are null in none of some columns; 0 where a column is not there."""
    if None in names:
        return 0
    valid = [np.asarray(batch.column(name).is_valid()) for name in names]
    return int(np.logical_and.reduce(valid).sum())


def _write(
    directory: ContextDirectory, manifest: Manifest | None, name: str, staged: _Staged, description: str, source: str
) -> TableEntry:
    """Write the version folder of a table, with its indices unless it is there already."""
    columns = {"id_column": staged.keys.id_column, "ra": staged.keys.ra, "dec": staged.keys.dec}
    table = write_table(name, [staged.path], directory.catalog, staged.path.parent, **columns)
    entry = table_entry(table, **columns, description=description, source=source)
    if manifest is None or entry.folder not in {live.folder for live in manifest.tables.values()}:
        index_table(table.folder, table.files, **columns)
    return entry


def _follows(manifest: Manifest | None) -> bool:
    """Whether ``specobj`` is a view of ``specobjall``, rather than a table of its own."""
    live = manifest.tables.get("specobj") if manifest else None
    return live is None or live.source in (None, PRIMARY_SOURCE)


def _primary_rows(staged: _Staged) -> Path:
    """Stage the rows of the primary view."""
    names = {"specobjid": staged.keys.id_column, "ra": staged.keys.ra, "dec": staged.keys.dec}
    names |= {name: name for name in _RANKS if name in staged.keys.schema.names}
    kinds = {role: staged.keys.schema.field(name).type for role, name in names.items() if name is not None}
    usable = [role for role, kind in kinds.items() if pa.types.is_boolean(kind) or is_number(kind)]
    read = pq.read_table(staged.path, columns=[names[role] for role in usable])
    keys = {
        role: read[str(names[role])].cast(pa.float64() if role != "specobjid" else pa.uint64(), safe=False)
        for role in usable
    }
    keys["specobjid"] = pc.fill_null(keys["specobjid"], 0) if "specobjid" in keys else np.zeros(staged.rows, np.uint64)
    kept = primary_view(pa.table(keys))
    path = staged.path.with_name("primary.parquet")
    with pq.ParquetFile(staged.path) as rows, pq.ParquetWriter(path, staged.keys.schema, **_QUICKLY) as writer:
        first = 0
        for batch in rows.iter_batches(batch_size=BATCH_ROWS):
            writer.write_batch(batch.filter(pa.array(kept[first : first + len(batch)])))
            first += len(batch)
    return path
