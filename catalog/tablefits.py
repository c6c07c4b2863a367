"""FITS binary tables, a slice of rows at a time.

The format is that of the FITS standard 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html, section 7.3): astropy reads
the headers, the rows are read and converted here, so that a table of any size takes little memory and integers of 64
bits, unsigned or with missing values, stay exact.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.tablecells import (
    BATCH_BYTES,
    BATCH_ROWS,
    TableFile,
    cells,
    described,
    lower_names,
    refuse,
    text,
)
from specflight.errors import InvalidRequest

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["read_fits"]

# Type code -> numpy's name of one element (standard, table 18).
_ELEMENTS = {"L": "u1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "A": "S1"}
_ELEMENTS |= {"E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16", "P": ">i4", "Q": ">i8"}
# The offsets by which signed columns hold unsigned numbers and the reverse (standard, section 5.2.5).
_SIGN_FLIPS = {("B", -128): "i1", ("I", 2**15): "u2", ("J", 2**31): "u4", ("K", 2**63): "u8"}
_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(\S*)", re.ASCII)
_TDIM = re.compile(r"\(\s*\d+\s*(,\s*\d+\s*)*\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a binary table.

    Attributes
    ----------
    code : str
        The letter of TFORM, for variable-length arrays that of their elements.
    dtype : numpy.dtype
        Of a stored cell, with its shape; descriptors for variable-length arrays, whose `variable` is true.
    bits : int
        Bits of a cell of type X.
    shape : tuple of int
        Axes of a cell in row-major order, empty where it has one at most.
    """

    name: str
    code: str
    dtype: np.dtype[Any]
    variable: bool
    bits: int
    shape: tuple[int, ...]
    scale: float
    zero: float
    null: int | None
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a table's rows and heap lie in its file, in bytes."""

    columns: tuple[_Column, ...]
    dtype: np.dtype[Any]
    rows: int
    start: int
    heap: int
    heap_size: int


def read_fits(path: Path, name: Path) -> TableFile:
    """Read the first binary table of a FITS file.

    Scaled columns (TSCAL, TZERO) become float64, those whose TZERO makes them unsigned or signed stay integers, and
    so do integers with another whole offset (int64). TNULL is null, NaN stays NaN. Bits and logicals become booleans.
    Strings lose their trailing blanks. A cell of several values or a variable-length array is a list, one of several
    axes in row-major order.

    Parameters
    ----------
    path : Path
        The file, decompressed.
    name : Path
        What it is called in messages.

    Returns
    -------
    TableFile

    Raises
    ------
    InvalidRequest
        If there is no such table, or the file is truncated or damaged.
    """
    layout = _layout(path, name)
    names = lower_names(name, [column.name for column in layout.columns])
    schema = pa.schema(
        [
            described(
                lower,
                _arrow(column, np.zeros(0, column.dtype), np.zeros(0, np.uint8)).type,
                unit=column.unit,
                description=column.description,
                shape=",".join(map(str, column.shape)),
            )
            for lower, column in zip(names, layout.columns, strict=True)
        ]
    )
    return TableFile(schema, layout.rows, _batches(path, name, layout, schema))


def _layout(path: Path, name: Path) -> _Layout:
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of a header is checked here
        try:
            with fits.open(path, memmap=False) as hdus:
                for hdu in hdus:
                    if isinstance(hdu, fits.BinTableHDU):
                        found = _table(hdu.header, int(hdu.fileinfo()["datLoc"]), name)
                        break
                else:
                    raise refuse(name, "holds no binary table")
        except InvalidRequest:
            raise
        except (OSError, ValueError, KeyError, TypeError, IndexError, fits.VerifyError) as error:
            raise refuse(name, f"cannot be read as FITS: {_sentence(error)}") from error
    end = found.start + found.dtype.itemsize * found.rows
    end = max(end, found.heap + found.heap_size)
    if (size := path.stat().st_size) < end:
        raise refuse(name, f"is truncated: it has {size} bytes of at least {end}")
    return found


