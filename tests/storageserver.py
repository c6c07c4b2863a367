"""A server of the storage endpoints alone, and what clients ask it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from specflight.client import Client
from specflight.errors import SpecflightError, Unauthenticated
from specflight.http.endpoints import add_endpoints
from specflight.http.parameters import MissingParameter
from specflight.http.state import Caller
from specflight.http.storage import ENDPOINTS
from specflight.http.transfer import router
from specflight.http.vos import Storage

MB = 1 << 20
QUOTA, MAX_FILE = 64 * MB, 40 * MB
TOKENS = {name: f"{name}.1.1.$1$0123456789abcdefghijkl" for name in ("alice", "bob")}


@dataclass
class Service:
    """The storage endpoints of a running server."""

    url: str
    folder: Path
    state: Any
    web: httpx.Client

    def ask(self, path: str, user: str = "alice", method: str = "GET", **parameters: str) -> httpx.Response:
        """Answer to a request as the old client sends it."""
        headers = {"X-DL-AuthToken": TOKENS.get(user, "anonymous.0.0.anon_access")}
        query = parameters if method == "GET" else None
        body = parameters if method == "POST" else None
        return self.web.request(method, f"{self.url}/storage{path}", params=query, data=body, headers=headers)

    def file(
        self,
        method: str,
        path: str,
        user: str = "alice",
        content: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Answer to a request for a file, as curl sends it."""
        token = {"Authorization": f"Bearer {TOKENS[user]}"} if user in TOKENS else {}
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/storage/files/{path}"
        return self.web.request(method, url, headers=token | told, content=content)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecflightError)
    text = f"Param Error: '{error}'" if isinstance(error, MissingParameter) else f"Error: {error}"
    return PlainTextResponse(text, error.http_status)


def _admit(token: str) -> tuple[Caller, tuple[Client, ...]]:
    user = token.partition(".")[0]
    if user not in ("", "anonymous") and TOKENS.get(user) != token:
        raise Unauthenticated("token: it is forged")
    return Caller(user or "anonymous"), ()


@contextmanager
def serving(folder: Path) -> Iterator[Service]:
    """Serve users' files in a folder."""
    state = SimpleNamespace(
        settings=SimpleNamespace(max_body=MB, storage_url_seconds=300),
        storage=Storage(str(folder), QUOTA, MAX_FILE),
        secret=b"secret of this test",
        admit=_admit,
    )
    app = FastAPI(exception_handlers={SpecflightError: _refused}, redirect_slashes=False)
    app.state.specflight = state
    add_endpoints(cast(Any, app.router), ENDPOINTS)
    app.include_router(router)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            with httpx.Client(timeout=20) as web:
                yield Service(f"http://127.0.0.1:{listening.getsockname()[1]}", folder, state, web)
        finally:
            server.should_exit = True
            thread.join()


def send(service: Service, name: str, content: bytes, user: str = "alice") -> httpx.Response:
    """Send a file as the old client does."""
    told = service.ask("/put", user, name=name)
    assert told.status_code == 200, told.text
    return service.web.put(told.text, content=content)


def fetch(service: Service, name: str, user: str = "alice") -> bytes:
    """Fetch a file as the old client does."""
    told = service.ask("/get", user, name=name)
    assert told.status_code == 200, told.text
    answer = service.web.get(told.text)
    assert answer.status_code == 200, answer.text
    return answer.content
