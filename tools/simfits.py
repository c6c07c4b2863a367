"""The bytes of simulated ``spec-PLATE-MJD-FIBER.fits`` files, with the peculiarities of each release.

Headers are made by astropy once per plate or layout and then patched in place, rows are numpy records: a file
costs a few hundred microseconds. The layouts follow real files:

======== ============ ========== ============================= ==================== =============
run2d    coadd names  EXTNAME    SPECOBJID                     position             text columns
======== ============ ========== ============================= ==================== =============
26 …     lower case   yes        text, blanks on the left      PLUG_RA, PLUG_DEC    fixed width
v5_7_0   lower case   yes        signed K                      and RA, DEC          fixed width
v5_13_0  upper case   none       K with TZERO = 2**63          and RA, DEC          as wide as the text
======== ============ ========== ============================= ==================== =============
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from specflight.tools.siminstrument import Coadd

__all__ = ["Card", "PrimaryHeader", "coadd_hdu", "exposure_hdu", "lines_hdu", "row_hdu"]

Columns = tuple[tuple[str, str], ...]
Card = tuple[str, str | int | float | bool, str]

BLOCK = 2880  # a FITS file is made of blocks of this many bytes
CARD = 80
FORMATS = {"A": "S", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
COADD_COLUMNS = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")
COADD_FORMATS = ("E", "E", "E", "J", "J", "E", "E", "E")
EXPOSURE_COLUMNS = ("flux", "loglam", "ivar", "mask", "wdisp", "sky", "calib")
EXPOSURE_FORMATS = ("E", "E", "E", "J", "E", "E", "E")
LEGACY_ROW = """
    SURVEY:6A INSTRUMENT:4A CHUNK:16A PROGRAMNAME:23A PLATEQUALITY:8A PLATESN2:E LAMBDA_EFF:E SPECPRIMARY:B
    SPECLEGACY:B SPECSEGUE:B SPECSEGUE1:B SPECSEGUE2:B SPECBOSS:B SPECOBJID:22A FLUXOBJID:19A BESTOBJID:19A
    TARGETOBJID:22A PLATEID:19A NSPECOBS:I FIRSTRELEASE:3A RUN2D:3A RUN1D:1A CX:D CY:D CZ:D XFOCAL:E YFOCAL:E
    SOURCETYPE:19A TARGETTYPE:8A PRIMTARGET:J SECTARGET:J LEGACY_TARGET1:J LEGACY_TARGET2:J SEGUE1_TARGET1:J
    SEGUE2_TARGET1:J BOSS_TARGET1:K PLATE:J TILE:J MJD:J FIBERID:J OBJID:5J PLUG_RA:D PLUG_DEC:D CLASS:6A
    SUBCLASS:21A Z:E Z_ERR:E RCHI2:E DOF:J RCHI2DIFF:E TFILE:24A TCOLUMN:10J NPOLY:J THETA:10E VDISP:E
    VDISP_ERR:E WAVEMIN:E WAVEMAX:E WCOVERAGE:E ZWARNING:J SN_MEDIAN_ALL:E SN_MEDIAN:5E CHI68P:E SPECTROFLUX:5E
    SPECTROFLUX_IVAR:5E SPECTROSYNFLUX:5E ANYANDMASK:J ANYORMASK:J
"""
BOSS_ROW = """
    PROGRAMNAME:27A CHUNK:14A PLATEQUALITY:4A PLATESN2:E PRIMTARGET:J SECTARGET:J LAMBDA_EFF:E BLUEFIBER:J
    XFOCAL:E YFOCAL:E BOSS_TARGET1:K BOSS_TARGET2:K ANCILLARY_TARGET1:K EBOSS_TARGET0:K SPECPRIMARY:B SPECBOSS:B
    NSPECOBS:I PLATE:J TILE:J MJD:J FIBERID:J RUN2D:6A RUN1D:6A OBJTYPE:16A PLUG_RA:D PLUG_DEC:D CLASS:6A
    SUBCLASS:21A Z:E Z_ERR:E RCHI2:E DOF:J RCHI2DIFF:E TFILE:24A TCOLUMN:10J NPOLY:J THETA:10E VDISP:E
    VDISP_ERR:E WAVEMIN:E WAVEMAX:E WCOVERAGE:E ZWARNING:J SN_MEDIAN:5E SN_MEDIAN_ALL:E CHI68P:E SPECTROFLUX:5E
    SPECTROFLUX_IVAR:5E SPECTROSYNFLUX:5E ANYANDMASK:J ANYORMASK:J SPECOBJID:K OBJID:19A RUN:I RERUN:3A CAMCOL:B
    FIELD:I ID:I RA:D DEC:D CX:D CY:D CZ:D THING_ID:J
