"""SDSS spec files, read from their bytes.

A ``spec-PLATE-MJD-FIBER.fits`` of any release holds the coadded spectrum in HDU 1 and one row of specobj in HDU 2
(https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/PLATE4/spec.html). The vectors are copied once,
from the big-endian rows of the file to the native columns of the store; nothing else of the file is touched.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specflight.catalog.identifiers import pack_specobjid, unpack_specobjid
from specflight.errors import InvalidRequest, UnsupportedFile
from specflight.flight.fitstable import Column, Hdu, Header, TableLayout, physical, walk_hdus

__all__ = ["COADD_COLUMNS", "SpecFile", "SpecobjRow", "load_bytes", "read_spec_file"]

COADD_COLUMNS: tuple[str, ...] = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")
_MASKS = frozenset({"and_mask", "or_mask"})
_LOGLAM = COADD_COLUMNS.index("loglam")
_MAX_BYTES = 1 << 30  # five hundred times the largest spec file known
_CHUNK = 1 << 20
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MAX_PLATE = (1 << 14) - 1  # larger values of PLATEID are packed with the MJD


@dataclass(frozen=True)
class SpecobjRow:
    """The specobj row of one file as it stands there.

    Attributes
    ----------
    layout : TableLayout
        The columns of HDU 2.
    data : bytes
        One big-endian row, with the heap behind it where the table has one.
    """

    layout: TableLayout
    data: bytes


@dataclass(frozen=True, slots=True)
class SpecFile:
    """One spectrum and what its file says about it.

    Attributes
    ----------
    specobjid : int
        Unsigned 64-bit identifier.
    plate, mjd, fiberid : int
        Plate, modified Julian date (days) and fibre of the observation.
    run2d : str
        Name of the reduction.
    reduced : float
        When the coadd was made (SPCOADD, taken as UTC), in seconds since 1970; 0.0 where the file does not say.
    k0 : int or None
        First pixel of the grid ``loglam[i] == float32((k0 + i) * 1e-4)``; None where that does not hold bit for bit.
    words : ndarray of uint32, shape (8, npix)
        The vectors' bit patterns in the order of `COADD_COLUMNS`.
    specobj : SpecobjRow or None
        Row of HDU 2; None where the file has no such table.
    ra_dec : tuple of float or None
        Position of the object (degrees) according to the primary header; None where it has none.
    """

    specobjid: int
    plate: int
    mjd: int
    fiberid: int
    run2d: str
    reduced: float
    k0: int | None
    words: NDArray[np.uint32]
    specobj: SpecobjRow | None
    ra_dec: tuple[float, float] | None

    def column(self, name: str) -> NDArray[np.float32] | NDArray[np.int32]:
        """View one vector.

        Parameters
        ----------
        name : str
            One of `COADD_COLUMNS`.

        Returns
        -------
        ndarray, shape (npix,)
            int32 for the two masks, else float32; flux, sky and model in 1e-17 erg/s/cm2/Angstrom, loglam in
            log10(Angstrom) (vacuum, heliocentric), wdisp in pixels.
        """
        words = self.words[COADD_COLUMNS.index(name)]
        view: NDArray[np.float32] | NDArray[np.int32] = words.view(np.int32 if name in _MASKS else np.float32)
        return view


def load_bytes(path: Path) -> bytes:
    """Read a file, decompressing it where it is gzip.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bytes

    Raises
    ------
    UnsupportedFile
        Where the file cannot be read, is damaged gzip or holds more than 1 GiB.
    """
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise UnsupportedFile(f"the file holds more than {_MAX_BYTES} bytes")
            data = file.readall()
    except OSError as error:
        raise UnsupportedFile(f"the file cannot be read: {error.strerror or error}") from error
    return _unzipped(data) if data[:2] == b"\x1f\x8b" else data


def _unzipped(data: bytes) -> bytes:
    chunks: list[bytes] = []
    total = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while chunk := file.read(_CHUNK):
                total += len(chunk)
                if total > _MAX_BYTES:
                    raise UnsupportedFile(f"the file holds more than {_MAX_BYTES} bytes when decompressed")
                chunks.append(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnsupportedFile(f"the file is truncated or damaged gzip: {error}") from error
    return b"".join(chunks)


def read_spec_file(data: bytes) -> SpecFile:
    """Read a spec file.

    Parameters
    ----------
    data : bytes
        The whole file, uncompressed.

    Returns
    -------
    SpecFile

    Raises
    ------
    UnsupportedFile
        Where the bytes are no complete spectrum with an identity; the text says why.
    """
    hdus = walk_hdus(data)
    primary = hdus[0].header
    words = _read_coadd(data, hdus)
    k0 = _grid_start(words[_LOGLAM])
    specobj = _read_specobj(data, hdus)
    specobjid, plate, mjd, fiberid, run2d = _identify(specobj, primary)
    position = _header_position(primary)
    return SpecFile(specobjid, plate, mjd, fiberid, run2d, _reduced(primary), k0, words, specobj, position)


def _read_coadd(data: bytes, hdus: list[Hdu]) -> NDArray[np.uint32]:
    if len(hdus) < 2 or not hdus[1].header.is_table:
        raise UnsupportedFile(_other_format(hdus) or "HDU 1 is not a binary table")
    layout = hdus[1].header.layout
    missing = [name for name in COADD_COLUMNS if name not in layout.by_name]
    if missing:
        raise UnsupportedFile(_other_format(hdus) or f"HDU 1 has no column {', '.join(missing)}")
    if layout.rows == 0:
        raise UnsupportedFile("HDU 1 has zero rows")
    words = np.empty((len(COADD_COLUMNS), layout.rows), np.uint32)
    for row, name in zip(words, COADD_COLUMNS, strict=True):
        column = layout.by_name[name]
        if column.code not in "BIJKED" or column.repeat != 1:
            raise UnsupportedFile(f"the column '{name}' is {column.repeat}{column.code} instead of one number per row")
        stored = layout.raw(column, data, layout.rows, hdus[1].start)[:, 0]
        if column.code == ("J" if name in _MASKS else "E") and column.plain:
            row[:] = stored.view(">u4")
        else:
            row[:] = _converted(name, column, stored)
    return words


def _converted(name: str, column: Column, stored: NDArray[Any]) -> NDArray[np.uint32]:
    """Bring a column of another type, or of scaled numbers, to the bit patterns of the store."""
    values, null = physical(column, stored)
    with np.errstate(over="ignore", invalid="ignore"):
        if name not in _MASKS:
            floats = values.astype(np.float32)
            if null is not None:
                floats[null] = np.nan
            return floats.view(np.uint32)
        # Masks are sets of 32 bits: an unsigned one keeps its pattern.
        if not np.all((values >= -(2**31)) & (values < 2**32) & (values == np.floor(values))):
            raise UnsupportedFile(f"the column '{name}' holds values that are no 32-bit masks")
        return values.astype(np.int64).astype(np.uint32)


def _grid_start(words: NDArray[np.uint32]) -> int | None:
    loglam = words.view(np.float32)
    first = float(loglam[0])
    if abs(first) < 300:
        k0 = round(first * 1e4)
        grid = (np.arange(k0, k0 + len(loglam), dtype=np.float64) * 1e-4).astype(np.float32)
        if np.array_equal(grid.view(np.uint32), words):
            return k0
    # Beyond 10^308 a wavelength in Angstrom is infinite.
    if not np.all(np.abs(loglam) < 308):
        raise UnsupportedFile("the column 'loglam' holds wavelengths that are NaN or infinite")
    if not np.all(loglam[1:] > loglam[:-1]):
        raise UnsupportedFile("the column 'loglam' is not increasing")
    return None


def _read_specobj(data: bytes, hdus: list[Hdu]) -> SpecobjRow | None:
    if len(hdus) < 3 or not hdus[2].header.is_table:
        return None
    hdu = hdus[2]
    layout = hdu.header.layout
    if layout.rows != 1:
        raise UnsupportedFile(f"HDU 2 has {layout.rows} rows instead of one row of specobj")
    return SpecobjRow(layout, data[hdu.start : hdu.start + hdu.size])


def _identify(specobj: SpecobjRow | None, primary: Header) -> tuple[int, int, int, int, str]:
    """Find specobjid, plate, mjd, fiberid and run2d: HDU 2 counts, then its specobjid, then the primary header."""
    row = {} if specobj is None else {name: _scalar(specobj, name) for name in ("plate", "mjd", "fiberid", "run2d")}
    specobjid = 0 if specobj is None else _as_specobjid(_scalar(specobj, "specobjid"))
    plate, mjd, fiberid = (_as_int(row.get(name)) for name in ("plate", "mjd", "fiberid"))
    run2d = _as_run2d(row.get("run2d"))
    if specobjid and (plate is None or mjd is None or fiberid is None or run2d is None):
        parts = unpack_specobjid(np.array([specobjid], np.uint64))
        plate = int(parts.plate[0]) if plate is None else plate
        mjd = int(parts.mjd[0]) if mjd is None else mjd
        fiberid = int(parts.fiberid[0]) if fiberid is None else fiberid
        run2d = str(parts.run2d[0]) if run2d is None else run2d
    if not specobjid:
        plate = _header_plate(primary) if plate is None else plate
        mjd = _as_int(primary.number("MJD")) if mjd is None else mjd
        fiberid = _as_int(primary.number("FIBERID")) if fiberid is None else fiberid
        run2d = _as_run2d(primary.text("RUN2D")) if run2d is None else run2d
    named = {"plate": plate, "mjd": mjd, "fiberid": fiberid, "run2d": run2d}
    if plate is None or mjd is None or fiberid is None or run2d is None:
        missing = ", ".join(name for name, value in named.items() if value is None)
        raise UnsupportedFile(f"the file does not say which spectrum it is: HDU 2 and HDU 0 lack {missing}")
    if not specobjid:
        try:
            specobjid = int(pack_specobjid(plate, mjd, fiberid, run2d))
        except InvalidRequest as error:
            raise UnsupportedFile(f"the file does not say which spectrum it is: {error}") from error
    return specobjid, plate, mjd, fiberid, run2d


def _scalar(specobj: SpecobjRow, name: str) -> int | float | str | None:
    column = specobj.layout.by_name.get(name)
    if column is None or column.width == 0:
        return None
    if column.code == "A":
        cell = specobj.data[column.offset : column.offset + column.width]
        return cell.partition(b"\0")[0].decode("latin-1").strip()
    if column.code not in "BIJKED" or column.repeat != 1:
        return None
    values, null = physical(column, specobj.layout.raw(column, specobj.data, 1)[0])
    value: int | float = values[0].item()
    return None if null is not None and null[0] else value


def _as_int(value: float | str | None) -> int | None:
    try:
        number = float(value if value is not None else "nan")
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < 2**31 else None


def _as_specobjid(value: float | str | None) -> int:
    """Read a specobjid in any of its forms; 0 where there is none."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.lstrip("+-").isdigit() and len(value) <= 20 else 0
    # A float has lost the last bits of the identifier.
    if not isinstance(value, int) or not -(2**63) <= value < 2**64:
        return 0
    return value % 2**64


