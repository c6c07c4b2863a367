"""Foreign tables: what a file of any format says arrives as it stands there."""

from __future__ import annotations

import gzip
import io
import math
import random
import tracemalloc
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog import tablefits, tabletext
from specflight.catalog.tablefiles import open_table_file
from specflight.errors import InvalidRequest

UINT = 2**64 - 1


def read(path: Path) -> pa.Table:
    with open_table_file(path, path.parent) as table:
        rows = pa.Table.from_batches(table.batches, table.schema)
        assert len(rows) == table.rows
        rows.validate(full=True)
        return rows


def of_text(folder: Path, text: str | bytes, name: str = "table.csv") -> pa.Table:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"FILE: {path} ")
    assert "\n" not in message
    return message


def metadata(table: pa.Table, name: str) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (table.schema.field(name).metadata or {}).items()}


def types(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def assert_same(table: pa.Table, expected: pa.Table) -> None:
    """Names, types and values, NaN being equal to itself."""
    assert types(table) == types(expected)
    for name in expected.column_names:
        assert repr(table[name].to_pylist()) == repr(expected[name].to_pylist()), name


def write_fits(path: Path, columns: Sequence[fits.Column], **header: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = fits.BinTableHDU.from_columns(columns)
        hdu.header.update(header)
        hdu.writeto(path, overwrite=True)
    return path


# --- real files ---


def astropy_cells(values: NDArray[Any]) -> list[Any]:
    """A column as astropy reads it: text without trailing blanks, a cell of several values as one flat list."""
    if values.dtype.kind == "S":
        values = np.char.rstrip(np.char.decode(values, "latin-1"))
    if values.ndim > 1:
        values = values.reshape(len(values), -1)
    return values.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("catalog/spAll-plate3655.fits", 93, 236),
        ("catalog/cat_boss_test1.fits.gz", 140, 23),
        ("catalog/platelist_7102.fits", 1, 108),
        ("desi/redrock-special-dark-27247.fits", 1, 12),
        ("desi/coadd-sv3-dark-26065.fits", 5, 70),
    ],
)
def test_every_value_of_a_real_fits_table_is_what_astropy_reads(
    real_data: Path, name: str, rows: int, columns: int
) -> None:
    with open_table_file(real_data / name, Path("/nonexistent") if not name.endswith(".gz") else Path()) as table:
        found = pa.Table.from_batches(table.batches, table.schema)
    assert (found.num_rows, found.num_columns) == (rows, columns)
    with fits.open(real_data / name, character_as_bytes=True) as hdus:
        data = hdus[1].data
        assert [n.lower() for n in data.names] == found.column_names
        for stated in data.columns:
            values, column = data[stated.name], found[stated.name.lower()]
            assert repr(column.to_pylist()) == repr(astropy_cells(values)), stated.name
            kind = column.type.value_type if pa.types.is_list(column.type) else column.type
            expected = pa.string() if values.dtype.kind == "S" else pa.from_numpy_dtype(values.dtype.newbyteorder("="))
            assert kind == expected, stated.name


def test_units_descriptions_and_shapes_of_real_files_are_kept(real_data: Path) -> None:
    found = read_into(real_data / "catalog/cat_boss_test1.fits.gz")
    assert metadata(found, "ra") == {"unit": "deg", "description": "Right Ascension"}
    assert metadata(found, "psfflux")["unit"] == "nanomaggies"
    assert "unit" not in metadata(found, "plate")  # stated as "-"
    found = read_into(real_data / "catalog/spAll-plate3655.fits")
    assert metadata(found, "profmean_nmgy") == {"shape": "5,15"}


def read_into(path: Path) -> pa.Table:
    with open_table_file(path, Path()) as table:
        return pa.Table.from_batches(table.batches, table.schema)


