"""The guard of user SQL: a WHERE clause is parsed, checked against an allow-list and written anew.

The text is first scanned for what never belongs into a clause (comments, semicolons, a second statement's
characters), for its length and its depth, since the parser recurses. Long lists of values are taken out there: they
travel as Arrow tables. Then sqlglot parses the clause as the tail of a SELECT, and `Rebuilder` makes the SQL.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres

from specflight.catalog.rebuild import Rebuilder
from specflight.errors import InvalidRequest

__all__ = ["GuardedClause", "QueryLimits", "guard_where"]

MAX_TOKENS = 5000  # words and symbols outside long lists; parsing takes 50 microseconds each
LONG_LIST = 50  # values in IN (...) from which on they become an Arrow table

_SELECT = "SELECT 1 FROM t "
_TOKEN = re.compile(
    r"""(?P<list>\bIN\s*+\(\s*+(?:-?\d++(?:\s*+,\s*+-?\d++)++|'(?:[^']|'')*+'(?:\s*+,\s*+'(?:[^']|'')*+')++)\s*+\))
    |(?P<string>'(?:[^']|'')*+')|(?P<name>"(?:[^"]|"")++")|(?P<word>[A-Za-z_]\w*+)|(?P<number>[\d.]++)|(?P<space>\s++)
    |(?P<symbol>.)""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_VALUE = re.compile(r"-?\d++|'(?:[^']|'')*+'", re.ASCII)
_TAIL_ONLY = re.compile(
    r"\s*(?:ORDER\s+BY\b|(?:LIMIT|OFFSET)\s*(?:[-+]?\s*\d|\(|ALL\b|NULL\b))", re.IGNORECASE | re.ASCII
)
_SYMBOLS = frozenset("()[],.+-*/%<>=!&|#~^:@")
_REFUSED_SYMBOLS = {
    ";": "a second statement is refused",
    "$": "parameters and dollar quotes are refused; write the value itself",
    "?": "parameters are refused; write the value itself",
    "'": "a quote that is opened is never closed",
    '"': "a quote that is opened is never closed",
}


