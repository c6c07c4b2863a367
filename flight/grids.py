"""Common wavelength grids of spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specflight.errors import InvalidRequest
from specflight.flight.protocol import PIXEL
from specflight.flight.source import EXPLICIT, NOT_FOUND, STORED, SpectrumSource, loglam_words, read_one

__all__ = ["Grid", "common_grid", "cutout_grid", "given_grid", "span"]


@dataclass(frozen=True, slots=True)
class Grid:
    """A common grid: pixels k0 to k0 + npix - 1 of ``log10(wavelength / Å) = 1e-4 k``."""

    k0: int
    npix: int


def _on_grid(source: SpectrumSource, rows: NDArray[np.int64], parameter: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows[rows != NOT_FOUND]
    odd = found[source.k0[found] == EXPLICIT]
    if len(odd):
        raise InvalidRequest(
            f"{parameter}: spectrum {source.ids[odd[0]]} is not on the grid log10(wavelength) = 1e-4 k of the others"
        )
    return found


def given_grid(source: SpectrumSource, rows: NDArray[np.int64], grid: tuple[int, int]) -> Grid:
    """Grid that a request names.

    Raises
    ------
    InvalidRequest
        If a spectrum is not on the SDSS grid.
    """
    _on_grid(source, rows, "grid")
    return Grid(*grid)


def common_grid(source: SpectrumSource, rows: NDArray[np.int64]) -> Grid:
    """Smallest grid that holds all of some spectra.

    Raises
    ------
    InvalidRequest
        If a spectrum is not on the SDSS grid, or there is none.
    """
    found = _on_grid(source, rows, "align")
    if not len(found):
        raise InvalidRequest("align: there is no spectrum to align")
    k0 = source.k0[found]
    first = int(k0.min())
    return Grid(first, int((k0 + source.npix[found]).max()) - first)


def cutout_grid(source: SpectrumSource, rows: NDArray[np.int64], cutout: tuple[float, float]) -> Grid:
    """Pixels between two wavelengths, both included.

    Parameters
    ----------
    cutout : (float, float)
        Å, vacuum.

    Raises
    ------
    InvalidRequest
        If no pixel of the grid lies there, or no spectrum has any data there.
    """
    low, high = cutout
    # One pixel more on either side, then the exact test on the float32 wavelengths that users see.
    first = int(np.floor(np.log10(low) / PIXEL)) - 1
    last = int(np.ceil(np.log10(high) / PIXEL)) + 1
    wavelength = 10.0 ** loglam_words(first, last - first + 1).view(np.float32).astype(np.float64)
    inside = np.flatnonzero((wavelength >= low) & (wavelength <= high))
    if not len(inside):
        raise InvalidRequest(f"cutout: no pixel lies between {low:g} and {high:g} Angstrom")
    grid = Grid(first + int(inside[0]), len(inside))
    found = _on_grid(source, rows, "cutout")
    overlap = (source.k0[found] < grid.k0 + grid.npix) & (source.k0[found] + source.npix[found] > grid.k0)
    if not overlap.any():
        low_end, high_end = span(source, rows)
        raise InvalidRequest(
            f"cutout: {low:g}-{high:g} Angstrom is outside of the data ({10**low_end:.1f}-{10**high_end:.1f} Angstrom)"
        )
    return grid


def span(source: SpectrumSource, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Lowest and highest loglam of some spectra, as the float32 values that are stored.

    Raises
    ------
    InvalidRequest
        If there is no spectrum.
    """
    found = np.unique(rows[rows != NOT_FOUND])
    if not len(found):
        raise InvalidRequest("ids: there is no spectrum whose wavelengths could be told")
    explicit = source.k0[found] == EXPLICIT
    lows, highs = [], []
    if not explicit.all():
        grid = common_grid(source, found[~explicit])
        limits = loglam_words(grid.k0, grid.npix).view(np.float32)
        lows.append(float(limits[0]))
        highs.append(float(limits[-1]))
    for row in found[explicit].tolist():
        loglam = read_one(source, row)[len(STORED)].view(np.float32)
        lows.append(float(loglam[0]))
        highs.append(float(loglam[int(source.npix[row]) - 1]))
    return min(lows), max(highs)
