"""Tests of `specflight.catalog.hats`, and of the tables that `write_table` writes with it."""

from __future__ import annotations

import csv
import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import specflight.catalog.extract as extract_module
import specflight.catalog.hats as hats_module
from specflight.catalog.extract import write_table
from specflight.catalog.hats import NO_POSITION_FILE, ExtractTable, HatsWriter, Partition
from specflight.catalog.healpix import NO_POSITION, healpix_29
from specflight.errors import DamagedData

LAST = 12 << 58  # one beyond the last cell of the sky
HATS_FILES = ["hats.properties", "partition_info.csv", "dataset/_common_metadata", "dataset/_metadata"]


def stars(n: int, seed: int = 0, **columns: Any) -> pa.Table:  # noqa: ANN401 - any column
    """Positions of which a third lie within a degree, as in a survey's deep field."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.random(n) * 360, np.degrees(np.arcsin(rng.random(n) * 2 - 1))
    ra[::3], dec[::3] = 150 + rng.random(len(ra[::3])), 2 + rng.random(len(ra[::3]))
    return pa.table({"name": rng.permutation(n), "raj2000": ra, "dej2000": dec, **columns})


def write(
    folder: Path,
    *tables: pa.Table,
    name: str = "vac.stars",
    id_column: str | None = "name",
    ra: str | None = "raj2000",
    dec: str | None = "dej2000",
) -> ExtractTable:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path)
    return write_table(name, paths, folder / "out", folder, id_column=id_column, ra=ra, dec=dec)


def content(table: ExtractTable) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in table.files)


def inside(table: ExtractTable) -> list[str]:
    return [path.relative_to(table.folder).as_posix() for path in table.files]


@settings(max_examples=60)
@given(
    cells=st.lists(
        st.one_of(st.integers(0, LAST - 1), st.integers(5 << 50, (5 << 50) + 3), st.just(NO_POSITION)), max_size=40
    ),
    most=st.integers(1, 6),
)
def test_partitions_are_the_largest_pixels_with_few_enough_rows(cells: list[int], most: int) -> None:
    ascending = np.sort(np.array(cells, np.int64))
    before = hats_module.ROWS_PER_FILE
    hats_module.ROWS_PER_FILE = most
    try:
        partitions = Partition.split(ascending)
    finally:
        hats_module.ROWS_PER_FILE = before
    covered = [row for part in partitions for row in range(part.first, part.last)]
    assert covered == list(range(int((ascending < LAST).sum())))
    for part in partitions:
        own = ascending[part.first : part.last]
        assert (own >> 2 * (29 - part.order) == part.pixel).all()
        assert 0 < len(own) <= most or part.order == 29
        parent = ascending >> 2 * (30 - part.order) == part.pixel >> 2
        assert part.order == 0 or (parent & (ascending < LAST)).sum() > most


def test_files_lie_where_hats_says() -> None:
    assert Partition(0, 4, 0, 1).name == "dataset/Norder=0/Dir=0/Npix=4.parquet"
    assert Partition(8, 9_999, 0, 1).name == "dataset/Norder=8/Dir=0/Npix=9999.parquet"
    assert Partition(8, 123_456, 0, 1).name == "dataset/Norder=8/Dir=120000/Npix=123456.parquet"


def test_a_table_has_all_rows_in_the_order_of_sky_identifier_and_source(tmp_path: Path) -> None:
    whole = stars(900, note=pa.array([f"row {i}" for i in range(900)]))
    # the same place three times, with identifiers that descend, are equal, and are null
    place = {name: [whole[name][0].as_py()] * 5 for name in ("raj2000", "dej2000")}
    same = pa.table({"name": pa.array([None, 7, 5, 7, None], pa.int64()), **place, "note": list("abcde")})
    found = content(write(tmp_path, whole, same))
    assert found.column_names == ["_healpix_29", "name", "raj2000", "dej2000", "note"]
    cells = found["_healpix_29"].to_numpy()
    assert (np.diff(cells) >= 0).all()
    np.testing.assert_array_equal(cells, healpix_29(found["raj2000"].to_numpy(), found["dej2000"].to_numpy()))
    given_rows = pa.concat_tables([whole, same]).sort_by("note")
    assert found.drop_columns("_healpix_29").sort_by("note").equals(given_rows)
    tied = found.filter(pa.array(cells == cells[found["note"].to_pylist().index("a")]))
    assert [note for note in tied["note"].to_pylist() if len(note) == 1] == ["c", "b", "d", "a", "e"]
    ids = [i for i in tied["name"].to_pylist() if i is not None]
    assert ids == sorted(ids)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of at most 100 rows, row groups of 30."""
    monkeypatch.setattr(hats_module, "ROWS_PER_FILE", 100)
    monkeypatch.setattr(hats_module, "ROW_GROUP", 30)
    monkeypatch.setattr(extract_module, "ROW_GROUP", 30)


