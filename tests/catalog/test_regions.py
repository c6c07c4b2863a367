from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog.healpix import healpix_29, unit_vectors
from specflight.catalog.regions import Box, Cone, Polygon, Region
from specflight.errors import InvalidRequest

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
Exact = NDArray[np.longdouble] | NDArray[np.float64]

longitudes = st.floats(-360, 720) | st.sampled_from([0.0, 90.0, 180.0, 359.9999999, 360.0])
latitudes = st.floats(-90, 90) | st.sampled_from([-90.0, -41.8103148957786, 0.0, 41.8103148957786, 89.9999999, 90.0])
sizes = st.floats(-6, math.log10(75)).map(lambda x: min(10**x, 75.0))
seeds = st.integers(0, 2**32)


def exact_vectors(ra: object, dec: object) -> Exact:
    """Unit vectors, shape (n, 3), with three digits more than a double has."""
    turn = np.longdouble("3.14159265358979323846264338327950288") / 180
    lon, lat = np.atleast_1d(np.asarray(ra, np.longdouble)) * turn, np.atleast_1d(np.asarray(dec, np.longdouble)) * turn
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def degrees(v: Exact) -> Points:
    ra, dec = np.arctan2(v[:, 1], v[:, 0]), np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))
    return np.degrees(ra).astype(np.float64), np.degrees(dec).astype(np.float64)


def tangent_plane(ra: float, dec: float, u: NDArray[np.float64], v: NDArray[np.float64]) -> Points:
    """Positions whose gnomonic projection about a centre is (u, v): great circles are straight lines there."""
    axis = exact_vectors(ra, dec)[0]
    east = exact_vectors(ra + 90, 0)[0]
    return degrees(axis + u[:, None] * east + v[:, None] * np.cross(axis, east))


