from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid
from specflight.errors import UnsupportedFile
from specflight.flight.fits import COADD_COLUMNS, SpecFile, load_bytes, read_spec_file

REAL = Path(os.environ.get("SPECFLIGHT_REAL_DATA", "../shared/data"))
NPIX = 37
ID = int(pack_specobjid(10656, 58163, 366, "v5_13_0"))


def real(path: str) -> Path:
    if not (REAL / path).exists():
        pytest.skip(f"no {REAL / path}: set SPECFLIGHT_REAL_DATA to the folder with real SDSS files")
    return REAL / path


def real_spectra() -> list[dict[str, str]]:
    with real("MANIFEST.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["path"].startswith("sas/")]


def vectors(npix: int = NPIX) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    columns: dict[str, NDArray[Any]] = {name: rng.normal(size=npix).astype(np.float32) for name in COADD_COLUMNS}
    columns["loglam"] = ((35500 + np.arange(npix)) * 1e-4).astype(np.float32)
    for name in ("and_mask", "or_mask"):
        columns[name] = rng.integers(-(2**31), 2**31, npix).astype(np.int32)
    columns["flux"][:2] = (np.nan, -np.inf)[:npix]
    return columns


def coadd(columns: dict[str, NDArray[Any]] | None = None) -> fits.BinTableHDU:
    columns = vectors() if columns is None else columns
    letters = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K"}
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, letters[v.dtype.str[1:]], array=v) for name, v in columns.items()]
    )


def specobj(**columns: tuple[str, Any]) -> fits.BinTableHDU:
    stated = {
        "PLATE": ("J", 10656),
        "MJD": ("J", 58163),
        "FIBERID": ("J", 366),
        "RUN2D": ("7A", "v5_13_0"),
        "SPECOBJID": ("22A", f"{ID:>22}"),
    } | columns
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, letter, array=[value]) for name, (letter, value) in stated.items() if letter]
    )


def as_bytes(*tables: fits.BinTableHDU | fits.ImageHDU, primary: Mapping[str, object] | None = None) -> bytes:
    head = fits.PrimaryHDU()
    head.header.update(primary or {})
    out = io.BytesIO()
    fits.HDUList([head, *tables]).writeto(out)
    return out.getvalue()


@cache
def plain() -> bytes:
    lines = fits.BinTableHDU.from_columns([fits.Column("LINEZ", "E", array=[0.1])])
    header = {"PLATEID": 10656, "MJD": 58163, "FIBERID": 366, "RUN2D": "v5_13_0", "SPCOADD": "Fri Mar 15 11:19:16 2019"}
    return as_bytes(coadd(), specobj(), lines, primary=header)


def assert_vectors(file: SpecFile, expected: dict[str, NDArray[Any]]) -> None:
    for name in COADD_COLUMNS:
        column = file.column(name)
        assert column.dtype == (np.int32 if name.endswith("mask") else np.float32)
        np.testing.assert_array_equal(column.view(np.uint32), expected[name].astype(column.dtype).view(np.uint32))


def refusal(data: bytes) -> str:
    with pytest.raises(UnsupportedFile) as caught:
        read_spec_file(data)
    return str(caught.value)


def test_every_real_spectrum_is_bit_identical_to_fitsio_and_astropy() -> None:
    for row in real_spectra():
        path = REAL / row["path"]
        file = read_spec_file(load_bytes(path))
        assert str(file.specobjid) == row["specobjid"], path
        assert [str(v) for v in (file.plate, file.mjd, file.fiberid)] == [row["plate"], row["mjd"], row["fiberid"]]
        assert file.run2d == row["run2d"]
        assert file.words.shape == (8, int(row["npix"]))
        assert file.words.flags.c_contiguous
        assert file.k0 is not None
        assert file.reduced > 1.2e9
        with fitsio.FITS(str(path)) as reference:
            table = reference[1].read(lower=True)
        with fits.open(path, memmap=False) as reference:
            second = {name.lower(): reference[1].data[name] for name in reference[1].columns.names}
        for name in COADD_COLUMNS:
            assert file.column(name).tobytes() == table[name].astype(table[name].dtype.newbyteorder("<")).tobytes()
            assert file.column(name).tobytes() == second[name].astype(second[name].dtype.newbyteorder("<")).tobytes()


def test_a_synthetic_spectrum_keeps_every_bit_and_its_identity() -> None:
    file = read_spec_file(plain())
    assert_vectors(file, vectors())
    assert (file.specobjid, file.plate, file.mjd, file.fiberid, file.run2d) == (ID, 10656, 58163, 366, "v5_13_0")
    assert ID > 2**63
    assert file.k0 == 35500
    assert file.reduced == 1552648756.0  # 2019-03-15T11:19:16Z


def test_columns_may_stand_in_any_order_and_case_among_others() -> None:
    shuffled: dict[str, NDArray[Any]] = {"X": np.zeros(NPIX, np.float32), "Odd": np.ones(NPIX, np.int16)}
    for name in ("MODEL", "Or_Mask", "SKY", "FLUX", "loglam", "wdisp", "And_Mask", "IVAR"):
        shuffled[name] = vectors()[name.lower()]
    assert_vectors(read_spec_file(as_bytes(coadd(shuffled), specobj())), vectors())


