"""Rows of specobj, as spec files hold them in HDU 2, as one Arrow table.

The rows of a release differ in their layouts, mostly by the widths of their strings only. So rows are grouped by all
but these: the numbers of a group are converted column by column, the strings row by row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specflight.catalog.unify import conform, unify_schemas
from specflight.flight.fits import SpecFile, SpecobjRow
from specflight.flight.fitstable import BY_ROW, ELEMENTS, Column, TableLayout, physical

__all__ = ["specobj_table"]

# Columns that every answer has, in the order and the types of the service's tables.
_ALWAYS = pa.schema(
    [
        ("specobjid", pa.uint64()),
        pa.field("ra", pa.float64(), metadata={b"unit": b"deg"}),
        pa.field("dec", pa.float64(), metadata={b"unit": b"deg"}),
        ("z", pa.float32()),
        ("zerr", pa.float32()),
        ("zwarning", pa.int32()),
        ("class", pa.string()),
        ("subclass", pa.string()),
        ("plate", pa.int32()),
        ("mjd", pa.int32()),
        ("fiberid", pa.int32()),
        ("run2d", pa.string()),
        ("survey", pa.string()),
    ]
)
_IDENTITY = ("specobjid", "plate", "mjd", "fiberid", "run2d")
_UNSIGNED_IDS = frozenset({"specobjid", "plateid"})
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


def specobj_table(files: Sequence[SpecFile]) -> pa.Table:
    """Put the specobj rows of files together.

    Parameters
    ----------
    files : sequence of SpecFile

    Returns
    -------
    pyarrow.Table
        One row per file, in order. First the columns that are always there: ``specobjid`` (uint64), ``ra`` and
        ``dec`` (float64, degrees), ``z``, ``zerr``, ``zwarning``, ``class``, ``subclass``, ``plate``, ``mjd``,
        ``fiberid``, ``run2d`` and ``survey``; then every other column of HDU 2 under its lower-case name. Null is
        what a file does not state. Cells of several values are lists; identifiers that are strings of digits
        (``...objid``, ``plateid``) become integers. TUNIT is the fields' metadata ``unit``.

    Notes
    -----
    RA and DEC of BOSS files are those of the photometric object that was matched to the fibre, and 0 or NaN where
    there was no match; legacy files know the fibre's PLUG_RA and PLUG_DEC only. ``ra`` and ``dec`` are the former
    where they are a position, else the latter, else those of the primary header.
    """
    groups: dict[str, list[int]] = {}
    for i, file in enumerate(files):
        key = "" if file.specobj is None else file.specobj.layout.kind
        groups.setdefault(key, []).append(i)
    tables = [_group_table([files[i] for i in members]) for members in groups.values()]
    schema = unify_schemas([_ALWAYS, *(table.schema for table in tables)])
    table = pa.concat_tables([conform(part, schema) for part in tables] or [schema.empty_table()])
    order = np.concatenate([np.asarray(members) for members in groups.values()] or [np.empty(0, np.int64)])
    return table.take(np.argsort(order)).combine_chunks()


@dataclass(frozen=True, slots=True)
class _Stated:
    """What the files of a group state in one column."""

    values: pa.Array
    unit: str | None = None


def _group_table(files: Sequence[SpecFile]) -> pa.Table:
    rows = [file.specobj for file in files if file.specobj is not None]
    stated = _columns(rows) if rows else {}
    if "zerr" not in stated and "z_err" in stated:
        stated["zerr"] = stated.pop("z_err")
    for name in _IDENTITY:
        stated[name] = _Stated(pa.array([getattr(file, name) for file in files], _ALWAYS.field(name).type))
    ra, dec = _positions(files, stated)
    stated["ra"], stated["dec"] = (_Stated(pa.array(x, from_pandas=True), "deg") for x in (ra, dec))
    names = [name for name in _ALWAYS.names if name in stated] + [name for name in stated if name not in _ALWAYS.names]
    units = {name: {b"unit": unit.encode()} if (unit := stated[name].unit) else None for name in names}
    fields = [pa.field(name, stated[name].values.type, metadata=units[name]) for name in names]
    return pa.table([stated[name].values for name in names], schema=pa.schema(fields))


def _positions(
    files: Sequence[SpecFile], stated: dict[str, _Stated]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Choose the objects' positions in degrees; NaN where a file has none."""
    unknown = (float("nan"), float("nan"))
    ra, dec = np.array([file.ra_dec or unknown for file in files], np.float64).T
    for names in (("plug_ra", "plug_dec"), ("ra", "dec")):
        pair = [stated[name].values for name in names if name in stated]
        if len(pair) == 2 and all(pa.types.is_floating(values.type) for values in pair):
            x, y = (column.to_numpy(zero_copy_only=False).astype(np.float64) for column in pair)
            usable = (np.abs(x) <= 360) & (np.abs(y) <= 90) & ((x != 0) | (y != 0) | np.isnan(ra))
            ra, dec = np.where(usable, x, ra), np.where(usable, y, dec)
    return ra, dec


