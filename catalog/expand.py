"""From a list of entries to the specobjids of a context: one set-based operation for the whole list.

The specobjids of a context are sorted, by their bits: plate, fibre, MJD, reduction. Entries that are a range of
specobjids are found by bisection, all of them at once. A pattern is looked for among the spectra of its plates
only, or, where that is less, of its plates and fibres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import FIBERID, MJD, PLATE, RUN2D, BitField
from specflight.catalog.idlists import IdList
from specflight.catalog.idpatterns import Pattern, Ranges
from specflight.errors import LimitExceeded

__all__ = ["Expansion", "expand"]

MAX_LOOKS = 500_000_000
"""Spectra that the patterns of one list may look at: 100 patterns on the whole survey, and a few seconds."""

# What a bisection, and what the preparation of a pattern cost, measured in spectra looked at.
_BISECTION_LOOKS = 64
_PATTERN_LOOKS = 16_384
_FEW_PLATES = 256
_CHUNK = 1 << 18  # spectra looked at together: their numbers stay in the processor's cache

_Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """Specobjids that a list stands for.

    Attributes
    ----------
    ids : ndarray of uint64, shape (m,)
        In the order of the list; the spectra of one entry by plate, MJD, fibre and reduction. Specobjids of the list
        are here whether or not there is such a spectrum.
    entry : ndarray of int64, shape (m,)
        Place in the list, from 0, of the entry that each comes from; ascending.
    unmatched : ndarray of int64, shape (k,)
        Places of the entries that match no spectrum; `IdList.pattern` names them.
    """

    ids: NDArray[np.uint64]
    entry: NDArray[np.int64]
    unmatched: NDArray[np.int64]


def expand(
    id_list: IdList, ids: NDArray[np.uint64], max_ids: int, check: Callable[[], None] = lambda: None
) -> Expansion:
    """Find the spectra of every entry of a list.

    Parameters
    ----------
    id_list : IdList
        The entries.
    ids : ndarray of uint64, shape (n,)
        Specobjids of the context, ascending.
    max_ids : int
        Most specobjids that the list may stand for.
    check : callable
        Called for each pattern; what it raises ends the search.

    Raises
    ------
    LimitExceeded
        If it stands for more, or if its patterns have to look at more than `MAX_LOOKS` spectra.

    Examples
    --------
    >>> from specflight.catalog.identifiers import pack_specobjid
    >>> from specflight.catalog.idlists import read_id_list
    >>> survey = np.sort(pack_specobjid(266, 51630, [1, 2, 3], "26"))
    >>> expand(read_id_list([(266, "*", "2-9"), (267, 51630, 1)]), survey, 100).entry.tolist()
    [0, 0]
    """
    counts = np.ones(len(id_list), np.int64)
    starts = np.zeros(len(id_list), np.int64)
    ranged = np.flatnonzero(id_list.first < id_list.last)
    starts[ranged], counts[ranged] = _between(ids, id_list.first[ranged], id_list.last[ranged])
    counts[list(id_list.patterns)] = 0
    room = max_ids - int(counts.sum())
    found: dict[int, _Rows] = {}
    search = _Search(ids)
    for place, pattern in id_list.patterns.items():
        check()
        if room < 0:
            break
        found[place] = search.rows(pattern, room)
        counts[place] = len(found[place])
        room -= len(found[place])
    if room < 0:
        raise LimitExceeded(f"ids: the list stands for more spectra than the limit max_ids = {max_ids}")
    entry = np.repeat(np.arange(len(id_list)), counts)
    expanded = np.repeat(id_list.first, counts)
    before = np.cumsum(counts) - counts
    expanded[_runs(before[ranged], counts[ranged])] = ids[_runs(starts[ranged], counts[ranged])]
    for place, rows in found.items():
        expanded[before[place] : before[place] + len(rows)] = ids[rows]
    several = np.flatnonzero(counts[entry] > 1)
    chosen = expanded[several]
    expanded[several] = chosen[np.lexsort((_by_mjd(chosen), entry[several]))]
    return Expansion(expanded, entry, np.flatnonzero(counts == 0))


class _Search:
    """Search for one pattern after the other, within a limit that holds for all of them together."""

    def __init__(self, ids: NDArray[np.uint64]) -> None:
        self._ids = ids
        self._looks = MAX_LOOKS

    def rows(self, pattern: Pattern, room: int) -> _Rows:
        """Places of the spectra that match, ascending; those beyond `room` may be left out but for one."""
        starts, counts = self._near(pattern)
        self._spend(_PATTERN_LOOKS + int(counts.sum()))
        matches = _test(pattern)
        kept: list[_Rows] = [np.empty(0, np.int64)]
        ends = np.cumsum(counts)
        first = 0
        while first < len(counts) and room >= 0:
            last = max(first + 1, int(np.searchsorted(ends, ends[first] - counts[first] + _CHUNK, "right")))
            rows = _runs(starts[first:last], counts[first:last])
            kept.append(rows[matches(self._ids[rows])])
            room -= len(kept[-1])
            first = last
        return np.concatenate(kept)

    def _near(self, pattern: Pattern) -> tuple[_Rows, _Rows]:
        """Starts and lengths of the stretches of specobjids in which all that match lie."""
        plates = _values(PLATE, pattern.plate)
        if len(plates) > _FEW_PLATES:
            bounds = self._bounds
            starts, counts = bounds[plates], bounds[plates + 1] - bounds[plates]
        else:
            starts, counts = _between(self._ids, *_span(PLATE, plates, plates))
        present = counts > 0
        plates, starts, counts = plates[present], starts[present], counts[present]
        low, high = np.array(_within(FIBERID, pattern.fiberid), np.int64).reshape(-1, 2).T
        bisections = len(plates) * len(low)
        if bisections * _BISECTION_LOOKS >= counts.sum():
            return starts, counts
        self._spend(bisections * _BISECTION_LOOKS)
        plate_bits = _span(PLATE, plates, plates)[0][:, None]
        first, last = _span(FIBERID, low, high)
        return _between(self._ids, (plate_bits | first).ravel(), (plate_bits | last).ravel())

    @cached_property
    def _bounds(self) -> _Rows:
        """Place of the first specobjid of every plate that can be, and the end of the last."""
        plates = np.arange(PLATE.largest + 1)
        bounds: _Rows = np.append(np.searchsorted(self._ids, _span(PLATE, plates, plates)[0]), len(self._ids))
        return bounds

    def _spend(self, looks: int) -> None:
        self._looks -= looks
        if self._looks < 0:
            raise LimitExceeded(
                f"ids: the patterns of the list look at more than {MAX_LOOKS} spectra: give plates in place of '*'"
            )


def _test(pattern: Pattern) -> Callable[[NDArray[np.uint64]], NDArray[np.bool_]]:
    """Whether specobjids have the fibre, MJD and reduction of a pattern."""
    mask = value = 0
    tables: list[tuple[BitField, NDArray[np.bool_]]] = []
    for part, ranges in ((FIBERID, pattern.fiberid), (MJD, pattern.mjd), (RUN2D, pattern.run2d)):
        if ranges is None:
            continue
        values = _values(part, ranges) - part.origin
        if len(values) == 1:
            mask |= part.largest - part.origin << part.shift
            value |= int(values[0]) << part.shift
        else:
            table = np.zeros(part.largest - part.origin + 1, np.bool_)
            table[values] = True
            tables.append((part, table))

    def matches(ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (ids & np.uint64(mask)) == np.uint64(value)
        for part, table in tables:
            found &= table[part.of(ids) - part.origin]
        return found

    return matches


def _within(part: BitField, ranges: Ranges | None) -> list[tuple[int, int]]:
    """Ranges of the values that a specobjid can hold."""
    every = ((part.origin, part.largest),)
    clipped = ((max(low, part.origin), min(high, part.largest)) for low, high in (every if ranges is None else ranges))
    return [(low, high) for low, high in clipped if low <= high]


def _values(part: BitField, ranges: Ranges | None) -> _Rows:
    """All values in the ranges that a specobjid can hold, ascending."""
    return np.concatenate([np.empty(0, np.int64), *(np.arange(low, high + 1) for low, high in _within(part, ranges))])


def _span(part: BitField, low: _Rows, high: _Rows) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Bits of a part and of all below it: the least for `low`, the greatest for `high`."""
    shift = np.uint64(part.shift)
    return low.astype(np.uint64) << shift, (high.astype(np.uint64) << shift) | np.uint64((1 << part.shift) - 1)


def _between(ids: NDArray[np.uint64], first: NDArray[np.uint64], last: NDArray[np.uint64]) -> tuple[_Rows, _Rows]:
    """Place of the first specobjid in each range, ends included, and how many there are."""
    starts = np.searchsorted(ids, first)
    return starts, np.searchsorted(ids, last, "right") - starts


def _runs(starts: _Rows, counts: _Rows) -> _Rows:
    """Numbers of all stretches, one behind the other."""
    before = np.cumsum(counts) - counts
    runs: _Rows = np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
    return runs


def _by_mjd(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers that sort as plate, MJD, fibre and reduction do."""
    fibre_and_mjd = FIBERID.bits + MJD.bits
    kept = ids & ~np.uint64((1 << fibre_and_mjd) - 1 << MJD.shift)
    mjd = (MJD.of(ids) - MJD.origin).astype(np.uint64) << np.uint64(MJD.shift + FIBERID.bits)
    key: NDArray[np.uint64] = kept | mjd | FIBERID.of(ids).astype(np.uint64) << np.uint64(MJD.shift)
    return key
