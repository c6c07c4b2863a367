"""One HTTP process of a running service."""

from __future__ import annotations

import asyncio
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

MAX_HEAD = 1 << 16
"""Bytes of the head of a request; what is one piece of the network may be longer."""

HEAD_SECONDS = 30.0
"""Time in which the head of a request has to come."""

BODY_SECONDS = 60.0
"""Time in which a further piece of a body has to come."""

STALLED_SECONDS = 600.0
"""Time in which a caller has to take the piece of an answer that waits for it, 10 MB at most."""


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
    _forget_the_dead(plan.metrics)
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
        http=_impatient(),
        ws="none",
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


def _forget_the_dead(metrics: Path) -> None:
    """Do not count as running what a process that was killed was answering."""
    for file in metrics.glob("gauge_live*.db"):
        if not Path("/proc", file.stem.rpartition("_")[2]).exists():
            file.unlink(missing_ok=True)


def _impatient() -> type[asyncio.Protocol]:
    """Protocol of connections that hangs up on callers who send no request, or do not take its answer."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Impatient(HttpToolsProtocol):
        """Parsed by httptools, which has no limits of its own."""

        _timer: asyncio.TimerHandle | None = None
        _stalled: asyncio.TimerHandle | None = None
        _head = 0

        def _await(self, seconds: float | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if seconds is None else self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            if self.flow.read_paused:  # it is we who do not read on
                self._await(BODY_SECONDS)
            else:
                self.transport.abort()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await(HEAD_SECONDS)

        def connection_lost(self, exc: Exception | None) -> None:
            self._await(None)
            self.resume_writing()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head:
                self._head += len(data)
                if self._head > MAX_HEAD and not self.transport.is_closing():
                    self.send_400_response("Error: the head of the request is too long")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head = 1
            self._await(HEAD_SECONDS)

        def on_headers_complete(self) -> None:
            self._head = 0
            self._await(BODY_SECONDS)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            super().on_body(body)
            self._await(BODY_SECONDS)

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._await(None)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled is not None:
                self._stalled.cancel()

    return Impatient
