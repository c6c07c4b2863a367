"""The columns of a table, under the names that requests have for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from specflight.catalog.allowlist import nearest
from specflight.catalog.sky import CELL
from specflight.errors import InvalidRequest

__all__ = ["Columns"]

ID = "specobjid"


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a table.

    Attributes
    ----------
    table : str
        Name of the table, with its schema if it has one.
    fields : mapping of str to pyarrow.Field
    id_column : str or None
        The column of identifiers.
    position : (str, str) or None
        Those of right ascension and declination in degrees.
    sizes : mapping of str to int
        Bytes of the longest text in each column of texts, as `RowStore` knows them.
    """

    table: str
    fields: Mapping[str, pa.Field]
    id_column: str | None
    position: tuple[str, str] | None
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def aliases(self) -> dict[str, str]:
        """Names that stand for a column where no column is called so: those of the service's own tables."""
        ra, dec = self.position or (None, None)
        meant = {ID: self.id_column, "ra": ra, "dec": dec, "z_err": "zerr", "zerr": "z_err"}
        there = {alias: name for alias, name in meant.items() if name is not None and name in self.fields}
        return {alias: name for alias, name in there.items() if alias not in self.fields}

    def schema(self, chosen: Mapping[str, str | None]) -> pa.Schema:
        """Schema of a result with the columns that `choose` found."""
        return pa.schema(
            [
                pa.field(ID, pa.uint64()) if column is None else self.fields[column].with_name(name)
                for name, column in chosen.items()
            ]
        )

    @property
    def listed(self) -> pa.Schema:
        """All columns but the cells."""
        return pa.schema([field for name, field in self.fields.items() if name != CELL])

    def choose(self, names: Sequence[str] | None) -> dict[str, str | None]:
        """Find columns.

        Parameters
        ----------
        names : sequence of str or None
            In any case; None for the column of identifiers alone.

        Returns
        -------
        dict of str to str or None
            The column's name in the table, by the name that the result has for it; None for the ``specobjid`` of a
            table without identifiers, which are all unknown.

        Raises
        ------
        InvalidRequest
            If there is no such column, one is named twice, or none is named.
        """
        if names is None:
            names = [self.id_column or ID]
        if not names:
            raise InvalidRequest("columns: the list is empty")
        known = self.aliases | {name.lower(): name for name in self.fields}
        chosen: dict[str, str | None] = {}
        for name in names:
            column = known.get(name.lower())
            if column is None and name.lower() == ID and self.id_column is None:
                chosen[ID] = None
                continue
            if column is None:
                raise InvalidRequest(f"columns: there is no column '{name}' in {self.table}{nearest(name, known)}")
            called = name.lower() if name.lower() in self.aliases else column
            if called in chosen:
                raise InvalidRequest(f"columns: '{called}' is named twice")
            chosen[called] = column
        return chosen
