"""Lists of spectra as users name them: numbers, tuples with wildcards, text, files and tables.

`read_id_list` takes all of them to one form, an `IdList`, which travels to the server (`IdList.to_wire`) and is
expanded there into specobjids (`specflight.catalog.expand`). In a specobjid plate, fibre, MJD and reduction follow
each other from the highest bit down, so that most entries are a range of specobjids, and a list of 100,000 of them
two arrays; the rest (lists, ranges, a wildcard before a number) are `Pattern`s.

This module needs numpy only: client and server share it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import FIBERID, MJD, PLATE, pack_specobjid, parse_id, shown
from specflight.catalog.idpatterns import LARGEST_PART, Pattern
from specflight.catalog.idtext import MAX_MIXED, find_columns, parse_id_text, split_group, split_name
from specflight.errors import InvalidRequest, LimitExceeded

__all__ = ["IdList", "read_id_file", "read_id_list"]

_NO_RANGE = (1, 0)
_ANY_REDUCTION = (1 << MJD.shift) - 1  # what differs between the ends of a plate, MJD and fibre
_LONGEST_PATH = 4096
_PIECE = 512


@dataclass(frozen=True, slots=True, eq=False)
class IdList:
    """Entries of a list of spectra, in order.

    Attributes
    ----------
    first, last : ndarray of uint64, shape (n,)
        Range of specobjids that each entry stands for, both ends included: equal for a specobjid; 1 and 0, which is
        no range, for an entry of `patterns`.
    patterns : mapping of int to Pattern
        Entries that are no range, by their place in the list.
    single : bool
        Whether one specobjid, or one tuple of a plate, an MJD and a fibre, came without a list around it, so that a
        single object should go out.
    """

    first: NDArray[np.uint64]
    last: NDArray[np.uint64]
    patterns: Mapping[int, Pattern] = field(default_factory=lambda: MappingProxyType({}))
    single: bool = False

    def __len__(self) -> int:
        return len(self.first)

    @property
    def plain(self) -> bool:
        """Whether every entry is a specobjid: `first` holds them then, and there is nothing to expand."""
        return self.first is self.last or bool((self.first == self.last).all())

    def pattern(self, entry: int) -> Pattern:
        """Plate, MJD, fibre and reduction that an entry stands for; str() of it names them in an error.

        Parameters
        ----------
        entry : int
            Place in the list, from 0.
        """
        if entry in self.patterns:
            return self.patterns[entry]
        return Pattern.between(int(self.first[entry]), int(self.last[entry]))

    def to_wire(self) -> list[Any]:
        """Entries as JSON holds them, for `from_wire`: integers, and lists such as ``[1963, 54331, '1-5']``."""
        if self.plain:
            return _listed(self.first)
        wire: list[Any] = _listed(self.first)
        differ = self.first ^ self.last
        triples = differ == _ANY_REDUCTION
        parts = np.stack([part.of(self.first[triples]) for part in (PLATE, MJD, FIBERID)], axis=1)
        for entry, triple in zip(np.flatnonzero(triples).tolist(), parts.tolist(), strict=True):
            wire[entry] = triple
        for entry in np.flatnonzero((differ != 0) & ~triples).tolist():
            wire[entry] = self.pattern(entry).to_wire()
        return wire

    @classmethod
    def from_wire(cls, entries: Sequence[Any]) -> IdList:
        """List of the entries of a JSON request.

        Parameters
        ----------
        entries : sequence
            Integers, digit strings, ``'plate-mjd-fiberid'``, and arrays (plate[, mjd[, fiberid[, run2d]]]).

        Raises
        ------
        InvalidRequest
            Naming the first entry that is none of these, and its number in the list.
        """
        return _collect(entries)


def read_id_list(value: Any, *, files: bool = False) -> IdList:  # noqa: ANN401
    """Read a list of spectra in any of its forms.

    Parameters
    ----------
    value : object
        - a specobjid: an integer, or its digits as text;
        - a tuple (plate[, mjd[, fiberid[, run2d]]]), each a number, ``'*'``, a list, ``'a,b'`` or a range ``'1-5'``
          or ``'1:5'`` (for run2d: a name, a list of names, or ``'26,103'``);
        - a list, array, Series or column of these, mixed, or of texts ``'plate-mjd-fiberid'``;
        - a table (pandas, pyarrow, astropy, numpy) with a column specobjid, or plate, mjd and fiberid;
        - a text that holds any of these: see `specflight.catalog.idtext.parse_id_text`.
    files : bool
        Whether a path, and a text that is no list, may be the name of a file: see `read_id_file`.

    Raises
    ------
    InvalidRequest
        Naming the first entry that cannot be read, and its number in the list; or if there is no entry.

    Examples
    --------
    >>> read_id_list([(1963, 54331, "1-5"), "299489677444933632", (266, 51630, 1, "26")]).to_wire()
    [[1963, 54331, '1-5'], 299489677444933632, 299489677444933632]
    """
    if isinstance(value, os.PathLike) and files:
        return read_id_file(Path(value))
    if isinstance(value, str):
        return _read_text(value, files)
    if (columns := _id_columns(value)) is not None:
        items = [_items(column) for column in columns]
        return _collect(items[0] if len(items) == 1 else list(zip(*(_listed(item) for item in items), strict=True)))
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, int | np.integer) or (isinstance(value, tuple) and _is_group(value)):
        return _collect([value], bare=True)
    return _collect(_items(value))


def read_id_file(path: Path) -> IdList:
    """Read a file of spectra, one per line or as CSV.

    Parameters
    ----------
    path : Path
        A text file in UTF-8; see `specflight.catalog.idtext.parse_id_text`.

    Raises
    ------
    InvalidRequest
        If it cannot be read, or an entry of it cannot: the text names the file.
    """
    try:
        entries = parse_id_text(path.read_text(encoding="utf-8")).entries
        return _collect(entries)
    except OSError as error:
        raise InvalidRequest(f"ids: the file '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"ids: the file '{path}' is not a text of ids") from None
    except InvalidRequest as error:
        raise InvalidRequest(f"ids: in the file '{path}', {_reason(error)}") from None


def _read_text(text: str, files: bool) -> IdList:
    try:
        found = parse_id_text(text)
        return _collect(found.entries, bare=found.bare)
    except InvalidRequest as error:
        if not files or "\n" in text.strip() or not 0 < len(text) < _LONGEST_PATH:
            raise
        reason = _reason(error)
    path = Path(os.path.expanduser(text.strip()))
    if not path.is_file():
        raise InvalidRequest(f"ids: {shown(text)} is no list of ids ({reason}), and there is no file of that name")
    return read_id_file(path)


def _collect(entries: Sequence[Any] | NDArray[Any], *, bare: bool = False) -> IdList:
    """List of the entries; `bare`: there is but one, without a list around it."""
    if not len(entries):
        raise InvalidRequest("ids: the list is empty")
    ends = _ends(entries)
    if ends is not None:
        return IdList(*ends, single=bare)
    if bare and isinstance(entries[0], tuple) and not _is_group(entries[0]):
        entries, bare = entries[0], False
    if len(entries) > MAX_MIXED:
        raise LimitExceeded(f"ids: the list mixes more than {MAX_MIXED} entries of several kinds; send the specobjids")
    entries = _listed(entries)
    first, last = np.ones(len(entries), np.uint64), np.zeros(len(entries), np.uint64)
    patterns: dict[int, Pattern] = {}
    found: int | Pattern = 0
    for place in _fill(entries, first, last):
        try:
            found = _read_entry(entries[place])
        except InvalidRequest as error:
            raise InvalidRequest(f"ids: {'' if bare else f'entry {place + 1} of the list: '}{_reason(error)}") from None
        range_ = (found, found) if isinstance(found, int) else found.ends()
        if range_ is not None:
            first[place], last[place] = range_
        elif isinstance(found, Pattern):
            patterns[place] = found
    single = bare and (isinstance(found, int) or found.one)
    return IdList(first, last, MappingProxyType(patterns), single)


def _fill(entries: list[Any], first: NDArray[np.uint64], last: NDArray[np.uint64]) -> list[int]:
    """Fill in the ranges of the entries that can be read many at once; return the places of the others."""
    kinds: defaultdict[tuple[type, int], list[int]] = defaultdict(list)
    for place, entry in enumerate(entries):
        kinds[type(entry), len(entry) if isinstance(entry, list | tuple) else 0].append(place)
    others: list[int] = []
    for alike in kinds.values():
        # In pieces: one wildcard among many tuples leaves few to be read one by one.
        for places in (alike[start : start + _PIECE] for start in range(0, len(alike), _PIECE)):
            ends = _ends([entries[place] for place in places])
            if ends is None:
                others.extend(places)
            else:
                first[places], last[places] = ends
    return sorted(others)


def _ends(entries: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
    """First and last specobjid of each entry, if all are numbers, or all are single plates, MJDs, fibres (and run2d).

    None means that at least one entry has to be read by itself, or cannot be read.
    """
    try:
        ids = _integers(entries)
        if ids is not None:
            return ids, ids
        columns = _columns(entries)
        parts = [part for column in columns[:3] if (part := _integers(column)) is not None]
        reductions = columns[3] if len(columns) == 4 else ["0"]
        if len(parts) < 3 or not set(map(type, reductions)) <= {int, str} or max(map(len, map(str, reductions))) > 20:
            return None
        first = pack_specobjid(parts[0], parts[1], parts[2], np.array(list(map(str, reductions))))
    except (OverflowError, ValueError):
        return None
    return first, first if len(columns) == 4 else first | np.uint64(_ANY_REDUCTION)


def _columns(entries: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """Plates, MJDs, fibres and perhaps reductions of entries that all have the same three or four of them, or none."""
    if isinstance(entries, np.ndarray):
        return list(entries.T) if entries.ndim == 2 and entries.shape[1] in (3, 4) else []
    lengths = {len(entry) if isinstance(entry, list | tuple) else 0 for entry in entries}
    return list(zip(*entries, strict=True)) if lengths in ({3}, {4}) else []


def _integers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.uint64] | None:
    """Numbers, or texts of digits, as an array; None if they are not all of one kind, or one fits into no specobjid."""
    if isinstance(values, np.ndarray):
        array = np.asarray(values)
        whole = array.ndim == 1 and array.dtype.kind in "iu" and not (array < 0).any()
        return array.astype(np.uint64, copy=False) if whole else None
    kinds = set(map(type, values))
    if kinds == {str} and _is_digits("".join("".join(values).split())):
        values = list(map(int, values))
    elif kinds != {int}:
        return None
    return np.array(values, np.uint64)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read_entry(entry: object) -> int | Pattern:
    """One entry of a list; InvalidRequest if it is none."""
    if isinstance(entry, str):
        word = entry.strip()
        if word.isdigit():
            return parse_id(word)
        parts = split_name(word) or split_group(word)
        if parts is None:
            raise InvalidRequest(
                f"{shown(entry)} is neither a specobjid nor plate-mjd-fiberid nor a tuple (plate, mjd, fiberid, run2d)"
            )
        entry = parts
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()
    if isinstance(entry, list | tuple):
        if not _is_group(entry):
            raise InvalidRequest(
                f"{shown(entry)} is not a tuple (plate, mjd, fiberid, run2d) but a list within the list"
            )
        return Pattern.read(entry)
    return parse_id(entry.as_py() if hasattr(entry, "as_py") else entry)


def _is_group(value: Sequence[Any]) -> bool:
    """Whether a tuple or list can be plate, MJD, fibre and reduction, rather than a list of entries."""
    if not 1 <= len(value) <= 4:
        return False
    plate = value[0]
    if isinstance(plate, str):
        word = plate.strip()
        return word[:1] not in ("(", "[") and split_name(word) is None and not (word.isdigit() and len(word) > 6)
    if isinstance(plate, int | np.integer):
        return bool(plate <= LARGEST_PART)
    return not isinstance(plate, tuple)


def _items(value: Any) -> list[Any] | NDArray[Any]:  # noqa: ANN401
    """Entries of anything that can be gone through in order."""
    if hasattr(value, "null_count") and value.null_count:
        items: list[Any] = value.to_pylist()
        return items
    if hasattr(value, "__array__") and np.ndim(value):
        array = np.asanyarray(value)
        if np.ma.is_masked(array):
            return _listed(array)
        return np.char.decode(array, "latin-1") if array.dtype.kind == "S" else np.asarray(array)
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise InvalidRequest(f"ids: {shown(value)} is neither an id nor a list of ids")
    return list(value)


def _listed(items: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """Items as Python objects."""
    listed: list[Any] = items.tolist() if isinstance(items, np.ndarray) else list(items)
    return listed


def _id_columns(table: Any) -> list[Any] | None:  # noqa: ANN401
    """Columns of a table that identify spectra; None if it is no table."""
    if isinstance(table, np.ndarray):
        names = table.dtype.names
    else:
        given = (getattr(table, attribute, None) for attribute in ("column_names", "colnames", "columns"))
        names = next((names for names in given if names is not None), None)
    if names is None:
        return None
    columns = list(names)
    places = find_columns([str(name) for name in columns])
    if places is None:
        raise InvalidRequest(
            f"ids: the table has no column specobjid, nor plate, mjd and fiberid, but {shown(columns)}"
        )
    return [table[columns[place]] for place in places]


def _reason(error: InvalidRequest) -> str:
    return str(error).removeprefix("ids: ")
