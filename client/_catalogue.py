"""The part of the client that asks catalogues."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from specflight.catalog.identifiers import unpack_specobjid
from specflight.catalog.idlists import read_id_list
from specflight.client._arguments import Wanted, column_names, degrees, positions, region, wanted
from specflight.client._files import table_bytes, writer_of
from specflight.client._storage import STORED, Storage
from specflight.client._transport import Transport
from specflight.errors import InvalidRequest
from specflight.flight.protocol import CATALOGUE_ID, choose_columns, explain_validation, unidentified
from specflight.flight.requests import MatchRequest, Missing, QueryRequest

__all__ = ["CatalogueClient", "checked"]

Model = TypeVar("Model", bound=BaseModel)
TUPLE = ["tuple"]


def checked(model: type[Model], values: dict[str, Any]) -> Model:
    """Make a request; InvalidRequest names the field and the value that will not do."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(explain_validation(error)) from None


class CatalogueClient:
    """Queries of a service; `specflight.client.Client` is one.

    Parameters
    ----------
    transport : Transport
    storage : Storage
        Of the user, on the service.
    context : str
        Data set to ask when a call names none.
    """

    def __init__(self, transport: Transport, storage: Storage, context: str) -> None:
        self.context = context
        self._transport, self._storage = transport, storage

    def _wanted(self, ids: Any) -> Wanted:  # noqa: ANN401
        """Spectra that a user names, maybe by a stored file."""
        if not (isinstance(ids, str) and ids.startswith(STORED)):
            return wanted(ids)
        try:
            return wanted(read_id_list(self._storage.read(ids).decode()))
        except UnicodeDecodeError:
            raise InvalidRequest(f"ids: the file '{ids}' is not a text of ids") from None

    def _writer(self, out: str | os.PathLike[str]) -> Callable[[pa.Table], None]:
        """Writer of a result into a file, here or on the service."""
        name = str(out)
        if name.startswith(STORED):
            self._storage.check(name)
            return lambda table: self._storage.write(name, table_bytes(name, table))
        return writer_of(out)

    def list_contexts(self, context: str | None = None, fmt: str = "text") -> Any:  # noqa: ANN401
        """Contexts that the service has.

        Parameters
        ----------
        context : str or None
            One context, described by a dict; all of them when None.
        fmt : {'text', 'csv', 'json'}
            Of the list of all: lines, CSV, or a dict of dicts by name.

        Raises
        ------
        NotFound
            If there is no such context.
        InvalidRequest
            If there is no such format.
        """
        return self._transport.act("contexts", {"context": context or "", "format": fmt})

    def list_profiles(self, profile: str | None = None, fmt: str = "text") -> Any:  # noqa: ANN401
        """Profiles that the service has; as `list_contexts`."""
        return self._transport.act("profiles", {"profile": profile or "", "format": fmt})

    def catalogs(self, context: str | None = None, fmt: str = "text") -> Any:  # noqa: ANN401
        """Catalogues of a context.

        Parameters
        ----------
        context : str or None
            The client's when None.
        fmt : {'text', 'csv', 'json'}
            Lines, CSV, or a list of dicts with name, description, rows and columns (name, type, unit, description).

        Raises
        ------
        NotFound
            If there is no such context.
        InvalidRequest
            If there is no such format.
        """
        return self._transport.act("catalogs", {"context": context or self.context, "format": fmt})

    def query(
        self,
        *position: Any,  # noqa: ANN401 - (region) | (coord, size) | (ra, dec, size), as documented
        constraint: str = "",
        out: str | os.PathLike[str] = "",
        fields: str | Sequence[str] = CATALOGUE_ID,
        primary: bool = True,
        catalog: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        frame: str = "icrs",
        context: str | None = None,
        profile: str | None = None,
        timeout: float | None = None,
        explain: bool = False,
        **where: Any,  # noqa: ANN401 - the same by name
    ) -> Any:  # noqa: ANN401 - depends on fields
        """Find spectra by position and by what the catalogue says of them.

        Parameters
        ----------
        *position
            ``region`` (vertices of a polygon as (ra, dec) in degrees, their flat list, or a SkyCoord), or
            ``coord, size`` (astropy SkyCoord and radius in degrees), or ``ra, dec, size`` (degrees); nothing searches
            the whole sky. Also by keyword: ``region=``, ``coord=``, ``ra=``, ``dec=``, ``size=``, and
            ``box=(ra_min, ra_max, dec_min, dec_max)``, which crosses RA 0 where ra_min > ra_max.
        constraint : str
            SQL condition on the columns of the catalogue, PostgreSQL's dialect, optionally followed by
            ``ORDER BY``, ``LIMIT`` and ``OFFSET``.
        out : str or path
            File for the result, in place of returning it: ``.csv``, ``.parquet`` or ``.arrow``; ``vos://name`` for one
            in the user's storage on the service.
        fields : str or sequence of str
            ``'specobjid'``; ``'tuple'`` for (plate, mjd, fiberid, run2d); or column names.
        primary : bool
            Search the context's default catalogue, which has the best observation of each object (``specobj``), not
            every observation (``specobjall``).
        catalog : str or None
            ``schema.table`` to search in place of these.
        order_by : str or None
            SQL expressions to sort by.
        limit, offset : int
            Rows wanted, and rows left out first.
        frame : str
            Of ``ra, dec`` and of the vertices of a region: ``'icrs'``, ``'fk5'``, ``'fk4'``, ``'galactic'``,
            ``'supergalactic'`` or ``'barycentrictrueecliptic'``. A SkyCoord knows its own.
        context : str or None
            Data set, in place of the client's.
        profile : str or None
            Profile of the service; there has to be such a one, and all of them answer alike.
        timeout : float or None
            Seconds after which the query fails, in place of the client's.
        explain : bool
            Tell what the query will cost, and do not make it.

        Returns
        -------
        ndarray of uint64, list of tuple, or pyarrow.Table
            specobjids; tuples for ``'tuple'``; a table with specobjid in front for other fields. ``'OK'`` with `out`;
            a dict of rows, exact, bytes and seconds with `explain`.

        Raises
        ------
        InvalidRequest
            If the position, the constraint or a column cannot be understood; the text names it.
        NotFound
            If there is no such context or catalogue.
        LimitExceeded
            If more rows match than the service gives in one answer.
        QueryTimeout
            If it takes too long.
        """
        if profile not in (None, "default"):
            self.list_profiles(profile)
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise InvalidRequest(f"timeout: {timeout} is not a number of seconds above 0")
        write = self._writer(out) if out else None
        names = column_names(fields)
        columns = [CATALOGUE_ID] if names == TUPLE else list(names)
        if CATALOGUE_ID not in (name.lower() for name in columns):
            columns.insert(0, CATALOGUE_ID)
        more = {"columns": columns, "order_by": order_by, "limit": limit, "offset": offset}
        request = self._query(position, where, constraint, primary, catalog, frame, context, more)
        if explain:
            return self._transport.act("explain", request.model_dump(mode="json", exclude_none=True))
        stream = self._transport.stream(request, timeout=timeout)
        table = pa.Table.from_batches(stream.batches, stream.schema)
        if names == TUPLE:
            parts = unpack_specobjid(_ids(table))
            table = pa.table({name: getattr(parts, name) for name in ("plate", "mjd", "fiberid", "run2d")})
        if write is not None:
            write(table)
            return "OK"
        if names == TUPLE:
            return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return _ids(table) if names == [CATALOGUE_ID] else table

    def count(
        self,
        *position: Any,  # noqa: ANN401 - as for query
        constraint: str = "",
        primary: bool = True,
        catalog: str | None = None,
        frame: str = "icrs",
        context: str | None = None,
        **where: Any,  # noqa: ANN401
    ) -> int:
        """Count the rows that a query finds, without fetching them.

        Parameters
        ----------
        *position, constraint, primary, catalog, frame, context, **where
            As for `query`; a LIMIT in the constraint counts.

        Returns
        -------
        int
        """
        request = self._query(position, where, constraint, primary, catalog, frame, context, {})
        return int(self._transport.act("count", request.model_dump(mode="json", exclude_none=True)))

    def match(
        self,
        ra: Any = None,  # noqa: ANN401 - numbers, arrays, Quantity, SkyCoord
        dec: Any = None,  # noqa: ANN401
        radius: float | None = None,
        *,
        ids: Any = None,  # noqa: ANN401 - any list of ids
        nearest: bool = True,
        fields: str | Sequence[str] = CATALOGUE_ID,
        vectors: str | Sequence[str] | None = None,
        catalog: str | None = None,
        frame: str = "icrs",
        context: str | None = None,
        missing: Missing = "null",
    ) -> pa.Table:
        """Find the spectra at each position of a list, or the catalogue rows of each id.

        Parameters
        ----------
        ra, dec : array_like of float, shape (n,)
            Positions in degrees; or one SkyCoord in place of both, followed by the radius.
        radius : float or Quantity
            Largest separation, in degrees; 30 degrees at most.
        ids : list of ids
            In place of positions.
        nearest : bool
            Only the nearest row to each position, not all of them.
        fields : str or sequence of str
            Columns of the catalogue.
        vectors : str or sequence of str, or None
            Vectors of the spectra to fetch along, such as ``'flux,ivar'`` or ``'all'``; none when None.
        catalog : str or None
            ``schema.table``; the context's default catalogue when None.
        frame : str
            Of the positions; see `query`.
        context : str or None
            Data set, in place of the client's.
        missing : {'null', 'skip', 'raise'}
            Where nothing is found: a row of nulls, no row, or an error.

        Returns
        -------
        pyarrow.Table
            In the order of the list and then of separation: ``row`` (number in the list, from 0 on), ``separation``
            (degrees; not for ids), ``status``, the columns, and the vectors as lists.

        Raises
        ------
        InvalidRequest
            If a position, an id, a column or the radius cannot be understood.
        NotFound
            If there is no such context or catalogue, or something has no match and `missing` is ``'raise'``.
        LimitExceeded
            If the list or the answer is longer than the service allows.
        """
        if hasattr(ra, "icrs") and radius is None:
            dec, radius = None, dec
        values = {
            "context": context or self.context,
            "catalog": catalog,
            "frame": "icrs" if hasattr(ra, "icrs") else frame,
            "radius": None if radius is None else degrees("radius", radius),
            "nearest": nearest,
            "columns": column_names(fields),
            "vectors": None
            if vectors is None
            else choose_columns(vectors if isinstance(vectors, str) else tuple(vectors)),
            "missing": missing,
        }
        if ids is None:
            upload = positions(ra, dec)
        elif ra is not None or dec is not None:
            raise InvalidRequest("ids: give positions or ids, not both")
        else:
            found = self._wanted(ids)
            if found.count is None:
                raise InvalidRequest("ids: a match takes specobjids, not tuples or queries; query their ids first")
            upload = found.upload
            values |= found.fields
        stream = self._transport.stream(checked(MatchRequest, values), upload)
        return pa.Table.from_batches(stream.batches, stream.schema)

    def _query(
        self,
        position: tuple[Any, ...],
        where: dict[str, Any],
        constraint: str,
        primary: bool,
        catalog: str | None,
        frame: str,
        context: str | None,
        more: dict[str, Any],
    ) -> QueryRequest:
        if not isinstance(constraint, str | None):
            raise InvalidRequest(f"constraint: {constraint!r} is not a text")
        own_frame = any(hasattr(value, "icrs") for value in (*position, *where.values()))
        values = {
            "context": context or self.context,
            "catalog": catalog or (None if primary else "specobjall"),
            "where": (constraint or "").strip() or None,
            "frame": "icrs" if own_frame else frame,
        }
        return checked(QueryRequest, values | region(position, where) | more)


def _ids(table: pa.Table) -> NDArray[np.uint64]:
    column = table[CATALOGUE_ID]
    if column.null_count:
        raise InvalidRequest(unidentified("fields", column))
    ids: NDArray[np.uint64] = column.to_numpy()
    return ids
