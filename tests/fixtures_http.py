"""The HTTP side of real services: its clients, a service that tests may write to, the application with other limits."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from specflight.flight.settings import HttpSettings
from specflight.flight.tokens import TokenKey
from specflight.http.app import build_app
from specflight.http.state import State
from specflight.http.vos import Storage
from specflight.tools.serve import Running, start

MB = 1 << 20
QUOTA, MAX_FILE = 64 * MB, 40 * MB
"""Limits of users' files in `scratch`."""

MAX_ROWS = 100_000
"""Limit of the rows of a query in `scratch`."""

_SCRATCH = f"""\
max_rows = {MAX_ROWS}

[http]
processes = 1
storage_quota = {QUOTA}
storage_max_file = {MAX_FILE}
"""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A service with one HTTP process, to whose data directory tests add contexts, catalogues and users' files.

    Attributes
    ----------
    data : Path
        Holds the simulated contexts.
    running : Running
    web : httpx.Client
    tokens : mapping of str to str
        Of alice and bob.
    """

    data: Path
    running: Running
    web: httpx.Client
    tokens: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the users' files are."""
        return self.data / "storage"

    @property
    def process(self) -> psutil.Process:
        """The process that answers."""
        return psutil.Process(self.running.http_pids[0])

    def remove_files(self) -> None:
        """Remove the users' files by way of the service, which counts them."""
        for user in self.tokens:
            own = self.folder / user
            for path in sorted(own.rglob("*"), reverse=True):
                parts = path.relative_to(own).parts
                if parts[0] != ".uploads" and parts != ("public",):
                    self.web.delete(f"/storage/files/{'/'.join(parts)}", headers=self.headers(user))
            shutil.rmtree(own, ignore_errors=True)

    def headers(self, user: str) -> dict[str, str]:
        """Headers by which a user is known; none for who has no token."""
        return {"X-DL-AuthToken": self.tokens[user]} if user in self.tokens else {}


@dataclass(frozen=True, slots=True)
class App:
    """The application in a thread of this process.

    Attributes
    ----------
    web : httpx.Client
    state : State
    """

    web: httpx.Client
    state: State


@contextmanager
def app_served(
    running: Running | tuple[str, ...],
    data: Path,
    folder: Path,
    **settings: Any,  # noqa: ANN401 - a field's own type
) -> Iterator[App]:
    """Serve the whole application in this process, with other settings than the service has.

    Parameters
    ----------
    running : Running or tuple of str
        The service, or locations, of the Flight servers.
    data : Path
        Their data directory.
    folder : Path
        For the users' files.
    **settings
        Fields of `HttpSettings`.
    """
    flight = running.flight if isinstance(running, Running) else running
    chosen = HttpSettings(**settings)
    storage = Storage(str(folder), chosen.storage_quota, chosen.storage_max_file)
    state = State(chosen, storage, b"secret of this test", flight, flight, data)
    server = uvicorn.Server(uvicorn.Config(build_app(state), log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            with _client(f"http://127.0.0.1:{listener.getsockname()[1]}") as web:
                yield App(web, state)
        finally:
            server.should_exit = True
            thread.join()


def requests_running(web: httpx.Client) -> int:
    """Requests that the processes of a service are answering now, but for this one."""
    (line,) = re.findall(r"^specflight_http_requests_running (.*)$", web.get("/metrics").text, re.MULTILINE)
    return round(float(line)) - 1


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; an AssertionError if it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never comes"
        time.sleep(0.01)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_connections=20))


@pytest.fixture(scope="session")
def web(sim_server: Running) -> Iterator[httpx.Client]:
    """HTTP client of `sim_server`."""
    with _client(sim_server.http) as client:
        yield client


@pytest.fixture(scope="session")
def real_web(real_server: Running) -> Iterator[httpx.Client]:
    """HTTP client of `real_server`."""
    with _client(real_server.http) as client:
        yield client


@pytest.fixture(scope="session")
def scratch(sim_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    """A service that tests may write to."""
    data = tmp_path_factory.mktemp("scratch") / "data"
    shutil.copytree(sim_data, data, symlinks=True)
    (data / "specflight.toml").write_text(_SCRATCH)
    tokens = {name: TokenKey(data).issue(name, days=1) for name in ("alice", "bob")}
    with start(data, "127.0.0.1", 0, 0, workers=1) as running, _client(running.http) as client:
        yield Scratch(data, running, client, tokens)