def test_the_quoted_ids_of_a_real_csv_file_are_exact(real_data: Path) -> None:
    path = real_data / "catalog/optical_search_617515.csv"
    found = read_into(path)
    lines = [line.replace("'", "").split(",") for line in path.read_text().splitlines()]
    assert found.column_names == ["plate", *lines[0][1:]]
    assert len(found) == len(lines) - 1 == 628
    for i, name in enumerate(found.column_names):
        texts = [line[i] for line in lines[1:]]
        kind = found[name].type
        expected: list[Any] = [text or None for text in texts]
        if pa.types.is_integer(kind):
            expected = [int(text) for text in texts]
        elif pa.types.is_floating(kind):
            expected = [float(text) for text in texts]
        assert found[name].to_pylist() == expected, name
    assert types(found)["specobj_id"] == "int64"
    assert types(found)["z"] == "double"
    assert types(found)["subclass"] == "string"


def test_a_real_csv_file_of_names_and_measurements(real_data: Path) -> None:
    found = read_into(real_data / "catalog/spiders_quasar_features.csv")
    assert list(types(found).values()) == ["string", *["double"] * 7]
    assert found["name"][0].as_py() == "XMMSL2 J153357.2+470137"
    assert found["l5100"][0].as_py() == 9.588948199999999e40


# --- FITS ---


def test_numbers_of_fits_keep_their_types_and_what_they_stand_for(tmp_path: Path) -> None:
    values = [0, 1, 2]
    columns = [
        fits.Column("B", "B", array=np.array([0, 255, 3], np.uint8)),
        fits.Column("I8", "B", bzero=-128, array=np.array([-128, 127, 0], np.int8)),
        fits.Column("I", "I", array=np.array([-(2**15), 2**15 - 1, 0], np.int16)),
        fits.Column("U2", "I", bzero=2**15, array=np.array([0, 2**16 - 1, 1], np.uint16)),
        fits.Column("J", "J", array=np.array(values, np.int32), unit="mJy"),
        fits.Column("U4", "J", bzero=2**31, array=np.array([0, 2**32 - 1, 1], np.uint32)),
        fits.Column("K", "K", array=np.array([-(2**63), 2**63 - 1, 2**53 + 1], np.int64)),
        fits.Column("U8", "K", bzero=2**63, array=np.array([0, UINT, 2**53 + 1], np.uint64)),
        fits.Column("E", "E", array=np.array([0.1, np.nan, np.inf], np.float32)),
        fits.Column("D", "D", array=np.array([0.1, np.nan, -0.0])),
        fits.Column("L", "L", array=np.array([True, False, True])),
        fits.Column("X", "11X", array=np.eye(3, 11, dtype=bool)),
        fits.Column("C", "C", array=np.array([1 + 2j, 3, -1j], np.complex64)),
        fits.Column("A", "7A", array=np.array(["ab  ", "", "  c"])),
        fits.Column("V", "3E", array=np.arange(9, dtype=np.float32).reshape(3, 3)),
        fits.Column("M", "6J", dim="(3,2)", array=np.arange(18, dtype=np.int32).reshape(3, 2, 3)),
        fits.Column("S", "6A", dim="(3,2)", array=np.array([["ab", "c"], ["", "def"], ["x ", " y"]])),
    ]
    found = read(write_fits(tmp_path / "t.fits", columns, TCOMM5="Flux at 1.4 GHz"))
    assert types(found) == {
        "b": "uint8", "i8": "int8", "i": "int16", "u2": "uint16", "j": "int32", "u4": "uint32", "k": "int64",
        "u8": "uint64", "e": "float", "d": "double", "l": "bool", "x": "list<item: bool>", "c": "list<item: float>",
        "a": "string", "v": "list<item: float>", "m": "list<item: int32>", "s": "list<item: string>",
    }  # fmt: skip
    assert found["b"].to_pylist() == [0, 255, 3]
    assert found["i8"].to_pylist() == [-128, 127, 0]
    assert found["i"].to_pylist() == [-(2**15), 2**15 - 1, 0]
    assert found["u2"].to_pylist() == [0, 2**16 - 1, 1]
    assert found["u4"].to_pylist() == [0, 2**32 - 1, 1]
    assert found["k"].to_pylist() == [-(2**63), 2**63 - 1, 2**53 + 1]
    assert found["u8"].to_pylist() == [0, UINT, 2**53 + 1]
    assert repr(found["e"].to_pylist()) == repr([float(np.float32(0.1)), math.nan, math.inf])
    assert repr(found["d"].to_pylist()) == "[0.1, nan, -0.0]"
    assert found["e"].null_count == found["d"].null_count == 0
    assert found["l"].to_pylist() == [True, False, True]
    assert found["x"].to_pylist() == np.eye(3, 11, dtype=bool).tolist()
    assert found["c"].to_pylist() == [[1, 2], [3, 0], [0, -1]]
    assert found["a"].to_pylist() == ["ab", "", "  c"]
    assert found["v"].to_pylist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert found["m"].to_pylist() == np.arange(18).reshape(3, 6).tolist()
    assert found["s"].to_pylist() == [["ab", "c"], ["", "def"], ["x", " y"]]
    assert metadata(found, "j") == {"unit": "mJy", "description": "Flux at 1.4 GHz"}
    assert metadata(found, "m") == {"shape": "2,3"}
    assert metadata(found, "v") == metadata(found, "s") == {}