def _columns(rows: Sequence[SpecobjRow]) -> dict[str, _Stated]:
    """Convert the columns of rows of one kind, and name their units."""
    first = rows[0].layout
    packed = first.numbers
    data = b"".join([row.data[part] for row in rows for part in row.layout.number_parts])
    numbers = iter(packed.columns)
    columns: dict[str, _Stated] = {}
    for i, column in enumerate(first.columns):
        if column.code in BY_ROW:
            array = pa.array([_cell(row, row.layout.columns[i]) for row in rows])
        else:
            array = _numbers(packed, next(numbers), data, len(rows))
        # Of columns whose names differ in case only, the first counts.
        columns.setdefault(column.name.lower(), _Stated(_as_ids(column.name.lower(), array), column.unit))
    return columns


def _numbers(layout: TableLayout, column: Column, data: bytes, rows: int) -> pa.Array:
    raw = layout.raw(column, data, rows)
    null: NDArray[np.bool_] | None
    if column.code == "L":
        values, null = raw == ord("T"), raw == 0
    elif column.code == "X":
        values, null = np.unpackbits(raw, axis=1, count=column.repeat).astype(np.bool_), None
    else:
        values, null = physical(column, raw)
    flat = pa.array(values.ravel(), mask=None if null is None else null.ravel())
    if column.repeat == 1 and column.code not in "CM":
        return flat
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * values.shape[1], flat)


def _cell(row: SpecobjRow, column: Column) -> str | Sequence[object] | None:
    """Read a cell of strings, or the elements of a variable-length array."""
    cell = row.data[column.offset : column.offset + column.width]
    if column.code == "A":
        starts = range(0, column.width - column.item + 1, column.item or 1) if column.width else ()
        strings = [_text(cell[start : start + column.item], column.name) for start in starts]
        return strings if column.item < column.width else (strings or [""])[0]
    code = column.detail[:1]
    if code not in ELEMENTS or code in "PQ" or len(cell) == 0:
        return None
    count, start = (int(word) for word in np.frombuffer(cell, ELEMENTS[column.code], 2))
    dtype = np.dtype(ELEMENTS[code])
    stored = row.data[row.layout.heap + start :][: count * dtype.itemsize]
    if count < 0 or start < 0 or len(stored) < count * dtype.itemsize:
        return None
    if code == "A":
        return _text(stored, column.name)
    values, null = physical(replace(column, code=code), np.frombuffer(stored, dtype))
    return [None if null is not None and null[i] else value for i, value in enumerate(values.tolist())]


def _text(stored: bytes, name: str) -> str:
    text = stored.partition(b"\0")[0].decode("latin-1").rstrip(" ")
    return text.lstrip(" ") if name.lower().endswith("id") else text


def _as_ids(name: str, array: pa.Array) -> pa.Array:
    """Make identifiers integers: strings of digits, and signed numbers that hold unsigned ones."""
    if not (name.endswith("objid") or name == "plateid"):
        return array
    unsigned = name in _UNSIGNED_IDS
    if pa.types.is_signed_integer(array.type) and unsigned:
        return array.cast(pa.int64()).view(pa.uint64())
    if not pa.types.is_string(array.type):
        return array
    texts = [text.strip() if text else "" for text in array.to_pylist()]
    if not all(_INTEGER.fullmatch(text) or not text for text in texts):
        return array
    numbers = [int(text) if text else None for text in texts]
    if unsigned:
        numbers = [None if number is None else number % 2**64 for number in numbers]
    try:
        return pa.array(numbers, pa.uint64() if unsigned else pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return array