@pytest.mark.usefixtures("small_files")
def test_a_catalogue_is_split_where_its_rows_are_and_lists_its_pixels(tmp_path: Path) -> None:
    table = write(tmp_path, stars(2000))
    orders = {int(name.split("/")[1].removeprefix("Norder=")) for name in inside(table)}
    assert min(orders) <= 2 < 6 <= max(orders)
    assert all(0 < file.rows <= 100 for file in table.data)
    assert [file.path.relative_to(table.folder).as_posix() for file in table.hats] == HATS_FILES
    with (table.folder / "partition_info.csv").open(newline="") as file:
        listed = [Partition(int(row["Norder"]), int(row["Npix"]), 0, 0).name for row in csv.DictReader(file)]
    assert listed == inside(table)
    footers = pq.read_metadata(table.folder / "dataset/_metadata")
    paths = [footers.row_group(number).column(0).file_path for number in range(footers.num_row_groups)]
    assert list(dict.fromkeys(paths)) == [name.removeprefix("dataset/") for name in inside(table)]
    assert footers.num_rows == table.rows == 2000
    for written in table.data:
        groups = pq.read_metadata(written.path)
        assert groups.num_row_groups == -(-written.rows // 30)
        assert groups.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.usefixtures("small_files")
def test_arrow_reads_the_whole_catalogue_from_its_metadata_file(tmp_path: Path) -> None:
    table = write(tmp_path, stars(500))
    read = ds.parquet_dataset(table.folder / "dataset/_metadata").to_table()
    assert read.equals(content(table))


def test_units_and_descriptions_survive_in_every_file(tmp_path: Path) -> None:
    rows = stars(50)
    about = {b"unit": b"mag", b"description": b"five of them"}
    field = pa.field("mag", pa.list_(pa.float32(), 5), metadata=about)
    rows = rows.append_column(field, pa.array([[1.0, 2, 3, 4, 5]] * 50, field.type))
    table = write(tmp_path, rows)
    for path in (*table.files, table.folder / "dataset/_metadata", table.folder / "dataset/_common_metadata"):
        read = pq.read_schema(path).field("mag")
        assert read.type == field.type
        assert {key: read.metadata[key] for key in about} == about


def test_the_properties_say_what_hats_needs_and_nothing_that_changes(tmp_path: Path) -> None:
    rows = stars(40).rename_columns(["name", "ra \\ j2000", "dé"])
    table = write(tmp_path, rows, ra="ra \\ j2000", dec="dé")
    text = (table.folder / "hats.properties").read_text(encoding="utf-8")
    assert dict(line.split("=", 1) for line in text.splitlines()) == {
        "obs_collection": "vac.stars",
        "dataproduct_type": "object",
        "hats_nrows": "40",
        "hats_col_ra": "ra \\\\ j2000",
        "hats_col_dec": "dé",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": "29",
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": "1000000",
        "hats_builder": "specflight",
        "hats_version": "v1.0",
    }


def test_rows_without_a_position_are_last_and_outside_of_the_catalogue(tmp_path: Path) -> None:
    rows = stars(30)
    ra = pa.array([None if i % 10 == 0 else v for i, v in enumerate(rows["raj2000"].to_pylist())])
    rows = rows.set_column(1, "raj2000", ra)
    table = write(tmp_path, rows)
    assert inside(table)[-1] == NO_POSITION_FILE
    last = pq.read_table(table.files[-1])
    assert last["_healpix_29"].to_pylist() == [NO_POSITION] * 3
    assert last["name"].to_pylist() == sorted(last["name"].to_pylist())
    assert "hats_nrows=27\n" in (table.folder / "hats.properties").read_text()
    assert ds.parquet_dataset(table.folder / "dataset/_metadata").count_rows() == 27
    assert table.rows == 30
    assert NO_POSITION_FILE not in inside(write(tmp_path / "all", stars(30)))


@pytest.mark.parametrize("columns", [(None, None), ("raj2000", "dej2000")])
def test_a_table_without_any_position_is_one_file_and_no_catalogue(
    tmp_path: Path, columns: tuple[str | None, str | None]
) -> None:
    rows = stars(20)
    for number in (1, 2):
        rows = rows.set_column(number, rows.column_names[number], pa.nulls(20, pa.float64()))
    table = write(tmp_path, rows, ra=columns[0], dec=columns[1])
    assert inside(table) == [NO_POSITION_FILE]
    assert table.hats == ()
    assert {path.name for path in table.folder.iterdir()} == {NO_POSITION_FILE}
    found = content(table).drop_columns("_healpix_29")
    assert found.equals(rows if columns[0] is None else rows.sort_by("name"))


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    table = write(tmp_path, stars(0))
    assert (table.rows, inside(table)) == (0, [NO_POSITION_FILE])
    assert content(table).column_names == ["_healpix_29", "name", "raj2000", "dej2000"]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 2**64 - 1, 1, 2], pa.uint64()),
        pa.array([-3, 2, -(2**62), None]),
        pa.array(["b", "aa", None, "a"]),
        None,
    ],
)
def test_identifiers_are_of_any_kind_or_absent(tmp_path: Path, ids: pa.Array | None) -> None:
    rows = pa.table({"raj2000": [10.0] * 4, "dej2000": [5] * 4, "n": range(4)})
    if ids is not None:
        rows = rows.append_column("name", ids)
    found = content(write(tmp_path, rows, id_column=None if ids is None else "name"))
    if ids is None:
        assert found["n"].to_pylist() == [0, 1, 2, 3]
    else:
        assert found.schema.field("name").type == ids.type
        assert found["name"].to_pylist() == sorted(ids.to_pylist(), key=lambda i: (i is None, i))


