"""One Flight worker process of a running service, and how any process of it is set up."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import signal
import sys
import threading
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from specflight.errors import SpecflightError

if TYPE_CHECKING:
    from specflight.flight.service import Service

__all__ = ["SHUTDOWN", "Stop", "prepare_process", "work"]

SHUTDOWN = "shutdown"

log = logging.getLogger(__name__)


def _open(service: Service, names: list[str]) -> None:
    """Open contexts before the first request for them; a damaged one must not keep the others from being served."""
    for name in names:
        try:
            service.contexts.get(name)
        except SpecflightError as error:
            log.error("context %s cannot be served: %s", name, error)


def work(pipe: Connection, data: Path, host: str, port: int, endpoints: tuple[str, ...]) -> None:
    """Serve until SIGTERM comes or the parent is gone.

    Parameters
    ----------
    pipe : Connection
        Told the port when requests are accepted, or in a text why they never will be; `SHUTDOWN` later, if an
        administrator wants the service to end.
    data : Path
        The data directory.
    host : str
    port : int
    endpoints : tuple of str
        Locations of all workers.
    """
    stop = prepare_process()
    # Here, so that the parent, which imports this module to start it, does not load the server's packages.
    try:
        from specflight.flight.actions import Host
        from specflight.flight.server import FlightServer
        from specflight.flight.service import Service

        service = Service(data)
        quick = [name for name in service.contexts.names() if service.contexts.scanned(name)]
        _open(service, quick)
        server = FlightServer(service, f"grpc://{host}:{port}", Host(endpoints, lambda: pipe.send(SHUTDOWN)))
    except ModuleNotFoundError as error:
        pipe.send(f"it needs the package {error.name}: install specflight[all]")
        return
    except (SpecflightError, OSError) as error:
        pipe.send(str(error))
        return
    pipe.send(server.port)
    # The first scan of an archive may take long; requests for it wait, the others do not.
    archives = [name for name in service.contexts.names() if name not in quick]
    threading.Thread(target=_open, args=(service, archives), daemon=True).start()
    stop.wait()
    drain = threading.Thread(target=server.shutdown, daemon=True)
    drain.start()
    drain.join(service.contexts.settings.drain_seconds)
    service.close()
    if drain.is_alive():
        log.warning("transfers were cut off after %g s", service.contexts.settings.drain_seconds)
        os._exit(0)


class Stop:
    """Something to wait for that a signal handler may set: unlike an Event it has no lock, which might be held then."""

    def __init__(self) -> None:
        self._waiting, self._telling = os.pipe()
        os.set_blocking(self._telling, False)

    def set(self, *_: object) -> None:
        """Let all go on who wait, now and later."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._telling, b"x")

    def wait(self) -> None:
        """Wait until it is set."""
        select.select([self._waiting], [], [])


def prepare_process() -> Stop:
    """Set up logging, signals and limits of a process of the service.

    Returns
    -------
    Stop
        Set when SIGTERM comes or the parent is gone.
    """
    # Flight puts Python's traceback into the text of an error; strangers need no source paths.
    sys.tracebacklimit = 0
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection, and a mapped part file, hold a descriptor
    stop = Stop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.set)
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    return stop
