"""Searches on the sky: cones, polygons and the index that answers them.

A region is covered with HEALPix cells; the index, sorted by cell, gives the few rows in them, and an exact test on
unit vectors decides. Longitudes and latitudes are degrees in whatever frame the table has (ICRS for SDSS).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from specflight.catalog.healpix import NO_POSITION, Vector, cover, healpix_29, unit_vectors
from specflight.errors import DamagedData, InvalidRequest

__all__ = ["NO_POSITION", "Cone", "Polygon", "Region", "SkyIndex", "healpix_29", "unit_vectors"]

MAX_VERTICES = 1000  # an exact test costs 30 ns per row and edge: 5 million rows stay within minutes
_ON_EDGE = 1e-15  # radians: the rounding of a unit vector's components
_METADATA_KEY = b"specflight.parquet"


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
            near = np.abs(side) <= _ON_EDGE
            if near.any():
                on_edge |= near & _between(corners[i], corners[j], normal, x, y, z)
        return np.asarray((inside | on_edge) & (facing > 0))

    def cover(self) -> NDArray[np.int64]:
        """Cover the polygon with HEALPix cells; as `Cone.cover`."""
        return cover(self.near_xyz, math.acos(min(float((self._corners @ self._centre).min()), 1.0)) + 1e-9)

    def near_xyz(self, x: Vector, y: Vector, z: Vector, distance: float) -> NDArray[np.bool_]:
        """Tell which unit vectors lie in the polygon or within `distance` radians of it."""
        near = self.contains_xyz(x, y, z)
        corners = self._corners
        for i, normal in enumerate(self._normals):
            j = (i + 1) % len(corners)
            side = normal[0] * x + normal[1] * y + normal[2] * z
            near |= (np.abs(side) <= math.sin(distance)) & _between(corners[i], corners[j], normal, x, y, z)
            near |= _in_cap(corners[i], distance, x, y, z)
        return near

    @cached_property
    def _corners(self) -> Vector:
        ra, dec = np.array(self.vertices).T
        return np.stack(unit_vectors(ra, dec), axis=1)

    @cached_property
    def _normals(self) -> Vector:
        normals = np.cross(self._corners, np.roll(self._corners, -1, axis=0))
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True))

    @cached_property
    def _centre(self) -> Vector:
        return _hemisphere(self._corners)

    @cached_property
    def _north(self) -> Vector:
        """Any direction at right angles to the centre."""
        north = np.cross(self._centre, np.eye(3)[np.argmin(np.abs(self._centre))])
        return np.asarray(north / np.linalg.norm(north))


Region = Cone | Polygon


@dataclass(frozen=True)
class SkyIndex:
    """Positions of a table's rows, sorted by HEALPix cell, in one memory-mapped Arrow IPC file.

    Row i of the index is row i of the Parquet files taken one after the other.

    Attributes
    ----------
    cells : ndarray of int64, shape (n,)
        Nested HEALPix cells of order 29, ascending; `NO_POSITION` where a row has no coordinates.
    x, y, z : ndarray of float64, shape (n,)
        Unit vectors; NaN where a row has no coordinates.
    ids : pyarrow.Array
        The table's column of identifiers.
    """

    cells: NDArray[np.int64]
    x: Vector
    y: Vector
    z: Vector
    ids: pa.Array

    @classmethod
    def build(
        cls, files: Sequence[Path], path: Path, *, ra: str = "ra", dec: str = "dec", id_column: str = "specobjid"
    ) -> SkyIndex:
        """Write the index of a table and open it; a file at `path` is replaced at once and whole.

        Parameters
        ----------
        files : sequence of Path
            The table's Parquet files, sorted by their column ``_healpix_29``.
        path : Path
            Where the index is written.
        ra, dec, id_column : str
            Names of the columns of positions (degrees) and of identifiers.

        Raises
        ------
        DamagedData
            If the rows are not sorted by cell, or a file cannot be read.
        """
        try:
            table = pa.concat_tables(pq.read_table(f, columns=["_healpix_29", ra, dec, id_column]) for f in files)
        except (OSError, pa.ArrowException) as error:
            raise DamagedData(f"the Parquet files of '{path.stem}' cannot be read: {error}") from error
        cells = table["_healpix_29"].to_numpy()
        if (cells[1:] < cells[:-1]).any():
            raise DamagedData(f"the Parquet files of '{path.stem}' are not sorted by _healpix_29")
        x, y, z = unit_vectors(table[ra].to_numpy(), table[dec].to_numpy())
        columns = [cells, *(np.where(cells == NO_POSITION, np.nan, v) for v in (x, y, z))]
        ids = table[id_column].combine_chunks()
        batch = pa.record_batch([*map(pa.array, columns), ids], names=["cells", "x", "y", "z", "ids"])
        batch = batch.replace_schema_metadata({_METADATA_KEY: _identity(files)})
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as sink:
            with pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
        return cls._of(pa.ipc.open_file(pa.memory_map(str(path))))

    @classmethod
    def open(cls, path: Path, files: Sequence[Path]) -> SkyIndex | None:
        """Map an index that was built before.

        Returns
        -------
        SkyIndex or None
            None if there is no readable index at `path`, or it belongs to other Parquet files: build it anew.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            current = (reader.schema.metadata or {}).get(_METADATA_KEY) == _identity(files)
            return cls._of(reader) if current else None
        except (OSError, pa.ArrowException):
            return None

    @classmethod
    def _of(cls, reader: pa.ipc.RecordBatchFileReader) -> SkyIndex:
        batch = reader.get_batch(0)
        cells, x, y, z = (batch.column(i).to_numpy() for i in range(4))
        return cls(cells, x, y, z, batch.column(4))

    def __len__(self) -> int:
        return len(self.cells)

    def candidates(self, region: Region) -> NDArray[np.int64]:
        """Find the rows in the cells that cover a region.

        Returns
        -------
        ndarray of int64, shape (n, 2)
            Ranges [first, last) of row numbers, ascending; none is empty.
        """
        rows = np.searchsorted(self.cells, region.cover())
        return rows[rows[:, 0] < rows[:, 1]].astype(np.int64)

    def search(self, region: Region) -> NDArray[np.int64]:
        """Find the rows in a region.

        Parameters
        ----------
        region : Cone or Polygon

        Returns
        -------
        ndarray of int64, shape (n,)
            Row numbers, ascending.
        """
        found = [
            first + np.flatnonzero(region.contains_xyz(self.x[first:last], self.y[first:last], self.z[first:last]))
            for first, last in self.candidates(region).tolist()
        ]
        return np.concatenate(found) if found else np.empty(0, np.int64)


