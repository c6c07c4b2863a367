from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from vosfiles import MAX_FILE, QUOTA, get, names, put, tree_of

from specflight.errors import InvalidRequest, NotFound
from specflight.http.vos import Storage
from specflight.http.vosnames import UPLOADS, Place
from specflight.http.vostree import Tree


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Storage, Path]:
    """A user's folder with links of every kind in it, and the folder that they lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (outside / "folder").mkdir()
    storage = Storage(str(tmp_path / "storage"), QUOTA, MAX_FILE)
    put(storage, "real/file", b"mine")
    home = tmp_path / "storage" / "alice"
    (home / "file").symlink_to(outside / "secret")
    (home / "dir").symlink_to(outside)
    (home / "real" / "dir").symlink_to(outside)
    (home / "self").symlink_to("self")
    (home / "gone").symlink_to(outside / "nothing")
    (home / "public").symlink_to(outside)
    os.mkfifo(home / "pipe")
    return storage, outside


def test_links_do_not_lead_out(linked: tuple[Storage, Path]) -> None:
    storage, outside = linked
    before = tree_of(outside)
    assert names(storage) == ["public", "real"]
    assert names(storage, "real") == ["file"]
    assert names(storage, "vos://public") == names(storage, "alice://public", caller="bob") == []
    inside = ["file", "dir/secret", "dir", "dir/folder", "real/dir/secret", "self", "gone", "pipe", "public/secret"]
    for uri in inside:
        assert not storage.exists("alice", uri)
        changes: list[Any] = [
            lambda uri=uri: get(storage, uri),
            lambda uri=uri: storage.list("alice", uri),
            lambda uri=uri: put(storage, uri, b"changed"),
            lambda uri=uri: put(storage, f"{uri}/new", b"new"),
            lambda uri=uri: storage.make_folder("alice", f"{uri}/new"),
            lambda uri=uri: storage.remove("alice", uri),
            lambda uri=uri: storage.remove_folder("alice", uri),
            lambda uri=uri: storage.move("alice", uri, "taken"),
            lambda uri=uri: storage.copy("alice", uri, "taken"),
            lambda uri=uri: storage.move("alice", "real/file", uri),
            lambda uri=uri: storage.copy("alice", "real/file", uri),
            lambda uri=uri: storage.copy("alice", "real/file", f"{uri}/"),
        ]
        for change in changes:
            with pytest.raises((NotFound, InvalidRequest)):
                change()
    assert tree_of(outside) == before
    assert get(storage, "real/file") == b"mine"


def test_the_folder_of_uploads_does_not_lead_out_either(local: Storage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "old").write_bytes(b"x" * 5000)
    os.utime(outside / "old", (0, 0))
    home = tmp_path / "storage" / "alice"
    home.mkdir(parents=True)
    (home / UPLOADS).symlink_to(outside)
    with pytest.raises(InvalidRequest):
        put(local, "a", b"x")
    assert tree_of(outside) == {str(outside / "old"): b"x" * 5000}


def test_names_that_nobody_could_say_do_not_show(local: Storage, tmp_path: Path) -> None:
    put(local, "a", b"x")
    (tmp_path / "storage" / "alice" / "b,c").write_bytes(b"put there by somebody else")
    assert names(local) == ["a", "public"]


def test_a_file_system_that_is_not_there_is_named() -> None:
    for url in ("nosuch://x", "s3nope://bucket"):
        with pytest.raises(InvalidRequest, match=f"http.storage: '{url}'"):
            Storage(url, 1, 1)


def test_what_comes_into_a_place_does_not_go_below_it(local: Storage, tmp_path: Path) -> None:
    put(local, "a", b"x")
    local.make_folder("alice", "b")  # as another process might, between a look and a move
    with pytest.raises(OSError, match="Is a directory"):
        Tree(str(tmp_path / "storage")).rename(Place("alice", ("a",)), Place("alice", ("b",)))
    assert names(local) == ["a", "b", "public"]
    assert names(local, "b") == []
