"""Identifiers of SDSS spectra: packing, unpacking and reading of specobjids.

A specobjid (DR8 and later) is an unsigned 64-bit number that holds plate, fibre, MJD and reduction
(https://www.sdss4.org/dr17/help/glossary/#S, "specObjID"):

====== ============ ======================
bits   part         stored as
====== ============ ======================
50-63  plate        plate
38-49  fibre        fiberid
24-37  MJD          mjd - 50000
10-23  reduction    `run2d_code`
0-9    line         always 0 for a spectrum
====== ============ ======================

Plates from 8192 on set the highest bit, so an identifier fits neither int64 nor float64.
This module needs numpy only: client and server share it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specflight.errors import InvalidRequest

__all__ = [
    "FIBERID",
    "MJD",
    "PLATE",
    "RUN2D",
    "SPECOBJID_MAX",
    "BitField",
    "SpecobjidParts",
    "pack_specobjid",
    "parse_id",
    "parse_ids",
    "run2d_code",
    "run2d_name",
    "shown",
    "unpack_specobjid",
]


@dataclass(frozen=True, slots=True)
class BitField:
    """One part of a specobjid.

    Attributes
    ----------
    name : str
        Column of the catalogue that holds the part.
    shift, bits : int
        Bits below the part, and bits of the part.
    origin : int
        Smallest value, stored as 0.
    """

    name: str
    shift: int
    bits: int
    origin: int = 0

    @property
    def largest(self) -> int:
        """Largest value that fits."""
        return self.origin + (1 << self.bits) - 1

    def of(self, ids: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Values of the part, in the shape of the identifiers."""
        stored: NDArray[np.int32] = (ids >> np.uint64(self.shift) & np.uint64((1 << self.bits) - 1)).astype(np.int32)
        return stored + np.int32(self.origin)


PLATE = BitField("plate", 50, 14)
FIBERID = BitField("fiberid", 38, 12)
MJD = BitField("mjd", 24, 14, 50000)
RUN2D = BitField("run2d", 10, 14)
"""Reduction, as its number: see `run2d_code`."""

PLAIN_RUN2D = frozenset({26, 103, 104})  # the SDSS-I/II and SEGUE reductions: the only ones named by a bare number
SPECOBJID_MAX = 2**64 - 1
_VERSION = re.compile(r"v(\d{1,2})_(\d{1,2})_(\d{1,2})", re.ASCII)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class SpecobjidParts:
    """What specobjids say about their spectra; every array has the shape of the identifiers.

    Attributes
    ----------
    plate, mjd, fiberid : ndarray of int32
        Plate, modified Julian date (days) and fibre of the observation.
    run2d : ndarray of str
        Name of the reduction, such as ``'26'`` or ``'v5_13_2'``.
    """

    plate: NDArray[np.int32]
    mjd: NDArray[np.int32]
    fiberid: NDArray[np.int32]
    run2d: NDArray[np.str_]


def run2d_code(run2d: str) -> int:
    """Return the number that stands for a reduction in a specobjid.

    Parameters
    ----------
    run2d : str
        ``'26'``, ``'103'``, ``'104'`` or a version ``'vN_M_P'``, which becomes ``(N-5)*10000 + M*100 + P``.

    Raises
    ------
    InvalidRequest
        If the text is neither, or its number does not fit into 14 bits.

    Examples
    --------
    >>> run2d_code("26"), run2d_code("v5_7_0"), run2d_code("v5_13_2")
    (26, 700, 1302)
    """
    text = run2d.strip()
    if text.isascii() and text.isdigit() and len(text) <= 5:
        code = int(text)
    elif match := _VERSION.fullmatch(text):
        major, minor, patch = map(int, match.groups())
        code = (major - 5) * 10000 + minor * 100 + patch
    else:
        code = -1
    if not 0 <= code <= RUN2D.largest:
        raise InvalidRequest(f"run2d: {shown(run2d)} is not a reduction of SDSS spectra such as '26' or 'v5_13_2'")
    return code


def run2d_name(code: int) -> str:
    """Return the name of the reduction that a specobjid's number stands for; the inverse of `run2d_code`.

    Parameters
    ----------
    code : int
        26, 103 and 104 are themselves, every other number is a version.

    Raises
    ------
    InvalidRequest
        If the number does not fit into 14 bits.

    Examples
    --------
    >>> run2d_name(104), run2d_name(1302)
    ('104', 'v5_13_2')
    """
    if not 0 <= code <= RUN2D.largest:
        raise InvalidRequest(f"run2d: {code} is outside 0 to {RUN2D.largest}")
    if code in PLAIN_RUN2D:
        return str(int(code))
    return f"v{code // 10000 + 5}_{code // 100 % 100}_{code % 100}"


