from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from vosfiles import MAX_FILE, QUOTA, files_of, names, put

from specflight.errors import LimitExceeded
from specflight.http import vosquota
from specflight.http.vos import Storage
from specflight.http.vosnames import UPLOADS


@pytest.mark.parametrize("earlier", [b"", b"an earlier one"])
def test_a_broken_upload_leaves_nothing(storage: Storage, storage_url: str, earlier: bytes) -> None:
    if earlier:
        put(storage, "a", earlier)
    before = files_of(storage_url)

    def break_off() -> None:
        with storage.write("alice", "a") as file:
            assert file.write(b"x" * 300) == 300
            assert storage.exists("alice", "a") == bool(earlier)
            assert names(storage) == [*(["a"] if earlier else []), "public"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert files_of(storage_url) == before
    put(storage, "b", b"x" * 600)
    put(storage, "c", b"x" * (QUOTA - 600 - len(earlier)))


def test_a_file_may_not_be_too_large(storage: Storage, storage_url: str) -> None:
    put(storage, "a", b"x" * MAX_FILE)
    before = files_of(storage_url)
    with pytest.raises(LimitExceeded, match="storage_max_file = 600"):
        put(storage, "b", b"x" * MAX_FILE, b"x", caller="bob")
    with pytest.raises(LimitExceeded, match="storage_max_file = 600"), storage.write("bob", "b", MAX_FILE + 1):
        pytest.fail("it was not refused at once")
    assert files_of(storage_url) == before


def test_all_files_of_a_user_keep_to_the_quota(storage: Storage, storage_url: str) -> None:
    put(storage, "a", b"x" * 500)
    put(storage, "public/b", b"x" * 500)
    storage.check_target("alice", "a")  # what it replaces is given back
    with pytest.raises(LimitExceeded, match="storage_quota = 1000"):
        put(storage, "c", b"x")
    with pytest.raises(LimitExceeded, match="storage_quota = 1000"):
        storage.check_target("alice", "c")
    put(storage, "c", b"")
    put(storage, "c", b"x" * 500, caller="bob")
    put(storage, "a", b"x" * 400)
    with pytest.raises(LimitExceeded, match="storage_quota = 1000"):
        put(storage, "c", b"x" * 101)
    put(storage, "c", b"x" * 100)
    storage.remove("alice", "public/b")
    put(storage, "d", b"x" * 500)
    assert sum(len(content) for path, content in files_of(storage_url).items() if path.startswith("/alice/")) == QUOTA


def test_uploads_at_the_same_time_count_together(storage: Storage) -> None:
    with storage.write("alice", "a") as a, storage.write("alice", "b") as b:
        a.write(b"x" * 500)
        b.write(b"x" * 500)
        with pytest.raises(LimitExceeded, match="storage_quota"):
            a.write(b"x")
        with pytest.raises(LimitExceeded, match="storage_quota"):
            put(storage, "c", b"x")
    assert [node.size for node in storage.list("alice", "vos://") if not node.is_folder] == [500, 500]


def test_what_is_given_back_for_a_replaced_file_is_given_back_once(storage: Storage) -> None:
    put(storage, "a", b"x" * 500)

    def replace() -> None:
        with storage.write("alice", "a") as again:
            storage.remove("alice", "a")
            put(storage, "b", b"x" * 500)
            put(storage, "c", b"x" * 500)
            again.write(b"y" * 500)

    with pytest.raises(LimitExceeded, match="storage_quota"):
        replace()
    assert names(storage) == ["b", "c", "public"]


def test_many_threads_do_not_get_past_the_quota(local: Storage, tmp_path: Path) -> None:
    done = []

    def store(number: int) -> None:
        try:
            with local.write("alice", f"f{number}") as file:
                for _ in range(10):
                    file.write(b"x" * 10)
        except LimitExceeded:
            return
        done.append(number)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = [len(content) for content in files_of(str(tmp_path / "storage")).values()]
    assert sizes == [100] * len(done)
    assert 1 <= len(done) <= QUOTA // 100
    put(local, "rest", b"x" * (QUOTA - 100 * len(done)))


def test_a_process_sees_what_others_store(storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Storage(storage_url, QUOTA, MAX_FILE), Storage(storage_url, QUOTA, MAX_FILE)
    put(ours, "a", b"x" * 500)
    put(theirs, "b", b"x" * 500)
    with pytest.raises(LimitExceeded, match="storage_quota"):
        put(Storage(storage_url, QUOTA, MAX_FILE), "a", expected=501)  # at once
    monkeypatch.setattr(vosquota, "MEASURED_SECONDS", 0.0)  # as a second later
    for storage in (ours, theirs):
        with pytest.raises(LimitExceeded, match="storage_quota"):
            put(storage, "c", b"x")


def test_of_uploads_of_two_processes_the_later_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vosquota, "MEASURED_SECONDS", 0.0)
    ours, theirs = (Storage(str(tmp_path), QUOTA, MAX_FILE) for _ in range(2))

    def store() -> None:
        with theirs.write("alice", "b") as b, ours.write("alice", "a") as a:
            a.write(b"x" * 600)
            b.write(b"x" * 500)

    with pytest.raises(LimitExceeded, match="storage_quota"):
        store()
    assert names(ours) == ["a", "public"]


def test_empty_files_are_limited_too(storage: Storage, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vosquota, "MAX_ENTRIES", 3)
    storage.make_folder("alice", "a")
    put(storage, "b", b"")
    put(storage, "c", b"")
    with pytest.raises(LimitExceeded, match="3 files and folders"):
        put(storage, "d", b"")
    with pytest.raises(LimitExceeded, match="3 files and folders"):
        storage.make_folder("alice", "d")
    with pytest.raises(LimitExceeded, match="3 files and folders"):
        Storage(storage_url, QUOTA, MAX_FILE).make_folder("alice", "d")
    put(storage, "c", b"replaced")
    storage.remove("alice", "b")
    put(storage, "d", b"")


def test_what_a_killed_process_left_is_removed_after_an_hour(local: Storage, tmp_path: Path) -> None:
    uploads = tmp_path / "storage" / "alice" / UPLOADS
    put(local, "a", b"")
    left = {age: uploads / f"left{age}" for age in (3500, 3700)}
    for age, path in left.items():
        path.write_bytes(b"x" * 300)
        os.utime(path, (time.time() - age,) * 2)
    assert names(local) == ["a", "public"]
    again = Storage(str(tmp_path / "storage"), QUOTA, QUOTA)
    with pytest.raises(LimitExceeded, match="storage_quota"):
        put(again, "b", b"x" * 500, b"x" * 201)  # the younger one may still be written
    assert sorted(path.name for path in uploads.iterdir()) == ["left3500"]
