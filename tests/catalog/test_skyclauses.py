"""Tests of `specflight.catalog.skyclauses`: conditions on the sky become regions, or distances."""

import math
from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.catalog.guard import GuardedClause, QueryLimits, guard_where
from specflight.catalog.regions import Cone, Polygon
from specflight.errors import InvalidRequest

COLUMNS = {
    "ra": pa.float64(),
    "dec": pa.float64(),
    "plug_ra": pa.float64(),
    "plug_dec": pa.float32(),
    "z": pa.float32(),
    "class": pa.string(),
}
ROWS = "_row IN (SELECT r FROM sky_1)"
SQUARE = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0)
CONE = "q3c_radial_query(ra, dec, 150, 2, 0.5)"


def guarded(clause: str, position: tuple[str, str] | None = ("ra", "dec")) -> GuardedClause:
    return guard_where(clause, COLUMNS, QueryLimits(), "specobj", position=position)


@pytest.mark.parametrize(
    "clause",
    [
        CONE,
        f"where {CONE}",
        f"(({CONE}))",
        "Q3C_RADIAL_QUERY(RA, Dec, 150, 2, .5)",
        'q3c_radial_query(specobj.ra, specobj."dec", 150, 2, 0.5)',
        "q3c_radial_query(150, 2, ra, dec, 0.5)",
        "q3c_radial_query(ra, dec, 15*10, -(-2), 1800/3600.0)",
        "q3c_radial_query(ra, dec, 300/2, 7/3, 1.0/2)",
        "q3c_radial_query(ra, dec, '150', 2::float8, 0.5::double precision)",
        "q3c_radial_query(ra, dec, 510, 2, 2 ^ -1)",
        "q3c_radial_query(ra, dec, 1e2+50, 3e0-1, 5e-1)",
        f"{CONE} = 't'",
        f"'t' = {CONE}",
        f"{CONE} = true",
        f"({CONE}) is true",
        f"{CONE} and {CONE}",
    ],
)
def test_a_cone_alone_leaves_no_condition(clause: str) -> None:
    assert guarded(clause) == GuardedClause(within=(Cone(150, 2, 0.5),))


@pytest.mark.parametrize(
    "array",
    [
        "array[0, 0, 10, 0, 10, 10, 0, 10]",
        "ARRAY[0.0, 0, 5*2, 0, 1e1, 10, 0, 10.]",
        "array[0, 0, 10, 0, 10, 10, 0, 10]::float8[]",
        "'{0, 0, 10, 0, 10, 10, 0, 10}'",
        "'{0,0,10,0,10,10,0,10}'::double precision[]",
        "(array[-0, 0, 10, 0, 10, 10, 0, 10])",
    ],
)
def test_a_polygon_is_an_array_or_the_text_of_one(array: str) -> None:
    assert guarded(f"q3c_poly_query(ra, dec, {array})").within == (Polygon.from_flat(SQUARE),)


PAIRS = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]


@pytest.mark.parametrize(
    "region",
    [
        PAIRS,
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, np.float32),
        [tuple(map(np.float64, pair)) for pair in PAIRS],
        list(np.array(SQUARE, np.float32)),
    ],
)
def test_a_polygon_is_whatever_old_clients_print_of_a_list_of_vertices(region: object) -> None:
    found = guarded(f"q3c_poly_query(ra,dec,ARRAY{region}) AND z > 1")
    assert found.within == (Polygon.from_flat(SQUARE),)
    assert found.condition == '("z" > CAST(1 AS DOUBLE))'


def test_signs_and_exponents_in_printed_vertices() -> None:
    pairs = np.array([[-1e-7, -5.5], [4.5, -5.5], [4.5, 1e-3], [355.0, 2.0]])
    expected = (Polygon(tuple((ra, dec) for ra, dec in pairs.tolist())),)
    for region in (pairs, pairs.tolist(), list(map(tuple, pairs.tolist()))):
        assert guarded(f"q3c_poly_query(ra,dec,ARRAY{region})").within == expected
    # a minus between two numbers of a flat list is one
    assert guarded("q3c_poly_query(ra,dec,ARRAY[1 -2, 3, 4, 5, 6, 7])").within == (
        Polygon.from_flat((-1, 3, 4, 5, 6, 7)),
    )


