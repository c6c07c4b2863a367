"""One schema for tables that say the same thing in different types.

Releases and surveys disagree on the types of their columns (``OBJID`` is five integers in legacy files, a string in
BOSS; string widths and integer sizes vary). `unify_schemas` finds the types that hold all of them and `conform` brings
a table to the result; together they are the only rule by which tables of different layouts are put together.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pt

from specflight.errors import UnsupportedFile

__all__ = ["conform", "unify_schemas"]

_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_UNSIGNED = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
# uint64 and a signed integer have no common integer type; twenty digits hold both.
_WIDE_INTEGER = pa.decimal128(20, 0)


def unify_schemas(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Find the schema that holds the rows of every given schema.

    Columns keep the order of their first appearance. Integers, floats and booleans promote to the smallest number type
    that holds both sides (a signed type with ``uint64`` becomes ``decimal128(20, 0)``; an integer of 64 bits with a
    float becomes ``float64``); lists promote by their values; everything else that differs becomes a string. Metadata,
    such as a column's unit, is kept where all schemas that state it agree.

    Parameters
    ----------
    schemas : sequence of pyarrow.Schema
        At least one; no schema may have two columns of one name.

    Returns
    -------
    pyarrow.Schema

    Raises
    ------
    UnsupportedFile
        Where a schema has two columns of one name.
    """
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        seen: set[str] = set()
        for field in schema:
            if field.name in seen:
                raise UnsupportedFile(f"the column '{field.name}' appears twice in one table")
            seen.add(field.name)
            known = fields.get(field.name)
            fields[field.name] = field if known is None else _merge(known, field)
    everywhere = set.intersection(*(set(schema.names) for schema in schemas))
    columns = [field if name in everywhere else field.with_nullable(True) for name, field in fields.items()]
    return pa.schema(columns, metadata=_agreed([schema.metadata for schema in schemas]))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a table to a schema that `unify_schemas` found for it.

    Parameters
    ----------
    table : pyarrow.Table
    schema : pyarrow.Schema
        Columns that the table lacks become null; columns that the schema does not name are left out. A list that
        becomes a string has its values separated by blanks.

    Returns
    -------
    pyarrow.Table
        Of exactly this schema, with as many rows as `table`.

    Raises
    ------
    UnsupportedFile
        Where a value does not fit into the column's type without loss (an integer beyond 2^53 in a column of floats).
    """
    known = set(table.column_names)
    columns = []
    for field in schema:
        if field.name not in known:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if column.type != field.type:
            try:
                column = _cast(column, field.type)
            except pa.ArrowInvalid as error:
                reason = str(error).splitlines()[0]
                raise UnsupportedFile(f"the column '{field.name}' does not fit into {field.type}: {reason}") from error
        columns.append(column)
    return pa.table(columns, schema=schema)


def _merge(a: pa.Field, b: pa.Field) -> pa.Field:
    metadata = _agreed([a.metadata, b.metadata])
    return pa.field(a.name, _promote(a.type, b.type), a.nullable or b.nullable, metadata)


def _agreed(stated: Sequence[dict[bytes, bytes] | None]) -> dict[bytes, bytes] | None:
    values: dict[bytes, set[bytes]] = {}
    for metadata in stated:
        for key, value in (metadata or {}).items():
            values.setdefault(key, set()).add(value)
    return {key: next(iter(value)) for key, value in values.items() if len(value) == 1} or None


def _promote(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    """Find the smallest type that holds the values of both."""
    if a == b or pt.is_null(b):
        return a
    if pt.is_null(a):
        return b
    if pt.is_dictionary(a) or pt.is_dictionary(b):
        return _promote(*(t.value_type if pt.is_dictionary(t) else t for t in (a, b)))
    if _is_number(a) and _is_number(b):
        return _promote_numbers(a, b)
    if _is_list(a) and _is_list(b):
        value = _promote(a.value_type, b.value_type)
        if pt.is_fixed_size_list(a) and pt.is_fixed_size_list(b) and a.list_size == b.list_size:
            return pa.list_(value, a.list_size)
        return pa.large_list(value) if pt.is_large_list(a) or pt.is_large_list(b) else pa.list_(value)
    try:
        pair = [pa.schema([("x", t)]) for t in (a, b)]
        return pa.unify_schemas(pair, promote_options="permissive").field("x").type
    except pa.ArrowTypeError:
        return pa.large_string() if pt.is_large_string(a) or pt.is_large_string(b) else pa.string()


def _promote_numbers(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if pt.is_floating(a) or pt.is_floating(b):
        # A float of n bits holds every integer of n / 2 bits (significands have 11, 24 and 53 bits).
        bits = max(t.bit_width if pt.is_floating(t) else min(64, 2 * _bits(t)) for t in (a, b))
        return {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}[bits]
    signed = [_bits(t) for t in (a, b) if pt.is_signed_integer(t)]
    unsigned = [_bits(t) for t in (a, b) if not pt.is_signed_integer(t)]
    if not signed:
        return _UNSIGNED[max(unsigned)]
    # A boolean fits into any integer, an unsigned integer needs a signed one of twice its size.
    bits = max(signed + [1 if t == 1 else 2 * t for t in unsigned]) if unsigned else max(signed)
    return _SIGNED.get(bits, _WIDE_INTEGER)


def _bits(number: pa.DataType) -> int:
    return 1 if pt.is_boolean(number) else int(number.bit_width)


def _is_number(t: pa.DataType) -> bool:
    return bool(pt.is_integer(t) or pt.is_floating(t) or pt.is_boolean(t))


def _is_list(t: pa.DataType) -> bool:
    return bool(pt.is_list(t) or pt.is_large_list(t) or pt.is_fixed_size_list(t))


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if pt.is_boolean(column.type) and pt.is_float16(to):
        return column.cast(pa.uint8()).cast(to)
    if pt.is_nested(column.type) and not pt.is_nested(to):
        # The numbers of a list are cast first: Python would write float32(0.1) as 0.10000000149011612.
        flat = _is_list(column.type) and not pt.is_nested(column.type.value_type)
        rows = (column.cast(pa.list_(pa.string())) if flat else column).to_pylist()
        return pa.chunked_array([[None if row is None else _text(row) for row in rows]], to)
    try:
        return column.cast(to)
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([[None if value is None else str(value) for value in column.to_pylist()]], to)


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join("" if v is None else _text(v) for v in value)
    return str(value)
