"""Lists of spectra written as text: what people type, save, and what ``str()`` makes of a Python list.

Nothing is evaluated. A text is read from left to right in one pass, in time that grows with its length only,
whatever it holds: groups nest no deeper than a list within a tuple within the list.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import SPECOBJID_MAX, shown
from specflight.errors import InvalidRequest

__all__ = ["MAX_MIXED", "Entry", "IdText", "find_columns", "parse_id_text", "split_group", "split_name"]

Entry = int | str | tuple[str | list[str], ...]
"""One entry of a list as it was written: a number, a text, or the parts of a group in parentheses or brackets."""

MAX_MIXED = 1_000_000
"""Most entries of a list in which not all are numbers, or not all are triples of numbers."""

_END = r"(?:\s*+,\s*+|\s++|\Z)"
_NUMBERS = re.compile(rf"""(?:(?:[0-9]++|'[0-9]++'|"[0-9]++"){_END})*+""")
_NUMBER = r"\s*+[0-9]{1,6}\s*+"
_TRIPLES = re.compile(rf"(?:\({_NUMBER},{_NUMBER},{_NUMBER}\){_END})*+")
_WORD = r"""'([^']*+)'|"([^"]*+)"|([\w.*:+-]++)"""
_INNER = r"\([^()\[\]]*+\)|\[[^()\[\]]*+\]"
_GROUP = rf"((?:[^()\[\]]++|{_INNER})*+)"
_ENTRY = re.compile(rf"(?:{_WORD}|\({_GROUP}\)|\[{_GROUP}\]){_END}")
_PART = re.compile(rf"(?:{_WORD}|[(\[]([^()\[\]]*+)[)\]]){_END}")
_NUMPY_SCALAR = re.compile(r"""np\.(?:u?int[0-9]*+|str_)\((-?+[0-9]++|'[^']*+'|"[^"]*+")\)""")
_NUMPY_ARRAY = re.compile(r"array\((\[[^()\[\]]*+\])(?:,\s*+dtype=[\w.'<>|]++)?+\)")
_NAME = re.compile(r"(?:spec-)?+([0-9]{1,5})-([0-9]{5})-([0-9]{1,4})(?:\.fits(?:\.gz)?+)?+")
_COMMENTS = re.compile(r"#[^\n]*+(?:\n\s*+#[^\n]*+)*+")
_BLANKED = str.maketrans(dict.fromkeys("',\"()", " "))
_SHOWN_TEXT = 40
_WORD_GROUPS = 3  # of _WORD
_MOST_DIGITS = len(str(SPECOBJID_MAX))
_LINES_TO_HEADER = 1000
_LONGEST_HEADER = 20_000  # characters: the widest table of the survey has 270 columns

ID_COLUMNS = frozenset({"specobjid"})
_PARTS = {"plate": "plate", "mjd": "mjd", "fiberid": "fiberid", "fiber": "fiberid", "run2d": "run2d"}


@dataclass(frozen=True, slots=True)
class IdText:
    """What a text holds.

    Attributes
    ----------
    entries : ndarray, or list of Entry
        In the order of the text. An array of uint64 and of shape (n,) if all are numbers, of int64 and of shape
        (n, 3) if all are plate, MJD and fibre; the first `MAX_MIXED` + 1 if they are mixed.
    bare : bool
        Whether it is one entry without brackets of a list around it.
    """

    entries: NDArray[np.uint64] | NDArray[np.int64] | list[Entry]
    bare: bool


def parse_id_text(text: str) -> IdText:
    """Read the entries of a list of spectra.

    Parameters
    ----------
    text : str
        Numbers, quoted or not, ``plate-mjd-fiberid`` and groups such as ``(1963, 54331, '1-5')``, between commas,
        blanks or line ends, with or without brackets around the whole, ``#`` comments left out; or CSV whose header
        names the column specobjid, or plate, mjd and fiberid.

    Raises
    ------
    InvalidRequest
        Naming the first entry that is none of these; or for a list that numpy has abbreviated.
    """
    text = text.removeprefix("\ufeff")
    if (table := _read_csv(text)) is not None:
        return IdText(table, bare=False)
    if "#" in text:
        text = _COMMENTS.sub("", text)
    if "..." in text:
        raise InvalidRequest("ids: the list is abbreviated ('...'), as numpy prints long arrays: send ids.tolist()")
    if "np." in text or "numpy." in text:
        text = _NUMPY_SCALAR.sub(r"\1", text.replace("numpy.", "np."))
    if "array(" in text:
        text = _NUMPY_ARRAY.sub(r"\1", text.replace("np.array(", "array("))
    text = text.strip()
    listed = text[:1] == "[" and text[-1:] == "]"
    if listed:
        text = text[1:-1].strip()
    numbers = _arrays(text)
    entries = list(islice(_entries(text), MAX_MIXED + 1)) if numbers is None else numbers
    return IdText(entries, bare=not listed and len(entries) == 1)


