from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from specflight.tools import postgres
from specflight.tools.postgres import NotInstalled, Postgres, cluster

RUN_AND_WAIT = """
import sys
from specflight.tools.postgres import cluster
with cluster() as pg:
    folder = pg.run("SELECT current_setting('data_directory')")[0][0]
    print(folder, pg.dsn, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def pg() -> Iterator[Postgres]:
    try:
        with cluster() as running:
            yield running
    except NotInstalled as error:
        pytest.skip(str(error))


def test_q3c_is_there_and_the_settings_are_ours(pg: Postgres) -> None:
    assert pg.run("SELECT q3c_radial_query(10.0, 20.0, 10.0005, 20.0, 0.001)")[0][0] is True
    settings = {name: pg.run("SELECT current_setting($1)", name)[0][0] for name in ("shared_buffers", "jit")}
    assert settings == {"shared_buffers": "1GB", "jit": "off"}


def test_copy_keeps_every_value(pg: Postgres) -> None:
    columns = {
        "specobjid": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "text": pa.array(['a,"b"\n', "", None]),
        "real": pa.array([0.1, math.inf, None], pa.float32()),
        "double": pa.array([0.1, math.nan, None]),
        "flag": pa.array([True, False, None]),
        "mags": pa.array([[1.5, None], None, [0.25, 3.0]], pa.list_(pa.float32(), 2)),
        "some": pa.array([[1, 2, 3], [], None], pa.list_(pa.int64())),
        "class": pa.array(["STAR", "QSO", None]).dictionary_encode(),
        "day": pa.array([date(2001, 2, 3), None, None]),
        "time": pa.array([datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
    }
    table = pa.table(columns)
    pg.copy("sim.every", table)
    rows = [list(row.values()) for row in pg.run("SELECT * FROM sim.every")]
    expected = [list(row.values()) for row in table.to_pylist()]
    for row, values in zip(rows, expected, strict=True):
        row[0] = None if row[0] is None else int(row[0])
        row[-1] = None if row[-1] is None else row[-1].timestamp()
        values[-1] = None if values[-1] is None else values[-1].timestamp()
        assert [repr(value) for value in row] == [repr(value) for value in values]
    assert isinstance(pg.run("SELECT specobjid FROM sim.every")[0][0], Decimal)


def test_copy_takes_a_slice_and_a_reader(pg: Postgres) -> None:
    table = pa.table({"n": range(10), "pair": pa.array([[i, -i] for i in range(10)], pa.list_(pa.int32(), 2))})
    pg.copy("sliced", table.slice(7))
    pg.copy("streamed", table.to_reader(max_chunksize=4))
    assert [tuple(row) for row in pg.run("SELECT * FROM sliced ORDER BY n")] == [(n, [n, -n]) for n in (7, 8, 9)]
    assert [row[0] for row in pg.run("SELECT n FROM streamed ORDER BY n")] == list(range(10))


def test_a_type_without_counterpart_is_named(pg: Postgres) -> None:
    with pytest.raises(TypeError, match="struct<a: int64> has no counterpart"):
        pg.copy("structs", pa.table({"s": [{"a": 1}]}))


def test_a_statement_that_fails_leaves_the_connection_usable(pg: Postgres) -> None:
    with pytest.raises(Exception, match="does not exist"):
        pg.run("SELECT nothing")
    assert pg.run("SELECT $1::int + 1", 2)[0][0] == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_server_and_folder_go_with_the_process_that_started_them(pg: Postgres, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        name, dsn = process.stdout.readline().decode().split()
        assert Path(name).is_dir()
        process.send_signal(how)
        process.wait(30)
    deadline = time.monotonic() + 30
    while Path(name).parent.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(name).parent.exists()
    with pytest.raises(OSError, match="Connect call failed"):
        Postgres(dsn)


def test_postgresql_that_is_not_installed_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    with pytest.raises(NotInstalled, match="PostgreSQL is not installed; in Debian it is postgresql-15"), cluster():
        pass


def test_a_server_that_cannot_start_says_why(pg: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.SETTINGS, "shared_buffers", "several")
    before = set(os.listdir("/tmp"))
    with pytest.raises(ConnectionError, match=r"did not start: .*shared_buffers.*several"), cluster():
        pass
    assert not {name for name in set(os.listdir("/tmp")) - before if name.startswith("specflight-pg-")}
