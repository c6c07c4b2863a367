"""Which columns of a foreign table are its identifiers and positions, and what they say in the catalogue's types."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specflight.catalog.allowlist import nearest
from specflight.catalog.tableids import IdMaker, id_maker
from specflight.errors import InvalidRequest

__all__ = ["POSITION_NAMES", "TableKeys", "find_keys", "is_number"]

POSITION_NAMES = (
    ("ra", "dec"),
    ("raj2000", "dej2000"),
    ("raj2000", "decj2000"),
    ("ra_j2000", "dec_j2000"),
    ("_raj2000", "_dej2000"),
    ("_ra", "_dec"),
    ("_ra", "_de"),
    ("ra_icrs", "de_icrs"),
    ("ra_deg", "dec_deg"),
    ("radeg", "decdeg"),
    ("radeg", "dedeg"),
    ("plug_ra", "plug_dec"),
    ("target_ra", "target_dec"),
    ("alpha_j2000", "delta_j2000"),
    ("alpha", "delta"),
    ("right_ascension", "declination"),
)
"""Names of right ascension and declination, the first pair that a table has counts; before them, the columns whose
UCD says that they are the main position."""

_LIMITS = {"ra": 360.0, "dec": 90.0}
_UCDS = {"ra": ({"pos.eq.ra", "meta.main"}, "pos_eq_ra_main"), "dec": ({"pos.eq.dec", "meta.main"}, "pos_eq_dec_main")}
_HOURS = re.compile(r"[\s'\"]*(h|hrs?|hours?|hourangle|h\s*:?\s*m.*)[\s'\"]*", re.IGNORECASE)
_NUMBER = r"(?i)^([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan)$"


@dataclass(frozen=True, slots=True)
class TableKeys:
    """Identifiers and positions of a table.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the table that `apply` gives.
    id_column, ra, dec : str or None
        Columns of `schema`; identifiers are uint64, positions float64 in degrees.
    maker : IdMaker or None
        What makes the identifiers, where they are no column of the file.
    """

    schema: pa.Schema
    id_column: str | None
    ra: str | None
    dec: str | None
    maker: IdMaker | None

    def apply(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """Bring rows to the types of the catalogue.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            Rows of the table.
        first : int
            Number of its first row, counted from 1, for the messages.

        Returns
        -------
        pyarrow.RecordBatch
            Signed identifiers are unsigned ones (2^64 is added to negative ones), text is read. NaN in a position is
            null.

        Raises
        ------
        InvalidRequest
            If a value is no identifier or no place on the sky; the text names the row and the value.
        """
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        if self.maker is not None:
            columns[self.schema.names[-1]] = self.maker.make(batch)
        elif self.id_column is not None:
            columns[self.id_column] = _ids(self.id_column, columns[self.id_column], first)
        for role, name in (("ra", self.ra), ("dec", self.dec)):
            if name is not None:
                columns[name] = _degrees(role, name, columns[name], first)
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=self.schema)


def find_keys(
    schema: pa.Schema,
    *,
    id_column: str | None,
    ra: str | None,
    dec: str | None,
    spectra: NDArray[np.uint64],
) -> TableKeys:
    """Find the identifiers and the positions of a table.

    Identifiers are in the column named, else in one called specobjid (specobj_id, specobj-id, ...). Where there is
    none, they are packed from plate, mjd, fiberid (or fiber) and run2d into a new column ``specobjid``; without run2d
    they are those of the only spectrum of that plate, mjd and fiberid. They are null where that gives none.

    Positions are in the columns named, else in those of `POSITION_NAMES`.

    Parameters
    ----------
    schema : pyarrow.Schema
        With lower-case names.
    id_column, ra, dec : str or None
        Names that the user gives, in any case.
    spectra : ndarray of uint64
        Identifiers of the context's spectra.

    Returns
    -------
    TableKeys

    Raises
    ------
    InvalidRequest
        If there is no such column, it is of a type that cannot be, or is in another unit than degrees.
    """
    if (ra is None) != (dec is None):
        raise InvalidRequest(f"{'dec' if dec is None else 'ra'}: --ra and --dec are given together or not at all")
    found = _find_id(schema) if id_column is None else _named(schema, "id", id_column)
    maker = id_maker(schema, spectra) if found is None else None
    fields = {field.name: field for field in schema}
    if found is not None:
        _check_id(fields[found])
        fields[found] = fields[found].with_type(pa.uint64())
    elif maker is not None:
        found = "specobjid"
        fields[found] = pa.field(found, pa.uint64(), metadata={"description": f"Identifier, {maker.origin}"})
    place: tuple[str | None, str | None] = _find_position(schema) or (None, None)
    if ra is not None and dec is not None:
        place = _named(schema, "ra", ra), _named(schema, "dec", dec)
    for role, name in zip(_LIMITS, place, strict=True):
        if name is not None:
            if name == found or (role == "dec" and name == place[0]):
                raise InvalidRequest(f"{role}: the column '{name}' cannot be two things")
            _check_degrees(role, fields[name])
            stated = {**(fields[name].metadata or {}), b"unit": b"deg"}
            fields[name] = pa.field(name, pa.float64(), metadata=stated)
    return TableKeys(pa.schema(list(fields.values())), found, *place, maker)


def _named(schema: pa.Schema, option: str, name: str) -> str:
    if name.lower() not in schema.names:
        raise InvalidRequest(f"{option}: the table has no column '{name}'{nearest(name, schema.names)}")
    return name.lower()


def _find_id(schema: pa.Schema) -> str | None:
    called = [name for name in schema.names if re.sub(r"[^a-z0-9]", "", name) == "specobjid"]
    return "specobjid" if "specobjid" in called else next(iter(called), None)


def _find_position(schema: pa.Schema) -> tuple[str, str] | None:
    """Find the columns of positions: numbers in degrees before others."""
    main = [next((f.name for f in schema if _is_main(f, *_UCDS[role])), "") for role in ("ra", "dec")]
    pairs = [pair for pair in ((main[0], main[1]), *POSITION_NAMES) if set(pair) <= set(schema.names)]
    for ra, dec in pairs:
        if all(is_number(schema.field(name).type) and _in_degrees(schema.field(name)) for name in (ra, dec)):
            return ra, dec
    return next(iter(pairs), None)


def _is_main(field: pa.Field, words: set[str], old: str) -> bool:
    ucd = (field.metadata or {}).get(b"ucd", b"").decode().lower()
    return ucd == old or words <= set(ucd.split(";"))


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column of some type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_degrees(field: pa.Field) -> bool:
    """Whether a column's unit is degrees, or says nothing of angles and hours."""
    from astropy import units

    text = (field.metadata or {}).get(b"unit", b"").decode()
    unit = units.Unit(text, parse_strict="silent")
    return not _HOURS.fullmatch(text) and (unit == units.deg or not unit.is_equivalent(units.deg))


