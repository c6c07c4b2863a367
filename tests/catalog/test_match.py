from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog.healpix import cell_centres, cell_radius, healpix_29, neighbour_order, neighbours, unit_vectors
from specflight.catalog.match import MAX_RADIUS, Matches, match_positions
from specflight.catalog.regions import Cone
from specflight.catalog.sky import SkyIndex
from specflight.errors import InvalidRequest, LimitExceeded

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
ARCSEC = 1 / 3600
PLENTY = 10_000_000

CENTRES = [(0.0, 0.0), (359.9999, -30.0), (123.0, 90.0), (7.0, -90.0), (45.0, 41.8103148957786), (180.0, 0.1)]


def scattered(ra: float, dec: float, size: float, n: int, seed: int) -> Points:
    """Positions about a centre with a normal distribution in the tangent plane, of some degrees."""
    rng = np.random.default_rng(seed)
    axis, east = np.array(unit_vectors(ra, dec)), np.array(unit_vectors(ra + 90, 0))
    u, v = rng.normal(size=(2, n, 1)) * math.radians(size)
    p = axis + u * east + v * np.cross(axis, east)
    return np.degrees(np.arctan2(p[:, 1], p[:, 0])) % 360, np.degrees(np.arctan2(p[:, 2], np.hypot(p[:, 0], p[:, 1])))


def sphere(n: int, seed: int) -> Points:
    rng = np.random.default_rng(seed)
    return rng.random(n) * 360, np.degrees(np.arcsin(rng.random(n) * 2 - 1))


def joined(*parts: Points) -> Points:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def indexed(points: Points, folder: Path) -> tuple[SkyIndex, Points]:
    """The index of a table with these positions, and the positions in the order of its rows."""
    cells = healpix_29(*points)
    order = np.argsort(cells, kind="stable")
    ra, dec = points[0][order], points[1][order]
    rows = {"_healpix_29": cells[order], "specobjid": np.arange(len(ra), dtype=np.uint64), "ra": ra, "dec": dec}
    pq.write_table(pa.table(rows), folder / "table.parquet")
    return SkyIndex.build([folder / "table.parquet"], folder / "index.sky"), (ra, dec)


def separations(rows: Points, points: Points) -> NDArray[np.float64]:
    """Degrees between all positions and all rows by Vincenty's formula, shape (positions, rows)."""
    lon, lat = np.radians(rows[0]), np.radians(rows[1])
    lon0, lat0 = np.radians(points[0])[:, None], np.radians(points[1])[:, None]
    d = lon - lon0
    across = np.hypot(np.cos(lat) * np.sin(d), np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(d))
    along = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(d)
    return np.asarray(np.degrees(np.arctan2(across, along)))


def check(found: Matches, rows: Points, points: Points, radius: float, *, nearest: bool) -> None:
    """Compare with every pair there is; within 1e-12 degrees of the rim and of a tie, rounding may decide."""
    distance = separations(rows, points)
    assert np.abs(found.separation - distance[found.position, found.row]).max(initial=0) < 3e-13
    assert (found.separation <= radius).all()
    order = np.lexsort((found.row, found.separation, found.position))
    assert order.tolist() == list(range(len(found)))
    if nearest:
        least = np.where(np.isnan(distance), np.inf, distance).min(axis=1, initial=np.inf)
        assert np.abs(found.separation - least[found.position]).max(initial=0) < 1e-12
        assert (np.diff(found.position) > 0).all()
        assert set(np.flatnonzero(least <= radius - 1e-12)) <= set(found.position.tolist())
    else:
        pairs = np.zeros(distance.shape, np.bool_)
        pairs[found.position, found.row] = True
        assert pairs.sum() == len(found)
        wrong = pairs != (distance <= radius)
        assert np.abs(distance[wrong] - radius).max(initial=0) < 1e-12


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[SkyIndex, Points]:
    """A few thousand rows: all over the sky, crowded about the centres, some twice, some without coordinates."""
    parts = [sphere(1500, 1), *(scattered(*centre, 0.01, 150, n) for n, centre in enumerate(CENTRES))]
    parts += [scattered(*centre, 1.0, 150, n + 100) for n, centre in enumerate(CENTRES)]
    parts += [(p[0][:40], p[1][:40]) for p in parts]
    parts += [(np.array([ra]), np.array([dec])) for ra, dec in CENTRES]
    parts.append((np.full(30, np.nan), np.arange(30.0)))
    return indexed(joined(*parts), tmp_path_factory.mktemp("table"))


