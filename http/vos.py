"""Files of the users on the service, ``vos://``: who may do what with which file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from specflight.errors import Forbidden, InvalidRequest, LimitExceeded, NotFound, Unauthenticated
from specflight.http.vosnames import PUBLIC, Place, find_place, shown
from specflight.http.vosquota import Quotas
from specflight.http.vostree import Node, Tree

__all__ = ["CHUNK", "Node", "Storage"]

ANONYMOUS = "anonymous"
"""The caller who has no files of their own."""

CHUNK = 1 << 20
"""Bytes that are read or written at once."""


class Storage:
    """Files of all users.

    Every user has a folder of their own, with a folder ``public`` in it that everybody may read. A file is written
    under another name and then put in its place, so that nobody ever sees a part of it; what is left when a process is
    killed goes away with one of the user's next uploads, after an hour. One object can be used from several threads,
    and several processes can use the same files; see `specflight.http.vosquota.Quotas` for what limits mean then.

    Parameters
    ----------
    url : str
        Folder of the users' folders: a path, or a URL that fsspec knows, such as ``file:///path``.
    quota : int
        Bytes that the files of one user may have.
    max_file : int
        Bytes that one file may have.

    Raises
    ------
    InvalidRequest
        If there is no such file system.
    """

    def __init__(self, url: str, quota: int, max_file: int) -> None:
        self._tree = Tree(url)
        self._quotas = Quotas(self._tree, quota, max_file)

    def stat(self, caller: str, uri: str) -> Node:
        """What is at a name.

        Parameters
        ----------
        caller : str
            Name of the user who asks; ``'anonymous'`` without one.
        uri : str
            See `specflight.http.vosnames.find_place`.

        Raises
        ------
        InvalidRequest
            If there can be no such name.
        Unauthenticated
            If it is the own file of a caller without a name.
        Forbidden
            If it is another user's and not public, whether it is there or not.
        NotFound
            If nothing is there.
        """
        return self._there(_readable(caller, uri), uri)

    def exists(self, caller: str, uri: str) -> bool:
        """Whether anything is at a name; see `stat` for errors but that of nothing there."""
        return self._tree.look(_readable(caller, uri)) is not None

    def is_folder(self, caller: str, uri: str) -> bool:
        """Whether a folder is at a name; see `exists`."""
        node = self._tree.look(_readable(caller, uri))
        return node is not None and node.is_folder

    def list(self, caller: str, uri: str) -> tuple[Node, ...]:
        """What is in a folder, by name, or the file itself; see `stat`."""
        place = _readable(caller, uri)
        node = self._there(place, uri)
        return self._tree.children(place) if node.is_folder else (node,)

    def open(self, caller: str, uri: str) -> tuple[int, BinaryIO]:
        """Open a file for reading; see `stat`.

        Returns
        -------
        size : int
            In bytes.
        file : BinaryIO
            To be closed by whoever asked for it. What replaces the file later does not change what it reads.

        Raises
        ------
        InvalidRequest
            If it is a folder, too.
        """
        place = _readable(caller, uri)
        if self._there(place, uri).is_folder:
            raise InvalidRequest(f"name: {shown(uri)} is a folder")
        try:
            return self._tree.open(place)
        except FileNotFoundError:
            raise _missing(uri) from None

    def read(self, caller: str, uri: str, limit: int) -> bytes:
        """Content of a file; see `open`.

        Raises
        ------
        LimitExceeded
            If it has more than `limit` bytes.
        """
        size, file = self.open(caller, uri)
        with file:
            if size > limit:
                raise LimitExceeded(f"name: {shown(uri)} has {size} bytes, more than the limit {limit}")
            return file.read()

    @contextmanager
    def write(self, caller: str, uri: str, expected: int = 0) -> Iterator[BinaryIO]:
        """Write a file; folders on the way to it are made.

        Parameters
        ----------
        caller, uri : str
            See `stat`; the name has to be the caller's own.
        expected : int
            Bytes that are going to come, as far as known: too many are refused at once.

        Yields
        ------
        BinaryIO
            For writing from beginning to end. The file is there, in place of an earlier one, when the block ends;
            nothing of it is when the block raises.

        Raises
        ------
        Unauthenticated, Forbidden
            If the caller may not write there.
        InvalidRequest
            If it is a folder, or something on the way to it is a file.
        LimitExceeded
            If the file, or all files of the caller together, get too large; from a write, too.
        """
        with self._quotas.writing(_file(caller, uri), expected) as file:
            yield file

    def check_target(self, caller: str, uri: str) -> None:
        """Raise what `write` would raise before the first byte, or at it."""
        self._quotas.check(_file(caller, uri), 1)

    def make_folder(self, caller: str, uri: str) -> None:
        """Make a folder, and those on the way to it; see `write`.

        Raises
        ------
        InvalidRequest
            If something is there already.
        """
        place = _own(caller, uri)
        with self._quotas.changing(place.owner):
            if self._tree.replaced(place) is not None:
                raise InvalidRequest(f"name: {shown(uri)} is a file")
            self._quotas.check_entries(place.owner)
            self._tree.make_folder(place)

    def remove(self, caller: str, uri: str) -> None:
        """Remove a file; see `write`.

        Raises
        ------
        NotFound
            If there is none.
        InvalidRequest
            If it is a folder.
        """
        place = _own(caller, uri)
        with self._quotas.changing(place.owner), _found(uri):
            if self._there(place, uri).is_folder:
                raise InvalidRequest(f"name: {shown(uri)} is a folder")
            self._tree.remove(place)

    def remove_folder(self, caller: str, uri: str) -> None:
        """Remove an empty folder; see `remove`.

        Raises
        ------
        InvalidRequest
            If it is not empty, or a file.
        """
        place = _own(caller, uri)
        with self._quotas.changing(place.owner), _found(uri):
            if not self._there(place, uri).is_folder:
                raise InvalidRequest(f"name: {shown(uri)} is not a folder")
            if not self._tree.is_empty(place):
                raise InvalidRequest(f"name: {shown(uri)} is not empty")
            self._tree.remove_folder(place)

    def move(self, caller: str, source: str, target: str) -> None:
        """Move or rename a file or a folder; see `write`.

        Parameters
        ----------
        caller : str
        source, target : str
            Names of the caller's own. A file at `target` is replaced; into a folder, or a name that ends with ``/``,
            it goes under its own name.

        Raises
        ------
        NotFound
            If nothing is at `source`.
        InvalidRequest
            If a folder were to replace something or to go into itself.
        """
        place = _own(caller, source)
        with self._quotas.changing(place.owner), _found(source):
            goal = self._goal(caller, target, place.parts[-1])
            node = self._there(place, source)
            if goal == place:
                return
            if goal.parts[: len(place.parts)] == place.parts:
                raise InvalidRequest(f"to: {shown(target)} is in {shown(source)}")
            if self._tree.replaced(goal) is not None and node.is_folder:
                raise InvalidRequest(f"to: {shown(target)} is a file")
            for parts, _ in self._tree.below(place) if node.is_folder else ():
                goal.child(*parts)  # which has to have a name there, too
            self._tree.rename(place, goal)

    def copy(self, caller: str, source: str, target: str) -> None:
        """Copy a file, which may be another user's public one; see `move` and `open`."""
        name = _readable(caller, source).parts[-1:]
        size, file = self.open(caller, source)
        with file, self._quotas.writing(self._goal(caller, target, *name), size) as copy:
            shutil.copyfileobj(file, copy, CHUNK)

    def _there(self, place: Place, uri: str) -> Node:
        node = self._tree.look(place)
        if node is None:
            raise _missing(uri)
        return node

    def _goal(self, caller: str, target: str, name: str) -> Place:
        """Where something of a name goes that is moved or copied to a target."""
        place = _own(caller, target, fixed=True)
        node = self._tree.look(place)
        into = target.endswith("/") or (node is not None and node.is_folder)
        return _checked(place.child(name) if into else place, target)


