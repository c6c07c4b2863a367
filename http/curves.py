"""What a picture shows of the pixels of a spectrum: which are good, smoothing, the range of fluxes, pixel columns.

Pictures have fewer columns than spectra have pixels. Nothing is averaged away: for every column the range of all that
falls into it is kept, so that a spike of one pixel stays visible at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Polyline", "Trace", "column_means", "column_ranges", "flux_limits", "read_trace", "smoothed"]

Floats = NDArray[np.float64]

_LARGEST_LOGLAM = 300.0  # 10 to that is still a float64
_WEAK = 0.05  # of the median ivar: noisier pixels do not set the range of fluxes
_QUANTILES = (0.005, 0.5, 0.995)
_LINE_PIXELS = 5  # a feature as wide as a resolution element outlives a running median of so many pixels
_TALLEST = 12.0  # peaks up to so many times the continuum or its range are shown whole
_FLATTEST = 0.1  # of the flux: no smaller range is shown
_NEAR_ZERO = 0.6  # zero is shown where the faint end is below that fraction of the bright end


@dataclass(frozen=True, slots=True)
class Polyline:
    """A curve in pieces; between pieces nothing is drawn.

    Attributes
    ----------
    x, y : ndarray of float64, shape (n,)
        Its points; `x` increases.
    piece : ndarray of int64, shape (n,)
        Number of the piece that a point belongs to; never decreases.
    """

    x: Floats
    y: Floats
    piece: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trace:
    """The pixels of a spectrum from its first to its last good one.

    Attributes
    ----------
    edges : ndarray of float64, shape (npix + 1,)
        Wavelengths where pixels begin and end, Å.
    wavelength : ndarray of float64, shape (npix,)
        Of the pixels' centres, Å.
    flux, ivar : ndarray of float64, shape (npix,)
        0 where a pixel is not good.
    good : ndarray of bool, shape (npix,)
        Pixels with finite values and an inverse variance above 0.
    typical : float
        Median of the inverse variances of good pixels.
    model, sky : ndarray of float64, shape (npix,), or None
        Overlays that were asked for.
    """

    edges: Floats
    wavelength: Floats
    flux: Floats
    ivar: Floats
    good: NDArray[np.bool_]
    typical: float
    model: Floats | None
    sky: Floats | None

    @property
    def span(self) -> tuple[float, float]:
        """First and last wavelength, edge to edge, Å."""
        return float(self.edges[0]), float(self.edges[-1])

    def line(self, values: Floats, shown: NDArray[np.bool_]) -> Polyline:
        """Return the curve of some values through the pixels to be shown, each drawn to its edges.

        Parameters
        ----------
        values : ndarray, shape (npix,)
        shown : ndarray of bool, shape (npix,)
            A pixel that is not shown ends a piece.
        """
        padded = np.concatenate(([False], shown, [False]))
        begins = np.flatnonzero(padded[1:-1] & ~padded[:-2])
        ends = np.flatnonzero(padded[1:-1] & ~padded[2:])
        inside = np.flatnonzero(shown)
        piece = np.cumsum(padded[1:-1] & ~padded[:-2])[inside] - 1
        # Stable by index and kind: the left edge of a piece, its pixels, its right edge.
        before = np.searchsorted(inside, begins)
        after = np.searchsorted(inside, ends) + 1
        where = np.concatenate((before, after))
        return Polyline(
            np.insert(self.wavelength[inside], where, np.concatenate((self.edges[begins], self.edges[ends + 1]))),
            np.insert(values[inside], where, np.concatenate((values[begins], values[ends]))),
            np.insert(piece, where, np.concatenate((np.arange(len(begins)), np.arange(len(begins))))),
        )


def read_trace(spectrum: NDArray[np.void], *, smooth: int, redshift: float, model: bool, sky: bool) -> Trace | None:
    """Take what is drawn out of a spectrum.

    Parameters
    ----------
    spectrum : structured ndarray, shape (npix,)
        With ``loglam``, ``flux`` and ``ivar``; ``model`` and ``sky`` where they are to be drawn.
    smooth : int
        Width of the boxcar in pixels; see `smoothed`.
    redshift : float
        Wavelengths are divided by 1 + `redshift`.
    model, sky : bool
        Overlays to take.

    Returns
    -------
    Trace or None
        None where there is no good pixel.
    """
    loglam, flux, ivar = (spectrum[name].astype(np.float64) for name in ("loglam", "flux", "ivar"))
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0) & (np.abs(loglam) < _LARGEST_LOGLAM)
    found = np.flatnonzero(good)
    if not len(found):
        return None
    kept = slice(int(found[0]), int(found[-1]) + 1)
    loglam, good = loglam[kept], good[kept]
    half = 0.5 * np.diff(loglam) if len(loglam) > 1 else np.array([0.5e-4])
    edges = np.concatenate((loglam[:1] - half[:1], loglam[:-1] + half[: len(loglam) - 1], loglam[-1:] + half[-1:]))
    flux, ivar = np.where(good, flux[kept], 0.0), np.where(good, ivar[kept], 0.0)
    overlays = [
        spectrum[name][kept].astype(np.float64) if wanted else None for name, wanted in (("model", model), ("sky", sky))
    ]
    return Trace(
        10**edges / (1 + redshift),
        10**loglam / (1 + redshift),
        smoothed(flux, ivar, smooth),
        ivar,
        good,
        float(np.median(ivar[good])),
        *overlays,
    )


def smoothed(flux: Floats, ivar: Floats, width: int) -> Floats:
    """Average fluxes in a boxcar, weighted by inverse variance.

    Parameters
    ----------
    flux, ivar : ndarray, shape (npix,)
        A pixel whose `ivar` is 0 contributes nothing.
    width : int
        Pixels of the boxcar, centred: an even width takes half of the pixels at both ends. Up to 1 does nothing.

    Returns
    -------
    ndarray of float64, shape (npix,)
        0 where no pixel of the boxcar has weight.
    """
    if width <= 1:
        return flux
    half = width // 2
    box = np.ones(2 * half + 1)
    if width % 2 == 0:
        box[[0, -1]] = 0.5
    middle = slice(half, half + len(flux))
    # Relative weights: products of large fluxes and inverse variances stay finite.
    weight = ivar / ivar.max(initial=1e-300)
    total = np.convolve(weight, box)[middle]
    return np.divide(np.convolve(flux * weight, box)[middle], total, out=np.zeros(len(flux)), where=total > 0)


def flux_limits(trace: Trace) -> tuple[float, float]:
    """Range of fluxes worth showing.

    It holds the continuum (percentiles 0.5 to 99.5 of the pixels with a fair inverse variance) and features at least
    three pixels wide (extremes of a running median), up to 12 times as tall as the continuum or its range. Cosmic rays
    and the noisy ends do not count. Zero is included where it is near.

    Returns
    -------
    tuple of float
        Lower and upper limit; the lower is less.
    """
    fair = trace.good & (trace.ivar >= _WEAK * trace.typical)
    flux = trace.flux[fair]
    ordered = np.sort(flux)
    low, middle, high = (ordered[round(part * (len(flux) - 1))] for part in _QUANTILES)
    if len(flux) >= _LINE_PIXELS:
        wide = _running_median(flux)
        below, above = wide.min(), wide.max()
    else:
        below, above = flux.min(), flux.max()
    reach = _TALLEST * max(high - low, abs(middle))
    low = max(min(low, below), middle - reach)
    high = min(max(high, above), middle + reach)
    if 0 < low < _NEAR_ZERO * high:
        low = 0.0
    elif 0 > high > _NEAR_ZERO * low:
        high = 0.0
    room = max(0.06 * (high - low), 0.5 * (_FLATTEST * abs(middle) - (high - low))) or 1.0
    return float(low - room), float(high + room)


def _running_median(values: Floats) -> Floats:
    """Median of every five neighbours, by comparing in pairs: sorting is ten times slower."""
    a, b, c, d, e = (values[shift : len(values) + 1 - _LINE_PIXELS + shift] for shift in range(_LINE_PIXELS))
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.maximum(np.minimum(low, high), np.minimum(e, np.maximum(low, high)))


def _columns(x: Floats, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], slice]:
    """Columns with points, where each begins among the points of a slice, and that slice."""
    inside = slice(*np.searchsorted(x, (first, first + count)).tolist())
    column = x[inside].astype(np.int64) - first
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    return column[starts], starts, inside


def column_ranges(line: Polyline, first: int, count: int) -> tuple[Floats, Floats]:
    """Least and greatest value of a curve within pixel columns.

    Parameters
    ----------
    line : Polyline
        In pixels of the picture; column k reaches from k to k + 1.
    first, count : int
        The columns.

    Returns
    -------
    tuple of ndarray of float64, shape (count,)
        Least and greatest value, its straight segments included; NaN where the curve has a gap.
    """
    least, greatest = np.full(count, np.inf), np.full(count, -np.inf)
    if len(line.x):
        column, starts, inside = _columns(line.x, first, count)
        if len(starts):
            least[column] = np.minimum.reduceat(line.y[inside], starts)
            greatest[column] = np.maximum.reduceat(line.y[inside], starts)
        border = np.arange(first, first + count + 1)
        after = np.searchsorted(line.x, border)
        passed = (after > 0) & (after < len(line.x))
        passed[passed] = line.piece[after[passed] - 1] == line.piece[after[passed]]
        value = np.interp(border, line.x, line.y)
        for side in (passed[1:], value[1:]), (passed[:-1], value[:-1]):
            np.minimum(least, side[1], out=least, where=side[0])
            np.maximum(greatest, side[1], out=greatest, where=side[0])
    empty = least > greatest
    least[empty] = greatest[empty] = np.nan
    return least, greatest


def column_means(x: Floats, y: Floats, weight: Floats, first: int, count: int) -> Polyline:
    """Average points within pixel columns.

    Parameters
    ----------
    x, y, weight : ndarray, shape (n,)
        `x` increases, in pixels of the picture; `weight` is at least 0.
    first, count : int
        The columns.

    Returns
    -------
    Polyline
        One point at the centre of every column with weight; columns without end a piece.
    """
    column, starts, inside = _columns(x, first, count)
    if not len(starts):
        return Polyline(np.empty(0), np.empty(0), np.empty(0, np.int64))
    total = np.add.reduceat(weight[inside], starts)
    value = np.add.reduceat(weight[inside] * y[inside], starts)
    held = total > 0
    column = column[held]
    piece = np.cumsum(np.diff(column, prepend=column[:1]) > 1, dtype=np.int64)
    return Polyline(column.astype(np.float64) + (first + 0.5), value[held] / total[held], piece)
