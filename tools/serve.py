"""The running service: Flight workers and HTTP in processes of their own, and who looks after them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from specflight.errors import ServiceUnavailable
from specflight.flight.settings import load_settings
from specflight.tools.httpworker import HttpPlan, work_http
from specflight.tools.worker import SHUTDOWN, Stop, work

__all__ = ["Running", "serve", "start", "stop_event"]

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""A worker may first have to scan an archive or rebuild a sky index."""

SIGNAL_SECONDS = 0.5
"""Time in which whoever stops the workers tells this process, too."""

STOP_SECONDS = 5.0
"""Time beyond that of what is in flight after which a process that does not end is killed."""


@dataclass(frozen=True, slots=True)
class Running:
    """A service that accepts requests.

    Attributes
    ----------
    flight : tuple of str
        Locations of its Flight workers, ``grpc://host:port``.
    http : str
        Its HTTP address, ``http://host:port``.
    """

    flight: tuple[str, ...]
    http: str
    _flights: _Supervisor
    _https: _Supervisor

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the Flight workers now."""
        return self._flights.pids

    @property
    def http_pids(self) -> list[int]:
        """Process ids of the HTTP processes now."""
        return self._https.pids


@dataclass(frozen=True, slots=True)
class _Plan:
    """A process to keep running."""

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]


class _Supervisor:
    """Starts processes and replaces those that die."""

    def __init__(self, plans: list[_Plan], shutdown: Callable[[], None]) -> None:
        self._plans, self._shutdown = plans, shutdown
        self._stopping = threading.Event()
        self.processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        try:
            for plan in plans:
                process, pipe = _spawn(plan)
                self.processes.append(process)
                self._pipes.append(pipe)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self) -> None:
        """Wait until all of them accept requests; from then on they are replaced."""
        for plan, pipe in zip(self._plans, self._pipes, strict=True):
            _wait_ready(plan.name, pipe)
        self._thread.start()

    def _watch(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            connection.wait([*(process.sentinel for process in self.processes), *self._pipes], timeout=1.0)
            for number, process in enumerate(self.processes):
                self._listen(number)
                # A signal may have reached all of them, and this process last.
                if process.is_alive() or self._stopping.wait(SIGNAL_SECONDS if process.exitcode == 0 else 0.0):
                    continue
                log.error("%s ended with status %s; starting another", process.name, process.exitcode)
                started = time.monotonic()
                self.processes[number], self._pipes[number] = _spawn(self._plans[number])
                with contextlib.suppress(ServiceUnavailable):
                    _wait_ready(process.name, self._pipes[number])
                # Whatever kills it at once will kill it again: wait longer each time.
                pause = 0.1 if time.monotonic() - started > 30 else min(2 * pause, 10.0)
                self._stopping.wait(pause)

    def _listen(self, number: int) -> None:
        """What a process has to say once it runs: that the service is to end."""
        with contextlib.suppress(EOFError, OSError):
            if self._pipes[number].poll() and self._pipes[number].recv() == SHUTDOWN:
                self._shutdown()

    @property
    def pids(self) -> list[int]:
        """Process ids now."""
        return [process.pid for process in self.processes if process.pid is not None]

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all processes when they have finished what is in flight, for which they have some seconds at most."""
        self._stopping.set()
        self._terminate()
        if self._thread.is_alive():
            self._thread.join()
            self._terminate()  # the one that was just being started
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                log.error("%s does not end and is killed", process.name)
                process.kill()
                process.join()

    def _terminate(self) -> None:
        for process in self.processes:
            process.terminate()


def _spawn(plan: _Plan) -> tuple[BaseProcess, Connection]:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=plan.target, args=(theirs, *plan.arguments), name=plan.name)
    process.start()
    theirs.close()
    return process, ours


def _wait_ready(name: str, pipe: Connection) -> None:
    try:
        said = pipe.recv() if pipe.poll(START_SECONDS) else f"it said nothing for {START_SECONDS:g} s"
    except EOFError:
        said = "it ended at once"
    if isinstance(said, str):
        raise ServiceUnavailable(f"{name} did not start: {said}")


def _listen(name: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ServiceUnavailable(f"{name}: {port} at {host} cannot be used: {reason}") from None


def _ports(host: str, first: int, count: int) -> list[int]:
    """Consecutive ports from the first on, or free ones for 0, all of which can be listened at now."""
    with contextlib.ExitStack() as stack:
        wanted = range(first, first + count) if first else [0] * count
        sockets = [stack.enter_context(_listen("flight-port", host, port)) for port in wanted]
        return [taken.getsockname()[1] for taken in sockets]


def _stop_in_order(fronts: _Supervisor, backs: _Supervisor, drain_seconds: float) -> None:
    """End HTTP while the Flight workers that it asks are still there, then these."""
    end = time.monotonic() + drain_seconds
    fronts.stop(drain_seconds + STOP_SECONDS)
    backs.stop(max(0.0, end - time.monotonic()) + STOP_SECONDS)


@contextlib.contextmanager
def start(
    data: Path,
    host: str,
    flight_port: int,
    http_port: int,
    workers: int,
    shutdown: Callable[[], None] = lambda: None,
) -> Iterator[Running]:
    """Run a service for as long as the context lasts.

    Parameters
    ----------
    data : Path
        The data directory.
    host : str
        Address to listen at.
    flight_port : int
        Port of the first Flight worker, the others take the next ones; 0 for free ones.
    http_port : int
        Port for HTTP; 0 for a free one.
    workers : int
        Number of Flight workers.
    shutdown : callable
        Called when an administrator wants the service to end.

    Yields
    ------
    Running

    Raises
    ------
    ServiceUnavailable
        If a process does not start, or a port is taken.
    InvalidRequest
        If ``specflight.toml`` is at fault.
    """
    everywhere = host in ("0.0.0.0", "::")
    shown, near = (socket.gethostname(), "127.0.0.1") if everywhere else (host, host)
    settings = load_settings(data)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen("http-port", host, http_port))
        metrics = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="specflight-metrics-")))
        ports = _ports(host, flight_port, workers)
        endpoints, nearby = (tuple(f"grpc://{at}:{port}" for port in ports) for at in (shown, near))
        flights = [_Plan(f"flight-{number}", work, (data, host, port, endpoints)) for number, port in enumerate(ports)]
        plan = HttpPlan(data, endpoints, nearby, secrets.token_bytes(32), metrics)
        https = [_Plan(f"http-{number}", work_http, (listener, plan)) for number in range(settings.http.processes)]
        backs = _Supervisor(flights, shutdown)
        stack.callback(backs.stop)
        fronts = _Supervisor(https, shutdown)
        stack.callback(_stop_in_order, fronts, backs, settings.drain_seconds)
        for supervisor in (backs, fronts):
            supervisor.wait_ready()
        yield Running(endpoints, f"http://{shown}:{listener.getsockname()[1]}", backs, fronts)


def serve(data: Path, host: str, flight_port: int, http_port: int, workers: int) -> None:
    """Serve until SIGTERM, Ctrl-C or an administrator ends it.

    Prints one line starting with ``ready`` when requests are accepted.
    """
    stop = stop_event()
    with start(data, host, flight_port, http_port, workers, stop.set) as running:
        print("ready", *running.flight, running.http, flush=True)
        stop.wait()


def stop_event() -> Stop:
    """What SIGTERM and Ctrl-C set."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.set)
    return stop