def pack_specobjid(plate: ArrayLike, mjd: ArrayLike, fiberid: ArrayLike, run2d: ArrayLike) -> NDArray[np.uint64]:
    """Pack plate, MJD, fibre and reduction, broadcast against each other, into identifiers.

    Parameters
    ----------
    plate, mjd, fiberid : array_like of int
        Plate (0 to 16383), modified Julian date in days (50000 to 66383) and fibre (0 to 4095).
    run2d : array_like of str
        Name of the reduction; see `run2d_code`.

    Returns
    -------
    ndarray of uint64
        The broadcast shape; a numpy scalar if every argument is one.

    Raises
    ------
    InvalidRequest
        Naming the first value that is out of range or not an integer.

    Examples
    --------
    >>> int(pack_specobjid(10000, 50000, 0, "26"))
    11258999068426266624
    """
    packed = _stored(PLATE, plate) | _stored(FIBERID, fiberid) | _stored(MJD, mjd)
    names, inverse = np.unique(np.asarray(run2d, dtype=np.str_), return_inverse=True)
    codes = np.array([run2d_code(str(name)) for name in names], dtype=np.uint64)
    run2d_bits: NDArray[np.uint64] = codes[inverse.reshape(np.shape(run2d))] << np.uint64(RUN2D.shift)
    return packed | run2d_bits


def unpack_specobjid(ids: ArrayLike) -> SpecobjidParts:
    """Unpack identifiers into plate, MJD, fibre and reduction.

    Parameters
    ----------
    ids : array_like of uint64
        Identifiers of DR8 and later, of any shape.

    Raises
    ------
    InvalidRequest
        If a value is not an unsigned 64-bit integer.

    Examples
    --------
    >>> parts = unpack_specobjid([299489677444933632])
    >>> int(parts.plate[0]), int(parts.mjd[0]), int(parts.fiberid[0]), str(parts.run2d[0])
    (266, 51630, 1, '26')
    """
    shape = np.shape(ids)
    packed = parse_ids(np.asarray(ids).ravel()).reshape(shape)
    codes, inverse = np.unique(RUN2D.of(packed), return_inverse=True)
    names = np.array([run2d_name(int(code)) for code in codes], dtype=np.str_)
    return SpecobjidParts(
        plate=PLATE.of(packed),
        mjd=MJD.of(packed),
        fiberid=FIBERID.of(packed),
        run2d=names[inverse.reshape(shape)],
    )


def parse_ids(values: Iterable[Any]) -> NDArray[np.uint64]:
    """Read identifiers as unsigned 64-bit integers, whatever form they came in.

    Parameters
    ----------
    values : iterable
        A one-dimensional numpy array of integers (unsigned ones are not copied), or any iterable of Python or
        numpy integers and digit strings, blanks around them allowed.

    Returns
    -------
    ndarray of uint64, shape (n,)
        In the order of `values`; empty if there are none.

    Raises
    ------
    InvalidRequest
        Naming the first value that is no specobjid: a float, a bool, a negative number, one beyond 2^64-1,
        or a text with anything but digits.

    Examples
    --------
    >>> parse_ids(["299489677444933632", 11258999741428506624]).tolist()
    [299489677444933632, 11258999741428506624]
    """
    if isinstance(values, str | bytes):
        raise _not_an_id(values)
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise InvalidRequest(f"ids: an array of shape {values.shape} is not a list of specobjids")
        if values.dtype.kind == "u" or (values.dtype.kind == "i" and not (values < 0).any()):
            return values.astype(np.uint64, copy=False)
    items = list(values)
    if set(map(type, items)) == {int}:
        try:
            return np.array(items, dtype=np.uint64)
        except OverflowError:
            pass  # the loop below names the value
    return np.fromiter((parse_id(item) for item in items), dtype=np.uint64, count=len(items))


def parse_id(value: object) -> int:
    """Read one identifier: an integer, or a text of digits with blanks around them allowed.

    Raises
    ------
    InvalidRequest
        If it is neither, or outside 0 to 2^64-1.

    Examples
    --------
    >>> parse_id(" 299489677444933632")
    299489677444933632
    """
    if isinstance(value, str):
        digits = value.strip()
        if not (digits.isascii() and digits.isdigit()):
            raise _not_an_id(value)
        digits = digits.lstrip("0") or "0"
        number = int(digits) if len(digits) <= len(str(SPECOBJID_MAX)) else SPECOBJID_MAX + 1
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
    else:
        raise _not_an_id(value)
    if not 0 <= number <= SPECOBJID_MAX:
        raise _not_an_id(value)
    return number


def shown(value: object) -> str:
    """Show a value in an error message: its repr, of bounded length whatever the value's size and depth."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print integers of many digits
    brief = reprlib.Repr()
    brief.maxstring = brief.maxlong = brief.maxother = _SHOWN_CHARACTERS
    try:
        text = brief.repr(value)
    except ValueError:  # such an integer within a list
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _not_an_id(value: object) -> InvalidRequest:
    """Refuse one value."""
    return InvalidRequest(f"ids: {shown(value)} is not a specobjid (an unsigned 64-bit integer)")


def _stored(part: BitField, values: ArrayLike) -> NDArray[np.uint64]:
    """Bits of the values of one part, in their place, after a check of type and range."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise InvalidRequest(f"{part.name}: {shown(array.flat[0])} is not an integer")
    bad = (array < part.origin) | (array > part.largest)
    if bad.any():
        raise InvalidRequest(f"{part.name}: {array[bad].flat[0]} is outside {part.origin} to {part.largest}")
    return (array.astype(np.int64) - part.origin).astype(np.uint64) << np.uint64(part.shift)
