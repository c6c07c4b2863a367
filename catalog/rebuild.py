"""Expressions of a WHERE clause: rebuilt piece by piece from an allow-list, as DuckDB SQL.

Nothing of the user's text reaches the database. Names come from the table, numbers are printed anew, strings are
quoted, and an operator or a function that `specflight.catalog.allowlist` lacks is refused. Results are those of
PostgreSQL 15 where the two databases differ: integer division truncates, single precision meets whole numbers in double
precision, ``#`` is the exclusive or. What is different on purpose:

- decimal fractions (numeric) are computed in double precision;
- small integers do not overflow, and bits are shifted as those of a bigint, by the remainder of 64: 1 << 40 is what it
  looks like;
- there is NULL where PostgreSQL fails: at a division by zero, the root of a negative number, a text that is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import pyarrow as pa
import pyarrow.types as pt
from sqlglot import exp

from specflight.catalog import functions, operators
from specflight.catalog.allowlist import ARITHMETIC, BITS, COMPARISONS, DISTINCT, REFUSALS, nearest
from specflight.catalog.kinds import NUMBERS, Kind, Piece, number, quoted
from specflight.catalog.parse import refusal, shortened
from specflight.catalog.regions import Region

__all__ = ["Rebuilder"]

MAX_TEXT = 10_000  # bytes of texts made of a row: DuckDB holds 2,048 rows per thread, outside its memory limit
MAX_COLUMN = 100_000  # bytes that are granted beside for each column named, so that lower can make it anew
COLUMN_SIZE = 32  # bytes of a text in a column whose texts were not measured
_ALIASES = {"z_err": "zerr"}


@dataclass
class Rebuilder:
    """Rebuilds the expressions of one clause.

    Parameters
    ----------
    columns : mapping of str to pyarrow.DataType
        Columns that may be named, whatever the case of the letters.
    table : str
        The one name that may qualify a column; its schema, if it has one, may be left out.
    taken : sequence
        What the parameters ``$1``, ``$2``, ... stand for: tables of one column ``v``, tuples of numbers.
    locate : callable
        Turns a position in the parsed text into the position in the user's.
    aliases : mapping of str to str, optional
        Other names of columns.
    position : (str, str) or None
        Columns of right ascension and declination.
    sizes : mapping of str to int
        Bytes of the longest text in each column of texts, where it is known.

    Attributes
    ----------
    used : set of str
        The columns that the expressions so far have named.
    regions : dict of Region to str
        Regions that they have named, with the names of their tables of row numbers.
    within : list of Region
        Regions in which every row lies.
    read : dict of int to pyarrow.Table
        Long lists that were read as another type than their own, by the numbers of their parameters.
    """

    columns: Mapping[str, pa.DataType]
    table: str
    taken: Sequence[pa.Table | tuple[float, ...]]
    locate: Callable[[int], int]
    aliases: Mapping[str, str] | None = None
    position: tuple[str, str] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    regions: dict[Region, str] = field(default_factory=dict)
    within: list[Region] = field(default_factory=list)
    read: dict[int, pa.Table] = field(default_factory=dict)
    _names: dict[str, str] = field(init=False)
    _made: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._names = {name.lower(): name for name in self.columns}
        for alias, name in {**_ALIASES, **(self.aliases or {})}.items():
            if name.lower() in self._names:
                self._names.setdefault(alias.lower(), self._names[name.lower()])
        if self.position is not None:
            ra, dec = (self._names.get(name.lower()) for name in self.position)
            self.position = (ra, dec) if ra is not None and dec is not None else None

    @property
    def lists(self) -> dict[str, pa.Table]:
        """The long lists by the names under which the expressions select from them."""
        tables = {n: values for n, values in enumerate(self.taken, 1) if isinstance(values, pa.Table)}
        return {f"list_{n}": values for n, values in (tables | self.read).items()}

    def condition(self, node: exp.Expr) -> Piece:
        """Rebuild an expression that must be true or false."""
        piece = self.expression(node)
        if piece.kind not in ("bool", "null"):
            self.refuse(node, f"'{self.shown(node)}' is no condition; compare it with something")
        return piece

    def expression(self, node: exp.Expr) -> Piece:
        """Rebuild any expression.

        Raises
        ------
        InvalidRequest
            Naming what is not allowed, and where it stands.
        """
        kind = type(node)
        rebuild = _REBUILDERS.get(kind)
        if rebuild is None:
            self.refuse(node, REFUSALS.get(kind) or f"'{self.shown(node)}' is not supported")
        piece = rebuild(self, node)
        if kind not in (exp.Column, exp.Literal, exp.Paren):
            self._made += piece.size
            limit = MAX_TEXT + sum(min(self.sizes.get(name, 0), MAX_COLUMN) for name in self.used)
            if self._made > limit:
                self.refuse(node, f"the texts it makes may become too long; the limit is {limit} bytes for a row")
        return piece

    def value(self, node: exp.Expr) -> Piece:
        """Rebuild an expression that must not be a whole vector."""
        piece = self.expression(node)
        if piece.kind == "list":
            self.refuse(node, "a vector column must be indexed, as in mag[1]")
        return piece

    def numbers(self, node: exp.Expr, *pieces: Piece) -> None:
        """Refuse pieces of an expression that are no numbers."""
        for piece in pieces:
            if piece.kind not in (*NUMBERS, "null"):
                self.refuse(node, f"'{self.shown(node)}' needs numbers, not {operators.ARTICLES[piece.kind]}")

    def refuse(self, node: exp.Expr, reason: str) -> NoReturn:
        """Raise InvalidRequest with a reason and the place of an expression."""
        here: exp.Expr | None = node
        while here is not None:
            starts = [part.meta["start"] for part in here.walk() if "start" in part.meta]
            if starts:
                raise refusal(reason, self.locate(min(starts)))
            here = here.parent
        raise refusal(reason)

    def only(self, node: exp.Expr, *arguments: str) -> None:
        """Refuse an expression that says more than the rebuilt one would."""
        for name, value in node.args.items():
            if value and name not in arguments:
                self.refuse(node, f"'{self.shown(node)}' is not supported")

    def again(self, node: exp.Expr, piece: Piece) -> str:
        """SQL of a piece that is written more than once, which must not be long."""
        if len(piece.sql) > operators.MAX_COPIED:
            self.refuse(node, f"'{self.shown(node)}' is too long for where it stands; write it simpler")
        return piece.sql

    def shown(self, node: exp.Expr) -> str:
        """Show an expression in an error message, shortened."""
        return shortened(node.sql("postgres"))

    def name_of(self, node: exp.Expr) -> str | None:
        """The table's column that an expression is, by whatever name; None if it is something else."""
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        schema, _, table = self.table.rpartition(".")
        if node.text("table") and node.text("table").lower() != table.lower():
            said = shortened(node.text("table"))
            self.refuse(node, f"the table '{said}' is not the one that is queried, '{table}'")
        if node.text("db") and node.text("db").lower() != schema.lower():
            said, name = shortened(node.text("db")), shortened(f"{table}.{node.name}")
            self.refuse(node, f"leave the schema '{said}' out, as in {name}")
        return self._names.get(node.name.lower())

    def column(self, node: exp.Expr) -> Piece:
        """Rebuild the name of a column."""
        self.only(node, "this", "table", "db")
        if not isinstance(node.this, exp.Identifier):
            self.refuse(node, REFUSALS[exp.Star])
        name = self.name_of(node)
        if name is None:
            hint = nearest(node.name, self._names)
            quotes = "; text is written in single quotes" if node.this.args.get("quoted") else ""
            self.refuse(node, f"there is no column '{shortened(node.name)}'{hint or quotes}")
        self.used.add(name)
        return self._typed('"' + name.replace('"', '""') + '"', name, self.columns[name])

    def element(self, node: exp.Expr) -> Piece:
        """Rebuild an element of a vector column."""
        self.only(node, "this", "expressions")
        name = self.name_of(node.this)
        vector = self.expression(node.this)
        if name is None or vector.kind != "list" or not hasattr(self.columns[name], "value_type"):
            self.refuse(node, f"'{self.shown(node.this)}' is not a vector column and has no elements")
        index = node.expressions[0] if len(node.expressions) == 1 else None
        text = index.name if isinstance(index, exp.Literal) and not index.is_string else ""
        if not text.isdigit() or not 0 < int(text[:10]) < 10**9:
            self.refuse(node, f"the index of '{name}' must be a whole number from 1 on")
        return self._typed(f"{vector.sql}[{int(text)}]", name, self.columns[name].value_type)

    def _typed(self, sql: str, name: str, kind: pa.DataType) -> Piece:
        """What a column or an element of Arrow's type is."""
        if pt.is_uint64(kind):
            return Piece(sql, "int", f"CAST({sql} AS HUGEINT)")
        if pt.is_integer(kind):
            return Piece(sql, "int", f"CAST({sql} AS BIGINT)")
        if pt.is_string(kind) or pt.is_large_string(kind):
            return Piece(sql, "text", size=self.sizes.get(name, COLUMN_SIZE))
        if pt.is_binary(kind):
            return Piece(sql, "other", size=4 * self.sizes.get(name, COLUMN_SIZE))  # each byte may become \x00
        if pt.is_decimal(kind):
            return Piece(f"CAST({sql} AS DOUBLE)", "numeric")
        other: Kind = "list" if pt.is_nested(kind) else "other"
        if pt.is_floating(kind):
            other = "float" if pt.is_float64(kind) else "real"
        return Piece(sql, "bool" if pt.is_boolean(kind) else other)

    def literal(self, node: exp.Expr) -> Piece:
        """Rebuild a number or a text."""
        text = node.name
        if node.args.get("is_string"):
            return Piece(quoted(text), "text", literal=text, size=len(text.encode()))
        try:
            value = int(text) if text.isdigit() else float(text)
            sql = number(value)
        except OverflowError:
            value = float("inf")
        except ValueError:
            # int() refuses thousands of digits
            value = float("inf") if text.isdigit() else float("nan")
        if value != value:
            self.refuse(node, f"'{shortened(text)}' is not a number")
        if value == float("inf"):
            self.refuse(node, f"the number {shortened(text)} is too large")
        if isinstance(value, float):
            return Piece(sql, "numeric")
        return Piece(sql, "int", f"CAST({value} AS HUGEINT)" if value >= 2**63 else "")