def test_a_thousand_vertices_in_pairs_are_within_the_limits() -> None:
    angles = np.linspace(0, 2 * math.pi, 1000, endpoint=False)
    pairs = [(180 + 5 * math.cos(angle), 5 * math.sin(angle)) for angle in angles]
    (polygon,) = guarded(f"q3c_poly_query(ra,dec,ARRAY{pairs})").within
    assert isinstance(polygon, Polygon)
    assert len(polygon.vertices) == 1000


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("z > 1 and q3c_poly_query(ra,dec,ARRAY[(0,0),(1,0)])", r"at character 11: polygon: it has 2 different"),
        ("q3c_poly_query(ra,dec,ARRAY[(0,0),(1.2.3,0),(0,1)])", "at character 23: the array has values that are no"),
        ("q3c_poly_query(ra,dec,ARRAY[(0,0),(z,0),(0,1)])", "number 1 of the vertices .* is not written out"),
        ("q3c_poly_query(ra,dec,ARRAY[(0,0,1),(1,0,1)])", "number 1 of the vertices .* is not written out"),
        ("q3c_poly_query(ra,dec,ARRAY[[0. 0.]\n ...\n [1. 0.]])", "where"),
        ("q3c_poly_query(ra,dec,ARRAY[(0,0),(1,0),(0,1)]) and zz > 1", "at character 53: there is no column 'zz'"),
        ("z IN ARRAY[(1,2),(3,4)]", "is not supported"),
    ],
)
def test_printed_vertices_that_will_not_do_are_refused_at_their_place(clause: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        guarded(clause)


def test_a_polygon_of_a_thousand_vertices_is_within_the_limits() -> None:
    angles = np.linspace(0, 2 * math.pi, 1000, endpoint=False)
    numbers = [f"{value:.6f}" for angle in angles for value in (180 + 5 * math.cos(angle), 5 * math.sin(angle))]
    for array in (f"array[{', '.join(numbers)}]", f"'{{{','.join(numbers)}}}'"):
        (polygon,) = guarded(f"q3c_poly_query(ra, dec, {array}) and z > 1").within
        assert isinstance(polygon, Polygon)
        assert len(polygon.vertices) == 1000
    with pytest.raises(InvalidRequest, match=r"where at character 1: polygon: .*1001 vertices"):
        guarded(f"q3c_poly_query(ra, dec, array[{', '.join(numbers)}, 180, 5.1])")


def test_what_is_joined_by_and_leaves_the_condition_and_the_rest_stays() -> None:
    found = guarded(f"z > 1 and ({CONE} and (class = 'QSO' and q3c_poly_query(ra, dec, array[{str(SQUARE)[1:-1]}])))")
    assert found.within == (Cone(150, 2, 0.5), Polygon.from_flat(SQUARE))
    assert found.condition == """(("z" > CAST(1 AS DOUBLE)) AND ("class" = 'QSO'))"""
    assert found.columns == {"z", "class"}
    assert found.sky == {}


@pytest.mark.parametrize(
    "clause",
    [
        f"{CONE} or z > 1",
        f"not {CONE}",
        f"z > 1 and not {CONE}",
        f"case when {CONE} then z > 1 else false end",
        f"{CONE} is null",
        f"{CONE} is not true",
        f"{CONE} = false",
        f"({CONE} and z > 1) or z < 0",
        f"coalesce({CONE}, true)",
        f"order by {CONE}",
    ],
)
def test_elsewhere_a_region_is_a_set_of_row_numbers(clause: str) -> None:
    found = guarded(clause)
    assert found.sky == {"sky_1": Cone(150, 2, 0.5)}
    assert found.within == ()
    assert {"ra", "dec"} <= found.columns
    sql = found.condition or found.order_by or ""
    assert f'(CASE WHEN "ra" IS NULL OR "dec" IS NULL THEN NULL ELSE {ROWS} END)' in sql


def test_the_same_region_is_searched_once() -> None:
    other = "q3c_radial_query(ra, dec, 1, 2, 3)"
    found = guarded(f"({CONE} or {other}) and not {CONE}")
    assert found.sky == {"sky_1": Cone(150, 2, 0.5), "sky_2": Cone(1, 2, 3)}
    with pytest.raises(InvalidRequest, match="more than 32 regions"):
        guarded(" or ".join(f"q3c_radial_query(ra, dec, {n}, 0, 1)" for n in range(33)))


@pytest.mark.parametrize(
    "clause",
    [
        "q3c_dist(ra, dec, 150, 2) < 0.5",
        "q3c_dist(150, 2, ra, dec) <= 1800/3600.0",
        "0.5 > q3c_dist(ra, dec, 150, 2)",
    ],
)
def test_a_distance_below_a_limit_is_searched_in_a_cone_and_still_computed(clause: str) -> None:
    found = guarded(f"{clause} and z > 1")
    (cone,) = found.within
    assert isinstance(cone, Cone)
    assert (cone.ra, cone.dec) == (150, 2)
    assert 0.5 < cone.radius < 0.5 + 1e-8
    assert "asin" in (found.condition or "")
    for other in (
        f"not {clause}",
        f"{clause} or z > 1",
        "q3c_dist(ra, dec, 150, 2) > 0.5",
        "q3c_dist(ra, dec, z, 2) < 1",
    ):
        assert guarded(other).within == ()


def test_other_columns_are_compared_by_distance() -> None:
    for clause in (
        "q3c_radial_query(plug_ra, plug_dec, 150, 2, 0.5)",
        "q3c_radial_query(ra, dec, plug_ra, plug_dec, 0.5)",
        "q3c_radial_query(ra, dec, 150, 2, z)",
        "q3c_radial_query(dec, ra, 150, 2, 0.5)",
    ):
        found = guarded(clause)
        assert (found.within, found.sky) == ((), {})
        assert "asin" in (found.condition or "")
    assert guarded(CONE, position=None).within == ()
    assert guarded("q3c_radial_query(plug_ra, plug_dec, 150, 2, 0.5)", ("plug_ra", "plug_dec")).within


def test_aliases_of_the_position_are_the_position() -> None:
    aliases = {"ra": "plug_ra", "dec": "plug_dec"}
    columns = {name: kind for name, kind in COLUMNS.items() if name not in ("ra", "dec")}
    for position in (("plug_ra", "plug_dec"), ("ra", "dec")):
        found = guard_where(CONE, columns, QueryLimits(), aliases=aliases, position=position)
        assert found.within == (Cone(150, 2, 0.5),)


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        ("z > 1 and q3c_radial_query(ra, dec, 1, 2, 1/3600)", r"at character 11: the radius 1 / 3600 is 0, .*1/3600.0"),
        ("q3c_radial_query(ra, dec, 1, 2, 0)", "radius: 0.0 is not above 0"),
        ("q3c_radial_query(ra, dec, 1, 2, -1)", "radius: -1.0 is not above 0"),
        ("q3c_radial_query(ra, dec, 1, 91, 1)", "dec: 91.0 is outside"),
        ("q3c_radial_query(ra, dec, 1, 2)", "the function q3c_radial_query takes 5 arguments, not 4"),
        ("q3c_radial_query(other.ra, dec, 1, 2, 3)", "the table 'other' is not the one that is queried"),
        ("q3c_radial_query(raa, dec, 1, 2, 3)", "no column 'raa'; did you mean 'ra'"),
        ("q3c_radial_query(ra, dec, class, 2, 3)", "needs numbers, not text"),
        ("q3c_poly_query(plug_ra, plug_dec, array[0, 0, 1, 0, 1, 1])", "takes the table's position columns"),
        ("q3c_poly_query(ra, dec, array[0, 0, 1, 0, 1])", "5 numbers are not pairs"),
        ("q3c_poly_query(ra, dec, array[0, 0, 1, 0])", "2 different vertices"),
        ("q3c_poly_query(ra, dec, array[0, 0, 120, 0, 240, 0])", "polygon: it does not fit into a hemisphere"),
        ("q3c_poly_query(ra, dec, array[z, 0, 1, 0, 1, 1])", "number 1 of the vertices .* is not written out"),
        (
            "q3c_ellipse_query(ra, dec, 1, 2, 3, 0.5, 10)",
            "q3c_ellipse_query is refused; q3c_radial_query, q3c_poly_query",
        ),
    ],
)
def test_a_refusal_says_what_to_do(clause: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        guarded(clause)


@pytest.mark.parametrize(
    "number",
    ["*".join(["9" * 38] * 150), "1e300::int", "(10.0 ^ 300)::bigint * 9", "-" + "9" * 5000],
)
def test_a_number_beyond_all_types_is_refused_in_a_sentence(number: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        guarded(f"q3c_radial_query(ra, dec, {number}, 95, 5)")
    assert len(str(refused.value)) < 200


def test_regions_joined_by_and_count_as_well() -> None:
    cones = [f"q3c_radial_query(ra, dec, {n}, 0, 90)" for n in range(33)]
    assert len(guarded(" and ".join([*cones[:32], cones[0]])).within) == 32
    mixed = " and ".join([*cones[:20], "(z > 1 or " + " or ".join(cones[20:]) + ")"])
    for clause in (" and ".join(cones), mixed):
        with pytest.raises(InvalidRequest, match="more than 32 regions; match a table of positions"):
            guarded(clause)


places = st.tuples(st.floats(0, 360), st.floats(-90, 90))


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@given(places, places)
def test_a_distance_is_that_on_the_sphere(
    database: duckdb.DuckDBPyConnection, a: tuple[float, float], b: tuple[float, float]
) -> None:
    row = pa.table({"ra": [a[0]], "dec": [a[1]], "plug_ra": [b[0]], "plug_dec": [b[1]]})
    columns = {name: pa.float64() for name in row.column_names}
    key = guard_where("order by q3c_dist(ra, dec, plug_ra, plug_dec)", columns, QueryLimits()).order_by or ""
    database.register("t", row)
    (found,) = database.execute(f"SELECT {key.removesuffix(' ASC NULLS LAST')} FROM t").fetchall()[0]
    x, y = (
        np.array([math.cos(d) * math.cos(r), math.cos(d) * math.sin(r), math.sin(d)])
        for r, d in (map(math.radians, place) for place in (a, b))
    )
    expected = math.degrees(math.atan2(float(np.linalg.norm(np.cross(x, y))), float(x @ y)))
    assert found == pytest.approx(expected, abs=2e-6 if expected > 179.9 else 1e-9)
