from __future__ import annotations

import csv
import io
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.flight.fits import COADD_COLUMNS, SpecFile, load_bytes, read_spec_file
from specflight.flight.specobj import specobj_table

REAL = Path(os.environ.get("SPECFLIGHT_REAL_DATA", "../shared/data"))
ALWAYS = ["specobjid", "ra", "dec", "z", "zerr", "zwarning", "class", "subclass"]
ALWAYS += ["plate", "mjd", "fiberid", "run2d", "survey"]


def real_rows() -> list[dict[str, str]]:
    if not (REAL / "MANIFEST.csv").exists():
        pytest.skip(f"no {REAL / 'MANIFEST.csv'}: set SPECFLIGHT_REAL_DATA to the folder with real SDSS files")
    with (REAL / "MANIFEST.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["path"].startswith("sas/")]


def spec_file(*columns: fits.Column, fiber: int = 1, primary: dict[str, Any] | None = None) -> SpecFile:
    """Make a spec file with these columns in HDU 2, or without HDU 2 where there are none."""
    vectors = [fits.Column(name, "J" if "mask" in name else "E", array=np.arange(3)) for name in COADD_COLUMNS]
    head = fits.PrimaryHDU()
    head.header.update({"PLATEID": 266, "MJD": 51602, "FIBERID": fiber, "RUN2D": "26"} if primary is None else primary)
    tables = [fits.BinTableHDU.from_columns(vectors)] + ([fits.BinTableHDU.from_columns(columns)] if columns else [])
    out = io.BytesIO()
    fits.HDUList([head, *tables]).writeto(out)
    return read_spec_file(out.getvalue())


def only(*columns: fits.Column) -> dict[str, Any]:
    rows: list[dict[str, Any]] = specobj_table([spec_file(*columns)]).to_pylist()
    assert len(rows) == 1
    return rows[0]


def by_astropy(path: Path) -> dict[str, object]:
    """Read the only row of HDU 2: its values by lower-case name."""
    with fits.open(path, memmap=False) as reference:
        data = reference[2].data
        scaled = {column.name for column in reference[2].columns if column.bzero}
        # Access by column costs astropy ten times more than the row as numpy sees it.
        row = data.view(np.ndarray)[0]
        return {
            name.lower(): as_canonical(name.lower(), data[name][0] if name in scaled else row[name])
            for name in data.dtype.names
        }


def by_fitsio(path: Path) -> dict[str, object]:
    with fitsio.FITS(str(path)) as reference:
        row = reference[2].read(lower=True)[0]
    return {name: as_canonical(name, row[name]) for name in row.dtype.names}


def as_canonical(name: str, value: bytes | str | np.generic | NDArray[Any]) -> object:
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if not isinstance(value, bytes | str):
        return value.item()
    text = (value.decode() if isinstance(value, bytes) else str(value)).rstrip()
    if name.endswith("objid") or name == "plateid":
        return int(text) if text else None
    return text.strip() if name.endswith("id") else text


def test_every_column_of_every_real_file_has_the_value_that_others_read() -> None:
    rows = real_rows()
    # astropy takes 0.1 s for the wide table of one file, fitsio a quarter of that.
    trees = {row["run2d"] + str(Path(row["path"]).parents[1]): row["path"] for row in rows}
    table = specobj_table([read_spec_file(load_bytes(REAL / row["path"])) for row in rows])
    assert table.column_names[: len(ALWAYS)] == ALWAYS
    assert [str(i) for i in table.column("specobjid").to_pylist()] == [row["specobjid"] for row in rows]
    for row, found in zip(rows, table.to_pylist(), strict=True):
        read = by_astropy if row["path"] in trees.values() else by_fitsio
        expected = read(REAL / row["path"])
        expected["zerr"] = expected.pop("z_err")
        objid = expected["objid"]  # five integers in legacy files, one identifier in the others
        expected["objid"] = " ".join(map(str, objid)) if isinstance(objid, list) else objid and str(objid)
        # As texts NaN equals itself, and an integer is no float.
        differing = {name: (found[name], v) for name, v in expected.items() if repr(found[name]) != repr(v)}
        assert not differing, row["path"]
        assert all(found[name] is None for name in set(found) - set(expected) - {"ra", "dec"}), row["path"]
        assert (found["ra"], found["dec"]) == pytest.approx((float(row["ra"]), float(row["dec"])), abs=0.1 / 3600)


def test_rows_come_in_the_order_of_the_files_whatever_their_layouts() -> None:
    files = [
        spec_file(fits.Column("CLASS", f"{3 + i % 4}A", array=["QSO"]), fiber=i + 1)
        if i % 3
        else spec_file(fits.Column("Z", "E", array=[i]), fiber=i + 1)
        for i in range(9)
    ]
    table = specobj_table(files)
    assert table.column("fiberid").to_pylist() == list(range(1, 10))
    assert table.column("class").to_pylist() == [None, "QSO", "QSO"] * 3
    assert table.column("z").to_pylist() == [0, None, None, 3, None, None, 6, None, None]


def test_types_follow_the_file() -> None:
    columns = [
        fits.Column("A_I", "I", array=[-3]),
        fits.Column("A_J", "J", array=[-(2**31)]),
        fits.Column("A_K", "K", array=[2**62 + 1]),
        fits.Column("A_B", "B", array=[255]),
        fits.Column("A_L", "L", array=[True]),
        fits.Column("A_D", "D", array=[0.1]),
        fits.Column("A_S", "6A", array=["  ab  "]),
        fits.Column("U_I", "I", bzero=2**15, array=np.array([65535], np.uint16)),
        fits.Column("U_J", "J", bzero=2**31, array=np.array([2**32 - 1], np.uint32)),
        fits.Column("U_K", "K", bzero=2**63, array=np.array([2**64 - 1], np.uint64)),
        fits.Column("S_B", "B", bzero=-128, array=np.array([-128], np.int8)),
        fits.Column("BITS", "11X", array=np.arange(11)[None] % 3 == 0),
        fits.Column("PAIR", "M", array=[1 + 2j]),
        fits.Column("WORDS", "9A", dim="(3,3)", array=np.array([["ab", "c", "def"]])),
        fits.Column("EMPTY", "0E", array=np.zeros((1, 0))),
        fits.Column("VARIABLE", "PJ()", array=np.array([np.array([4, 5, 6])], dtype=object)),
    ]
    table = specobj_table([spec_file(*columns)])
    found = {name: (str(table.schema.field(name).type), table.column(name)[0].as_py()) for name in table.column_names}
    expected: dict[str, tuple[str, Any]] = {
        "a_i": ("int16", -3),
        "a_j": ("int32", -(2**31)),
        "a_k": ("int64", 2**62 + 1),
        "a_b": ("uint8", 255),
        "a_l": ("bool", True),
        "a_d": ("double", 0.1),
        "a_s": ("string", "  ab"),
        "u_i": ("uint16", 65535),
        "u_j": ("uint32", 2**32 - 1),
        "u_k": ("uint64", 2**64 - 1),
        "s_b": ("int8", -128),
        "bits": ("list<item: bool>", [i % 3 == 0 for i in range(11)]),
        "pair": ("list<item: double>", [1, 2]),
        "words": ("list<item: string>", ["ab", "c", "def"]),
        "empty": ("list<item: float>", []),
        "variable": ("list<item: int64>", [4, 5, 6]),
    }
    assert {name: found[name] for name in expected} == expected


def test_tnull_is_null_and_tunit_is_kept() -> None:
    table = specobj_table(
        [
            spec_file(
                fits.Column("N", "J", null=-99, array=[-99]),
                fits.Column("NS", "3I", null=-1, array=[[1, -1, 3]]),
                fits.Column("FLUX", "E", unit="nanomaggies", array=[np.nan]),
            )
        ]
    )
    assert table.column("n").to_pylist() == [None]
    assert table.column("ns").to_pylist() == [[1, None, 3]]
    assert table.schema.field("flux").metadata == {b"unit": b"nanomaggies"}
    assert np.isnan(table.column("flux")[0].as_py())
    assert table.schema.field("ra").metadata == {b"unit": b"deg"}


def test_identifiers_in_digits_become_integers_and_blank_ones_null() -> None:
    columns = [fits.Column(name, "22A", array=[f"{value:>22}"]) for name, value in (("BESTOBJID", 12), ("PLATEID", 34))]
    found = only(*columns, fits.Column("FLUXOBJID", "19A", array=[""]), fits.Column("OTHEROBJID", "3A", array=["x1"]))
    assert (found["bestobjid"], found["plateid"], found["fluxobjid"], found["otherobjid"]) == (12, 34, None, "x1")
    signed = only(fits.Column("PLATEID", "K", array=[(10000 << 50) - 2**64]))
    assert signed["plateid"] == 10000 << 50


def test_objid_of_legacy_and_boss_files_meet_as_text() -> None:
    legacy = spec_file(fits.Column("OBJID", "5J", array=[[756, 1, 1, 206, 129]]))
    boss = spec_file(fits.Column("OBJID", "19A", array=["1237662336255656081"]))
    assert specobj_table([legacy, boss]).column("objid").to_pylist() == ["756 1 1 206 129", "1237662336255656081"]


def test_a_position_without_photometric_match_is_that_of_the_fibre() -> None:
    def position(ra: float, dec: float) -> tuple[float, float]:
        values = {"PLUG_RA": 12.5, "PLUG_DEC": -3.5, "RA": ra, "DEC": dec}
        found = only(*(fits.Column(name, "D", array=[value]) for name, value in values.items()))
        assert (found["plug_ra"], found["plug_dec"]) == (12.5, -3.5)
        return found["ra"], found["dec"]

    assert position(12.50001, -3.50001) == (12.50001, -3.50001)
    assert position(0, 0) == (12.5, -3.5)
    assert position(np.nan, np.nan) == (12.5, -3.5)
    assert position(-9999, -9999) == (12.5, -3.5)


def test_a_file_without_hdu_2_has_its_identity_and_the_position_of_its_header() -> None:
    header = {"PLATEID": 10656, "MJD": 58163, "FIBERID": 366, "RUN2D": "v5_13_0"}
    placed = spec_file(primary=header | {"PLUG_RA": 112.04723, "PLUG_DEC": 40.351365, "RA": 1.0, "DEC": 2.0})
    legacy = spec_file(primary=header | {"RAOBJ": 3.5, "DECOBJ": 4.5})
    unplaced = spec_file(primary=header | {"RA": 1.0, "DEC": 2.0})
    table = specobj_table([placed, legacy, unplaced])
    assert table.column_names == ALWAYS
    assert table.column("ra").to_pylist() == [112.04723, 3.5, None]
    assert table.column("dec").to_pylist() == [40.351365, 4.5, None]
    assert table.column("specobjid").to_pylist() == [int(pack_specobjid(10656, 58163, 366, "v5_13_0"))] * 3
    assert table.column("class").null_count == 3


def test_no_files_give_the_columns_that_are_always_there() -> None:
    table = specobj_table([])
    assert table.num_rows == 0
    assert table.column_names == ALWAYS
    assert table.schema.field("specobjid").type == pa.uint64()


def test_files_read_by_another_process_give_the_same_table() -> None:
    file = spec_file(fits.Column("Z", "E", array=[0.5]), fits.Column("CLASS", "6A", array=["GALAXY"]))
    assert specobj_table([pickle.loads(pickle.dumps(file)), replace(file)]).column("z").to_pylist() == [0.5, 0.5]
