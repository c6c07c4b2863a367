"""Tests of `specflight.catalog.sky`."""

import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog.healpix import NO_POSITION, healpix_29, unit_vectors
from specflight.catalog.regions import Cone, Polygon, Region
from specflight.catalog.sky import SkyIndex
from specflight.errors import DamagedData, InvalidRequest

Points = tuple[NDArray[np.float64], NDArray[np.float64]]

longitudes = st.floats(-720, 720) | st.sampled_from([0.0, 90.0, 180.0, 359.9999999, 360.0])
latitudes = st.floats(-90, 90) | st.sampled_from([-90.0, -41.8103148957786, 0.0, 41.8103148957786, 90.0])
radii = st.floats(-7, math.log10(180)).map(lambda x: min(10**x, 180.0)) | st.sampled_from([90.0, 170.0, 179.99, 180.0])


def around(ra: float, dec: float, radius: float, seed: int, n: int = 4000) -> Points:
    """Points over the sphere and up to twice the radius around a position."""
    rng = np.random.default_rng(seed)
    distance = np.radians(radius) * 2 * np.sqrt(rng.random(n // 2))
    angle = rng.random(n // 2) * 2 * np.pi
    near = offset(ra, dec, np.minimum(distance, np.pi), angle)
    sphere = rng.random(n // 2) * 360, np.degrees(np.arcsin(rng.random(n // 2) * 2 - 1))
    return np.concatenate([near[0], sphere[0]]), np.concatenate([near[1], sphere[1]])


def offset(ra: float, dec: float, distance: NDArray[np.float64], angle: NDArray[np.float64]) -> Points:
    """Positions at a distance and position angle (radians) from a centre in degrees."""
    centre = np.array(unit_vectors(ra, dec))
    lon, lat = np.radians(ra), np.radians(dec)
    east = np.array([-np.sin(lon), np.cos(lon), 0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    toward = np.outer(np.cos(angle), north) + np.outer(np.sin(angle), east)
    v = np.cos(distance)[:, None] * centre + np.sin(distance)[:, None] * toward
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])), np.degrees(np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1])))


def angular_distance(ra: float, dec: float, points: Points) -> NDArray[np.float64]:
    """Degrees, by Vincenty's formula: exact at every distance, and not what the package computes."""
    lon, lat, lon0, lat0 = (np.radians(v) for v in (points[0], points[1], ra, dec))
    d = lon - lon0
    across = np.hypot(np.cos(lat) * np.sin(d), np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(d))
    along = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(d)
    return np.asarray(np.degrees(np.arctan2(across, along)))


def turns(polygon: Polygon, points: Points) -> NDArray[np.float64]:
    """How often the polygon goes around each point, from the azimuths of its vertices as seen from there."""
    p = np.stack(unit_vectors(*points), axis=1)
    up = np.eye(3)[np.argmin(np.abs(p), axis=1)]
    east = np.cross(up, p)
    north = np.cross(p, east)
    v = np.stack(unit_vectors(*np.array(polygon.vertices).T), axis=1)
    azimuth = np.arctan2(north @ v.T, east @ v.T)
    steps = np.diff(azimuth, axis=1, append=azimuth[:, :1])
    return np.asarray(np.round(((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi)))


def covered(region: Region, points: Points) -> NDArray[np.bool_]:
    ranges = region.cover()
    assert (ranges[:, 0] < ranges[:, 1]).all()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()
    cells = healpix_29(*points)
    place = np.searchsorted(ranges[:, 0], cells, "right") - 1
    return np.asarray((place >= 0) & (cells < ranges[place, 1]))


@given(longitudes, latitudes, radii, st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_cone_is_all_within_its_radius(ra: float, dec: float, radius: float, seed: int) -> None:
    points = around(ra, dec, radius, seed)
    cone = Cone(ra, dec, radius)
    distance = angular_distance(ra, dec, points)
    inside = cone.contains(*points)
    wrong = inside != (distance <= radius)
    assert np.abs(distance[wrong] - radius).max(initial=0) < 1e-9
    assert covered(cone, points)[inside].all()


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 1.0, 60.0, 90.0, 120.0, 179.0, 179.999999])
@pytest.mark.parametrize(("ra", "dec"), [(0, 90), (123, -90), (359.99999, 0.1), (12.3, 45.6)])
def test_the_rim_of_a_cone_is_sharp_to_a_billionth_of_a_degree(ra: float, dec: float, radius: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 50)
    cone = Cone(ra, dec, radius)
    assert cone.contains(*offset(ra, dec, np.full(50, np.radians(radius - 5e-10)), angle)).all()
    assert not cone.contains(*offset(ra, dec, np.full(50, np.radians(radius + 5e-10)), angle)).any()


