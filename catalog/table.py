"""A catalogue: rows found by place, by identifier, by condition or by all of these, as Arrow tables.

The sky index finds the rows in a region, DuckDB looks at those columns of them that a condition or an order names and
says which rows it wants, and the row store takes the result's columns of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.clause import Clauses
from specflight.catalog.columns import Columns
from specflight.catalog.database import Cancellation, Database, Deadline
from specflight.catalog.guard import GuardedClause, QueryLimits
from specflight.catalog.prepared import ArrowSource
from specflight.catalog.regions import Region
from specflight.catalog.rows import ROW, RowStore
from specflight.catalog.sky import SkyIndex
from specflight.errors import DamagedData, LimitExceeded

__all__ = ["CatalogueTable", "Estimate", "QueryLimits", "index_table", "open_table"]

Rows = NDArray[np.int64]

_SKY, _ROWS = "index.sky", "rows.arrow"
_SAMPLE = 10_000  # rows on which a condition is tried to estimate how many it finds: to 1 % of them
_SIZE_SAMPLE = 1_000  # rows whose texts and vectors are measured


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a query would find.

    Attributes
    ----------
    rows : int
    exact : bool
        Whether `rows` is counted and not estimated from a sample.
    candidates : int
        Rows that a condition must be tried on: those in the region, or all.
    bytes_per_row : float
        In Arrow's memory format, of the columns asked for.
    """

    rows: int
    exact: bool
    candidates: int
    bytes_per_row: float