@given(
    st.sampled_from(CENTRES),
    st.floats(-5, 1.4),
    st.floats(-5, math.log10(MAX_RADIUS)).map(lambda x: min(10**x, MAX_RADIUS)),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=60)
def test_matches_are_those_of_brute_force(
    table: tuple[SkyIndex, Points], centre: tuple[float, float], size: float, radius: float, nearest: bool, seed: int
) -> None:
    sky, rows = table
    chosen = np.random.default_rng(seed).integers(0, len(sky) - 30, 20)
    points = joined(scattered(*centre, 10**size, 60, seed), sphere(20, seed), (rows[0][chosen], rows[1][chosen]))
    found = match_positions(sky, *points, radius, nearest=nearest, max_pairs=PLENTY)
    check(found, rows, points, radius, nearest=nearest)
    assert set(range(80, 100)) <= set(found.position.tolist())
    assert (found.separation[np.isin(found.position, range(80, 100))] == 0).any()


@pytest.mark.parametrize("radius", [1e-9, 1e-7, ARCSEC, 0.01, 1.0, 30.0])
@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("centre", CENTRES)
def test_each_cell_about_a_pole_and_a_corner_is_looked_at(
    tmp_path: Path, centre: tuple[float, float], radius: float, nearest: bool
) -> None:
    points = scattered(*centre, radius, 150, 1)
    sky, rows = indexed(scattered(*centre, radius, 150, 2), tmp_path)
    found = match_positions(sky, *points, radius, nearest=nearest, max_pairs=PLENTY)
    assert len(found) >= 100
    check(found, rows, points, radius, nearest=nearest)


@pytest.mark.parametrize("nearest", [True, False])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.0, 90.0)])
def test_a_crowded_field_is_matched_from_within_and_from_aside(
    tmp_path: Path, centre: tuple[float, float], nearest: bool
) -> None:
    sky, rows = indexed(scattered(*centre, 0.05, 8000, 1), tmp_path)
    within, about = scattered(*centre, 0.05, 30, 2), scattered(*centre, 2.0, 30, 3)
    for points, radius in ((within, 0.01), (about, 3.0), (joined(within, about), 30.0)):
        found = match_positions(sky, *points, radius, nearest=nearest, max_pairs=PLENTY)
        check(found, rows, points, radius, nearest=nearest)
        assert len(found) >= 20


def test_of_equally_near_rows_the_first_is_taken(tmp_path: Path) -> None:
    ra, dec = np.repeat([10.0, 20.0, 200.0], 50), np.repeat([0.0, 89.9, -45.0], 50)
    sky, rows = indexed((ra, dec), tmp_path)
    for radius in (ARCSEC, 5.0):
        found = match_positions(
            sky, [200.0, 10.0, 20.0, 10.0], [-45.0, 0.0001, 89.9, 0.0], radius, nearest=True, max_pairs=4
        )
        known = [int(np.flatnonzero(rows[0] == lon)[0]) for lon in (200, 10, 20, 10)]
        expected = [(n, row) for n, row in enumerate(known) if n != 1 or radius > 0.0001]
        assert list(zip(found.position.tolist(), found.row.tolist(), strict=True)) == expected
    found = match_positions(sky, [10.0], [0.0], 1.0, nearest=False, max_pairs=50)
    assert found.row.tolist() == list(range(found.row[0], found.row[0] + 50))
    assert (found.separation == 0).all()


