"""A query whose client has gone is stopped: the processor is free for others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specflight.catalog.identifiers import pack_specobjid
from specflight.client import Client
from specflight.errors import QueryTimeout
from specflight.tools.ingestcatalog import ingest_catalog
from specflight.tools.serve import Running, start

ROWS = 800_000
LONG = " + ".join(f"cbrt(sin(z * {n}))" for n in range(1, 160))
"""Takes many seconds over all rows."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("cancel")
    rng = np.random.default_rng(5)
    number = np.arange(ROWS)
    table = {
        "specobjid": pack_specobjid(1000 + number // 600, 55000, 1 + number % 600, "v5_13_0"),
        "ra": rng.uniform(0, 360, ROWS),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS))),
        "z": rng.uniform(0, 1, ROWS),
    }
    pq.write_table(pa.table(table), folder / "rows.parquet")
    ingest_catalog(folder / "data", "sim_dr1", "sim_dr1.specobj", folder / "rows.parquet")
    with start(folder / "data", "127.0.0.1", 0, 0, workers=1) as served:
        yield served


def spent(running: Running) -> float:
    times = psutil.Process(running.worker_pids[0]).cpu_times()
    return float(times.user + times.system)


def test_the_query_of_a_client_that_hangs_up_is_stopped(running: Running) -> None:
    conditions = " and ".join(f"({LONG}) < {n + 1000}" for n in range(3))
    with Client(running.flight[0]) as client, pytest.raises(QueryTimeout, match=r"within 0\.5 s"):
        client.query(constraint=conditions, timeout=0.5)
    time.sleep(1.0)
    before = spent(running)
    time.sleep(1.0)
    assert spent(running) - before < 0.3, "the worker is still at it"
    with Client(running.flight[0]) as client:
        assert client.count() == ROWS


def test_that_query_would_have_gone_on(running: Running) -> None:
    """Without the time limit of the client it takes far longer than the moment after which it was found stopped."""
    conditions = " and ".join(f"({LONG}) < {n + 1000}" for n in range(3))
    started = time.monotonic()
    with Client(running.flight[0]) as client:
        assert client.count(constraint=conditions) == ROWS
    assert time.monotonic() - started > 2.5