def test_columns_of_any_name_are_kept_and_a_foreign_healpix_column_is_made_anew(tmp_path: Path) -> None:
    names = ["_source", "rank", "_rank", "Norder", "Dir", "Npix", "id"]
    rows = stars(300, **{name: pa.array(range(i, i + 300)) for i, name in enumerate(names)})
    rows = rows.append_column("_healpix_29", pa.array([1] * 300))
    found = content(write(tmp_path, rows))
    assert found.column_names == ["_healpix_29", *rows.column_names[:-1]]
    assert (found["_healpix_29"].to_numpy() == healpix_29(*(found[n].to_numpy() for n in ("raj2000", "dej2000")))).all()
    assert found.drop_columns("_healpix_29").sort_by("id").equals(rows.drop_columns("_healpix_29"))


def test_blocks_of_different_types_become_one_table(tmp_path: Path) -> None:
    first = stars(10, a=pa.array(range(10), pa.int16()))
    second = stars(10, seed=1, a=pa.array(np.arange(10) + 0.5))
    second = second.set_column(0, "name", pa.array([2**63 + i for i in range(10)], pa.uint64()))
    second = second.set_column(1, "raj2000", second["raj2000"].cast(pa.float32()))
    found = content(write(tmp_path, first.set_column(0, "name", pa.array(range(10), pa.uint32())), second))
    assert [found.schema.field(name).type for name in ("name", "raj2000", "a")] == [
        pa.uint64(),
        pa.float64(),
        pa.float64(),
    ]
    assert max(found["name"].to_pylist()) == 2**63 + 9


