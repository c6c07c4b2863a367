"""One HTTP process of a running service."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from specflight.errors import SpecflightError
from specflight.tools.worker import prepare_process

__all__ = ["HttpPlan", "work_http"]


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """What all HTTP processes of a service have in common.

    Attributes
    ----------
    data : Path
        The data directory.
    endpoints : tuple of str
        Locations of the Flight workers, as they are told to clients.
    nearby : tuple of str
        The same, as this machine reaches them.
    secret : bytes
        Signs what the service hands out and takes back.
    metrics : Path
        Folder in which the processes count together.
    """

    data: Path
    endpoints: tuple[str, ...]
    nearby: tuple[str, ...]
    secret: bytes
    metrics: Path


def work_http(pipe: Connection, listener: socket.socket, plan: HttpPlan) -> None:
    """Answer HTTP until SIGTERM comes or the parent is gone.

    Parameters
    ----------
    pipe : Connection
        Told the port when requests are accepted, or in a text why they never will be.
    listener : socket
        Accepts connections; shared by all HTTP processes.
    plan : HttpPlan
    """
    stop = prepare_process()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it has its own words for starting and stopping
    # Before prometheus_client is imported: it decides then where it counts.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(plan.metrics)
    try:
        import uvicorn

        from specflight.flight.settings import load_settings
        from specflight.http.app import build_app
        from specflight.http.state import State
        from specflight.http.vos import Storage

        settings = load_settings(plan.data)
        http = settings.http
        place = http.storage if "://" in http.storage else str(plan.data.absolute() / http.storage)
        storage = Storage(place, http.storage_quota, http.storage_max_file)
        app = build_app(State(http, storage, plan.secret, plan.endpoints, plan.nearby, plan.data))
    except ModuleNotFoundError as error:
        pipe.send(f"HTTP needs the package {error.name}: install specflight[all]")
        return
    except (SpecflightError, OSError) as error:
        pipe.send(str(error))
        return

    class Server(uvicorn.Server):
        """Leaves the signals to this process, and says when it is ready."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            pipe.send(listener.getsockname()[1])

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=round(settings.drain_seconds),
    )
    server = Server(config)

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    server.run([listener])
