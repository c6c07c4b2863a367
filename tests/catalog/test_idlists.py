"""Tests of `specflight.catalog.idlists`, and of the patterns and texts that it reads."""

import csv
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.table
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.catalog import idlists, idtext
from specflight.catalog.identifiers import pack_specobjid, run2d_name
from specflight.catalog.idlists import IdList, read_id_file, read_id_list
from specflight.errors import InvalidRequest, LimitExceeded

ID = 2210146812474530816
LARGE = 11572001576542556160  # beyond int64
TRIPLE = (1963, 54331, 120)
PACKED = int(pack_specobjid(*TRIPLE, "103"))


def wire(value: object) -> list[Any]:
    return read_id_list(value).to_wire()


@pytest.mark.parametrize(
    ("text", "entries", "single"),
    [
        ("2210146812474530816", [ID], True),
        (" 2210146812474530816\n", [ID], True),
        ("[2210146812474530816]", [ID], False),
        ("(1963, 54331, 120)", [[*TRIPLE]], True),
        ("[(1963, 54331, 120)]", [[*TRIPLE]], False),
        ("[(1963, 54331, 120), 2210146812474530816]", [[*TRIPLE], ID], False),
        ("[2210146812474530816, (1963, 54331, 120)]", [ID, [*TRIPLE]], False),
        ("['11572001576542556160', '2210146812474530816']", [LARGE, ID], False),
        ('["11572001576542556160", "2210146812474530816"]', [LARGE, ID], False),
        ("[1 2\n 3]", [1, 2, 3], False),
        ("['1' '2'\n '3']", [1, 2, 3], False),
        ("1\n2\n\n3\n", [1, 2, 3], False),
        ("1,2, 3", [1, 2, 3], False),
        ("[np.uint64(11572001576542556160), numpy.int64(5), np.str_('6')]", [LARGE, 5, 6], False),
        ("[(np.int64(1963), np.int64(54331), 120)]", [[*TRIPLE]], False),
        ("[(1963, 54331, array([1, 5]))]", [[1963, 54331, "1,5"]], False),
        ("array([1, 2], dtype=uint64)", [1, 2], False),
        ("# my favourites\n1 # the first\n# and\n2\n", [1, 2], False),
        ("1963-54331-120", [[*TRIPLE]], True),
        ("spec-1963-54331-0120.fits", [[*TRIPLE]], True),
        ("1963-54331-0120\nspec-1963-54331-0121\n5", [[*TRIPLE], [1963, 54331, 121], 5], False),
        ("['1963-54331-120', '5']", [[*TRIPLE], 5], False),
        ("[[1963, 54331, 120], 5]", [[*TRIPLE], 5], False),
        ("[[1963 54331 120]\n [1963 54331 121]]", [[*TRIPLE], [1963, 54331, 121]], False),
        ("[(1963, 54331, 120, '103')]", [PACKED], False),
        ("(1963, 54331, '1-5')", [[1963, 54331, "1-5"]], False),
        ("[(1963, 54331, '1,5')]", [[1963, 54331, "1,5"]], False),
        ("[(1963, 54331, [1, '5'])]", [[1963, 54331, "1,5"]], False),
        ("[('1962,1963', '*', 100)]", [["1962-1963", "*", 100]], False),
        ("[('*', 54331, 100)]", [["*", 54331, 100]], False),
        ("[(1962, 53321, '*', '103')]", [[1962, 53321, "*", "103"]], False),
        ("(2210146812474530816, 11572001576542556160)", [ID, LARGE], False),
    ],
)
def test_texts_of_the_old_client_and_of_people_are_read(text: str, entries: list[Any], single: bool) -> None:
    found = read_id_list(text)
    assert found.to_wire() == entries
    assert found.single is single


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("specobjid\n5\n6\n", [5, 6]),
        ("z,SpecObj_ID\n0.1,5\n0.2,6", [5, 6]),
        ('"specobjid","name"\n"5","a, b"\n"6","c"\n', [5, 6]),
        ("specobjid\tz\n5\t0.1\n", [5]),
        ("# from a query\n#plate,mjd,fiberid,z\n'1963','54331','120',0.1\n", [[*TRIPLE]]),
        ("plate  mjd fiber\n 1963 54331   120\n", [[*TRIPLE]]),
        ("plate,mjd,fiberid,run2d,specobjid\n1,2,3,4,5\n", [5]),
        ("PLATE,MJD,FIBERID,RUN2D\n1963,54331,120,v5_13_2\n", [int(pack_specobjid(*TRIPLE, "v5_13_2"))]),
        ("specobjid\n5\n# that was it\n\n", [5]),
        ("\ufeffspecobjid\r\n5\r\n", [5]),
    ],
)
def test_csv_is_read_by_the_names_of_its_columns(text: str, entries: list[Any]) -> None:
    found = read_id_list(text)
    assert found.to_wire() == entries
    assert not found.single