def test_scaled_columns_and_missing_values_of_fits(tmp_path: Path) -> None:
    raw = np.array([1, -99, 3], np.int32)
    columns = [
        fits.Column("scaled", "J", array=raw),
        fits.Column("shifted", "J", array=raw),
        fits.Column("missing", "J", array=raw, null=-99),
        fits.Column("unsigned", "K", array=np.array([1, -99, 3], np.int64)),
        fits.Column("vector", "2J", array=np.stack([raw, raw], axis=1), null=-99),
        fits.Column("logical", "L", array=np.array([True, False, True])),
    ]
    scale = {"TSCAL1": 0.5, "TZERO1": 10.0, "TZERO2": 50000, "TZERO4": 2**63, "TNULL4": -99, "TNULL1": -99}
    path = write_fits(tmp_path / "t.fits", columns, **scale)
    stored = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        last = hdus[1].fileinfo()["datLoc"] + 3 * hdus[1].header["NAXIS1"] - 1
    stored[last] = 0  # neither T nor F
    path.write_bytes(stored)
    found = read(path)
    assert types(found)["scaled"] == "double"
    assert found["scaled"].to_pylist() == [10.5, None, 11.5]
    assert types(found)["shifted"] == "int64"
    assert found["shifted"].to_pylist() == [50001, 49901, 50003]
    assert found["missing"].to_pylist() == [1, None, 3]
    assert types(found)["unsigned"] == "uint64"
    assert found["unsigned"].to_pylist() == [2**63 + 1, None, 2**63 + 3]
    assert found["vector"].to_pylist() == [[1, 1], [None, None], [3, 3]]
    assert found["logical"].to_pylist() == [True, False, None]


@pytest.mark.parametrize("letter", ["P", "Q"])
def test_variable_length_arrays_of_fits(tmp_path: Path, letter: str) -> None:
    def cells(*rows: list[Any], kind: str) -> NDArray[Any]:
        array = np.empty(len(rows), object)
        array[:] = [np.array(row, kind) for row in rows]
        return array

    columns = [
        fits.Column("e", f"{letter}E()", array=cells([1.5], [], [2, 3, 4], kind="f4")),
        fits.Column("j", f"{letter}J()", array=cells([1, 2], [-1], [], kind="i4")),
        fits.Column("c", f"{letter}C()", array=cells([], [1 + 2j], [3j, 4], kind="c8")),
    ]
    found = read(write_fits(tmp_path / "t.fits", columns))
    assert found["e"].to_pylist() == [[1.5], [], [2, 3, 4]]
    assert found["j"].to_pylist() == [[1, 2], [-1], []]
    assert found["c"].to_pylist() == [[], [1, 2], [0, 3, 4, 0]]
    assert types(found) == {"e": "list<item: float>", "j": "list<item: int32>", "c": "list<item: float>"}


def test_text_of_fits_ends_at_its_first_nul_and_may_be_latin(tmp_path: Path) -> None:
    array = np.array([b"ab\0cd", b"caf\xe9 ", b"\0\0x"])
    found = read(write_fits(tmp_path / "t.fits", [fits.Column("a", "6A", array=array)]))
    assert found["a"].to_pylist() == ["ab", "café", ""]


