"""HEALPix cells: the cell of a position, and the cells that cover a region.

Cells are numbered as in Górski et al. 2005 (doi:10.1086/427976), nested scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NO_POSITION",
    "Vector",
    "cell_centres",
    "cell_radius",
    "cover",
    "healpix_29",
    "neighbour_order",
    "neighbours",
    "unit_vectors",
]

Vector = NDArray[np.float64]
Cells = NDArray[np.int64]

NO_POSITION = np.iinfo(np.int64).max
"""Cell of a row without coordinates: sorts after the whole sky and lies in no region."""

# On the scale of a base cell: at no order is a point of a cell nearer to the cells beyond its neighbours. The limit of
# SMALLER_EDGE2OPEDGE_DIST of the cdshealpix library at high orders, where it is least.
_LEAST_WIDTH = 0.688
_COARSE_ORDER, _FINE_ORDER = 3, 13  # cells of 7.3 degrees and of 26 arcsec: a survey has few rows in the latter


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> tuple[Vector, Vector, Vector]:
    """Turn positions into unit vectors.

    Parameters
    ----------
    ra, dec : array_like of float
        Degrees.

    Returns
    -------
    x, y, z : ndarray of float64
        Of the shape of the input; NaN where a coordinate is not finite.
    """
    lon, lat = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    with np.errstate(invalid="ignore"):  # infinities become NaN
        across = np.cos(lat)
        return across * np.cos(lon), across * np.sin(lon), np.sin(lat)


def healpix_29(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.int64]:
    """Find the nested HEALPix cells of order 29 that positions lie in.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Degrees; any finite right ascension is wrapped.

    Returns
    -------
    ndarray of int64, shape (n,)
        `NO_POSITION` where a coordinate is not finite or a declination is beyond a pole.
    """
    from astropy import units
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    lon, lat = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    cells = np.full(lon.shape, NO_POSITION, np.int64)
    known = np.isfinite(lon) & (np.abs(lat) <= 90)
    if known.any():
        where = Longitude(lon[known], units.deg), Latitude(lat[known], units.deg)
        cells[known] = lonlat_to_healpix(*where, 29).astype(np.int64)
    return cells


def neighbour_order(radius: Vector) -> Cells:
    """Find the finest order at which a cell and its neighbours hold every circle around a point of the cell.

    Parameters
    ----------
    radius : ndarray of float64, shape (n,)
        Radii of circles in radians, up to 0.688.

    Returns
    -------
    ndarray of int64, shape (n,)
        0 to 29.
    """
    order = np.floor(np.log2(_LEAST_WIDTH / np.maximum(radius, 1e-9)))
    return np.clip(order, 0, 29).astype(np.int64)


def neighbours(cells: Cells, order: int) -> Cells:
    """Find the neighbours of nested cells of an order.

    Parameters
    ----------
    cells : ndarray of int64, shape (n,)
    order : int

    Returns
    -------
    ndarray of int64, shape (n, 9)
        Each cell and its neighbours; -1 for a neighbour that a cell at the corner of a base cell lacks.
    """
    from cdshealpix.nested import neighbours

    return np.asarray(neighbours(cells.astype(np.uint64), order), np.int64)


def cell_centres(cells: Cells, order: int) -> tuple[Vector, Vector, Vector]:
    """Find the centres of nested cells of an order, as unit vectors."""
    within = cells & (4**order - 1)
    return _cell_centres(cells >> 2 * order, _even_bits(within), _even_bits(within >> 1), order)


def cover(near: Callable[[Vector, Vector, Vector, float], NDArray[np.bool_]], radius: float) -> Cells:
    """Cover a region with cells.

    Parameters
    ----------
    near : callable
        ``near(x, y, z, distance)`` tells which unit vectors lie in the region or within `distance` radians of it.
    radius : float
        Radius in radians of a circle that holds the region; it decides how fine the cells are.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Ranges [first, last) of nested cells of order 29, ascending and disjoint, that hold all of the region.
    """
    order = _COARSE_ORDER
    # 0.285 rad / 2^k is half the least width of a cell; three orders below, 5 to 10 cells lie across the circle
    last = min(max(math.floor(math.log2(0.285 / radius)) + 3, _COARSE_ORDER), _FINE_ORDER)
    face, ix, iy, cells, x, y, z = _coarse_cells()
    while True:
        kept = np.flatnonzero(near(x, y, z, cell_radius(order)))
        cells = cells[kept]
        if order == last:
            break
        step = min(3, last - order)
        order += step
        face, ix, iy, cells = _children(face[kept], ix[kept], iy[kept], cells, step)
        x, y, z = _cell_centres(face, ix, iy, order)
    starts = np.flatnonzero(np.diff(cells, prepend=-2) != 1)
    ends = np.append(starts[1:], len(cells))[: len(starts)] - 1
    ranges: Cells = np.stack([cells[starts], cells[ends] + 1], axis=1) << 2 * (29 - order)
    return ranges


def cell_radius(order: int) -> float:
    """Bound the distance in radians of a cell's corners from its centre (`max_pixrad` of the HEALPix C++ library)."""
    n = 2**order
    za, zb, turn = 2 / 3, 1 - (1 - 1 / n) ** 2 / 3, math.pi / (4 * n)
    ra, rb = math.sqrt(1 - za * za), math.sqrt(1 - zb * zb)
    chord = math.dist((ra * math.cos(turn), ra * math.sin(turn), za), (rb, 0, zb))
    return 2 * math.asin(chord / 2) + 1e-12  # a position on a cell's edge may be rounded to either side


