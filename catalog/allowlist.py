"""The allow-list: operators, functions and types that a clause may use, and what to say of the rest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from specflight.catalog.kinds import Kind

__all__ = [
    "AGGREGATES",
    "ARITHMETIC",
    "BITS",
    "CASTS",
    "COMPARISONS",
    "DISTINCT",
    "FUNCTIONS",
    "INSTEAD",
    "REFUSALS",
    "Function",
    "nearest",
]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the allow-list.

    Attributes
    ----------
    sql : str
        DuckDB SQL with {} in the place of the arguments.
    least, most : int
        Numbers of arguments that it takes.
    takes : str
        A letter for each argument, the last one for all that follow: number, integer, text or any.
    gives : str
        Kind of its result; 'same' is what the arguments have in common, 'math' is numeric of decimal numbers and
        double precision otherwise.
    undefined : str
        Condition on the argument {} under which PostgreSQL fails. There is NULL instead: AND does not say which side is
        computed first, so that rows which one side excludes, as flux > 0 does, must not make the other side fail.
    """

    sql: str
    least: int
    most: int
    takes: str
    gives: Kind | Literal["same", "math"]
    undefined: str = ""


def _family(
    names: str, count: tuple[int, int], takes: str, gives: Kind | Literal["same", "math"]
) -> dict[str, Function]:
    """Describe functions that are called alike and have the same name in both databases."""
    return {name: Function(f"{name}({{}})", *count, takes, gives) for name in names.split()}


FUNCTIONS = {
    **_family("exp ceil ceiling floor", (1, 1), "n", "math"),
    **_family("cbrt sin cos tan cot atan radians degrees sinh cosh tanh asinh", (1, 1), "n", "float"),
    **_family("atan2", (2, 2), "n", "float"),
    **_family("pi", (0, 0), "n", "float"),
    **_family("trunc", (1, 2), "ni", "math"),
    **{f"{name}d": Function(f"{name}(radians({{}}))", 1, 1, "n", "float") for name in ("sin", "cos", "tan", "cot")},
    "atand": Function("degrees(atan({}))", 1, 1, "n", "float"),
    "atan2d": Function("degrees(atan2({}))", 2, 2, "n", "float"),
    "asin": Function("asin({})", 1, 1, "n", "float", "abs({}) > 1"),
    "acos": Function("acos({})", 1, 1, "n", "float", "abs({}) > 1"),
    "asind": Function("degrees(asin({}))", 1, 1, "n", "float", "abs({}) > 1"),
    "acosd": Function("degrees(acos({}))", 1, 1, "n", "float", "abs({}) > 1"),
    "acosh": Function("acosh({})", 1, 1, "n", "float", "{} < 1"),
    "atanh": Function("atanh({})", 1, 1, "n", "float", "abs({}) > 1"),
    "sqrt": Function("sqrt({})", 1, 1, "n", "math", "{} < 0"),
    "ln": Function("ln({})", 1, 1, "n", "math", "{} <= 0"),
    "log10": Function("log10({})", 1, 1, "n", "math", "{} <= 0"),
    "sign": Function("CAST(sign({}) AS DOUBLE)", 1, 1, "n", "math"),
    **_family("abs", (1, 1), "n", "same"),
    **_family("gcd lcm", (2, 2), "w", "int"),
    **_family("lower upper reverse md5", (1, 1), "t", "text"),
    **_family("length char_length ascii bit_length", (1, 1), "t", "int"),
    "character_length": Function("length({})", 1, 1, "t", "int"),
    "octet_length": Function("strlen({})", 1, 1, "t", "int"),
    **_family("left right", (2, 2), "ti", "text"),
    **_family("ltrim rtrim", (1, 2), "t", "text"),
    "trim": Function("trim({})", 1, 2, "t", "text"),
    "btrim": Function("trim({})", 1, 2, "t", "text"),
    **_family("translate", (3, 3), "t", "text"),
    **_family("strpos", (2, 2), "t", "int"),
    **_family("starts_with", (2, 2), "t", "bool"),
    **_family("coalesce greatest least", (1, 50), "a", "same"),
}
"""Functions that are a call of one of DuckDB's; those that need more care are in `specflight.catalog.functions`.

None of them may be a macro there, which writes its arguments more than once: nested, that would double each time.
"""

