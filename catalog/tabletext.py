"""CSV tables and their relatives, typed by all of their rows and read a block at a time.

A file is read twice: once to find the type of every column, once for the values. No number goes through a float on
its way unless its column holds floats.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from specflight.catalog.tablecells import BATCH_ROWS, TableFile, described, lower_names, refuse
from specflight.catalog.textdialect import NUMBER, Dialect, Rows, find_fault, sniff_dialect

__all__ = ["read_text"]

BLOCK_BYTES = 4 << 20
"""Bytes that are parsed at a time; a row cannot be longer."""

_INTEGER = r"^[+-]?[0-9]+$"
_NAN = r"(?i)^[+-]?nan$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_BOOLEAN = r"(?i)^(true|false)$"
_NOTHING = r"(?i)^(null|none|n/?a|-+|\\n)$"


def read_text(path: Path, name: Path) -> TableFile:
    r"""Read a table of text: comma, tab or semicolon between the values, or blanks.

    The header is the first line, or the last of the lines in front that begin with ``#``; later ones are comments.
    Values may be quoted, by ``"`` or by ``'`` throughout. The type of a column is that of all its values: int64, else
    uint64, else float64, else boolean (true, false), else text. Nothing between two delimiters is null, and so are
    the usual words for nothing (NULL, None, NA, N/A, --, \N) in a column that is not text, and NaN among integers.

    Parameters
    ----------
    path : Path
        The file, gzipped or not.
    name : Path
        What it is called in messages.

    Returns
    -------
    TableFile

    Raises
    ------
    InvalidRequest
        If the file is empty, not text or has no header, or, naming the line, if a row has too few or too many values.
    """
    dialect = sniff_dialect(path, name)
    names = lower_names(name, dialect.names)
    try:
        kinds, rows = _kinds(path, name, dialect)
    except _NotUtf8:
        dialect = replace(dialect, encoding="latin-1")
        kinds, rows = _kinds(path, name, dialect)
    schema = pa.schema([described(column, kind) for column, kind in zip(names, kinds, strict=True)])
    return TableFile(schema, rows, _batches(path, name, dialect, schema))


class _NotUtf8(Exception):
    """The file holds bytes that are not UTF-8."""


def _strings(path: Path, name: Path, dialect: Dialect) -> Iterator[pa.RecordBatch]:
    """Give the values of a file as stripped strings, null where there is nothing, in blocks."""
    columns = [str(i) for i in range(len(dialect.names))]
    try:
        with (
            Rows(path, dialect) as rows,
            pacsv.open_csv(
                rows,
                pacsv.ReadOptions(
                    block_size=BLOCK_BYTES, column_names=columns, use_threads=False, encoding=dialect.encoding
                ),
                pacsv.ParseOptions(delimiter=dialect.separator, quote_char=dialect.quote, newlines_in_values=True),
                pacsv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            ) as reader,
        ):
            for batch in reader:
                yield pa.RecordBatch.from_arrays([_stripped(array) for array in batch.columns], columns)
    except (OSError, EOFError, zlib.error) as error:
        raise refuse(name, f"cannot be read: {error}") from error
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        if "Empty CSV" in reason:
            return  # a header alone
        if "UTF8" in reason and dialect.encoding == "utf-8":
            raise _NotUtf8 from None
        raise find_fault(path, name, dialect) or refuse(name, f"cannot be read: {reason}") from error


def _stripped(values: pa.Array) -> pa.Array:
    values = pc.ascii_trim_whitespace(values)
    empty = pc.equal(pc.binary_length(values), 0)
    return pc.if_else(empty, None, values) if pc.any(empty).as_py() else values


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Read strings as numbers, None where they are not all such; hexadecimal ones are none."""
    try:
        numbers = values.cast(kind)
    except pa.ArrowInvalid:
        return None
    hexadecimal = pa.types.is_integer(kind) and pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py()
    return None if hexadecimal else numbers


