"""Files and folders of the users on a file system, as if there were no links, devices and other things on it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from specflight.errors import InvalidRequest
from specflight.http.vosnames import PUBLIC, Place, is_name, shown

__all__ = ["Node", "Tree"]


@dataclass(frozen=True, slots=True)
class Node:
    """A file or folder that is there.

    Attributes
    ----------
    name : str
        Without the folders that it is in; ``'/'`` for a user's own folder.
    owner : str
        Name of the user.
    is_folder : bool
    is_public : bool
        Whether everybody may read it.
    size : int
        In bytes; 0 for folders.
    modified : datetime or None
        Where the file system tells.
    """

    name: str
    owner: str
    is_folder: bool
    is_public: bool
    size: int = 0
    modified: datetime | None = None


class Tree:
    """The folders of all users.

    Parameters
    ----------
    url : str
        Folder of the users' folders: a path, or a URL that fsspec knows, such as ``file:///path``.

    Raises
    ------
    InvalidRequest
        If there is no such file system.

    Notes
    -----
    Links are not followed, and count as things that are neither file nor folder. They are looked for right before a
    path is used: whoever can make links on the file system itself, which this service never does, could be quicker.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise InvalidRequest(f"http.storage: {shown(url)} cannot be used: {error}") from None
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def look(self, place: Place) -> Node | None:
        """What is at a place; the fixed folders always are."""
        node = _folder(place) if place.is_fixed else None
        for step, info in self._way(place):
            if step == place:
                node = _node(place, info) or node
        return node

    def children(self, place: Place) -> tuple[Node, ...]:
        """What is in a folder, by name, as far as it has a name that users can say."""
        nodes = {} if place.parts else {PUBLIC: _folder(Place(place.owner, (PUBLIC,)))}
        for child, info in self._entries(place):
            if is_name(child.parts[-1]) and (node := _node(child, info)):
                nodes[node.name] = node
        return tuple(nodes[name] for name in sorted(nodes))

    def is_empty(self, place: Place) -> bool:
        """Whether nothing at all is in a folder."""
        return not any(True for _ in self._entries(place))

    def uploads(self, folder: Place) -> Iterator[tuple[Place, Node]]:
        """Files in the folder of a user's uploads."""
        for child, info in self._entries(folder):
            if node := _node(child, info):
                yield child, node

    def replaced(self, place: Place) -> int | None:
        """Bytes of the file that one written at a place would replace; None if there is none.

        Raises
        ------
        InvalidRequest
            If a folder is there, or something on the way to it is none.
        """
        for step, info in self._way(place):
            wanted = "file" if step == place else "directory"
            if info["type"] == "nothing":
                return None
            if info["type"] != wanted:
                name = shown("/".join(step.parts))
                raise InvalidRequest(f"name: {name} is {'not ' if wanted == 'directory' else ''}a folder")
        return int(info["size"])

    def below(self, place: Place) -> Iterator[tuple[tuple[str, ...], int]]:
        """Everything below a folder, at any depth: names on the way from it, and bytes."""
        top = self._path(place)
        for path, info in self._fs.find(top, withdirs=True, detail=True).items():
            if path != top:
                size = info["size"] if info["type"] == "file" else 0
                yield tuple(path[len(top) + 1 :].split("/")), size or 0

    def open(self, place: Place) -> tuple[int, BinaryIO]:
        """Size of a file, and the file, open for reading."""
        file = self._fs.open(self._path(place), "rb")
        return file.size, cast(BinaryIO, file)

    def create(self, place: Place) -> BinaryIO:
        """File open for writing; the folder of it is made."""
        self._fs.makedirs(self._path(place.parent), exist_ok=True)
        return cast(BinaryIO, self._fs.open(self._path(place), "wb"))

    def make_folder(self, place: Place) -> None:
        """Make a folder and those on the way to it."""
        self._fs.makedirs(self._path(place), exist_ok=True)

    def remove(self, place: Place) -> None:
        """Remove a file."""
        self._fs.rm_file(self._path(place))

    def remove_folder(self, place: Place) -> None:
        """Remove an empty folder."""
        self._fs.rmdir(self._path(place))

    def rename(self, source: Place, goal: Place) -> None:
        """Put a file or folder into another place, whose folder is made; a file there is replaced."""
        self._fs.makedirs(self._path(goal.parent), exist_ok=True)
        if self._is_local:
            os.replace(self._path(source), self._path(goal))  # at once, which fsspec does not promise
        else:
            self._fs.mv(self._path(source), self._path(goal), recursive=True)

    def _path(self, place: Place) -> str:
        return "/".join((self._root, place.owner, *place.parts))

    def _info(self, place: Place) -> Mapping[str, Any]:
        """What fsspec says of a place; its type is ``'nothing'`` where nothing is."""
        path = self._path(place)
        if self._is_local and os.path.islink(path):
            return {"type": "link"}
        try:
            info: dict[str, Any] = self._fs.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return {"type": "nothing"}
        return info

    def _way(self, place: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Folders on the way to a place, and the place, as far as there are folders."""
        for depth in range(1, len(place.parts) + 1):
            step = Place(place.owner, place.parts[:depth])
            info = self._info(step)
            yield step, info
            if info["type"] != "directory":
                return

    def _entries(self, place: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        if any(info["type"] != "directory" for _, info in self._way(place)):
            return
        try:
            entries = self._fs.ls(self._path(place), detail=True)
        except FileNotFoundError:
            return
        for info in entries:
            name = info["name"].rstrip("/").rpartition("/")[2]
            yield Place(place.owner, (*place.parts, name)), info


def _folder(place: Place) -> Node:
    return Node(place.parts[-1] if place.parts else "/", place.owner, True, place.is_public)


def _node(place: Place, info: Mapping[str, Any]) -> Node | None:
    """Node of what fsspec says; None for links and devices."""
    kind = info["type"]
    if info.get("islink") or kind not in ("file", "directory"):
        return None
    size = int(info.get("size") or 0) if kind == "file" else 0
    return Node(place.parts[-1], place.owner, kind == "directory", place.is_public, size, _modified(info))


def _modified(info: Mapping[str, Any]) -> datetime | None:
    for key in ("mtime", "LastModified", "created"):
        match info.get(key):
            case datetime() as when:
                return when.astimezone(UTC)
            case int() | float() as seconds:
                return datetime.fromtimestamp(seconds, UTC)
    return None
