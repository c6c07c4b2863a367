"""The locked database: DuckDB over the Parquet files, with nothing else in reach.

It is the second wall behind `specflight.catalog.guard`: no file outside the given folders can be opened, no extension
loaded, no Python object seen, no setting changed; every query has a limit in time and all of them one in memory.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa

from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, QueryTimeout

__all__ = ["Cancellation", "Database", "open_database", "quote_text"]

_REPEAT = 0.05  # seconds between interrupts: one that comes while a query is still being planned is lost
_FOLDERS = re.compile(r"/[^\"']*/(?=[^/\"']+\.parquet)")  # where the data lie is nobody's business


class Cancellation:
    """Stops one query from another thread.

    Give it to `Database.execute`, call `cancel` at any time: before, while or after the query runs.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._cancelled = self._finished = False

    def cancel(self) -> None:
        """Stop the query; it raises QueryTimeout in its own thread."""
        with self._change:
            self._cancelled = True
            self._change.notify_all()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def _finish(self) -> None:
        with self._change:
            self._finished = True
            self._change.notify_all()

    def _watch(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> None:
        """Interrupt a query that is cancelled or runs for too long; ends with it."""
        with self._change:
            self._change.wait_for(lambda: self._finished or self._cancelled, timeout=seconds)
            while not self._finished:
                cursor.interrupt()
                self._change.wait(_REPEAT)


class Database:
    """A DuckDB that only reads; made by `open_database`, safe to use from several threads, a context manager."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory_limit: str) -> None:
        self._connection = connection
        self._memory_limit = memory_limit

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def execute(
        self,
        sql: str,
        tables: Mapping[str, pa.Table] | None = None,
        seconds: float = 60.0,
        cancellation: Cancellation | None = None,
    ) -> pa.Table:
        """Run one SELECT.

        Parameters
        ----------
        sql : str
            A single statement, built by specflight.
        tables : mapping of str to pyarrow.Table
            Tables that the statement may name.
        seconds : float
            Time after which it is stopped.
        cancellation : Cancellation, optional

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        InvalidRequest
            If the data do not bear the calculation: an overflow, a division by zero, text that is no number.
        QueryTimeout
            Naming the time limit, or that the query was cancelled.
        LimitExceeded
            Naming the memory limit.
        DamagedData
            If a file cannot be read.
        """
        watch = cancellation or Cancellation()
        cursor = self._connection.cursor()
        started = time.monotonic()
        guard = threading.Thread(target=watch._watch, args=(cursor, seconds), name="query-limit", daemon=True)
        try:
            if watch.cancelled:
                raise QueryTimeout("the query was cancelled before it started")
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise InvalidRequest("where: only one SELECT is ever run")
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            guard.start()
            return cursor.sql(sql).to_arrow_table()
        except duckdb.InterruptException:
            if watch.cancelled:
                raise QueryTimeout(f"the query was cancelled after {time.monotonic() - started:.1f} s") from None
            raise QueryTimeout(f"the query ran past the time limit of {seconds:g} s; make it narrower") from None
        except duckdb.OutOfMemoryException:
            raise LimitExceeded(f"the query needs more memory than the limit of {self._memory_limit}") from None
        except (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
            reason = _reason(error)
            if ".parquet" in reason:
                raise DamagedData(f"the catalogue cannot be read: {reason}") from None
            raise InvalidRequest(f"where: {reason}") from None
        except duckdb.Error as error:
            raise DamagedData(f"the catalogue cannot be read: {_reason(error)}") from None
        finally:
            watch._finish()
            if guard.ident is not None:
                guard.join()
            cursor.close()


def open_database(directories: Sequence[Path], memory_limit: str, temp_directory: Path, threads: int) -> Database:
    """Open a database that can read some folders and do nothing else.

    Parameters
    ----------
    directories : sequence of Path
        Folders whose files may be read.
    memory_limit : str
        For all queries together, such as ``'2GB'``; beyond it they use `temp_directory`.
    temp_directory : Path
    threads : int

    Returns
    -------
    Database
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": threads,
        "python_enable_replacements": False,
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=settings)
    folders = ", ".join(quote_text(str(directory.resolve())) for directory in directories)
    # the folders and the scratch place come first: they cannot be set once external access is off
    connection.execute(f"SET temp_directory = {quote_text(str(temp_directory.resolve()))}")
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute("SET lock_configuration = true")
    return Database(connection, memory_limit)


def quote_text(text: str) -> str:
    """Write a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _reason(error: duckdb.Error) -> str:
    """Take the first sentence of DuckDB's message, without its kind and its advice."""
    first = str(error).splitlines()[0].partition(". ")[0]
    return _FOLDERS.sub("", first.partition(": ")[2] or first)