AGGREGATES = frozenset(
    """count sum avg min max stddev stddev_pop stddev_samp variance var_pop var_samp median mode corr array_agg
    string_agg bool_and bool_or every bit_and bit_or percentile_cont percentile_disc regr_slope json_agg
    row_number rank dense_rank lag lead first_value last_value ntile""".split()  # noqa: SIM905 - a list is as long
)

_CLOCK = "the answer would depend on when it is asked; write the value itself"
INSTEAD: dict[str, str] = {
    **dict.fromkeys(("now", "current_date", "current_timestamp", "clock_timestamp", "age", "timeofday"), _CLOCK),
    **dict.fromkeys(("random", "setseed", "gen_random_uuid"),
        "the answer would be another one each time; use a remainder such as mod(specobjid, 100) = 7"),
    **dict.fromkeys(("any", "all", "some"), "write IN (...) with the values"),
    **dict.fromkeys(("exists",), "run two queries and send the ids of the first one as a list"),
    **dict.fromkeys(("regexp_match", "regexp_matches", "regexp_like", "regexp_replace", "regexp_substr",
        "regexp_count", "regexp_instr", "regexp_split_to_array", "similar"), "use LIKE, starts_with or strpos"),
    **dict.fromkeys(("to_char", "format"), "fetch the number and format it on your side"),
    **dict.fromkeys(("to_number", "to_date", "to_timestamp"), "use a cast such as CAST(x AS double precision)"),
    **dict.fromkeys(("date_part", "date_trunc", "extract", "make_date"), "dates are stored as MJD; compare the number"),
    **dict.fromkeys(("isnan", "isfinite", "isinf"), "compare with 'NaN' or 'Infinity', as in z = 'NaN'"),
    **dict.fromkeys(("ifnull", "isnull", "nvl"), "use coalesce"),
    "initcap": "compare lower(...) or upper(...)",
    "width_bucket": "use floor((x - low) / (high - low) * n) + 1",
    "factorial": "write the number itself",
    "overlay": "put it together from left, right and ||",
    "if": "use CASE WHEN ... THEN ... ELSE ... END",
    "iif": "use CASE WHEN ... THEN ... ELSE ... END",
    "log2": "use log(2, x)",
    "contains": "use strpos(text, part) > 0",
    "instr": "use strpos(text, part)",
    "len": "use length",
    "substring_index": "use split_part",
    "square": "use power(x, 2)",
}  # fmt: skip
"""What to do instead of a function that is refused."""

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
CASTS: dict[exp.DType, tuple[str, Kind]] = {
    exp.DType.SMALLINT: ("SMALLINT", "int"),
    exp.DType.INT: ("INTEGER", "int"),
    exp.DType.BIGINT: ("BIGINT", "int"),
    exp.DType.FLOAT: ("FLOAT", "real"),
    exp.DType.DOUBLE: ("DOUBLE", "float"),
    exp.DType.DECIMAL: ("DOUBLE", "numeric"),
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
    **dict.fromkeys((exp.Any, exp.All), "ANY and ALL are refused; write IN (...) with the values"),
    exp.Tuple: "rows of values are refused; compare the columns one by one and join them with AND",
    exp.Array: "arrays are refused but for the vertices of q3c_poly_query; write IN (...) with the values",
    exp.Interval: "times are refused; dates are stored as MJD, compare the number",
    exp.AtTimeZone: "times are refused; dates are stored as MJD, compare the number",
    exp.Star: "* is refused here; name a column",
    exp.Alias: "a name for an expression is refused; only conditions are served",
    exp.Collate: "COLLATE is refused; texts are compared byte by byte, as in PostgreSQL's collation C",
}  # fmt: skip


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that looks most like a wrong one, as the end of a sentence; empty if none does."""
    close = difflib.get_close_matches(name[:64].lower(), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
