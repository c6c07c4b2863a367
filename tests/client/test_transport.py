from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from specflight.client import Client
from specflight.errors import InvalidRequest, NotFound, QueryTimeout, ServiceUnavailable
from specflight.flight.requests import QueryRequest
from specflight.tools.ingestcatalog import ingest_catalog
from specflight.tools.serve import Running, start

Truth = dict[str, dict[int, Path]]


@pytest.fixture
def own_server(sim_served: Path) -> Iterator[Running]:
    """A server with one worker that a test may treat badly."""
    with start(sim_served, "127.0.0.1", 0, 0, workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def many(sim_truth: Truth) -> list[int]:
    """1,500 specobjids of sdss_dr16: more than any buffer between server and client takes."""
    known = np.array(sorted(sim_truth["sdss_dr16"]), np.uint64)
    ids: list[int] = np.random.default_rng(5).choice(known, 1_500).tolist()
    return ids


def eventually(promise: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if promise():
            return True
        time.sleep(0.05)
    return promise()


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "127.0.0.1:8815",
        "ftp://host/x",
        "grpc://",
        "http://",
        "file://",
        "file://data",
        "grpc:8815",
        "grpc://127.0.0.1:port",
        "grpc://127.0.0.1:99999",
        "http://127.0.0.1:99999",
    ],
)
def test_a_url_that_is_none_is_refused_by_value(url: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^url: '{url}' is not grpc://"):
        Client(url)


def test_a_location_that_leads_nowhere_is_not_alive() -> None:
    url = "grpc://no.such.host.invalid:1"
    with Client(url, timeout=3) as client:
        assert client.isAlive() is False
        with pytest.raises((ServiceUnavailable, QueryTimeout), match=url):
            client.getSpec(1)


def test_an_http_url_finds_the_flight_servers(sim_server: Running, sim_truth: Truth) -> None:
    specobjid = min(sim_truth["sdss_dr16"])
    expected = None
    for url in (sim_server.flight[0], sim_server.http, f"{sim_server.http}/", f"{sim_server.http}/spec"):
        with Client(url, context="sdss_dr16") as client:
            assert client.isAlive()
            spectrum = client.getSpec(specobjid).tobytes()
            expected = expected or spectrum
            assert spectrum == expected


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>I am something else</html>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        return


@contextmanager
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_http_url_of_something_else_is_told() -> None:
    with stranger() as url, Client(url) as client:
        assert not client.isAlive()
        with pytest.raises(ServiceUnavailable, match=f"url: {url} does not name its Flight endpoints"):
            client.list_contexts()


def test_a_dead_http_url_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(url, timeout=3) as client:
        assert not client.isAlive()
        with pytest.raises(ServiceUnavailable, match=url):
            client.list_contexts()


def test_a_data_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"data: there is no folder .*no where"):
        Client(f"file://{tmp_path}/no%20where")


def test_settings_at_fault_are_named_not_the_url(tmp_path: Path) -> None:
    (tmp_path / "specflight.toml").write_text("max_ids = 'many'\n")
    with pytest.raises(InvalidRequest, match="max_ids"):
        Client(f"file://{tmp_path}")


# --- deadlines -------------------------------------------------------------------------------------------------------


