"""Prepared statements of the database, kept for the next query that is written alike.

To parse, bind and plan a statement takes a millisecond, to run it on the few rows of a small region a quarter of one;
and who searches around many positions sends one condition with all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from specflight.errors import InvalidRequest

__all__ = ["ArrowSource", "Prepared", "PreparedStatements"]

_KEPT = 32  # statements
_LONGEST = 10_000  # characters of one that is kept


class ArrowSource(Protocol):
    """A table that is read through Arrow's C stream, each time from its start."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@dataclass
class _Place:
    """Where a statement finds a table: another one of the same columns each time it runs."""

    schema: pa.Schema
    table: ArrowSource | None = None

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        assert self.table is not None
        return self.table.__arrow_c_stream__(requested_schema)


class Prepared:
    """A SELECT and the tables that it names, on a cursor of its own; for one thread at a time.

    Attributes
    ----------
    cursor : duckdb.DuckDBPyConnection
    sql : str
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, tables: Mapping[str, ArrowSource]) -> None:
        self.cursor, self.sql = cursor, sql
        self._places = {name: _Place(table.schema) for name, table in tables.items()}
        self._run: duckdb.Statement | None = None

    def fits(self, sql: str, tables: Mapping[str, ArrowSource]) -> bool:
        """Tell whether it is this statement, on tables of these columns."""
        return (
            sql == self.sql
            and tables.keys() == self._places.keys()
            and all(place.schema.equals(tables[name].schema) for name, place in self._places.items())
        )

    def run(self, tables: Mapping[str, ArrowSource]) -> dict[str, Any]:
        """Run it on the rows of some tables; the first time, prepare it before.

        Raises
        ------
        InvalidRequest
            If it is anything but one SELECT.
        """
        for name, place in self._places.items():
            place.table = tables[name]
        try:
            self._run = self._run or self._prepare()
            return self.cursor.execute(self._run).fetchnumpy()
        finally:
            for place in self._places.values():
                place.table = None

    def _prepare(self) -> duckdb.Statement:
        statements = duckdb.extract_statements(self.sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InvalidRequest("where: only one SELECT is ever run")
        for name, place in self._places.items():
            self.cursor.register(name, place)
        self.cursor.execute(f"PREPARE query AS {self.sql}")
        return duckdb.extract_statements("EXECUTE query")[0]


class PreparedStatements:
    """The statements that wait for their next query; safe to use from several threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._waiting: list[Prepared] = []
        self._lock = threading.Lock()

    def take(self, sql: str, tables: Mapping[str, ArrowSource]) -> Prepared:
        """Take a statement that waits, or a new one; give it back when it has run, or close its cursor."""
        with self._lock:
            for place, statement in enumerate(self._waiting):
                if statement.fits(sql, tables):
                    return self._waiting.pop(place)
        return Prepared(self._connection.cursor(), sql, tables)

    def give_back(self, statement: Prepared) -> None:
        """Keep a statement that ran without fault; the oldest one goes if there are too many."""
        with self._lock:
            self._waiting.append(statement)
            if len(statement.sql) > _LONGEST:
                self._waiting.pop().cursor.close()
            elif len(self._waiting) > _KEPT:
                self._waiting.pop(0).cursor.close()

    def close(self) -> None:
        """Close the statements that wait."""
        with self._lock:
            while self._waiting:
                self._waiting.pop().cursor.close()