def _identity(files: Sequence[Path]) -> bytes:
    """Take the fingerprint of Parquet files: their sizes and footers, which hold every chunk's place and statistics."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            size = source.seek(-8, os.SEEK_END) + 8
            footer = min(int.from_bytes(source.read(4), "little"), size - 8)
            source.seek(-8 - footer, os.SEEK_END)
            digest.update(size.to_bytes(8, "little") + source.read())
    return digest.hexdigest().encode()


def _corner(n: int, vertex: Sequence[float]) -> tuple[float, float]:
    try:
        ra, dec = vertex
    except (TypeError, ValueError):
        raise InvalidRequest(f"polygon: vertex {n} is {vertex!r} and not a pair (ra, dec)") from None
    return _longitude(f"polygon ra {n}", ra), _latitude(f"polygon dec {n}", dec)


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Tell if two positions are one but for the rounding of unit vectors, as all longitudes are at a pole."""
    return math.dist(np.array(unit_vectors(*a)), np.array(unit_vectors(*b))) <= _ON_EDGE


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


def _in_cap(axis: Vector, radius: float, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
    """Compare chords, beyond 90 degrees those to the opposite pole: there a chord hardly changes with the angle."""
    far = radius > math.pi / 2
    a, b, c = -axis if far else axis
    chord = (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2
    limit = (2 * math.sin((math.pi - radius if far else radius) / 2)) ** 2
    return np.asarray(chord >= limit if far else chord <= limit)


def _between(a: Vector, b: Vector, normal: Vector, x: Vector, y: Vector, z: Vector) -> NDArray[np.bool_]:
    """Tell which vectors are abreast of the arc from `a` to `b`, whose great circle has this normal."""
    after, before = np.cross(normal, a), np.cross(b, normal)
    return np.asarray(
        (after[0] * x + after[1] * y + after[2] * z >= -_ON_EDGE)
        & (before[0] * x + before[1] * y + before[2] * z >= -_ON_EDGE)
    )


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