@pytest.mark.parametrize(
    ("value", "entries", "single"),
    [
        (ID, [ID], True),
        (np.uint64(LARGE), [LARGE], True),
        (np.int64(5), [5], True),
        (np.array(5), [5], True),
        (TRIPLE, [[*TRIPLE]], True),
        ((*map(np.int32, TRIPLE),), [[*TRIPLE]], True),
        ((*TRIPLE, "103"), [PACKED], True),
        ((*TRIPLE, 103), [PACKED], True),
        ((1963, 54331, 9999), [[1963, 54331, 9999]], True),
        ((1963, 54331), [[1963, 54331]], False),
        ((1963,), [[1963]], False),
        (("*",), [["*"]], False),
        ((ID, LARGE), [ID, LARGE], False),
        ((str(ID), str(LARGE)), [ID, LARGE], False),
        ((TRIPLE, 5), [[*TRIPLE], 5], False),
        (([1962, 1964], "*", 100), [["1962,1964", "*", 100]], False),
        ([(1963, "54330-54332", range(1, 6))], [[1963, "54330-54332", "1-5"]], False),
        ([(1963, 54331, np.array([5, 1, 2, 2]))], [[1963, 54331, "1-2,5"]], False),
        ([(1963, 54331, pd.Series([5, 1]))], [[1963, 54331, "1,5"]], False),
        ([(1963, 54331, ["1-3", "7:9", 2])], [[1963, 54331, "1-3,7-9"]], False),
        ([(1963, "*", "*", [26, "103", "v5_13_2"])], [[1963, "*", "*", "26,103,v5_13_2"]], False),
        ([TRIPLE, (*TRIPLE, "103"), "5", 6, np.uint64(7)], [[*TRIPLE], PACKED, 5, 6, 7], False),
        (["(1963, 54331, '1-5')", " 1963-54331-120 "], [[1963, 54331, "1-5"], [*TRIPLE]], False),
        ([[1963, 54331, 120], TRIPLE], [[*TRIPLE], [*TRIPLE]], False),
        (np.array([LARGE, 5], np.uint64), [LARGE, 5], False),
        (np.array([[*TRIPLE], [*TRIPLE]]), [[*TRIPLE], [*TRIPLE]], False),
        (np.array([f" {LARGE}", "5"]), [LARGE, 5], False),
        (np.array([b"26 ", b"5"]), [26, 5], False),
        (np.array([LARGE, "1963-54331-120", TRIPLE], dtype=object), [LARGE, [*TRIPLE], [*TRIPLE]], False),
        (pd.Series([LARGE, 5], dtype="uint64"), [LARGE, 5], False),
        (pd.Series([str(LARGE), "5"]), [LARGE, 5], False),
        (pa.array([LARGE, 5], pa.uint64()), [LARGE, 5], False),
        (pa.chunked_array([[LARGE], [5]], pa.uint64()), [LARGE, 5], False),
        (list(pa.array([LARGE, 5], pa.uint64())), [LARGE, 5], False),
        (astropy.table.Column([LARGE, 5], dtype=np.uint64), [LARGE, 5], False),
        (iter([5, 6]), [5, 6], False),
    ],
)
def test_python_objects_are_read(value: object, entries: list[Any], single: bool) -> None:
    found = read_id_list(value)
    assert found.to_wire() == entries
    assert found.single is single


TABLE = {"z": [0.1, 0.2], "specobjid": np.array([LARGE, 5], np.uint64), "plate": [1, 2]}
PARTS = {"FIBER_ID": [120, 121], "Plate": [1963, 1963], "MJD": [54331, 54331]}


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pa.table, astropy.table.Table, lambda columns: pd.DataFrame(columns).to_records()]
)
def test_tables_are_read_by_the_names_of_their_columns(make: Callable[[dict[str, Any]], object]) -> None:
    assert wire(make(TABLE)) == [LARGE, 5]
    assert wire(make(PARTS)) == [[*TRIPLE], [1963, 54331, 121]]
    assert wire(make({**PARTS, "run2d": ["103", "103"]}))[0] == PACKED
    with pytest.raises(InvalidRequest, match=r"no column specobjid, nor plate, mjd and fiberid, but .*'z', 'name'"):
        read_id_list(make({"z": [0.1], "name": ["x"]}))