def test_a_table_is_read_in_batches_that_hold_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 50_000
    column = fits.Column("v", "40D", array=np.arange(rows * 40.0).reshape(rows, 40))
    path = write_fits(tmp_path / "t.fits", [column])
    monkeypatch.setattr(tablefits, "BATCH_BYTES", 1 << 20)
    total = 0.0
    tracemalloc.start()
    with open_table_file(path, tmp_path) as table:
        for batch in table.batches:
            assert batch.nbytes < 1.2 * 2**20
            total += float(batch.column(0).flatten().to_numpy().sum())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(rows * 40))
    assert peak < path.stat().st_size / 3


# --- text ---


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-2", "+3"], "int64", [1, -2, 3]),
        (["1", "", "007"], "int64", [1, None, 7]),
        (['"1"', '" 2 "', "3"], "int64", [1, 2, 3]),
        ([str(2**63 - 1), str(-(2**63)), "0"], "int64", [2**63 - 1, -(2**63), 0]),
        ([str(2**63), "1", str(UINT)], "uint64", [2**63, 1, UINT]),
        ([str(2**63), "-1", "2"], "string", [str(2**63), "-1", "2"]),
        ([str(2**64), "1", "2"], "string", [str(2**64), "1", "2"]),
        (["9" * 5000, "1", "2"], "string", ["9" * 5000, "1", "2"]),
        (["1", "2.5", "+1e-3"], "double", [1.0, 2.5, 0.001]),
        (["1", "nan", "-inf"], "double", [1.0, math.nan, -math.inf]),
        (["0.1", "", "-0.0"], "double", [0.1, None, -0.0]),
        (["0.1", "NULL", "--"], "double", [0.1, None, None]),
        ([str(2**53 + 1), "nan", "N/A"], "int64", [2**53 + 1, None, None]),
        (["True", "false", ""], "bool", [True, False, None]),
        (["true", "1", "0"], "string", ["true", "1", "0"]),
        (["0x10", "1", "2"], "string", ["0x10", "1", "2"]),
        (["1_000", "1", "2"], "string", ["1_000", "1", "2"]),
        (["NA", "Au", ""], "string", ["NA", "Au", None]),
        (["None", "", "-"], "string", ["None", None, "-"]),
        (["", "", ""], "string", [None, None, None]),
        (['"a,b"', ' c ', '"say ""x"""'], "string", ["a,b", "c", 'say "x"']),
        (["O'Neil", "'tis", '5"'], "string", ["O'Neil", "'tis", '5"']),
    ],
)  # fmt: skip
def test_a_text_column_has_the_type_of_all_its_values(
    tmp_path: Path, values: list[str], kind: str, expected: list[object]
) -> None:
    found = of_text(tmp_path, "n,x\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    assert types(found) == {"n": "int64", "x": kind}
    assert repr(found["x"].to_pylist()) == repr(expected)


def test_one_late_value_decides_on_the_type_of_a_whole_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabletext, "BLOCK_BYTES", 1 << 12)
    rows = [f"{i},{i},{i},{2**53 + i}" for i in range(5000)]
    found = of_text(tmp_path, "a,b,c,d\n" + "\n".join([*rows, f"1,1.5,x,{UINT}"]))
    assert types(found) == {"a": "int64", "b": "double", "c": "string", "d": "uint64"}
    assert found["a"].to_pylist() == [*range(5000), 1]
    assert found["c"].to_pylist() == [*map(str, range(5000)), "x"]
    assert found["d"].to_pylist() == [*range(2**53, 2**53 + 5000), UINT]
    assert found["a"].num_chunks > 5


