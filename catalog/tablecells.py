"""Columns of foreign tables as Arrow fields and arrays: what the readers of all formats share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specflight.errors import InvalidRequest

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "TableFile", "cells", "described", "lower_names", "queryable", "refuse", "text"]

BATCH_ROWS = 100_000
BATCH_BYTES = 32 << 20
"""Bytes of a file that a reader turns into Arrow at a time."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A foreign table that is about to be read.

    Attributes
    ----------
    schema : pyarrow.Schema
        Lower-case names and the types of every batch. A field's metadata has ``unit``, ``description``, ``ucd`` and
        ``shape`` (of a cell that has several axes, such as ``5,15``) where the file states them.
    rows : int
        Number of rows.
    batches : iterator of pyarrow.RecordBatch
        The rows in the file's order, once; each of at most `BATCH_ROWS` rows.
    """

    schema: pa.Schema
    rows: int
    batches: Iterator[pa.RecordBatch]


def refuse(path: Path, reason: str) -> InvalidRequest:
    """Error for a file that cannot be taken."""
    return InvalidRequest(f"FILE: {path} {reason}")


def lower_names(path: Path, names: Sequence[str]) -> list[str]:
    """Bring column names to the lower case that the catalogue knows.

    Parameters
    ----------
    path : Path
        The file, for the message.
    names : sequence of str
        As they stand in the file.

    Returns
    -------
    list of str

    Raises
    ------
    InvalidRequest
        If a name is empty or has control characters, or two become the same, which the text names.
    """
    known: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        lower = name.strip().lower()
        if not lower or not lower.isprintable():
            raise refuse(path, f"has no usable name for column {number}: {name!r}")
        if lower in known:
            raise refuse(path, f"has two columns of one name, '{known[lower]}' and '{name}': rename one")
        known[lower] = name
    return list(known)


def described(name: str, kind: pa.DataType, **stated: str | None) -> pa.Field:
    """Field with what a file states about a column.

    Parameters
    ----------
    name : str
    kind : pyarrow.DataType
    **stated : str or None
        Metadata; nothing, blanks and dashes (a catalogue's way to say that there is no unit) are left out.

    Returns
    -------
    pyarrow.Field
    """
    metadata = {key: value.strip() for key, value in stated.items() if value and value.strip(" -")}
    return pa.field(name, kind, metadata=metadata or None)


def queryable(kind: pa.DataType) -> pa.DataType:
    """Find the type that the catalogue has for values of any type of Arrow's that a Parquet file can hold.

    Parameters
    ----------
    kind : pyarrow.DataType

    Returns
    -------
    pyarrow.DataType
        The same where the database and the row store know it, else the next that values can be cast to: single
        precision for half, decimals of at most 38 digits or else doubles, strings for views and for columns that are
        all null, what an extension (UUIDs aside) or a dictionary stands for. The same goes for what lists, structs and
        maps hold.

    Raises
    ------
    TypeError
        If it is, or holds, a view of lists, which Arrow's library cannot turn into lists.
    """
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        raise TypeError(kind)
    if isinstance(kind, pa.BaseExtensionType) and kind != pa.uuid():
        return pa.bool_() if kind == pa.bool8() else queryable(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return queryable(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([_inner(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_inner(kind.key_field), _inner(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_inner(kind.value_field), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_inner(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_inner(kind.value_field))
    if pa.types.is_decimal256(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else pa.float64()
    return _CASTS.get(kind, kind)


_CASTS = {pa.float16(): pa.float32(), pa.binary_view(): pa.binary()}
_CASTS |= dict.fromkeys((pa.string_view(), pa.null()), pa.string())


def _inner(field: pa.Field) -> pa.Field:
    return pa.field(field.name, queryable(field.type), field.nullable)


def cells(values: NDArray[Any], null: NDArray[np.bool_] | None = None) -> pa.Array:
    """Turn the numbers of a column into an Arrow array.

    Parameters
    ----------
    values : ndarray of bool, int, float or complex, shape (n, ...)
        In any byte order.
    null : ndarray of bool, optional
        Where values are missing; of the shape of `values`.

    Returns
    -------
    pyarrow.Array
        Of n values, or of n lists: a cell of several axes in row-major order, a complex number as its two parts.
    """
    if values.dtype.kind == "c":
        parts = np.stack([values.real, values.imag], axis=-1)
        return cells(parts, None if null is None else np.stack([null, null], axis=-1))
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    flat = pa.array(native.reshape(-1), mask=None if null is None else np.ascontiguousarray(null).reshape(-1))
    if values.ndim == 1:
        return flat
    size = int(np.prod(values.shape[1:]))
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * np.int32(size), flat)


def text(values: NDArray[np.bytes_]) -> pa.Array:
    """Turn stored strings into Arrow strings.

    Parameters
    ----------
    values : ndarray of bytes, shape (n, ...)

    Returns
    -------
    pyarrow.Array
        Of n strings or lists of strings. A string ends before its first NUL and has no trailing blanks; bytes that
        are not UTF-8 are taken as Latin-1.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    try:
        strings = pa.array(flat, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        strings = pa.array(np.char.decode(flat, "latin-1").tolist(), pa.string())
    if pc.any(pc.match_substring(strings, "\0")).as_py():
        strings = pc.replace_substring_regex(strings, r"(?s)\x00.*", "")
    strings = pc.utf8_rtrim(strings, " ")
    if values.ndim == 1:
        return strings
    size = int(np.prod(values.shape[1:]))
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * np.int32(size), strings)