def test_columns_of_fits_tables_may_be_bytes() -> None:
    table = astropy.table.Table({name: np.array(values) for name, values in PARTS.items()})
    table["RUN2D"] = np.array([b"v5_13_2 ", b"26"])
    assert wire(table)[0] == int(pack_specobjid(*TRIPLE, "v5_13_2"))
    assert wire(astropy.table.Table({"SPECOBJID": np.array([b"  2210146812474530816"])})) == [ID]


def test_a_long_list_of_tuples_is_kept_in_arrays() -> None:
    found = read_id_list([(1963, 54331, 1 + i % 1000) for i in range(2000)] + [ID, (1963, 54331, 120, "103")])
    assert not found.patterns
    assert not found.plain
    assert read_id_list([ID, (1963, 54331, 120, "103")]).plain
    assert str(found.pattern(0)) == "plate 1963, mjd 54331, fiberid 1"
    assert str(read_id_list(("*", "*", "*")).pattern(0)) == "any plate"


def test_an_array_of_ids_is_not_copied() -> None:
    ids = np.arange(5, dtype=np.uint64)
    assert np.shares_memory(read_id_list(ids).first, ids)


def test_the_columns_of_a_real_catalogue_agree_with_its_ids(real_data: Path) -> None:
    path = real_data / "catalog" / "optical_search_617515.csv"
    by_id = read_id_file(path)
    assert by_id.plain
    assert len(by_id) == 628
    text = path.read_text()
    assert read_id_list(text.replace("specobj_id", "other", 1)).first.tolist() == by_id.first.tolist()


def test_every_real_file_has_the_id_of_its_tuple(real_data: Path) -> None:
    rows = [row for row in csv.DictReader((real_data / "MANIFEST.csv").read_text().splitlines()) if row["fiberid"]]
    rows = [row for row in rows if row["specobjid"]]
    tuples = [(int(row["plate"]), int(row["mjd"]), int(row["fiberid"]), row["run2d"]) for row in rows]
    assert read_id_list(tuples).first.tolist() == [int(row["specobjid"]) for row in rows]
    assert len(rows) > 100


ids = st.integers(0, 2**64 - 1)
number = st.integers(0, 99_999)
name = st.integers(0, 16383).map(run2d_name)
span = st.tuples(number, number, st.sampled_from("-:")).map(lambda ends: f"{min(ends[:2])}{ends[2]}{max(ends[:2])}")
part = st.one_of(
    st.just("*"),
    number,
    number.map(str),
    span,
    st.lists(st.one_of(number, span), min_size=1, max_size=3),
    st.lists(number.map(str), min_size=1, max_size=3).map(",".join),
)
reduction = st.one_of(
    st.just("*"), name, st.lists(name, min_size=1, max_size=3), st.lists(name, min_size=1).map(",".join)
)
group = st.one_of(
    st.tuples(part),
    st.tuples(part, part),
    st.tuples(part, part, part),
    st.tuples(number, number, number),
    st.tuples(part, part, part, reduction),
    st.tuples(number, number, number, name),
)
mixed = st.lists(st.one_of(ids, ids.map(str), group), min_size=1, max_size=12)


def one_by_one(entries: list[Any]) -> list[Any]:
    return [wired for entry in entries for wired in wire([entry])]


@given(mixed)
def test_a_list_reads_the_same_in_every_form(entries: list[Any]) -> None:
    expected = one_by_one(entries)
    assert wire(entries) == expected
    assert wire(str(entries)) == expected
    assert wire("\n".join(str(entry) for entry in entries)) == (expected if len(entries) > 1 else wire(str(entries)))
    again = IdList.from_wire(expected)
    assert again.to_wire() == expected
    assert again.first.tolist() == read_id_list(entries).first.tolist()
    assert again.last.tolist() == read_id_list(entries).last.tolist()
    assert again.patterns == read_id_list(entries).patterns


