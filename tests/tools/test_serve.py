from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from specflight.client import Client
from specflight.errors import ServiceUnavailable
from specflight.flight.tokens import TokenKey
from specflight.tools.serve import start

COMMAND = Path(sysconfig.get_path("scripts")) / "specflight"
Truth = dict[str, dict[int, Path]]


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    log: Path
    flight: list[str]
    http: str

    @property
    def workers(self) -> list[psutil.Process]:
        """Every process below, which the Flight workers are among."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals, seconds: float = 20) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def serving(data: Path, log: Path, *options: str) -> Iterator[Served]:
    """`specflight serve` as an operator starts it; killed with all below if it is still there at the end."""
    ports = () if "--flight-port" in options else ("--flight-port", "0")
    command = [str(COMMAND), "serve", "--data", str(data), "--http-port", "0", *ports, *options]
    with log.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as process:
        family: list[psutil.Process] = []
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready "), line + log.read_text()
            *flight, http = line.split()[1:]
            family = psutil.Process(process.pid).children(recursive=True)
            yield Served(process, log, flight, http)
        finally:
            process.kill()
            for one in family:
                if one.is_running():
                    one.kill()


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def many(truth: Truth, count: int = 1_500) -> list[int]:
    ids: list[int] = np.resize(np.array(sorted(truth["sdss_dr16"]), np.uint64), count).tolist()
    return ids


def test_ready_is_said_once_when_requests_are_accepted_and_all_else_goes_to_the_log(
    sim_served: Path, tmp_path: Path
) -> None:
    with serving(sim_served, tmp_path / "log") as served:
        assert [url.partition("://")[0] for url in (*served.flight, served.http)] == ["grpc", "http"]
        assert httpx.get(f"{served.http}/healthz").json() == {"status": "ok"}
        with Client(served.flight[0], timeout=5) as client:
            assert client.isAlive()
        assert served.end(signal.SIGTERM) == 0
        assert served.process.stdout is not None
        assert served.process.stdout.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_stream_in_flight_finish_and_ends_with_status_0(
    sim_served: Path, sim_truth: Truth, tmp_path: Path, number: signal.Signals
) -> None:
    ids = many(sim_truth)
    with serving(sim_served, tmp_path / "log") as served, Client(served.flight[0], context="sdss_dr16") as client:
        family = served.workers
        stream = client.iterSpec(ids, fmt="arrow")
        rows = next(stream).num_rows
        served.process.send_signal(number)
        time.sleep(0.5)
        assert served.process.poll() is None, "it ended while a stream was in flight"
        rows += sum(batch.num_rows for batch in stream)
        assert rows == len(ids)
        assert served.process.wait(20) == 0
        assert gone(family, 5)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_reader_that_stalls_is_cut_off_after_drain_seconds(
    sim_served: Path, sim_truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECFLIGHT_DRAIN_SECONDS", "1")
    with serving(sim_served, tmp_path / "log") as served, Client(served.flight[0], context="sdss_dr16") as client:
        stream = client.iterSpec(many(sim_truth), fmt="arrow")
        next(stream)
        started = time.monotonic()
        assert served.end(signal.SIGTERM) == 0
        assert 0.9 < time.monotonic() - started < 10
        assert "transfers were cut off after 1 s" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("count", [1_500, 12_000], ids=["ticket", "exchange"])
def test_a_stream_that_a_client_gives_up_is_no_error_of_the_server(
    sim_served: Path, sim_truth: Truth, tmp_path: Path, count: int
) -> None:
    with serving(sim_served, tmp_path / "log") as served, Client(served.flight[0], context="sdss_dr16") as client:
        stream = client.iterSpec(many(sim_truth, count))
        next(stream)
        del stream
        assert served.end(signal.SIGTERM) == 0
        assert "internal error" not in (tmp_path / "log").read_text()


def test_ctrl_c_in_the_terminal_reaches_all_processes_and_ends_with_status_0(sim_served: Path, tmp_path: Path) -> None:
    with serving(sim_served, tmp_path / "log", "--workers", "2") as served:
        family = served.workers
        for process in (*family, psutil.Process(served.process.pid)):
            process.send_signal(signal.SIGINT)
        assert served.process.wait(20) == 0
        assert gone(family, 5)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_when_the_parent_is_killed_the_workers_end_by_themselves(sim_served: Path, tmp_path: Path) -> None:
    with serving(sim_served, tmp_path / "log", "--workers", "2") as served:
        family = served.workers
        assert len(family) >= 2
        served.process.kill()
        assert gone(family, 10)


def test_a_stop_while_a_worker_is_being_replaced_leaves_nobody_behind(sim_served: Path, tmp_path: Path) -> None:
    for pause in (0.0, 0.3):
        with serving(sim_served, tmp_path / "log") as served:
            for victim in served.workers:
                if "spawn_main" in " ".join(victim.cmdline()):
                    victim.kill()
            time.sleep(pause)
            family = served.workers
            assert served.end(signal.SIGTERM) == 0
            assert gone(family, 5)
        assert "Traceback" not in (tmp_path / "log").read_text()


def free_ports(count: int) -> int:
    """First of some consecutive ports that nobody uses."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            first: int = probe.getsockname()[1]
        if first + count > 65_000:
            continue
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def test_workers_listen_on_consecutive_ports(sim_served: Path, tmp_path: Path) -> None:
    first = free_ports(2)
    with serving(sim_served, tmp_path / "log", "--workers", "2", "--flight-port", str(first)) as served:
        assert served.flight == [f"grpc://127.0.0.1:{first}", f"grpc://127.0.0.1:{first + 1}"]
        for url in served.flight:
            with Client(url, timeout=5) as client:
                assert client.isAlive()
        assert httpx.get(f"{served.http}/flight").json() == {"endpoints": served.flight}
        assert served.end(signal.SIGTERM) == 0


