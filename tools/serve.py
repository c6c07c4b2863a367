"""The running service: Flight workers in processes of their own, HTTP in this one, and who looks after them."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn

from specflight.errors import ServiceUnavailable
from specflight.http.app import build_app
from specflight.tools.worker import work

__all__ = ["Running", "serve", "start", "stop_event"]

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""A worker may first have to scan an archive or rebuild a sky index."""


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
    _supervisor: _Supervisor

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the Flight workers now."""
        return [process.pid for process in self._supervisor.processes if process.pid is not None]


class _Supervisor:
    """Starts the workers and replaces those that die."""

    def __init__(self, data: Path, host: str, ports: list[int], endpoints: tuple[str, ...]) -> None:
        self._arguments = [(data, host, port, endpoints) for port in ports]
        self._stopping = threading.Event()
        self.processes: list[BaseProcess] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        try:
            pipes = []
            for number in range(len(ports)):
                process, pipe = self._spawn(number)
                self.processes.append(process)
                pipes.append(pipe)
            for pipe in pipes:
                _wait_ready(pipe)
        except BaseException:
            self.stop()
            raise
        self._thread.start()

    def _spawn(self, number: int) -> tuple[BaseProcess, Connection]:
        spawn = get_context("spawn")
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=work, args=(theirs, *self._arguments[number]), name=f"flight-{number}")
        process.start()
        theirs.close()
        return process, ours

    def _watch(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            connection.wait([process.sentinel for process in self.processes], timeout=1.0)
            for number, process in enumerate(self.processes):
                if process.is_alive() or self._stopping.is_set():
                    continue
                log.error("worker %s ended with status %s; starting another", process.name, process.exitcode)
                started = time.monotonic()
                self.processes[number], pipe = self._spawn(number)
                with contextlib.suppress(ServiceUnavailable):
                    _wait_ready(pipe)
                # Whatever kills it at once will kill it again: wait longer each time.
                pause = 0.1 if time.monotonic() - started > 30 else min(2 * pause, 10.0)
                self._stopping.wait(pause)

    def stop(self) -> None:
        """End all workers when they have finished what is in flight."""
        self._stopping.set()
        self._terminate()
        if self._thread.is_alive():
            self._thread.join()
            self._terminate()  # the one that was just being started
        for process in self.processes:
            process.join()

    def _terminate(self) -> None:
        for process in self.processes:
            process.terminate()


def _wait_ready(pipe: Connection) -> None:
    try:
        said = pipe.recv() if pipe.poll(START_SECONDS) else f"it said nothing for {START_SECONDS:g} s"
    except EOFError:
        said = "it ended at once"
    if isinstance(said, str):
        raise ServiceUnavailable(f"a Flight worker did not start: {said}")


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


@contextlib.contextmanager
def start(data: Path, host: str, flight_port: int, http_port: int, workers: int) -> Iterator[Running]:
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

    Yields
    ------
    Running

    Raises
    ------
    ServiceUnavailable
        If a worker does not start, or a port is taken.
    """
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    with _listen("http-port", host, http_port) as listener:
        ports = _ports(host, flight_port, workers)
        endpoints = tuple(f"grpc://{shown}:{port}" for port in ports)
        supervisor = _Supervisor(data, host, ports, endpoints)
        config = uvicorn.Config(build_app(endpoints), log_config=None, access_log=False, timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield Running(endpoints, f"http://{shown}:{listener.getsockname()[1]}", supervisor)
        finally:
            server.should_exit = True
            thread.join()
            supervisor.stop()


def serve(data: Path, host: str, flight_port: int, http_port: int, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; prints one line starting with ``ready`` when requests are accepted."""
    stop = stop_event()
    with start(data, host, flight_port, http_port, workers) as running:
        print("ready", *running.flight, running.http, flush=True)
        stop.wait()


def stop_event() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
