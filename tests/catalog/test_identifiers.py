"""Tests of `specflight.catalog.identifiers`."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specflight.catalog.identifiers import (
    FIBERID,
    MJD,
    PLATE,
    RUN2D,
    pack_specobjid,
    parse_id,
    parse_ids,
    run2d_code,
    run2d_name,
    shown,
    unpack_specobjid,
)
from specflight.errors import InvalidRequest

REAL_DATA = Path(os.environ.get("SPECFLIGHT_REAL_DATA", "../shared/data"))
RELEASES = ["26", "103", "104", "v5_4_45", "v5_5_12", "v5_7_0", "v5_7_2", "v5_9_0", "v5_10_0", "v5_13_0", "v5_13_2"]


@pytest.mark.parametrize("run2d", RELEASES)
def test_every_released_reduction_keeps_its_name(run2d: str) -> None:
    assert run2d_name(run2d_code(run2d)) == run2d


@pytest.mark.parametrize(("run2d", "code"), [("26", 26), ("v5_7_0", 700), ("v5_13_2", 1302), ("v6_0_4", 10004)])
def test_reductions_have_the_published_numbers(run2d: str, code: int) -> None:
    assert run2d_code(run2d) == code


@pytest.mark.parametrize(
    "run2d", ["", "v5", "v5_7", "v4_0_0", "v7_0_0", "-1", "99999", "v5_100_0", "x26", "\uff12\uff16"]
)
def test_a_text_that_is_no_reduction_is_refused_by_name(run2d: str) -> None:
    with pytest.raises(InvalidRequest, match="run2d") as refusal:
        run2d_code(run2d)
    assert repr(run2d) in str(refusal.value)


def test_real_files_pack_to_their_published_ids() -> None:
    manifest = REAL_DATA / "MANIFEST.csv"
    if not manifest.exists():
        pytest.skip(f"no real data at {REAL_DATA}")
    rows = [row for row in csv.DictReader(manifest.read_text().splitlines()) if row["specobjid"] and row["fiberid"]]
    assert len(rows) > 50
    packed = pack_specobjid(
        np.array([int(row["plate"]) for row in rows]),
        np.array([int(row["mjd"]) for row in rows]),
        np.array([int(row["fiberid"]) for row in rows]),
        [row["run2d"] for row in rows],
    )
    assert packed.tolist() == [int(row["specobjid"]) for row in rows]


@pytest.mark.parametrize(
    ("specobjid", "parts"),
    [
        (299489677444933632, (266, 51630, 1, "26")),
        (11258999068426266624, (10000, 50000, 0, "26")),
        (0, (0, 50000, 0, "v5_0_0")),
        (2**64 - 1024, (16383, 66383, 4095, "v6_63_83")),
    ],
)
def test_published_and_extreme_ids_are_read_to_the_bit(specobjid: int, parts: tuple[Any, ...]) -> None:
    assert int(pack_specobjid(*parts)) == specobjid
    found = unpack_specobjid(specobjid)
    assert (int(found.plate), int(found.mjd), int(found.fiberid), str(found.run2d)) == parts
    assert unpack_specobjid(specobjid + 1023) == found


@given(st.lists(st.integers(0, 2**54 - 1), min_size=1, max_size=20))
def test_packing_undoes_unpacking_over_the_whole_range(numbers: list[int]) -> None:
    ids = np.array(numbers, np.uint64) << np.uint64(10)
    found = unpack_specobjid(ids)
    assert pack_specobjid(found.plate, found.mjd, found.fiberid, found.run2d).tolist() == ids.tolist()
    for part, values in ((PLATE, found.plate), (MJD, found.mjd), (FIBERID, found.fiberid)):
        assert part.of(ids).tolist() == values.tolist()
        assert all(part.origin <= value <= part.largest for value in values.tolist())
    assert RUN2D.of(ids).tolist() == [run2d_code(name) for name in found.run2d.tolist()]


parts = st.tuples(st.integers(0, 16383), st.integers(50000, 66383), st.integers(0, 4095), st.sampled_from(RELEASES))


@given(st.lists(parts, min_size=1, max_size=20))
def test_unpacking_undoes_packing(rows: list[tuple[int, int, int, str]]) -> None:
    plate, mjd, fiberid, run2d = zip(*rows, strict=True)
    unpacked = unpack_specobjid(pack_specobjid(plate, mjd, fiberid, run2d))
    assert list(
        zip(
            unpacked.plate.tolist(),
            unpacked.mjd.tolist(),
            unpacked.fiberid.tolist(),
            unpacked.run2d.tolist(),
            strict=True,
        )
    ) == list(rows)


def test_arguments_are_broadcast() -> None:
    packed = pack_specobjid(np.arange(3)[:, None], 51000, [1, 2], "26")
    assert packed.shape == (3, 2)
    assert packed[2, 1] == pack_specobjid(2, 51000, 2, "26")
    assert isinstance(pack_specobjid(2, 51000, 2, "26"), np.uint64)
    assert pack_specobjid(np.array([], np.int16), np.array([], np.int16), np.array([], np.int16), "26").shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((16384, 51000, 1, "26"), "plate: 16384"),
        ((-1, 51000, 1, "26"), "plate: -1"),
        ((266, [51000, 49999], 1, "26"), "mjd: 49999"),
        ((266, 66384, 1, "26"), "mjd: 66384"),
        ((266, 51000, 4096, "26"), "fiberid: 4096"),
        ((266.5, 51000, 1, "26"), "plate: 266.5"),
        ((266, 51000, 1, "nonsense"), "run2d: 'nonsense'"),
    ],
)
def test_parts_out_of_range_are_refused_by_name(arguments: tuple[Any, ...], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        pack_specobjid(*arguments)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_ids_are_the_same_in_every_form(ids: list[int]) -> None:
    forms: list[Any] = [
        ids,
        tuple(ids),
        iter(ids),
        [str(i) for i in ids],
        [f"  {i}\n" for i in ids],
        [np.uint64(i) for i in ids],
        np.array(ids, dtype=np.uint64),
        np.array(ids, dtype=object),
        np.array([str(i) for i in ids]) if ids else [],
        [str(i) if n % 2 else i for n, i in enumerate(ids)],
    ]
    for form in forms:
        parsed = parse_ids(form)
        assert parsed.dtype == np.uint64
        assert parsed.tolist() == ids


def test_unsigned_arrays_are_not_copied() -> None:
    ids = np.arange(5, dtype=np.uint64)
    assert np.shares_memory(parse_ids(ids), ids)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([1, 2.0], "2.0"),
        ([1, True], "True"),
        ([1, -7], "-7"),
        ([1, -7, "x"], "-7"),
        ([2**64], "18446744073709551616"),
        ([str(2**64)], "'18446744073709551616'"),
        (["abc"], "'abc'"),
        ([""], "''"),
        (["1.0"], "'1.0'"),
        (["-1"], "'-1'"),
        (["+1"], "'[+]1'"),
        (["1_000"], "'1_000'"),
        (["١٢٣"], "'١٢٣'"),
        (["9" * 6000], "'999"),
        ([10**6000], "a number of 19932 bits"),
        ([None], "None"),
        ([b"12"], "b'12'"),
        ("12", "'12'"),
        (np.array([1.0, 2.5]), "1.0"),
        (np.array([3, -4]), "-4"),
        (np.array([True]), "True"),
        (np.array([[1]]), r"shape \(1, 1\)"),
    ],
)
def test_what_is_no_id_is_refused_by_value(values: list[Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"ids: .*{named}"):
        parse_ids(values)


def test_one_id_is_read_as_a_python_int() -> None:
    assert parse_id(" 11258999741428506624 ") == parse_id(np.uint64(11258999741428506624)) == 11258999741428506624
    assert type(parse_id(np.uint64(5))) is int


def test_values_are_shown_at_bounded_length() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, list(range(10**6)), deep, 10**6000, [10**6000], np.zeros(1000), {"a": deep}):
        assert len(shown(value)) <= 60
    assert shown((1963, "x", 120)) == "(1963, 'x', 120)"
    assert shown(np.int64(5)) == "5"


def test_no_ids_give_an_empty_array() -> None:
    assert parse_ids([]).shape == (0,)
    assert parse_ids([]).dtype == np.uint64


def test_the_module_loads_nothing_but_numpy() -> None:
    loaded = "import sys, specflight.catalog.identifiers; print(*(m.split('.')[0] for m in sys.modules))"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in modules
    assert not {"duckdb", "pyarrow", "sqlglot", "mocpy", "scipy", "pandas", "astropy"} & set(modules)
