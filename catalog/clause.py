"""One clause of what a query says in several places."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from specflight.catalog.columns import Columns
from specflight.catalog.guard import GuardedClause, QueryLimits, guard_where
from specflight.errors import InvalidRequest

__all__ = ["Clauses"]

_KEPT = 256
_LONGEST_KEPT = 2000  # characters: longer ones bring lists, which would fill the memory


class Clauses:
    """Guarded clauses of one table; those that come again, as in a loop over places, are not parsed again.

    Parameters
    ----------
    columns : Columns
    limits : QueryLimits
    """

    def __init__(self, columns: Columns, limits: QueryLimits) -> None:
        self._columns, self._limits = columns, limits
        self._kinds = {name: field.type for name, field in columns.fields.items()}
        self._aliases = columns.aliases
        self._kept = lru_cache(maxsize=_KEPT)(self._guard)

    def join(
        self, where: str | None, order_by: str | None = None, limit: int | None = None, offset: int = 0
    ) -> GuardedClause:
        """Guard a clause and bring it together with what is given by itself.

        Parameters
        ----------
        where : str or None
            A WHERE clause; may end in ORDER BY, LIMIT and OFFSET, or be only these.
        order_by : str, optional
            Sort keys.
        limit, offset : int, optional

        Returns
        -------
        GuardedClause

        Raises
        ------
        InvalidRequest
            If the clause is refused, a number is negative, or a thing is said twice.
        """
        for name, number in (("limit", limit or 0), ("offset", offset)):
            if number < 0:
                raise InvalidRequest(f"{name}: {number} is negative")
        clause = self._guarded(where or "")
        sort = GuardedClause()
        if order_by and order_by.strip():
            sort = self._sort_keys(order_by)
        pairs = {
            "order_by": (clause.order_by, sort.order_by),
            "limit": (clause.limit, limit),
            "offset": (clause.offset, offset or None),
        }
        for name, said in pairs.items():
            if None not in said:
                raise InvalidRequest(f"{name}: it is given twice, in the clause and by itself")
        return replace(
            clause,
            order_by=clause.order_by or sort.order_by,
            limit=limit if clause.limit is None else clause.limit,
            offset=offset if clause.offset is None else clause.offset,
            columns=clause.columns | sort.columns,
        )

    def _sort_keys(self, order_by: str) -> GuardedClause:
        """Guard sort keys; what is said of them counts from their own first character."""
        prefix = "ORDER BY "
        try:
            sort = self._guarded(prefix + order_by)
        except InvalidRequest as error:
            place = re.fullmatch(r"where(?: at character (\d+))?: (.*)", str(error), re.DOTALL)
            if place is None:
                raise
            where = f" at character {max(int(place[1]) - len(prefix), 1)}" if place[1] else ""
            raise InvalidRequest(f"order_by{where}: {place[2]}") from None
        if sort.limit is not None or sort.offset is not None:
            raise InvalidRequest(
                f"order_by: '{order_by}' holds more than sort keys; give limit and offset by themselves"
            )
        if sort.lists or sort.sky:
            raise InvalidRequest("order_by: long lists and regions are no sort keys; sort by columns")
        return sort

    def _guarded(self, text: str) -> GuardedClause:
        return self._kept(text) if len(text) <= _LONGEST_KEPT else self._guard(text)

    def _guard(self, text: str) -> GuardedClause:
        columns = self._columns
        return guard_where(
            text,
            self._kinds,
            self._limits,
            columns.table,
            aliases=self._aliases,
            position=columns.position,
            sizes=columns.sizes,
        )
