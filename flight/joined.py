"""Several sources of spectra as one: where a context lets other releases stand in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.source import EXPLICIT, NOT_FOUND, SpectrumSource, Words, locate

__all__ = ["JoinedSource"]


class JoinedSource:
    """Spectra of several sources; a `specflight.flight.source.SpectrumSource`.

    Parameters
    ----------
    sources : sequence of SpectrumSource
        Of an identifier that several have, the first gives the spectrum.
    wanted : ndarray of uint64 or None
        Identifiers to join, in any order and repeated or not: then the join costs no more than looking these up, and
        holds nothing but them. None stands for all that the sources have, 24 bytes of memory for each.
    """

    def __init__(self, sources: Sequence[SpectrumSource], wanted: NDArray[np.uint64] | None = None) -> None:
        self._sources = tuple(sources)
        ids = _distinct(np.concatenate([source.ids for source in sources]) if wanted is None else wanted)
        owner = np.full(len(ids), NOT_FOUND, np.int32)
        rows = np.full(len(ids), NOT_FOUND, np.int32)
        k0, npix = np.zeros(len(ids), np.int32), np.zeros(len(ids), np.int32)
        for number, source in enumerate(sources):
            left = np.flatnonzero(owner == NOT_FOUND)
            places = locate(source, ids[left])
            left, places = left[places != NOT_FOUND], places[places != NOT_FOUND]
            owner[left], rows[left] = number, places
            k0[left], npix[left] = source.k0[places], source.npix[places]
        found = owner != NOT_FOUND
        self.ids: NDArray[np.uint64] = ids[found]
        self.k0: NDArray[np.int32] = k0[found]
        self.npix: NDArray[np.int32] = npix[found]
        self.on_grid = not bool((self.k0 == EXPLICIT).any())
        self._owner, self._rows = owner[found], rows[found]

    def source_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the sources the spectra come from.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of the join, or `NOT_FOUND`.

        Returns
        -------
        ndarray of int64, shape (n,)
            Numbers of sources, or `NOT_FOUND`.
        """
        numbers = np.full(len(rows), NOT_FOUND, np.int64)
        found = rows != NOT_FOUND
        numbers[found] = self._owner[rows[found]]
        return numbers

    def _shares(self, rows: NDArray[np.int64]) -> Iterator[tuple[SpectrumSource, NDArray[np.int64], NDArray[np.int64]]]:
        """Each source with a share in some rows: it, where among the rows its share stands, and its own rows."""
        owner, local = self._owner[rows], self._rows[rows].astype(np.int64)
        for number in np.unique(owner).tolist():
            places = np.flatnonzero(owner == number)
            yield self._sources[number], places, local[places]

    def prefetch(self, rows: NDArray[np.int64], columns: slice) -> None:
        """See `SpectrumSource.prefetch`."""
        for source, _, own in self._shares(rows):
            source.prefetch(own, columns)

    def read(self, rows: NDArray[np.int64]) -> list[Words | DamagedData]:
        """See `SpectrumSource.read`; what the sources give, without a copy."""
        words: dict[int, Words | DamagedData] = {}
        for source, places, own in self._shares(rows):
            words.update(zip(places.tolist(), source.read(own), strict=True))
        return [words[place] for place in range(len(rows))]

    def original(self, row: int) -> tuple[str, bytes]:
        """See `SpectrumSource.original`."""
        source: SpectrumSource = self._sources[int(self._owner[row])]
        return source.original(int(self._rows[row]))


def _distinct(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # np.unique hashes: 27 s for 20 million distinct ids, where this takes 1 s.
    ordered = np.sort(ids)
    last: NDArray[np.bool_] = np.append(ordered[1:] != ordered[:-1], np.ones(len(ordered[:1]), np.bool_))
    return ordered[last]
