"""Operators of a WHERE clause as DuckDB SQL: conditions, arithmetic, bits, texts, CASE and casts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from specflight.catalog.allowlist import ARITHMETIC, BITS, CASTS, COMPARISONS, DISTINCT, REFUSALS
from specflight.catalog.kinds import NUMBERS, Kind, Piece, as_compared, common, number, quoted, read, read_all
from specflight.catalog.parse import shortened

if TYPE_CHECKING:
    from specflight.catalog.rebuild import Rebuilder

__all__ = [
    "ARTICLES",
    "MAX_CHAIN",
    "MAX_COPIED",
    "NUMBER_SIZE",
    "alternatives",
    "arithmetic",
    "balanced",
    "between",
    "bitwise_not",
    "case",
    "cast",
    "chain",
    "comparison",
    "defined",
    "is_in",
    "is_something",
    "junction",
    "like",
    "negative",
    "text_of",
]

MAX_CHAIN = 200  # operators of one chain such as a + b + c; DuckDB stops at a depth of 1000
MAX_COPIED = 500  # characters of SQL that may be written twice: more would double with each level of nesting
NUMBER_SIZE = 40  # characters of the longest whole number

_ALL_BITS, _SIGN_BIT = 2**64 - 1, 2**63
_NOT_ZERO = re.compile(r"[\d.]*[1-9][\d.]*(?:e[-+]?\d+)?")

ARTICLES: dict[Kind, str] = {
    "int": "a number",
    "numeric": "a number",
    "real": "a number",
    "float": "a number",
    "text": "text",
    "bool": "a condition",
    "list": "a whole vector",
    "other": "this type",
    "null": "NULL",
}
"""Kinds in words."""


def balanced(conditions: Sequence[str], word: str) -> str:
    """Join conditions by AND or OR as a balanced tree: a long chain is not deep."""
    pieces = list(conditions)
    while len(pieces) > 1:
        pieces = [
            f"({f' {word} '.join(pieces[i : i + 2])})" if i + 1 < len(pieces) else pieces[i]
            for i in range(0, len(pieces), 2)
        ]
    return pieces[0]


def junction(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a chain of AND or OR."""
    parts: list[exp.Expr] = []
    stack = [node]
    while stack:
        part = stack.pop()
        if type(part) is type(node):
            r.only(part, "this", "expression")
            stack += [part.expression, part.this]
        else:
            parts.append(part)
    return Piece(balanced([r.condition(part).sql for part in parts], "AND" if type(node) is exp.And else "OR"), "bool")