class _Clause(Postgres):
    """PostgreSQL as it is written here: functions are left alone, indexes count from 1."""

    INDEX_OFFSET = 0

    class Parser(Postgres.Parser):  # type: ignore[misc, valid-type]
        """Keeps the name that the user wrote for a function, so that the allow-list decides on it."""

        FUNCTIONS: dict[str, object] = {}  # noqa: RUF012 - as in sqlglot
        NO_PAREN_FUNCTIONS: dict[str, object] = {}  # noqa: RUF012
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: Postgres.Parser.FUNCTION_PARSERS[name] for name in ("CAST", "SUBSTRING", "POSITION", "TRIM")
        }
        NO_PAREN_FUNCTION_PARSERS = {"CASE": Postgres.Parser.NO_PAREN_FUNCTION_PARSERS["CASE"]}  # noqa: RUF012


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of one query.

    Attributes
    ----------
    max_rows : int
        Rows of a result.
    seconds : float
        Time in the database.
    max_clause_length : int
        Characters of a clause.
    max_nesting : int
        Depth of parentheses, CASE and signs within each other; the parser cannot go much deeper.
    """

    max_rows: int = 5_000_000
    seconds: float = 60.0
    max_clause_length: int = 1_000_000
    max_nesting: int = 32


@dataclass(frozen=True, slots=True)
class GuardedClause:
    """A clause that is safe to run: nothing in it is the user's text.

    Attributes
    ----------
    condition, order_by : str or None
        DuckDB SQL of a condition and of a list of sort keys.
    limit, offset : int or None
    columns : frozenset of str
        Columns that they name, as the table spells them.
    lists : mapping of str to pyarrow.Table
        Tables of one column ``v`` by the names under which the condition selects from them.
    """

    condition: str | None = None
    order_by: str | None = None
    limit: int | None = None
    offset: int | None = None
    columns: frozenset[str] = frozenset()
    lists: Mapping[str, pa.Table] = field(default_factory=dict)


def guard_where(
    clause: str, columns: Mapping[str, pa.DataType], limits: QueryLimits, table: str = "catalog"
) -> GuardedClause:
    """Check and rewrite a WHERE clause.

    Parameters
    ----------
    clause : str
        Conditions in PostgreSQL's dialect, with or without the word WHERE, and then or alone ORDER BY, LIMIT, OFFSET.
    columns : mapping of str to pyarrow.DataType
        The table's columns.
    limits : QueryLimits
    table : str
        The one name that may qualify a column.

    Returns
    -------
    GuardedClause

    Raises
    ------
    InvalidRequest
        Saying what is refused, where it stands, and what to do instead.

    Examples
    --------
    >>> guard_where("z > 0.5 ORDER BY z DESC LIMIT 3", {"z": pa.float32()}, QueryLimits())
    GuardedClause(condition='("z" > 0.5e0)', order_by='"z" DESC NULLS FIRST', limit=3, offset=None, \
columns=frozenset({'z'}), lists={})
    """
    if len(clause) > limits.max_clause_length:
        raise InvalidRequest(f"where: it has {len(clause)} characters, the limit is {limits.max_clause_length}")
    if "\0" in clause or any("\ud800" <= c <= "\udfff" for c in clause if not c.isascii()):
        raise InvalidRequest("where: it holds a character that is no text")
    text = _scan(clause, limits.max_nesting)
    if not text.sql.strip():
        return GuardedClause()
    try:
        select = _parse(text)
        rebuilder = Rebuilder(
            columns=columns,
            table=table,
            lists=[f"SELECT v FROM {_list_name(n)}" for n in range(len(text.lists))],
            locate=text.locate,
        )
        where, order = select.args.get("where"), select.args.get("order")
        return GuardedClause(
            condition=rebuilder.condition(where.this).sql if where else None,
            order_by=_order(rebuilder, order) if order else None,
            limit=_count(rebuilder, select, "limit"),
            offset=_count(rebuilder, select, "offset"),
            columns=frozenset(rebuilder.used),
            lists={_list_name(n): values for n, values in enumerate(text.lists)},
        )
    except RecursionError:
        raise InvalidRequest(f"where: it is nested too deeply, the limit is {limits.max_nesting}") from None


@dataclass(frozen=True, slots=True)
class _Text:
    """A clause as it is parsed, without its long lists.

    `cuts` are the positions behind the lists and `removed` the characters taken out up to there.
    """

    sql: str
    prefix: int
    lists: tuple[pa.Table, ...]
    cuts: tuple[int, ...]
    removed: tuple[int, ...]

    def locate(self, position: int) -> int:
        """Turn a position in the parsed statement into the user's, counted from 1."""
        place = position - self.prefix
        before = bisect_right(self.cuts, place)
        return max(place + (self.removed[before - 1] if before else 0), 0) + 1


def _list_name(n: int) -> str:
    return f"list_{n + 1}"


def _scan(clause: str, max_nesting: int) -> _Text:
    """Check a clause's characters, length and depth, and take the long lists out of it."""
    parts: list[str] = []
    lists: list[pa.Table] = []
    cuts: list[int] = []
    removed: list[int] = []
    length = tokens = 0
    depth = _Depth(max_nesting)
    for match in _TOKEN.finditer(clause):
        kind, token = match.lastgroup, match.group()
        if kind == "list":
            if token.count(",") >= LONG_LIST:
                lists.append(_values(token))
                short = f"IN (${len(lists)})"
                removed.append((removed[-1] if removed else 0) + len(token) - len(short))
                token = short
                cuts.append(length + len(token))
            else:
                tokens += 2 * token.count(",")
        elif kind == "symbol":
            _check_symbol(token, match.start(), clause)
        tokens += kind != "space"
        if tokens > MAX_TOKENS:
            raise InvalidRequest(f"where: it has more than {MAX_TOKENS} words and symbols; send long lists as IN (...)")
        depth.see(token, kind)
        parts.append(token)
        length += len(token)
    sql = "".join(parts)
    word = "" if re.match(r"\s*WHERE\b", sql, re.IGNORECASE) or _TAIL_ONLY.match(sql) else "WHERE "
    return _Text(
        _SELECT + word + sql if sql.strip() else "", len(_SELECT + word), tuple(lists), tuple(cuts), tuple(removed)
    )


def _check_symbol(symbol: str, start: int, clause: str) -> None:
    if symbol not in _SYMBOLS:
        reason = _REFUSED_SYMBOLS.get(symbol, f"the character {clause[start]!r} is refused outside quotes")
        raise InvalidRequest(f"where at character {start + 1}: {reason}")
    if clause.startswith(("--", "/*", "*/"), start):
        raise InvalidRequest(
            f"where at character {start + 1}: comments are refused; put blanks between two minus signs"
        )


