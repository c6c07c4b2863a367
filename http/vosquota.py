"""Writing of users' files that is all or nothing, and counted against a quota."""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast

from specflight.errors import LimitExceeded
from specflight.http.vosnames import UPLOADS, Place
from specflight.http.vostree import Tree

__all__ = ["MAX_ENTRIES", "Quotas"]

MAX_ENTRIES = 10_000
"""Files and folders of a user: empty ones are not free either."""

MEASURED_SECONDS = 1.0
"""What a user has stored is looked up again after this time, since other processes store as well."""

STALE = timedelta(hours=1)
"""An upload without a further byte for this time is dead: its process was killed."""


@dataclass(slots=True)
class _Account:
    """What a user has stored, as far as this process knows; to be used under its lock."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    used: int = 0
    entries: int = 0
    measured: float = float("-inf")
    pending: dict[Place, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.used + sum(self.pending.values())


class _Upload(io.RawIOBase):
    """A file being written, which asks before every write."""

    def __init__(self, file: BinaryIO, admit: Callable[[int], None]) -> None:
        self._file, self._admit = file, admit

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        size = memoryview(data).nbytes
        self._admit(size)
        self._file.write(data)
        return size


class Quotas:
    """Keeps the files of every user within limits.

    Parameters
    ----------
    tree : Tree
    quota : int
        Bytes that the files of one user may have.
    max_file : int
        Bytes that one file may have.

    Notes
    -----
    Within a process the quota is kept to the byte: uploads at the same time are counted together, before each write,
    and the files that they replace are given back. What other processes store is looked up at the beginning and the
    end of an upload, if that was not done within the last second, together with what their uploads have so far: a
    user who writes through several processes can pass the quota by what they finish within that second, and the disk
    has to hold what they have not finished.
    """

    def __init__(self, tree: Tree, quota: int, max_file: int) -> None:
        self._tree, self._quota, self._max_file = tree, quota, max_file
        self._accounts: dict[str, _Account] = {}

    @contextmanager
    def changing(self, owner: str) -> Iterator[None]:
        """Keep other threads from changing the files of a user, and look them up anew afterwards."""
        account = self._account(owner)
        with account.lock:
            try:
                yield
            finally:
                account.measured = float("-inf")

    def check(self, place: Place, size: int) -> None:
        """Raise what `writing` would raise before the first byte of a file of a size."""
        account = self._account(place.owner)
        with account.lock:
            self._begin(account, place, size)

    def check_entries(self, owner: str) -> None:
        """Refuse one more file or folder of a user who has too many."""
        account = self._account(owner)
        with account.lock:
            self._measure(account, owner)
            if account.entries >= MAX_ENTRIES:
                raise LimitExceeded(
                    f"storage: you have {account.entries} files and folders; the limit is {MAX_ENTRIES}"
                )

    @contextmanager
    def writing(self, place: Place, expected: int) -> Iterator[BinaryIO]:
        """Write a file; see `specflight.http.vos.Storage.write`."""
        account = self._account(place.owner)
        upload = Place(place.owner, (UPLOADS, secrets.token_hex(16)))
        with account.lock:
            freed = self._begin(account, place, expected)
            self._tree.replaced(upload)
            account.pending[upload] = 0
        try:
            with self._tree.create(upload) as file:
                yield cast(BinaryIO, _Upload(file, lambda more: self._grow(account, upload, freed, more)))
            self._commit(account, place, upload)
        finally:
            with account.lock:
                account.pending.pop(upload, None)
            with suppress(FileNotFoundError):
                self._tree.remove(upload)

    def _account(self, owner: str) -> _Account:
        return self._accounts.setdefault(owner, _Account())

    def _begin(self, account: _Account, place: Place, expected: int) -> int:
        """Bytes that writing a file frees, if it may begin."""
        freed = self._tree.replaced(place)
        self._measure(account, place.owner)
        if freed is None:
            self.check_entries(place.owner)
        self._check_bytes(expected, account.total + expected - (freed or 0))
        return freed or 0

    def _grow(self, account: _Account, upload: Place, freed: int, more: int) -> None:
        with account.lock:
            size = account.pending[upload] + more
            self._check_bytes(size, account.total + more - freed)
            account.pending[upload] = size

    def _commit(self, account: _Account, place: Place, upload: Place) -> None:
        with account.lock:
            freed = self._tree.replaced(place)
            self._measure(account, place.owner)
            size = account.pending.pop(upload)
            self._check_bytes(size, account.used + size - (freed or 0))
            self._tree.rename(upload, place)
            account.used += size - (freed or 0)
            account.entries += freed is None

    def _check_bytes(self, size: int, total: int) -> None:
        if size > self._max_file:
            raise LimitExceeded(f"storage: a file may have http.storage_max_file = {self._max_file} bytes, not more")
        if total > self._quota:
            raise LimitExceeded(f"storage: your files may have http.storage_quota = {self._quota} bytes, not more")

    def _measure(self, account: _Account, owner: str) -> None:
        """Look up what a user has stored, and remove what is left of uploads that died."""
        if time.monotonic() - account.measured < MEASURED_SECONDS:
            return
        # Uploads come first: one that ends meanwhile counts twice rather than not at all.
        used, entries = self._measure_uploads(account, owner), 0
        for parts, size in self._tree.below(Place(owner, ())):
            if parts[0] != UPLOADS:
                used += size
                entries += 1
        account.used, account.entries, account.measured = used, entries, time.monotonic()

    def _measure_uploads(self, account: _Account, owner: str) -> int:
        used = 0
        for upload, node in self._tree.uploads(Place(owner, (UPLOADS,))):
            if upload in account.pending:
                continue
            if node.modified is not None and datetime.now(UTC) - node.modified > STALE:
                with suppress(FileNotFoundError):
                    self._tree.remove(upload)
            else:
                used += node.size
        return used