@given(st.lists(ids, min_size=1, max_size=30))
def test_numpy_prints_lists_that_are_read(values: list[int]) -> None:
    array = np.array(values, np.uint64)
    for text in (str(array), str(list(array)), repr(array), str(array.astype(str)), str(values)):
        assert read_id_list(text).first.tolist() == values


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the list is empty"),
        ("", "the list is empty"),
        (" [ ] ", "the list is empty"),
        ("specobjid\n", "the list is empty"),
        (np.array([], np.uint64), "the list is empty"),
        ("[1 2 3 ...\n 998 999]", "abbreviated"),
        ("nonsense", "'nonsense' is neither a specobjid nor plate-mjd-fiberid nor a tuple"),
        ([5, "nonsense"], "entry 2 of the list: 'nonsense'"),
        ([5, -7], "entry 2 of the list: -7 is not a specobjid"),
        ([5, 2.0], "entry 2 of the list: 2.0 is not a specobjid"),
        ([5, True], "entry 2 of the list: True is not a specobjid"),
        ([5, None], "entry 2 of the list: None is not a specobjid"),
        ([5, 2**64], "entry 2 of the list: 18446744073709551616"),
        ([5, 10**6000], "entry 2 of the list: a number of 19932 bits"),
        ([5, "٣"], "entry 2 of the list: '٣' is not a specobjid"),
        (np.array([3, -4]), "entry 2 of the list: -4"),
        (np.array([1.0, 2.5]), "entry 1 of the list: 1.0"),
        (np.ma.masked_array([1, 2], [False, True]), "entry 2 of the list: None"),
        (pa.array([1, None], pa.uint64()), "entry 2 of the list: None"),
        (pa.table({"specobjid": pa.array([1, None], pa.uint64())}), "entry 2 of the list: None"),
        ("[5, -7]", "entry 2 of the list: '-7'"),
        ("[5, 18446744073709551616]", "entry 2 of the list: 18446744073709551616"),
        ("[5, x, 6]", "entry 2 of the list: 'x'"),
        ("[5, (1, 2]", "entry 2 of the list, at '(1, 2'"),
        ("[5, '6]", 'entry 2 of the list, at "\'6"'),
        ("__import__('os')", "entry 1 of the list, at"),
        ("specobjid,z\n5,1\nx,2\n", "entry 2 of the list: 'x'"),
        ("z,specobjid\n1,5\n2\n", "row 2 of the CSV text has fewer columns"),
        ('specobjid,z\n5,"a"b\n', "row 1 of the CSV text cannot be read"),
        ([[ID, 5]], "entry 1 of the list: [2210146812474530816, 5] is not a tuple"),
        ([(1, 2, 3, 4, 5)], "is not a tuple (plate, mjd, fiberid, run2d)"),
        ([()], "entry 1 of the list: () is not a tuple"),
        ([(1963, "x", 120)], "entry 1 of the list: the mjd of (1963, 'x', 120): 'x' is not a number"),
        ([(1963, "54331-")], "the mjd of (1963, '54331-')"),
        ([(1963, "5-1")], "the range '5-1' ends before it begins"),
        ([(1963, -1)], "the mjd of (1963, -1): -1"),
        ([(1963, 2.5)], "the mjd of (1963, 2.5): 2.5"),
        ([(1963, True)], "the mjd of (1963, True): True"),
        ([(1963, None)], "the mjd of (1963, None): None"),
        ([(1963, [])], "the mjd of (1963, []): an empty list"),
        ([(1963, [[1]])], "the mjd of (1963, [[1]]): [1]"),
        ([(1963, [1, "*"])], "the mjd of (1963, [1, '*']): '*'"),
        ([(1963, ID)], "the mjd of (1963, 2210146812474530816)"),
        ([(1963, 54331, [*range(20_000)])], "20000 values are more than there can be"),
        ([(1963, 54331, 1, "abc")], "'abc' is not a reduction"),
        ([(1963, 54331, 1, 2.6)], "2.6 is not the name of a reduction"),
        ([(1963, 54331, 1, 10**6000)], "a number of 19932 bits"),
        (b"12", "b'12' is neither an id nor a list of ids"),
        (None, "None is neither an id nor a list of ids"),
        (2.5, "2.5 is neither an id nor a list of ids"),
        ({"specobjid": [5]}, "{'specobjid': [5]} is neither an id nor a list of ids"),
        (np.array(2.5), "2.5 is neither an id nor a list of ids"),
    ],
)
def test_what_is_no_list_is_refused_by_entry_and_value(value: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match="^ids: .*" + re.escape(message)) as refusal:
        read_id_list(value)
    assert len(str(refusal.value)) < 300


