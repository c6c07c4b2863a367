"""Catalogues in files become tables of a context: exact, at once, or not at all."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal as D
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from specflight.catalog.database import open_database
from specflight.catalog.identifiers import pack_specobjid, unpack_specobjid
from specflight.catalog.table import QueryLimits, open_table
from specflight.catalog.tableids import id_maker
from specflight.catalog.tablekeys import POSITION_NAMES, find_keys
from specflight.errors import DamagedData, InvalidRequest
from specflight.flight.datadir import ContextDirectory, Manifest
from specflight.tools.check import check
from specflight.tools.ingest import ingest
from specflight.tools.ingestcatalog import PRIMARY_SOURCE, CatalogReport, ingest_catalog

CONTEXT = "sdss_dr16"
NONE = np.zeros(0, np.uint64)


class Options(TypedDict, total=False):
    ra: str
    dec: str
    id_column: str
    description: str
    progress: Callable[[int, int], None]


def take(data: Path, catalog: str, file: Path, context: str = CONTEXT, **options: Unpack[Options]) -> CatalogReport:
    return ingest_catalog(data, context, catalog, file, **options)


def manifest(data: Path, context: str = CONTEXT) -> Manifest:
    found = ContextDirectory(data, context).manifest()
    assert found is not None
    return found


def table(data: Path, key: str, context: str = CONTEXT) -> pa.Table:
    """Rows of a live table, after a check of everything that is live."""
    assert check(data).faults == ()
    files = ContextDirectory(data, context).table_files(manifest(data, context), key)
    return pa.concat_tables(pq.read_table(file, partitioning=None) for file in files)


def csv(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def keys(schema: pa.Schema, ra: str | None = None, dec: str | None = None) -> tuple[str | None, ...]:
    found = find_keys(schema, id_column=None, ra=ra, dec=dec, spectra=NONE)
    return found.id_column, found.ra, found.dec


def floats(*names: str) -> pa.Schema:
    return pa.schema([(name, pa.float64()) for name in names])


# --- real files ---


def test_a_table_of_specobj_keeps_its_236_columns_and_its_ids_beyond_2_to_the_63(
    real_data: Path, tmp_path: Path
) -> None:
    file = real_data / "catalog/spAll-plate3655.fits"
    report = take(tmp_path, "boss.spAll", file, description="Plate 3655")
    assert report == CatalogReport("boss.spall", 93, 236, 93, 93, "specobjid", "ra", "dec")
    found = table(tmp_path, "boss.spall")
    assert found.column_names[0] == "_healpix_29"
    assert (found.num_rows, found.num_columns) == (93, 237)
    with fits.open(file) as hdus:
        data = hdus[1].data
        expected = {int(i) % 2**64: row for row, i in enumerate(data["SPECOBJID"])}
        assert sum(int(i) < 0 for i in data["SPECOBJID"]) == 11
        rows = [expected[i] for i in found["specobjid"].to_pylist()]
        assert sorted(rows) == list(range(93))
        for name in ("RA", "Z", "MODELFLUX", "THING_ID", "CLASS", "PROFMEAN_NMGY"):
            values = data[name][rows]
            assert (
                found[name.lower()].to_pylist() == values.reshape(93, -1).tolist()
                if values.ndim > 1
                else [value.strip() if isinstance(value, str) else value for value in values.tolist()]
            )
    plate, mjd, fiberid = (found[name].to_numpy() for name in ("plate", "mjd", "fiberid"))
    packed = pack_specobjid(plate, mjd, fiberid, found["run2d"].to_pylist())
    assert packed.tolist() == found["specobjid"].to_pylist()
    entry = manifest(tmp_path).tables["boss.spall"]
    assert (entry.id, entry.ra, entry.dec) == ("specobjid", "ra", "dec")
    assert (entry.description, entry.source) == ("Plate 3655", "spAll-plate3655.fits")
    assert manifest(tmp_path).index is None


def test_a_search_result_of_628_rows_keeps_its_exact_ids(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "catalog/optical_search_617515.csv"
    report = take(tmp_path, f"{CONTEXT}.search", file)
    assert report == CatalogReport("search", 628, 13, 628, 628, "specobj_id", "ra", "dec")
    found = table(tmp_path, "search")
    assert found.schema.field("specobj_id").type == pa.uint64()
    lines = [line.replace("'", "").split(",") for line in file.read_text().splitlines()[1:]]
    rows = {int(line[4]): (float(line[5]), float(line[6]), line[11]) for line in lines}
    columns = (found[name].to_pylist() for name in ("specobj_id", "ra", "dec", "class"))
    assert {i: rest for i, *rest in zip(*columns, strict=True)} == {i: list(row) for i, row in rows.items()}


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [("catalog/platelist_7102.fits", 1, 108), ("catalog/spiders_quasar_features.csv", 6222, 8)],
)
def test_a_table_without_positions_and_ids_is_taken(
    real_data: Path, tmp_path: Path, name: str, rows: int, columns: int
) -> None:
    report = take(tmp_path, "vac.some", real_data / name)
    assert report == CatalogReport("vac.some", rows, columns, 0, 0, None, None, None)
    assert table(tmp_path, "vac.some").num_rows == rows
    entry = manifest(tmp_path).tables["vac.some"]
    assert (entry.id, entry.ra, entry.dec) == (None, None, None)


def test_another_survey_has_signed_ids_of_another_name(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "desi/coadd-sv3-dark-26065.fits"
    report = take(tmp_path, "desi.fibermap", file, context="desi", id_column="TARGETID")
    assert report == CatalogReport("fibermap", 5, 70, 5, 5, "targetid", "target_ra", "target_dec")
    with fits.open(file) as hdus:
        expected = {
            int(i) % 2**64: ra for i, ra in zip(hdus[1].data["TARGETID"], hdus[1].data["TARGET_RA"], strict=True)
        }
    found = table(tmp_path, "fibermap", "desi")
    assert dict(zip(found["targetid"].to_pylist(), found["target_ra"].to_pylist(), strict=True)) == expected
    report = take(tmp_path, "desi.redrock", real_data / "desi/redrock-special-dark-27247.fits", id_column="TARGETID")
    assert (report.ids, report.positions, report.id_column) == (1, 0, "targetid")


def test_ids_of_a_catalogue_without_run2d_are_those_of_the_contexts_spectra(
    real_data: Path, sim_tree: dict[str, Path], tmp_path: Path
) -> None:
    file = real_data / "catalog/cat_boss_test1.fits.gz"
    fibre = ("plate", "mjd", "fiberid")
    expected = CatalogReport("qso.dr12q", 140, 23, 140, 0, None, "ra", "dec", unmatched=fibre)
    assert take(tmp_path, "qso.dr12q", file) == expected
    ingest(tmp_path, CONTEXT, [sim_tree[CONTEXT]], workers=1)
    report = take(tmp_path, "qso.dr12q", file)
    assert (report.id_column, report.columns, report.unmatched) == ("specobjid", 24, ())
    ids = table(tmp_path, "specobjall")["specobjid"].to_numpy()
    parts = unpack_specobjid(ids)
    with fits.open(file) as hdus:
        named = {*zip(*(hdus[1].data[name].tolist() for name in ("PLATE", "MJD", "FIBERID")), strict=True)}
    assert report.ids == len(named & {*zip(parts.plate, parts.mjd, parts.fiberid, strict=True)})
    lines = [f"{p},{m},{f}" for p, m, f in zip(parts.plate, parts.mjd, parts.fiberid, strict=True)]
    report = take(tmp_path, "vac.mine", csv(tmp_path, "\n".join(["PLATE,MJD,FIBER", *lines, "1,2,3"])))
    assert (report.rows, report.ids) == (len(ids) + 1, len(ids))
    assert report.origin == "looked up by plate, mjd and fiber among the context's spectra"
    assert sorted(filter(None, table(tmp_path, "vac.mine")["specobjid"].to_pylist())) == sorted(ids.tolist())


# --- identifiers ---


@pytest.mark.parametrize("name", ["specobjid", "SpecObjID", "specobj_id", "SPECOBJ-ID", "specObj ID"])
def test_the_id_column_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    report = take(tmp_path, "vac.t", csv(tmp_path, f"{name},z\n{2**64 - 1},1\n,2\n-1,3\n"))
    assert (report.id_column, report.ids) == (name.lower(), 2)
    assert table(tmp_path, "vac.t")[name.lower()].to_pylist() == [2**64 - 1, None, 2**64 - 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([-1, 5, None], pa.int64()), [2**64 - 1, 5, None]),
        (pa.array([7, None], pa.int32()), [7, None]),
        (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
        (
            pa.array(["   11258999741428506624", " 42 ", "-1", "  ", None]),
            [11258999741428506624, 42, 2**64 - 1, None, None],
        ),
        (pa.array([2**64 - 1, 3], pa.decimal128(20, 0)), [2**64 - 1, 3]),
    ],
)
def test_ids_of_any_type_become_unsigned(values: pa.Array, expected: list[int | None]) -> None:
    found = find_keys(pa.schema([("specobjid", values.type)]), id_column=None, ra=None, dec=None, spectra=NONE)
    batch = found.apply(pa.record_batch([values], ["specobjid"]), 1)
    assert batch.column(0).type == pa.uint64()
    assert batch.column(0).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("specobjid,z\n1.5e18,1\n", {}, "id: the column 'specobjid' holds floats (double), which lose the last digits"),
        ("specobjid,z\n1,1\nabc,2\n", {}, "id: 'specobjid' is 'abc' in row 2, no identifier"),
        (f"specobjid,z\n{2**64},1\n", {}, f"id: 'specobjid' holds {2**64}, beyond 64 bits"),
        ("a,z\n1,2\n", {"id_column": "b"}, "id: the table has no column 'b'"),
        ("targetid,z\n1,2\n", {"id_column": "targetids"}, "did you mean 'targetid'?"),
        ("ra,dec\n1,2\n", {"ra": "ra"}, "dec: --ra and --dec are given together or not at all"),
        ("ra,dec\n1,2\n", {"ra": "ra", "dec": "de"}, "dec: the table has no column 'de'; did you mean 'dec'?"),
        ("ra,dec\n1,2\n360.5,2\n", {}, "ra: 'ra' is '360.5' in row 2, outside of -360 to 360 degrees"),
        ("ra,dec\n1,-90.01\n", {}, "dec: 'dec' is '-90.01' in row 1, outside of -90 to 90 degrees"),
        ("ra,dec\n1,inf\n", {}, "dec: 'dec' is 'inf' in row 1, outside of -90 to 90 degrees"),
        ("ra,dec\n12:30:00,5\n", {}, "ra: 'ra' is '12:30:00' in row 1, no number of degrees"),
        ("ra,dec\n1,2\n", {"ra": "ra", "dec": "ra"}, "dec: the column 'ra' cannot be two things"),
        ("ra,dec\n1,2\n", {"id_column": "dec"}, "dec: the column 'dec' cannot be two things"),
        ("_row,z\n1,2\n", {}, "has a column '_row'"),
    ],
)
def test_what_is_no_identifier_or_position_is_named(tmp_path: Path, text: str, options: Options, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        take(tmp_path / "data", "vac.t", csv(tmp_path, text), **options)
    assert words in str(caught.value)
    assert left(tmp_path / "data") == set()


def left(data: Path) -> set[str]:
    return {str(path.relative_to(data)) for path in data.rglob("*")}


def test_ids_are_packed_from_plate_mjd_fiberid_and_run2d(tmp_path: Path) -> None:
    rows = ["10000,57346,1,v5_13_2", "266,51630,1,26", "-1,51630,1,26", "266,0,1,26", "266,51630,1,x", "266,51630,1,"]
    file = csv(tmp_path, "\n".join(["PLATE,MJD,FIBERID,RUN2D", *rows]))
    report = take(tmp_path / "data", "vac.t", file)
    assert (report.ids, report.id_column, report.columns) == (2, "specobjid", 5)
    assert report.origin == "packed from plate, mjd and fiberid with run2d"
    expected = [int(pack_specobjid(10000, 57346, 1, "v5_13_2")), 299489677444933632]
    found = table(tmp_path / "data", "vac.t")
    assert found["specobjid"].to_pylist() == [*expected, None, None, None, None]


def test_a_spectrum_that_is_not_the_only_one_of_its_fibre_is_not_guessed() -> None:
    spectra = pack_specobjid([266, 266, 300], [51630, 51630, 51943], [1, 1, 7], ["26", "103", "26"])
    schema = pa.schema([("plate", pa.int32()), ("mjd", pa.string()), ("fiber_id", pa.int16())])
    maker = id_maker(schema, spectra)
    assert maker is not None
    batch = pa.record_batch(
        [[266, 300, 300, None], [" 51630", "51943 ", "51944", "51943"], [1, 7, 7, 7]], schema=schema
    )
    assert maker.make(batch).to_pylist() == [None, int(spectra[2]), None, None]
    assert id_maker(schema, NONE) is None


# --- positions ---


@pytest.mark.parametrize(("ra", "dec"), POSITION_NAMES)
def test_positions_are_found_by_their_names(ra: str, dec: str) -> None:
    assert keys(floats("x", dec, ra)) == (None, ra, dec)


def test_of_several_positions_the_main_one_counts() -> None:
    names = [name for pair in reversed(POSITION_NAMES) for name in pair]
    assert keys(floats(*dict.fromkeys(names))) == (None, "ra", "dec")
    main = pa.schema(
        [
            *floats("ra", "dec"),
            pa.field("x", pa.float64(), metadata={"ucd": "pos.eq.ra;meta.main"}),
            pa.field("y", pa.float64(), metadata={"ucd": "POS_EQ_DEC_MAIN"}),
        ]
    )
    assert keys(main) == (None, "x", "y")
    assert keys(main, ra="RA", dec="Dec") == (None, "ra", "dec")
    # VizieR's tables have sexagesimal positions under the better name
    vizier = pa.schema([("raj2000", pa.string()), ("dej2000", pa.string()), *floats("_raj2000", "_dej2000")])
    assert keys(vizier) == (None, "_raj2000", "_dej2000")
    assert keys(floats("ra", "delta")) == (None, None, None)


@pytest.mark.parametrize("unit", ["h", "hour", "hourangle", '"h:m:s"', "rad", "arcsec"])
def test_positions_in_other_units_are_refused(unit: str) -> None:
    schema = pa.schema([pa.field("ra", pa.float64(), metadata={"unit": unit}), ("dec", pa.float64())])
    with pytest.raises(InvalidRequest, match=f"ra: the column 'ra' is in '{unit}'; convert it to degrees"):
        keys(schema)


def test_a_row_without_a_position_is_kept_without_one(tmp_path: Path) -> None:
    values = pa.table({"ra": [10.0, float("nan"), None, 30], "dec": ["+1.5", " 2", "3", "nan"], "n": [1, 2, 3, 4]})
    pq.write_table(values, tmp_path / "t.parquet")
    report = take(tmp_path / "data", "vac.t", tmp_path / "t.parquet")
    assert (report.rows, report.positions) == (4, 1)
    found = table(tmp_path / "data", "vac.t").sort_by("n")
    assert found["ra"].to_pylist() == [10, None, None, 30]
    assert found["dec"].to_pylist() == [1.5, 2, 3, None]
    assert {name: found.schema.field(name).type for name in ("ra", "dec")} == {"ra": pa.float64(), "dec": pa.float64()}
    assert found.schema.field("ra").metadata[b"unit"] == b"deg"


# --- the table in its context ---


def test_units_lists_and_uint64_reach_the_table(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("specobjid", pa.uint64()),
            pa.field("Flux", pa.list_(pa.float32()), metadata={"unit": "nmgy", "description": "Fluxes"}),
            pa.field("flag", pa.uint64()),
        ]
    )
    rows = {"specobjid": [2**64 - 1, 1], "Flux": [[1.5, None], []], "flag": [2**63, None]}
    pq.write_table(pa.table(rows, schema=schema), tmp_path / "t.parquet")
    take(tmp_path / "data", "vac.t", tmp_path / "t.parquet")
    found = table(tmp_path / "data", "vac.t")
    assert found["flux"].to_pylist() == rows["Flux"]
    assert found["flag"].to_pylist() == rows["flag"]
    metadata = found.schema.field("flux").metadata
    assert (metadata[b"unit"], metadata[b"description"]) == (b"nmgy", b"Fluxes")


COLUMNS: dict[str, tuple[pa.Array, pa.DataType, str]] = {
    "float16": (pa.array([1.5, None, 2], pa.float16()), pa.float32(), "{} > 1.75"),
    "decimal32": (pa.array([D("1.5"), None, D(2)], pa.decimal32(5, 2)), pa.decimal32(5, 2), "{} > 1.75"),
    "decimal64": (pa.array([D("1.5"), None, D(2)], pa.decimal64(12, 2)), pa.decimal64(12, 2), "{} > 1.75"),
    "decimal128": (pa.array([D("1.5"), None, D(2)], pa.decimal128(38, 2)), pa.decimal128(38, 2), "{} > 1.75"),
    "decimal256": (pa.array([D("1.5"), None, D(2)], pa.decimal256(38, 2)), pa.decimal128(38, 2), "{} > 1.75"),
    "decimal256_long": (pa.array([D("1.5"), None, D(2)], pa.decimal256(50, 2)), pa.float64(), "{} > 1.75"),
    "large_string": (pa.array(["a", None, "c"], pa.large_string()), pa.large_string(), "{} = 'c'"),
    "string_view": (pa.array(["a", None, "c"], pa.string_view()), pa.string(), "{} = 'c'"),
    "binary": (pa.array([b"a", None, b"c"]), pa.binary(), "{} = 'c'"),
    "large_binary": (pa.array([b"a", None, b"c"], pa.large_binary()), pa.large_binary(), "{} = 'c'"),
    "binary_view": (pa.array([b"a", None, b"c"], pa.binary_view()), pa.binary(), "{} = 'c'"),
    "fixed_binary": (pa.array([b"ab", None, b"cd"], pa.binary(2)), pa.binary(2), "{} = 'cd'"),
    "dictionary": (pa.array(["a", None, "c"]).dictionary_encode(), pa.string(), "{} = 'c'"),
    "codes": (pa.array([1, None, 3]).dictionary_encode(), pa.int64(), "{} > 1"),
    "boolean": (pa.array([False, None, True]), pa.bool_(), "{}"),
    "nothing": (pa.nulls(3), pa.string(), "{} IS NULL AND n = 3"),
    "seconds": (pa.array([1, None, 10**9], pa.timestamp("s")), pa.timestamp("ms"), "{} > '2001-01-01'"),
    "micros": (pa.array([1, None, 10**15], pa.timestamp("us")), pa.timestamp("us"), "{} > '2001-01-01'"),
    "nanos": (pa.array([1, None, 10**18], pa.timestamp("ns")), pa.timestamp("ns"), "{} > '2001-01-01'"),
    "utc": (pa.array([1, None, 10**15], pa.timestamp("us", "UTC")), pa.timestamp("us", "UTC"), "{} > '2001-01-01'"),
    "duration": (pa.array([1, None, 90], pa.duration("s")), pa.duration("s"), "{} > '1 minute'"),
    "duration_ns": (pa.array([1, None, 90 * 10**9], pa.duration("ns")), pa.duration("ns"), "{} > '1 minute'"),
    "date": (pa.array([1, None, 20000], pa.date32()), pa.date32(), "{} > '2001-01-01'"),
    "date64": (pa.array([0, None, 20000 * 86_400_000], pa.date64()), pa.date32(), "{} > '2001-01-01'"),
    "time32": (pa.array([1, None, 7200], pa.time32("s")), pa.time32("ms"), "{} > '01:00'"),
    "time64": (pa.array([1, None, 7200 * 10**9], pa.time64("ns")), pa.time64("ns"), "{} > '01:00'"),
    "vector": (pa.array([[1], None, [3]], pa.list_(pa.int32())), pa.list_(pa.int32()), "{}[1] > 1"),
    "large_vector": (pa.array([[1], None, [3]], pa.large_list(pa.int32())), pa.large_list(pa.int32()), "{}[1] > 1"),
    "pair": (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)), pa.list_(pa.int32(), 2), "{}[2] > 2"),
    "halves": (pa.array([[1], None, [3]], pa.list_(pa.float16())), pa.list_(pa.float32()), "{}[1] > 1"),
    "long": (pa.array([[D(1)], None, [D(3)]], pa.list_(pa.decimal256(50))), pa.list_(pa.float64()), "{}[1] > 1"),
    "views": (pa.array([["a"], None, ["c"]], pa.list_(pa.string_view())), pa.list_(pa.string()), "{}[1] = 'c'"),
    "nothings": (pa.array([[None], None, [None, None]]), pa.list_(pa.string()), "{}[1] IS NULL AND n = 3"),
    "words": (
        pa.ListArray.from_arrays([0, 1, 1, 2], pa.array(["a", "c"]).dictionary_encode()),
        pa.list_(pa.string()),
        "{}[1] = 'c'",
    ),
    "matrix": (pa.array([[[1]], None, [[3]]]), pa.list_(pa.list_(pa.int64())), "{} IS NOT NULL AND n = 3"),
    "struct": (
        pa.array([{"x": 1}, None, {"x": 3}], pa.struct([("x", pa.float16())])),
        pa.struct([("x", pa.float32())]),
        "{} IS NOT NULL AND n = 3",
    ),
    "map": (
        pa.array([[("a", 1)], None, [("c", 3)]], pa.map_(pa.string_view(), pa.float16())),
        pa.map_(pa.string(), pa.float32()),
        "{} IS NOT NULL AND n = 3",
    ),
    "uuid": (pa.array([bytes(16), None, b"\1" * 16], pa.uuid()), pa.uuid(), f"{{}} = '{'01' * 16}'"),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, None, 1], pa.int8())), pa.bool_(), "{}"),
    "json": (
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", None, "{}"])),
        pa.string(),
        "{} = '{{}}'",
    ),
    "opaque": (
        pa.ExtensionArray.from_storage(pa.opaque(pa.float16(), "half", "us"), pa.array([1, None, 3], pa.float16())),
        pa.float32(),
        "{} > 1",
    ),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [2]), pa.array([[1, 2], [0, 0], [3, 4]], pa.list_(pa.float32(), 2))
        ),
        pa.list_(pa.float32(), 2),
        "{}[2] > 2",
    ),
}
"""Columns of three rows by their names, their types as they are served, and a condition that finds the third row."""


def test_a_parquet_column_of_any_type_can_be_queried(tmp_path: Path) -> None:
    rows = {"n": pa.array([1, 2, 3]), **{name: array for name, (array, _, _) in COLUMNS.items()}}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    assert take(tmp_path, "vac.t", tmp_path / "t.parquet").rows == 3
    assert check(tmp_path).faults == ()
    directory, live = ContextDirectory(tmp_path, CONTEXT), manifest(tmp_path)
    folder, files = directory.table_folder(live, "vac.t"), directory.table_files(live, "vac.t")
    with open_database("500MB", tmp_path, 1) as database:
        nothing: dict[str, None] = {"id_column": None, "ra": None, "dec": None}
        found = open_table("vac.t", folder, files, database, QueryLimits(), description="", **nothing)
        assert found.schema.names == list(rows)
        for name, (array, kind, condition) in COLUMNS.items():
            assert found.schema.field(name).type == kind, name
            assert found.query(where=condition.format(f'"{name}"'), columns=["n"])["n"].to_pylist() == [3], name
            known = [i + 1 for i, valid in enumerate(array.is_valid().to_pylist()) if valid]
            assert found.query(where=f'"{name}" IS NOT NULL', columns=["n"])["n"].to_pylist() == known, name
            values = found.query(columns=[name])[name]
            values.validate(full=True)
            assert values.to_pylist() == array.cast(kind).to_pylist(), name
            assert found.estimate(where=condition.format(f'"{name}"'), columns=[name]).rows == 1


@pytest.mark.parametrize("kind", [pa.list_view(pa.int32()), pa.large_list_view(pa.int32())])
def test_a_parquet_column_that_holds_views_of_lists_is_refused_by_its_name(tmp_path: Path, kind: pa.DataType) -> None:
    cells = pa.array([{"v": [1]}], pa.struct([("v", kind)]))
    pq.write_table(pa.table({"n": [1], "Cells": cells}), tmp_path / "t.parquet")
    with pytest.raises(InvalidRequest, match=r"has a column 'Cells' of struct<.*list_view<.*: write it as lists"):
        take(tmp_path / "data", "vac.t", tmp_path / "t.parquet")
    assert left(tmp_path / "data") == set()


def test_a_table_of_no_rows_is_taken(tmp_path: Path) -> None:
    report = take(tmp_path / "data", "vac.t", csv(tmp_path, "specobjid,ra,dec\n"))
    assert (report.rows, report.ids, report.positions) == (0, 0, 0)
    assert table(tmp_path / "data", "vac.t").num_rows == 0


@pytest.mark.parametrize("name", ["", "t", ".t", "a.", "a.b.c", "a-b.c", "a.b c", "../a.b", "a/b.c", "_a.b", "é.b"])
def test_a_name_that_no_table_can_have_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"catalog: '.*' is not SCHEMA\.TABLE"):
        take(tmp_path / "data", name, csv(tmp_path, "a\n1\n"))
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_not_there_is_an_error_before_anything_is_done(tmp_path: Path) -> None:
    for file, words in ((tmp_path / "none.csv", "is not there"), (tmp_path, "is no file")):
        with pytest.raises(InvalidRequest, match=f"FILE: {file} {words}"):
            take(tmp_path / "data", "a.b", file)
    assert not (tmp_path / "data").exists()


def test_a_table_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    take(data, "vac.a", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    take(data, "vac.b", csv(tmp_path, "specobjid,ra,dec\n2,10,20\n"))
    before = manifest(data)
    take(data, "vac.A", csv(tmp_path, "specobjid,ra,dec\n3,10,20\n4,11,21\n", "other.csv"))
    assert table(data, "vac.a")["specobjid"].to_pylist() == [3, 4]
    assert table(data, "vac.b")["specobjid"].to_pylist() == [2]
    after = manifest(data)
    assert after.tables["vac.b"] == before.tables["vac.b"]
    assert after.tables["vac.a"].source == "other.csv"
    catalog = data / CONTEXT / "catalog"
    assert {path.name for path in catalog.iterdir()} == {
        "vac.a", "vac.b", after.tables["vac.a"].folder, after.tables["vac.b"].folder
    }  # fmt: skip
    assert os.readlink(catalog / "vac.a") == after.tables["vac.a"].folder
    assert not (data / CONTEXT / ".staging").exists()


def test_the_same_file_again_changes_nothing(tmp_path: Path) -> None:
    file = csv(tmp_path, "specobjid,ra,dec\n1,10,20\n")
    take(tmp_path / "data", "vac.a", file)
    folder = tmp_path / "data" / CONTEXT / "catalog/vac.a"
    times = {path: path.stat().st_mtime_ns for path in (folder / "index.sky", folder / "rows.arrow")}
    before = manifest(tmp_path / "data")
    take(tmp_path / "data", "vac.a", file)
    assert manifest(tmp_path / "data") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_specobjall_brings_its_primary_view(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "catalog/spAll-plate3655.fits"
    report = take(tmp_path, f"{CONTEXT}.specObjAll", file)
    with fits.open(file) as hdus:
        primary = {
            int(i) % 2**64 for i, p in zip(hdus[1].data["SPECOBJID"], hdus[1].data["SPECPRIMARY"], strict=True) if p
        }
    assert report.primary == len(primary) < 93
    assert set(table(tmp_path, "specobj")["specobjid"].to_pylist()) == primary
    assert manifest(tmp_path).tables["specobj"].source == PRIMARY_SOURCE
    everything = csv(tmp_path, "specobjid,ra,dec,zwarning,sn_median\n1,10,20,0,5\n2,10,20,0,9\n3,10,20,4,99\n4,,,0,1\n")
    assert take(tmp_path, f"{CONTEXT}.specobjall", everything).primary == 2
    assert table(tmp_path, "specobj")["specobjid"].to_pylist() == [2, 4]


def test_a_specobj_of_its_own_is_not_replaced_by_a_view(tmp_path: Path) -> None:
    data = tmp_path / "data"
    take(data, f"{CONTEXT}.specobj", csv(tmp_path, "specobjid,ra,dec\n7,10,20\n"))
    assert take(data, f"{CONTEXT}.specobjall", csv(tmp_path, "specobjid,ra,dec\n8,10,20\n")).primary is None
    assert table(data, "specobj")["specobjid"].to_pylist() == [7]
    assert table(data, "specobjall")["specobjid"].to_pylist() == [8]
    assert take(data, "other.specobjall", csv(tmp_path, "specobjid\n8\n")).primary is None


def test_a_table_without_positions_or_ids_cannot_be_the_contexts_own(real_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    platelist = real_data / "catalog/platelist_7102.fits"
    with pytest.raises(
        InvalidRequest, match=r"platelist_7102.fits has no positions, so it cannot be sdss_dr16.specobj"
    ):
        take(data, "sdss_dr16.specobj", platelist)
    assert left(data) == set()
    take(data, "sdss_dr16.specobj", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    before, live = left(data), manifest(data)
    for name in ("specobj", "specObjAll"):
        with pytest.raises(InvalidRequest, match=f"has no positions, so it cannot be sdss_dr16.{name.lower()}; give"):
            take(data, f"sdss_dr16.{name}", platelist)
        with pytest.raises(InvalidRequest, match=f"t.csv has no identifiers, so it cannot be sdss_dr16.{name.lower()}"):
            take(data, f"sdss_dr16.{name}", csv(tmp_path, "z,ra,dec\n1,10,20\n"))
    assert (left(data), manifest(data)) == (before, live)
    assert table(data, "specobj")["specobjid"].to_pylist() == [1]
    assert take(data, "other.specobj", platelist).rows == 1


def test_spectra_and_catalogues_live_side_by_side(sim_tree: dict[str, Path], tmp_path: Path) -> None:
    file = csv(tmp_path, "specobjid,ra,dec\n7,10,20\n8,10,21\n")
    data = tmp_path / "data"
    take(data, "vac.t", file)
    ingest(data, CONTEXT, [sim_tree[CONTEXT]], workers=1)
    assert table(data, "vac.t").num_rows == 2
    rows = table(data, "specobjall").num_rows
    assert rows > 10
    index = manifest(data).index
    take(data, "vac.u", file)
    assert manifest(data).index == index
    assert set(manifest(data).tables) == {"specobj", "specobjall", "vac.t", "vac.u"}
    assert table(data, "specobjall").num_rows == rows


# --- what goes wrong ---


def test_a_file_that_breaks_off_leaves_the_old_table_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    take(data, "vac.t", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    before = left(data)
    with pytest.raises(InvalidRequest, match="has 2 values in line 3"):
        take(data, "vac.t", csv(tmp_path, "specobjid,ra,dec\n5,10,20\n6,10\n"))
    assert left(data) == before
    assert table(data, "vac.t")["specobjid"].to_pylist() == [1]


def test_ctrl_c_leaves_the_old_table_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    take(data, "vac.t", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    before = left(data)

    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (2, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(data, "vac.t", csv(tmp_path, "specobjid,ra,dec\n5,10,20\n6,10,20\n"), progress=interrupt)
    assert left(data) == before


def test_a_full_disk_is_an_error_and_later_the_same_ingest_goes_through(tmp_path: Path) -> None:
    file = csv(tmp_path, "specobjid,ra,dec\n" + "".join(f"{i},{i % 360},5\n" for i in range(20_000)))
    data = tmp_path / "data"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(DamagedData, match=f"data: {data} cannot be written: File too large"):
            take(data, "vac.t", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert left(data) == set()
    assert take(data, "vac.t", file).rows == table(data, "vac.t").num_rows == 20_000


def test_a_second_ingest_of_a_context_at_once_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / CONTEXT).mkdir(parents=True)
    handle = os.open(tmp_path / "data" / CONTEXT, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(InvalidRequest, match=f"another ingest of '{CONTEXT}' is running"):
            take(tmp_path / "data", "vac.t", csv(tmp_path, "a\n1\n"))
    finally:
        os.close(handle)


def test_a_first_ingest_that_fails_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    chunk = tmp_path / "data" / CONTEXT / ".staging" / "chunk.json"
    chunk.parent.mkdir(parents=True)
    chunk.write_text("{}")  # an interrupted ingest of spectra
    before = left(tmp_path / "data")
    with pytest.raises(InvalidRequest, match="has 1 values in line 2"):
        take(tmp_path / "data", "vac.t", csv(tmp_path, "a,b\n1\n"))
    assert left(tmp_path / "data") == before


def test_a_folder_that_another_ingest_drops_meanwhile_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, flock = tmp_path / "data", fcntl.flock

    def dropped(handle: int, operation: int) -> None:
        (data / CONTEXT).rmdir()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", dropped)
    with pytest.raises(InvalidRequest, match=f"another ingest of '{CONTEXT}' is running"):
        take(data, "vac.t", csv(tmp_path, "a\n1\n"))
    monkeypatch.setattr(fcntl, "flock", flock)
    assert take(data, "vac.t", csv(tmp_path, "a\n1\n")).rows == 1


BEFORE, AFTER = -1, -2
"""Steps at which the manifest is about to be replaced, and has just been."""

AT_STEP = (
    f"BEFORE, AFTER = {BEFORE}, {AFTER}"
    + """
