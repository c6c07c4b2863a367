"""Every format of a table, read back by independent readers, to the bit."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import ascii as astropy_ascii
from astropy.io import votable
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from specflight.client._transport import Stream
from specflight.errors import InvalidRequest
from specflight.http.cells import slices
from specflight.http.tables import FORMATS, choose_format

HUGE = [2**64 - 1, 2**63, 2**63 - 1, 299489677444933632, 0, None]
DOUBLES = [2.5961332675733503e-05, 0.1 + 0.2, 1.0, -0.0, 1e300, None]
SINGLES = np.array([0.1, 1e-45, 16777216.0, 3.4028235e38, -1.5e-7, np.pi], np.float32)
XMLNS = "http://www.ivoa.net/xml/VOTable/v1.3"
TEXTS = ["GALAXY", 'a "b", c', "two\nlines\r", " blanks ", "α & <b>\\", None]

TABLE = pa.table(
    {
        "specobjid": pa.array(HUGE, pa.uint64()),
        "z": pa.array(DOUBLES, pa.float64()),
        "flux": pa.array(SINGLES),
        "class": pa.array(TEXTS, pa.string()),
        "plate": pa.array([266, -1, 2**31 - 1, 0, 5, None], pa.int32()),
        "thing_id": pa.array([2**63 - 1, -(2**63), 0, 1, 2, None], pa.int64()),
        "primary": pa.array([True, False, True, False, True, None]),
        "mag": pa.array([[1.5, 0.1], [], [math.nan, None], [1.0], None, [2.0]], pa.list_(pa.float32())),
        "bits": pa.array([[1, 2], [3, None], None, [5, 6], [7, 8], [9, 10]], pa.list_(pa.int16(), 2)),
        "names": pa.array([["a", 'b,"'], [], None, ["c"], [None], ["d"]], pa.list_(pa.string())),
        "night": pa.array([datetime.date(2009, 1, 2), None, *[datetime.date(2010, 3, 4)] * 4], pa.date32()),
    },
)


def batches(table: pa.Table, size: int = 4) -> Iterator[pa.RecordBatch]:
    yield from table.to_batches(max_chunksize=size)


def written(name: str, table: pa.Table) -> bytes:
    return b"".join(FORMATS[name].write(Stream(table.schema, batches(table))))


def same_bits(found: Any, expected: pa.ChunkedArray) -> None:  # noqa: ANN401 - numbers
    kind = expected.type.to_pandas_dtype()
    word = f"u{np.dtype(kind).itemsize}"
    there = np.array(expected.is_valid())
    one, other = (np.asarray(values, kind)[there].view(word) for values in (found, expected.to_pylist()))
    np.testing.assert_array_equal(one, other)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_is_what_the_csv_module_reads() -> None:
    header, *rows = csv.reader(io.StringIO(written("csv", TABLE).decode(), newline=""))
    assert header == TABLE.column_names
    found = dict(zip(header, zip(*rows, strict=True), strict=True))
    assert found["specobjid"] == tuple("" if value is None else str(value) for value in HUGE)
    assert found["class"] == tuple("" if value is None else value for value in TEXTS)
    assert found["primary"] == ("True", "False", "True", "False", "True", "")
    assert found["mag"] == ("[1.5,0.1]", "[]", "[null,null]", "[1.0]", "", "[2.0]")
    assert found["names"][0] == '["a","b,\\""]'
    assert found["night"][0] == "2009-01-02"
    same_bits([float(value or "nan") for value in found["z"]], TABLE["z"])
    same_bits([np.float32(value) for value in found["flux"]], TABLE["flux"])


def test_csv_is_byte_for_byte_what_astropy_writes() -> None:
    """Floats aside, whose exponents look different."""
    table = Table(
        {
            "specobjid": np.array([2**63 + 5, 7, 9], np.uint64),
            "class": ["GALAXY", 'a "b", c', ""],
            "sub,class": ["x", "two\nlines", "it's"],
            "z": [0.25, np.nan, 3.0],
            "primary": [True, False, True],
        }
    )
    for rows in (table, table[:0]):
        text = io.StringIO()
        astropy_ascii.write(rows, text, format="csv")
        arrow = pa.table({name: pa.array(np.array(rows[name])) for name in rows.colnames})
        assert written("csv", arrow).decode() == text.getvalue()


def test_csv_is_read_by_astropy_and_pandas() -> None:
    plain = TABLE.select(["specobjid", "z", "flux", "plate"]).slice(0, 5)
    text = written("csv", plain).decode()
    found = astropy_ascii.read(text, format="csv", converters={"specobjid": [astropy_ascii.convert_numpy(np.uint64)]})
    frame = pd.read_csv(io.StringIO(text), dtype={"specobjid": "uint64"})
    for table in (found, frame):
        assert list(table["specobjid"]) == HUGE[:5]
        same_bits(table["z"], plain["z"])
        same_bits(table["flux"], plain["flux"])


def test_a_column_of_whole_floats_is_read_as_floats() -> None:
    whole = pa.table({"z": [0.0, -9999.0, -0.0, 1e15, 1e16, 1e22]})
    frame = pd.read_csv(io.BytesIO(written("csv", whole)))
    assert frame["z"].dtype == np.float64
    same_bits(frame["z"], whole["z"])
    alone = pa.table({"z": [0.0, -1.0]})
    assert written("csv", alone) == b"z\n0.0\n-1.0\n"


def test_no_row_of_one_column_gets_lost() -> None:
    """A line without anything on it would be no row."""
    for values in (["x", "", None, "y"], [1, None, 2]):
        table = pa.table({"a": values})
        _, *rows = csv.reader(io.StringIO(written("csv", table).decode()))
        assert [row[0] for row in rows] == ["" if value is None else str(value) for value in values]
        assert len(pd.read_csv(io.BytesIO(written("csv", table)))) == len(values)


@given(st.lists(st.floats(width=64), min_size=1), st.lists(st.floats(width=32), min_size=1))
def test_any_float_reads_back_to_the_same_bits(doubles: list[float], singles: list[float]) -> None:
    for values, kind in ((doubles, pa.float64()), (singles, pa.float32())):
        column = pa.array(values, kind)
        _, *words = written("csv", pa.table({"x": column})).decode().split()
        numbers = np.array([kind.to_pandas_dtype()(word) for word in words])
        expected = column.to_numpy()
        assert (np.isnan(numbers) == np.isnan(expected)).all()
        finite = ~np.isnan(expected)
        same_bits(numbers[finite], pa.chunked_array([pa.array(expected[finite], kind)]))


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_any_text_comes_back(texts: list[str]) -> None:
    table = pa.table({"n": range(len(texts)), "a": pa.array(texts, pa.string())})
    rows = list(csv.reader(io.StringIO(written("csv", table).decode(), newline=""), strict=True))
    assert [row[1] for row in rows[1:]] == texts
    assert [row[1] for row in json.loads(written("json", table))["rows"]] == texts


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_says_what_the_columns_are_and_keeps_every_digit() -> None:
    field = pa.field("z", pa.float64(), metadata={"unit": "km/s", "description": 'a "b"', "ucd": "src.redshift"})
    table = TABLE.set_column(1, field, TABLE["z"])
    told = json.loads(written("json", table))
    assert told["columns"][1] == {"name": "z", "type": "double", "unit": "km/s", "description": 'a "b"'}
    assert [column["type"] for column in told["columns"]][:3] == ["uint64", "double", "float"]
    found = dict(zip(table.column_names, zip(*told["rows"], strict=True), strict=True))
    for name in ("specobjid", "thing_id"):
        assert list(found[name]) == [None if value is None else str(value) for value in table[name].to_pylist()]
    for name in ("class", "plate", "primary", "bits", "names"):
        assert list(found[name]) == table[name].to_pylist()
    assert found["mag"][2] == [None, None]
    assert found["night"][:2] == ("2009-01-02", None)
    same_bits([math.nan if value is None else value for value in found["z"]], table["z"])
    same_bits(found["flux"], table["flux"])


def test_json_has_no_word_that_is_not_json() -> None:
    table = pa.table({"a": [math.nan, math.inf, -math.inf, 1.0], "b": [{"x": math.nan}, None, {"x": 1.5}, {"x": None}]})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    told = json.loads(written("json", table), parse_constant=refuse)
    assert told["rows"] == [[None, {"x": None}], [None, None], [None, {"x": 1.5}], [1.0, {"x": None}]]


# --- Arrow and Parquet ------------------------------------------------------------------------------------------------


def test_arrow_and_parquet_hold_the_very_table() -> None:
    plain = TABLE.drop_columns("mag")  # NaN equals nothing
    table = plain.cast(pa.schema([field.with_metadata({"unit": f"unit of {field.name}"}) for field in plain.schema]))
    with pa.ipc.open_stream(written("arrow", table)) as reader:
        found = reader.read_all()
    assert found.schema.equals(table.schema, check_metadata=True)
    assert found.equals(table)
    parquet = pq.read_table(io.BytesIO(written("parquet", table)))
    assert parquet.equals(table)
    assert parquet.field("z").metadata[b"unit"] == b"unit of z"


def test_an_arrow_stream_that_is_cut_is_not_complete() -> None:
    whole = written("arrow", TABLE)
    with pa.ipc.open_stream(whole[:-8] + b"\x01") as reader, pytest.raises(pa.ArrowInvalid):
        reader.read_all()


# --- VOTable ----------------------------------------------------------------------------------------------------------


def read_votable(text: bytes) -> Any:  # noqa: ANN401 - astropy's table
    file = votable.parse(io.BytesIO(text), verify="exception")
    assert file.version == "1.4"
    return file.get_first_table()


def test_votable_is_what_astropy_reads() -> None:
    about = {"z": {"unit": "km/s", "description": 'a "<b>" & c', "ucd": "src.redshift"}}
    fields = [field.with_metadata(about.get(field.name)) for field in TABLE.schema]
    table = TABLE.cast(pa.schema(fields))
    read = read_votable(written("votable", table))
    found = read.array
    assert list(found.dtype.names) == table.column_names
    z = read.get_field_by_id_or_name("z")
    assert (str(z.unit), z.description, z.ucd) == ("km / s", 'a "<b>" & c', "src.redshift")
    assert list(found["specobjid"][:5]) == [str(value) for value in HUGE[:5]]
    for name in ("plate", "thing_id"):
        assert found[name].tolist() == table[name].to_pylist()
    assert found["primary"].tolist() == table["primary"].to_pylist()
    assert list(found["class"][:5]) == [(text or "").strip() for text in TEXTS[:5]]  # astropy strips cells
    cells = [row[3].text for row in ElementTree.fromstring(written("votable", table)).iter(f"{{{XMLNS}}}TR")]
    assert cells == TEXTS
    same_bits(found["z"].filled(math.nan), table["z"])
    same_bits(found["flux"], table["flux"])
    assert found["bits"][0].tolist() == [1, 2]
    assert found["bits"][1].tolist() == [3, None]
    np.testing.assert_array_equal(found["mag"][2], np.array([math.nan, math.nan], np.float32))
    assert found["mag"][0].tolist() == [1.5, 0.1]
    assert json.loads(found["names"][0]) == ["a", 'b,"']
    assert found["night"][0] == "2009-01-02"


def test_votable_has_infinities_and_nothing_that_is_no_xml() -> None:
    table = pa.table({"x": [math.nan, math.inf, -math.inf], "t": ["\0bell\x07", "\ufffe", "]]>"]})
    text = written("votable", table)
    assert [cell in text for cell in (b"<TD>NaN<", b"<TD>+Inf<", b"<TD>-Inf<")] == [True] * 3
    found = read_votable(text).array
    np.testing.assert_array_equal(found["x"].filled(math.nan), [math.nan, math.inf, -math.inf])
    assert found["t"].tolist() == ["?bell?", "?", "]]>"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.uint8(), "short"),
        (pa.int8(), "short"),
        (pa.int16(), "short"),
        (pa.uint16(), "int"),
        (pa.int32(), "int"),
        (pa.uint32(), "long"),
        (pa.int64(), "long"),
        (pa.uint64(), "char"),
    ],
)
def test_votable_takes_a_type_that_holds_the_largest_number(kind: pa.DataType, name: str) -> None:
    info = np.iinfo(kind.to_pandas_dtype())
    read = read_votable(written("votable", pa.table({"n": pa.array([info.min, info.max], kind)})))
    assert read.fields[0].datatype == name
    assert [int(value) for value in read.array["n"]] == [info.min, info.max]


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_table_keeps_its_columns(name: str) -> None:
    body = written(name, TABLE.slice(0, 0))
    if name == "csv":
        assert body.decode() == ",".join(TABLE.column_names) + "\n"
    elif name == "json":
        told = json.loads(body)
        assert ([column["name"] for column in told["columns"]], told["rows"]) == (TABLE.column_names, [])
    elif name == "arrow":
        assert pa.ipc.open_stream(body).read_all().schema == TABLE.schema
    elif name == "parquet":
        assert pq.read_table(io.BytesIO(body)).schema == TABLE.schema
    else:
        assert list(read_votable(body).array.dtype.names) == TABLE.column_names


@pytest.mark.parametrize("name", FORMATS)
def test_a_long_table_is_never_whole_in_memory(name: str) -> None:
    rng = np.random.default_rng(1)
    taken, rows, count = 0, 20_000, 30

    def endless() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        for _ in range(count):
            taken += 1
            ids = rng.integers(0, 2**64, rows, np.uint64)
            yield pa.record_batch({"specobjid": ids, "ra": rng.random(rows), "class": ["GALAXY"] * rows})

    schema = pa.schema({"specobjid": pa.uint64(), "ra": pa.float64(), "class": pa.string()})
    before, most, size, ahead = pa.total_allocated_bytes(), 0, 0, False
    for piece in FORMATS[name].write(Stream(schema, endless())):
        ahead |= 0 < taken < count
        size += len(piece)
        most = max(most, pa.total_allocated_bytes() - before)
    assert size > 15 * rows * count
    assert ahead, "nothing comes before all was read"
    assert most < 8 << 20


def test_a_large_batch_is_cut_and_loses_nothing() -> None:
    table = pa.table({"n": range(100_000), "wide": pa.array([[float(n)] * 9 for n in range(100_000)])})
    batch = table.to_batches()[0]
    pieces = list(slices(iter([batch.slice(0, 0), batch])))
    assert pa.Table.from_batches(pieces) == table
    assert all(0 < piece.num_rows <= 32_768 and piece.nbytes < 5 << 20 for piece in pieces)


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "accept", "expected"),
    [
        (None, None, "csv"),
        (None, "*/*", "csv"),
        (None, "", "csv"),
        (None, "application/json", "json"),
        (None, "Application/JSON; charset=utf-8", "json"),
        (None, "application/vnd.apache.arrow.stream", "arrow"),
        (None, "application/vnd.apache.parquet;q=0.5, application/x-votable+xml;q=0.9", "votable"),
        (None, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "csv"),
        (None, "application/json, */*;q=0.1", "json"),
        (None, "application/json;q=0.1, */*", "csv"),
        (None, "application/json;q=0, text/plain", "csv"),
        (None, "application/json;q=much", "csv"),
        (None, "image/png", "csv"),
        ("PARQUET", "application/json", "parquet"),
        ("csv", "application/json", "csv"),
    ],
)
def test_the_parameter_wins_over_the_header(name: str | None, accept: str | None, expected: str) -> None:
    assert choose_format(name, accept) is FORMATS[expected]


def test_an_unknown_format_is_named_with_those_that_are_known() -> None:
    with pytest.raises(InvalidRequest, match="format: 'xls' is not one of csv, json, arrow, parquet, votable"):
        choose_format("xls", None)


def test_types_that_hardly_anyone_has_become_texts() -> None:
    table = pa.table(
        {
            "a": pa.array([Decimal("1.50"), None], pa.decimal128(20, 2)),
            "b": pa.array([b"\xff\0", b"ok"], pa.binary()),
            "c": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
            "d": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5), None], pa.timestamp("s")),
        }
    )
    _, first, second = csv.reader(io.StringIO(written("csv", table).decode()))
    assert first == ["1.50", "ff00", '[{"key":"k","value":1}]', "2020-01-02 03:04:05"]
    assert second == ["", "6f6b", "", ""]
    assert json.loads(written("json", table))["rows"] == [
        ["1.50", "ff00", [{"key": "k", "value": 1}], "2020-01-02 03:04:05"],
        [None, "6f6b", None, None],
    ]
    assert read_votable(written("votable", table)).array["b"].tolist() == ["ff00", "6f6b"]