MILLION = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * MILLION,
        "(" * MILLION,
        "[" * MILLION + "]" * MILLION,
        "[" + "(1,2,[" * MILLION,
        "1" * MILLION,
        "[5," + "1" * MILLION + "]",
        "(1,2," + "1" * MILLION + ")",
        "'" * (MILLION + 1),
        "(1,2,'" * MILLION,
        "np.uint64(" * MILLION,
        "np.str_('" * MILLION,
        "array([" * MILLION,
        "(1,[" + "a" * MILLION + "!])",
        "(1,2," + "a" * MILLION + "!)",
        "a" * MILLION + "!",
        "#\n" * MILLION + "x",
        "," * MILLION,
        "-" * MILLION,
        "(1,2,[" + "1," * MILLION + "])",
        "(1,2,'" + "1," * MILLION + "1')",
        "specobjid\n" + '"' * MILLION,
        "specobjid," * MILLION,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_is_refused_within_the_time(text: str) -> None:
    start = time.process_time()
    with pytest.raises(InvalidRequest, match="ids: ") as refusal:
        read_id_list(text)
    assert time.process_time() - start < 5
    assert len(str(refusal.value)) < 300


def test_a_deep_json_list_is_refused_without_recursion() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidRequest, match="entry 2 of the list: the plate of"):
        IdList.from_wire([5, nested])
    with pytest.raises(InvalidRequest, match="entry 1 of the list: the run2d"):
        IdList.from_wire([[1963, 54331, 120, nested]])


def test_one_long_name_among_many_short_ones_does_not_fill_the_memory() -> None:
    with pytest.raises(InvalidRequest, match="entry 50000 of the list: the run2d of"):
        IdList.from_wire([[1963, 54331, 120, "26"]] * 49_999 + [[1963, 54331, 120, "x" * 1_000_000]])


@pytest.mark.parametrize("entries", [[(1, "*")] * 1001, "(1)," * 1001], ids=["list", "text"])
def test_too_many_patterns_are_refused_by_number(entries: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idtext, "MAX_MIXED", 1000)
    monkeypatch.setattr(idlists, "MAX_MIXED", 1000)
    with pytest.raises(LimitExceeded, match="ids: the list mixes more than 1000 entries"):
        read_id_list(entries)
    assert len(read_id_list([5] * 1001)) == 1001


def test_a_file_of_ids_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("my ids.txt")
    path.write_text("# found by eye\n5\n1963-54331-120\n")
    for found in (read_id_file(path), read_id_list(path, files=True), read_id_list("my ids.txt", files=True)):
        assert found.to_wire() == [5, [*TRIPLE]]
    Path("one.csv").write_text("specobjid\n5\n")
    assert not read_id_list("one.csv", files=True).single
    Path("7").write_text("8")
    assert wire("7") == [7]
    assert read_id_list("7", files=True).to_wire() == [7]


def test_the_errors_of_files_name_them(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("5\nsix\n")
    with pytest.raises(InvalidRequest, match=r"^ids: in the file '.*ids\.txt', entry 2 of the list: 'six' is neither"):
        read_id_list(str(path), files=True)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match=r"the file '.*ids\.txt' is not a text of ids"):
        read_id_file(path)
    with pytest.raises(InvalidRequest, match=r"the file '.*none\.txt' cannot be read: No such file"):
        read_id_file(tmp_path / "none.txt")
    with pytest.raises(
        InvalidRequest, match=r"'none\.txt' is no list of ids \('none\.txt' is neither .* no file of that"
    ):
        read_id_list("none.txt", files=True)
    with pytest.raises(InvalidRequest, match="is neither an id nor a list"):
        read_id_list(path)


def test_a_server_opens_no_file(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("5\n")
    with pytest.raises(InvalidRequest, match="ids: ") as refusal:
        read_id_list(str(path))
    assert "file" not in str(refusal.value).replace(str(path), "")


def test_long_texts_of_one_kind_become_arrays_at_once() -> None:
    for text in ("[1, 2]", "1\n2", "['1', '2']", "[np.uint64(1), np.uint64(2)]"):
        assert isinstance(idtext.parse_id_text(text).entries, np.ndarray)
    triples = idtext.parse_id_text("[(1963, 54331, 120), (1963, 54331, 121)]").entries
    assert isinstance(triples, np.ndarray)
    assert triples.shape == (2, 3)


def test_the_module_loads_nothing_but_numpy() -> None:
    loaded = "import sys, specflight.catalog.idlists; print(*(m.split('.')[0] for m in sys.modules))"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in modules
    assert not {"duckdb", "pyarrow", "sqlglot", "mocpy", "scipy", "pandas", "astropy"} & set(modules)