_REBUILDERS: dict[type[exp.Expr], Callable[[Rebuilder, exp.Expr], Piece]] = {
    **dict.fromkeys((exp.And, exp.Or), operators.junction),
    **dict.fromkeys((*ARITHMETIC, *BITS, exp.DPipe), operators.chain),
    **dict.fromkeys((*COMPARISONS, *DISTINCT), operators.comparison),
    exp.Column: Rebuilder.column,
    exp.Literal: Rebuilder.literal,
    exp.Boolean: lambda self, node: Piece("TRUE" if node.this else "FALSE", "bool"),
    exp.Null: lambda self, node: Piece("NULL", "null", "CAST(NULL AS BIGINT)"),
    exp.Paren: lambda self, node: self.expression(node.this),
    exp.Not: lambda self, node: Piece(f"(NOT {self.condition(node.this).sql})", "bool"),
    exp.Neg: operators.negative,
    exp.BitwiseNot: operators.bitwise_not,
    exp.Is: operators.is_something,
    exp.Between: operators.between,
    exp.In: operators.is_in,
    exp.Like: operators.like,
    exp.ILike: operators.like,
    exp.Escape: operators.like,
    exp.Case: operators.case,
    exp.Cast: operators.cast,
    exp.Bracket: Rebuilder.element,
    exp.Sqrt: functions.prefixed,
    exp.Cbrt: functions.prefixed,
    exp.Substring: functions.substring,
    exp.StrPosition: functions.position,
    exp.Trim: functions.trim,
    exp.Anonymous: functions.function,
}
