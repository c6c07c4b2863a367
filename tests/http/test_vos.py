from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from vosfiles import files_of, get, names, put

from specflight.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound, Unauthenticated
from specflight.http.vos import Storage


def test_a_file_comes_back_as_it_was_written(storage: Storage, storage_url: str) -> None:
    content = bytes(range(256))
    put(storage, "vos://results/ids.bin", content)
    assert get(storage, "results/ids.bin") == get(storage, "vos:///results//ids.bin/") == content
    node = storage.stat("alice", "/results/ids.bin")
    assert (node.name, node.owner, node.is_folder, node.is_public, node.size) == ("ids.bin", "alice", False, False, 256)
    assert node.modified is not None
    assert abs(node.modified.timestamp() - time.time()) < 60
    assert files_of(storage_url) == {"/alice/results/ids.bin": content}


def test_writing_replaces_an_earlier_file(storage: Storage) -> None:
    put(storage, "a", b"earlier and longer")
    put(storage, "a", b"later")
    assert get(storage, "a") == b"later"
    assert names(storage) == ["a", "public"]


def test_a_reader_keeps_the_file_that_it_opened(local: Storage) -> None:
    put(local, "a", b"before")
    size, file = local.open("alice", "a")
    with file:
        put(local, "a", b"afterwards")
        assert (size, file.read()) == (6, b"before")


def test_one_user_sees_nothing_of_another(storage: Storage) -> None:
    put(storage, "vos://notes", b"mine")
    assert not storage.exists("bob", "vos://notes")
    for uri in ("alice://notes", "alice://nothing", "alice://", "alice://publications/x", "nobody://x"):
        texts = set()
        for call in (storage.stat, storage.list, storage.open, storage.exists, storage.is_folder):
            with pytest.raises(Forbidden, match="not yours") as error:
                call("bob", uri)
            texts.add(str(error.value).replace(uri, ""))
        assert len(texts) == 1


def test_everybody_reads_what_is_public_and_only_its_owner_writes_it(storage: Storage) -> None:
    put(storage, "vos://public/a/b", b"for all")
    for caller in ("bob", "anonymous", "alice"):
        assert get(storage, "alice://public/a/b", caller) == b"for all"
        assert names(storage, "alice://public", caller) == ["a"]
        assert storage.stat(caller, "alice://public/a/b").is_public
    assert names(storage, "carol://public", caller="bob") == []
    changes: list[Any] = [
        lambda: put(storage, "alice://public/x", b"", caller="bob"),
        lambda: storage.remove("bob", "alice://public/a/b"),
        lambda: storage.remove_folder("bob", "alice://public/a"),
        lambda: storage.make_folder("bob", "alice://public/x"),
        lambda: storage.move("bob", "alice://public/a/b", "vos://x"),
        lambda: storage.move("bob", "vos://x", "alice://public/x"),
        lambda: storage.copy("bob", "alice://public/a/b", "alice://public/x"),
        lambda: storage.check_target("bob", "alice://public/x"),
    ]
    for change in changes:
        with pytest.raises(Forbidden, match="alice://"):
            change()
    assert names(storage, "alice://public") == ["a"]
    storage.copy("bob", "alice://public/a/b", "vos://")
    assert get(storage, "vos://b", caller="bob") == b"for all"


def test_nobody_without_a_token_has_or_writes_files(storage: Storage, storage_url: str) -> None:
    put(storage, "public/a", b"x")
    before = files_of(storage_url)
    calls: list[Any] = [
        lambda: storage.stat("anonymous", "vos://"),
        lambda: storage.list("anonymous", "vos://public"),
        lambda: storage.read("anonymous", "a", 1),
        lambda: put(storage, "vos://a", b"x", caller="anonymous"),
        lambda: put(storage, "vos://public/a", b"x", caller="anonymous"),
        lambda: put(storage, "alice://public/a", b"y", caller="anonymous"),
        lambda: storage.remove("anonymous", "alice://public/a"),
        lambda: storage.make_folder("anonymous", "vos://x"),
        lambda: storage.move("anonymous", "alice://public/a", "vos://a"),
        lambda: storage.copy("anonymous", "alice://public/a", "vos://a"),
        lambda: storage.check_target("anonymous", "a"),
    ]
    for call in calls:
        with pytest.raises(Unauthenticated, match="without a token"):
            call()
    assert files_of(storage_url) == before