class CatalogueTable:
    """One table of a context; made by `open_table`.

    Parameters
    ----------
    name : str
        As users know it, with or without its schema.
    sky : SkyIndex
    store : RowStore
        Of the same rows.
    database : Database
    limits : QueryLimits
    id_column : str or None
        Name of the column of identifiers.
    position : (str, str) or None
        Names of the columns of right ascension and declination in degrees.
    description : str

    Attributes
    ----------
    name, description : str
    sky : SkyIndex
    id_column : str or None
    position : (str, str) or None

    Raises
    ------
    DamagedData
        If the index has another number of rows than the store, or a column is not there.
    """

    def __init__(
        self,
        name: str,
        sky: SkyIndex,
        store: RowStore,
        database: Database,
        limits: QueryLimits,
        *,
        id_column: str | None,
        position: tuple[str, str] | None,
        description: str = "",
    ) -> None:
        self.name, self.description = name, description
        self.sky, self.id_column, self.position = sky, id_column, position
        self._store, self._database, self._limits = store, database, limits
        fields = {field.name: field for field in store.schema}
        for column in (id_column, *(position or ())):
            if column is not None and column not in fields:
                raise DamagedData(f"the catalogue '{name}' has no column '{column}' for its identifiers or positions")
        if len(sky) != store.rows:
            raise DamagedData(f"the sky index of '{name}' has {len(sky)} rows and the catalogue {store.rows}")
        self._columns = Columns(name, fields, id_column, position, store.sizes)
        self._clauses = Clauses(self._columns, limits)

    @property
    def schema(self) -> pa.Schema:
        """Columns with their metadata, such as units; ``_healpix_29`` can be queried but is not listed."""
        return self._columns.listed

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._store.rows

    def query(
        self,
        region: Region | None = None,
        where: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        columns: Sequence[str] | None = None,
        cancellation: Cancellation | None = None,
    ) -> pa.Table:
        """Find rows.

        Parameters
        ----------
        region : Cone, Polygon or Box, optional
        where : str, optional
            A WHERE clause in PostgreSQL's dialect; may end in ORDER BY, LIMIT and OFFSET, or be only these.
        order_by : str, optional
            Sort keys; the order of the sky where there are none, and among equal ones.
        limit, offset : int, optional
            How many rows, after how many.
        columns : sequence of str, optional
            Only that of the identifiers unless given. ``specobjid``, ``ra`` and ``dec`` stand for the table's columns
            of identifiers and positions, ``z_err`` for ``zerr``, where no column is called so.
        cancellation : Cancellation, optional
            Stops the query from outside.

        Returns
        -------
        pyarrow.Table
            With the columns' own types and metadata, also where no row is found.

        Raises
        ------
        InvalidRequest
            If a column is not there, the clause is refused, or a thing is said twice.
        LimitExceeded
            If there are more rows than the limit `QueryLimits.max_rows`; nothing is ever cut silently.
        QueryTimeout
            If the query takes too long or is cancelled.
        """
        deadline = Deadline(self._limits.seconds, cancellation)
        chosen = self._columns.choose(columns)
        clause = self._clauses.join(where, order_by, limit, offset)
        found = self._find(region, clause, deadline)
        if len(found) > self._limits.max_rows:
            raise LimitExceeded(
                f"the query finds more rows than the limit of {self._limits.max_rows} (max_rows); "
                "make it narrower or ask for fewer with LIMIT"
            )
        return self._take(found, chosen, deadline)

    def count(
        self, region: Region | None = None, where: str | None = None, cancellation: Cancellation | None = None
    ) -> int:
        """Count the rows that `query` would find, however many they are.

        Parameters
        ----------
        region, where, cancellation
            As for `query`; a LIMIT or OFFSET in the clause counts.

        Returns
        -------
        int
        """
        deadline = Deadline(self._limits.seconds, cancellation)
        clause = self._clauses.join(where)
        candidates = self._candidates(region, clause, deadline)
        if clause.condition is None:
            return _cut(self.rows if candidates is None else len(candidates), clause)
        return _cut(self._count(candidates, clause, deadline), clause)

    def estimate(
        self,
        region: Region | None = None,
        where: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        columns: Sequence[str] | None = None,
        cancellation: Cancellation | None = None,
    ) -> Estimate:
        """Estimate what `query` would find, at a small part of its cost.

        Parameters
        ----------
        region, where, order_by, limit, offset, columns, cancellation
            As for `query`.

        Returns
        -------
        Estimate
            A condition is tried on 10,000 of the rows in the region, spread evenly; so rare ones are guessed poorly.
        """
        deadline = Deadline(self._limits.seconds, cancellation)
        chosen = self._columns.choose(columns)
        clause = self._clauses.join(where, order_by, limit, offset)
        candidates = self._candidates(region, clause, deadline)
        number = self.rows if candidates is None else len(candidates)
        found, exact = number, clause.condition is None or number <= _SAMPLE
        if clause.condition is not None:
            sample = _spread(candidates, number, _SAMPLE)
            found = round(self._count(sample, clause, deadline) / max(len(sample), 1) * number)
        measured = _spread(candidates, number, _SIZE_SAMPLE)
        measured = measured if len(measured) else _spread(None, self.rows, _SIZE_SAMPLE)
        size = self._take(measured, chosen, deadline).nbytes / max(len(measured), 1)
        return Estimate(_cut(found, clause), exact, number, size)

    def rows_table(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """Take rows by their numbers, as the sky index gives them.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            In any order, also more than once.
        columns : sequence of str, optional
            As for `query`.

        Returns
        -------
        pyarrow.Table
            n rows in the order of `rows`.

        Raises
        ------
        InvalidRequest
            If a column is not there.
        """
        return self._take(rows, self._columns.choose(columns), Deadline(self._limits.seconds))

    def _take(self, rows: Rows, chosen: Mapping[str, str | None], deadline: Deadline) -> pa.Table:
        schema = self._columns.schema(chosen)
        kept = {column: number for number, column in enumerate(filter(None, dict.fromkeys(chosen.values())))}
        if not kept:
            return pa.table([pa.nulls(len(rows), field.type) for field in schema], schema=schema)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in self._store.batches(rows, list(kept)):
                deadline.check()
                unknown = pa.nulls(batch.num_rows, pa.uint64())
                columns = [unknown if name is None else batch.column(kept[name]) for name in chosen.values()]
                yield pa.record_batch(columns, schema=schema)

        return pa.Table.from_batches(batches(), schema)

    def _find(self, region: Region | None, clause: GuardedClause, deadline: Deadline) -> Rows:
        """Find the rows of a query in its order; one more than allowed tells that there are more."""
        candidates = self._candidates(region, clause, deadline)
        most = self._limits.max_rows + 1 if clause.limit is None else min(clause.limit, self._limits.max_rows + 1)
        first = min(clause.offset or 0, self.rows)
        if clause.condition is None and clause.order_by is None:
            if candidates is None:
                return np.arange(min(first, self.rows), min(first + most, self.rows))
            return candidates[first : first + most]
        # DuckDB keeps the order of what it scans, but not that of what it joins
        keys = [clause.order_by] if clause.order_by else []
        order = f"ORDER BY {', '.join([*keys, ROW])} " if keys or clause.lists or clause.sky else ""
        condition = f"WHERE {clause.condition} " if clause.condition else ""
        sql = f"SELECT {ROW} FROM scan {condition}{order}LIMIT {most} OFFSET {first}"
        return self._select(sql, candidates, clause, deadline)

    def _count(self, candidates: Rows | None, clause: GuardedClause, deadline: Deadline) -> int:
        """Count the rows that fulfil the condition, LIMIT and OFFSET aside."""
        sql = f"SELECT count(*) FROM scan WHERE {clause.condition}"
        return int(self._select(sql, candidates, clause, deadline)[0])

    def _select(self, sql: str, candidates: Rows | None, clause: GuardedClause, deadline: Deadline) -> Rows:
        """Run a statement of one integer column over the columns that the clause names."""
        tables: dict[str, ArrowSource] = dict(clause.lists)
        for name, region in clause.sky.items():
            tables[name] = pa.table({"r": self._search([region], deadline)})
        tables["scan"] = self._store.scan(candidates, sorted(clause.columns))
        (column,) = self._database.execute(sql, tables, deadline).values()
        return column

    def _candidates(self, region: Region | None, clause: GuardedClause, deadline: Deadline) -> Rows | None:
        """Find the rows in all regions that hold for every row; None stands for all rows."""
        regions = [*clause.within, *([region] if region is not None else [])]
        return self._search(regions, deadline) if regions else None

    def _search(self, regions: Sequence[Region], deadline: Deadline) -> Rows:
        found = [np.empty(0, np.int64)]
        for rows in self.sky.pieces(*regions):
            deadline.check()
            found.append(rows)
        return np.concatenate(found)


def index_table(folder: Path, files: Sequence[Path], *, id_column: str | None, ra: str | None, dec: str | None) -> None:
    """Write the sky index and the row store of a table.

    Parameters
    ----------
    folder : Path
        Where they are written.
    files : sequence of Path
        The table's Parquet files in order.
    id_column, ra, dec : str or None
        Names of the columns of identifiers and of positions (degrees); None where there are none.

    Raises
    ------
    DamagedData
        If a file cannot be read, or the rows are not sorted by ``_healpix_29``.
    InvalidRequest
        If a column has a name that cannot be served.
    """
    SkyIndex.build(files, folder / _SKY, ra=ra, dec=dec, id_column=id_column)
    RowStore.build(files, folder / _ROWS)


def open_table(
    name: str,
    folder: Path,
    files: Sequence[Path],
    database: Database,
    limits: QueryLimits,
    *,
    id_column: str | None,
    ra: str | None,
    dec: str | None,
    description: str,
) -> CatalogueTable:
    """Open a table; an index or a row store that is missing or belongs to other Parquet files is written anew.

    Parameters
    ----------
    name : str
        As users know it, with or without its schema.
    folder, files, id_column, ra, dec
        As for `index_table`.
    database : Database
    limits : QueryLimits
    description : str

    Returns
    -------
    CatalogueTable

    Raises
    ------
    DamagedData
        If a file cannot be read.
    """
    sky, store = SkyIndex.open(folder / _SKY, files), RowStore.open(folder / _ROWS, files)
    if sky is None:
        sky = SkyIndex.build(files, folder / _SKY, ra=ra, dec=dec, id_column=id_column)
    if store is None:
        store = RowStore.build(files, folder / _ROWS)
    position = (ra, dec) if ra is not None and dec is not None else None
    return CatalogueTable(
        name, sky, store, database, limits, id_column=id_column, position=position, description=description
    )


def _cut(number: int, clause: GuardedClause) -> int:
    """Say how many of some rows LIMIT and OFFSET leave."""
    rest = max(number - (clause.offset or 0), 0)
    return rest if clause.limit is None else min(rest, clause.limit)


def _spread(rows: Rows | None, number: int, most: int) -> Rows:
    """Choose rows evenly; all of them if there are no more than `most`."""
    places = np.linspace(0, number - 1, min(number, most)).astype(np.int64)
    return places if rows is None else rows[places]