def _check_id(field: pa.Field) -> None:
    if pa.types.is_floating(field.type):
        raise InvalidRequest(
            f"id: the column '{field.name}' holds floats ({field.type}), which lose the last digits of identifiers"
        )
    if not (is_number(field.type) or _is_text(field.type)):
        raise InvalidRequest(f"id: the column '{field.name}' holds {field.type}, not identifiers")


def _check_degrees(role: str, field: pa.Field) -> None:
    if not _in_degrees(field):
        unit = field.metadata[b"unit"].decode()
        raise InvalidRequest(f"{role}: the column '{field.name}' is in '{unit}'; convert it to degrees")
    if not (is_number(field.type) or _is_text(field.type)):
        raise InvalidRequest(f"{role}: the column '{field.name}' holds {field.type}, not degrees")


def _ids(name: str, values: pa.Array, first: int) -> pa.Array:
    """Identifiers as uint64."""
    if pa.types.is_unsigned_integer(values.type):
        return values.cast(pa.uint64())
    if pa.types.is_signed_integer(values.type):
        return values.cast(pa.int64()).view(pa.uint64())
    digits = _stripped(values)
    unread = pc.invert(pc.match_substring_regex(digits, "^-?[0-9]+$"))
    _refuse_first(unread, digits, first, f"id: '{name}'", "no identifier")
    signed = pc.starts_with(digits, "-")
    try:
        negative = pc.if_else(signed, digits, None).cast(pa.int64()).view(pa.uint64())
        return pc.coalesce(negative, pc.if_else(signed, None, digits).cast(pa.uint64()))
    except pa.ArrowInvalid as error:
        number = re.search(r"-?\d{15,}", str(error))
        raise InvalidRequest(f"id: '{name}' holds {number[0][:40] if number else 'a number'}, beyond 64 bits") from None


def _stripped(values: pa.Array) -> pa.Array:
    """Text without blanks around it; null where nothing is left."""
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _degrees(role: str, name: str, values: pa.Array, first: int) -> pa.Array:
    """Coordinates as float64, null where they are NaN."""
    where = f"{role}: '{name}'"
    if _is_text(values.type):
        values = _stripped(values)
        unread = pc.invert(pc.match_substring_regex(values, _NUMBER))
        _refuse_first(unread, values, first, where, "no number of degrees")
    numbers = values.cast(pa.float64(), safe=False)
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    limit = _LIMITS[role]
    wrong = pc.greater(pc.abs(numbers), limit)
    _refuse_first(wrong, values, first, where, f"outside of -{limit:g} to {limit:g} degrees")
    return numbers


def _refuse_first(wrong: pa.Array, values: pa.Array, first: int, where: str, reason: str) -> None:
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise InvalidRequest(f"{where} is {str(values[row].as_py())[:60]!r} in row {first + row}, {reason}")