def test_what_is_not_there_is_not_found(storage: Storage) -> None:
    put(storage, "file", b"x")
    for uri in ("nothing", "file/below", "nothing/below"):
        for call in (storage.stat, storage.list, storage.open, storage.remove, storage.remove_folder):
            with pytest.raises(NotFound, match=uri):
                call("alice", uri)
        with pytest.raises(NotFound, match=uri):
            storage.move("alice", uri, "x")
        with pytest.raises(NotFound, match=uri):
            storage.copy("alice", uri, "x")
        assert not storage.exists("alice", uri)
        assert not storage.is_folder("alice", uri)


def test_folders_are_made_listed_and_removed(storage: Storage) -> None:
    assert names(storage) == ["public"]
    assert storage.is_folder("alice", "vos://")
    assert storage.is_folder("alice", "vos://public")
    storage.make_folder("alice", "a/b")
    put(storage, "a/f", b"123")
    assert names(storage) == ["a", "public"]
    assert [(node.name, node.is_folder, node.size) for node in storage.list("alice", "a")] == [
        ("b", True, 0),
        ("f", False, 3),
    ]
    assert names(storage, "a/f") == ["f"]
    with pytest.raises(InvalidRequest, match="'a/b' is a folder"):
        storage.make_folder("alice", "a/b")
    with pytest.raises(InvalidRequest, match="'a/f' is a file"):
        storage.make_folder("alice", "a/f")
    with pytest.raises(InvalidRequest, match="'a' is not empty"):
        storage.remove_folder("alice", "a")
    with pytest.raises(InvalidRequest, match="'a/f' is not a folder"):
        storage.remove_folder("alice", "a/f")
    with pytest.raises(InvalidRequest, match="'a/b' is a folder"):
        storage.remove("alice", "a/b")
    storage.remove("alice", "a/f")
    storage.remove_folder("alice", "a/b")
    storage.remove_folder("alice", "a")
    assert names(storage) == ["public"]


def test_a_file_does_not_become_a_folder_nor_a_folder_a_file(storage: Storage) -> None:
    put(storage, "file", b"x")
    storage.make_folder("alice", "folder")
    with pytest.raises(InvalidRequest, match="'file' is not a folder"):
        put(storage, "file/below", b"")
    with pytest.raises(InvalidRequest, match="'file' is not a folder"):
        storage.make_folder("alice", "file/below")
    with pytest.raises(InvalidRequest, match="'folder' is a folder"):
        put(storage, "folder", b"")
    with pytest.raises(InvalidRequest, match="'new/' is the name of a folder"):
        put(storage, "new/", b"")
    with pytest.raises(InvalidRequest, match="'folder' is a folder"):
        storage.open("alice", "folder")


@pytest.mark.parametrize("uri", ["vos://", "", "/", "alice://", "vos://public", "alice://public/"])
def test_the_fixed_folders_stay(storage: Storage, uri: str) -> None:
    put(storage, "a", b"x")
    changes: list[Any] = [
        lambda: storage.remove("alice", uri),
        lambda: storage.remove_folder("alice", uri),
        lambda: storage.make_folder("alice", uri),
        lambda: storage.move("alice", uri, "x"),
        lambda: put(storage, uri, b""),
    ]
    for change in changes:
        with pytest.raises(InvalidRequest, match="stays as it is"):
            change()
    with pytest.raises(InvalidRequest, match="folder"):
        storage.copy("alice", uri, "x")
    assert names(storage) == ["a", "public"]