"""
LINES_ROW = """
    PLATE:J MJD:J FIBERID:J LINENAME:13A LINEWAVE:D LINEZ:E LINEZ_ERR:E LINESIGMA:E LINESIGMA_ERR:E LINEAREA:E
    LINEAREA_ERR:E LINEEW:E LINEEW_ERR:E LINECONTLEVEL:E LINECONTLEVEL_ERR:E LINENPIXLEFT:J LINENPIXRIGHT:J
    LINEDOF:E LINECHI2:E
"""


def _columns(text: str) -> Columns:
    pairs = (entry.split(":") for entry in text.split())
    return tuple((name, form) for name, form in pairs)


ROWS = {"legacy": _columns(LEGACY_ROW), "v5_7_0": _columns(BOSS_ROW)}
LINES_COLUMNS = _columns(LINES_ROW)
ROWS["v5_13_0"] = (
    *(
        {"EBOSS_TARGET0": ("EBOSS_TARGET1", "K")}.get(name, (name, form))
        for name, form in ROWS["v5_7_0"]
        if name != "SPECOBJID"
    ),
    ("SPECOBJID", "K"),  # stands last in these files
)


def _layout(run2d: str) -> str:
    return run2d if run2d in ROWS else "legacy"


@lru_cache(maxsize=256)
def _dtype(columns: Columns) -> np.dtype[np.void]:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for name, form in columns:
        count, kind = int(form[:-1] or 1), form[-1]
        if kind == "A":
            fields.append((name, f"S{count}"))
        elif count > 1:
            fields.append((name, FORMATS[kind], (count,)))
        else:
            fields.append((name, FORMATS[kind]))
    return np.dtype(fields)


@lru_cache(maxsize=256)
def _table_header(columns: Columns, rows: int, name: str, modern: bool, unsigned: str) -> bytes:
    """Header of a binary table; `modern` files follow MWRFITS, which writes no EXTNAME and groups its cards."""
    header = fits.Header()
    origin = "Binary table written by MWRFITS v1.11" if modern else "binary table extension"
    header["XTENSION"] = ("BINTABLE", origin)
    header["BITPIX"] = (8, "array data type")
    header["NAXIS"] = (2, "number of array dimensions")
    header["NAXIS1"] = (_dtype(columns).itemsize, "length of dimension 1")
    header["NAXIS2"] = (rows, "length of dimension 2")
    header["PCOUNT"] = (0, "number of group parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["TFIELDS"] = (len(columns), "number of table fields")
    if modern:
        header["COMMENT"] = " *** Column names ***"
        for number, (column, _) in enumerate(columns, 1):
            header[f"TTYPE{number}"] = column
        header["COMMENT"] = " *** Column formats ***"
    for number, (column, form) in enumerate(columns, 1):
        if not modern:
            header[f"TTYPE{number}"] = column
        header[f"TFORM{number}"] = form
        if column == unsigned:
            header[f"TSCAL{number}"] = 1
            header[f"TZERO{number}"] = 2**63
    if not modern:
        header["EXTNAME"] = name
    return bytes(header.tostring().encode("ascii"))


def _table(columns: Columns, data: bytes, rows: int, run2d: str, name: str, unsigned: str = "") -> bytes:
    header = _table_header(columns, rows, name, run2d == "v5_13_0", unsigned)
    return b"".join((header, data, bytes(-len(data) % BLOCK)))


class PrimaryHeader:
    """The primary header of the spectra of one plate, made once and then patched for each of them.

    Parameters
    ----------
    cards : list of tuple of (str, value, str)
        Keyword, value and comment in the order of the file, after the mandatory ones.
    bitpix : int
        BITPIX of the (empty) primary array.
    """

    def __init__(self, cards: list[Card], bitpix: int) -> None:
        header = fits.Header()
        header["SIMPLE"] = (True, "conforms to FITS standard")
        header["BITPIX"] = (bitpix, "array data type")
        header["NAXIS"] = (0, "number of array dimensions")
        header["EXTEND"] = True
        for keyword, value, comment in cards:
            header[keyword] = (value, comment)
        self._bytes = header.tostring().encode("ascii")
        self._offsets = {keyword: CARD * number for number, keyword in enumerate(header)}

    def patched(self, values: Mapping[str, str | int | float]) -> bytes:
        """Return the header with other values in some of its cards.

        Parameters
        ----------
        values : mapping of str to str, int or float
            New values by keyword; a text is as long as the one that it replaces.
        """
        header = bytearray(self._bytes)
        for keyword, value in values.items():
            start = self._offsets[keyword] + 10
            text = f"'{value}'" if isinstance(value, str) else f"{value:>20}"
            header[start : start + len(text)] = text.encode("ascii")
        return bytes(header)


def coadd_hdu(coadd: Coadd, run2d: str) -> bytes:
    """Make the table of the coadded spectrum, HDU 1.

    Parameters
    ----------
    coadd : Coadd
        The spectrum.
    run2d : str
        Reduction whose layout to follow.
    """
    npix = len(coadd.flux)
    loglam = (np.arange(coadd.k0, coadd.k0 + npix) * 1e-4).astype(np.float32)
    columns = (coadd.flux, loglam, coadd.ivar, coadd.and_mask, coadd.or_mask, coadd.wdisp, coadd.sky, coadd.model)
    return _pixels(columns, COADD_COLUMNS, COADD_FORMATS, "COADD", run2d)


def exposure_hdu(columns: tuple[NDArray[np.generic], ...], name: str, run2d: str) -> bytes:
    """Make the table of one exposure of one camera, an HDU after the third.

    Parameters
    ----------
    columns : tuple of ndarray, each of shape (npix,)
        flux, loglam, ivar, mask, wdisp, sky and calib.
    name : str
        EXTNAME, such as ``B1-00002591-00002595-00002596``.
    run2d : str
        Reduction whose layout to follow.
    """
    return _pixels(columns, EXPOSURE_COLUMNS, EXPOSURE_FORMATS, name, run2d)


@lru_cache
def _spelled(names: tuple[str, ...], formats: tuple[str, ...], upper: bool) -> Columns:
    return tuple((name.upper() if upper else name, form) for name, form in zip(names, formats, strict=True))


def _pixels(
    columns: tuple[NDArray[np.generic], ...], names: tuple[str, ...], formats: tuple[str, ...], name: str, run2d: str
) -> bytes:
    """Table of one row per pixel, all of whose columns are 4 bytes wide."""
    words = np.empty((len(columns[0]), len(columns)), dtype=">u4")
    for number, column in enumerate(columns):
        words[:, number] = column.view(np.uint32)
    return _table(_spelled(names, formats, run2d == "v5_13_0"), words.tobytes(), len(words), run2d, name)


def row_hdu(values: Mapping[str, Any], run2d: str) -> bytes:
    """Make the table of one row about the object, HDU 2.

    Parameters
    ----------
    values : mapping of str to value
        The row by column; columns that it lacks hold zeros, values without a column are left out. ``SPECOBJID`` is an
        unsigned integer.
    run2d : str
        Reduction whose layout to follow.
    """
    layout = _layout(run2d)
    columns = ROWS[layout]
    if layout == "v5_13_0":  # every file has the widths of its own texts
        columns = tuple(
            (name, f"{max(len(str(values.get(name, ''))), 1)}A") if form.endswith("A") else (name, form)
            for name, form in columns
        )
    row = np.zeros(1, dtype=_dtype(columns))
    for name, _ in columns:
        if name in values and name != "SPECOBJID":
            row[name] = values[name]
    specobjid = int(values["SPECOBJID"])
    if layout == "legacy":
        row["SPECOBJID"] = f"{specobjid:>22}"
    else:
        row["SPECOBJID"] = specobjid - (2**63 if layout == "v5_13_0" else 0)
    name = "SPECOBJ" if layout == "legacy" else "SPALL"
    return _table(columns, row.tobytes(), 1, run2d, name, "SPECOBJID" if layout == "v5_13_0" else "")


def lines_hdu(values: Mapping[str, NDArray[np.generic] | int], rows: int, run2d: str) -> bytes:
    """Make the table of the measured emission lines, HDU 3.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (rows,) or int
        Columns by name; those that it lacks hold zeros.
    rows : int
        Number of lines.
    run2d : str
        Reduction whose layout to follow.
    """
    columns = LINES_COLUMNS
    table = np.zeros(rows, dtype=_dtype(columns))
    for name, value in values.items():
        table[name] = value
    return _table(columns, table.tobytes(), rows, run2d, "SPZLINE")