def test_columns_stored_in_other_types_are_converted() -> None:
    columns = vectors()
    columns["flux"] = np.linspace(-1, 1, NPIX)
    columns["sky"] = np.arange(NPIX, dtype=np.int16)
    columns["and_mask"] = columns["and_mask"].astype(np.int64)
    assert_vectors(read_spec_file(as_bytes(coadd(columns), specobj())), columns)


def with_cards(data: bytes, *cards: bytes) -> bytes:
    """Put cards at the end of HDU 1's header, in the place of its padding."""
    end = data.index(b"END" + b" " * 77, 2880)
    new = b"".join(card.ljust(80) for card in (*cards, b"END"))
    assert not data[end + 80 : end + len(new)].strip()
    return data[:end] + new + data[end + len(new) :]


def test_scaled_columns_are_unscaled() -> None:
    columns = vectors()
    columns["flux"] = np.arange(NPIX, dtype=np.int16)
    columns["or_mask"] ^= np.int32(-(2**31))
    cards = (b"TSCAL1  = 5.0D-1", b"TZERO1  = 10", b"TNULL1  = 7", b"TZERO5  = 2147483648")
    data = with_cards(as_bytes(coadd(columns), specobj()), *cards)
    expected = vectors()
    expected["flux"] = np.where(np.arange(NPIX) == 7, np.nan, 10 + np.arange(NPIX) / 2).astype(np.float32)
    assert_vectors(read_spec_file(data), expected)


def test_headers_are_read_without_quotes_in_lower_case_and_with_garbage_after_end() -> None:
    data = plain()
    for old, new in (
        (b"TFORM1  = 'E       '", b"tform1  = E         "),
        (b"TTYPE1  = 'flux    '", b"ttype1  = flux /''  "),
        (b"XTENSION= 'BINTABLE'", b"xtension= 'bintable'"),
    ):
        assert old in data
        data = data.replace(old, new, 1)
    place = data.index(b"END" + b" " * 77)
    data = data[: place + 80] + b"garbage!" + data[place + 88 :]
    assert_vectors(read_spec_file(data), vectors())


def test_a_grid_that_is_no_multiple_of_the_step_is_kept_explicitly() -> None:
    columns = vectors()
    columns["loglam"][5] = np.nextafter(columns["loglam"][5], np.float32(4))
    file = read_spec_file(as_bytes(coadd(columns), specobj()))
    assert file.k0 is None
    assert_vectors(file, columns)


@pytest.mark.parametrize(
    "form",
    [
        {"SPECOBJID": ("22A", f"{ID:>22}")},
        {"SPECOBJID": ("K", ID - 2**64)},
        {"SPECOBJID": ("22A", "")},
        {"SPECOBJID": ("22A", "unknown")},
        {"SPECOBJID": ("K", 0)},
        {"SPECOBJID": ("D", float(ID))},
        {"SPECOBJID": ("", None)},
        {"RUN2D": ("", None)},
        {"RUN2D": ("", None), "PLATE": ("", None), "MJD": ("", None), "FIBERID": ("", None)},
    ],
    ids=str,
)
def test_the_identity_is_read_in_every_form_of_hdu_2(form: dict[str, tuple[str, Any]]) -> None:
    file = read_spec_file(as_bytes(coadd(), specobj(**form)))
    assert (file.specobjid, file.plate, file.mjd, file.fiberid, file.run2d) == (ID, 10656, 58163, 366, "v5_13_0")


def test_an_unsigned_specobjid_with_tzero_is_read_exactly() -> None:
    column = fits.Column("specobjid", "K", bzero=2**63, array=np.array([ID + 1], np.uint64))
    table = fits.BinTableHDU.from_columns([column])
    assert read_spec_file(as_bytes(coadd(), table)).specobjid == ID + 1


def test_the_primary_header_identifies_a_file_without_hdu_2() -> None:
    header = {"PLATE": 266, "MJD": 51602, "FIBERID": 13, "RUN2D": 26, "PLUG_RA": 146.9341, "PLUG_DEC": -0.67}
    file = read_spec_file(as_bytes(coadd(), primary=header))
    assert file.specobjid == 299492975510054912
    assert (file.specobj, file.run2d, file.ra_dec, file.reduced) == (None, "26", (146.9341, -0.67), 0.0)
    del header["RUN2D"]
    assert refusal(as_bytes(coadd(), primary=header)).endswith("lack run2d")