def test_moving_renames_replaces_and_goes_into_folders(storage: Storage) -> None:
    put(storage, "a", b"1")
    put(storage, "b", b"2")
    storage.move("alice", "a", "b")
    assert (names(storage), get(storage, "b")) == (["b", "public"], b"1")
    storage.move("alice", "b", "new/deep/")
    assert get(storage, "new/deep/b") == b"1"
    storage.move("alice", "new/deep/b", "public")
    assert get(storage, "alice://public/b", "bob") == b"1"
    put(storage, "new/deep/c", b"3")
    storage.move("alice", "new", "other")
    assert get(storage, "other/deep/c") == b"3"
    storage.make_folder("alice", "goal")
    storage.move("alice", "other", "goal")
    assert get(storage, "goal/other/deep/c") == b"3"
    storage.move("alice", "goal/other/deep/c", "vos://")
    storage.move("alice", "c", "c")
    assert names(storage) == ["c", "goal", "public"]


def test_a_folder_neither_replaces_anything_nor_goes_into_itself(storage: Storage) -> None:
    put(storage, "a/x", b"1")
    put(storage, "b/a/y", b"2")
    put(storage, "f", b"3")
    with pytest.raises(InvalidRequest, match="'f' is a file"):
        storage.move("alice", "a", "f")
    with pytest.raises(InvalidRequest, match="'b/a' is a folder"):
        storage.move("alice", "a", "b")
    for target in ("a/", "a/x/y", "a/new/"):
        with pytest.raises(InvalidRequest, match="is in 'a'"):
            storage.move("alice", "a", target)
    assert (get(storage, "a/x"), get(storage, "b/a/y"), get(storage, "f")) == (b"1", b"2", b"3")


def test_copying_takes_files_only_and_counts(storage: Storage) -> None:
    put(storage, "a", b"x" * 400)
    storage.copy("alice", "a", "b")
    storage.make_folder("alice", "folder")
    with pytest.raises(InvalidRequest, match="'folder' is a folder"):
        storage.copy("alice", "folder", "c")
    with pytest.raises(LimitExceeded, match="storage_quota = 1000"):
        storage.copy("alice", "a", "folder")
    storage.remove("alice", "b")
    storage.copy("alice", "a", "folder")
    assert get(storage, "folder/a") == get(storage, "a") == b"x" * 400


def test_nothing_can_be_moved_so_deep_that_it_has_no_name(storage: Storage) -> None:
    deep = "/".join("d" * 20)
    put(storage, f"{deep}/file", b"x")
    put(storage, "e/" + "/".join("e" * 20) + "/file", b"y")
    with pytest.raises(InvalidRequest, match="more than 1024 bytes or 32 folders"):
        storage.move("alice", "e", deep)
    assert get(storage, f"{deep}/file") == b"x"
    assert names(storage) == ["d", "e", "public"]


def test_reading_into_memory_has_a_limit(storage: Storage) -> None:
    put(storage, "a", b"12345")
    assert storage.read("alice", "a", 5) == b"12345"
    with pytest.raises(LimitExceeded, match="'a' has 5 bytes, more than the limit 4"):
        storage.read("alice", "a", 4)


def test_a_file_takes_what_writers_of_tables_and_arrays_write(storage_url: str) -> None:
    storage = Storage(storage_url, 1 << 20, 1 << 20)
    table = pa.table({"specobjid": pa.array([2**63 + 1, 3], pa.uint64())})
    with storage.write("alice", "ids.csv") as file:
        csv.write_csv(table, file)
    with storage.write("alice", "ids.parquet") as file:
        parquet.write_table(table, file)
    with storage.write("alice", "flux.npy") as file:
        np.save(file, np.arange(5.0))
    assert storage.read("alice", "ids.csv", 100) == b'"specobjid"\n9223372036854775809\n3\n'
    assert parquet.read_table(BytesIO(storage.read("alice", "ids.parquet", 10_000))) == table
    assert np.load(BytesIO(storage.read("alice", "flux.npy", 1000))).tolist() == [0, 1, 2, 3, 4]
