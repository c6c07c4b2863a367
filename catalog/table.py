"""A catalogue: rows found by place, by condition or by both, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.catalog.allowlist import nearest
from specflight.catalog.database import Cancellation, Database, quote_text
from specflight.catalog.guard import GuardedClause, QueryLimits, guard_where
from specflight.catalog.regions import Region
from specflight.catalog.sky import SkyIndex
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded

__all__ = ["CatalogueTable", "QueryLimits"]

_ID = "specobjid"
_CELL = "_healpix_29"
_ROW = "_row"  # number of a row in the table, as in the sky index


class CatalogueTable:
    """One table of a context.

    Parameters
    ----------
    name : str
        As users know it, with or without its schema.
    files : sequence of Path
        Parquet files sorted by ``_healpix_29``, all of one schema.
    sky : SkyIndex
        Index of these files.
    database : Database
        Allowed to read them.
    limits : QueryLimits

    Raises
    ------
    DamagedData
        If a file cannot be read or the index has another number of rows.
    """

    def __init__(
        self, name: str, files: Sequence[Path], sky: SkyIndex, database: Database, limits: QueryLimits
    ) -> None:
        self.name = name
        self._sky, self._database, self._limits = sky, database, limits
        try:
            rows = [pq.read_metadata(file).num_rows for file in files]
            whole = pq.read_schema(files[0]).remove_metadata()
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the catalogue '{name}' cannot be read: {error}") from error
        if sum(rows) != len(sky):
            raise DamagedData(f"the sky index of '{name}' has {len(sky)} rows and the catalogue {sum(rows)}")
        self._fields = {field.name: _without_parquet_keys(field) for field in whole}
        starts = np.cumsum([0, *rows[:-1]]).tolist()
        self._from = " UNION ALL ".join(
            f"SELECT *, file_row_number{f' + {start}' if start else ''} AS {_ROW} "
            f"FROM read_parquet({quote_text(str(file.resolve()))}, file_row_number = true)"
            for file, start in zip(files, starts, strict=True)
        )

    @property
    def schema(self) -> pa.Schema:
        """Columns with their metadata, such as units; ``_healpix_29`` can be queried but is not listed."""
        return pa.schema([field for name, field in self._fields.items() if name != _CELL])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._sky)

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
        region : Cone or Polygon, optional
        where : str, optional
            A WHERE clause in PostgreSQL's dialect; may end in ORDER BY, LIMIT and OFFSET, or be only these.
        order_by : str, optional
            Sort keys; the order of the sky where there are none, and among equal ones.
        limit, offset : int, optional
            How many rows, after how many.
        columns : sequence of str, optional
            Only ``specobjid`` unless given.
        cancellation : Cancellation, optional
            Lets another thread stop the query.

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
        fields = self._chosen([_ID] if columns is None else columns)
        clause = self._clause(where, order_by, limit, offset)
        simple = not clause.condition and not clause.order_by
        if simple and [name for name, _ in fields] == [_ID]:
            found = self._rows_in(region)
            return pa.table([self._ids(found, clause)], schema=pa.schema([fields[0][1]]))
        tables = dict(clause.lists)
        conditions = [clause.condition] if clause.condition else []
        if region is not None:
            tables["found"] = pa.table({"r": self._sky.search(region)})
            conditions.append(f"{_ROW} IN (SELECT r FROM found)")
        sql = self._select(fields, conditions, clause)
        result = self._database.execute(sql, tables, self._limits.seconds, cancellation)
        self._check_rows(result.num_rows)
        return result.rename_columns([name for name, _ in fields]).cast(
            pa.schema([field.with_name(name) for name, field in fields])
        )

    def _chosen(self, columns: Sequence[str]) -> list[tuple[str, pa.Field]]:
        """Find the columns asked for: the names in the result, and the table's fields."""
        known = {name.lower(): name for name in self._fields}
        if "zerr" in known:
            known.setdefault("z_err", known["zerr"])
        if not columns:
            raise InvalidRequest("columns: the list is empty")
        chosen = []
        for column in columns:
            name = known.get(column.lower())
            if name is None:
                raise InvalidRequest(f"columns: there is no column '{column}' in {self.name}{nearest(column, known)}")
            chosen.append(("z_err" if column.lower() == "z_err" else name, self._fields[name]))
        names = [name for name, _ in chosen]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InvalidRequest(f"columns: '{min(twice)}' is named twice")
        return chosen

    def _clause(self, where: str | None, order_by: str | None, limit: int | None, offset: int) -> GuardedClause:
        """Bring the clause and the separate arguments together."""
        for name, number in (("limit", limit or 0), ("offset", offset)):
            if number < 0:
                raise InvalidRequest(f"{name}: {number} is negative")
        clause = self._guard(where or "")
        sort = self._guard(f"ORDER BY {order_by}") if order_by and order_by.strip() else GuardedClause()
        if sort.limit is not None or sort.offset is not None:
            raise InvalidRequest(
                f"order_by: '{order_by}' holds more than sort keys; give limit and offset by themselves"
            )
        pairs = {
            "order_by": (clause.order_by, sort.order_by),
            "limit": (clause.limit, limit),
            "offset": (clause.offset, offset or None),
        }
        for name, said in pairs.items():
            if None not in said:
                raise InvalidRequest(f"{name}: it is given twice, in the clause and by itself")
        return GuardedClause(
            condition=clause.condition,
            order_by=clause.order_by or sort.order_by,
            limit=limit if clause.limit is None else clause.limit,
            offset=offset if clause.offset is None else clause.offset,
            columns=clause.columns | sort.columns,
            lists=clause.lists,
        )

    def _guard(self, text: str) -> GuardedClause:
        kinds = {name: field.type for name, field in self._fields.items()}
        return guard_where(text, kinds, self._limits, self.name.rpartition(".")[2])

    def _rows_in(self, region: Region | None) -> NDArray[np.int64] | None:
        """Find the rows in a region; None stands for all."""
        return None if region is None else self._sky.search(region)

    def _ids(self, found: NDArray[np.int64] | None, clause: GuardedClause) -> pa.Array:
        """Take identifiers from the sky index, without the database."""
        count = self.rows if found is None else len(found)
        first = min(clause.offset or 0, count)
        last = count if clause.limit is None else min(first + clause.limit, count)
        self._check_rows(last - first)
        ids = (
            self._sky.ids.slice(first, last - first)
            if found is None
            else self._sky.ids.take(pa.array(found[first:last]))
        )
        return ids.cast(self._fields[_ID].type)

    def _select(self, fields: Iterable[tuple[str, pa.Field]], conditions: Sequence[str], clause: GuardedClause) -> str:
        # one row more than allowed tells that there are more
        most = self._limits.max_rows + 1 if clause.limit is None else min(clause.limit, self._limits.max_rows + 1)
        names = ", ".join(
            f'"{field.name.replace(chr(34), chr(34) * 2)}" AS c{i}' for i, (_, field) in enumerate(fields)
        )
        order = f"{clause.order_by}, {_ROW}" if clause.order_by else _ROW
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return f"SELECT {names} FROM ({self._from}) {where}ORDER BY {order} LIMIT {most} OFFSET {clause.offset or 0}"

    def _check_rows(self, count: int) -> None:
        if count > self._limits.max_rows:
            raise LimitExceeded(
                f"the query finds more rows than the limit of {self._limits.max_rows}; make it narrower or add a LIMIT"
            )


def _without_parquet_keys(field: pa.Field) -> pa.Field:
    """Drop what the Parquet reader adds to a column's metadata."""
    own = {key: value for key, value in (field.metadata or {}).items() if not key.startswith(b"PARQUET:")}
    return field.with_metadata(own or None)