def refused(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), "serve", *options], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("which", ["--flight-port", "--http-port"])
def test_a_port_that_is_taken_is_told_in_one_line(sim_served: Path, which: str) -> None:
    other = "--http-port" if which == "--flight-port" else "--flight-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = refused("--data", str(sim_served), which, port, other, "0")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("specflight: ")
    assert port in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("which", ["--flight-port", "--http-port"])
def test_a_port_that_is_none_is_told_in_one_line(sim_served: Path, which: str) -> None:
    other = "--http-port" if which == "--flight-port" else "--flight-port"
    done = refused("--data", str(sim_served), which, "70000", other, "0")
    assert done.returncode == 2
    assert done.stderr.startswith(f"specflight: {which[2:]}: 70000 at 127.0.0.1 cannot be used")


def test_a_data_directory_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    done = refused("--data", str(tmp_path / "nowhere"), "--flight-port", "0", "--http-port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no folder" in done.stderr
    assert str(tmp_path / "nowhere") in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_at_fault_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "specflight.toml").write_text("max_rows = 'many'\n")
    done = refused("--data", str(tmp_path), "--flight-port", "0", "--http-port", "0")
    assert done.returncode == 2
    assert "max_rows" in done.stderr
    assert "'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_context_that_is_damaged_does_not_keep_the_others_from_being_served(sim_parts: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(sim_parts, tmp_path / "data", symlinks=True))
    (data / "sdss_dr12/MANIFEST.json").write_text("{")
    with serving(data, tmp_path / "log") as served, Client(served.flight[0], timeout=5) as client:
        assert len(client.query(context="sdss_dr16", limit=2)) == 2
        with pytest.raises(Exception, match=r"sdss_dr12/MANIFEST\.json is not a manifest"):
            client.query(context="sdss_dr12")
        assert "sdss_dr12" in served.log.read_text()


def test_more_files_than_the_soft_limit_can_be_held_open(sim_served: Path, tmp_path: Path) -> None:
    with serving(sim_served, tmp_path / "log") as served:
        (worker,) = [one for one in served.workers if _listens(one, served.flight[0])]
        soft, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == hard


def test_a_service_that_cannot_start_leaves_no_process_behind(sim_served: Path) -> None:
    before = {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceUnavailable), start(sim_served, "127.0.0.1", port, 0, workers=1):
            pass
    after = psutil.Process(os.getpid()).children(recursive=True)
    assert [child for child in after if child.pid not in before and "spawn_main" in " ".join(child.cmdline())] == []


def test_an_administrator_ends_the_service(sim_served: Path, tmp_path: Path) -> None:
    keys = TokenKey(sim_served)
    admin, user = keys.issue("root", admin=True), keys.issue("alice")
    with serving(sim_served, tmp_path / "log", "--workers", "2") as served:
        below = served.workers
        refusals = {
            401: [{}, {"X-DL-AuthToken": "anonymous.0.0.anon_access"}, {"X-DL-AuthToken": admin[:-9] + "x_access"}],
            403: [{"X-DL-AuthToken": user}, {"Authorization": f"Bearer {user}"}],
        }
        for status, headers in refusals.items():
            for header in headers:
                for path in ("/shutdown", "/debug", "/spec/shutdown"):
                    answer = httpx.get(served.http + path, headers=header)
                    assert (answer.status_code, answer.text[:6]) == (status, "Error:"), answer.text
        assert served.process.poll() is None
        answer = httpx.get(f"{served.http}/shutdown", headers={"Authorization": f"Bearer {admin}"})
        assert (answer.status_code, answer.text) == (200, "Spectro service shutting down ....\n")
        assert served.process.wait(20) == 0
        assert gone(below, 5)


def test_an_administrator_has_requests_logged_by_every_worker(sim_served: Path, tmp_path: Path) -> None:
    token = TokenKey(sim_served).issue("root", admin=True)
    with serving(sim_served, tmp_path / "log", "--workers", "2") as served:

        def toggled() -> str:
            return httpx.get(f"{served.http}/debug", headers={"X-DL-AuthToken": token}).text

        def asked(name: str) -> int:
            for endpoint in served.flight:
                with Client(endpoint) as client:
                    client.act("validate", what="context", value=name)
            return (tmp_path / "log").read_text().count(name)

        assert asked("before") == 0
        assert toggled() == "True"
        assert asked("during") == 2
        assert toggled() == "False"
        assert asked("after") == 0


def test_http_answers_from_several_processes_and_replaces_one_that_dies(sim_served: Path, tmp_path: Path) -> None:
    with serving(sim_served, tmp_path / "log") as served:
        fronts = [process for process in served.workers if _listens(process, served.http)]
        assert len(fronts) == 2
        fronts[0].kill()
        end = time.monotonic() + 20
        while len([process for process in served.workers if _listens(process, served.http)]) < 2:
            assert httpx.get(f"{served.http}/ping").text == "OK"
            assert time.monotonic() < end
            time.sleep(0.05)
        assert served.end(signal.SIGTERM) == 0


def _listens(process: psutil.Process, url: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        sockets = process.net_connections("tcp")
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == int(url.rpartition(":")[2]) for one in sockets
        )
    return False
