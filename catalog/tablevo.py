"""VOTable and ECSV files, by astropy, which holds a whole table in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specflight.catalog.tablecells import (
    BATCH_ROWS,
    TableFile,
    cells,
    described,
    lower_names,
    refuse,
    text,
)

if TYPE_CHECKING:
    from astropy.table import Column

__all__ = ["read_ecsv", "read_votable"]


# Types of the elements of arrays of any length, which astropy does not tell.
_ELEMENTS = {"boolean": pa.bool_(), "bit": pa.bool_(), "unsignedByte": pa.uint8(), "short": pa.int16()}
_ELEMENTS |= {"int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64()}


@dataclass(frozen=True, slots=True)
class _Stated:
    """What a file states about a column."""

    name: str
    unit: object
    description: object
    ucd: str | None = None
    element: pa.DataType | None = None


def read_votable(path: Path, name: Path) -> TableFile:
    """Read the first table of a VOTable, of any serialisation.

    Missing values are null; a float that a VOTable states as NaN is missing too, which is what the standard says of it
    (https://www.ivoa.net/documents/VOTable/, "Null values").

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
        If it holds no table or is no VOTable.
    """
    from astropy.io import votable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real files break the standard in many ways that do not matter
        try:
            found = votable.parse(path, verify="ignore").get_first_table()
            table = found.to_table(use_names_over_ids=True)
        except Exception as error:  # of many kinds, warnings among them
            raise refuse(name, f"cannot be read as a VOTable: {_sentence(error)}") from error
    names = lower_names(name, [field.name or field.ID or "" for field in found.fields])
    fields = [
        _Stated(lower, field.unit, field.description, field.ucd, _ELEMENTS.get(field.datatype))
        for lower, field in zip(names, found.fields, strict=True)
    ]
    return _table(name, fields, list(table.columns.values()))


def read_ecsv(path: Path, name: Path) -> TableFile:
    """Read an ECSV table.

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
        If it is no ECSV table, or has columns that are objects of astropy, such as times.
    """
    from astropy.table import Column, Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = Table.read(path, format="ascii.ecsv")
        except Exception as error:  # of many kinds
            raise refuse(name, f"cannot be read as ECSV: {_sentence(error)}") from error
    for column in table.columns.values():
        if not isinstance(column, Column):
            raise refuse(name, f"has a column '{column.info.name}' of type {type(column).__name__}: write its numbers")
    fields = [
        _Stated(lower, column.unit, column.description)
        for lower, column in zip(lower_names(name, table.colnames), table.columns.values(), strict=True)
    ]
    return _table(name, fields, list(table.columns.values()))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _table(name: Path, fields: Sequence[_Stated], columns: Sequence[Column]) -> TableFile:
    if not columns:
        raise refuse(name, "has a table without columns")
    try:
        arrays = [_array(column, field.element) for column, field in zip(columns, fields, strict=True)]
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise refuse(name, f"has cells of no type that is known: {_sentence(error)}") from error
    schema = pa.schema(
        [
            described(
                field.name,
                array.type,
                unit=str(field.unit or ""),
                description=" ".join(str(field.description or "").split()),
                ucd=field.ucd,
                shape=",".join(map(str, column.shape[1:])) if column.ndim > 2 else "",
            )
            for field, array, column in zip(fields, arrays, columns, strict=True)
        ]
    )
    rows = pa.table(arrays, schema=schema)
    return TableFile(schema, len(rows), _batches(rows))


def _batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from rows.to_batches(max_chunksize=BATCH_ROWS)


def _array(column: Column, element: pa.DataType | None) -> pa.Array:
    null = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    values = np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "O":
        return _objects(column, element)
    if values.dtype.kind not in "SU":
        return cells(values, null)
    strings = text(np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values)
    if null is None or values.ndim > 1:
        return strings
    return pc.if_else(pa.array(null), pa.scalar(None, pa.string()), strings)


def _objects(column: Column, element: pa.DataType | None) -> pa.Array:
    """Strings, or arrays of any length whose elements are of the type that is stated or else of their own."""
    rows = [None if cell is np.ma.masked else cell.tolist() if hasattr(cell, "tolist") else cell for cell in column]
    if element is not None and not any(isinstance(row, str) for row in rows):
        return pa.array(rows, pa.list_(element))
    array = pa.array([cell.decode() if isinstance(cell, bytes) else cell for cell in rows])
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