@contextmanager
def silent() -> Iterator[str]:
    """A location that accepts connections and never says a word."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.list_contexts(),
        lambda client: client.query(1.0, 2.0, 3.0),
        lambda client: client.getSpec(1),
        lambda client: client.getSpec(range(5_000), fmt="arrow"),
        lambda client: client.getSpec(range(20_000), fmt="arrow"),
        lambda client: client.getSpec(range(5_000), fmt="FITS"),
        lambda client: next(client.iterSpec(range(5_000))),
    ],
    ids=["action", "query", "one", "ticket", "exchange", "fits", "iterate"],
)
def test_a_server_that_never_answers_is_given_up_at_the_deadline(ask: Callable[[Client], object]) -> None:
    with silent() as url, Client(url, timeout=1.0) as client:
        started = time.monotonic()
        with pytest.raises((QueryTimeout, ServiceUnavailable), match=url):
            ask(client)
        assert time.monotonic() - started < 4.0


def test_a_server_that_never_answers_is_not_alive() -> None:
    with silent() as url, Client(url, timeout=0.5) as client:
        started = time.monotonic()
        assert client.isAlive() is False
        assert time.monotonic() - started < 3.0


def test_a_reader_may_take_longer_than_the_deadline(sim_server: Running, many: list[int]) -> None:
    with Client(sim_server.flight[0], context="sdss_dr16", timeout=1.0) as client:
        stream = client.iterSpec(many, fmt="arrow")
        first = next(stream)
        time.sleep(1.5)
        got = [*first["specobjid"].to_pylist(), *(i for batch in stream for i in batch["specobjid"].to_pylist())]
    assert got == many


# --- what breaks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [{}, {"align": True, "columns": "flux,loglam,or_mask,sky"}, {"cutout": "4000-9000"}, {"fmt": "FITS"}],
    ids=["lists", "aligned", "cutout", "originals"],
)
def test_a_worker_killed_in_the_middle_of_a_stream_changes_nothing(
    own_server: Running, many: list[int], asked: dict[str, Any]
) -> None:
    with Client(own_server.flight[0], context="sdss_dr16") as client:
        known = list(dict.fromkeys(many))
        # What belongs together is the same for every row, so the whole list gives the grid.
        truth = dict(zip(known, map(as_bytes, client.getSpec(known, **asked)), strict=True))
        (victim,) = own_server.worker_pids
        stream = client.iterSpec(many, **asked)
        for number, spectrum in enumerate(stream):
            if number == 20:
                os.kill(victim, signal.SIGKILL)
            assert as_bytes(spectrum) == truth[many[number]], number
        assert number == len(many) - 1
        assert own_server.worker_pids != [victim]


def as_bytes(spectrum: NDArray[Any] | bytes) -> bytes:
    return spectrum if isinstance(spectrum, bytes) else spectrum.tobytes()


def test_a_list_is_whole_although_a_worker_is_killed(own_server: Running, many: list[int]) -> None:
    with Client(own_server.flight[0], context="sdss_dr16") as client:
        expected = client.getSpec(many, fmt="arrow", columns="flux,loglam")
        (victim,) = own_server.worker_pids
        killer = threading.Timer(0.05, os.kill, (victim, signal.SIGKILL))
        killer.start()
        assert client.getSpec(many, fmt="arrow", columns="flux,loglam").equals(expected)
        killer.join()
        assert client.getSpec(many, fmt="arrow", columns="flux,loglam").equals(expected)


def test_a_worker_that_dies_is_replaced_at_the_same_place(own_server: Running) -> None:
    (victim,) = own_server.worker_pids
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: own_server.worker_pids not in ([victim], []), 10)
    with Client(own_server.flight[0], timeout=10) as client:
        assert eventually(client.isAlive, 20)


def test_with_two_workers_the_death_of_one_is_hardly_noticed(sim_served: Path, many: list[int]) -> None:
    with (
        start(sim_served, "127.0.0.1", 0, 0, workers=2) as running,
        Client(running.http, context="sdss_dr16") as client,
    ):
        expected = client.getSpec(many[:400], fmt="arrow")
        for victim in running.worker_pids[:1]:
            os.kill(victim, signal.SIGKILL)
        started = time.monotonic()
        assert client.getSpec(many[:400], fmt="arrow").equals(expected)
        assert time.monotonic() - started < 3.0


@pytest.fixture
def long_table(tmp_path: Path) -> Path:
    """A data directory with a table of 300,000 rows."""
    rng = np.random.default_rng(5)
    rows = 300_000
    noise = rng.bytes(20 * rows).hex()
    names = [noise[40 * n : 40 * n + 40] for n in range(rows)]
    columns = {"ra": rng.uniform(0, 360, rows), "dec": rng.uniform(-90, 90, rows), "name": names}
    pq.write_table(pa.table(columns), tmp_path / "long.parquet")
    ingest_catalog(tmp_path / "data", "sdss_dr16", "vac.long", tmp_path / "long.parquet")
    return tmp_path / "data"


def test_the_answer_to_a_query_is_passed_on_as_it_arrives(long_table: Path) -> None:
    request = QueryRequest(context="sdss_dr16", catalog="vac.long", columns=("ra", "name"))
    with start(long_table, "127.0.0.1", 0, 0, workers=1) as running, Client(running.flight[0]) as client:
        stream = client.stream(request)
        batches = list(stream.batches)
        assert len(batches) > 4
        whole = pa.Table.from_batches(batches, stream.schema)
        assert whole.sort_by("ra").equals(
            pq.read_table(long_table.with_name("long.parquet"), columns=["ra", "name"]).sort_by("ra")
        )
        broken = client.stream(request).batches
        next(broken)
        os.kill(running.worker_pids[0], signal.SIGKILL)
        with pytest.raises(ServiceUnavailable, match="broke off"):
            list(broken)
    with Client(long_table.as_uri()) as here:
        stream = here.stream(request)
        assert pa.Table.from_batches(stream.batches, stream.schema).equals(whole)


def test_a_stream_that_is_given_up_frees_the_server(own_server: Running, many: list[int]) -> None:
    worker = psutil.Process(own_server.worker_pids[0])

    def busy() -> float:
        times = worker.cpu_times()
        return float(times.user + times.system)

    with Client(own_server.flight[0], context="sdss_dr16") as client:
        streams = [client.iterSpec(many) for _ in range(3)]
        for stream in streams:
            next(stream)
        streams[0].close()  # type: ignore[attr-defined]
        del stream, streams
        before = client.getSpec(many[:3], fmt="arrow")
        time.sleep(0.5)
        worked = busy()
        time.sleep(0.5)
        assert busy() - worked < 0.1
        assert client.getSpec(many[:3], fmt="arrow").equals(before)
        # A stream that is still open would hold up the stop for drain_seconds, 15 s.
        started = time.monotonic()
        worker.terminate()
        worker.wait(10)
        assert time.monotonic() - started < 5.0


def test_a_long_list_that_is_refused_or_given_up_leaves_nothing_on_the_terminal(
    sim_server: Running, many: list[int], tmp_path: Path
) -> None:
    code = """
import sys
import numpy as np
from specflight.client import Client
from specflight.errors import NotFound

with Client(sys.argv[1], context="sdss_dr16") as client:
    for context in ("sdss_dr16", "nope"):
        try:
            client.getSpec(np.arange(1, 100_000), context=context)
        except NotFound as error:
            print(error)
    next(client.iterSpec(np.full(12_000, int(sys.argv[2]), np.uint64)))
"""
    command = [sys.executable, "-c", code, sim_server.flight[0], str(many[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.slow
def test_a_server_gone_for_good_in_the_middle_of_a_stream_is_told_in_bounded_time(
    sim_served: Path, many: list[int]
) -> None:
    with start(sim_served, "127.0.0.1", 0, 0, workers=1) as running, Client(running.flight[0], "sdss_dr16") as client:
        stream = client.iterSpec(many)
        next(stream)
        # Who is stopped before it is killed leaves a supervisor that starts no other one.
        running._flights._stopping.set()
        os.kill(running.worker_pids[0], signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(ServiceUnavailable, match=running.flight[0]):
            for _ in stream:
                pass
        assert time.monotonic() - started < 60
