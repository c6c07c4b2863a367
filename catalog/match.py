"""Cross-matching: the rows of a table that lie within a radius of each of many positions.

The cells that a circle may reach are looked up in the sky index, split where they hold many rows, and given up where
they are out of reach; the rows of the cells that remain are compared one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specflight.catalog.healpix import (
    Vector,
    cell_centres,
    cell_radius,
    healpix_29,
    neighbour_order,
    neighbours,
    unit_vectors,
)
from specflight.catalog.regions import ON_RIM
from specflight.catalog.sky import SkyIndex
from specflight.errors import InvalidRequest, LimitExceeded

__all__ = ["MAX_RADIUS", "Matches", "match_positions"]

Rows = NDArray[np.int64]

MAX_RADIUS = 30.0
"""Degrees: beyond 39, a circle reaches farther than the neighbours of a base cell."""

_CHUNK = 10_000  # positions at once, and
_BLOCK = 200_000  # pairs compared at once: most requests take below 100 MB beside their answer
_FEW_ROWS = 256  # comparing them is cheaper than splitting their cell
_FINE_ORDER = 13  # cells of 26 arcsec: a survey has few rows in one
_FINER = 2  # orders: where all rows are wanted, cells of a quarter of the radius waste little


@dataclass(frozen=True)
class Matches:
    """Pairs of a position and a row, in order of position, separation and row.

    Attributes
    ----------
    position : ndarray of int64, shape (m,)
        Place of the position in the request, from 0.
    row : ndarray of int64, shape (m,)
        Row number in the table.
    separation : ndarray of float64, shape (m,)
        Degrees.
    """

    position: Rows
    row: Rows
    separation: Vector

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class _Reach:
    """Cells of one order with the rows in them, each near to one of the positions; all arrays have shape (n,)."""

    position: Rows
    cell: Rows
    first: Rows
    last: Rows

    def __getitem__(self, chosen: NDArray[np.bool_] | slice) -> _Reach:
        return _Reach(self.position[chosen], self.cell[chosen], self.first[chosen], self.last[chosen])


def match_positions(
    sky: SkyIndex,
    ra: ArrayLike,
    dec: ArrayLike,
    radius: float,
    *,
    nearest: bool,
    max_pairs: int,
    check: Callable[[], None] = lambda: None,
) -> Matches:
    """Find the rows within a radius of each of many positions.

    Parameters
    ----------
    sky : SkyIndex
        Of the table.
    ra, dec : array_like of float, shape (n,)
        Positions in degrees, in the frame of the table.
    radius : float
        Degrees, above 0 and up to `MAX_RADIUS`; a row on the rim matches.
    nearest : bool
        Only the nearest row of each position, of equally near ones the first; otherwise all rows.
    max_pairs : int
        Most pairs that may be found.
    check : callable
        Called every now and then; what it raises ends the search.

    Returns
    -------
    Matches
        Separations are exact to 2e-9 arcsec.

    Raises
    ------
    InvalidRequest
        If the radius or a position is out of range; positions are counted from 0.
    LimitExceeded
        If there are more pairs than `max_pairs`.
    """
    if not 0 < radius <= MAX_RADIUS:
        raise InvalidRequest(f"radius: {radius} is not above 0 and up to {MAX_RADIUS:g} degrees")
    lon, lat = _checked(ra, dec)
    cells = healpix_29(lon, lat)
    by_cell = np.argsort(cells)  # positions near to each other look at the same rows
    cells, vectors = cells[by_cell], np.stack(unit_vectors(lon[by_cell], lat[by_cell]))
    farthest = np.full(len(cells), math.radians(radius))
    orders = neighbour_order(farthest)
    if nearest:
        farthest = np.fmin(farthest, _guess(sky, vectors, cells))
        orders = np.maximum(orders, np.minimum(neighbour_order(farthest), _FINE_ORDER))
    found = [_NOTHING]
    for order in np.unique(orders).tolist():
        members = np.flatnonzero(orders == order)
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            reach, within = _reach(sky, vectors[:, chunk], cells[chunk], farthest[chunk], order, check, nearest=nearest)
            parts = [_NOTHING]
            for part in _compared(sky, vectors[:, chunk], reach, within):
                check()
                parts.append(_first_of_each(part) if nearest else part)
                if not nearest:
                    _check_pairs([*found, *parts], max_pairs, radius)
            matches = _first_of_each(_joined(parts)) if nearest else _joined(parts)
            separation = np.minimum(np.degrees(matches.separation), radius)
            found.append(Matches(by_cell[chunk[matches.position]], matches.row, separation))
            _check_pairs(found, max_pairs, radius)
    return _sorted(_joined(found))


def _checked(ra: ArrayLike, dec: ArrayLike) -> tuple[Vector, Vector]:
    lon, lat = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    if lon.ndim != 1 or lon.shape != lat.shape:
        raise InvalidRequest(f"ra, dec: shapes {lon.shape} and {lat.shape} are not two columns of one length")
    for name, values, known in (("ra", lon, np.isfinite(lon)), ("dec", lat, np.abs(lat) <= 90)):
        if not known.all():
            row = int(np.argmin(known))
            needed = "a finite number" if name == "ra" else "between -90 and 90 degrees"
            raise InvalidRequest(f"{name}: row {row} is {values[row]} and not {needed}")
    return lon, lat


def _check_pairs(found: list[Matches], max_pairs: int, radius: float) -> None:
    if sum(map(len, found)) > max_pairs:
        raise LimitExceeded(
            f"max_pairs: more than {max_pairs} pairs lie within {radius} degrees of each other; take a smaller radius"
        )


def _guess(sky: SkyIndex, vectors: Vector, cells: Rows) -> Vector:
    """Find a distance in radians within which each position has a row: that of the rows next to it in cell order."""
    if not len(sky):
        return np.full(len(cells), np.nan)
    place = np.searchsorted(sky.cells, cells)
    rows = np.clip([place - 1, place], 0, len(sky) - 1)
    return np.asarray(
        np.fmin(_separation(vectors, _vectors(sky, rows[0])), _separation(vectors, _vectors(sky, rows[1])))
    )


def _reach(
    sky: SkyIndex,
    vectors: Vector,
    cells: Rows,
    farthest: Vector,
    order: int,
    check: Callable[[], None],
    *,
    nearest: bool,
) -> tuple[_Reach, Vector]:
    """Find the cells whose rows have to be compared with each position, and how far away these may be.

    `farthest` tells how many radians away a row may be, less than the width of a cell of this order; where only the
    nearest row is wanted, it shrinks as rows are seen.
    """
    deepest = 29 if nearest else min(order + _FINER, 29)
    farthest = farthest.copy()
    near = neighbours(cells >> 2 * (29 - order), order)
    position, column = np.nonzero(near >= 0)
    reach = _filled(sky, position, near[position, column], order)
    kept, least = [reach[:0]], [np.empty(0)]
    while len(reach.position):
        check()
        seen = vectors[:, reach.position]
        if nearest:
            np.minimum.at(farthest, reach.position, _separation(seen, _vectors(sky, reach.first)))
        nearby = _separation(seen, np.stack(cell_centres(reach.cell, order))) - cell_radius(order)
        useful = nearby <= farthest[reach.position]
        done = useful & ((reach.last - reach.first <= _FEW_ROWS) | (order == deepest))
        kept.append(reach[done])
        least.append(nearby[done])
        split = reach[useful & ~done]
        order += 1
        children = (split.cell[:, None] * 4 + np.arange(4)).ravel()
        reach = _filled(sky, np.repeat(split.position, 4), children, order)
    found = _Reach(
        np.concatenate([part.position for part in kept]),
        np.concatenate([part.cell for part in kept]),
        np.concatenate([part.first for part in kept]),
        np.concatenate([part.last for part in kept]),
    )
    return found[np.concatenate(least) <= farthest[found.position]], farthest


def _filled(sky: SkyIndex, position: Rows, cell: Rows, order: int) -> _Reach:
    """Look up the rows of cells and leave out those that have none."""
    shift = 2 * (29 - order)
    first = np.searchsorted(sky.cells, cell << shift)
    filled = np.flatnonzero(first < len(sky))
    filled = filled[sky.cells[first[filled]] >> shift == cell[filled]]
    last = np.searchsorted(sky.cells, (cell[filled] + 1) << shift)
    return _Reach(position[filled], cell[filled], first[filled], last)


def _compared(sky: SkyIndex, vectors: Vector, reach: _Reach, farthest: Vector) -> Iterator[Matches]:
    """Compare positions with the rows of their cells, some at a time; separations are in radians here."""
    limits = (2 * np.sin((farthest + ON_RIM) / 2)) ** 2
    ends = np.cumsum(reach.last - reach.first)
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _BLOCK, "right")), start + 1)
        part = reach[start:stop]
        counts = part.last - part.first
        rows = np.arange(counts.sum()) + np.repeat(part.last - np.cumsum(counts), counts)
        square = np.zeros(len(rows))
        for ours, theirs in zip(vectors[:, part.position], (sky.x, sky.y, sky.z), strict=True):
            square += (np.repeat(ours, counts) - theirs[rows]) ** 2
        within = np.flatnonzero(square <= np.repeat(limits[part.position], counts))
        position = part.position[np.searchsorted(ends[start:stop] - before, within, "right")]
        yield Matches(position, rows[within], _angle(square[within]))
        start = stop


def _vectors(sky: SkyIndex, rows: Rows) -> Vector:
    return np.stack([sky.x[rows], sky.y[rows], sky.z[rows]])


def _angle(square: Vector) -> Vector:
    """Turn squared chords into angles in radians; all are below 90 degrees, where that is exact."""
    return np.asarray(2 * np.arcsin(np.minimum(np.sqrt(square) / 2, 1.0)))


def _separation(a: Vector, b: Vector) -> Vector:
    """Find the angles in radians between unit vectors, shape (3, n)."""
    return _angle(((a - b) ** 2).sum(axis=0))


def _sorted(matches: Matches) -> Matches:
    order = np.lexsort((matches.row, matches.separation, matches.position))
    return Matches(matches.position[order], matches.row[order], matches.separation[order])


def _first_of_each(matches: Matches) -> Matches:
    """Leave the nearest row of each position."""
    n = int(matches.position.max(initial=-1)) + 1
    least, first = np.full(n, np.inf), np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(least, matches.position, matches.separation)
    tied = matches.separation == least[matches.position]
    np.minimum.at(first, matches.position[tied], matches.row[tied])
    position = np.flatnonzero(least < np.inf)
    return Matches(position, first[position], least[position])


def _joined(parts: list[Matches]) -> Matches:
    return Matches(
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.separation for part in parts]),
    )


_NOTHING = Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
