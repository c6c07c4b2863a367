"""Users' files in a local folder and in fsspec's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
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
