"""Tests of `specflight.catalog.rows` and of the derived files that it shares with the sky index."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog.derived import open_derived, write_derived
from specflight.catalog.rows import RowStore
from specflight.errors import DamagedData, InvalidRequest

N = 230_000  # three batches, the last one not full
ALL = np.arange(N)
EDGES = [0, 1, 99_999, 100_000, 100_001, 199_999, 200_000, N - 2, N - 1]


def make_rows() -> pa.Table:
    rng = np.random.default_rng(8)
    some = rng.random(N) < 0.1
    texts = pa.array([f"name {i % 977}" for i in range(N)], mask=some)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 4, N))]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rng.random(offsets[-1])))
    pairs = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 9, 2 * N)), 2)
    rows = pa.table(
        {
            "id": rng.integers(0, 2**63, N).astype(np.uint64) * np.uint64(2),
            "z": pa.array(rng.random(N), mask=some),
            "name": texts,
            "mags": lists,
            "pair": pairs,
            "clean": pa.array(some),
        }
    )
    return rows.set_column(1, pa.field("z", pa.float64(), metadata={b"unit": b"km/s"}), rows["z"])


ROWS = make_rows()
NAMES = ["name", "id", "mags", "z", "pair", "clean"]


def write(rows: pa.Table, folder: Path, cuts: tuple[int, ...] = ()) -> list[Path]:
    edges = [0, *cuts, len(rows)]
    files = [folder / f"{i}.parquet" for i in range(len(edges) - 1)]
    for i, file in enumerate(files):
        pq.write_table(rows.slice(edges[i], edges[i + 1] - edges[i]), file, row_group_size=70_000)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(ROWS, tmp_path_factory.mktemp("parquet"), (90_000, 90_000, 90_001, 215_000))


@pytest.fixture(scope="module")
def store(files: list[Path]) -> RowStore:
    return RowStore.build(files, files[0].with_name("rows.arrow"))


places = st.integers(0, N - 1) | st.sampled_from(EDGES)
runs = st.tuples(places, st.integers(1, 5000)).map(lambda run: list(range(run[0], min(sum(run), N))))


@given(st.lists(places.map(lambda place: [place]) | runs, max_size=20))
@settings(deadline=None)
def test_rows_come_in_the_order_asked_for(store: RowStore, parts: list[list[int]]) -> None:
    rows = list(chain(*parts))
    wanted = ROWS.combine_chunks().take(pa.array(rows, pa.int64())).select(NAMES)
    taken = store.take(np.array(rows, np.int64), NAMES)
    taken.validate(full=True)
    assert taken.equals(wanted)


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(N),
        np.arange(50, N - 50),
        np.random.default_rng(2).permutation(N),
        np.arange(N)[::-7],
        np.arange(0, N, 3),
    ],
    ids=["all", "most", "shuffled", "backwards", "every third"],
)
def test_many_rows_are_taken(store: RowStore, rows: NDArray[np.int64]) -> None:
    assert store.take(rows, NAMES).equals(ROWS.combine_chunks().take(pa.array(rows)).select(NAMES))


def test_rows_that_lie_together_are_not_copied(store: RowStore) -> None:
    before = pa.total_allocated_bytes()
    taken = store.take(np.arange(N), NAMES)
    assert taken.nbytes > 10_000_000
    assert pa.total_allocated_bytes() - before < 1000


def test_types_and_units_are_kept(store: RowStore) -> None:
    assert store.rows == N
    for kept in (store.schema, store.take(np.arange(5), NAMES).schema, store.take(np.empty(0, np.int64), NAMES).schema):
        assert {field.name: field.type for field in kept} == {field.name: field.type for field in ROWS.schema}
        assert {field.name: field.metadata for field in kept if field.metadata} == {"z": {b"unit": b"km/s"}}


def test_what_parquet_adds_to_a_schema_is_left_out(tmp_path: Path) -> None:
    rows = pa.table({"class": pa.array(["STAR", "QSO", "STAR"]).dictionary_encode(), "z": [1.0, 2.0, 3.0]})
    other = pa.table({"class": pa.array(["GALAXY", "STAR"]).dictionary_encode(), "z": [4.0, 5.0]})
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for file, part in zip(files, (rows, other), strict=True):
        fields = [field.with_metadata({b"PARQUET:field_id": b"7"}) for field in part.schema]
        pq.write_table(part.cast(pa.schema(fields)), file)
    store = RowStore.build(files, tmp_path / "rows.arrow")
    assert store.schema.equals(pa.schema([("class", pa.string()), ("z", pa.float64())]), check_metadata=True)
    assert store.take(np.array([4, 3, 0]), ["class"]).to_pydict() == {"class": ["STAR", "GALAXY", "STAR"]}


def test_a_store_opens_again_until_its_table_changes(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    assert RowStore.open(path, files) is None
    RowStore.build(files, path)
    opened = RowStore.open(path, files)
    assert opened is not None
    assert opened.rows == N
    assert RowStore.open(path, files[:-1]) is None
    assert RowStore.open(path, files[::-1]) is None
    assert [file.name for file in tmp_path.iterdir()] == ["rows.arrow"]


def test_the_longest_text_of_each_column_is_known(store: RowStore, files: list[Path], tmp_path: Path) -> None:
    opened = RowStore.open(files[0].with_name("rows.arrow"), files)
    assert opened is not None
    assert opened.sizes == store.sizes == {"name": len("name 976")}
    rows = pa.table(
        {
            "note": ["é" * 50, None, "x" * 7],
            "tags": [["a", "b" * 60], None, []],
            "pair": pa.array([["a", "bc"], None, ["é", ""]], pa.list_(pa.large_string(), 2)),
            "raw": [b"123", b"", None],
            "none": pa.array([None, None, None], pa.string()),
            "n": [1, 2, 3],
        }
    )
    sizes = RowStore.build(write(rows, tmp_path, (1,)), tmp_path / "rows.arrow").sizes
    assert sizes == {"note": 100, "tags": 60, "pair": 2, "raw": 3, "none": 0}


@pytest.mark.parametrize("keep", [0, 7, 100, 500_000])
def test_a_truncated_store_is_not_opened(files: list[Path], tmp_path: Path, keep: int) -> None:
    path = tmp_path / "rows.arrow"
    RowStore.build(files, path)
    with path.open("rb+") as file:
        file.truncate(keep)
    assert RowStore.open(path, files) is None


def test_a_write_that_fails_leaves_the_file_of_before(files: list[Path], tmp_path: Path) -> None:
    schema = pa.schema([("x", pa.int64())])

    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([[1]], schema=schema)
        raise DamagedData("the disk is full")

    write_derived(tmp_path / "f", schema, [pa.record_batch([[3]], schema=schema)], files)
    with pytest.raises(DamagedData):
        write_derived(tmp_path / "f", schema, broken(), files)
    reader = open_derived(tmp_path / "f", files)
    assert reader is not None
    assert reader.read_all().to_pydict() == {"x": [3]}
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_an_empty_table_has_an_empty_store(tmp_path: Path) -> None:
    files = write(ROWS.slice(0, 0), tmp_path)
    store = RowStore.build(files, tmp_path / "rows.arrow")
    assert store.rows == 0
    assert store.take(np.empty(0, np.int64), NAMES).equals(ROWS.slice(0, 0).select(NAMES))
    assert pa.table(store.scan(None, ["z"])).num_rows == 0


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    files = write(ROWS.slice(0, 10), tmp_path)
    pq.write_table(ROWS.select(["id", "z"]).slice(0, 5), tmp_path / "other.parquet")
    with pytest.raises(DamagedData, match=r"other\.parquet has other columns"):
        RowStore.build([*files, tmp_path / "other.parquet"], tmp_path / "rows.arrow")
    with pytest.raises(DamagedData, match="cannot be read"):
        RowStore.build([tmp_path / "gone.parquet"], tmp_path / "rows.arrow")
    files[0].write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DamagedData, match="cannot be read"):
        RowStore.build(files, tmp_path / "rows.arrow")
    assert not (tmp_path / "rows.arrow").exists()


def test_a_column_named_as_the_row_number_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"_Row": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidRequest, match="'_row' is taken"):
        RowStore.build([tmp_path / "a.parquet"], tmp_path / "rows.arrow")


@pytest.mark.parametrize("rows", [None, np.arange(5, N, 2), np.array([7, 99_999, 100_000]), np.empty(0, np.int64)])
def test_a_scan_numbers_its_rows_and_starts_anew_for_every_reader(
    store: RowStore, rows: NDArray[np.int64] | None
) -> None:
    scan = store.scan(rows, ["z"])
    numbers = np.arange(N) if rows is None else rows
    for _ in range(2):
        read = pa.table(scan)
        assert read.schema.names == ["z", "_row"]
        assert read["_row"].to_numpy().tolist() == numbers.tolist()
        assert read["z"].equals(store.take(numbers, ["z"])["z"])
    assert pa.table(store.scan(rows, []))["_row"].to_numpy().tolist() == numbers.tolist()


def test_a_scan_takes_no_more_than_is_read(store: RowStore) -> None:
    reader = pa.RecordBatchReader.from_stream(store.scan(np.arange(0, N - 1, 2)[::-1], ["mags"]))
    before = pa.total_allocated_bytes()
    first = reader.read_next_batch()
    assert len(first) == 100_000
    assert pa.total_allocated_bytes() - before < 2 * first.nbytes
