"""Users' files in a local folder and in fsspec's memory, and a server of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
import storageserver
from storageserver import Service, serving
from vosfiles import MAX_FILE, QUOTA

from specflight.http.vos import Storage


@pytest.fixture(params=["local", "memory"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Place of the files, a local folder and fsspec's memory in turn."""
    if request.param == "local":
        yield str(tmp_path / "storage")
        return
    root = f"/{uuid4().hex}"
    yield f"memory:/{root}"
    memory = fsspec.filesystem("memory")
    if memory.exists(root):
        memory.rm(root, recursive=True)


@pytest.fixture
def storage(storage_url: str) -> Storage:
    """Files of users with 1,000 bytes each, and 600 for a file."""
    return Storage(storage_url, QUOTA, MAX_FILE)


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    """The same, in a local folder."""
    return Storage((tmp_path / "storage").as_uri(), QUOTA, MAX_FILE)


@pytest.fixture(scope="module")
def storage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server of users' files."""
    with serving(tmp_path_factory.mktemp("served") / "storage") as service:
        yield service


@pytest.fixture
def service(storage_server: Service, tmp_path: Path) -> Service:
    """A server without any files."""
    storage_server.state.storage = Storage(str(tmp_path / "storage"), storageserver.QUOTA, storageserver.MAX_FILE)
    storage_server.state.settings.storage_url_seconds = 300
    return replace(storage_server, folder=tmp_path / "storage")