def _sentence(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _table(header: Header, start: int, name: Path) -> _Layout:
    """Find the columns that a table's header describes."""
    if header.get("ZTABLE"):
        raise refuse(name, "holds a compressed table: decompress it with funpack")
    width, rows, count = (int(header[keyword]) for keyword in ("NAXIS1", "NAXIS2", "TFIELDS"))
    columns = tuple(_column(header, i, name) for i in range(1, count + 1))
    offsets = np.cumsum([0, *(column.dtype.itemsize for column in columns)]).tolist()
    if offsets[-1] > width:
        raise refuse(name, f"has rows of {width} bytes whose columns take {offsets[-1]}")
    if not columns:
        raise refuse(name, "has a table without columns")
    dtype = np.dtype(
        {
            "names": [str(i) for i in range(count)],
            "formats": [column.dtype for column in columns],
            "offsets": offsets[:-1],
            "itemsize": width,
        }
    )
    after = int(header.get("THEAP", width * rows)) - width * rows
    variable = any(column.variable for column in columns)
    size = max(int(header.get("PCOUNT", 0)) - after, 0) if variable else 0
    return _Layout(columns, dtype, rows, start, start + width * rows + after, size)


def _column(header: Header, i: int, name: Path) -> _Column:
    form = str(header.get(f"TFORM{i}", ""))
    match = _TFORM.fullmatch(form.strip().upper())
    if match is None:
        raise refuse(name, f"has a TFORM{i} of {form!r}")
    repeat, code, detail = int(match[1] or 1), match[2], match[3]
    axes = _axes(str(header.get(f"TDIM{i}", "")))
    shape = tuple(reversed(axes)) if len(axes) > 1 and int(np.prod(axes)) == repeat else ()
    element = np.dtype(_ELEMENTS[code])
    variable = code in "PQ"
    stored = np.dtype((element, (repeat,))) if repeat != 1 else element
    if code == "X":
        stored, shape = np.dtype((element, (-(-repeat // 8),))), ()
    elif variable:
        if repeat > 1 or detail[:1] not in _ELEMENTS or detail[:1] in "PQ":
            raise refuse(name, f"has a TFORM{i} of {form!r}")
        code, shape = detail[0], ()
        stored = np.dtype((element, (2 * repeat,)))
    elif code == "A":
        stated = str(axes[0]) if axes else detail
        item = int(stated) if stated.isdigit() and 0 < int(stated) < repeat else repeat
        stored = np.dtype((f"S{item}", (repeat // item,))) if item < repeat else np.dtype(f"S{repeat}")
        stored, shape = _padded(stored, repeat), shape[:-1] if len(shape) > 2 else ()
    scaled = code in "BIJKEDCM"
    null = header.get(f"TNULL{i}")
    return _Column(
        name=str(header.get(f"TTYPE{i}", f"col{i}")),
        code=code,
        dtype=stored,
        variable=variable,
        bits=repeat,
        shape=shape,
        scale=_number(header.get(f"TSCAL{i}", 1)) if scaled else 1,
        zero=_number(header.get(f"TZERO{i}", 0)) if scaled else 0,
        null=null if isinstance(null, int) and code in "BIJK" else None,
        unit=str(header.get(f"TUNIT{i}", "")),
        description=str(header.get(f"TCOMM{i}", "")),
    )


def _number(value: object) -> float:
    """Value of a card; integers stay exact."""
    return value if isinstance(value, int | float) else float(str(value))


def _axes(dimensions: str) -> list[int]:
    return [int(axis) for axis in re.findall(r"\d+", dimensions)] if _TDIM.fullmatch(dimensions.strip()) else []


def _padded(dtype: np.dtype[Any], width: int) -> np.dtype[Any]:
    """Cell of strings that may end in bytes that belong to none of them."""
    if dtype.itemsize == width:
        return dtype
    return np.dtype({"names": ["strings"], "formats": [dtype], "offsets": [0], "itemsize": width})


def _batches(path: Path, name: Path, layout: _Layout, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    bytes_of_row = layout.dtype.itemsize + layout.heap_size // max(layout.rows, 1)
    step = min(max(BATCH_BYTES // max(bytes_of_row, 1), 1), BATCH_ROWS)
    heap: NDArray[np.uint8] = np.zeros(0, np.uint8)
    if layout.heap_size:
        heap = np.memmap(path, np.uint8, "r", layout.heap, (layout.heap_size,))
    with path.open("rb") as file:
        file.seek(layout.start)
        for first in range(0, layout.rows, step):
            raw = np.fromfile(file, layout.dtype, min(step, layout.rows - first))
            try:
                arrays = [_arrow(column, raw[str(i)], heap) for i, column in enumerate(layout.columns)]
            except (ValueError, OverflowError) as error:
                raise refuse(name, f"is damaged within rows {first + 1} to {first + len(raw)}: {error}") from error
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _arrow(column: _Column, raw: NDArray[Any], heap: NDArray[np.uint8]) -> pa.Array:
    if column.variable:
        return _variable(column, raw, heap)
    if column.code == "X":
        return cells(np.unpackbits(np.ascontiguousarray(raw), axis=-1, count=column.bits).astype(np.bool_))
    if column.code == "A":
        return text(raw["strings"] if raw.dtype.names else raw)
    return _elements(column, raw)


def _elements(column: _Column, raw: NDArray[Any]) -> pa.Array:
    """Stored elements, of one cell each or several, as what they stand for."""
    if column.code == "L":
        return cells(raw == ord("T"), raw == 0)
    values, null = _physical(column, raw)
    return cells(values, null)


def _physical(column: _Column, raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Apply TNULL, TZERO and TSCAL to stored numbers."""
    null = None if column.null is None else raw == column.null
    native = raw.astype(raw.dtype.newbyteorder("="))
    whole = column.scale == 1 and column.zero == column.zero // 1
    if whole and column.zero == 0:
        return native, null
    if whole and (flipped := _SIGN_FLIPS.get((column.code, int(column.zero)))):
        unsigned = native.view(f"u{native.itemsize}")
        return (unsigned ^ unsigned.dtype.type(1 << (8 * native.itemsize - 1))).view(flipped), null
    if whole and column.code in "BIJ" and abs(column.zero) < 2**62:
        return native.astype(np.int64) + int(column.zero), null
    wide = np.complex128 if column.code in "CM" else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        return column.zero + column.scale * native.astype(wide), null


def _variable(column: _Column, raw: NDArray[Any], heap: NDArray[np.uint8]) -> pa.Array:
    """Gather variable-length arrays from the heap; text becomes a string."""
    element = np.dtype(_ELEMENTS[column.code])
    counts, starts = np.resize(raw, (len(raw), 2)).T.astype(np.int64)  # a column of no width has empty arrays
    sizes = -(-counts // 8) if column.code == "X" else counts * element.itemsize
    beyond = (counts < 0) | (starts < 0) | (starts + sizes > len(heap))
    if (beyond & (counts != 0)).any():
        raise ValueError(f"the column '{column.name}' points beyond the table's heap")
    pieces = [heap[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
    if column.code == "A":
        return text(np.array([piece.tobytes() for piece in pieces], np.bytes_))
    if column.code == "X":
        bits = [np.unpackbits(piece, count=count) for piece, count in zip(pieces, counts.tolist(), strict=True)]
        flat = cells(np.concatenate([np.zeros(0, np.uint8), *bits]).astype(np.bool_))
    else:
        flat = _elements(column, np.concatenate([np.zeros(0, np.uint8), *pieces]).view(element))
    ends = np.cumsum([0, *counts.tolist()])
    if column.code in "CM":
        ends, flat = 2 * ends, flat.values
    return pa.ListArray.from_arrays(ends.astype(np.int32), flat)