def test_the_farther_of_two_rows_does_not_hide_the_nearer(tmp_path: Path) -> None:
    """The row next in cell order is across a cell's edge from the nearest one as often as not."""
    points = sphere(2000, 5)
    sky, rows = indexed(sphere(3000, 6), tmp_path)
    found = match_positions(sky, *points, 20.0, nearest=True, max_pairs=PLENTY)
    assert found.position.tolist() == list(range(2000))
    assert found.row.tolist() == separations(rows, points).argmin(axis=1).tolist()


@given(st.floats(0, 360), st.floats(-5, math.log10(MAX_RADIUS)).map(lambda x: min(10**x, MAX_RADIUS)))
@settings(max_examples=50)
def test_a_row_on_the_rim_matches_as_it_does_in_a_cone(
    tmp_path_factory: pytest.TempPathFactory, ra: float, radius: float
) -> None:
    rim = (np.array([ra + radius, ra - radius, ra, ra]), np.array([0, 0, radius, -radius]))
    sky, _ = indexed(rim, tmp_path_factory.mktemp("rim"))
    assert Cone(ra, 0, radius).contains(*rim).all()
    found = match_positions(sky, [ra], [0.0], radius, nearest=False, max_pairs=4)
    assert sorted(found.row.tolist()) == [0, 1, 2, 3]
    assert (found.separation <= radius).all()
    assert len(match_positions(sky, [ra], [0.0], radius - 1e-11, nearest=False, max_pairs=4)) == 0


def test_the_order_of_the_request_is_kept(table: tuple[SkyIndex, Points]) -> None:
    sky, rows = table
    points = joined(sphere(300, 1), scattered(0, 0, 0.01, 300, 0))
    forth = match_positions(sky, *points, 0.01, nearest=False, max_pairs=PLENTY)
    back = match_positions(sky, points[0][::-1], points[1][::-1], 0.01, nearest=False, max_pairs=PLENTY)
    pairs = {(599 - p, r) for p, r in zip(back.position.tolist(), back.row.tolist(), strict=True)}
    assert pairs == set(zip(forth.position.tolist(), forth.row.tolist(), strict=True))
    check(back, rows, (points[0][::-1], points[1][::-1]), 0.01, nearest=False)
    assert [found.dtype for found in (forth.position, forth.row, forth.separation)] == [np.int64, np.int64, np.float64]


