"""Tests of `specflight.catalog.table`."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from specflight.catalog.database import Cancellation, Database, open_database
from specflight.catalog.healpix import healpix_29
from specflight.catalog.regions import Cone, Polygon, Region
from specflight.catalog.table import CatalogueTable, QueryLimits, index_table, open_table
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, QueryTimeout

N = 120_000  # two batches of the row store


def make_rows() -> pa.Table:
    rng = np.random.default_rng(3)
    ra, dec = rng.random(N) * 20 + 350, np.degrees(np.arcsin(rng.random(N) * 0.4))
    ra[:30] = np.nan
    rows = pa.table(
        {
            "_healpix_29": healpix_29(ra, dec),
            "specobjid": rng.permutation(N).astype(np.uint64) + np.uint64(2**63),
            "ra": pa.array(ra % 360, from_pandas=True),
            "dec": dec,
            "z": pa.array(rng.choice(np.linspace(0, 3, 31).astype(np.float32), N), mask=rng.random(N) < 0.1),
            "zerr": rng.random(N).astype(np.float32),
            "class": rng.choice(["GALAXY", "QSO", "STAR"], N),
            "plate": rng.integers(200, 16000, N).astype(np.int16),
            "mag": pa.array(list(rng.random((N, 5), np.float32)), pa.list_(pa.float32())),
            "clean": rng.random(N) < 0.5,
        }
    ).sort_by([("_healpix_29", "ascending"), ("specobjid", "ascending")])
    unit = pa.field("zerr", pa.float32(), metadata={b"unit": b"km/s"})
    return rows.set_column(5, unit, rows["zerr"])


ROWS = make_rows()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database("500MB", tmp_path_factory.mktemp("scratch"), 2) as opened:
        yield opened


@pytest.fixture(scope="module", params=[1, 3], ids=["one file", "three files"])
def table(
    request: pytest.FixtureRequest, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> CatalogueTable:
    return make_table(tmp_path_factory.mktemp("table"), database, request.param)


def make_table(folder: Path, database: Database, parts: int = 1, limits: QueryLimits | None = None) -> CatalogueTable:
    return open_rows(ROWS, folder, database, parts, limits)


def open_rows(
    rows: pa.Table,
    folder: Path,
    database: Database,
    parts: int = 1,
    limits: QueryLimits | None = None,
    *,
    id_column: str | None = "specobjid",
    ra: str | None = "ra",
    dec: str | None = "dec",
) -> CatalogueTable:
    files = [folder / f"it's {i}.parquet" for i in range(parts)]
    size = -(-len(rows) // parts)
    for i, file in enumerate(files):
        pq.write_table(rows.slice(i * size, size), file, row_group_size=4000)
    named: dict[str, str | None] = {"id_column": id_column, "ra": ra, "dec": dec}
    index_table(folder, files, **named)
    return open_table(
        "sdss_dr16.specobj", folder, files, database, limits or QueryLimits(), **named, description="simulated"
    )


def expected(region: Region | None, condition: Callable[[pa.Table], Any] | None) -> pa.Table:
    rows = ROWS
    if condition is not None:
        rows = rows.filter(condition(rows))
    if region is not None:
        rows = rows.filter(pa.array(region.contains(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    return rows


REGIONS: list[Region | None] = [
    None,
    Cone(0, 5, 0.3),
    Cone(0, 5, 4),
    Cone(180, -50, 10),
    Polygon.from_flat([355, 1, 5, 1, 0, 4, 5, 9, 355, 9]),
]
CONDITIONS: list[tuple[str | None, Callable[[pa.Table], Any] | None]] = [
    (None, None),
    ("z > 1.05 and class = 'QSO'", lambda t: pc.and_(pc.greater(t["z"], 1.05), pc.equal(t["class"], "QSO"))),
    ("plate < 0", lambda t: pc.less(t["plate"], 0)),
]


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize(("where", "condition"), CONDITIONS, ids=[str(where) for where, _ in CONDITIONS])
def test_place_and_condition_find_the_right_rows_in_the_order_of_the_sky(
    table: CatalogueTable, region: Region | None, where: str | None, condition: Callable[[pa.Table], Any] | None
) -> None:
    found = expected(region, condition)
    assert table.query(region, where).equals(found.select(["specobjid"]))
    columns = ["mag", "specobjid", "zerr", "clean"]
    assert table.query(region, where, columns=columns).equals(found.select(columns), check_metadata=False)


def test_types_and_units_survive_an_empty_result(table: CatalogueTable) -> None:
    columns = ["specobjid", "mag", "class", "zerr", "clean", "plate"]
    for found in (table.query(where="plate < 0", columns=columns), table.query(where="plate > 0", columns=columns)):
        assert found.schema.types == ROWS.select(columns).schema.types
        assert found.schema.field("zerr").metadata == {b"unit": b"km/s"}
    assert table.query(Cone(180, -50, 1)).schema == pa.schema([("specobjid", pa.uint64())])


def test_the_schema_lists_all_columns_but_the_cell(table: CatalogueTable) -> None:
    assert table.schema.names == ROWS.column_names[1:]
    assert table.schema.field("zerr").metadata == {b"unit": b"km/s"}
    assert table.rows == N
    cells = table.query(columns=["_healpix_29"])["_healpix_29"]
    assert cells.equals(ROWS["_healpix_29"])
    assert len(table.query(where=f"_healpix_29 < {cells[99].as_py()}")) == 99


def test_order_is_stable_and_nulls_sort_as_in_postgresql(table: CatalogueTable) -> None:
    z, ids = ROWS["z"].to_pylist(), ROWS["specobjid"].to_pylist()
    known, missing = [i for i in range(N) if z[i] is not None], [ids[i] for i in range(N) if z[i] is None]
    up = [ids[i] for i in sorted(known, key=lambda i: z[i])] + missing
    down = missing + [ids[i] for i in sorted(known, key=lambda i: -z[i])]
    for word, wanted in (("z", up), ("z desc", down)):
        assert table.query(order_by=word)["specobjid"].to_pylist() == wanted
        assert table.query(where=f"order by {word}")["specobjid"].to_pylist() == wanted
        assert table.query(where=f"order by {word} limit 50 offset 9")["specobjid"].to_pylist() == wanted[9:59]
        assert table.query(order_by=word, limit=50, offset=9)["specobjid"].to_pylist() == wanted[9:59]


@pytest.mark.parametrize("region", [None, Cone(0, 5, 4)], ids=str)
def test_limit_and_offset_cut_the_order_of_the_sky(table: CatalogueTable, region: Region | None) -> None:
    every = expected(region, None)["specobjid"].to_pylist()
    for limit, offset in ((5, 0), (5, 7), (0, 0), (None, len(every) - 3), (10, len(every) + 5), (10**15, 0)):
        wanted = every[offset:][:limit]
        assert table.query(region, limit=limit, offset=offset)["specobjid"].to_pylist() == wanted
        columns = table.query(region, limit=limit, offset=offset, columns=["specobjid", "z"])
        assert columns["specobjid"].to_pylist() == wanted
    assert table.query(region, where="limit 3 offset 2")["specobjid"].to_pylist() == every[2:5]


def test_columns_are_found_whatever_their_case(table: CatalogueTable) -> None:
    found = table.query(columns=["SpecObjID", "Z_ERR", "Class"], where="CLASS = 'QSO'", limit=4)
    assert found.column_names == ["specobjid", "z_err", "class"]
    quasars = ROWS.filter(pc.equal(ROWS["class"], "QSO"))
    assert found["z_err"].to_pylist() == quasars["zerr"].to_pylist()[:4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": ["z", "plat"]}, "there is no column 'plat' in sdss_dr16.specobj; did you mean 'plate'"),
        ({"columns": []}, "the list is empty"),
        ({"columns": ["z", "Z"]}, "'z' is named twice"),
        ({"where": "plat = 3"}, "there is no column 'plat'"),
        ({"where": "other.z = 3"}, "the one that is queried, 'specobj'"),
        ({"where": "order by z", "order_by": "plate"}, "order_by: it is given twice"),
        ({"where": "limit 5", "limit": 5}, "limit: it is given twice"),
        ({"where": "offset 5", "offset": 5}, "offset: it is given twice"),
        ({"limit": -1}, "limit: -1"),
        ({"offset": -1}, "offset: -1"),
        ({"order_by": "z limit 5"}, "order_by: 'z limit 5'"),
        ({"order_by": "z; drop table t"}, "second statement"),
    ],
)
def test_what_cannot_be_asked_is_refused(table: CatalogueTable, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        table.query(**arguments)


def test_more_rows_than_the_limit_is_an_error_never_a_cut(database: Database, tmp_path: Path) -> None:
    table = make_table(tmp_path, database, limits=QueryLimits(max_rows=1000))
    refused: list[dict[str, Any]] = [
        {},
        {"region": Cone(0, 5, 9)},
        {"where": "plate > 300"},
        {"columns": ["z"]},
        {"limit": 1001},
        {"where": "z > 0.05 limit 5000"},
    ]
    for arguments in refused:
        with pytest.raises(LimitExceeded, match="limit of 1000"):
            table.query(**arguments)
    allowed: list[dict[str, Any]] = [{"limit": 1000}, {"where": "plate > 300 limit 1000"}, {"offset": N - 1000}]
    for arguments in allowed:
        assert len(table.query(**arguments)) == 1000


def test_a_long_list_of_ids_is_found(table: CatalogueTable) -> None:
    ids = ROWS["specobjid"].to_pylist()[::4]
    found = table.query(where=f"specobjid in ({','.join(map(str, ids))}) and clean")
    assert found["specobjid"].to_pylist() == [
        i for i, clean in zip(ids, ROWS["clean"].to_pylist()[::4], strict=True) if clean
    ]


def test_a_cancelled_query_ends(table: CatalogueTable) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    queries: list[dict[str, Any]] = [{"where": "z > 1"}, {"region": Cone(0, 5, 4)}, {"columns": ["z"]}]
    for query in queries:
        with pytest.raises(QueryTimeout, match="cancelled"):
            table.query(**query, cancellation=cancellation)


def test_a_search_that_nobody_waits_for_ends(table: CatalogueTable) -> None:
    corners = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    circle = Polygon(tuple(zip(10 * np.cos(corners), 12 + 10 * np.sin(corners), strict=True)))
    started = time.monotonic()
    gone = Cancellation(lambda: time.monotonic() - started > 0.1)
    with pytest.raises(QueryTimeout, match="cancelled"):
        table.count(circle, cancellation=gone)
    assert time.monotonic() - started < 1.5


def test_the_time_limit_holds_for_the_search_too(database: Database, tmp_path: Path) -> None:
    table = make_table(tmp_path, database, limits=QueryLimits(seconds=1e-6))
    for query in (table.query, table.count, table.estimate):
        with pytest.raises(QueryTimeout, match="limit"):
            query(Cone(0, 5, 4))


CONE = Cone(0, 5, 4)
IN_CONE = "q3c_radial_query(ra, dec, 0, 5, 4)"


HIGH, LOW = (ROWS["plate"].to_numpy() > 15000), (ROWS["plate"].to_numpy() < 300)
PLACES = ROWS["ra"].to_numpy(), ROWS["dec"].to_numpy()
INSIDE, OTHER, KNOWN = CONE.contains(*PLACES), Cone(3, 5, 4).contains(*PLACES), ~np.isnan(PLACES[0])


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (IN_CONE, INSIDE),
        (f"{IN_CONE} and plate > 15000", INSIDE & HIGH),
        (f"{IN_CONE} and q3c_radial_query(ra, dec, 3, 5, 4)", INSIDE & OTHER),
        (f"{IN_CONE} or q3c_radial_query(ra, dec, 3, 5, 4)", INSIDE | OTHER),
        (f"not {IN_CONE} and plate > 15000", ~INSIDE & KNOWN & HIGH),
        (f"({IN_CONE} or plate < 300) and clean", (INSIDE | LOW) & ROWS["clean"].to_numpy()),
    ],
    ids=["alone", "and", "both", "or", "not", "nested"],
)
def test_regions_in_the_clause_are_found_as_if_given_by_themselves(
    table: CatalogueTable, where: str, found: NDArray[np.bool_]
) -> None:
    ids = ROWS["specobjid"].to_numpy()
    assert table.query(where=where)["specobjid"].to_pylist() == ids[found].tolist()
    both = found & Cone(1, 7, 5).contains(*PLACES)
    assert table.query(Cone(1, 7, 5), where)["specobjid"].to_pylist() == ids[both].tolist()
    assert table.count(Cone(1, 7, 5), where) == both.sum()
    assert table.query(where=f"{where} limit 7 offset 3")["specobjid"].to_pylist() == ids[found][3:10].tolist()


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize(("where", "condition"), CONDITIONS, ids=[str(where) for where, _ in CONDITIONS])
def test_a_count_is_the_number_of_rows_that_are_found(
    table: CatalogueTable, region: Region | None, where: str | None, condition: Callable[[pa.Table], Any] | None
) -> None:
    number = len(expected(region, condition))
    assert table.count(region, where) == number
    assert table.count(region, f"{where or ''} order by z limit 10") == min(number, 10)
    assert table.count(region, f"{where or ''} limit 10 offset {max(number - 3, 0)}") == min(number, 3)
    assert table.count(region, f"{where or ''} offset {number + 5}") == 0


def test_more_rows_than_the_limit_are_counted(database: Database, tmp_path: Path) -> None:
    table = make_table(tmp_path, database, limits=QueryLimits(max_rows=10))
    assert table.count() == N
    assert table.count(where="plate > 0") == N


def test_an_estimate_without_condition_is_exact(table: CatalogueTable) -> None:
    region = Cone(0, 5, 4)
    number = len(expected(region, None))
    assert number > 1000
    found = table.estimate(region, columns=["specobjid", "z"])
    assert (found.rows, found.exact, found.candidates) == (number, True, number)
    assert table.estimate(region, order_by="z", limit=20, offset=3).rows == 20
    assert table.estimate(region, offset=number - 3).rows == 3
    assert table.estimate().rows == N


def test_an_estimate_of_a_condition_is_near_or_exact(table: CatalogueTable) -> None:
    number = len(expected(None, lambda t: pc.equal(t["class"], "QSO")))
    guess = table.estimate(where="class = 'QSO'")
    assert not guess.exact
    assert guess.candidates == N
    assert guess.rows == pytest.approx(number, rel=0.1)
    assert table.estimate(where="class = 'QSO'", limit=100).rows == 100
    region = Cone(0, 5, 1)
    few = table.estimate(region, "class = 'QSO'")
    assert few.candidates == len(expected(region, None)) < 10_000
    assert few.exact
    assert few.rows == table.count(region, "class = 'QSO'")
    assert table.estimate(Cone(180, -50, 1), "z > 1").rows == 0


def test_an_estimate_knows_how_wide_the_columns_are(table: CatalogueTable) -> None:
    columns = ["specobjid", "class", "mag", "clean", "z"]
    whole = table.query(columns=columns)
    for region in (None, Cone(0, 5, 4), Cone(180, -50, 1)):
        assert table.estimate(region, columns=columns).bytes_per_row == pytest.approx(whole.nbytes / N, rel=0.05)


def test_rows_are_taken_by_number_in_any_order(table: CatalogueTable) -> None:
    rows = np.array([N - 1, 5, 100_000, 5, 0])
    wanted = ROWS.combine_chunks().take(pa.array(rows))
    assert table.rows_table(rows).equals(wanted.select(["specobjid"]))
    taken = table.rows_table(rows, ["mag", "Z_ERR", "specobjid"])
    assert taken.column_names == ["mag", "z_err", "specobjid"]
    assert taken["mag"].equals(wanted["mag"])
    assert taken["z_err"].equals(wanted["zerr"])
    with pytest.raises(InvalidRequest, match="no column 'zz'"):
        table.rows_table(rows, ["zz"])


def test_elements_of_vectors_are_asked_for(table: CatalogueTable) -> None:
    first = np.array(ROWS["mag"].to_pylist())[:, 0]
    ids = ROWS["specobjid"].to_numpy()
    assert table.query(where="mag[1] > 0.99")["specobjid"].to_pylist() == ids[first > 0.99].tolist()
    places = np.flatnonzero(CONE.contains(ROWS["ra"].to_numpy(), ROWS["dec"].to_numpy()))
    brightest = places[np.argsort(-first[places], kind="stable")][:9]
    found = table.query(CONE, order_by="mag[1] desc", limit=9, columns=["specobjid", "mag"])
    assert found["specobjid"].to_pylist() == ids[brightest].tolist()


def test_not_a_number_is_greater_than_all_as_in_postgresql(database: Database, tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2, 3, 4], "v": [1.0, np.nan, 3.0, None]})
    table = open_rows(rows, tmp_path, database, id_column="id", ra=None, dec=None)
    assert table.query(where="v > 2")["id"].to_pylist() == [2, 3]
    assert table.query(order_by="v")["id"].to_pylist() == [1, 3, 2, 4]


def test_other_names_stand_for_identifiers_and_positions(database: Database, tmp_path: Path) -> None:
    rows = ROWS.slice(0, 2000).rename_columns({"specobjid": "targetid", "ra": "alpha", "dec": "delta"})
    table = open_rows(rows, tmp_path, database, id_column="targetid", ra="alpha", dec="delta")
    assert (table.id_column, table.position, table.description) == ("targetid", ("alpha", "delta"), "simulated")
    assert table.query(limit=3).equals(rows.select(["targetid"]).slice(0, 3))
    asked = ["SpecObjID", "targetid", "ra", "DEC", "alpha"]
    found = table.query(columns=asked, limit=3)
    assert found.column_names == ["specobjid", "targetid", "ra", "dec", "alpha"]
    assert found["specobjid"].equals(found["targetid"])
    assert found["ra"].equals(found["alpha"])
    least = sorted(rows["targetid"].to_pylist())[:5]
    assert table.query(where="order by specobjid limit 5")["targetid"].to_pylist() == least
    assert table.query(where=f"specobjid <= {least[-1]}", order_by="specobjid")["targetid"].to_pylist() == least
    place = Cone(rows["alpha"][1000].as_py(), rows["delta"][1000].as_py(), 0.1)
    wanted = table.query(place)
    assert len(wanted) >= 1
    assert table.query(where=f"q3c_radial_query(ra, dec, {place.ra}, {place.dec}, 0.1)").equals(wanted)


def test_texts_made_of_long_ones_are_refused_and_long_ones_are_compared(database: Database, tmp_path: Path) -> None:
    rows = ROWS.slice(0, 300).append_column("note", pa.array(["ab" * 50_000] * 299 + ["Ba"]))
    table = open_rows(rows, tmp_path, database)
    for clause in ("length(repeat(note, 1000)) > 0", "note || note = 'x'", "order by repeat(note, 3)"):
        with pytest.raises(InvalidRequest, match="too long; the limit is 110000 bytes for a row"):
            table.query(where=clause)
    assert table.count(where="lower(note) = 'ba' and note like 'B%' and length(note) = 2 and note <> 'x'") == 1


def test_an_offset_beyond_all_rows_leaves_none(database: Database, tmp_path: Path) -> None:
    table = open_rows(pa.table({"v": [3, 1, 2]}), tmp_path, database, id_column=None, ra=None, dec=None)
    for offset in (3, 2**63, 10**30):
        assert table.query(where="v > 0", offset=offset, columns=["v"]).num_rows == 0


def test_zerr_and_z_err_are_one_column_whatever_the_table_calls_it(database: Database, tmp_path: Path) -> None:
    table = open_rows(pa.table({"z_err": [0.1, 0.2]}), tmp_path, database, id_column=None, ra=None, dec=None)
    assert table.query(where="zerr > 0.15", columns=["zerr", "z_err"]).to_pydict() == {"zerr": [0.2], "z_err": [0.2]}


def test_a_column_of_that_very_name_comes_before_another_name(database: Database, tmp_path: Path) -> None:
    rows = pa.table({"specobjid": pa.array([7, 8], pa.uint64()), "targetid": [1, 2], "ra": [5, 6]})
    table = open_rows(rows, tmp_path, database, id_column="targetid", ra=None, dec=None)
    assert table.query().to_pydict() == {"targetid": [1, 2]}
    assert table.query(columns=["specobjid", "ra"], where="specobjid > 7").to_pydict() == {"specobjid": [8], "ra": [6]}


def test_a_table_without_positions_or_identifiers_is_queried_by_condition(database: Database, tmp_path: Path) -> None:
    table = open_rows(pa.table({"v": [3, 1, 2]}), tmp_path, database, id_column=None, ra=None, dec=None)
    assert table.query(where="v > 1", order_by="v", columns=["v"])["v"].to_pylist() == [2, 3]
    assert table.count() == 3
    unknown = table.query(where="v > 1", columns=["v", "specobjid"])
    assert unknown["specobjid"].to_pylist() == [None, None]
    assert unknown.schema.field("specobjid").type == pa.uint64()
    assert table.query().to_pydict() == {"specobjid": [None, None, None]}
    for search in (
        lambda: table.query(Cone(0, 0, 1), columns=["v"]),
        lambda: table.count(Cone(0, 0, 1)),
        lambda: table.estimate(Cone(0, 0, 1), columns=["v"]),
    ):
        with pytest.raises(InvalidRequest, match="no positions"):
            search()


def test_an_empty_table_is_queried(database: Database, tmp_path: Path) -> None:
    table = open_rows(ROWS.slice(0, 0), tmp_path, database)
    for where in (None, "z > 1", "order by z"):
        assert table.query(CONE, where).schema == pa.schema([("specobjid", pa.uint64())])
        assert table.query(where=where).num_rows == 0
        assert table.count(None, where) == table.estimate(None, where).rows == 0


def test_what_is_missing_or_stale_is_written_anew(database: Database, tmp_path: Path) -> None:
    names: dict[str, str | None] = {"id_column": "specobjid", "ra": "ra", "dec": "dec"}
    file = tmp_path / "t.parquet"
    for rows in (ROWS.slice(0, 50), ROWS.slice(0, 70)):
        pq.write_table(rows, file)
        table = open_table("t", tmp_path, [file], database, QueryLimits(), **names, description="")
        assert table.query(where="plate > 0")["specobjid"].equals(rows["specobjid"])
        assert len(table.query(Cone(0, 0, 180))) == rows["ra"].drop_null().length()
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert written.keys() == {"t.parquet", "index.sky", "rows.arrow"}
    open_table("t", tmp_path, [file], database, QueryLimits(), **names, description="")
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_a_column_that_is_not_there_is_an_error(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(ROWS.slice(0, 5), file)
    names: dict[str, str | None] = {"id_column": "specobjid", "ra": "ra", "dec": "dec"}
    index_table(tmp_path, [file], **names)
    with pytest.raises(DamagedData, match="no column 'gone'"):
        open_table("t", tmp_path, [file], database, QueryLimits(), **names | {"id_column": "gone"}, description="")
