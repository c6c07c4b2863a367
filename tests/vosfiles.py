"""Short words for tests that use users' files."""

from __future__ import annotations

from pathlib import Path

import fsspec

from specflight.http.vos import Storage

QUOTA, MAX_FILE = 1000, 600


def put(storage: Storage, uri: str, *pieces: bytes, caller: str = "alice", expected: int = 0) -> None:
    """Write a file."""
    with storage.write(caller, uri, expected) as file:
        for piece in pieces:
            file.write(piece)


def get(storage: Storage, uri: str, caller: str = "alice") -> bytes:
    """Content of a file."""
    return storage.read(caller, uri, MAX_FILE)


def names(storage: Storage, uri: str = "vos://", caller: str = "alice") -> list[str]:
    """Names in a folder."""
    return [node.name for node in storage.list(caller, uri)]


def files_of(url: str) -> dict[str, bytes]:
    """Every file below a URL."""
    fs, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root): fs.cat_file(path) for path in fs.find(root)}


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, as it is on the disk."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