@pytest.mark.parametrize(
    "text",
    [
        "ra,name\n1.5,ab\n2,cd\n",
        "RA,Name\r\n1.5,ab\r\n2,cd\r\n",
        "\ufeffra,name\n1.5,ab\n2,cd",
        "#ra,name\n1.5,ab\n2,cd\n",
        "# made by hand, with care, in 2020\n# ra,name\n1.5,ab\n# a comment, too\n\n2,cd\n",
        "# two, words\nra,name\n1.5,ab\n2,cd\n",
        "ra\tname\n1.5\tab\n2\tcd\n",
        "ra;name\n1.5;ab\n2;cd\n",
        "  ra   name\n  1.5  ab\n2    cd  \n",
        "# ra name\n1.5 ab\n2 'cd'\n",
        "'ra','name'\n'1.5','ab'\n'2','cd'\n",
        '"ra","name"\n"1.5","ab"\n2,"cd"\n',
    ],
)
def test_text_tables_of_many_looks_say_the_same(tmp_path: Path, text: str) -> None:
    expected = pa.table({"ra": [1.5, 2.0], "name": ["ab", "cd"]})
    assert_same(of_text(tmp_path, text), expected)
    assert_same(of_text(tmp_path, gzip.compress(text.encode()), "t.csv.gz"), expected)


def test_quotes_of_either_kind_hold_delimiters_and_line_breaks(tmp_path: Path) -> None:
    assert of_text(tmp_path, "a,b\n'x,y',1\n'it''s',2\n")["a"].to_pylist() == ["x,y", "it's"]
    assert of_text(tmp_path, 'a,b\n"x,y",1\n"l\nm",2\n')["a"].to_pylist() == ["x,y", "l\nm"]
    assert of_text(tmp_path, 'a b\n"x y" 1\n')["a"].to_pylist() == ["x y"]


def test_text_that_is_not_utf_8_is_latin(tmp_path: Path) -> None:
    found = of_text(tmp_path, b"n,name\n1,plain\n2,caf\xe9\n")
    assert found["name"].to_pylist() == ["plain", "café"]


def test_a_column_of_ids_alone_is_a_table(tmp_path: Path) -> None:
    found = of_text(tmp_path, f"specobjid\n{UINT}\n5\n")
    assert_same(found, pa.table({"specobjid": pa.array([UINT, 5], pa.uint64())}))


# --- VOTable, ECSV, Parquet ---

