"""The small interface behind which spectra lie, and what its two implementations share."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from specflight.errors import DamagedData
from specflight.flight.protocol import VECTORS, grid_loglam

__all__ = [
    "EXPLICIT",
    "NOT_FOUND",
    "NO_ID",
    "STORED",
    "SpectrumSource",
    "Words",
    "locate",
    "loglam_words",
    "original_bytes",
    "read_one",
]

NOT_FOUND = -1
"""Row of an identifier that a source does not have."""

MANY = 1000
"""Identifiers from which on sorting them first saves more than it costs: bisections then stay in the cache."""

NO_ID = 0
"""Stands for an identifier that is not known; no plate has the number 0."""

EXPLICIT = -(2**31)
"""k0 of a spectrum whose wavelengths are not on the SDSS grid."""

STORED = tuple(name for name in VECTORS if name != "loglam")
"""Columns that `SpectrumSource.words` gives, in order; ``loglam`` follows them where it is explicit."""

# Every wavelength of the SDSS grid from 1,000 Å to 100,000 Å: a slice is faster than computing it again.
_TABLE_START, _TABLE_END = 30_000, 50_000
_TABLE = grid_loglam(_TABLE_START, _TABLE_END - _TABLE_START).view(np.uint32)
_TABLE.setflags(write=False)


Words = NDArray[np.uint32]


class SpectrumSource(Protocol):
    """Where the spectra of a context are read from.

    Attributes
    ----------
    on_grid : bool
        Whether the wavelengths of every spectrum are those of the SDSS grid.
    ids : ndarray of uint64, shape (n,)
        specobjids, ascending; a spectrum's position among them is its row.
    k0 : ndarray of int32, shape (n,)
        First pixel on the SDSS grid, or `EXPLICIT`.
    npix : ndarray of int32, shape (n,)
        Number of pixels.
    """

    on_grid: bool
    ids: NDArray[np.uint64]
    k0: NDArray[np.int32]
    npix: NDArray[np.int32]

    def prefetch(self, rows: NDArray[np.int64], columns: slice) -> None:
        """Announce rows and columns that will be read, so that the disk can be asked for all of them at once."""

    def read(self, rows: NDArray[np.int64]) -> list[Words | DamagedData]:
        """Vectors of spectra as 32-bit words.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)

        Returns
        -------
        list of ndarray of uint32, each of shape (7 or 8, at least npix)
            The columns `STORED` and, where k0 is `EXPLICIT`, loglam; what follows the first npix words is padding.
            In the place of a spectrum whose file is missing, truncated or not what it was: what is wrong with it.
        """

    def original(self, row: int) -> tuple[str, bytes]:
        """Name and bytes of the FITS file that a spectrum comes from.

        Raises
        ------
        DamagedData
            If the file is gone.
        """


def locate(source: SpectrumSource, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Rows of identifiers in a source, `NOT_FOUND` for those that it does not have."""
    if not len(source.ids):
        return np.full(len(ids), NOT_FOUND, np.int64)
    if len(ids) > MANY:
        order = np.argsort(ids)
        found = np.empty(len(ids), np.int64)
        found[order] = _bisected(source, ids[order])
        return found
    return _bisected(source, ids)


def _bisected(source: SpectrumSource, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    rows = np.minimum(np.searchsorted(source.ids, ids), len(source.ids) - 1)
    rows[source.ids[rows] != ids] = NOT_FOUND
    return rows


def loglam_words(k0: int, npix: int) -> NDArray[np.uint32]:
    """Bit patterns of `grid_loglam`."""
    if k0 >= _TABLE_START and k0 + npix <= _TABLE_END:
        return _TABLE[k0 - _TABLE_START : k0 - _TABLE_START + npix]
    return grid_loglam(k0, npix).view(np.uint32)


def original_bytes(path: Path) -> tuple[str, bytes]:
    """Name and bytes of an original file."""
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise DamagedData(f"the original file {path.name} cannot be read: {error.strerror}") from None


def read_one(source: SpectrumSource, row: int) -> Words:
    """Vectors of one spectrum; see `SpectrumSource.read`.

    Raises
    ------
    DamagedData
        If it cannot be read; the text names the spectrum.
    """
    words = source.read(np.array([row]))[0]
    if isinstance(words, DamagedData):
        raise DamagedData(f"spectrum {source.ids[row]} cannot be read: {words}")
    return words
