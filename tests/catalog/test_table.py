"""Tests of `specflight.catalog.table`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from specflight.catalog.database import Cancellation, Database, open_database
from specflight.catalog.healpix import healpix_29
from specflight.catalog.regions import Cone, Polygon, Region
from specflight.catalog.sky import SkyIndex
from specflight.catalog.table import CatalogueTable, QueryLimits
from specflight.errors import DamagedData, InvalidRequest, LimitExceeded, QueryTimeout

N = 30_000


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
    with open_database([tmp_path_factory.getbasetemp()], "500MB", tmp_path_factory.mktemp("scratch"), 2) as opened:
        yield opened


@pytest.fixture(scope="module", params=[1, 3], ids=["one file", "three files"])
def table(
    request: pytest.FixtureRequest, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> CatalogueTable:
    return make_table(tmp_path_factory.mktemp("table"), database, request.param)


def make_table(folder: Path, database: Database, parts: int = 1, limits: QueryLimits | None = None) -> CatalogueTable:
    size = -(-N // parts)
    files = [folder / f"it's {i}.parquet" for i in range(parts)]
    for i, file in enumerate(files):
        pq.write_table(ROWS.slice(i * size, size), file, row_group_size=4000)
    sky = SkyIndex.build(files, folder / "t.sky")
    return CatalogueTable("sdss_dr16.specobj", files, sky, database, limits or QueryLimits())


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
        ({"where": "plate / (plate - plate) = 1"}, "Division by zero"),
        ({"where": "class::int = 1"}, "convert"),
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
    ids = ROWS["specobjid"].to_pylist()[::2]
    found = table.query(where=f"specobjid in ({','.join(map(str, ids))}) and clean")
    assert found["specobjid"].to_pylist() == [
        i for i, clean in zip(ids, ROWS["clean"].to_pylist()[::2], strict=True) if clean
    ]


def test_a_cancelled_query_ends(table: CatalogueTable) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(QueryTimeout, match="cancelled"):
        table.query(where="z > 1", cancellation=cancellation)


def test_an_index_of_another_table_is_an_error(database: Database, tmp_path: Path) -> None:
    pq.write_table(ROWS.slice(0, 10), tmp_path / "a.parquet")
    pq.write_table(ROWS.slice(0, 20), tmp_path / "b.parquet")
    sky = SkyIndex.build([tmp_path / "a.parquet"], tmp_path / "a.sky")
    with pytest.raises(DamagedData, match="10 rows and the catalogue 20"):
        CatalogueTable("t", [tmp_path / "b.parquet"], sky, database, QueryLimits())
