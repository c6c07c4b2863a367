"""Expressions of a WHERE clause: rebuilt piece by piece from an allow-list, as DuckDB SQL.

Nothing of the user's text reaches the database. Names come from the table, numbers are printed anew, strings are
quoted, and an operator or a function that `allowlist` lacks is refused. Results are those of PostgreSQL 15
where the two databases differ: integer division truncates, decimal fractions are double precision, ``#`` is the
exclusive or, small integers do not overflow. Division of a float by zero gives infinity, where PostgreSQL fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa
import pyarrow.types as pt
from sqlglot import exp

from specflight.catalog.allowlist import (
    AGGREGATES,
    ARITHMETIC,
    BITS,
    CASTS,
    COMPARISONS,
    DISTINCT,
    FUNCTIONS,
    PARTS,
    REFUSALS,
    Kind,
    Piece,
    call_math,
    nearest,
)
from specflight.errors import InvalidRequest

__all__ = ["MAX_CHAIN", "Rebuilder"]

MAX_CHAIN = 200  # operators of one chain such as a + b + c; DuckDB stops at a depth of 1000


@dataclass
class Rebuilder:
    """Rebuilds the expressions of one clause.

    Parameters
    ----------
    columns : mapping of str to pyarrow.DataType
        Columns that may be named, whatever the case of the letters.
    table : str
        The one name that may qualify a column.
    lists : sequence of str
        SQL of the lists that parameters ``$1``, ``$2``, ... in ``IN (...)`` stand for.
    locate : callable
        Turns a position in the parsed text into the position in the user's.

    Attributes
    ----------
    used : set of str
        The columns that the expressions so far have named.
    """

    columns: Mapping[str, pa.DataType]
    table: str
    lists: Sequence[str]
    locate: Callable[[int], int]
    used: set[str] = field(default_factory=set)
    _names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._names = {name.lower(): name for name in self.columns}
        if "zerr" in self._names:
            self._names.setdefault("z_err", self._names["zerr"])

    def condition(self, node: exp.Expr) -> Piece:
        """Rebuild an expression that must be true or false."""
        piece = self.expression(node)
        if piece.kind not in ("bool", "null"):
            self.refuse(node, f"'{_shown(node)}' is no condition; compare it with something")
        return piece

    def expression(self, node: exp.Expr) -> Piece:
        """Rebuild any expression.

        Raises
        ------
        InvalidRequest
            Naming what is not allowed, and where it stands.
        """
        kind = type(node)
        if kind in (exp.And, exp.Or):
            return self._junction(node)
        if kind in ARITHMETIC or kind in BITS or kind is exp.DPipe:
            return self._chain(node)
        if kind in COMPARISONS or kind in DISTINCT:
            a, b = self._both(node)
            self._comparable(node, a, b)
            return Piece(f"({a.sql} {COMPARISONS.get(kind) or DISTINCT[kind]} {b.sql})", "bool")
        rebuild = _REBUILDERS.get(kind)
        if rebuild is None:
            self.refuse(node, REFUSALS.get(kind) or f"'{_shown(node)}' is not supported")
        return rebuild(self, node)

    def refuse(self, node: exp.Expr, reason: str) -> NoReturn:
        """Raise InvalidRequest with a reason and the place of an expression."""
        starts = [e.meta["start"] for e in node.walk() if "start" in e.meta]
        where = f" at character {self.locate(min(starts))}" if starts else ""
        raise InvalidRequest(f"where{where}: {reason}")

    def _only(self, node: exp.Expr, *arguments: str) -> None:
        """Refuse an expression that says more than the rebuilt one would."""
        for name, value in node.args.items():
            if value and name not in arguments:
                self.refuse(node, f"'{_shown(node)}' is not supported")

    def _both(self, node: exp.Expr) -> tuple[Piece, Piece]:
        self._only(node, "this", "expression", "safe", "typed")
        a, b = self.expression(node.this), self.expression(node.expression)
        if "list" in (a.kind, b.kind):
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        return a, b

    def _comparable(self, node: exp.Expr, a: Piece, b: Piece) -> None:
        """Refuse to compare text with anything else, but for text in quotes: PostgreSQL reads it as the other type."""
        for text, other in ((a, b), (b, a)):
            if text.kind == "text" and other.kind not in ("text", "null", "other") and not text.sql.startswith("'"):
                self.refuse(node, f"'{_shown(node)}' compares text with {_ARTICLES[other.kind]}; cast one of them")

    def _junction(self, node: exp.Expr) -> Piece:
        """Rebuild a chain of AND or OR as a balanced tree: a long one is not deep."""
        parts: list[exp.Expr] = []
        stack = [node]
        while stack:
            part = stack.pop()
            if type(part) is type(node):
                self._only(part, "this", "expression")
                stack += [part.expression, part.this]
            else:
                parts.append(part)
        word = "AND" if type(node) is exp.And else "OR"
        pieces = [self.condition(part).sql for part in parts]
        while len(pieces) > 1:
            pieces = [f"({f' {word} '.join(pieces[i : i + 2])})" for i in range(0, len(pieces), 2)]
        return Piece(pieces[0], "bool")

    def _chain(self, node: exp.Expr) -> Piece:
        """Rebuild a chain of operators from the left, without recursion along it."""
        chain = [node]
        while type(chain[-1].this) in ARITHMETIC or type(chain[-1].this) in BITS or type(chain[-1].this) is exp.DPipe:
            chain.append(chain[-1].this)
            if len(chain) > MAX_CHAIN:
                self.refuse(chain[-1], f"more than {MAX_CHAIN} operators in one chain; split the expression")
        left = self.expression(chain[-1].this)
        for link in reversed(chain):
            self._only(link, "this", "expression", "safe", "typed")
            left = self._operation(link, left, self.expression(link.expression))
        return left

    def _operation(self, node: exp.Expr, a: Piece, b: Piece) -> Piece:
        kind, kinds = type(node), {a.kind, b.kind}
        if kind is exp.DPipe:
            if "list" in kinds:
                self.refuse(node, "a vector column must be indexed, as in mag[1]")
            return Piece(f"(CAST({a.sql} AS VARCHAR) || CAST({b.sql} AS VARCHAR))", "text")
        if kind in BITS:
            if not kinds <= {"int", "null"}:
                self.refuse(node, f"the bit operator {BITS[kind]} takes integers")
            left, right = a.wide or a.sql, b.wide or b.sql
            return Piece(f"xor({left}, {right})" if kind is exp.BitwiseXor else f"({left} {BITS[kind]} {right})", "int")
        self._numbers(node, a, b)
        left, right = a.wide or a.sql, b.wide or b.sql
        if kind is exp.Pow:
            return Piece(f"power(CAST({left} AS DOUBLE), CAST({right} AS DOUBLE))", "float")
        whole = kinds <= {"int", "null"}
        operator = "//" if kind is exp.Div and whole else ARITHMETIC[kind]
        return Piece(f"({left} {operator} {right})", "int" if whole else "float")

    def _numbers(self, node: exp.Expr, *pieces: Piece) -> None:
        for piece in pieces:
            if piece.kind not in ("int", "float", "null"):
                self.refuse(node, f"'{_shown(node)}' needs numbers, not {_ARTICLES[piece.kind]}")

    def _column(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "table")
        if not isinstance(node.this, exp.Identifier):
            self.refuse(node, REFUSALS[exp.Star])
        if node.text("table") and node.text("table").lower() != self.table.lower():
            self.refuse(node, f"the table '{node.text('table')}' is not the one that is queried, '{self.table}'")
        name = self._names.get(node.name.lower())
        if name is None:
            self.refuse(node, f"there is no column '{node.name}'{nearest(node.name, self._names)}")
        self.used.add(name)
        return self._typed('"' + name.replace('"', '""') + '"', self.columns[name])

    def _typed(self, sql: str, kind: pa.DataType) -> Piece:
        if pt.is_uint64(kind):
            return Piece(sql, "int", f"CAST({sql} AS HUGEINT)")
        if pt.is_integer(kind):
            return Piece(sql, "int", f"CAST({sql} AS BIGINT)")
        if pt.is_floating(kind) or pt.is_decimal(kind):
            return Piece(sql, "float")
        if pt.is_string(kind) or pt.is_large_string(kind):
            return Piece(sql, "text")
        if pt.is_boolean(kind):
            return Piece(sql, "bool")
        return Piece(sql, "list" if pt.is_nested(kind) else "other")

    def _literal(self, node: exp.Expr) -> Piece:
        text = node.name
        if node.args.get("is_string"):
            return Piece("'" + text.replace("'", "''") + "'", "text")
        if text.isdigit():
            number = int(text) if len(text) <= 39 else 2**127
            if number >= 2**127:
                self.refuse(node, f"the number {text[:20]}... is too large")
            return Piece(f"CAST({number} AS UBIGINT)" if 2**63 <= number < 2**64 else str(number), "int")
        try:
            value = float(text)
        except ValueError:
            self.refuse(node, f"'{text}' is not a number")
        if math.isinf(value):
            self.refuse(node, f"the number {text[:20]} is beyond double precision")
        return Piece(f"{value!r}e0" if "e" not in repr(value) else repr(value), "float")

    def _negative(self, node: exp.Expr) -> Piece:
        inner = self.expression(node.this)
        self._numbers(node, inner)
        return Piece(f"(-{inner.wide or inner.sql})", inner.kind)

    def _bitwise_not(self, node: exp.Expr) -> Piece:
        inner = self.expression(node.this)
        if inner.kind not in ("int", "null"):
            self.refuse(node, "the bit operator ~ takes an integer")
        return Piece(f"(~{inner.wide or inner.sql})", "int")

    def _is(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "expression", "negate")
        what = {exp.Null: "NULL", exp.Boolean: str(node.expression.this).upper()}.get(type(node.expression))
        if what is None:
            self.refuse(node, f"'{_shown(node)}' is not supported; IS takes NULL, TRUE or FALSE")
        inner = self.expression(node.this) if what == "NULL" else self.condition(node.this)
        return Piece(f"({inner.sql} IS {'NOT ' if node.args.get('negate') else ''}{what})", "bool")

    def _between(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "low", "high")
        value, low, high = (self.expression(node.args[name]) for name in ("this", "low", "high"))
        if "list" in (value.kind, low.kind, high.kind):
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        self._comparable(node, value, low)
        self._comparable(node, value, high)
        return Piece(f"({value.sql} BETWEEN {low.sql} AND {high.sql})", "bool")

    def _in(self, node: exp.Expr) -> Piece:
        if node.args.get("query") or node.args.get("unnest"):
            self.refuse(node, REFUSALS[exp.Subquery])
        self._only(node, "this", "expressions", "negate")
        value = self.expression(node.this)
        if value.kind == "list":
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        items = node.expressions
        if not items:
            self.refuse(node, "IN () has no values")
        if len(items) == 1 and type(items[0]) is exp.Parameter:
            inside = self.lists[int(items[0].name) - 1]
        else:
            for item in items:
                literal = item.this if isinstance(item, exp.Neg) else item
                if not isinstance(literal, exp.Literal | exp.Boolean | exp.Null):
                    self.refuse(item, REFUSALS.get(type(item)) or "IN takes a list of plain values")
            pieces = [self.expression(item) for item in items]
            for piece in pieces:
                self._comparable(node, value, piece)
            inside = ", ".join(piece.sql for piece in pieces)
        return Piece(f"({value.sql} {'NOT ' if node.args.get('negate') else ''}IN ({inside}))", "bool")

    def _like(self, node: exp.Expr) -> Piece:
        escape = "\\"  # PostgreSQL's default
        if isinstance(node, exp.Escape):
            self._only(node, "this", "expression")
            escape, node = node.expression.name, node.this
            if len(escape) != 1 or not isinstance(node, exp.Like | exp.ILike):
                self.refuse(node, "ESCAPE takes one character after LIKE")
        self._only(node, "this", "expression", "negate")
        value, pattern = self.expression(node.this), node.expression
        if not (isinstance(pattern, exp.Literal) and pattern.is_string) or value.kind not in ("text", "null"):
            self.refuse(node, "LIKE compares text with a pattern in quotes")
        if len(pattern.name) - len(pattern.name.rstrip(escape)) & 1:
            self.refuse(node, "the LIKE pattern must not end with its escape character")
        word = ("NOT " if node.args.get("negate") else "") + ("ILIKE" if isinstance(node, exp.ILike) else "LIKE")
        return Piece(f"({value.sql} {word} {self._literal(pattern).sql} ESCAPE {_quoted(escape)})", "bool")

    def _case(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "ifs", "default")
        subject = [self.expression(node.this)] if node.this else []
        parts, results = [piece.sql for piece in subject], []
        for branch in node.args["ifs"]:
            when = self.expression(branch.this) if subject else self.condition(branch.this)
            results.append(self.expression(branch.args["true"]))
            parts.append(f"WHEN {when.sql} THEN {results[-1].wide or results[-1].sql}")
        if node.args.get("default"):
            results.append(self.expression(node.args["default"]))
            parts.append(f"ELSE {results[-1].wide or results[-1].sql}")
        return Piece(f"(CASE {' '.join(parts)} END)", self._common(node, results))

    def _common(self, node: exp.Expr, pieces: Sequence[Piece]) -> Kind:
        """Find the kind that an expression of several alternatives has."""
        kinds = {piece.kind for piece in pieces} - {"null"}
        if kinds == {"int", "float"}:
            return "float"
        if len(kinds) > 1 or "list" in kinds:
            self.refuse(node, f"the alternatives of '{_shown(node)}' are of different types")
        return kinds.pop() if kinds else "null"

    def _cast(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "to")
        to = node.args["to"]
        known = CASTS.get(to.this) if not to.expressions and not to.args.get("nested") else None
        if known is None:
            self.refuse(
                node,
                f"a cast to {to.sql('postgres').lower()} is refused; use int, bigint, double precision or text",
            )
        inner = self.expression(node.this)
        if inner.kind == "list":
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        sql = f"CAST({inner.sql} AS {known[0]})"
        return Piece(sql, known[1], f"CAST({sql} AS BIGINT)" if known[1] == "int" else "")

    def _index(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "expressions")
        name = self._names.get(node.this.name.lower()) if isinstance(node.this, exp.Column) else None
        vector = self.expression(node.this)
        if name is None or vector.kind != "list" or not hasattr(self.columns[name], "value_type"):
            self.refuse(node, f"'{_shown(node.this)}' is not a vector column and has no elements")
        index = node.expressions[0] if len(node.expressions) == 1 else None
        if (
            not isinstance(index, exp.Literal)
            or index.is_string
            or not index.name.isdigit()
            or not 0 < int(index.name[:10]) < 10**9
        ):
            self.refuse(node, f"the index of '{name}' must be a whole number from 1 on")
        return self._typed(f"{vector.sql}[{int(index.name)}]", self.columns[name].value_type)

    def _substring(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "start", "length")
        return self._call(node, "substring", [node.args[k] for k in ("this", "start", "length") if node.args.get(k)])

    def _position(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "substr")
        return self._call(node, "strpos", [node.this, node.args["substr"]])

    def _trim(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "expression", "position")
        side = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
        return self._call(node, side, [node.this, *([node.expression] if node.expression else [])])

    def _function(self, node: exp.Expr) -> Piece:
        self._only(node, "this", "expressions")
        return self._call(node, str(node.this).lower(), node.expressions)

    def _call(self, node: exp.Expr, name: str, arguments: Sequence[exp.Expr]) -> Piece:
        function = FUNCTIONS.get(name)
        if function is None:
            if name in AGGREGATES:
                self.refuse(
                    node, f"the aggregate function {name} is refused; fetch the rows and compute it on your side"
                )
            if "regex" in name or name in ("any", "all", "some"):
                self.refuse(node, f"{name} is refused; use LIKE or IN (...)")
            self.refuse(node, f"there is no function '{name}'{nearest(name, FUNCTIONS)}")
        if not function.least <= len(arguments) <= function.most:
            self.refuse(node, f"the function {name} does not take {len(arguments)} arguments")
        pieces = [self.expression(argument) for argument in arguments]
        if "list" in {piece.kind for piece in pieces}:
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        if function.takes == "number":
            self._numbers(node, *pieces)
            return call_math(function, pieces)
        if function.takes == "text" and not {piece.kind for piece in pieces} <= {"text", "null"}:
            self.refuse(node, f"the function {name} takes text")
        texts, numbers = {pieces[0].kind} if pieces else set(), {p.kind for p in pieces[1:]}
        if name in PARTS and not (texts <= {"text", "null"} and numbers <= {"int", "null"}):
            self.refuse(node, f"the function {name} takes text and integers")
        kind = self._common(node, pieces) if function.gives == "same" else function.gives
        wide = [piece.wide or piece.sql for piece in pieces] if kind in ("int", "float") else [p.sql for p in pieces]
        return Piece(f"{function.sql}({', '.join(wide)})", kind)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shown(node: exp.Expr) -> str:
    """Show an expression in an error message, shortened."""
    text = " ".join(node.sql("postgres").split())
    return text if len(text) <= 40 else text[:37] + "..."


_ARTICLES: dict[Kind, str] = {
    "int": "a number",
    "float": "a number",
    "text": "text",
    "bool": "a condition",
    "list": "a whole vector",
    "other": "this type",
}
_REBUILDERS: dict[type[exp.Expr], Callable[[Rebuilder, exp.Expr], Piece]] = {
    exp.Column: Rebuilder._column,
    exp.Literal: Rebuilder._literal,
    exp.Boolean: lambda self, node: Piece("TRUE" if node.this else "FALSE", "bool"),
    exp.Null: lambda self, node: Piece("NULL", "null"),
    exp.Paren: lambda self, node: self.expression(node.this),
    exp.Not: lambda self, node: Piece(f"(NOT {self.condition(node.this).sql})", "bool"),
    exp.Neg: Rebuilder._negative,
    exp.BitwiseNot: Rebuilder._bitwise_not,
    exp.Is: Rebuilder._is,
    exp.Between: Rebuilder._between,
    exp.In: Rebuilder._in,
    exp.Like: Rebuilder._like,
    exp.ILike: Rebuilder._like,
    exp.Escape: Rebuilder._like,
    exp.Case: Rebuilder._case,
    exp.Cast: Rebuilder._cast,
    exp.Bracket: Rebuilder._index,
    exp.Substring: Rebuilder._substring,
    exp.StrPosition: Rebuilder._position,
    exp.Trim: Rebuilder._trim,
    exp.Anonymous: Rebuilder._function,
}