def test_a_cone_of_180_degrees_is_the_whole_sky() -> None:
    points = around(10, 20, 90, seed=1)
    assert Cone(10, 20, 180).contains(*points).all()
    assert covered(Cone(10, 20, 180), points).all()


@st.composite
def polygons(draw: st.DrawFn) -> tuple[Polygon, float, float, float]:
    """Star-shaped polygons, mostly concave, with the centre and radius of a circle around them."""
    ra, dec = draw(longitudes), draw(latitudes)
    size = 10 ** draw(st.floats(-4, math.log10(80)))
    n = draw(st.integers(3, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    angle = (np.arange(n) + 0.8 * rng.random(n)) / n * 2 * np.pi  # gaps below half a turn: no edge misses the centre
    corners = offset(ra, dec, np.radians(size * (0.1 + 0.9 * rng.random(n))), angle)
    order = slice(None, None, draw(st.sampled_from([1, -1])))
    return Polygon(tuple(zip(corners[0][order], corners[1][order], strict=True))), ra, dec, size


@given(polygons(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_polygon_is_what_its_edges_go_around(shape: tuple[Polygon, float, float, float], seed: int) -> None:
    polygon, ra, dec, size = shape
    points = around(ra, dec, size, seed)
    inside = polygon.contains(*points)
    expected = (turns(polygon, points) != 0) & (angular_distance(ra, dec, points) < 90)
    assert (inside != expected).sum() == 0
    assert covered(polygon, points)[inside].all()


def test_orientation_start_and_a_closing_vertex_do_not_matter() -> None:
    corners = ((350.0, -5.0), (12.0, -5.0), (3.0, 1.0), (11.0, 8.0), (351.0, 7.0))
    points = around(0, 0, 15, seed=3)
    inside = Polygon(corners).contains(*points)
    assert 100 < inside.sum() < 2000
    for same in (corners[::-1], corners[2:] + corners[:2], (*corners, corners[0])):
        assert (Polygon(same).contains(*points) == inside).all()
    assert (Polygon.from_flat([x for corner in corners for x in corner]).contains(*points) == inside).all()


def test_a_polygon_around_a_pole_holds_the_pole() -> None:
    cap = Polygon(tuple((ra, 60.0) for ra in range(0, 360, 30)))
    assert cap.contains([0.0, 200.0, 77.0], [90.0, 89.0, 61.0]).all()
    assert not cap.contains([0.0, 200.0], [-90.0, 59.0]).any()


def test_a_polygon_may_nearly_fill_a_hemisphere() -> None:
    wide = Polygon(tuple((ra, 0.001) for ra in range(0, 360, 10)))
    points = around(0, 90, 45, seed=5)
    assert (wide.contains(*points) == (points[1] > 0.2)).mean() > 0.99
    assert covered(wide, points)[wide.contains(*points)].all()


def test_vertices_and_edges_belong_to_the_polygon() -> None:
    square = ((10.0, -5.0), (20.0, -5.0), (20.0, 5.0), (10.0, 5.0))
    ra, dec = np.array(square).T
    assert Polygon(square).contains(ra, dec).all()
    assert Polygon(square).contains([10.0, 20.0, 10.0], [0.0, 1.0, -4.9]).all()


def test_where_edges_cross_the_even_odd_rule_decides() -> None:
    star = Polygon.from_flat([0, 10, 6, -8, -9.5, 3, 9.5, 3, -6, -8])
    assert not star.contains(0.0, 0.0)
    assert star.contains([0.0, 7.0, -7.0], [8.0, 2.5, 2.5]).all()


def test_missing_positions_lie_nowhere() -> None:
    ra, dec = np.array([np.nan, 0, np.inf, 0]), np.array([0, np.nan, 0, 91.0])
    assert (healpix_29(ra, dec) == NO_POSITION).all()
    for region in (Cone(0, 0, 180), Polygon.from_flat([-9, -9, 9, -9, 0, 9])):
        assert not region.contains(ra[:3], dec[:3]).any()


@pytest.mark.parametrize(
    ("ra", "dec", "radius", "named"),
    [
        (math.nan, 0, 1, "ra: nan"),
        (math.inf, 0, 1, "ra: inf"),
        (0, 90.5, 1, "dec: 90.5"),
        (0, math.nan, 1, "dec: nan"),
        (0, 0, 0, "radius: 0"),
        (0, 0, -1, "radius: -1"),
        (0, 0, 180.1, "radius: 180.1"),
        (0, 0, math.nan, "radius: nan"),
        ("x", 0, 1, "ra: 'x'"),
        (True, 0, 1, "ra: True"),
    ],
)
def test_a_cone_out_of_range_is_refused_by_name(ra: float, dec: float, radius: float, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        Cone(ra, dec, radius)


@pytest.mark.parametrize(
    ("vertices", "named"),
    [
        (((0, 0), (1, 1)), "2 different vertices"),
        (((0, 0), (1, 1), (0, 0), (1, 1)), "2 different vertices"),
        (((0, 90), (120, 90), (0, 0)), "2 different vertices"),
        ((), "0 different vertices"),
        (((0, 0), (1, 1), (2, 95)), "dec 2: 95"),
        (((0, 0), (1, math.nan), (2, 5)), "dec 1: nan"),
        (((0, 0), (1, 1, 1), (2, 5)), "vertex 1"),
        (((0, 0), 7, (2, 5)), "vertex 1"),
        (((0, 0), (120, 0), (240, 0)), "hemisphere"),
        (((0, 0), (90, 50), (180, 0), (270, -50)), "hemisphere"),
        (tuple((i * 0.1, i % 7) for i in range(1001)), "1001 vertices, the limit is 1000"),
    ],
)
def test_a_polygon_that_is_none_is_refused_with_the_reason(
    vertices: tuple[tuple[float, float], ...], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        Polygon(vertices)


def test_a_flat_list_of_odd_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="5 numbers"):
        Polygon.from_flat([1, 2, 3, 4, 5])


N_ROWS = 50_000


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], pa.Table]:
    """A table in two Parquet files, sorted by cell, with 100 rows without coordinates."""
    ra, dec = around(0.5, 30, 4, seed=11, n=N_ROWS)
    rng = np.random.default_rng(1)
    ra[rng.integers(0, N_ROWS, 50)] = np.nan
    dec[rng.integers(0, N_ROWS, 50)] = np.nan
    rows = pa.table(
        {
            "_healpix_29": healpix_29(ra, dec),
            "specobjid": np.arange(N_ROWS, dtype=np.uint64) + np.uint64(2**63),
            "ra": pa.array(ra, from_pandas=True),
            "dec": pa.array(dec, from_pandas=True),
        }
    ).sort_by("_healpix_29")
    folder = tmp_path_factory.mktemp("table")
    files = [folder / "a.parquet", folder / "b.parquet"]
    pq.write_table(rows.slice(0, 20_000), files[0])
    pq.write_table(rows.slice(20_000), files[1])
    return files, rows


@pytest.fixture(scope="module")
def index(table: tuple[list[Path], pa.Table]) -> SkyIndex:
    return SkyIndex.build(table[0], table[0][0].with_name("table.sky"))


@given(st.tuples(longitudes, latitudes, radii) | st.tuples(st.floats(-3, 4), st.floats(27, 33), radii))
@settings(max_examples=60, deadline=None)
def test_the_index_finds_what_a_scan_finds_in_cones(
    table: tuple[list[Path], pa.Table], index: SkyIndex, cone: tuple[float, float, float]
) -> None:
    region = Cone(*cone)
    scan = np.flatnonzero(region.contains(table[1]["ra"].to_numpy(), table[1]["dec"].to_numpy()))
    assert index.search(region).tolist() == scan.tolist()


@given(polygons())
@settings(max_examples=40, deadline=None)
def test_the_index_finds_what_a_scan_finds_in_polygons(
    table: tuple[list[Path], pa.Table], index: SkyIndex, shape: tuple[Polygon, float, float, float]
) -> None:
    scan = np.flatnonzero(shape[0].contains(table[1]["ra"].to_numpy(), table[1]["dec"].to_numpy()))
    assert index.search(shape[0]).tolist() == scan.tolist()


def test_rows_without_coordinates_come_last(table: tuple[list[Path], pa.Table], index: SkyIndex) -> None:
    everywhere = index.search(Cone(0, 0, 180))
    missing = table[1]["ra"].is_null().to_numpy() | table[1]["dec"].is_null().to_numpy()
    assert 90 <= missing.sum() <= 100
    assert everywhere.tolist() == list(range(N_ROWS - int(missing.sum())))


def test_an_index_opens_again_until_its_table_changes(table: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    path = tmp_path / "t.sky"
    assert SkyIndex.open(path, table[0]) is None
    built = SkyIndex.build(table[0], path)
    opened = SkyIndex.open(path, table[0])
    assert opened is not None
    assert len(opened) == N_ROWS
    assert (opened.cells == built.cells).all()
    assert opened.ids.equals(table[1]["specobjid"].combine_chunks())
    assert SkyIndex.open(path, table[0][:1]) is None
    assert [file.name for file in tmp_path.iterdir()] == ["t.sky"]


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_truncated_index_is_not_opened(table: tuple[list[Path], pa.Table], tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.sky"
    SkyIndex.build(table[0], path)
    path.write_bytes(path.read_bytes()[:keep])
    assert SkyIndex.open(path, table[0]) is None


def test_a_table_in_another_order_is_refused(table: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    with pytest.raises(DamagedData, match="not sorted"):
        SkyIndex.build(table[0][::-1], tmp_path / "t.sky")


def test_an_empty_table_has_an_empty_index(table: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    pq.write_table(table[1].slice(0, 0), tmp_path / "empty.parquet")
    index = SkyIndex.build([tmp_path / "empty.parquet"], tmp_path / "t.sky")
    assert len(index) == 0
    assert index.search(Cone(0, 0, 10)).tolist() == []


@given(polygons(), st.tuples(st.floats(-3, 4), st.floats(27, 33), st.floats(0.1, 5)))
@settings(max_examples=40, deadline=None)
def test_rows_are_found_that_lie_in_all_of_some_regions(
    table: tuple[list[Path], pa.Table],
    index: SkyIndex,
    shape: tuple[Polygon, float, float, float],
    cone: tuple[float, float, float],
) -> None:
    regions: list[Region] = [Cone(0, 30, 3), shape[0], Cone(*cone)]
    places = table[1]["ra"].to_numpy(), table[1]["dec"].to_numpy()
    scan = np.flatnonzero(np.all([region.contains(*places) for region in regions], axis=0))
    assert index.search(*regions).tolist() == scan.tolist()


def test_a_large_region_is_searched_piece_by_piece(index: SkyIndex) -> None:
    pieces = list(index.pieces(Cone(0, 30, 90)))
    assert len(pieces) >= 3
    assert np.concatenate(pieces).tolist() == index.search(Cone(0, 30, 90)).tolist()


def test_a_search_can_be_stopped_after_each_cover(index: SkyIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    covered = []
    plain = Cone.cover

    def noted(cone: Cone) -> NDArray[np.int64]:
        covered.append(cone)
        return plain(cone)

    monkeypatch.setattr(Cone, "cover", noted)
    cones = [Cone(n, 30, 5) for n in range(3)]
    pieces = index.pieces(*cones)
    for n in range(3):
        assert len(next(pieces)) == 0
        assert covered == cones[: n + 1]


def index_of(ids: pa.Array, folder: Path) -> SkyIndex:
    pq.write_table(pa.table({"id": ids, "z": np.arange(len(ids))}), folder / "t.parquet")
    return SkyIndex.build([folder / "t.parquet"], folder / "t.sky", ra=None, dec=None, id_column="id")


KINDS = [pa.int16(), pa.int64(), pa.uint32(), pa.uint64(), pa.string()]
wanted_ids = st.lists(st.integers(-20, 20) | st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=30)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(own=st.lists(st.integers(0, 30) | st.none(), max_size=40), asked=wanted_ids, data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_identifiers_find_all_their_rows_in_order(
    tmp_path: Path, kind: pa.DataType, own: list[int | None], asked: list[int | None], data: st.DataObject
) -> None:
    index = index_of(pa.array(own, pa.int64()).cast(kind), tmp_path)
    asked_kind = pa.string() if pa.types.is_string(kind) else data.draw(st.sampled_from(KINDS[:-1]))
    least, most = (-(2**15), 2**15 - 1) if asked_kind == pa.int16() else (0, 2**31)
    asked = [i if i is None or asked_kind in (pa.int64(), pa.string()) else min(max(i, least), most) for i in asked]
    position, row = index.rows_of(pa.array(asked, pa.int64()).cast(asked_kind))
    expected = [(p, r) for p, i in enumerate(asked) for r, o in enumerate(own) if i is not None and i == o]
    assert list(zip(position.tolist(), row.tolist(), strict=True)) == expected


def test_identifiers_beyond_63_bits_are_exact(tmp_path: Path) -> None:
    ids = pa.array([2**64 - 1, 2**63 + 1, 2**63, 2**53 + 1, 5, None], pa.uint64())
    index = index_of(ids, tmp_path)
    for place, number in enumerate(ids.to_pylist()[:-1]):
        assert index.rows_of(pa.array([number - 1, number], pa.uint64()))[1].tolist()[-1:] == [place]
        assert index.rows_of(pa.array([number - 2 if number < 2**64 - 1 else 7], pa.uint64()))[1].tolist() == []
    assert index.rows_of(pa.array([-1, 5, -(2**63)], pa.int64()))[1].tolist() == [4]
    signed = index_of(pa.array([-1, 2**62]), tmp_path)
    assert signed.rows_of(pa.array([2**64 - 1, 2**63, 2**62], pa.uint64()))[1].tolist() == [1]


def test_ten_thousand_identifiers_are_found_at_once(table: tuple[list[Path], pa.Table], index: SkyIndex) -> None:
    ids = table[1]["specobjid"].combine_chunks()
    rows = np.random.default_rng(1).integers(0, N_ROWS, 10_000)
    started = time.perf_counter()
    position, row = index.rows_of(ids.take(pa.array(rows)))
    assert time.perf_counter() - started < 0.2
    assert position.tolist() == list(range(10_000))
    assert row.tolist() == rows.tolist()


def test_a_table_without_positions_has_no_regions(tmp_path: Path) -> None:
    index = index_of(pa.array([3, 1, 2]), tmp_path)
    assert len(index) == 3
    assert not index.has_positions
    assert index.cells.tolist() == [NO_POSITION] * 3
    assert np.isnan(index.x).all()
    with pytest.raises(InvalidRequest, match="no positions"):
        index.search(Cone(0, 0, 1))


def test_a_table_without_identifiers_says_so(table: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    index = SkyIndex.build(table[0], tmp_path / "t.sky", id_column=None)
    assert len(index) == N_ROWS
    assert len(index.search(Cone(0.5, 30, 1))) > 300
    with pytest.raises(InvalidRequest, match="no identifiers"):
        index.rows_of(pa.array([1]))


def test_identifiers_of_another_kind_are_refused(index: SkyIndex) -> None:
    with pytest.raises(InvalidRequest, match="type string"):
        index.rows_of(pa.array(["1"]))


def test_a_table_with_neither_is_as_long_as_its_files(table: tuple[list[Path], pa.Table], tmp_path: Path) -> None:
    assert len(SkyIndex.build(table[0], tmp_path / "t.sky", ra=None, dec=None, id_column=None)) == N_ROWS
