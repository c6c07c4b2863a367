"""The guard of user SQL: a WHERE clause is parsed, checked against an allow-list and written anew.

`specflight.catalog.parse` makes a tree of the text and `specflight.catalog.rebuild` new SQL of the tree. Conditions on
the sky that hold for every row found are taken out as regions, for the sky index to answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from specflight.catalog.operators import balanced
from specflight.catalog.parse import parse, refusal, scan
from specflight.catalog.rebuild import Rebuilder
from specflight.catalog.regions import Region
from specflight.catalog.skyclauses import check_regions, cone_around, region_of
from specflight.errors import InvalidRequest

__all__ = ["GuardedClause", "QueryLimits", "guard_where"]


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
        Characters of a clause: 100,000 identifiers in IN (...) have two million.
    max_nesting : int
        Depth of parentheses, CASE and signs within each other; the parser cannot go much deeper.
    """

    max_rows: int = 5_000_000
    seconds: float = 60.0
    max_clause_length: int = 4_000_000
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
        Tables of one column ``v`` by the names under which condition and sort keys select from them.
    sky : mapping of str to Region
        Regions by the names of the tables, of one column ``r`` with the numbers of the rows in the region, from
        which condition and sort keys select; they call a row's own number ``_row``.
    within : tuple of Region
        Regions in which every row found lies, beside what `condition` says.
    """

    condition: str | None = None
    order_by: str | None = None
    limit: int | None = None
    offset: int | None = None
    columns: frozenset[str] = frozenset()
    lists: Mapping[str, pa.Table] = field(default_factory=dict)
    sky: Mapping[str, Region] = field(default_factory=dict)
    within: tuple[Region, ...] = ()


def guard_where(
    clause: str,
    columns: Mapping[str, pa.DataType],
    limits: QueryLimits,
    table: str = "catalog",
    *,
    aliases: Mapping[str, str] | None = None,
    position: tuple[str, str] | None = ("ra", "dec"),
    sizes: Mapping[str, int] | None = None,
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
        The one name that may qualify a column; ``schema.table`` if it has a schema, which may be left out.
    aliases : mapping of str to str, optional
        Other names of columns; they count where there is no column of that very name, as does z_err for zerr.
    position : (str, str) or None
        Columns of right ascension and declination, whose regions the sky index answers; None if there are none.
    sizes : mapping of str to int, optional
        Bytes of the longest text in each column of texts; a column that is not told is taken to hold short ones.

    Returns
    -------
    GuardedClause

    Raises
    ------
    InvalidRequest
        Saying what is refused, where it stands, and what to do instead.

    Examples
    --------
    >>> guard_where("z > 0.5 ORDER BY z DESC LIMIT 3", {"z": pa.float64()}, QueryLimits()).condition
    '("z" > 0.5e0)'
    """
    if len(clause) > limits.max_clause_length:
        raise InvalidRequest(f"where: it has {len(clause)} characters, the limit is {limits.max_clause_length}")
    text = scan(clause, limits.max_nesting)
    if not text.sql.strip():
        return GuardedClause()
    try:
        select = parse(text)
        rebuilder = Rebuilder(
            columns=columns,
            table=table,
            taken=text.taken,
            locate=text.locate,
            aliases=aliases,
            position=position,
            sizes=sizes or {},
        )
        where, order = select.args.get("where"), select.args.get("order")
        condition = _condition(rebuilder, where.this) if where else None
        return GuardedClause(
            condition=condition,
            order_by=_order(rebuilder, order) if order else None,
            limit=_count(rebuilder, select, "limit"),
            offset=_count(rebuilder, select, "offset"),
            columns=frozenset(rebuilder.used),
            lists=rebuilder.lists,
            sky={name: region for region, name in rebuilder.regions.items()},
            within=tuple(rebuilder.within),
        )
    except RecursionError:
        raise refusal(f"it is nested too deeply, the limit is {limits.max_nesting}") from None


def _condition(rebuilder: Rebuilder, node: exp.Expr) -> str | None:
    """Rebuild a condition without the regions that it is joined with by AND, which the rebuilder then knows."""
    rest: list[str] = []
    for part in _joined(node):
        region = region_of(rebuilder, part)
        if region is None:
            rest.append(rebuilder.condition(part).sql)
            region = cone_around(rebuilder, part)
        if region is not None and region not in rebuilder.within:
            rebuilder.within.append(region)
            check_regions(rebuilder, part)
    return balanced(rest, "AND") if rest else None


def _joined(node: exp.Expr) -> Sequence[exp.Expr]:
    """Conditions that are joined by AND, in parentheses or not, in the order in which they are written."""
    parts: list[exp.Expr] = []
    stack = [node]
    while stack:
        part = stack.pop()
        if type(part) is exp.And:
            stack += [part.expression, part.this]
        elif type(part) is exp.Paren:
            stack.append(part.this)
        else:
            parts.append(part)
    return parts


def _order(rebuilder: Rebuilder, order: exp.Expr) -> str:
    keys = []
    for key in order.expressions:
        if not isinstance(key, exp.Ordered) or key.args.get("with_fill"):
            rebuilder.refuse(key, "ORDER BY takes columns and expressions, with ASC, DESC and NULLS FIRST or LAST")
        piece = rebuilder.expression(key.this)
        if key.find(exp.Column) is None:
            rebuilder.refuse(key, f"ORDER BY takes a column or an expression of columns, not '{rebuilder.shown(key)}'")
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
    if name == "limit" and isinstance(number, exp.Var) and number.name.upper() == "ALL":
        return None
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
