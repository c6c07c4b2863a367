"""Names of files on the service, ``vos://``: which file of which user a name means, and what names there cannot be."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from specflight.errors import InvalidRequest

__all__ = ["PUBLIC", "UPLOADS", "Place", "find_place", "is_name", "shown"]

PUBLIC = "public"
"""The folder of each user that everybody may read."""

UPLOADS = ".uploads"
"""Folder of each user for uploads under way; no name leads there."""

MAX_PART = 255
"""Bytes of UTF-8 between two slashes, as in most file systems."""

MAX_PATH = 1024
"""Bytes of UTF-8 of a whole path, as in object stores."""

MAX_DEPTH = 32
"""Names in a path."""

NOT_IN_NAMES = "\\:*?[]{}%#,\N{REPLACEMENT CHARACTER}"
"""Signs of patterns, URLs and lists, and what is left of bytes that are not UTF-8."""

_USER = re.compile(r"[a-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder of a user, there or not.

    Attributes
    ----------
    owner : str
        Name of the user.
    parts : tuple of str
        Names on the way from the user's own folder; none for that folder itself.
    """

    owner: str
    parts: tuple[str, ...]

    @property
    def is_public(self) -> bool:
        """Whether everybody may read it."""
        return self.parts[:1] == (PUBLIC,)

    @property
    def is_fixed(self) -> bool:
        """Whether it is there for good: a user's own folder, or the public one in it."""
        return self.parts in ((), (PUBLIC,))

    @property
    def parent(self) -> Place:
        """Folder that it is in."""
        return Place(self.owner, self.parts[:-1])

    def child(self, *names: str) -> Place:
        """Place below this one.

        Raises
        ------
        InvalidRequest
            If the path to it is too long.
        """
        place = Place(self.owner, self.parts + names)
        path = "/".join(place.parts)
        if len(place.parts) > MAX_DEPTH or len(path.encode()) > MAX_PATH:
            raise InvalidRequest(f"name: {shown(path)} has more than {MAX_PATH} bytes or {MAX_DEPTH} folders")
        return place


def find_place(uri: str, caller: str) -> Place:
    """Place that a name means to a caller.

    Parameters
    ----------
    uri : str
        ``vos://path`` or ``path``, both the caller's own; or ``NAME://path`` of another user. Slashes at the ends and
        double ones do not count. Letters that Unicode writes in several ways are brought to one (NFC).
    caller : str
        Name of the user who asks.

    Returns
    -------
    Place
        What it is made of cannot lead out of the owner's folder.

    Raises
    ------
    InvalidRequest
        If there can be no such name.
    """
    scheme, separator, path = uri.partition("://")
    if not separator:
        scheme, path = "vos", uri
    owner = caller if scheme == "vos" else scheme
    if not _USER.fullmatch(owner):
        raise InvalidRequest(f"name: {shown(uri)} is not of a user: names begin with vos:// or USER://")
    parts = tuple(part for part in unicodedata.normalize("NFC", path).split("/") if part)
    for part in parts:
        if not is_name(part):
            raise InvalidRequest(
                f"name: {shown(uri)} cannot be the name of a file: {shown(part)} is reserved, longer than {MAX_PART} "
                f"bytes, begins or ends with a blank, or has a control character or one of {NOT_IN_NAMES[:-1]}"
            )
    return Place(owner, ()).child(*parts)


def is_name(part: str) -> bool:
    """Whether a file or a folder can have this name."""
    return (
        part.isprintable()  # no control or format characters, no surrogates, no blank but the usual one
        and not any(sign in part for sign in "/" + NOT_IN_NAMES)
        and part == part.strip()
        and part.strip(". ") != ""
        and part.casefold() != UPLOADS
        and unicodedata.is_normalized("NFC", part)
        and len(part.encode()) <= MAX_PART
    )


def shown(text: str) -> str:
    """Text from outside as a part of an error."""
    return repr(text if len(text) <= 100 else text[:97] + "...")
