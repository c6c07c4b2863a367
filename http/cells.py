"""Columns of a table as texts, cell by cell: what CSV, JSON and VOTable are made of.

Floats are the shortest text that reads back to the same bits, of their own precision. Everything is done column by
column in Arrow, so that other requests can run meanwhile; Python sees only the texts that need a quote or an escape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["csv_cells", "finite", "join", "json_cells", "mend", "plain_cells", "slices", "spaced_cells", "takes_quotes"]

SLICE_ROWS = 32_768
SLICE_BYTES = 4 << 20
"""Rows, and their bytes in Arrow, that are turned into text at a time."""

# Anything that a reader of CSV could take for the end of a cell (RFC 4180, section 2).
_CSV_ODD = r'[",\r\n]'
# What a JSON text may not hold as it is (RFC 8259, section 7).
_JSON_ODD = r'["\\\x00-\x1f]'


def slices(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut batches into such as are turned into text at once, none of them empty."""
    for batch in batches:
        step = max(1, min(SLICE_ROWS, SLICE_BYTES * batch.num_rows // max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, step):
            yield batch.slice(start, step)


def plain_cells(values: pa.Array) -> pa.Array:
    """Texts of a column's cells, without quotes.

    Parameters
    ----------
    values : pyarrow.Array
        Of any type.

    Returns
    -------
    pyarrow.StringArray
        Null where the value is. Booleans are ``True`` and ``False``; floats always have a point or an exponent, or
        are ``nan``, ``inf`` and ``-inf``; lists and structures are as in `json_cells`.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "True", "False")
    if pa.types.is_floating(kind):
        return _floats(values)
    if pa.types.is_nested(kind):
        return json_cells(values)
    return _cast(values)


def csv_cells(values: pa.Array) -> pa.Array:
    """Texts of a column's cells as they stand in CSV: `plain_cells`, in quotes where they need them."""
    texts = plain_cells(values)
    numeric = pa.types.is_primitive(values.type)
    return texts if numeric else mend(texts, _CSV_ODD, lambda text: '"' + text.replace('"', '""') + '"')


def json_cells(values: pa.Array) -> pa.Array:
    """Texts of a column's cells as JSON values.

    Parameters
    ----------
    values : pyarrow.Array
        Of any type.

    Returns
    -------
    pyarrow.StringArray
        Null where the value is, and where a float is not finite. What `takes_quotes` is a JSON string.
    """
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "true", "false")
    if pa.types.is_floating(kind):
        texts = _floats(values)
        return texts if finite(values) else pc.if_else(pc.is_finite(values), texts, None)
    if _is_list(kind):
        return _lists(values, json_cells, "[", ",", "]", "null")
    if pa.types.is_struct(kind):
        return _structures(values)
    if pa.types.is_map(kind):
        return json_cells(values.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    texts = plain_cells(values)
    if not takes_quotes(kind):
        return texts
    escaped = texts
    if not pa.types.is_primitive(kind):
        escaped = mend(texts, _JSON_ODD, lambda text: json.dumps(text, ensure_ascii=False)[1:-1])
    return pc.binary_join_element_wise('"', escaped, '"', "")


def takes_quotes(kind: pa.DataType) -> bool:
    """Whether a value is a string in JSON: all but booleans, floats, small integers, lists and structures.

    JavaScript knows integers up to 2^53 only. That those of 64 bits are strings, whatever their value, is what the JSON
    form of protocol buffers does, too (https://protobuf.dev/programming-guides/json/).
    """
    small = pa.types.is_integer(kind) and kind.bit_width < 64
    return not (small or pa.types.is_boolean(kind) or pa.types.is_floating(kind) or pa.types.is_nested(kind))


def finite(values: pa.Array) -> bool:
    """Whether all floats of a column that are not missing are numbers and no infinities."""
    return bool(pc.all(pc.is_finite(values), min_count=0).as_py())


def spaced_cells(values: pa.Array, cells: Callable[[pa.Array], pa.Array], null: str) -> pa.Array:
    """Texts of lists: of their values with blanks between, `null` for a missing one."""
    return _lists(values, cells, "", " ", "", null)


def mend(texts: pa.Array, odd: str, write: Callable[[str], str]) -> pa.Array:
    """Write those texts in another way that have something odd in them.

    Parameters
    ----------
    texts : pyarrow.StringArray
    odd : str
        Regular expression (RE2's) of what is odd.
    write : callable
        Gives the text to write.
    """
    found = pc.fill_null(pc.match_substring_regex(texts, odd), False)
    if not pc.any(found).as_py():
        return texts
    mended = [write(text) for text in texts.filter(found).to_pylist()]
    return pc.replace_with_mask(texts, found, pa.array(mended, pa.string()))


def join(columns: list[pa.Array], before: str, between: str, after: str, null: str) -> memoryview:
    """Put the cells of all rows one behind the other.

    Parameters
    ----------
    columns : list of pyarrow.StringArray
        Of the same length, at least one.
    before, between, after : str
        What stands before a row, between its cells and behind it.
    null : str
        Stands for a missing cell.

    Returns
    -------
    memoryview
        UTF-8.
    """
    rows = pc.binary_join_element_wise(*columns, between, null_handling="replace", null_replacement=null)
    rows = pc.binary_join_element_wise(before, rows, after, "")
    text = rows.buffers()[2]
    return memoryview(b"") if text is None else memoryview(text).cast("B")[: pc.sum(pc.binary_length(rows)).as_py()]


def _floats(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    whole = pc.fill_null(pc.equal(pc.floor(values), values), False)
    if not pc.any(whole).as_py():
        return texts
    # A reader must not take a column of 1.0 and -0.0 for integers.
    pointed = pc.replace_substring_regex(texts.filter(whole), r"^(-?\d+)$", r"\1.0")
    return pc.replace_with_mask(texts, whole, pointed)


def _cast(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.string())
    written = [value.hex() if isinstance(value, bytes) else value for value in values.to_pylist()]
    return pa.array([None if value is None else str(value) for value in written], pa.string())


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _lists(
    values: pa.Array, cells: Callable[[pa.Array], pa.Array], before: str, between: str, after: str, null: str
) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(values), 0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    items = pc.fill_null(cells(pc.list_flatten(values)), null)
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, items), between)
    return pc.if_else(values.is_valid(), pc.binary_join_element_wise(before, joined, after, ""), None)


def _structures(values: pa.Array) -> pa.Array:
    members = [
        pc.binary_join_element_wise(json.dumps(field.name) + ":", pc.fill_null(json_cells(column), "null"), "")
        for field, column in zip(values.type, values.flatten(), strict=True)
    ]
    joined = pc.binary_join_element_wise(*members, ",") if members else pa.array([""] * len(values))
    return pc.if_else(values.is_valid(), pc.binary_join_element_wise("{", joined, "}", ""), None)