def _readable(caller: str, uri: str) -> Place:
    place = find_place(uri, caller)
    if place.owner == caller == ANONYMOUS:
        raise Unauthenticated(f"name: {shown(uri)} is nobody's without a token")
    if place.owner != caller and not place.is_public:
        raise Forbidden(f"name: {shown(uri)} is not yours: of other users' files, those in {PUBLIC} can be read")
    return place


def _own(caller: str, uri: str, fixed: bool = False) -> Place:
    """A place that a caller may change; one of the fixed folders only if so said."""
    place = find_place(uri, caller)
    if caller == ANONYMOUS:
        raise Unauthenticated(f"name: {shown(uri)} cannot be written without a token")
    if place.owner != caller:
        raise Forbidden(f"name: {shown(uri)} is not yours to write")
    return place if fixed else _checked(place, uri)


def _checked(place: Place, uri: str) -> Place:
    if place.is_fixed:
        raise InvalidRequest(f"name: {shown(uri)} is a folder that stays as it is")
    return place


def _file(caller: str, uri: str) -> Place:
    place = _own(caller, uri)
    if uri.endswith("/"):
        raise InvalidRequest(f"name: {shown(uri)} is the name of a folder")
    return place


def _missing(uri: str) -> NotFound:
    return NotFound(f"name: there is no {shown(uri)}")


@contextmanager
def _found(uri: str) -> Iterator[None]:
    """What another process has taken away meanwhile is not there."""
    try:
        yield
    except FileNotFoundError:
        raise _missing(uri) from None