@lru_cache(maxsize=1)
def _coarse_cells() -> tuple[Cells, Cells, Cells, Cells, Vector, Vector, Vector]:
    """All cells of the coarsest order, as `_children` gives them, and their centres."""
    base = np.arange(12)
    face, ix, iy, cells = _children(base, np.zeros_like(base), np.zeros_like(base), base, _COARSE_ORDER)
    return face, ix, iy, cells, *_cell_centres(face, ix, iy, _COARSE_ORDER)


def _children(face: Cells, ix: Cells, iy: Cells, cells: Cells, step: int) -> tuple[Cells, Cells, Cells, Cells]:
    """Split cells into 4^step each: their face, column and row in the face, and nested number."""
    child, dx, dy = _child_offsets(step)
    return (
        np.repeat(face, child.size),
        ((ix[:, None] << step) + dx).ravel(),
        ((iy[:, None] << step) + dy).ravel(),
        ((cells[:, None] << 2 * step) + child).ravel(),
    )


@lru_cache(maxsize=4)
def _child_offsets(step: int) -> tuple[Cells, Cells, Cells]:
    """Number a cell's descendants in nested order, with their columns (even bits) and rows (odd bits)."""
    child = np.arange(4**step)
    dx = sum(((child >> 2 * bit) & 1) << bit for bit in range(step)) + np.zeros_like(child)
    dy = sum(((child >> 2 * bit + 1) & 1) << bit for bit in range(step)) + np.zeros_like(child)
    return child, dx, dy


def _even_bits(number: Cells) -> Cells:
    """Gather the even bits of numbers: a cell's column in its base cell; those of ``number >> 1`` are its row."""
    gathered = number & 0x5555555555555555
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        gathered = (gathered | gathered >> shift) & mask
    return gathered


def _cell_centres(face: Cells, ix: Cells, iy: Cells, order: int) -> tuple[Vector, Vector, Vector]:
    """Find the centres of cells as unit vectors (Górski et al. 2005, section 4.1, on the scale of a base cell)."""
    u, v = (ix + 0.5) * 0.5**order, (iy + 0.5) * 0.5**order
    ring = face // 4 + 2 - u - v  # 0 at the north pole, 4 at the south pole
    girth = np.minimum(np.minimum(ring, 4 - ring), 1)
    z = np.where(girth < 1, (1 - girth * girth / 3) * np.sign(2 - ring), (2 - ring) * (2 / 3))
    # longitude of the base cells' axes in units of 45 degrees: odd at the poles, even at the equator
    axis = 2 * (face % 4) + (face // 4 != 1)
    phi = math.pi / 4 * (axis + (u - v) / girth)
    across = np.sqrt(np.where(girth < 1, girth * girth / 3 * (1 + np.abs(z)), 1 - z * z))
    return across * np.cos(phi), across * np.sin(phi), z