@pytest.mark.usefixtures("small_files")
def test_the_folder_does_not_depend_on_the_staging(tmp_path: Path) -> None:
    whole = stars(700, text=pa.array([f"row {i}" * (i % 5) for i in range(700)]))
    stagings = {"one": [whole], "many": [whole.slice(i, 37) for i in range(0, 700, 37)]}
    tables = [write(tmp_path / name, *parts) for name, parts in stagings.items()]
    assert len({table.folder.name for table in tables}) == 1
    assert len({tuple(_bytes(table.folder).items()) for table in tables}) == 1


def _bytes(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_name_of_the_folder_tells_contents_and_columns_apart(tmp_path: Path) -> None:
    rows = stars(60)
    other = rows.set_column(2, "dej2000", pa.array(rows["dej2000"].to_numpy() + 1e-9))
    tables = [write(tmp_path / "a", rows), write(tmp_path / "b", other), write(tmp_path / "c", rows, ra=None, dec=None)]
    assert len({table.folder.name for table in tables}) == 3
    assert all(table.folder.name.startswith("vac.stars-") for table in tables)


def test_what_is_said_of_the_files_is_so_and_others_may_read_them(tmp_path: Path) -> None:
    table = write(tmp_path, stars(80))
    assert {path for path in table.folder.rglob("*") if path.is_file()} == {f.path for f in (*table.data, *table.hats)}
    for file in (*table.data, *table.hats):
        text = file.path.read_bytes()
        assert (file.bytes, file.sha256) == (len(text), hashlib.sha256(text).hexdigest())
    assert [file.rows for file in table.data] == [pq.read_metadata(path).num_rows for path in table.files]
    for path in (table.folder, *table.folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


def test_a_folder_of_the_same_content_is_kept_and_damage_in_it_mended(tmp_path: Path) -> None:
    table = write(tmp_path, stars(80))
    before = _bytes(table.folder)
    (table.folder / "index.sky").write_bytes(b"beside")
    table.files[0].write_bytes(b"damaged")
    table.hats[0].path.unlink()
    again = write(tmp_path, stars(80))
    assert again == table
    assert _bytes(table.folder) == before | {"index.sky": b"beside"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == [table.folder.name]


def writer(tmp_path: Path, cells: Sequence[int] | NDArray[np.int64]) -> HatsWriter:
    schema = pa.schema([("_healpix_29", pa.int64())])
    return HatsWriter("t", schema, np.array(cells, np.int64), tmp_path, ra="ra", dec="dec")


@pytest.mark.parametrize("count", [2, 4])
def test_rows_that_were_not_announced_are_an_error_and_leave_nothing(tmp_path: Path, count: int) -> None:
    with writer(tmp_path, [1, 2, 3]) as table:
        table.write(pa.table({"_healpix_29": range(1, count + 1)}))
        with pytest.raises(DamagedData, match="the table 't' got other rows than announced"):
            table.finish()
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_left_early_leaves_nothing(tmp_path: Path) -> None:
    with writer(tmp_path, [1, 2, 3 << 58]) as table:
        table.write(pa.table({"_healpix_29": [1]}))
        assert list(tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", ["cut", "column"])
def test_a_staged_file_that_will_not_do_is_an_error_and_leaves_nothing(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(stars(20), path)
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedData, match="a staged table cannot be read"):
        write_table("t", [path], tmp_path / "out", tmp_path, id_column="no", ra="raj2000", dec="dej2000")
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.parquet"]
