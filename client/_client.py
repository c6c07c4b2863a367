"""The client as an object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from specflight.catalog.identifiers import parse_ids
from specflight.client._convert import aligned_array, spectra_frames, spectra_records
from specflight.client._transport import Stream, connect
from specflight.errors import InvalidRequest, SpecflightError
from specflight.flight.protocol import (
    CATALOGUE_ID,
    FitsRequest,
    Missing,
    Query,
    QueryRequest,
    SpectraRequest,
    choose_columns,
    explain_validation,
)

__all__ = ["Client"]

Format = Literal["numpy", "pandas", "arrow", "FITS"]
_FORMATS = {"numpy": "numpy", "pandas": "pandas", "arrow": "arrow", "fits": "FITS"}


class Client:
    """A specflight service.

    Parameters
    ----------
    url : str
        ``grpc://host:port`` (``grpc+tls://`` with TLS), ``http://host:port``, or ``file:///DATA`` for a data directory
        opened in this process.
    context : str
        Data set to ask when a call names none.
    timeout : float
        Seconds without an answer, or without any further part of one, after which a call fails.

    Raises
    ------
    InvalidRequest
        If `url` is none of these.

    Examples
    --------
    >>> client = Client("grpc://127.0.0.1:8815")  # doctest: +SKIP
    >>> client.getSpec(client.query(30.0, 1.0, 0.5), fmt="pandas")  # doctest: +SKIP
    """

    def __init__(self, url: str = "grpc://127.0.0.1:8815", context: str = "default", timeout: float = 60.0) -> None:
        if not timeout > 0:
            raise InvalidRequest(f"timeout: {timeout} is not a number of seconds above 0")
        self.url = url
        self.context = context
        self._transport = connect(url, timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def isAlive(self) -> bool:
        """Whether the service answers."""
        try:
            return bool(self._transport.act("health", {})["status"] == "ok")
        except SpecflightError:
            return False

    def list_contexts(self) -> list[dict[str, Any]]:
        """Contexts with name, description, release, number of spectra and default catalogue."""
        contexts: list[dict[str, Any]] = self._transport.act("contexts", {})
        return contexts

    def catalogs(self, context: str | None = None) -> list[dict[str, Any]]:
        """Catalogues of a context with name, number of rows and columns."""
        tables: list[dict[str, Any]] = self._transport.act("catalogs", {"context": context or self.context})
        return tables

    def query(
        self,
        *position: Any,  # noqa: ANN401 - (region) | (coord, size) | (ra, dec, size), as documented
        constraint: str = "",
        fields: str | Sequence[str] = CATALOGUE_ID,
        primary: bool = True,
        catalog: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        context: str | None = None,
        **where: Any,  # noqa: ANN401 - the same by name
    ) -> Any:  # noqa: ANN401 - depends on fields
        """Find spectra by position and by what the catalogue says of them.

        Parameters
        ----------
        *position
            ``region`` (vertices of a polygon as (ra, dec) in degrees, or their flat list), or ``coord, size``
            (astropy SkyCoord and radius in degrees), or ``ra, dec, size`` (degrees); nothing searches the whole sky.
            Also by keyword: ``region=``, ``coord=``, ``ra=``, ``dec=``, ``size=``.
        constraint : str
            SQL condition on the columns of the catalogue, PostgreSQL's dialect, optionally followed by
            ``ORDER BY``, ``LIMIT`` and ``OFFSET``.
        fields : str or sequence of str
            ``'specobjid'``; ``'tuple'`` for (plate, mjd, fiberid, run2d); or column names.
        primary : bool
            Search the best observation of each object (``specobj``), not every one (``specobjall``).
        catalog : str or None
            ``schema.table`` to search in place of these.
        order_by : str or None
            SQL expressions to sort by.
        limit, offset : int
            Rows wanted, and rows left out first.
        context : str or None
            Data set, in place of the client's.

        Returns
        -------
        ndarray of uint64, list of tuple, or pyarrow.Table
            specobjids; tuples for ``'tuple'``; a table with specobjid in front for other fields.

        Raises
        ------
        InvalidRequest
            If the position, the constraint or a column cannot be understood; the text names it.
        NotFound
            If there is no such context or catalogue.
        LimitExceeded
            If more rows match than the service gives in one answer.
        """
        names = [name.strip() for name in fields.split(",")] if isinstance(fields, str) else list(fields)
        columns = ["plate", "mjd", "fiberid", "run2d"] if names == ["tuple"] else names
        if names != ["tuple"] and CATALOGUE_ID not in columns:
            columns.insert(0, CATALOGUE_ID)
        values = {
            "context": context or self.context,
            "catalog": catalog or ("specobj" if primary else "specobjall"),
            "where": constraint.strip() or None,
            "order_by": order_by,
            "limit": limit,
            "offset": offset,
            "columns": columns,
        }
        try:
            request = QueryRequest.model_validate(values | _region(position, where))
        except ValidationError as error:
            raise InvalidRequest(explain_validation(error)) from None
        stream = self._transport.stream(request)
        table = pa.Table.from_batches(stream.batches, stream.schema)
        if names == ["tuple"]:
            return list(zip(*(table[name].to_pylist() for name in columns), strict=True))
        if names == [CATALOGUE_ID]:
            return table[CATALOGUE_ID].to_numpy()
        return table

    def getSpec(
        self,
        id_list: Any,  # noqa: ANN401 - an id or any list of them
        fmt: str = "numpy",
        align: bool = False,
        cutout: str | tuple[float, float] | None = None,
        context: str | None = None,
        columns: str | Sequence[str] | None = None,
        values: str | Sequence[str] | None = None,
        missing: Missing = "raise",
    ) -> Any:  # noqa: ANN401 - depends on fmt and id_list
        """Get spectra.

        Parameters
        ----------
        id_list : int, str, or list, array or Arrow array of them, or Query
            specobjids in the order wanted, duplicates kept; or a query that finds them.
        fmt : {'numpy', 'pandas', 'arrow', 'FITS'}
            Structured arrays with a field for each vector; data frames; one Arrow table; bytes of the original files.
        align : bool
            Put all on one wavelength grid, zero-padded.
        cutout : str or (float, float) or None
            ``'6500-7200'``: trim to this range, in Å in vacuum; implies `align`.
        context : str or None
            Data set, in place of the client's.
        columns, values : str or sequence of str, or None
            Vectors wanted (two names of one parameter): ``'flux,ivar'``; all eight when None.
        missing : {'raise', 'null', 'skip'}
            What to do with ids that have no spectrum: raise an error that names them, give None in their place,
            or leave them out.

        Returns
        -------
        object
            For one id: a structured array of shape (npix,), a DataFrame, a Table of one row, or bytes.
            For a list: a list of these; a structured array of shape (n, npix) for aligned numpy (a list where None
            has to stand in a place); always one Table for arrow.

        Raises
        ------
        InvalidRequest
            If an id, a column, the cutout or the format cannot be understood; the text names the value.
        UnknownSpectrum
            If an id has no spectrum and `missing` is ``'raise'``.
        ServiceUnavailable
            If the service cannot be reached, or a broken stream cannot be resumed.
        """
        kind = _FORMATS.get(str(fmt).lower())
        if kind is None:
            raise InvalidRequest(f"fmt: '{fmt}' is not one of {', '.join(_FORMATS.values())}")
        single = isinstance(id_list, int | str | np.integer)
        if kind == "FITS":
            whole: list[Any] = list(self._fits(id_list, context, missing))
            return _one(whole) if single else whole
        stream, rows = self._spectra(kind, id_list, align, cutout, context, columns, values, missing)
        match kind:
            case "arrow":
                return pa.Table.from_batches(stream.batches, stream.schema)
            case "pandas":
                spectra: list[Any] = list(spectra_frames(stream.batches))
            case _ if (align or cutout is not None) and not single:
                records, ok = aligned_array(stream.schema, stream.batches, rows)
                return (
                    records if all(ok) else [record if good else None for record, good in zip(records, ok, strict=True)]
                )
            case _:
                spectra = list(spectra_records(stream.batches, kept=True))
        return _one(spectra) if single else spectra

    def iterSpec(
        self,
        id_list: Any,  # noqa: ANN401
        fmt: str = "numpy",
        align: bool = False,
        cutout: str | tuple[float, float] | None = None,
        context: str | None = None,
        columns: str | Sequence[str] | None = None,
        values: str | Sequence[str] | None = None,
        missing: Missing = "raise",
    ) -> Iterator[Any]:
        """Get spectra one by one, in bounded memory, while they arrive.

        Parameters
        ----------
        id_list, fmt, align, cutout, context, columns, values, missing
            As for `getSpec`.

        Yields
        ------
        object
            A structured array of shape (npix,), a DataFrame or bytes for each spectrum; for ``'arrow'`` a record
            batch of some spectra. A spectrum that is to be kept long should be copied: it may share its memory with
            its neighbours.

        Raises
        ------
        SpecflightError
            As `getSpec`.
        """
        kind = _FORMATS.get(str(fmt).lower())
        if kind is None:
            raise InvalidRequest(f"fmt: '{fmt}' is not one of {', '.join(_FORMATS.values())}")
        if kind == "FITS":
            return self._fits(id_list, context, missing)
        stream, _ = self._spectra(kind, id_list, align, cutout, context, columns, values, missing)
        convert = {"numpy": spectra_records, "pandas": spectra_frames, "arrow": iter}[kind]
        return convert(stream.batches)  # type: ignore[no-any-return, operator]

    def _spectra(
        self,
        kind: str,
        id_list: Any,  # noqa: ANN401
        align: bool,
        cutout: str | tuple[float, float] | None,
        context: str | None,
        columns: str | Sequence[str] | None,
        values: str | Sequence[str] | None,
        missing: Missing,
    ) -> tuple[Stream, int | None]:
        if columns is not None and values is not None:
            raise InvalidRequest("values: is another name of columns; give one of them")
        names = columns if columns is not None else values
        wanted = choose_columns(names if names is None or isinstance(names, str) else tuple(names))
        ids, query = _ids(id_list)
        try:
            request = SpectraRequest.model_validate(
                {
                    "context": context or self.context,
                    "query": query,
                    "columns": None if names is None else wanted,
                    "align": align,
                    "cutout": cutout,
                    "missing": missing,
                    "layout": "records" if kind == "numpy" else "columns",
                }
            )
        except ValidationError as error:
            raise InvalidRequest(explain_validation(error)) from None
        return self._transport.stream(request, ids), None if ids is None else len(ids)

    def _fits(self, id_list: Any, context: str | None, missing: Missing) -> Iterator[bytes | None]:  # noqa: ANN401
        ids, query = _ids(id_list)
        values = {"context": context or self.context, "query": query, "missing": missing}
        try:
            request = FitsRequest.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(explain_validation(error)) from None
        stream = self._transport.stream(request, ids)
        return (original for batch in stream.batches for original in batch.column("fits").to_pylist())


def _one(objects: list[Any]) -> Any:  # noqa: ANN401
    return objects[0] if objects else None


def _ids(id_list: Any) -> tuple[NDArray[np.uint64] | None, Query | None]:  # noqa: ANN401
    if isinstance(id_list, Query):
        return None, id_list
    if isinstance(id_list, int | str | np.integer):
        id_list = [id_list]
    elif isinstance(id_list, pa.Array | pa.ChunkedArray):
        id_list = id_list.to_pylist() if id_list.null_count else id_list.to_numpy(zero_copy_only=False)
    elif hasattr(id_list, "to_numpy"):
        id_list = id_list.to_numpy()
    if not isinstance(id_list, Iterable):
        raise InvalidRequest(f"ids: {id_list!r} is neither an id nor a list of ids")
    ids = parse_ids(id_list)
    if not len(ids):
        raise InvalidRequest("ids: the list is empty")
    return ids, None


def _region(position: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Region of the documented ways to call `Client.query`."""
    orders: dict[int, tuple[str, ...]] = {0: (), 1: ("region",), 2: ("coord", "size"), 3: ("ra", "dec", "size")}
    if len(position) == 2 and not hasattr(position[0], "icrs"):
        orders[2] = ("ra", "dec")
    if len(position) not in orders:
        raise InvalidRequest(f"query: takes region, or coord and size, or ra, dec and size, got {len(position)} values")
    if len(position) == 1 and hasattr(position[0], "icrs"):
        orders[1] = ("coord",)
    given = dict(zip(orders[len(position)], position, strict=True))
    for name, value in named.items():
        if name not in ("region", "coord", "ra", "dec", "size"):
            raise InvalidRequest(f"{name}: is not a parameter of query")
        if name in given:
            raise InvalidRequest(f"{name}: is given twice")
        given[name] = value
    match sorted(given):
        case []:
            return {}
        case ["region"]:
            try:
                vertices = np.asarray(given["region"], dtype=np.float64)
            except (TypeError, ValueError):
                raise InvalidRequest(f"region: {given['region']!r} is not a list of (ra, dec) in degrees") from None
            if vertices.ndim == 1 and len(vertices) % 2 == 0:
                vertices = vertices.reshape(-1, 2)
            if vertices.ndim != 2 or vertices.shape[1] != 2:
                raise InvalidRequest(f"region: expected (ra, dec) pairs, got an array of shape {vertices.shape}")
            return {"polygon": vertices.tolist()}
        case ["coord", "size"]:
            icrs = given["coord"].icrs
            return {"cone": (_degrees("coord", icrs.ra), _degrees("coord", icrs.dec), _degrees("size", given["size"]))}
        case ["dec", "ra", "size"]:
            return {"cone": tuple(_degrees(name, given[name]) for name in ("ra", "dec", "size"))}
        case names:
            expected = "region, or coord and size, or ra, dec and size"
            raise InvalidRequest(f"query: {', '.join(names)} do not make a region; give {expected}")


def _degrees(name: str, value: Any) -> float:  # noqa: ANN401 - a number or an astropy Quantity
    try:
        return float(value.to_value("deg") if hasattr(value, "to_value") else value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"{name}: {value!r} is not one number of degrees") from None
