"""The locked database: DuckDB over Arrow tables that it is given, with nothing else in reach.

It is the second wall behind `specflight.catalog.guard`: no file can be opened, no extension loaded, no Python object
seen, no setting changed; every query has a limit in time and all of them one in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
from numpy.typing import NDArray

from specflight.catalog.prepared import ArrowSource, PreparedStatements
from specflight.errors import InvalidRequest, LimitExceeded, QueryTimeout, SpecflightError

__all__ = ["Cancellation", "Database", "Deadline", "open_database"]

_TICK = 0.1  # seconds between looks at the running queries
_SECONDS = 60.0
_OPTIMIZERS = (
    *("expression_rewriter", "filter_pushdown", "reorder_filter", "common_subexpressions", "top_n"),
    *("unused_columns", "column_lifetime", "deliminator"),
)
"""What helps a filter and an order over one table. All others together take 0.2 ms, and put the larger side of
``IN (SELECT ...)`` into the hash table, because they do not know its size."""


class Cancellation:
    """Stops one query from outside: give it to the query, call `cancel` at any time.

    Parameters
    ----------
    probe : callable, optional
        Asked now and then, from another thread, whether whoever waits for the answer has gone.
    """

    def __init__(self, probe: Callable[[], bool] | None = None) -> None:
        self._probe = probe
        self._cancelled = False

    def cancel(self) -> None:
        """Stop the query; it raises QueryTimeout in its own thread."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called or the probe said so."""
        self._cancelled = self._cancelled or (self._probe is not None and self._probe())
        return self._cancelled


class Deadline:
    """The end of a query: when its time is over or it is cancelled.

    Parameters
    ----------
    seconds : float
        Time from now on.
    cancellation : Cancellation, optional
    """

    def __init__(self, seconds: float, cancellation: Cancellation | None = None) -> None:
        self._seconds = seconds
        self._cancellation = cancellation or Cancellation()
        self._started = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the query is to end."""
        return time.monotonic() - self._started > self._seconds or self._cancellation.cancelled

    def check(self) -> None:
        """Raise QueryTimeout if the query is to end."""
        if self.over:
            raise self.error()

    def error(self) -> QueryTimeout:
        """Error that says why the query ended."""
        if self._cancellation.cancelled:
            return QueryTimeout(f"the query was cancelled after {time.monotonic() - self._started:.1f} s")
        return QueryTimeout(f"the query ran past the time limit of {self._seconds:g} s; make it narrower")


class _Watch:
    """The thread that interrupts queries at their end; one for all queries, as to start one takes a tenth of theirs."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._running: dict[int, tuple[duckdb.DuckDBPyConnection, Deadline]] = {}
        self._thread: threading.Thread | None = None
        self._idle = self._closed = False

    @contextmanager
    def over(self, cursor: duckdb.DuckDBPyConnection, deadline: Deadline) -> Iterator[None]:
        """Watch over what a cursor does in the block."""
        with self._change:
            self._running[id(cursor)] = cursor, deadline
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="query-limit", daemon=True)
                self._thread.start()
            elif self._idle:
                self._change.notify()
        try:
            yield
        finally:
            with self._change:
                del self._running[id(cursor)]

    def close(self) -> None:
        """End the thread."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._change:
            while not self._closed:
                for cursor, deadline in self._running.values():
                    # again and again: an interrupt that comes while a query is still being planned is lost
                    if _is_over(deadline):
                        cursor.interrupt()
                self._idle = not self._running
                self._change.wait(_TICK if self._running else None)


class Database:
    """A DuckDB that reads nothing but the tables it is given; made by `open_database`, a context manager.

    It is safe to use from several threads.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, memory_limit: str) -> None:
        self._connection = connection
        self._memory_limit = memory_limit
        self._watch = _Watch()
        self._statements = PreparedStatements(connection)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._watch.close()
        self._statements.close()
        self._connection.close()

    def execute(
        self, sql: str, tables: Mapping[str, ArrowSource] | None = None, deadline: Deadline | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run one SELECT.

        Parameters
        ----------
        sql : str
            A single statement, built by specflight.
        tables : mapping of str to pyarrow.Table or RowScan
            Tables that the statement may name.
        deadline : Deadline, optional
            When to stop it; after a minute unless given.

        Returns
        -------
        dict of str to ndarray
            The columns of the result; masked arrays where values are NULL.

        Raises
        ------
        InvalidRequest
            If the data do not bear the calculation: an overflow, a division by zero, text that is no number.
        QueryTimeout
            Naming the time limit, or that the query was cancelled.
        LimitExceeded
            Naming the memory limit.
        """
        deadline = deadline or Deadline(_SECONDS)
        deadline.check()
        with self._translated(deadline):
            statement = self._statements.take(sql, tables or {})
            try:
                with self._watch.over(statement.cursor, deadline):
                    columns = statement.run(tables or {})
            except BaseException:
                statement.cursor.close()
                raise
            self._statements.give_back(statement)
            return columns

    @contextmanager
    def _translated(self, deadline: Deadline) -> Iterator[None]:
        """Turn DuckDB's errors into those of this package."""
        try:
            yield
        except duckdb.InterruptException:
            raise deadline.error() from None
        except duckdb.OutOfMemoryException:
            raise LimitExceeded(f"the query needs more memory than the limit of {self._memory_limit}") from None
        except (duckdb.DataError, duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
            raise InvalidRequest(f"where: {_reason(error)}") from None
        except duckdb.Error as error:
            raise SpecflightError(f"the query failed in the database: {_reason(error)}") from None


def open_database(memory_limit: str, temp_directory: Path, threads: int) -> Database:
    """Open a database that can compute with what it is given and do nothing else.

    Parameters
    ----------
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
    # the scratch place comes first: it cannot be set once external access is off
    connection.execute("SET temp_directory = ?", [str(temp_directory.resolve())])
    connection.execute("SET enable_external_access = false")
    unused = [name for (name,) in connection.execute("FROM duckdb_optimizers()").fetchall() if name not in _OPTIMIZERS]
    connection.execute("SET disabled_optimizers = ?", [",".join(unused)])
    connection.execute("SET lock_configuration = true")
    return Database(connection, memory_limit)


def _is_over(deadline: Deadline) -> bool:
    """Ask a deadline; a probe that fails ends its own query, not the watch over the others."""
    try:
        return deadline.over
    except Exception:
        return True


def _reason(error: duckdb.Error) -> str:
    """Take the first sentence of DuckDB's message, without its kind and its advice."""
    first = str(error).splitlines()[0].partition(". ")[0]
    return first.partition(": ")[2] or first