def test_more_pairs_than_the_limit_are_refused_by_its_name(table: tuple[SkyIndex, Points]) -> None:
    sky = table[0]
    ra, dec = np.zeros(100), np.zeros(100)
    pairs = len(match_positions(sky, ra, dec, 1.0, nearest=False, max_pairs=PLENTY))
    assert pairs > 20_000
    assert len(match_positions(sky, ra, dec, 1.0, nearest=False, max_pairs=pairs)) == pairs
    with pytest.raises(LimitExceeded, match=f"max_pairs: more than {pairs - 1} pairs"):
        match_positions(sky, ra, dec, 1.0, nearest=False, max_pairs=pairs - 1)
    assert len(match_positions(sky, ra, dec, 1.0, nearest=True, max_pairs=100)) == 100
    with pytest.raises(LimitExceeded, match="max_pairs: more than 99 pairs"):
        match_positions(sky, ra, dec, 1.0, nearest=True, max_pairs=99)


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "named"),
    [
        ([1, math.nan, math.nan], [0, 0, 0], 1, "ra: row 1 is nan"),
        ([1, 2, math.inf], [0, 0, 0], 1, "ra: row 2 is inf"),
        ([1, 2, 3], [math.nan, 0, 0], 1, "dec: row 0 is nan"),
        ([1, 2, 3], [0, 0, -90.001], 1, "dec: row 2 is -90.001"),
        ([1, 2, 3], [0, 0], 1, r"shapes \(3,\) and \(2,\)"),
        ([1], [0], 0, "radius: 0 "),
        ([1], [0], -1, "radius: -1 "),
        ([1], [0], math.nan, "radius: nan"),
        ([1], [0], 30.1, "radius: 30.1 is not above 0 and up to 30 degrees"),
    ],
)
def test_what_cannot_be_matched_is_refused_by_name(
    table: tuple[SkyIndex, Points], ra: list[float], dec: list[float], radius: float, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        match_positions(table[0], ra, dec, radius, nearest=True, max_pairs=PLENTY)


@pytest.mark.parametrize("nearest", [True, False])
def test_nothing_matches_an_empty_table_or_request(
    table: tuple[SkyIndex, Points], tmp_path: Path, nearest: bool
) -> None:
    empty, _ = indexed((np.empty(0), np.empty(0)), tmp_path)
    assert len(match_positions(empty, [1.0], [2.0], 30, nearest=nearest, max_pairs=1)) == 0
    assert len(match_positions(table[0], [], [], 30, nearest=nearest, max_pairs=1)) == 0


@pytest.mark.parametrize("nearest", [True, False])
def test_rows_without_coordinates_match_nothing(tmp_path: Path, nearest: bool) -> None:
    sky, _ = indexed((np.full(5, np.nan), np.zeros(5)), tmp_path)
    assert len(match_positions(sky, [1.0, 359.0], [2.0, -89.9], 30, nearest=nearest, max_pairs=1)) == 0


def test_many_positions_are_matched_piece_by_piece_as_astropy_matches_them(tmp_path: Path) -> None:
    from astropy import units
    from astropy.coordinates import SkyCoord

    sky, rows = indexed(sphere(200_000, 8), tmp_path)
    chosen = np.random.default_rng(9).integers(0, 200_000, 30_000)
    points = joined((rows[0][chosen], np.clip(rows[1][chosen] + 0.5 * ARCSEC, -90, 90)), sphere(20_000, 10))
    catalogue, positions = SkyCoord(*rows, unit="deg"), SkyCoord(*points, unit="deg")

    row, separation, _ = positions.match_to_catalog_sky(catalogue)
    found = match_positions(sky, *points, ARCSEC, nearest=True, max_pairs=50_000)
    assert len(found) >= 30_000
    assert found.position.tolist() == np.flatnonzero(separation.deg <= ARCSEC).tolist()
    assert found.row.tolist() == row[found.position].tolist()
    assert np.abs(found.separation - separation.deg[found.position]).max() < 1e-12

    first, second, _, _ = catalogue.search_around_sky(positions, 0.3 * units.deg)
    found = match_positions(sky, *points, 0.3, nearest=False, max_pairs=PLENTY)
    order = np.lexsort((found.row, found.position))
    theirs = np.lexsort((second, first))
    assert len(found) > 70_000
    assert found.position[order].tolist() == first[theirs].tolist()
    assert found.row[order].tolist() == second[theirs].tolist()


@given(st.integers(0, 29), st.integers(0, 2**32))
@settings(max_examples=100)
def test_a_cell_and_its_neighbours_hold_every_circle_that_its_order_is_for(order: int, seed: int) -> None:
    """The search stands on this; worst are cells where the polar and the equatorial base cells meet."""
    ra, dec = joined(sphere(500, seed), *(scattered(*c, 60 / 2**order, 100, seed) for c in CENTRES))
    cells = healpix_29(ra, dec) >> 2 * (29 - order)
    centres = np.stack(cell_centres(cells, order))
    axis = np.stack(unit_vectors(ra, dec))
    assert (np.linalg.norm(centres - axis, axis=0) <= cell_radius(order)).all()
    radius = 0.688 / 2**order
    assert neighbour_order(np.array([radius * 0.999999, radius / 2 * 1.0001])).tolist() == [order, order]
    aside = np.cross(axis, np.random.default_rng(seed).normal(size=axis.shape), axis=0)
    rim = axis * math.cos(radius) + aside / np.linalg.norm(aside, axis=0) * math.sin(radius)
    around = healpix_29(np.degrees(np.arctan2(rim[1], rim[0])), np.degrees(np.arctan2(rim[2], np.hypot(*rim[:2]))))
    assert (neighbours(cells, order) == (around >> 2 * (29 - order))[:, None]).any(axis=1).all()