class _Depth:
    """Counts how deeply the text read so far is nested, and refuses what is too deep."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._signs = [0]  # signs and NOTs before the next operand, one count for each open parenthesis
        self._total = 0

    def see(self, token: str, kind: str | None) -> None:
        """Take the next token into account."""
        word = token.upper() if kind == "word" else ""
        if token in ("(", "[") or word == "CASE":
            self._signs.append(0)
            self._total += 1
        elif (token in (")", "]") or word == "END") and len(self._signs) > 1:
            self._total -= 1 + self._signs.pop()
        elif token in ("-", "+", "~", "!", "@") or word == "NOT":
            self._signs[-1] += 1
            self._total += 1
        elif kind != "space":
            self._total -= self._signs[-1]
            self._signs[-1] = 0
        if self._total > self._limit:
            raise InvalidRequest(f"where: it is nested more than {self._limit} deep")


def _values(token: str) -> pa.Table:
    """Read the values of a long IN (...)."""
    inside = token[token.index("(") + 1 : -1]
    if "'" in inside:
        return pa.table({"v": [value[1:-1].replace("''", "'") for value in _VALUE.findall(inside)]})
    numbers = list(map(int, inside.split(",")))
    least, most = min(numbers), max(numbers)
    if least < -(2**63) or most >= 2**64 or (least < 0 and most >= 2**63):
        raise InvalidRequest(f"where: the list of {len(numbers)} values has some that are no 64-bit integers")
    return pa.table({"v": np.array(numbers, np.uint64 if most >= 2**63 else np.int64)})


def _parse(text: _Text) -> exp.Select:
    """Parse a clause, and refuse what is more than conditions, order, limit and offset."""
    try:
        statements = sqlglot.parse(text.sql, dialect=_Clause)
    except sqlglot.errors.ParseError as error:
        first = error.errors[0] if error.errors else {}
        near, line, column = str(first.get("highlight", "")), first.get("line", 1), first.get("col", 0)
        before = sum(len(row) + 1 for row in text.sql.split("\n")[: line - 1])
        place = text.locate(max(before + column - len(near), 0))
        raise InvalidRequest(f"where at character {place}: it cannot be understood near '{near[:40]}'") from None
    except sqlglot.errors.SqlglotError:
        raise InvalidRequest("where: it cannot be understood; is a quote or a parenthesis not closed?") from None
    select = statements[0] if len(statements) == 1 else None
    if isinstance(select, exp.SetOperation):
        raise InvalidRequest("where: UNION, EXCEPT and INTERSECT are refused; send two queries")
    if not isinstance(select, exp.Select):
        raise InvalidRequest("where: it is more than a condition; only WHERE, ORDER BY, LIMIT and OFFSET are served")
    for name, value in select.args.items():
        if value and name not in ("expressions", "from_", "where", "order", "limit", "offset"):
            said = name.upper().rstrip("S")
            raise InvalidRequest(f"where: {said} is refused; only WHERE, ORDER BY, LIMIT and OFFSET are served")
    return select


def _order(rebuilder: Rebuilder, order: exp.Expr) -> str:
    keys = []
    for key in order.expressions:
        if not isinstance(key, exp.Ordered) or key.args.get("with_fill"):
            rebuilder.refuse(key, "ORDER BY takes columns and expressions, with ASC, DESC and NULLS FIRST or LAST")
        if isinstance(key.this, exp.Literal | exp.Null | exp.Boolean):
            rebuilder.refuse(key, f"ORDER BY takes a column or an expression, not '{key.this.name}'")
        piece = rebuilder.expression(key.this)
        if piece.kind == "list":
            rebuilder.refuse(key, "a vector column must be indexed, as in mag[1]")
        # the parser puts NULLs where PostgreSQL does: last when ascending, first when descending
        nulls = "FIRST" if key.args.get("nulls_first") else "LAST"
        keys.append(f"{piece.sql} {'DESC' if key.args.get('desc') else 'ASC'} NULLS {nulls}")
    return ", ".join(keys)


def _count(rebuilder: Rebuilder, select: exp.Select, name: str) -> int | None:
    node = select.args.get(name)
    if node is None:
        return None
    number = node.args.get("expression")
    extras = [key for key, value in node.args.items() if value and key != "expression"]
    if (
        extras
        or not isinstance(number, exp.Literal)
        or number.is_string
        or not number.name.isdigit()
        or len(number.name) > 18
    ):
        rebuilder.refuse(node, f"{name.upper()} takes a whole number from 0 on")
    return int(number.name)