def around(ra: float, dec: float, size: float, seed: int, n: int = 1500) -> Points:
    """Points in the tangent plane up to twice a size in degrees, and a few over the whole sphere."""
    rng = np.random.default_rng(seed)
    u, v = (rng.random((2, n)) * 4 - 2) * math.tan(math.radians(size))
    near, sphere = tangent_plane(ra, dec, u, v), degrees(rng.normal(size=(n // 5, 3)))
    return np.concatenate([near[0], sphere[0]]), np.concatenate([near[1], sphere[1]])


def covered(region: Region, points: Points) -> NDArray[np.bool_]:
    ranges = region.cover()
    assert (ranges[:, 0] < ranges[:, 1]).all()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()
    cells = healpix_29(*points)
    place = np.searchsorted(ranges[:, 0], cells, "right") - 1
    return np.asarray((place >= 0) & (cells < ranges[place, 1]))


# Polygons, against arcs to a point outside


def cross(a: complex, b: complex) -> float:
    return (a.conjugate() * b).imag


def untangled(corners: list[complex]) -> list[complex]:
    """Undo crossings of the edges one by one: each time the outline gets shorter, so it ends as a simple polygon."""
    corners = list(corners)
    n = len(corners)
    for _ in range(10_000):
        for i in range(n):
            for j in range(i + 2, n - (i == 0)):
                a, b, c, d = corners[i], corners[i + 1], corners[j], corners[(j + 1) % n]
                if cross(b - a, c - a) * cross(b - a, d - a) < 0 and cross(d - c, a - c) * cross(d - c, b - c) < 0:
                    corners[i + 1 : j + 1] = corners[i + 1 : j + 1][::-1]
                    break
            else:
                continue
            break
        else:
            return corners
    raise AssertionError("the corners cannot be untangled")


@st.composite
def outlines(draw: st.DrawFn) -> tuple[Points, float, float, float]:
    """Corners of a simple polygon of any shape in either orientation, and its centre and size in degrees."""
    ra, dec, size = draw(longitudes), draw(latitudes), draw(sizes)
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(3, 10))
    disc = np.sqrt(rng.random(n)) * np.exp(2j * np.pi * rng.random(n))
    flat = np.array(untangled(disc.tolist())[:: draw(st.sampled_from([1, -1]))]) * math.tan(math.radians(size))
    return tangent_plane(ra, dec, flat.real, flat.imag), ra, dec, size


def enclosed(corners: Points, points: Points, ra: float, dec: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which points lie in a polygon by the arcs from them to one outside, and which are clear of its edges."""
    vertices, p = exact_vectors(*corners), exact_vectors(*points)
    axis, east = exact_vectors(ra, dec)[0], exact_vectors(ra + 90, 0)[0]
    outside = np.cos(np.longdouble(1.9)) * axis + np.sin(np.longdouble(1.9)) * (0.8 * east + 0.6 * np.cross(axis, east))
    odd, clear = np.zeros(len(p), np.bool_), np.ones(len(p), np.bool_)
    arc = np.cross(p, outside)
    for a, b in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        edge = np.cross(a, b)
        # the arcs p-outside and a-b cross if all four triple products have one sign
        signs = np.stack([-(arc @ a), arc @ b, np.broadcast_to(-(edge @ outside), len(p)), p @ edge]) > 0
        odd ^= signs.all(axis=0) | ~signs.any(axis=0)
        clear &= np.abs(p @ edge) > 2e-14 * np.sqrt(edge @ edge)
    return odd, clear


@given(outlines(), seeds)
@settings(max_examples=150)
def test_a_simple_polygon_holds_what_arcs_to_the_outside_say(
    outline: tuple[Points, float, float, float], seed: int
) -> None:
    corners, ra, dec, size = outline
    points = around(ra, dec, size, seed)
    expected, clear = enclosed(corners, points, ra, dec)
    polygon = Polygon(tuple(zip(*corners, strict=True)))
    inside = polygon.contains(*points)
    assert inside[clear].tolist() == expected[clear].tolist()
    assert covered(polygon, points)[inside].all()


@given(outlines())
@settings(max_examples=50)
def test_either_orientation_and_any_first_vertex_give_the_same_polygon(
    outline: tuple[Points, float, float, float],
) -> None:
    corners, ra, dec, size = outline
    vertices = tuple(zip(*corners, strict=True))
    points = around(ra, dec, size, seed=1)
    inside = Polygon(vertices).contains(*points)
    assert (Polygon(vertices[::-1]).contains(*points) == inside).all()
    assert (Polygon(vertices[2:] + vertices[:2]).contains(*points) == inside).all()


@given(outlines())
@settings(max_examples=100)
def test_vertices_of_a_polygon_of_any_size_belong_to_it(outline: tuple[Points, float, float, float]) -> None:
    corners = outline[0]
    polygon = Polygon(tuple(zip(*corners, strict=True)))
    assert polygon.contains(*corners).all()
    assert covered(polygon, corners).all()


@given(longitudes, st.floats(-80, 80), sizes.map(lambda size: size / 10), seeds)
@settings(max_examples=50)
def test_edges_along_meridians_belong_to_a_polygon(ra: float, dec: float, size: float, seed: int) -> None:
    kite = ((ra, dec), (ra + size, dec + size / 2), (ra, dec + size), (ra - size, dec + size / 2))
    triangle = Polygon((kite[0], kite[1], kite[2]))
    along = dec + size * np.random.default_rng(seed).random(50)
    assert triangle.contains(np.full(50, ra), along).all()
    # two that share an edge leave no gap between them
    points = around(ra, dec + size / 2, size / 2, seed)
    other = Polygon((kite[2], kite[3], kite[0]))
    assert ((triangle.contains(*points) | other.contains(*points)) == Polygon(kite).contains(*points)).all()


def test_a_comb_holds_its_teeth_and_not_the_gaps() -> None:
    teeth = [(ra, dec) for n in range(0, 40, 4) for ra, dec in ((n, -10), (n, 20), (n + 2, 20), (n + 2, -10))]
    comb = Polygon(tuple((ra - 20.0, float(dec)) for ra, dec in [*teeth, (38, -12), (0, -12)]))
    middles = np.arange(0, 36, 4) - 20.0
    assert comb.contains(middles + 1, np.full(9, 10.0)).all()
    assert not comb.contains(middles + 3, np.full(9, 10.0)).any()


# Cones


@given(longitudes, latitudes, st.sampled_from([1e-6, 1e-5, 1.0, 89.9, 90.0, 90.1, 179.9, 179.999999]), seeds)
@settings(max_examples=100)
def test_tiny_and_huge_cones_hold_what_lies_within_their_radius(
    ra: float, dec: float, radius: float, seed: int
) -> None:
    near = around(ra, dec, min(radius, 180 - radius, 60.0), seed)
    far = around(ra + 180, -dec, min(radius, 180 - radius, 60.0), seed)
    points = np.concatenate([near[0], far[0]]), np.concatenate([near[1], far[1]])
    p, axis = exact_vectors(*points), exact_vectors(ra, dec)[0]
    distance = np.degrees(2 * np.arctan2(np.linalg.norm(p - axis, axis=1), np.linalg.norm(p + axis, axis=1)))
    clear = np.abs(distance - radius) > 1e-12
    inside = Cone(ra, dec, radius).contains(*points)
    assert inside[clear].tolist() == (distance <= radius)[clear].tolist()
    assert covered(Cone(ra, dec, radius), points)[inside].all()


@given(longitudes, latitudes, st.floats(-6, math.log10(170)).map(lambda x: 10**x))
def test_what_is_as_far_as_the_radius_in_degrees_is_in_the_cone(ra: float, dec: float, radius: float) -> None:
    assert Cone(ra, 0, radius).contains([ra + radius, ra - radius], [0, 0]).all()
    for rim in (dec + radius, dec - radius):
        assert abs(rim) > 90 or Cone(ra, dec, radius).contains(ra, rim)


# Boxes


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes of all sizes, across RA 0, around poles and as whole rings."""
    west = draw(longitudes)
    width = draw(sizes | st.floats(1e-6, 400) | st.sampled_from([1e-6, 90.0, 180.0, 359.9999, 360.0]))
    east = west + width if width >= 360 else (west + width) % 360
    dec = sorted((draw(latitudes), draw(latitudes)))
    if draw(st.booleans()):
        dec[1] = min(dec[0] + draw(sizes), 90.0)
    return Box(west if width >= 360 else west % 360, east, dec[0], dec[1])


def width_of(box: Box) -> float:
    return 360.0 if (box.ra_min, box.ra_max) == (0, 360) else (box.ra_max - box.ra_min) % 360


def in_and_near(box: Box, seed: int, n: int = 3000) -> Points:
    """Points in a box, beside it and over the whole sphere."""
    rng = np.random.default_rng(seed)
    width, height = width_of(box), box.dec_max - box.dec_min
    ra = box.ra_min + width * (rng.random(n) * 2 - 0.5)
    dec = np.clip(box.dec_min + height * (rng.random(n) * 2 - 0.5), -90, 90)
    sphere = degrees(rng.normal(size=(n // 3, 3)))
    return np.concatenate([ra, sphere[0]]), np.concatenate([dec, sphere[1]])


@given(boxes(), seeds)
@settings(max_examples=150)
def test_a_box_holds_what_lies_between_its_sides(box: Box, seed: int) -> None:
    ra, dec = in_and_near(box, seed)
    width = width_of(box)
    east = (ra - box.ra_min) % 360
    expected = ((east <= width) | (width == 360)) & (dec >= box.dec_min) & (dec <= box.dec_max)
    across = np.maximum(np.cos(np.radians(dec)), 1e-12)  # a meridian is blurred where longitude means little
    beside = np.minimum(np.minimum(np.abs(east - width), east), 360 - east) * across
    clear = (beside > 1e-12) & (np.abs(dec - box.dec_min) > 1e-12) & (np.abs(dec - box.dec_max) > 1e-12)
    if width == 360:
        clear |= beside <= 1e-12
    inside = box.contains(ra, dec)
    assert inside[clear].tolist() == expected[clear].tolist()
    assert covered(box, (ra, dec))[inside].all()


@given(boxes(), seeds)
@settings(max_examples=150)
def test_the_sides_of_a_box_belong_to_it(box: Box, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dec = box.dec_min + (box.dec_max - box.dec_min) * rng.random(50)
    ra = box.ra_min + width_of(box) * rng.random(50)
    for turn in (0, 360, -360):
        for meridian in (box.ra_min, box.ra_max):
            assert box.contains(meridian + turn, [*dec, box.dec_min, box.dec_max]).all()
        for parallel in (box.dec_min, box.dec_max):
            assert box.contains(ra + turn, np.full(50, parallel)).all()
    assert covered(box, (ra, np.full(50, box.dec_min))).all()
    assert covered(box, (np.full(50, box.ra_max), dec)).all()


def test_the_sides_of_a_box_are_sharp() -> None:
    box = Box(350, 10, 59.5, 60.5)
    assert not box.contains([349.9999999999, 10.0000000001, 0, 0], [60, 60, 59.4999999999, 60.5000000001]).any()


def test_a_box_crosses_ra_0_where_its_first_side_is_the_larger() -> None:
    ra = np.arange(0.5, 360)
    inside = Box(350, 10, -1, 1).contains(ra, np.zeros(360))
    assert inside.tolist() == ((ra > 350) | (ra < 10)).tolist()
    assert Box(10, 350, -1, 1).contains(ra, np.zeros(360)).tolist() == (~inside).tolist()
    assert Box(-10, 10, -1, 1) == Box(350, 10, -1, 1) == Box(710, 370, -1, 1)


@pytest.mark.parametrize(("first", "last"), [(0, 360), (-180, 180), (10, 370), (5, 1000)])
def test_a_box_of_360_degrees_is_a_whole_ring(first: float, last: float) -> None:
    ring = Box(first, last, 10, 20)
    assert ring.contains(np.arange(0, 360), np.full(360, 15.0)).all()
    assert not ring.contains(np.arange(0, 360), np.full(360, 21.0)).any()
    assert Box(first, last, -90, 90).contains([0, 10, 200], [-90, 0, 90]).all()


def test_a_box_without_width_is_a_meridian_and_not_its_antimeridian() -> None:
    line = Box(30, 30, -90, 80)
    assert line.contains([30, 30, 390], [0, 80, -20]).all()
    assert not line.contains([210, 30.0000001, 29.9999999, 30], [0, 0, 0, 81]).any()


def test_a_pole_is_in_each_box_that_reaches_it() -> None:
    assert Box(10, 20, 80, 90).contains([0, 15, 200], [90, 90, 90]).all()
    assert Box(10, 20, -90, -80).contains([0, 15, 200], [-90, -90, -90]).all()
    assert not Box(10, 20, -80, 80).contains([15, 15], [90, -90]).any()
    assert Box(10, 20, -90, -90).contains(100, -90)
    assert not Box(10, 20, -90, -90).contains(15, 90)
    assert not Box(10, 20, -90, -90).contains(15, -89.9999999)


def test_missing_positions_lie_in_no_box() -> None:
    for box in (Box(0, 360, -90, 90), Box(0, 10, -90, 90), Box(10, 0, -90, 90)):
        assert not box.contains([np.nan, 5, np.inf], [5, np.nan, 5]).any()


@pytest.mark.parametrize(
    ("box", "named"),
    [
        ((math.nan, 1, 0, 1), "ra_min: nan"),
        ((0, math.inf, 0, 1), "ra_max: inf"),
        ((0, "x", 0, 1), "ra_max: 'x'"),
        ((0, 1, -90.5, 1), "dec_min: -90.5"),
        ((0, 1, 0, 91), "dec_max: 91"),
        ((0, 1, 5, 4), r"dec_min: 5\.0 is above dec_max, 4\.0"),
    ],
)
def test_a_box_out_of_range_is_refused_by_name(box: tuple[float, float, float, float], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        Box(*box)


@pytest.mark.parametrize(
    ("box", "most"),
    [
        (Box(0, 360, 30, 30.001), 0.01),
        (Box(0, 360, 30, 31), 0.02),
        (Box(10, 200, -45, -45), 0.01),
        (Box(83, 83.0001, -90, 90), 0.01),
        (Box(350, 10, -5, 5), 0.012),
        (Box(15, 16, 89, 90), 1e-5),
        (Box(15, 15, 20, 20), 1e-8),
        (Box(0, 360, -90, 90), 1.0),
    ],
)
def test_a_box_is_covered_by_little_of_the_sky_in_few_ranges(box: Box, most: float) -> None:
    ranges = box.cover()
    assert np.diff(ranges, axis=1).sum() <= most * 12 * 4**29
    assert len(ranges) < 1000


# All of them


@given(st.one_of(boxes(), outlines().map(lambda o: Polygon(tuple(zip(*o[0], strict=True))))), seeds, st.floats(-9, 0))
@settings(max_examples=100)
def test_what_is_near_to_a_position_in_a_region_is_near_to_the_region(
    region: Box | Polygon, seed: int, log: float
) -> None:
    """The cover stands on this: a cell is left out if its centre is not near."""
    rng = np.random.default_rng(seed)
    if isinstance(region, Box):
        points = in_and_near(region, seed)
    else:
        ra, dec = region.vertices[0]
        points = around(ra, dec, 20, seed)
    inside = np.stack(unit_vectors(*points))[:, region.contains(*points)]
    assume(inside.size)
    aside = np.cross(inside, rng.normal(size=inside.shape), axis=0)
    x, y, z = inside * math.cos(10**log) + aside / np.linalg.norm(aside, axis=0) * math.sin(10**log)
    assert region.near_xyz(x, y, z, 10**log * (1 + 1e-6)).all()
