"""Tests of `specflight.catalog.extract`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import specflight.catalog.extract as extract_module
import specflight.catalog.hats as hats_module
from specflight.catalog.extract import primary_view, write_extract
from specflight.catalog.hats import ExtractTable
from specflight.catalog.healpix import NO_POSITION, healpix_29
from specflight.errors import DamagedData


def rows(n: int, first_source: int = 0, seed: int = 0, **columns: Any) -> pa.Table:  # noqa: ANN401 - any column
    rng = np.random.default_rng(seed + first_source)
    return pa.table(
        {
            "_source": pa.array(range(first_source, first_source + n), pa.int64()),
            "specobjid": rng.permutation(n).astype(np.uint64) + np.uint64(2**63 + 10**6 * first_source),
            "z": rng.random(n).astype(np.float32),
            "ra": pa.array(rng.random(n) * 360),
            "dec": pa.array(rng.random(n) * 180 - 90),
            "class": pa.array(rng.choice(np.array(["GALAXY", "QSO", None]), n)),
            "mag": pa.array(list(rng.random((n, 5))), pa.list_(pa.float64())),
            **columns,
        }
    )


def stage(folder: Path, tables: Sequence[pa.Table]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.parquet" for i in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path)
    return paths


def build(folder: Path, tables: Sequence[pa.Table], live: Sequence[int] | None = None) -> tuple[ExtractTable, ...]:
    if live is None:
        live = [source for table in tables for source in table["_source"].to_pylist()]
    return write_extract(stage(folder / "staged", tables), np.array(live, np.int64), folder / "out", folder)


def content(table: ExtractTable) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in table.files)


def test_all_live_rows_arrive_in_the_order_of_the_sky(tmp_path: Path) -> None:
    staged = [rows(500), rows(700, 500), rows(300, 1200)]
    dead = set(range(0, 1500, 7))
    everything, _ = build(tmp_path, staged, [i for i in range(1500) if i not in dead])
    found = content(everything)
    assert everything.rows == len(found) == 1500 - len(dead)
    assert found.column_names == ["_healpix_29", "specobjid", "ra", "dec", "z", "class", "mag"]
    assert found.schema.field("specobjid").type == pa.uint64()
    assert (found["_healpix_29"].to_numpy() == healpix_29(found["ra"].to_numpy(), found["dec"].to_numpy())).all()
    assert (np.diff(found["_healpix_29"].to_numpy()) >= 0).all()
    given = pa.concat_tables(staged).filter(pa.array([i not in dead for i in range(1500)])).drop_columns("_source")
    assert (
        found.drop_columns("_healpix_29")
        .sort_by("specobjid")
        .equals(given.select(found.column_names[1:]).sort_by("specobjid"))
    )


@pytest.mark.parametrize("row_group", [100_000, 64])
def test_the_bytes_do_not_depend_on_the_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_group: int
) -> None:
    monkeypatch.setattr(extract_module, "ROW_GROUP", row_group)
    monkeypatch.setattr(hats_module, "ROW_GROUP", row_group)
    whole = rows(1000, note=pa.array([f"row {i}" * (i % 5) for i in range(1000)]))
    shuffled = whole.take(pa.array(np.random.default_rng(9).permutation(1000)))
    stagings = {
        "one": [whole],
        "many": [whole.slice(i, 37) for i in range(0, 1000, 37)],
        "backwards": [whole.slice(i, 100) for i in range(900, -1, -100)],
        "shuffled": [shuffled.slice(0, 400), shuffled.slice(400)],
        "with a dead file": [whole, rows(10, 5000, strange=pa.array(range(10)))],
    }
    live = range(1000)
    built = {name: build(tmp_path / name, tables, live) for name, tables in stagings.items()}
    assert len({tuple(table.folder.name for table in tables) for tables in built.values()}) == 1
    assert len({tuple(path.read_bytes() for path in table.files) for table, _ in built.values()}) == 1
    for file in built["many"][0].data:
        assert pq.ParquetFile(file.path).num_row_groups == -(-file.rows // row_group)


def test_types_are_unified_over_all_files(tmp_path: Path) -> None:
    everything, _ = build(
        tmp_path,
        [
            rows(
                3, 0, a=pa.array([1, 2, 3], pa.int16()), b=pa.array([1, 2, 3], pa.int32()), c=pa.array(["x", "y", "z"])
            ),
            rows(2, 3, a=pa.array([2**40, 5]), b=pa.array([0.5, 1.5], pa.float32()), c=pa.array([[1, 2], [3]])),
            rows(1, 5, only_here=pa.array([7])),
        ],
    )
    found = content(everything).sort_by("specobjid")
    assert found.schema.field("a").type == pa.int64()
    assert found.schema.field("b").type == pa.float64()
    assert found.schema.field("c").type == pa.string()
    assert {1, 2, 3, 2**40, 5, None} == set(found["a"].to_pylist())
    assert {"x", "1 2", "3", None} <= set(found["c"].to_pylist())
    assert sorted(found["only_here"].to_pylist(), key=str) == [7, None, None, None, None, None]


def test_units_come_from_the_first_file_that_states_them(tmp_path: Path) -> None:
    plain, stated = rows(5), rows(5, 5)
    field = pa.field("z", pa.float32(), metadata={b"unit": b"km/s", b"description": b"speed"})
    stated = stated.set_column(stated.column_names.index("z"), field, stated["z"])
    everything, primary = build(tmp_path, [plain, stated])
    for table in (everything, primary):
        metadata = content(table).schema.field("z").metadata
        assert {k: v for k, v in metadata.items() if not k.startswith(b"PARQUET")} == field.metadata


def test_rows_without_coordinates_come_last(tmp_path: Path) -> None:
    lost = rows(4, 0)
    lost = lost.set_column(lost.column_names.index("ra"), "ra", pa.array([10.0, None, float("nan"), 20.0]))
    everything, primary = build(tmp_path, [lost])
    assert content(everything)["_healpix_29"].to_pylist()[2:] == [NO_POSITION] * 2
    assert primary.rows == 4


def test_folders_are_named_by_their_content_and_nothing_else_is_left(tmp_path: Path) -> None:
    first, second = (build(tmp_path / name, [rows(50, seed=seed)]) for name, seed in (("a", 1), ("b", 2)))
    for table, other in zip(first, second, strict=True):
        assert re.fullmatch(rf"{table.name}-[0-9a-f]{{12}}", table.folder.name)
        assert table.folder.name != other.folder.name
    assert {path.name for path in (tmp_path / "a" / "out").iterdir()} == {table.folder.name for table in first}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"out", "staged"}


def test_nothing_live_gives_empty_tables(tmp_path: Path) -> None:
    everything, primary = build(tmp_path, [rows(50)], [])
    assert (everything.rows, primary.rows) == (0, 0)
    assert content(everything).column_names == ["_healpix_29", "specobjid", "ra", "dec"]


@pytest.mark.parametrize(
    ("live", "reason"), [([0, 1, 99], "hold 2 rows of 3"), ([0, 1, 1], "hold 2 rows of 3"), (range(4), "twice")]
)
def test_live_rows_that_are_not_there_once_are_an_error(tmp_path: Path, live: Sequence[int], reason: str) -> None:
    staged = rows(4)
    ids = pa.array([1, 2, 3, 3], pa.uint64())
    staged = staged.set_column(staged.column_names.index("specobjid"), "specobjid", ids)
    with pytest.raises(DamagedData, match=reason):
        build(tmp_path, [staged], list(live))
    assert not list((tmp_path / "out").rglob("*"))


def test_a_damaged_staged_file_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    staged = stage(tmp_path / "staged", [rows(4)])
    staged[0].write_bytes(staged[0].read_bytes()[:-20])
    with pytest.raises(DamagedData, match="staged"):
        write_extract(staged, np.arange(4), tmp_path / "out", tmp_path)
    assert not list((tmp_path / "out").rglob("*"))


ARCSEC = 1 / 3600


def observations(*given: tuple[int, float, int, float]) -> pa.Table:
    """Rows (specobjid, offset in declination in arcsec, zwarning, signal to noise)."""
    ids, offset, zwarning, signal = zip(*given, strict=True)
    return pa.table(
        {
            "specobjid": pa.array(ids, pa.uint64()),
            "ra": pa.array([10.0] * len(ids)),
            "dec": pa.array([o * ARCSEC for o in offset]),
            "zwarning": pa.array(zwarning, pa.int32()),
            "sn_median_all": pa.array(signal, pa.float32()),
        }
    )


def kept_ids(table: pa.Table) -> set[int]:
    return set(table["specobjid"].to_numpy()[primary_view(table)].tolist())


def test_of_several_observations_the_best_is_primary() -> None:
    assert kept_ids(observations((1, 0, 4, 50), (2, 1, 0, 5), (3, 0.5, 0, 9))) == {3}
    assert kept_ids(observations((1, 0, 4, 50), (2, 1, 4, 60))) == {2}
    assert kept_ids(observations((9, 0, 0, 5), (8, 1, 0, 5))) == {8}
    assert kept_ids(observations((1, 0, 0, 5), (2, 2.5, 0, 9))) == {1, 2}


def test_an_observation_near_a_rejected_one_is_kept() -> None:
    assert kept_ids(observations((1, 0, 0, 9), (2, 1.5, 0, 5), (3, 3.0, 0, 4))) == {1, 3}


def test_files_that_say_what_is_primary_are_believed() -> None:
    table = observations((1, 0, 0, 9), (2, 0, 0, 5), (3, 0, 0, 4), (4, 100, 0, 1), (5, 100, 0, 9))
    table = table.append_column("specprimary", pa.array([0, 1, 0, None, None], pa.int16()))
    assert kept_ids(table) == {2, 5}


def test_the_other_signal_to_noise_stands_in_where_one_is_missing() -> None:
    table = observations((1, 0, 0, 9), (2, 1, 0, 5)).rename_columns(["specobjid", "ra", "dec", "zwarning", "sn_median"])
    assert kept_ids(table) == {1}


def test_primary_rows_are_the_same_in_the_table(tmp_path: Path) -> None:
    staged = rows(300)
    staged = staged.append_column("specprimary", pa.array([i % 3 == 0 for i in range(300)]).cast(pa.uint8()))
    everything, primary = build(tmp_path, [staged])
    table = content(everything)
    assert primary.rows == 100
    assert content(primary).equals(table.filter(pa.compute.equal(table["specprimary"], 1)))