def _as_run2d(value: float | str | None) -> str | None:
    text = str(_as_int(value) if isinstance(value, int | float) else value or "").strip()
    return None if text in ("", "None") else text


def _header_plate(primary: Header) -> int | None:
    candidates = (_as_int(primary.number(keyword)) for keyword in ("PLATEID", "PLATE"))
    return next((plate for plate in candidates if plate is not None and 0 < plate <= _MAX_PLATE), None)


def _header_position(primary: Header) -> tuple[float, float] | None:
    for keywords in (("PLUG_RA", "PLUG_DEC"), ("RAOBJ", "DECOBJ")):
        ra, dec = (primary.number(keyword) for keyword in keywords)
        if ra is not None and dec is not None and -360 <= ra <= 360 and -90 <= dec <= 90:
            return float(ra), float(dec)
    return None


def _reduced(primary: Header) -> float:
    """Read a date like 'Sun Mar  2 16:31:14 2008', whatever the locale."""
    words = (primary.text("SPCOADD") or "").split()
    try:
        _, month, day, clock, year = words
        hour, minute, second = (int(part) for part in clock.split(":"))
        date = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return 0.0
    return date.timestamp()


def _other_format(hdus: list[Hdu]) -> str | None:
    """Name the format of a file that has no coadd table, where it is a known one."""
    primary = hdus[0].header
    names = {(hdu.header.text("EXTNAME") or "").upper() for hdu in hdus[1:]}
    if "REDSHIFTS" in names or "ZBEST" in names:
        return "DESI redrock files are not supported: they hold redshifts, no spectra"
    if "FIBERMAP" in names or any(name.endswith("_WAVELENGTH") for name in names):
        return "DESI coadd and spectra files are not supported"
    shape = [primary.count(f"NAXIS{i + 1}") for i in range(primary.count("NAXIS"))]
    if len(shape) == 2 and shape[1] == 5 and primary.text("FIBERID"):
        return "DR7 spSpec format is not supported: the spectrum is an image of HDU 0 and has no specobjid"
    if len(shape) == 2 and primary.text("PLATEID"):
        return f"spPlate format is not supported: HDU 0 is an image of {shape[1]} fibres"
    if any(shape):
        return f"HDU 0 is an image of {' x '.join(map(str, shape))} pixels and HDU 1 is no coadded spectrum"
    return None
