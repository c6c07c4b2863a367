"""Tuples (plate, mjd, fiberid, run2d) with wildcards, lists and ranges in place of numbers.

In a specobjid plate, fibre, MJD and reduction follow each other from the highest bit down. A pattern of single
numbers in that order, wildcards behind them, is therefore every specobjid from a first to a last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from specflight.catalog.identifiers import FIBERID, MJD, PLATE, RUN2D, BitField, run2d_code, run2d_name, shown
from specflight.errors import InvalidRequest

__all__ = ["LARGEST_PART", "Pattern", "Ranges"]

Ranges = tuple[tuple[int, int], ...]
"""Values of one part of a pattern: inclusive ranges, ascending, apart from each other."""

LARGEST_PART = 999_999
"""No plate, MJD or fibre is larger, and no specobjid smaller."""

_NAMES = ("plate", "mjd", "fiberid", "run2d")
_RANGE = re.compile(r"\s*([0-9]{1,6})(?:\s*[-:]\s*([0-9]{1,6}))?\s*")
_LINE_BITS = (1 << RUN2D.shift) - 1
_SHOWN_CHARACTERS = 60
_MOST_DIGITS = len(str(LARGEST_PART))
_MOST_VALUES = 1 << max(part.bits for part in (PLATE, MJD, FIBERID, RUN2D))
_INTEGER = (int, np.integer)  # as a tuple: much faster to test for than their union


@dataclass(frozen=True, slots=True)
class Pattern:
    """Spectra by plate, MJD, fibre and reduction; None stands for any value. Its text names it in an error.

    Attributes
    ----------
    plate, mjd, fiberid : Ranges or None
        Any numbers up to `LARGEST_PART`: those that no specobjid can hold match nothing.
    run2d : Ranges or None
        Numbers of reductions; see `specflight.catalog.identifiers.run2d_code`.

    Examples
    --------
    >>> print(Pattern.read([1963, "*", "1:5", "26,103"]))
    plate 1963, fiberid 1-5, run2d 26,103
    """

    plate: Ranges | None
    mjd: Ranges | None = None
    fiberid: Ranges | None = None
    run2d: Ranges | None = None

    @classmethod
    def read(cls, parts: Sequence[object]) -> Self:
        """Pattern of one to four parts.

        Parameters
        ----------
        parts : sequence
            Plate, MJD, fibre and reduction, each an integer, ``'*'``, a text such as ``'1,5'`` or, but for the
            reduction, ``'1-5'`` or ``'1:5'``, or a list or array of these.

        Raises
        ------
        InvalidRequest
            Naming the part that cannot be read.
        """
        values: list[Ranges | None] = []
        for name, part in zip(_NAMES, parts, strict=False):
            try:
                values.append(_read_part(part, _read_reduction if name == "run2d" else _read_range))
            except ValueError as error:
                raise InvalidRequest(f"ids: the {name} of {shown(tuple(parts))}: {error}") from None
        return cls(*values)

    @classmethod
    def between(cls, first: int, last: int) -> Self:
        """Pattern whose `ends` these are."""
        return cls(*(_shared(part, first, last) for part in (PLATE, MJD, FIBERID, RUN2D)))

    def ends(self) -> tuple[int, int] | None:
        """First and last specobjid, if the pattern is all between them; equal if all four parts are given."""
        first = last = 0
        is_open = False
        for part, ranges in ((PLATE, self.plate), (FIBERID, self.fiberid), (MJD, self.mjd), (RUN2D, self.run2d)):
            if ranges is None:
                is_open = True
                last |= part.largest - part.origin << part.shift
                continue
            value = ranges[0][0]
            if is_open or not _is_one(ranges) or not part.origin <= value <= part.largest:
                return None
            first |= value - part.origin << part.shift
            last |= value - part.origin << part.shift
        return first, last | _LINE_BITS if is_open else last

    @property
    def one(self) -> bool:
        """Whether plate, MJD and fibre are one number each."""
        return _is_one(self.plate) and _is_one(self.mjd) and _is_one(self.fiberid)

    def to_wire(self) -> list[int | str]:
        """Parts that `read` reads as this pattern, as JSON holds them; wildcards at the end are left out."""
        parts = [_written(part) for part in (self.plate, self.mjd, self.fiberid)]
        parts.append("*" if self.run2d is None else ",".join(_reductions(self.run2d)))
        while len(parts) > 1 and parts[-1] == "*":
            parts.pop()
        return parts

    def __str__(self) -> str:
        named = [(name, str(part)) for name, part in zip(_NAMES, self.to_wire(), strict=False) if part != "*"]
        brief = (
            (name, part if len(part) <= _SHOWN_CHARACTERS else f"{part[:_SHOWN_CHARACTERS]}...") for name, part in named
        )
        return ", ".join(f"{name} {part}" for name, part in brief) or "any plate"


def _read_part(value: object, read: Callable[[object], tuple[int, int]]) -> Ranges | None:
    """Values of one part; ValueError if one of them cannot be read."""
    if isinstance(value, str):
        if "," not in value:
            return None if value.strip() == "*" else (read(value),)
        pieces: list[object] = [*value.split(",")]
    elif isinstance(value, Iterable):
        items = value.tolist() if hasattr(value, "tolist") else value
        pieces = [piece for item in items for piece in (item.split(",") if isinstance(item, str) else [item])]
    else:
        pieces = [value]
    if len(pieces) > _MOST_VALUES:
        raise ValueError(f"{len(pieces)} values are more than there can be")
    merged: list[tuple[int, int]] = []
    for low, high in sorted(map(read, pieces)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    if not merged:
        raise ValueError("an empty list matches nothing")
    return tuple(merged)


def _read_range(value: object) -> tuple[int, int]:
    """Ends of a number or a range."""
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, _INTEGER) and not isinstance(value, bool) and 0 <= value <= LARGEST_PART:
        return int(value), int(value)
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is not a number, a list, a range such as '1-5', or '*'")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise ValueError(f"the range {shown(value)} ends before it begins")
    return low, high


def _read_reduction(value: object) -> tuple[int, int]:
    """Number of a reduction, as a range."""
    if isinstance(value, _INTEGER) and not isinstance(value, bool) and 0 <= value <= LARGEST_PART:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not the name of a reduction")
    code = run2d_code(value)
    return code, code


def _is_one(ranges: Ranges | None) -> bool:
    return ranges is not None and len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _shared(part: BitField, first: int, last: int) -> Ranges | None:
    """Value of a part in a range of specobjids; None if it varies."""
    low, high = ((end >> part.shift & part.largest - part.origin) + part.origin for end in (first, last))
    return ((low, low),) if low == high else None


def _written(ranges: Ranges | None) -> int | str:
    if ranges is None:
        return "*"
    if _is_one(ranges):
        return ranges[0][0]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _reductions(ranges: Ranges) -> list[str]:
    return [run2d_name(code) for low, high in ranges for code in range(low, high + 1)]
