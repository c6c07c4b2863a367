"""Tables as VOTable, written while their rows arrive.

The standard is VOTable 1.4 (https://www.ivoa.net/documents/VOTable/20191021/); the values are in TABLEDATA, which
every reader takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pyarrow.compute as pc

from specflight.client._transport import Stream
from specflight.http.cells import finite, join, mend, plain_cells, slices, spaced_cells

__all__ = ["votable_pieces"]

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK"/>
<TABLE>
"""
_TAIL = b"</TABLEDATA>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n"

# What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets), but for surrogates, which Arrow does not know.
_NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ODD = r"[<>&\x00-\x08\x0b-\x1f\x{FFFE}\x{FFFF}]"


@dataclass(frozen=True, slots=True)
class _Datatype:
    """A type of VOTable's (section 2.1 of the standard).

    Attributes
    ----------
    name : str
    null : str
        Stands for a missing value within an array.
    """

    name: str
    null: str = ""


# Signed and unsigned integers go into the next type that holds them; there is none for unsigned ones of 64 bits.
_DATATYPES = {
    pa.bool_(): _Datatype("boolean", "?"),
    pa.uint8(): _Datatype("short", "-32768"),
    pa.int8(): _Datatype("short", "-32768"),
    pa.int16(): _Datatype("short", "-32768"),
    pa.uint16(): _Datatype("int", "-2147483648"),
    pa.int32(): _Datatype("int", "-2147483648"),
    pa.uint32(): _Datatype("long", "-9223372036854775808"),
    pa.int64(): _Datatype("long", "-9223372036854775808"),
    pa.float32(): _Datatype("float", "NaN"),
    pa.float64(): _Datatype("double", "NaN"),
}
_DIGITS = _Datatype("char")
_TEXT = _Datatype("unicodeChar")


def votable_pieces(stream: Stream) -> Iterator[bytes | memoryview]:
    """VOTable with the columns' units, descriptions and UCDs.

    Unsigned integers of 64 bits, as identifiers are, are texts of digits, since the standard's integers end at 2^63;
    missing values are empty cells. Lists of numbers are arrays, in which the least integer stands for a missing one;
    dates, structures and lists of other things are texts.
    """
    fields = "".join(map(_field, stream.schema))
    yield f"{_HEAD}{fields}<DATA>\n<TABLEDATA>\n".encode()
    for rows in slices(stream.batches):
        yield join([_cells(column) for column in rows.columns], "<TR><TD>", "</TD><TD>", "</TD></TR>\n", "")
    yield _TAIL


def _field(field: pa.Field) -> str:
    about = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in _told(field)}
    datatype, size = _datatype(field.type)
    attributes = {"name": field.name, "datatype": datatype.name}
    attributes |= {"arraysize": size} if size else {}
    attributes |= {key: about[key] for key in ("unit", "ucd") if about.get(key)}
    inside = f"<DESCRIPTION>{_xml(about['description'])}</DESCRIPTION>" if about.get("description") else ""
    if size and datatype.null.startswith("-"):
        inside += f'<VALUES null="{datatype.null}"/>'
    told = "".join(f" {key}={quoteattr(_NO_XML.sub('?', value))}" for key, value in attributes.items())
    return f"<FIELD{told}>{inside}</FIELD>\n"


def _told(field: pa.Field) -> list[tuple[bytes, bytes]]:
    return list((field.metadata or {}).items())


def _datatype(kind: pa.DataType) -> tuple[_Datatype, str]:
    """Type of a column and of the size of its arrays; none for single values."""
    if kind == pa.uint64():
        return _DIGITS, "*"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        size = str(kind.list_size) if pa.types.is_fixed_size_list(kind) else "*"
        return (_DATATYPES[kind.value_type], size) if kind.value_type in _DATATYPES else (_TEXT, "*")
    return (_DATATYPES[kind], "") if kind in _DATATYPES else (_TEXT, "*")


def _cells(values: pa.Array) -> pa.Array:
    datatype, size = _datatype(values.type)
    if datatype is _DIGITS:
        return plain_cells(values)
    if datatype is _TEXT:
        return mend(plain_cells(values), _ODD, _xml)
    return spaced_cells(values, _values, datatype.null) if size else _values(values)


def _values(values: pa.Array) -> pa.Array:
    """Texts of numbers and booleans."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "T", "F")
    texts = plain_cells(values)
    if not pa.types.is_floating(kind) or finite(values):
        return texts
    names = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}
    return mend(texts, "^(nan|-?inf)$", names.__getitem__)


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("?", text), {"\r": "&#13;"})
