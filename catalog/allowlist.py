"""The allow-list: operators, functions and types that a clause may use, and what to say of the rest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

__all__ = [
    "AGGREGATES",
    "ARITHMETIC",
    "BITS",
    "CASTS",
    "COMPARISONS",
    "DISTINCT",
    "FUNCTIONS",
    "PARTS",
    "REFUSALS",
    "Function",
    "Kind",
    "Piece",
    "call_math",
    "nearest",
]

Kind = Literal["int", "float", "text", "bool", "list", "other", "null"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A rebuilt expression.

    Attributes
    ----------
    sql : str
        DuckDB SQL, in parentheses wherever it is an operation.
    kind : str
        What it is to PostgreSQL: decides how it is divided and where it may stand.
    wide : str
        The same for use in arithmetic, with integers wide enough not to overflow; empty if `sql` is.
    """

    sql: str
    kind: Kind
    wide: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the allow-list.

    Attributes
    ----------
    sql : str
        Its name in DuckDB.
    least, most : int
        Numbers of arguments that it takes.
    takes, gives : str
        Kinds of its arguments and of its result; 'same' is what the arguments are.
    """

    sql: str
    least: int
    most: int
    takes: Literal["number", "text", "any"]
    gives: Kind | Literal["same"]


def _family(
    names: str, least: int, most: int, takes: Literal["number", "text", "any"], gives: Kind | Literal["same"]
) -> dict[str, Function]:
    """Describe functions that are called alike and have the same name in both databases."""
    return {name: Function(name, least, most, takes, gives) for name in names.split()}


FUNCTIONS = {
    **_family("sqrt cbrt exp ln log10 sin cos tan cot asin acos atan radians degrees", 1, 1, "number", "float"),
    **_family("sinh cosh tanh asinh acosh atanh ceil ceiling floor sign", 1, 1, "number", "float"),
    **_family("log round trunc", 1, 2, "number", "float"),
    **_family("power pow atan2", 2, 2, "number", "float"),
    **_family("pi", 0, 0, "number", "float"),
    **_family("abs", 1, 1, "number", "same"),
    **_family("mod", 2, 2, "number", "same"),
    **_family("lower upper", 1, 1, "text", "text"),
    **_family("length char_length", 1, 1, "text", "int"),
    **_family("left right", 2, 2, "any", "text"),
    **_family("substr substring", 2, 3, "any", "text"),
    **_family("trim ltrim rtrim", 1, 2, "text", "text"),
    **_family("strpos", 2, 2, "text", "int"),
    **_family("starts_with", 2, 2, "text", "bool"),
    **_family("concat", 1, 50, "any", "text"),
    **_family("coalesce greatest least", 1, 50, "any", "same"),
    **_family("nullif", 2, 2, "any", "same"),
    "btrim": Function("trim", 1, 2, "text", "text"),
}

AGGREGATES = frozenset(
    ("count", "sum", "avg", "min", "max", "stddev", "variance", "median", "mode", "array_agg", "string_agg", "bool_or")
)


COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
DISTINCT: dict[type[exp.Expr], str] = {exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM"}
ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Pow: "^",
}
BITS: dict[type[exp.Expr], str] = {
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
    exp.BitwiseXor: "#",
}
PARTS = ("left", "right", "substr", "substring")
CASTS: dict[exp.DType, tuple[str, Kind]] = {
    exp.DType.SMALLINT: ("SMALLINT", "int"),
    exp.DType.INT: ("INTEGER", "int"),
    exp.DType.BIGINT: ("BIGINT", "int"),
    exp.DType.FLOAT: ("FLOAT", "float"),
    exp.DType.DOUBLE: ("DOUBLE", "float"),
    exp.DType.DECIMAL: ("DOUBLE", "float"),
    exp.DType.TEXT: ("VARCHAR", "text"),
    exp.DType.VARCHAR: ("VARCHAR", "text"),
    exp.DType.BOOLEAN: ("BOOLEAN", "bool"),
}
REFUSALS: dict[type[exp.Expr], str] = {
    **dict.fromkeys((exp.Subquery, exp.Select, exp.Exists, exp.SetOperation),
        "subqueries are refused; run two queries and send the ids of the first one as a list"),
    exp.Window: "window functions are refused; fetch the rows and rank them on your side",
    **dict.fromkeys((exp.RegexpLike, exp.RegexpILike, exp.SimilarTo),
        "regular expressions are refused; use LIKE or starts_with"),
    **dict.fromkeys((exp.Parameter, exp.Placeholder, exp.SessionParameter),
        "parameters are refused; write the value itself"),
    **dict.fromkeys((exp.ByteString, exp.BitString, exp.HexString, exp.National, exp.UnicodeString, exp.Concat),
        "only plain text in single quotes and decimal numbers are served"),
    exp.Tuple: "rows of values are refused; compare the columns one by one and join them with AND",
    exp.Array: "arrays are refused; write IN (...) with the values",
    exp.Star: "* is refused here; name a column",
}  # fmt: skip


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that looks most like a wrong one, as the end of a sentence; empty if none does."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def call_math(function: Function, pieces: Sequence[Piece]) -> Piece:
    """Call a function of numbers; in double precision unless it keeps integers."""
    whole = {piece.kind for piece in pieces} <= {"int", "null"}
    if function.gives == "same":
        return Piece(f"{function.sql}({', '.join(p.wide or p.sql for p in pieces)})", "int" if whole else "float")
    arguments = [f"CAST({piece.sql} AS DOUBLE)" for piece in pieces]
    if function.sql in ("round", "trunc") and len(pieces) == 2:
        arguments[1] = f"CAST({pieces[1].sql} AS INTEGER)"
    elif function.sql == "round":
        return Piece(f"round_even({arguments[0]}, 0)", "float")  # as PostgreSQL rounds double precision
    return Piece(f"{function.sql}({', '.join(arguments)})", "float")