@dataclass(slots=True)
class _Seen:
    """What the values of a column were so far."""

    words: bool = False
    booleans: bool = False
    floats: bool = False
    nan: bool = False
    integers: bool = False
    low: int = 0
    high: int = 0

    def add(self, column: pa.Array) -> None:
        """Take note of more values."""
        if self.words:
            return
        values = pc.drop_null(column)
        if self.floats and _cast(values, pa.float64()) is not None:
            return
        if len(values) and _cast(values, pa.int64()) is not None:
            self._add_integers(values)
            return
        integer = pc.match_substring_regex(values, _INTEGER)
        others = values.filter(pc.invert(integer))
        if len(others) < len(values):
            self._add_integers(values.filter(integer))
        for pattern, flag in ((NUMBER, "floats"), (_NAN, "nan"), (_INFINITE, "floats"), (_BOOLEAN, "booleans")):
            if len(others):
                found = pc.match_substring_regex(others, pattern)
                if pc.any(found).as_py():
                    setattr(self, flag, True)
                    others = others.filter(pc.invert(found))
        nothing = pc.match_substring_regex(others, _NOTHING)
        self.words = not pc.all(nothing, min_count=0).as_py()

    def _add_integers(self, values: pa.Array) -> None:
        """Take note of digits."""
        self.integers = True
        for value in _extremes(values):
            self.low, self.high = min(self.low, value), max(self.high, value)

    @property
    def type(self) -> pa.DataType:
        """The type that holds them all."""
        number = self.integers or self.floats or self.nan
        if self.words or number == self.booleans:
            return pa.string()
        if self.booleans:
            return pa.bool_()
        if self.floats or not self.integers or (self.nan and max(-self.low, self.high) <= 2**53):
            return pa.float64()
        if self.low >= -(2**63) and self.high < 2**63:
            return pa.int64()
        return pa.uint64() if self.low == 0 and self.high < 2**64 else pa.string()


def _extremes(integers: pa.Array) -> tuple[int, int]:
    """Smallest and largest of integers in digits."""
    digits = pc.utf8_ltrim(integers, "+")
    for kind in (pa.int64(), pa.uint64()):
        try:
            both = pc.min_max(digits.cast(kind))
        except pa.ArrowInvalid:
            continue
        return both["min"].as_py(), both["max"].as_py()
    # beyond both types; Python refuses to read numbers of thousands of digits
    numbers = [int(text[:40]) for text in digits.to_pylist()]
    return min(numbers), max(numbers)


def _kinds(path: Path, name: Path, dialect: Dialect) -> tuple[list[pa.DataType], int]:
    """Find the type of every column, and the number of rows."""
    seen = [_Seen() for _ in dialect.names]
    rows, broken = 0, False
    for batch in _strings(path, name, dialect):
        rows += len(batch)
        for column, values in zip(seen, batch.columns, strict=True):
            column.add(values)
            broken = broken or pc.any(pc.match_substring(values, "\n")).as_py() is True
    # a quote that is never closed makes one value of the rest
    if broken and (fault := find_fault(path, name, dialect)):
        raise fault
    return [column.type for column in seen], rows


def _batches(path: Path, name: Path, dialect: Dialect, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for block in _strings(path, name, dialect):
        arrays = [_typed(values, kind) for values, kind in zip(block.columns, schema.types, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        for first in range(0, len(batch), BATCH_ROWS):
            yield batch.slice(first, BATCH_ROWS)


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Read strings as values of the type that was found for them; words for nothing become null."""
    if pa.types.is_string(kind):
        return values
    if pa.types.is_boolean(kind):
        stated = pc.match_substring_regex(values, _BOOLEAN)
        return pc.if_else(stated, pc.equal(pc.utf8_lower(values), "true"), None)
    if (numbers := _cast(values, kind)) is not None:
        return numbers
    pattern = _INTEGER if pa.types.is_integer(kind) else f"{NUMBER}|{_NAN}|{_INFINITE}"
    stated = pc.match_substring_regex(values, pattern)
    return pc.if_else(stated, pc.utf8_ltrim(values, "+"), None).cast(kind)
