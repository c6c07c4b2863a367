"""Regions of the sky: cones, polygons and boxes, with an exact test on unit vectors and a cover of HEALPix cells.

Longitudes and latitudes are degrees in whatever frame the table has (ICRS for SDSS). Rims belong to a region: a
position counts as on a rim if it is within `ON_RIM` of it, as the same degrees need not give the same vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specflight.catalog.healpix import Vector, cover, unit_vectors
from specflight.errors import InvalidRequest

__all__ = ["MAX_VERTICES", "ON_RIM", "Box", "Cone", "Polygon", "Region"]

MAX_VERTICES = 1000  # an exact test costs 30 ns per row and edge: 5 million rows stay within minutes

ON_RIM = 5e-15
"""Radians (1e-9 arcsec): what rounding does to the distance of two positions given in degrees up to 720.

Turning 720 degrees into radians is off by up to 2.3e-15, sines and cosines by 1e-16, and that for either position.
"""


@dataclass(frozen=True)
class Cone:
    """All positions within an angular distance of a centre, the rim included.

    Attributes
    ----------
    ra, dec : float
        Centre in degrees; `ra` is wrapped into [0, 360).
    radius : float
        Degrees, above 0 and up to 180.

    Raises
    ------
    InvalidRequest
        Naming the parameter that is out of range.
    """

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        radius = _number("radius", self.radius)
        if not 0 < radius <= 180:
            raise InvalidRequest(f"radius: {radius} is not above 0 and up to 180 degrees")
        checked = {"ra": _longitude("ra", self.ra), "dec": _latitude("dec", self.dec), "radius": radius}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which positions (degrees) lie in the cone; NaN never does."""
        return self.contains_xyz(*unit_vectors(ra, dec))

    def contains_xyz(self, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the cone; NaN never does."""
        return _in_cap(self._axis, math.radians(self.radius), x, y, z)

    def cover(self) -> NDArray[np.int64]:
        """Cover the cone with HEALPix cells.

        Returns
        -------
        ndarray of int64, shape (n, 2)
            Ranges [first, last) of nested cells of order 29, ascending and disjoint, that hold all of the cone.
        """
        return cover(self.near_xyz, math.radians(self.radius))

    def near_xyz(self, x: Vector, y: Vector, z: Vector, distance: float) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the cone or within `distance` radians of it."""
        return _in_cap(self._axis, min(math.radians(self.radius) + distance, math.pi), x, y, z)

    @cached_property
    def _axis(self) -> Vector:
        return np.array(unit_vectors(self.ra, self.dec))


@dataclass(frozen=True)
class Polygon:
    """A polygon whose edges are great circles, its boundary included.

    Any orientation and any simple shape, concave too, across RA 0 and around poles, as long as it fits into a
    hemisphere: the inside is the smaller side. Where edges cross each other, a point is inside if a path from it to
    the outside crosses an odd number of edges.

    Attributes
    ----------
    vertices : tuple of (float, float)
        At least three different corners (ra, dec) in degrees.

    Raises
    ------
    InvalidRequest
        Naming the vertex that is out of range, or that the polygon does not fit into a hemisphere.
    """

    vertices: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.vertices) > MAX_VERTICES:
            raise InvalidRequest(f"polygon: it has {len(self.vertices)} vertices, the limit is {MAX_VERTICES}")
        corners = [_corner(n, vertex) for n, vertex in enumerate(self.vertices)]
        # a vertex given twice in a row, such as the first one again at the end, makes no edge
        kept = [c for n, c in enumerate(corners) if not _same(c, corners[n - 1])] if len(corners) > 1 else corners
        if len(set(kept)) < 3:
            raise InvalidRequest(f"polygon: it has {len(set(kept))} different vertices and needs at least 3")
        object.__setattr__(self, "vertices", tuple(kept))
        _ = self._centre  # raises where the polygon fits into no hemisphere

    @classmethod
    def from_flat(cls, numbers: Sequence[float]) -> Polygon:
        """Make a polygon of a flat list ``ra1, dec1, ra2, dec2, ...`` in degrees."""
        if len(numbers) % 2:
            raise InvalidRequest(f"polygon: {len(numbers)} numbers are not pairs of ra and dec")
        return cls(tuple(zip(numbers[::2], numbers[1::2], strict=True)))

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which positions (degrees) lie in the polygon; NaN never does."""
        return self.contains_xyz(*unit_vectors(ra, dec))

    def contains_xyz(self, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the polygon; NaN never does.

        The gnomonic projection about a point that has all vertices in its hemisphere turns the edges into straight
        lines; there a ray to the right is intersected with each of them. All is kept homogeneous, so that nothing is
        divided by the vanishing distance to the rim of the hemisphere.
        """
        centre, north = self._centre, self._north
        facing = centre[0] * x + centre[1] * y + centre[2] * z
        up = north[0] * x + north[1] * y + north[2] * z
        inside = np.zeros(np.shape(x), np.bool_)
        on_edge = np.zeros(np.shape(x), np.bool_)
        corners = self._corners
        height, depth = corners @ north, corners @ centre
        above = [height[i] * facing > up * depth[i] for i in range(len(corners))]
        for i, normal in enumerate(self._normals):
            j = (i + 1) % len(corners)
            side = normal[0] * x + normal[1] * y + normal[2] * z
            inside ^= (above[i] != above[j]) & ((side > 0) == above[j])
            near = np.abs(side) <= ON_RIM
            if near.any():
                on_edge |= near & self._abreast(i, x, y, z)
        return np.asarray((inside | on_edge) & (facing > 0))

    def cover(self) -> NDArray[np.int64]:
        """Cover the polygon with HEALPix cells; as `Cone.cover`."""
        return cover(self.near_xyz, math.acos(min(float((self._corners @ self._centre).min()), 1.0)) + 1e-9)

    def near_xyz(self, x: Vector, y: Vector, z: Vector, distance: float) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the polygon or within `distance` radians of it."""
        near = self.contains_xyz(x, y, z)
        corners = self._corners
        for i, normal in enumerate(self._normals):
            side = normal[0] * x + normal[1] * y + normal[2] * z
            near |= (np.abs(side) <= math.sin(distance)) & self._abreast(i, x, y, z)
            near |= _in_cap(corners[i], distance, x, y, z)
        return near

    def _abreast(self, edge: int, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
        """Tell which vectors are abreast of an edge, neither before its start nor behind its end."""
        a, b = self._flanks[0][edge], self._flanks[1][edge]
        return np.asarray((a[0] * x + a[1] * y + a[2] * z >= -ON_RIM) & (b[0] * x + b[1] * y + b[2] * z >= -ON_RIM))

    @cached_property
    def _flanks(self) -> tuple[Vector, Vector]:
        """Normals of the great circles across the starts of the edges and across their ends."""
        ends = np.roll(self._corners, -1, axis=0)
        return np.cross(self._normals, self._corners), np.cross(ends, self._normals)

    @cached_property
    def _corners(self) -> Vector:
        ra, dec = np.array(self.vertices).T
        return np.stack(unit_vectors(ra, dec), axis=1)

    @cached_property
    def _normals(self) -> Vector:
        # (b + a) x (b - a) is 2 a x b with nothing cancelled where an edge is short
        ends = np.roll(self._corners, -1, axis=0)
        normals = np.cross(ends + self._corners, ends - self._corners)
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))

    @cached_property
    def _centre(self) -> Vector:
        return _hemisphere(self._corners)

    @cached_property
    def _north(self) -> Vector:
        """Any direction at right angles to the centre."""
        north = np.cross(self._centre, np.eye(3)[np.argmin(np.abs(self._centre))])
        return np.asarray(north / np.linalg.norm(north))


@dataclass(frozen=True)
class Box:
    """All positions between two meridians and two parallels, all four included.

    The box runs eastward from `ra_min` to `ra_max`: with ``ra_min > ra_max`` it crosses RA 0, and with
    ``ra_max - ra_min >= 360`` it is a whole ring. A pole lies on every meridian, so it is in each box that reaches it.

    Attributes
    ----------
    ra_min, ra_max : float
        Degrees, wrapped into [0, 360); 0 and 360 for a whole ring.
    dec_min, dec_max : float
        Degrees.

    Raises
    ------
    InvalidRequest
        Naming the parameter that is out of range, or that `dec_min` is above `dec_max`.
    """

    ra_min: float
    ra_max: float
    dec_min: float
    dec_max: float

    def __post_init__(self) -> None:
        west, east = _number("ra_min", self.ra_min), _number("ra_max", self.ra_max)
        south, north = _latitude("dec_min", self.dec_min), _latitude("dec_max", self.dec_max)
        if south > north:
            raise InvalidRequest(f"dec_min: {south} is above dec_max, {north}")
        ring = east - west >= 360
        object.__setattr__(self, "ra_min", 0.0 if ring else _longitude("ra_min", west))
        object.__setattr__(self, "ra_max", 360.0 if ring else _longitude("ra_max", east))
        object.__setattr__(self, "dec_min", south)
        object.__setattr__(self, "dec_max", north)

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which positions (degrees) lie in the box; NaN never does."""
        return self.contains_xyz(*unit_vectors(ra, dec))

    def contains_xyz(self, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the box; NaN never does."""
        return self.near_xyz(x, y, z, 0.0)

    def cover(self) -> NDArray[np.int64]:
        """Cover the box with HEALPix cells; as `Cone.cover`."""
        height = math.radians(self.dec_max - self.dec_min)
        equator = min(max(0.0, self.dec_min), self.dec_max)  # the parallel nearest to it
        width = math.radians(self._width) * math.cos(math.radians(equator))
        # cells as for a circle as wide as the box, but no more than a thousand or two of them along a thin one
        return cover(self.near_xyz, max(min(width, height) / 2, math.hypot(width, height) / 400, 1e-9))

    def near_xyz(self, x: Vector, y: Vector, z: Vector, distance: float) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the box; with a `distance` also all within that many radians of it.

        A parallel is the rim of a cap around a pole. A meridian is half of a great circle, and the product of a
        vector with its normal changes by no more than the distance that the vector is moved by.
        """
        pole = np.array([0.0, 0.0, 1.0])
        inside = _in_cap(pole, min(math.radians(90 - self.dec_min) + distance, math.pi), x, y, z)
        inside &= _in_cap(-pole, min(math.radians(90 + self.dec_max) + distance, math.pi), x, y, z)
        slack = distance + ON_RIM
        after = _eastward(self.ra_min, x, y) >= -slack
        before = _eastward(self.ra_max, x, y) <= slack
        if self._width > 180:
            return np.asarray(inside & (after | before))
        # 90 degrees east of this meridian is the middle of the box, and not its antimeridian
        return np.asarray(inside & after & before & (_eastward(self.ra_min + self._width / 2 - 90, x, y) >= -slack))

    @cached_property
    def _width(self) -> float:
        """Degrees of right ascension from west to east."""
        return 360.0 if self.ra_max == 360 else (self.ra_max - self.ra_min) % 360


Region = Cone | Polygon | Box


def _corner(n: int, vertex: Sequence[float]) -> tuple[float, float]:
    try:
        ra, dec = vertex
    except (TypeError, ValueError):
        raise InvalidRequest(f"polygon: vertex {n} is {vertex!r} and not a pair (ra, dec)") from None
    return _longitude(f"polygon ra {n}", ra), _latitude(f"polygon dec {n}", dec)


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Tell if two positions are one but for the rounding of unit vectors, as all longitudes are at a pole."""
    return math.dist(np.array(unit_vectors(*a)), np.array(unit_vectors(*b))) <= ON_RIM


def _number(name: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidRequest(f"{name}: {value!r} is not a finite number")
    return number


def _longitude(name: str, value: object) -> float:
    wrapped = _number(name, value) % 360.0
    return wrapped if wrapped < 360.0 else 0.0  # -1e-20 % 360 is 360


def _latitude(name: str, value: object) -> float:
    number = _number(name, value)
    if not -90 <= number <= 90:
        raise InvalidRequest(f"{name}: {number} is outside -90 to 90 degrees")
    return number


def _eastward(ra: float, x: Vector, y: Vector) -> Vector:
    """Multiply unit vectors by the normal of a meridian: above 0 up to 180 degrees east of it."""
    return np.asarray(math.cos(math.radians(ra)) * y - math.sin(math.radians(ra)) * x)


def _in_cap(axis: Vector, radius: float, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
    """Compare chords, beyond 90 degrees those to the opposite pole: there a chord hardly changes with the angle."""
    far = radius > math.pi / 2
    a, b, c = -axis if far else axis
    chord = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2
    reach = max(math.pi - radius - ON_RIM, 0.0) if far else radius + ON_RIM
    limit = (2 * math.sin(reach / 2)) ** 2
    return np.asarray(chord >= limit if far else chord <= limit)


def _hemisphere(corners: Vector) -> Vector:
    """Find the centre of a hemisphere that holds all vertices, well inside if there is one."""
    mean = corners.mean(axis=0)
    norm = np.linalg.norm(mean)
    if norm > 1e-9 and (corners @ mean).min() > 1e-3 * norm:
        return np.asarray(mean / norm)
    from scipy.optimize import linprog

    # maximise the margin t under corner . c >= t with c in the unit cube
    rows = np.hstack([-corners, np.ones((len(corners), 1))])
    best = linprog([0, 0, 0, -1], A_ub=rows, b_ub=np.zeros(len(corners)), bounds=[(-1, 1)] * 3 + [(None, None)])
    if best.x is None or best.x[3] < 1e-9:
        raise InvalidRequest("polygon: it does not fit into a hemisphere; split it into smaller polygons")
    return np.asarray(best.x[:3] / np.linalg.norm(best.x[:3]))
