"""The two sides of the catalogue's benchmark: the service, and PostgreSQL with Q3C that holds the same table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specflight.client import Client
from specflight.errors import DamagedData
from specflight.tools.ingestcatalog import ingest_catalog
from specflight.tools.postgres import NotInstalled, Postgres, cluster
from specflight.tools.race import Figure
from specflight.tools.serve import start

__all__ = ["FIVE", "TABLE", "Peer", "Sides", "Way", "found_rows", "sides"]

CONTEXT, TABLE = "sim_dr1", "sim_dr1.specobj"
FIVE = ("specobjid", "ra", "dec", "z", "class")
"""The columns that are asked for."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways to an answer.

    Attributes
    ----------
    name : str
    ask : callable
        Takes what is asked in a round, and returns the answer.
    rows : callable
        Number of rows in an answer.
    limit : str or None
        Name of the way that this one is compared with.
    note : str
        What else is to be known.
    """

    name: str
    ask: Callable[[Any], Any]
    rows: Callable[[Any], int] = len
    limit: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """PostgreSQL, and two connections to it that ask by prepared statements with parameters.

    Attributes
    ----------
    planning : Postgres
        As it comes: for a region it makes a new plan every time.
    keeping : Postgres
        Made to keep one plan for all regions, which is the best that can be had from it for small ones.
    """

    planning: Postgres
    keeping: Postgres


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, ready to be asked.

    Attributes
    ----------
    client : Client
        Of the service.
    peer : Peer or None
        None where PostgreSQL is not installed.
    table : pyarrow.Table
        The columns `FIVE` of all rows.
    schema : pyarrow.Schema
        Of the whole table.
    taken : tuple of Figure
        What it took to take the table in.
    repeat : int
        Rounds of what does not depend on a region.
    say : callable
        Is told what goes on.
    equal : list of str
        Comparisons that found the same rows, added to as they are made.
    """

    client: Client
    peer: Peer | None
    table: pa.Table
    schema: pa.Schema
    taken: tuple[Figure, ...]
    repeat: int
    say: Callable[[str], None]
    equal: list[str]

    def same(self, what: str, ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> None:
        """Take down that both found the same rows.

        Parameters
        ----------
        what : str
            Is compared.
        ours, theirs : ndarray of uint64, shape (2, n)
            From `found_rows`.

        Raises
        ------
        DamagedData
            If they did not.
        """
        if not np.array_equal(ours, theirs):
            raise DamagedData(
                f"bench: {what}: the service finds {ours.shape[1]:,} rows and PostgreSQL {theirs.shape[1]:,}, not the "
                "same ones, so their speed is not to be compared"
            )
        self.equal.append(f"{what}: {ours.shape[1]:,} rows")

    def race(self, group: str, ways: Sequence[Way], rounds: Sequence[Any]) -> list[Figure]:
        """Have ways answer in turns, after a round that does not count.

        Parameters
        ----------
        group : str
            Of the figures.
        ways : sequence of Way
        rounds : sequence
            What is asked in each round.

        Returns
        -------
        list of Figure
            The medians of each way.
        """
        self.say(f"{group}: {len(rounds)} rounds")
        seconds: dict[str, list[float]] = {way.name: [] for way in ways}
        rows: dict[str, list[int]] = {way.name: [] for way in ways}
        for way in ways:
            way.ask(rounds[0])
        for asked in rounds:
            for way in ways:
                started = time.perf_counter()
                answer = way.ask(asked)
                seconds[way.name].append(time.perf_counter() - started)
                rows[way.name].append(way.rows(answer))
                del answer
        took = {name: median(times) for name, times in seconds.items()}
        return [
            Figure(
                group,
                way.name,
                round(median(rows[way.name])),
                0,
                took[way.name],
                limit=way.limit,
                ratio=took[way.limit] / took[way.name] if way.limit else None,
                note=way.note,
            )
            for way in ways
        ]


def found_rows(found: Any, numbered: bool = False) -> NDArray[np.uint64]:  # noqa: ANN401 - of either side
    """Rows that an answer holds, in an order that does not depend on the answer's.

    Parameters
    ----------
    found : pyarrow.Table, ndarray of uint64, list of asyncpg.Record, or int
        With ``specobjid``; or a mere number of rows.
    numbered : bool
        It has a column ``row``, too: the number in the list that was matched.

    Returns
    -------
    ndarray of uint64, shape (2, n)
        ``row`` (0 unless numbered) and ``specobjid``.
    """
    if isinstance(found, int):
        return np.zeros((2, found), np.uint64)
    if isinstance(found, list):
        ids = np.array([record["specobjid"] for record in found], np.int64).view(np.uint64)
        numbers = np.array([record["row"] for record in found] if numbered else 0, np.uint64)
    else:
        ids = found if isinstance(found, np.ndarray) else found["specobjid"].to_numpy()
        numbers = np.asarray(found["row"] if numbered else 0, np.uint64)
    rows = np.stack([np.broadcast_to(numbers, ids.shape), ids])
    return rows[:, np.lexsort(rows[::-1])]


@contextmanager
def sides(file: Path, data: Path, repeat: int, say: Callable[[str], None]) -> Iterator[Sides]:
    """Take a table in on both sides, and run them.

    Parameters
    ----------
    file : Path
        A catalogue in Parquet, with ``specobjid``, ``ra`` and ``dec``.
    data : Path
        Data directory to make.
    repeat : int
        Rounds of what does not depend on a region.
    say : callable
        Is told what goes on.

    Yields
    ------
    Sides
    """
    schema, rows = pq.read_schema(file), pq.read_metadata(file).num_rows
    with ExitStack() as stack:
        say("taking the catalogue into a data directory")
        started = time.perf_counter()
        ingest_catalog(data, CONTEXT, TABLE, file)
        ours = time.perf_counter() - started
        peer, theirs = _peer(stack, file, say)
        taken = [Figure("taking in", "ingest --catalog", rows, 0, ours)]
        if theirs is not None:
            note = "COPY of CSV, primary key, q3c_ang2ipix index, CLUSTER, VACUUM ANALYZE"
            ours_compared = Figure("taking in", "ingest --catalog", rows, 0, ours, None, "PostgreSQL", theirs / ours)
            taken = [ours_compared, Figure("taking in", "PostgreSQL", rows, 0, theirs, note=note)]
        running = stack.enter_context(start(data, "127.0.0.1", 0, 0, workers=1))
        client = stack.enter_context(Client(running.flight[0], CONTEXT))
        table = pq.read_table(file, columns=list(FIVE))
        yield Sides(client, peer, table, schema, tuple(taken), repeat, say, [])


def _peer(stack: ExitStack, file: Path, say: Callable[[str], None]) -> tuple[Peer | None, float | None]:
    """PostgreSQL with the table in it, and the seconds that this took; the stack ends it."""
    try:
        planning = stack.enter_context(cluster())
    except NotInstalled as error:
        say(f"nothing to compare with: {error}")
        return None, None
    keeping = stack.enter_context(closing(Postgres(planning.dsn)))
    keeping.run("SET plan_cache_mode = force_generic_plan")
    say("taking it into PostgreSQL")
    started = time.perf_counter()
    planning.copy(TABLE, _signed(pq.ParquetFile(file)))
    for sql in (
        f"ALTER TABLE {TABLE} ADD PRIMARY KEY (specobjid)",
        f"CREATE INDEX by_place ON {TABLE} (q3c_ang2ipix(ra, dec))",
        f"CLUSTER {TABLE} USING by_place",
        f"VACUUM (ANALYZE) {TABLE}",
    ):
        planning.run(sql)
    return Peer(planning, keeping), time.perf_counter() - started


def _signed(file: pq.ParquetFile) -> pa.RecordBatchReader:
    """Rows whose identifiers are their two's complement: PostgreSQL's bigint is faster than its numeric."""
    place = file.schema_arrow.get_field_index("specobjid")
    schema = file.schema_arrow.set(place, pa.field("specobjid", pa.int64()))

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in file.iter_batches():
            yield batch.set_column(place, schema.field(place), batch.column(place).view(pa.int64()))

    return pa.RecordBatchReader.from_batches(schema, batches())
