"""Tests of `specflight.catalog.database`."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.catalog.database import Cancellation, Database, open_database
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, QueryTimeout

ENDLESS = "SELECT sum(a.range * b.range % 7) AS x FROM range(100000000) a, range(100000) b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "it's inside"
    inside.mkdir()
    pq.write_table(pa.table({"x": [1, 2, 3]}), inside / "t.parquet")
    pq.write_table(pa.table({"x": [4]}), tmp_path / "outside.parquet")
    return inside


@pytest.fixture
def database(folder: Path, tmp_path: Path) -> Iterator[Database]:
    with open_database([folder], "200MB", tmp_path / "scratch", 2) as opened:
        yield opened


def quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def test_files_of_the_folders_are_read(database: Database, folder: Path) -> None:
    result = database.execute(f"SELECT sum(x)::BIGINT AS s FROM read_parquet({quoted(folder / 't.parquet')})")
    assert result.to_pydict() == {"s": [6]}


def test_tables_that_are_given_are_seen_by_that_query_only(database: Database) -> None:
    given = pa.table({"v": pa.array([2**64 - 1], pa.uint64())})
    assert database.execute("SELECT v FROM mine", {"mine": given}).equals(given)
    with pytest.raises(InvalidRequest, match="mine"):
        database.execute("SELECT v FROM mine")


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
        "SELECT * FROM read_parquet('{outside}')",
        "SELECT * FROM read_parquet('{inside}/../outside.parquet')",
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
def test_nothing_but_reading_the_folders_is_possible(
    database: Database, folder: Path, tmp_path: Path, sql: str
) -> None:
    outside = str(tmp_path / "outside.parquet").replace("'", "''")
    with pytest.raises((InvalidRequest, DamagedData)):
        database.execute(sql.format(outside=outside, inside=str(folder).replace("'", "''")))
    assert [path.name for path in folder.iterdir()] == ["t.parquet"]


def test_a_query_past_its_time_is_stopped(database: Database) -> None:
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"limit of 0\.3 s"):
        database.execute(ENDLESS, seconds=0.3)
    assert 0.25 < time.monotonic() - started < 2
    assert database.execute("SELECT 1 AS x").to_pydict() == {"x": [1]}


def test_a_query_with_hardly_any_time_is_stopped_too(database: Database) -> None:
    with pytest.raises(QueryTimeout, match="limit"):
        database.execute(ENDLESS, seconds=1e-9)


def test_another_thread_can_cancel_a_query(database: Database) -> None:
    cancellation = Cancellation()
    timer = threading.Timer(0.2, cancellation.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match="cancelled"):
        database.execute(ENDLESS, cancellation=cancellation)
    assert time.monotonic() - started < 2
    timer.join()


def test_cancelling_before_or_after_a_query_does_no_harm(database: Database) -> None:
    early, late = Cancellation(), Cancellation()
    early.cancel()
    with pytest.raises(QueryTimeout, match="before"):
        database.execute("SELECT 1", cancellation=early)
    assert len(database.execute("SELECT 1 AS x", cancellation=late)) == 1
    late.cancel()
    assert len(database.execute("SELECT 1 AS x")) == 1


def test_one_query_stopped_leaves_others_running(database: Database) -> None:
    answers: list[int] = []

    def count() -> None:
        answers.append(
            database.execute("SELECT count(*) AS n FROM range(300000000) WHERE range % 7 = 0")["n"][0].as_py()
        )

    thread = threading.Thread(target=count)
    thread.start()
    with pytest.raises(QueryTimeout):
        database.execute(ENDLESS, seconds=0.05)
    thread.join()
    assert answers == [42857143]


def test_no_thread_is_left_behind(database: Database) -> None:
    before = threading.active_count()
    for _ in range(20):
        database.execute("SELECT 1 AS x")
    assert threading.active_count() == before


def test_memory_is_limited(database: Database) -> None:
    with pytest.raises(LimitExceeded, match="200MB"):
        database.execute(
            "SELECT string_agg(range::VARCHAR || repeat('x', 1000), '') AS x FROM range(3000000)", seconds=30
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


def test_a_file_that_is_damaged_is_named(database: Database, folder: Path) -> None:
    (folder / "t.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DamagedData, match="cannot be read"):
        database.execute(f"SELECT * FROM read_parquet({quoted(folder / 't.parquet')})")
    with pytest.raises(DamagedData, match="cannot be read"):
        database.execute(f"SELECT * FROM read_parquet({quoted(folder / 'gone.parquet')})")