VOTABLE = """<?xml version="1.0"?><VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
<TABLE><FIELD name="RAJ2000" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"><DESCRIPTION>Right
 ascension</DESCRIPTION></FIELD><FIELD name="objID" datatype="long"/><FIELD name="Name" datatype="char" arraysize="*"/>
<FIELD name="mag" datatype="float" arraysize="2" unit="mag"/><FIELD name="bands" datatype="short" arraysize="*"/>
<FIELD name="ok" datatype="boolean"/>
<DATA><TABLEDATA>
<TR><TD>10.5</TD><TD>9007199254740993</TD><TD>a &lt;b&gt;</TD><TD>1 2.5</TD><TD>1 2 3</TD><TD>T</TD></TR>
<TR><TD/><TD/><TD/><TD>3 NaN</TD><TD/><TD/></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


@pytest.mark.parametrize("serialisation", ["tabledata", "binary2", "gzip"])
def test_a_votable_keeps_units_descriptions_and_what_is_missing(tmp_path: Path, serialisation: str) -> None:
    text = VOTABLE.encode()
    if serialisation == "binary2":
        out = io.BytesIO()
        # astropy writes the short integers of `bands` as long ones
        text = text.replace(b'name="bands" datatype="short"', b'name="bands" datatype="long"')
        votable.parse(io.BytesIO(text)).to_xml(out, tabledata_format="binary2")
        text = out.getvalue()
    found = of_text(tmp_path, gzip.compress(text) if serialisation == "gzip" else text, "t.dat")
    assert found.column_names == ["raj2000", "objid", "name", "mag", "bands", "ok"]
    assert found["raj2000"].to_pylist() == [10.5, None]
    assert found["objid"].to_pylist() == [2**53 + 1, None]
    assert found["name"].to_pylist() == ["a <b>", ""]
    assert found["mag"].to_pylist() == [[1, 2.5], [3, None]]
    assert found["bands"].to_pylist() == [[1, 2, 3], []]
    assert found["ok"].to_pylist() == [True, None]
    assert types(found)["mag"] == "list<item: float>"
    assert types(found)["bands"] == ("list<item: int64>" if serialisation == "binary2" else "list<item: int16>")
    about = {"unit": "deg", "description": "Right ascension", "ucd": "pos.eq.ra;meta.main"}
    assert metadata(found, "raj2000") == about


def test_an_ecsv_table_keeps_types_units_and_descriptions(tmp_path: Path) -> None:
    table = Table()
    table["ID"] = np.array([UINT, 1, 2], np.uint64)
    table["z"] = MaskedColumn([0.5, np.nan, 1], mask=[False, False, True], description="Redshift", dtype=np.float32)
    table["v"] = MaskedColumn(np.arange(6).reshape(3, 2), unit="km / s")
    table["name"] = MaskedColumn(["a", "é", ""], mask=[False, False, True])
    table["any"] = np.empty(3, object)
    table["any"][:] = [[1, 2], [], [3]]
    table.write(tmp_path / "t.ecsv")
    found = read(tmp_path / "t.ecsv")
    assert_same(
        found,
        pa.table(
            {
                "id": pa.array([UINT, 1, 2], pa.uint64()),
                "z": pa.array([0.5, math.nan, None], pa.float32()),
                "v": pa.array([[0, 1], [2, 3], [4, 5]]),
                "name": ["a", "é", None],
                "any": pa.array([[1, 2], [], [3]]),
            }
        ),
    )
    assert metadata(found, "z") == {"description": "Redshift"}
    assert metadata(found, "v") == {"unit": "km / s"}


def test_a_parquet_file_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specflight.catalog import tablefiles

    schema = pa.schema(
        [
            pa.field("_healpix_29", pa.int64()),
            pa.field("specObjID", pa.uint64(), metadata={"unit": "", "description": "Identifier"}),
            pa.field("flux", pa.list_(pa.float32()), metadata={"unit": "nmgy"}),
            pa.field("class", pa.dictionary(pa.int8(), pa.string())),
            pa.field("z", pa.float64()),
        ]
    )
    rows = {
        "_healpix_29": [1, 2, 3],
        "specObjID": [UINT, None, 2**63],
        "flux": [[1.5, None], None, []],
        "class": ["STAR", "QSO", None],
        "z": [0.1, math.nan, None],
    }
    pq.write_table(pa.table(rows, schema=schema), tmp_path / "t.parquet", row_group_size=2)
    monkeypatch.setattr(tablefiles, "BATCH_ROWS", 2)
    found = read(tmp_path / "t.parquet")
    expected = pa.table(
        {
            "specobjid": pa.array(rows["specObjID"], pa.uint64()),
            "flux": pa.array(rows["flux"], pa.list_(pa.field("element", pa.float32()))),
            "class": rows["class"],
            "z": pa.array(rows["z"]),
        }
    )
    assert_same(found, expected)
    assert found["z"].num_chunks == 2
    assert metadata(found, "specobjid") == {"description": "Identifier"}
    assert metadata(found, "flux") == {"unit": "nmgy"}


def test_units_in_a_parquet_file_of_astropy_are_found(tmp_path: Path) -> None:
    table = Table({"Flux": [1.0, 2.0]}, units={"Flux": "Jy"}, descriptions={"Flux": "Integrated"})
    table.write(tmp_path / "t.parquet", format="parquet")
    assert metadata(read(tmp_path / "t.parquet"), "flux") == {"unit": "Jy", "description": "Integrated"}


# --- any table, through any format ---

NUMBERS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    **{f"int{n}": (getattr(pa, f"int{n}")(), st.integers(-(2 ** (n - 1)) + 1, 2 ** (n - 1) - 1)) for n in (16, 32, 64)},
    "uint8": (pa.uint8(), st.integers(0, 254)),
    "uint64": (pa.uint64(), st.integers(0, UINT)),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "float64": (pa.float64(), st.floats(allow_nan=False)),
    "bool": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.from_regex(r"[A-Za-z]([ -~]{0,6}[A-Za-z])?", fullmatch=True)),
    "list": (pa.list_(pa.float64()), st.lists(st.floats(allow_nan=False), min_size=2, max_size=2)),
}


@st.composite
def tables(draw: st.DrawFn, without: frozenset[str] = frozenset(), nulls: bool = True) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(sorted(NUMBERS.keys() - without)), min_size=1, max_size=6))
    rows = draw(st.integers(1, 5))
    columns = {}
    for i, kind in enumerate(kinds):
        dtype, values = NUMBERS[kind]
        maybe = st.one_of(st.none(), values) if nulls and kind != "list" else values
        columns[f"{kind}_{i}"] = pa.array(draw(st.lists(maybe, min_size=rows, max_size=rows)), dtype)
    return pa.table(columns)


def as_astropy(table: pa.Table) -> Table:
    columns = {}
    for name in table.column_names:
        column = table[name]
        null = column.is_null().to_numpy().astype(bool)
        values: NDArray[Any]
        if pa.types.is_string(column.type):
            values = np.array([value or "" for value in column.to_pylist()], np.str_)
        elif pa.types.is_list(column.type):
            columns[name] = np.array(column.to_pylist(), np.float64)
            continue
        else:
            values = np.array(
                [0 if value is None else value for value in column.to_pylist()], column.type.to_pandas_dtype()
            )
        columns[name] = MaskedColumn(values, mask=null) if null.any() else values
    return Table(columns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


ANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(table=tables(nulls=False))
def test_any_table_comes_back_from_fits(folder: Path, table: pa.Table) -> None:
    as_astropy(table).write(folder / "t.fits", overwrite=True)
    assert_same(read(folder / "t.fits"), table)


@ANY
@given(table=tables(without=frozenset({"uint64", "bool"})))
def test_any_table_comes_back_from_a_votable(folder: Path, table: pa.Table) -> None:
    for serialisation in ("tabledata", "binary2"):
        out = as_astropy(table)
        out.write(folder / "t.vot", format="votable", tabledata_format=serialisation, overwrite=True)
        found = read(folder / "t.vot")
        texts = [name for name in table.column_names if name.startswith("string")]
        assert_same(found.drop_columns(texts), table.drop_columns(texts))
        for name in texts:  # which knows no missing text
            assert found[name].to_pylist() == [value or "" for value in table[name].to_pylist()]


@ANY
@given(table=tables())
def test_any_table_comes_back_from_ecsv_and_parquet(folder: Path, table: pa.Table) -> None:
    as_astropy(table).write(folder / "t.ecsv", overwrite=True)
    assert_same(read(folder / "t.ecsv"), table)
    pq.write_table(table, folder / "t.parquet")
    found = read(folder / "t.parquet")
    assert found.to_pylist() == table.to_pylist()


@ANY
@given(table=tables(without=frozenset({"list", "float32"})), rng=st.randoms(use_true_random=False))
def test_any_table_comes_back_from_csv_with_the_same_values(folder: Path, table: pa.Table, rng: random.Random) -> None:
    quote = rng.choice("\"'")
    lines = [",".join(table.column_names)]
    for row in table.to_pylist():
        nothing = "" if len(row) > 1 else 2 * quote  # an empty line is no row
        texts = [nothing if value is None else str(value) for value in row.values()]
        quoted = [
            f"{quote}{text.replace(quote, 2 * quote)}{quote}"
            if isinstance(value, str) or (value is not None and rng.random() < 0.3)
            else text
            for text, value in zip(texts, row.values(), strict=True)
        ]
        lines.append(",".join(quoted))
    path = folder / "t.csv"
    path.write_text("\n".join(lines))
    found = read(path)
    for name in table.column_names:
        expected = table[name].to_pylist()
        if name.startswith("string"):
            expected = [value and str(value) for value in expected]
            found_values = [value if value is None else str(value) for value in found[name].to_pylist()]
            assert [v and v.lower() for v in found_values] == [v and v.lower() for v in expected]
        else:
            assert found[name].to_pylist() == expected


# --- what cannot be taken ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n  \n", "is empty"),
        (b"# nothing but words\n", "has no rows and no header"),
        (b"\x00\x01\x02" * 100, "is no FITS, Parquet, VOTable, ECSV or text table"),
        (random.Random(1).randbytes(5000), "is no FITS, Parquet, VOTable, ECSV or text table"),
        (b"a,b\n1,2\n3\n", "has 1 values in line 3, of 2 columns"),
        (b"# c\na,b\n1,2\n\n# d\n3,4,5\n6,7\n", "has 3 values in line 6, of 2 columns"),
        (b"a b\n1 2\n3 4 5\n", "has 3 values in line 3, of 2 columns"),
        (b'a,b\n1,"x\ny"\n3,"never closed\n4,5\n', "has a fault in line 4"),
        (b"1.5,2\n3,4\n", "has no header: its first line is '1.5,2'"),
        (b"Z,z\n1,2\n", "has two columns of one name, 'Z' and 'z'"),
        (b"a,a\n1,2\n", "has two columns of one name, 'a' and 'a'"),
        (b"a,,b\n1,2,3\n", "has no usable name for column 2"),
        (b"\x1f\x8b" + b"junk" * 10, "cannot be read"),
        (gzip.compress(b"a,b\n" + b"".join(b"%d,2\n" % i for i in range(5000)))[:-2000], "cannot be read"),
        (b"PAR1" + b"x" * 100, "cannot be read as Parquet"),
        (b"SIMPLE  =                    T", "cannot be read as FITS"),
        (VOTABLE[:-300].encode(), "cannot be read as a VOTable"),
        (b"<?xml version='1.0'?><html></html>", "cannot be read as a VOTable"),
        (b"# %ECSV 1.0\n# ---\n# nonsense\na\n1\n", "cannot be read as ECSV"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused_with_the_reason(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.dat"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("lost", [1, 3000, 6000])
def test_a_truncated_fits_file_is_refused(tmp_path: Path, lost: int, packed: bool) -> None:
    path = write_fits(tmp_path / "t.fits", [fits.Column("d", "D", array=np.arange(1080.0))])
    content = path.read_bytes()[: -(lost + 0)]
    path.write_bytes(gzip.compress(content) if packed else content)
    assert "is truncated" in refusal(path)


def test_fits_files_without_a_usable_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
    assert "holds no binary table" in refusal(path)
    column = [fits.Column("a", "J", array=[1]), fits.Column("A", "J", array=[1])]
    assert "two columns of one name, 'a' and 'A'" in refusal(write_fits(path, column))
    stored = write_fits(path, column[:1]).read_bytes()
    for form, words in ((b"Y", "has a TFORM1 of 'Y'"), (b"D", "has rows of 4 bytes whose columns take 8")):
        path.write_bytes(stored.replace(b"TFORM1  = 'J", b"TFORM1  = '" + form))
        assert words in refusal(path)
    write_fits(path, [fits.Column("p", "PE()", array=[np.ones(3, "f4")])])
    stored = path.read_bytes()
    place = stored.rindex(np.array([3, 0], ">i4").tobytes())
    path.write_bytes(stored[:place] + np.array([3, 5000], ">i4").tobytes() + stored[place + 8 :])
    assert "is damaged within rows 1 to 1: the column 'p' points beyond the table's heap" in refusal(path)


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_a_file_is_more_than_a_refusal(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    name = ("t.fits", "t.parquet", "t.vot", "t.ecsv", "t.csv")[seed % 5]
    path = tmp_path / name
    if name == "t.parquet":
        pq.write_table(pa.table({"a": list(range(50)), "s": ["x"] * 50}), path)
    else:
        kind = {"t.vot": "votable", "t.csv": "ascii.csv", "t.ecsv": "ascii.ecsv"}.get(name, "fits")
        Table({"a": np.arange(50), "s": ["x y"] * 50}).write(path, format=kind)
    content = bytearray(path.read_bytes())
    for _ in range(5):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content[: rng.randrange(len(content) // 2, len(content) + 1)])
    with suppress(InvalidRequest):
        read(path)


def test_a_table_of_no_rows_is_a_table(tmp_path: Path) -> None:
    expected = pa.table({"a": pa.array([], pa.int64())})
    Table({"a": np.zeros(0, np.int64)}).write(tmp_path / "t.fits")
    pq.write_table(expected, tmp_path / "t.parquet")
    for name in ("t.fits", "t.parquet"):
        assert_same(read(tmp_path / name), expected)
    assert types(of_text(tmp_path, "a\n")) == {"a": "string"}
    assert len(of_text(tmp_path, "a,b")) == 0