def comparison(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a comparison of two values."""
    r.only(node, "this", "expression")
    kind = type(node)
    if kind in COMPARISONS and (type(node.this) in COMPARISONS or type(node.expression) in COMPARISONS):
        r.refuse(node, f"'{r.shown(node)}' has two comparisons in a row; join them with AND, as in 0 < z AND z < 1")
    a, b = _compared(r, node, r.value(node.this), r.value(node.expression))
    return Piece(f"({a} {COMPARISONS.get(kind) or DISTINCT[kind]} {b})", "bool")


def _compared(r: Rebuilder, node: exp.Expr, a: Piece, b: Piece) -> tuple[str, str]:
    sides = as_compared(a, b)
    if sides is None:
        text, other = (a, b) if a.literal is not None else (b, a)
        if text.literal is not None and other.kind != "text":
            r.refuse(node, f"'{r.shown(node)}' compares {ARTICLES[other.kind]} with a text that is none")
        r.refuse(node, f"'{r.shown(node)}' compares {ARTICLES[a.kind]} with {ARTICLES[b.kind]}; cast one of them")
    return sides


def chain(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a chain of operators from the left, without recursion along it."""
    links = [node]
    while type(links[-1].this) in ARITHMETIC or type(links[-1].this) in BITS or type(links[-1].this) is exp.DPipe:
        links.append(links[-1].this)
        if len(links) > MAX_CHAIN:
            r.refuse(links[-1], f"more than {MAX_CHAIN} operators in one chain; split the expression")
    left = r.value(links[-1].this)
    for link in reversed(links):
        r.only(link, "this", "expression", "safe", "typed")
        left = _operation(r, link, left, r.value(link.expression))
    return left


def _operation(r: Rebuilder, node: exp.Expr, a: Piece, b: Piece) -> Piece:
    kind = type(node)
    if kind is exp.DPipe:
        if "text" not in (a.kind, b.kind):
            r.refuse(node, f"|| joins texts, and neither side of '{r.shown(node)}' is one; cast one to text")
        return Piece(f"({text_of(r, node, a)} || {text_of(r, node, b)})", "text", size=a.size + b.size + NUMBER_SIZE)
    if kind in BITS:
        if not {a.kind, b.kind} <= {"int", "null"}:
            r.refuse(node, f"the bit operator {BITS[kind]} takes integers")
        if kind in (exp.BitwiseLeftShift, exp.BitwiseRightShift):
            return _shifted(r, node, a, b)
        left, right = a.wide or a.sql, b.wide or b.sql
        return Piece(f"xor({left}, {right})" if kind is exp.BitwiseXor else f"({left} {BITS[kind]} {right})", "int")
    if a.literal is not None and b.kind in NUMBERS:
        a = read(a.literal, b.kind) or a
    elif b.literal is not None and a.kind in NUMBERS:
        b = read(b.literal, a.kind) or b
    r.numbers(node, a, b)
    return arithmetic(kind, a, b)


def _shifted(r: Rebuilder, node: exp.Expr, a: Piece, b: Piece) -> Piece:
    """Shift the bits of a bigint as PostgreSQL does: by the remainder of 64, and what leaves it on the left is lost."""
    left, right = a.wide or a.sql, b.wide or b.sql
    count = str(int(right) % 64) if right.isdigit() else f"({right} & 63)"
    if type(node) is exp.BitwiseRightShift:
        return Piece(f"({f'CAST({left} AS BIGINT)' if left.isdigit() else left} >> {count})", "int")
    if left.isdigit() and count.isdigit():
        shifted = (int(left) << int(count)) & _ALL_BITS
        return Piece(str(shifted - 2 * (shifted & _SIGN_BIT)), "int")
    r.again(node, Piece(count, "int"))
    kept = f"(CAST({left} AS HUGEINT) & (CAST({_ALL_BITS} AS HUGEINT) >> {count}))"
    sign = f"CAST({_SIGN_BIT} AS HUGEINT)"
    return Piece(f"CAST(xor({kept} << {count}, {sign}) - {sign} AS BIGINT)", "int")


def arithmetic(kind: type[exp.Expr], a: Piece, b: Piece) -> Piece:
    """Calculate with two numbers: whole ones stay whole, single precision stays single with its like."""
    kinds = {a.kind, b.kind} - {"null"}
    result: Kind = "float"
    if len(kinds) < 2 or kinds == {"int", "numeric"}:
        result = "numeric" if "numeric" in kinds else next(iter(kinds), "int")
    if kind is exp.Pow:
        return Piece(
            _power(a.double, number(int(b.sql)) if b.sql.isdigit() else b.double),
            "numeric" if result == "numeric" else "float",
        )
    left, right = a.wide or a.sql, b.wide or b.sql
    if "real" in kinds and result == "float":
        left, right = a.double, b.double
    if kind in (exp.Div, exp.Mod) and not _NOT_ZERO.fullmatch(right):
        right = defined(right, "{} = 0", "{}")
    return Piece(f"({left} {'//' if kind is exp.Div and result == 'int' else ARITHMETIC[kind]} {right})", result)


def defined(argument: str, undefined: str, sql: str) -> str:
    """SQL of an expression, with NULL where a condition on its argument {} makes PostgreSQL fail.

    A long argument is not written twice; what DuckDB then makes of it is NaN, infinity, or an error.
    """
    if len(argument) > MAX_COPIED:
        return sql.format(argument)
    return f"(CASE WHEN {undefined.format(argument)} THEN NULL ELSE {sql.format(argument)} END)"


def _power(base: str, exponent: str) -> str:
    if exponent.removesuffix(".0e0").isdigit() or len(base) + len(exponent) > MAX_COPIED:
        return f"power({base}, {exponent})"
    root, pole = f"{base} < 0 AND {exponent} <> trunc({exponent})", f"{base} = 0 AND {exponent} < 0"
    return f"(CASE WHEN {root} OR {pole} THEN NULL ELSE power({base}, {exponent}) END)"


def text_of(r: Rebuilder, node: exp.Expr, piece: Piece) -> str:
    """SQL of a value as text, as PostgreSQL writes it."""
    if piece.kind in ("numeric", "real", "float"):
        r.refuse(node, f"'{r.shown(node)}' makes text of a fraction; fetch the number, or cast it to int first")
    return piece.sql if piece.kind == "text" else f"CAST({piece.sql} AS VARCHAR)"


def negative(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a minus sign."""
    inner = r.value(node.this)
    r.numbers(node, inner)
    return Piece(f"(-{inner.wide or inner.sql})", "int" if inner.kind == "null" else inner.kind)


def bitwise_not(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild ``~``."""
    inner = r.value(node.this)
    if inner.kind not in ("int", "null"):
        r.refuse(node, "the bit operator ~ takes an integer")
    return Piece(f"(~{inner.wide or inner.sql})", "int")


def is_something(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild IS NULL, IS TRUE and the like."""
    r.only(node, "this", "expression", "negate")
    what = {exp.Null: "NULL", exp.Boolean: str(node.expression.this).upper()}.get(type(node.expression))
    if what is None:
        r.refuse(node, f"'{r.shown(node)}' is not supported; IS takes NULL, TRUE or FALSE")
    inner = r.expression(node.this) if what == "NULL" else r.condition(node.this)
    return Piece(f"({inner.sql} IS {'NOT ' if node.args.get('negate') else ''}{what})", "bool")


def between(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild BETWEEN."""
    r.only(node, "this", "low", "high", "symmetric")
    value, low, high = (r.value(node.args[name]) for name in ("this", "low", "high"))
    first, least = _compared(r, node, value, low)
    second, most = _compared(r, node, value, high)
    symmetric = node.args.get("symmetric")
    if first == second and not symmetric and value.kind != "null":
        return Piece(f"({first} BETWEEN {least} AND {most})", "bool")
    for piece in (value, low, high):
        r.again(node, piece)
    inside = f"({first} >= {least} AND {second} <= {most})"
    return Piece(f"({inside} OR ({first} <= {least} AND {second} >= {most}))" if symmetric else inside, "bool")


def is_in(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild IN with a list of values."""
    if node.args.get("query") or node.args.get("unnest"):
        r.refuse(node, REFUSALS[exp.Subquery])
    r.only(node, "this", "expressions")
    value, items = r.value(node.this), node.expressions
    if not items:
        r.refuse(node, "IN takes a list of values, in parentheses")
    if isinstance(items[0], exp.Parameter):
        n = int(items[0].name)
        return Piece(f"({_listed(r, node, value, n)} IN (SELECT v FROM list_{n}))", "bool")
    pieces = [r.value(item) for item in items]
    constants = [n for n, item in enumerate(items) if item.find(exp.Column) is None]
    if value.kind == "real" and len(constants) > 1:
        # PostgreSQL compares constants, if they are several, in the kind that all have in common: single precision
        found = common([value, *(pieces[n] for n in constants)])
        for n, sql in zip(constants, found[1][1:] if found else (), strict=False):
            pieces[n] = Piece(sql, found[0] if found else "null")
    sides = [_compared(r, node, value, piece) for piece in pieces]
    if value.kind == "null":
        alternatives(r, node, pieces)
    elif len({left for left, _ in sides}) == 1 and (value.kind != "real" or len(constants) in (0, len(items))):
        return Piece(f"({sides[0][0]} IN ({', '.join(right for _, right in sides)}))", "bool")
    r.again(node, value)
    return Piece(balanced([f"({left} = {right})" for left, right in sides], "OR"), "bool")


def _listed(r: Rebuilder, node: exp.Expr, value: Piece, n: int) -> str:
    """SQL of a value that is looked for in a long list."""
    values = r.taken[n - 1]
    text = isinstance(values, pa.Table) and pa.types.is_string(values.schema.field("v").type)
    if value.literal is not None or value.kind not in (
        ("text", "null", "other", *NUMBERS) if text else (*NUMBERS, "null")
    ):
        r.refuse(node, f"the values of the list are of another type than '{r.shown(node.this)}'")
    if isinstance(values, pa.Table) and text and value.kind in NUMBERS:
        try:
            r.read[n] = pa.table({"v": read_all(values["v"].to_pylist(), value.kind)})
        except ValueError as wrong:
            r.refuse(node, f"'{r.shown(node.this)}' is {ARTICLES[value.kind]}, and '{shortened(str(wrong))}' is none")
        return value.sql
    return f"CAST({value.sql} AS VARCHAR)" if text and value.kind != "text" else value.sql


def like(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild LIKE and ILIKE."""
    escape = "\\"  # PostgreSQL's default
    if isinstance(node, exp.Escape):
        r.only(node, "this", "expression")
        escape, node = node.expression.name, node.this
        if len(escape) != 1 or not isinstance(node, exp.Like | exp.ILike):
            r.refuse(node, "ESCAPE takes one character after LIKE")
    r.only(node, "this", "expression", "negate")
    value, pattern = r.expression(node.this), node.expression
    if not (isinstance(pattern, exp.Literal) and pattern.is_string) or value.kind not in ("text", "null"):
        r.refuse(node, "LIKE compares text with a pattern in quotes")
    if len(pattern.name) - len(pattern.name.rstrip(escape)) & 1:
        r.refuse(node, "the LIKE pattern must not end with its escape character")
    word = ("NOT " if node.args.get("negate") else "") + ("ILIKE" if isinstance(node, exp.ILike) else "LIKE")
    return Piece(f"({value.sql} {word} {quoted(pattern.name)} ESCAPE {quoted(escape)})", "bool")


def case(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild CASE."""
    r.only(node, "this", "ifs", "default")
    subject = r.value(node.this) if node.this else None
    whens, results = [], []
    for branch in node.args["ifs"]:
        if subject is None:
            whens.append(r.condition(branch.this).sql)
        else:
            r.again(node, subject)
            whens.append(" = ".join(_compared(r, branch.this, subject, r.value(branch.this))))
        results.append(r.value(branch.args["true"]))
    default = node.args.get("default")
    results += [r.value(default)] if default else []
    kind, values = alternatives(r, node, results)
    parts = [f"WHEN {when} THEN {value}" for when, value in zip(whens, values, strict=False)]
    parts += [f"ELSE {values[-1]}"] if default else []
    return Piece(f"(CASE {' '.join(parts)} END)", kind, size=max(piece.size for piece in results))


def alternatives(r: Rebuilder, node: exp.Expr, pieces: Sequence[Piece]) -> tuple[Kind, list[str]]:
    """Kind and SQL of several alternatives."""
    found = common(pieces)
    if found is None:
        r.refuse(node, f"the alternatives of '{r.shown(node)}' are of different types")
    return found


def cast(r: Rebuilder, node: exp.Expr) -> Piece:
    """Rebuild a cast."""
    r.only(node, "this", "to")
    to, inner = node.args["to"], r.value(node.this)
    length = to.expressions[0].name if len(to.expressions) == 1 and to.this is exp.DType.VARCHAR else ""
    known = CASTS.get(to.this) if not to.args.get("nested") and (not to.expressions or length.isdigit()) else None
    said = shortened_type(to)
    if known is None:
        r.refuse(node, f"a cast to {said} is refused; use int, bigint, double precision, numeric or text")
    sql, kind = known
    if inner.literal is not None:
        meant = read(inner.literal, kind)
        if meant is None:
            r.refuse(node, f"'{r.shown(node.this)}' cannot be read as {said}")
        inner = meant
    if kind == "text":
        text = text_of(r, node, inner)
        size = inner.size or NUMBER_SIZE
        if not length:
            return Piece(text, kind, size=size)
        most = int(length[:9])
        return Piece(f"left({text}, {most})", kind, size=min(size, 4 * most))
    if (
        (kind == "bool" and inner.kind not in ("int", "bool", "null"))
        or (inner.kind == "bool" and kind not in ("int", "bool"))
        or inner.kind == "other"
    ):
        r.refuse(node, f"{ARTICLES[inner.kind]} cannot be cast to {said}; compare it with the values")
    value = inner.sql
    if kind == "int" and inner.kind == "numeric":
        value = f"round({inner.sql})"  # halves away from zero, those of floats go to even
    elif kind == "numeric" and inner.kind in ("real", "float"):
        # PostgreSQL makes decimal numbers of FLT_DIG or DBL_DIG digits
        value = f"format('{{:.{6 if inner.kind == 'real' else 15}g}}', {inner.double})"
    result = f"TRY_CAST({value} AS {sql})"
    return Piece(result, kind, f"CAST({result} AS BIGINT)" if kind == "int" else "")


def shortened_type(to: exp.Expr) -> str:
    """Name of a type in an error message."""
    return str(to.sql("postgres")).lower()[:40]
