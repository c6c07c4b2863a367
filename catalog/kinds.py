"""Kinds of values as PostgreSQL sees them: what may be compared, what several alternatives have in common.

The kind decides how numbers are divided and rounded, and what a text in quotes is read as. ``real`` is single
precision, ``float`` double; a decimal number in the clause and what it makes with whole numbers is ``numeric``, which
is computed in double precision here, and rounds halves away from zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

__all__ = ["NUMBERS", "Kind", "Piece", "as_compared", "common", "number", "quoted", "read", "read_all"]

Kind = Literal["int", "numeric", "real", "float", "text", "bool", "list", "other", "null"]

NUMBERS: tuple[Kind, ...] = ("int", "numeric", "real", "float")

_WHOLE = re.compile(r"\s*[-+]?\d{1,39}\s*", re.ASCII)
_FRACTION = re.compile(r"\s*[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE)
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Piece:
    """A rebuilt expression.

    Attributes
    ----------
    sql : str
        DuckDB SQL, in parentheses wherever it is an operation.
    kind : str
        What it is to PostgreSQL.
    wide : str
        The same for use in arithmetic, with integers wide enough not to overflow; empty if `sql` is.
    literal : str or None
        What stands in quotes, if it is a text in quotes: PostgreSQL reads it as what it is compared with.
    size : int
        How many bytes it has at most, if it is a text.
    """

    sql: str
    kind: Kind
    wide: str = ""
    literal: str | None = None
    size: int = 0

    @property
    def double(self) -> str:
        """The same number in double precision."""
        return self.sql if self.kind in ("numeric", "float") else f"CAST({self.sql} AS DOUBLE)"


def quoted(text: str) -> str:
    """Write a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def number(value: int | float) -> str:
    """Write a number as a SQL literal of the same value.

    Raises
    ------
    OverflowError
        If an integer has more than 127 bits.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"CAST('{value}' AS DOUBLE)"
        shown = repr(value)
        return shown if "e" in shown else f"{shown}e0"
    if not -(2**127) < value < 2**127:
        raise OverflowError
    return f"CAST({value} AS UBIGINT)" if 2**63 <= value < 2**64 else str(value)


def read(text: str, kind: Kind) -> Piece | None:
    """Read a text in quotes as PostgreSQL does where a value of some kind is expected; None if it is none."""
    if kind == "int" and _WHOLE.fullmatch(text):
        whole = int(text)
        if abs(whole) >= 2**127:
            return None
        return Piece(number(whole), kind, f"CAST({whole} AS HUGEINT)" if abs(whole) >= 2**63 else "")
    if kind in ("numeric", "real", "float") and _FRACTION.fullmatch(text):
        value = float(text)
        if math.isinf(value) and "i" not in text.lower():
            return None  # beyond double precision
        return Piece(f"CAST({number(value)} AS FLOAT)" if kind == "real" else number(value), kind)
    if kind == "bool":
        word = text.strip().lower()
        meant = {truth for name, truth in _TRUTH.items() if word and name.startswith(word)}
        return Piece(str(meant.pop()).upper(), kind) if len(meant) == 1 else None
    if kind not in ("text", "other", "null"):
        return None
    return Piece(quoted(text), kind, literal=text, size=len(text.encode()))


def read_all(texts: Sequence[str], kind: Kind) -> pa.Array:
    """Read many texts in quotes as `read` does where numbers of some kind are expected.

    Returns
    -------
    pyarrow.Array of int64, uint64, float32 (single precision) or float64, shape (n,)

    Raises
    ------
    ValueError
        With the first text that is none.
    """
    form = _WHOLE if kind == "int" else _FRACTION
    _refuse_first(texts, (form.fullmatch(text) is not None for text in texts))
    if kind == "int":
        whole = list(map(int, texts))
        unsigned = min(whole) >= 0 and max(whole) >= 2**63
        least, most = (0, 2**64) if unsigned else (-(2**63), 2**63)
        _refuse_first(texts, (least <= number < most for number in whole))
        return pa.array(whole, pa.uint64() if unsigned else pa.int64())
    values = list(map(float, texts))
    finite = zip(texts, values, strict=True)
    _refuse_first(texts, (not math.isinf(value) or "i" in text.lower() for text, value in finite))
    return pa.array(np.array(values, np.float32 if kind == "real" else np.float64))


def _refuse_first(texts: Sequence[str], good: Iterable[bool]) -> None:
    wrong = next((text for text, fine in zip(texts, good, strict=True) if not fine), None)
    if wrong is not None:
        raise ValueError(wrong)


def as_compared(a: Piece, b: Piece) -> tuple[str, str] | None:
    """SQL of two pieces as they are compared with each other; None if PostgreSQL does not compare them."""
    if (a.literal is None) != (b.literal is None):
        text, other = (a, b) if a.literal is not None else (b, a)
        meant = read(text.literal or "", other.kind)
        if meant is None:
            return None
        a, b = (meant, b) if text is a else (a, meant)
    kinds = {a.kind, b.kind}
    if "list" in kinds:
        return None
    if kinds <= {*NUMBERS, "null"}:
        # in the database FLOAT and INTEGER meet in single precision, in PostgreSQL in double
        mixed = "real" in kinds and not kinds <= {"real", "null"}
        return (_beside_real(a), _beside_real(b)) if mixed else (a.sql, b.sql)
    return (a.sql, b.sql) if len(kinds - {"null"}) == 1 else None


def common(pieces: Sequence[Piece]) -> tuple[Kind, list[str]] | None:
    """Kind and SQL of several alternatives, as of CASE; None if they have no kind in common.

    See "UNION, CASE, and Related Constructs" in PostgreSQL's documentation: single precision stays so beside decimal
    and whole numbers.
    """
    kinds = {piece.kind for piece in pieces if piece.literal is None} - {"null"}
    kind = _common_kind(kinds)
    if kind is None or kind == "list":
        return None
    alternatives = []
    for piece in pieces:
        meant = piece if piece.literal is None else read(piece.literal, kind)
        if meant is None:
            return None
        if kind == "real" and meant.kind in ("int", "numeric"):
            alternatives.append(f"CAST({meant.sql} AS FLOAT)")
        else:
            alternatives.append(meant.wide or meant.sql if kind in NUMBERS else meant.sql)
    if kind == "null" and any(piece.literal is not None for piece in pieces):
        kind = "text"
    return kind, alternatives


def _common_kind(kinds: Iterable[Kind]) -> Kind | None:
    kinds = set(kinds)
    if len(kinds) < 2:
        return kinds.pop() if kinds else "null"
    if not kinds <= set(NUMBERS):
        return None
    return next(kind for kind in ("float", "real", "numeric") if kind in kinds)


def _beside_real(piece: Piece) -> str:
    return piece.double if piece.kind == "int" else piece.sql
