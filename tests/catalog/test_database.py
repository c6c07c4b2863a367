"""Tests of `specflight.catalog.database`."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.catalog.database import Cancellation, Database, Deadline, open_database
from specflight.errors import InvalidRequest, LimitExceeded, QueryTimeout, SpecflightError

ENDLESS = "SELECT sum(a.range * b.range % 7) AS x FROM range(100000000) a, range(100000) b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "it's inside"
    inside.mkdir()
    pq.write_table(pa.table({"x": [1, 2, 3]}), inside / "t.parquet")
    return inside


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_database("200MB", tmp_path / "it's scratch", 2) as opened:
        yield opened


def answer(database: Database, sql: str, **tables: pa.Table) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in database.execute(sql, tables).items()}


def test_tables_that_are_given_are_seen_by_that_query_only(database: Database) -> None:
    given = pa.table({"v": pa.array([2**64 - 1, 2**53 + 1], pa.uint64())})
    assert answer(database, "SELECT v FROM mine", mine=given) == {"v": [2**64 - 1, 2**53 + 1]}
    with pytest.raises(InvalidRequest, match="mine"):
        database.execute("SELECT v FROM mine")


def test_a_query_runs_again_on_other_tables(database: Database) -> None:
    sql = "SELECT v + 1 AS w FROM mine WHERE v IN (SELECT v FROM other)"
    for values, others in (([1, 2, 3], [2, 3]), ([5], [5]), ([5], [6]), ([], []), (list(range(5000)), [4999, 17])):
        mine, other = pa.table({"v": pa.array(values, pa.int64())}), pa.table({"v": pa.array(others, pa.int64())})
        assert sorted(answer(database, sql, mine=mine, other=other)["w"]) == sorted(
            v + 1 for v in values if v in others
        )
    kinds = pa.table({"v": pa.array([0.25, 1.5])})
    assert answer(database, sql, mine=kinds, other=kinds) == {"w": [1.25, 2.5]}
    assert answer(database, "SELECT u AS w FROM mine", mine=kinds.rename_columns(["u"])) == {"w": [0.25, 1.5]}


def test_a_query_that_failed_runs_again(database: Database) -> None:
    sql = "SELECT v::TINYINT AS w FROM mine"
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="out of range"):
            answer(database, sql, mine=pa.table({"v": [1, 1000]}))
        assert answer(database, sql, mine=pa.table({"v": [4]})) == {"w": [4]}


def test_threads_that_send_the_same_query_get_their_own_answers(database: Database) -> None:
    def ask(value: int) -> list[Any]:
        found = [answer(database, "SELECT v FROM mine WHERE v > 0", mine=pa.table({"v": [value]})) for _ in range(50)]
        return [one["v"] for one in found]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(1, 20))) == [[[value]] * 50 for value in range(1, 20)]


def test_many_different_queries_are_answered(database: Database) -> None:
    for number in [*range(100), *range(100)]:
        assert answer(database, f"SELECT {number} AS x") == {"x": [number]}
    long = "0" * 20_000
    for _ in range(2):
        assert answer(database, f"SELECT '{long}' AS x") == {"x": [long]}


def test_python_variables_are_not_tables(database: Database) -> None:
    local_table = pa.table({"v": [1]})
    assert len(local_table)
    with pytest.raises(InvalidRequest, match="local_table"):
        database.execute("SELECT v FROM local_table")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('{inside}/t.parquet')",
        "SELECT * FROM '{inside}/t.parquet'",
        "SELECT * FROM glob('/etc/*')",
        "COPY (SELECT 1) TO '{inside}/new.csv'",
        "COPY (SELECT 1) TO '/tmp/new.csv'",
        "ATTACH '{inside}/new.db' AS other",
        "CREATE TABLE t AS SELECT 1",
        "SET threads = 8",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "PRAGMA version",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "EXPLAIN SELECT 1",
        "",
    ],
)
def test_nothing_but_computing_is_possible(database: Database, folder: Path, sql: str) -> None:
    with pytest.raises(SpecflightError, match=r"only one SELECT|disabled by configuration|syntax error|does not exist"):
        database.execute(sql.format(inside=str(folder).replace("'", "''")))
    assert [path.name for path in folder.iterdir()] == ["t.parquet"]


def test_a_query_past_its_time_is_stopped(database: Database) -> None:
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"limit of 0\.3 s"):
        database.execute(ENDLESS, deadline=Deadline(0.3))
    assert 0.25 < time.monotonic() - started < 1
    assert answer(database, "SELECT 1 AS x") == {"x": [1]}


def test_a_query_without_time_does_not_start(database: Database) -> None:
    with pytest.raises(QueryTimeout, match="limit"):
        database.execute("SELECT 1", deadline=Deadline(0))


def test_another_thread_can_cancel_a_query(database: Database) -> None:
    cancellation = Cancellation()
    timer = threading.Timer(0.2, cancellation.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match="cancelled"):
        database.execute(ENDLESS, deadline=Deadline(60, cancellation))
    assert time.monotonic() - started < 0.7
    timer.join()


def test_a_query_ends_when_nobody_waits_for_it(database: Database) -> None:
    started = time.monotonic()
    gone = Cancellation(lambda: time.monotonic() - started > 0.2)
    with pytest.raises(QueryTimeout, match="cancelled"):
        database.execute(ENDLESS, deadline=Deadline(60, gone))
    assert 0.2 < time.monotonic() - started < 0.7


def test_a_probe_that_fails_ends_only_its_own_query(database: Database) -> None:
    started = time.monotonic()

    def broken() -> bool:
        if time.monotonic() - started > 0.1:
            raise OSError("no connection")
        return False

    with pytest.raises(OSError, match="no connection"):
        database.execute(ENDLESS, deadline=Deadline(60, Cancellation(broken)))
    with pytest.raises(QueryTimeout, match="limit"):
        database.execute(ENDLESS, deadline=Deadline(0.1))


def test_cancelling_before_or_after_a_query_does_no_harm(database: Database) -> None:
    early, late = Cancellation(), Cancellation()
    early.cancel()
    with pytest.raises(QueryTimeout, match="cancelled"):
        database.execute("SELECT 1", deadline=Deadline(60, early))
    assert database.execute("SELECT 1 AS x", deadline=Deadline(60, late))["x"] == [1]
    late.cancel()
    assert answer(database, "SELECT 1 AS x") == {"x": [1]}


def test_one_query_stopped_leaves_others_running(database: Database) -> None:
    sql = "SELECT count(*) AS n FROM range(100000000) WHERE range % 7 = 0"
    with ThreadPoolExecutor(1) as pool:
        counted = pool.submit(answer, database, sql)
        with pytest.raises(QueryTimeout):
            database.execute(ENDLESS, deadline=Deadline(0.05))
        assert counted.result() == {"n": [14285715]}


def test_one_thread_watches_over_all_queries_until_the_database_closes(tmp_path: Path) -> None:
    before = threading.active_count()
    with open_database("100MB", tmp_path, 1) as database:
        for n in range(20):
            database.execute(f"SELECT {n} AS x")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_memory_is_limited(database: Database) -> None:
    with pytest.raises(LimitExceeded, match="200MB"):
        database.execute(
            "SELECT string_agg(range::VARCHAR || repeat('x', 1000), '') AS x FROM range(3000000)",
            deadline=Deadline(30),
        )


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1 // (range - range)", "Division by zero"),
        ("'a' || range)::INT + (1", "convert"),
        ("9223372036854775807 + range + 1", "Overflow"),
    ],
)
def test_a_calculation_that_fails_is_the_requests_fault(database: Database, expression: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"where: .*{said}"):
        database.execute(f"SELECT ({expression}) AS x FROM range(5)")


def test_a_sort_larger_than_the_memory_uses_the_scratch_folder(tmp_path: Path) -> None:
    rows = "SELECT hash(range) AS h, repeat('x', 30) || range AS s FROM range(1500000) ORDER BY h, s"
    with open_database("100MB", tmp_path, 2) as database:
        assert answer(database, f"SELECT count(*) AS n FROM ({rows})") == {"n": [1_500_000]}