@pytest.mark.parametrize("date", ["", "yesterday", "Sun Foo  2 16:31:14 2008", "Sun Mar 32 16:31:14 2008", "a b c d e"])
def test_an_unreadable_date_of_reduction_counts_as_none(date: str) -> None:
    assert read_spec_file(as_bytes(coadd(), specobj(), primary={"SPCOADD": date})).reduced == 0.0


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "spec.fits"
    path.write_bytes(gzip.compress(plain()))
    assert load_bytes(path) == plain()
    path.write_bytes(gzip.compress(plain())[:-50])
    with pytest.raises(UnsupportedFile, match="truncated or damaged gzip"):
        load_bytes(path)


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specflight.flight.fits._MAX_BYTES", len(plain()) - 1)
    path = tmp_path / "spec.fits.gz"
    path.write_bytes(gzip.compress(plain()))
    with pytest.raises(UnsupportedFile, match=r"more than \d+ bytes when decompressed"):
        load_bytes(path)
    path.write_bytes(plain())
    with pytest.raises(UnsupportedFile, match="more than"):
        load_bytes(path)


def test_what_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFile, match="No such file"):
        load_bytes(tmp_path / "vanished.fits")
    with pytest.raises(UnsupportedFile, match="directory"):
        load_bytes(tmp_path)


def test_damaged_files_are_refused_with_the_reason() -> None:
    assert refusal(b"") == "the file is empty"
    assert refusal(b"<html>404</html>").startswith("the file is not FITS")
    assert refusal(plain()[:1000]).startswith("the file is truncated")
    complete = as_bytes(coadd(), specobj())
    assert refusal(complete[:7000]).startswith("the file is truncated: it has 7000 bytes of at least ")
    assert refusal(plain()[: len(plain()) - 2880]).startswith("the file is truncated: it has")
    assert refusal(plain()[: len(plain()) - 2 * 2880 + 3]).startswith("the file is truncated: a header has no END")


def test_tables_that_are_no_spectrum_are_refused_with_the_reason() -> None:
    columns = vectors()
    del columns["ivar"], columns["sky"]
    assert refusal(as_bytes(coadd(columns), specobj())) == "HDU 1 has no column ivar, sky"
    assert refusal(as_bytes(coadd(vectors(0)), specobj())) == "HDU 1 has zero rows"
    assert refusal(as_bytes()) == "HDU 1 is not a binary table"
    assert refusal(as_bytes(fits.ImageHDU(np.zeros(3)))) == "HDU 1 is not a binary table"
    wide = fits.BinTableHDU.from_columns(
        [*(c for c in coadd().columns if c.name != "flux"), fits.Column("flux", "2E", array=np.zeros((NPIX, 2)))]
    )
    assert "'flux' is 2E" in refusal(as_bytes(wide, specobj()))
    several = fits.BinTableHDU.from_columns([fits.Column("PLATE", "J", array=[1, 2])])
    assert refusal(as_bytes(coadd(), several)) == "HDU 2 has 2 rows instead of one row of specobj"
    none = fits.BinTableHDU.from_columns([fits.Column("PLATE", "J", array=np.zeros(0))])
    assert refusal(as_bytes(coadd(), none)) == "HDU 2 has 0 rows instead of one row of specobj"
    assert "lack plate, mjd, fiberid, run2d" in refusal(as_bytes(coadd()))
    outside = specobj(SPECOBJID=("", None), PLATE=("J", 99999))
    assert "99999" in refusal(as_bytes(coadd(), outside))


@pytest.mark.parametrize(
    ("pixel", "value", "reason"),
    [
        (0, np.nan, "NaN or infinite"),
        (9, np.nan, "NaN or infinite"),
        (36, np.inf, "NaN or infinite"),
        (9, 3, "not increasing"),
    ],
)
def test_wavelengths_that_are_none_are_refused(pixel: int, value: float, reason: str) -> None:
    columns = vectors()
    columns["loglam"][pixel] = value
    assert reason in refusal(as_bytes(coadd(columns), specobj()))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("other/spSpec-53166-1615-513.fit", "DR7 spSpec format is not supported"),
        ("other/spPlate-4055-55359-0020.fits", "spPlate format is not supported"),
        ("desi/coadd-sv3-dark-26065.fits", "DESI coadd and spectra files are not supported"),
        ("desi/coadd-special-dark-27247.fits", "DESI coadd and spectra files are not supported"),
        ("desi/redrock-special-dark-27247.fits", "DESI redrock files are not supported"),
        ("catalog/spAll-plate3655.fits", "HDU 1 has no column flux, loglam"),
        ("catalog/platelist_7102.fits", "HDU 1 has no column flux, loglam"),
    ],
)
def test_real_files_of_other_formats_are_refused_by_name(path: str, reason: str) -> None:
    assert refusal(load_bytes(real(path))).startswith(reason)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(plain()) - 1))
def test_a_file_cut_at_any_byte_is_refused_or_reads_the_same(length: int) -> None:
    try:
        file = read_spec_file(plain()[:length])
    except UnsupportedFile:
        return
    assert_vectors(file, vectors())
    assert file.specobjid == ID


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(plain()) - 1), st.integers(1, 255))
def test_a_file_with_any_byte_changed_is_refused_or_read(place: int, change: int) -> None:
    damaged = bytearray(plain())
    damaged[place] ^= change
    try:
        file = read_spec_file(bytes(damaged))
    except UnsupportedFile:
        return
    assert file.words.shape[0] == 8