import os, signal, sys
from pathlib import Path
from specflight.tools.ingestcatalog import ingest_catalog
data, file, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps, switched = 0, False
def watch(event, arguments):
    global steps, switched
    if event in ("os.rename", "os.remove", "os.symlink", "os.rmdir", "os.mkdir") or (
        event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        if str(arguments[1 if event == "os.symlink" else 0]).startswith(data):
            steps += 1
            switch = event == "os.rename" and str(arguments[1]).endswith("MANIFEST.json")
            if step in (steps, BEFORE if switch else None, AFTER if switched else None):
                os.kill(os.getpid(), signal.SIGKILL)
            switched = switched or switch
sys.addaudithook(watch)
ingest_catalog(Path(data), "sdss_dr16", "sdss_dr16.specobjall", Path(file))
print(steps)
"""
)


def step(data: Path, file: Path, number: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", AT_STEP, str(data), str(file), str(number)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def killed_at(tmp_path: Path, number: int) -> list[int]:
    """Identifiers that are live after an ingest was killed, and the same ingest went through later."""
    data = tmp_path / f"data{number}"
    take(data, f"{CONTEXT}.specobjall", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    new = csv(tmp_path, "specobjid,ra,dec\n5,10,20\n6,10,50\n")
    assert step(data, new, number).returncode == -signal.SIGKILL
    found, primary = (sorted(table(data, name)["specobjid"].to_pylist()) for name in ("specobjall", "specobj"))
    assert found == primary
    take(data, f"{CONTEXT}.specobjall", new)
    assert sorted(table(data, "specobj")["specobjid"].to_pylist()) == [5, 6]
    folders = {entry.folder for entry in manifest(data).tables.values()}
    assert {path.name for path in (data / CONTEXT / "catalog").iterdir()} == {"specobj", "specobjall", *folders}
    return found


def steps(tmp_path: Path) -> int:
    data = tmp_path / "all"
    take(data, f"{CONTEXT}.specobjall", csv(tmp_path, "specobjid,ra,dec\n1,10,20\n"))
    count = int(step(data, csv(tmp_path, "specobjid,ra,dec\n5,10,20\n6,10,50\n"), 0).stdout)
    assert count > 20
    return count


@pytest.mark.parametrize(("number", "expected"), [(BEFORE, [1]), (AFTER, [5, 6])])
def test_a_killed_ingest_leaves_the_old_tables_live_or_the_new_ones(
    tmp_path: Path, number: int, expected: list[int]
) -> None:
    assert killed_at(tmp_path, number) == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_ingest_killed_before_any_of_its_steps_shows_no_half_written_state(tmp_path: Path) -> None:
    for number in range(1, steps(tmp_path) + 1):
        assert killed_at(tmp_path, number) in ([1], [5, 6])