def _arrays(text: str) -> NDArray[np.uint64] | NDArray[np.int64] | None:
    """Entries that are all numbers or all triples of numbers; None otherwise."""
    try:
        if _NUMBERS.fullmatch(text):
            return np.array(list(map(int, text.translate(_BLANKED).split())), np.uint64)
        if _TRIPLES.fullmatch(text):
            return np.array(list(map(int, text.translate(_BLANKED).split())), np.int64).reshape(-1, 3)
    except (OverflowError, ValueError):
        pass  # beyond 2^64-1, or of more digits than Python reads: the reader of the entries names it
    return None


def split_group(text: str) -> tuple[str | list[str], ...] | None:
    """Parts of one entry that was written as a group, ``'(1963, 54331, 120)'``; None if it is no group."""
    group = _ENTRY.fullmatch(text.strip())
    return None if group is None else _group(group)


def split_name(text: str) -> tuple[str, str, str] | None:
    """Plate, MJD and fibre of ``'1963-54331-120'`` or ``'spec-1963-54331-0120.fits'``; None if it is neither."""
    name = _NAME.fullmatch(text)
    return None if name is None else (name[1], name[2], name[3])


def find_columns(names: Sequence[str]) -> list[int] | None:
    """Places of the columns that identify spectra.

    Parameters
    ----------
    names : sequence of str
        Names of all columns, in any case and with or without underscores.

    Returns
    -------
    list of int or None
        The place of specobjid; without one, the places of plate, mjd, fiberid and, if there is one, run2d; None
        without those.
    """
    plain = [name.strip(" \t\r\"'").lower().replace("_", "") for name in names]
    for place, name in enumerate(plain):
        if name in ID_COLUMNS:
            return [place]
    places = {_PARTS[name]: place for place, name in enumerate(plain) if name in _PARTS}
    parts = ["plate", "mjd", "fiberid", *(["run2d"] if "run2d" in places else [])]
    return [places[part] for part in parts] if places.keys() >= set(parts) else None


def _entries(text: str) -> Iterator[Entry]:
    position, number = 0, 1
    while position < len(text):
        match = _ENTRY.match(text, position)
        entry: Entry | None = None
        if match is not None:
            word = _word(match)
            entry = _group(match) if word is None else int(word) if _is_number(word) else word
        if match is None or entry is None:
            raise InvalidRequest(
                f"ids: entry {number} of the list, at {shown(text[position : position + _SHOWN_TEXT])}, is neither a "
                "specobjid nor plate-mjd-fiberid nor a tuple (plate, mjd, fiberid, run2d)"
            )
        yield entry
        position, number = match.end(), number + 1


def _is_number(word: str) -> bool:
    return len(word) <= _MOST_DIGITS and word.isascii() and word.isdigit()


def _word(match: re.Match[str]) -> str | None:
    """Text of an entry or of a part; None if it is a group."""
    group = match.lastindex
    return match[group] if group is not None and group <= _WORD_GROUPS else None


def _group(match: re.Match[str]) -> tuple[str | list[str], ...] | None:
    """Parts of an entry that is a group, each a text or a list of texts; None if it is none, or not well formed."""
    if match.lastindex is None or match.lastindex <= _WORD_GROUPS:
        return None
    group = match[match.lastindex].strip()
    parts: list[str | list[str]] = []
    position = 0
    while position < len(group):
        part = _PART.match(group, position)
        if part is None:
            return None
        word = _word(part)
        # Commas separate values within a text as they do between texts: quotes change nothing.
        parts.append(part[_WORD_GROUPS + 1].translate(_BLANKED).split() if word is None else word)
        position = part.end()
    return tuple(parts)


def _read_csv(text: str) -> list[Entry] | None:
    """Entries of a text of CSV; None if it has no header that names the columns which identify spectra."""
    header = _header(text)
    if header is None:
        return None
    places, delimiter, rows = header
    lines = (line for line in rows.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    # Only one of the two marks can quote: the other is an apostrophe, or part of a name.
    quote = '"' if '"' in rows else "'"
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True, strict=True)
    try:
        return list(map(itemgetter(*places), reader))
    except IndexError:
        raise InvalidRequest(f"ids: row {reader.line_num} of the CSV text has fewer columns than its header") from None
    except csv.Error as error:
        raise InvalidRequest(f"ids: row {reader.line_num} of the CSV text cannot be read: {error}") from None


def _header(text: str) -> tuple[list[int], str, str] | None:
    """Places of the columns, delimiter and rows below of a header: the first line, but for comments before it."""
    position = 0
    for _line in range(_LINES_TO_HEADER):
        end = text.find("\n", position) % (len(text) + 1)
        line = text[position : min(end, position + _LONGEST_HEADER)].strip()
        names = line.lstrip("# ")
        delimiter = next((mark for mark in ",\t;" if mark in names), " ")
        places = find_columns(names.split(delimiter) if delimiter != " " else names.split())
        if places is not None:
            return places, delimiter, text[end:]
        if end == len(text) or (line and not line.startswith("#")):
            return None
        position = end + 1
    return None
