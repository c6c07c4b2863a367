"""The client as an object."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from specflight.client._arguments import Wanted
from specflight.client._catalogue import CatalogueClient, checked
from specflight.client._convert import aligned_array, spectra_frames, spectra_records
from specflight.client._files import write_spectra
from specflight.client._storage import STORED, Storage
from specflight.client._transport import Stream, connect
from specflight.errors import InvalidRequest, SpecflightError
from specflight.flight.protocol import CATALOGUE_ID, choose_columns
from specflight.flight.requests import FitsRequest, Missing, QueryRequest, Request, SpectraRequest

__all__ = ["Client"]

STORED_AT_ONCE = 500
"""Spectra that the service writes in one request: a few seconds' work, after which it answers."""

_FORMATS = {"numpy": "numpy", "pandas": "pandas", "arrow": "arrow", "fits": "FITS"}


class Client(CatalogueClient):
    """A specflight service.

    Parameters
    ----------
    url : str or sequence of str
        ``grpc://host:port`` (``grpc+tls://`` with TLS), ``http://host:port``, or ``file:///DATA`` for a data directory
        opened in this process. Of several Flight endpoints of a service, the next is asked when one fails.
    context : str
        Data set to ask when a call names none.
    timeout : float
        Seconds without an answer, or without any further part of one, after which a call fails.
    token : str or None
        As ``specflight token`` prints it; anonymous when None.

    Raises
    ------
    InvalidRequest
        If `url` is none of these.

    Examples
    --------
    >>> client = Client("grpc://127.0.0.1:8815")  # doctest: +SKIP
    >>> client.getSpec(client.query(30.0, 1.0, 0.5), fmt="pandas")  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | Sequence[str] = "grpc://127.0.0.1:8815",
        context: str = "default",
        timeout: float = 60.0,
        token: str | None = None,
    ) -> None:
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise InvalidRequest(f"timeout: {timeout} is not a number of seconds above 0")
        self.url = url if isinstance(url, str) else url[0]
        super().__init__(connect(url, timeout, token), Storage(self.url, timeout, token), context)

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

    def act(self, action: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Answer of an action of the Flight server.

        Parameters
        ----------
        action : str
            Such as ``'health'``; docs/protocol.md lists them.
        **body
            Its parameters.

        Returns
        -------
        object
            What JSON can hold.

        Raises
        ------
        SpecflightError
            Of the kind that says what is wrong.
        """
        return self._transport.act(action, body)

    def stream(self, request: Request, upload: pa.Table | None = None) -> Stream:
        """Answer to a request as it arrives, for programs that write it on.

        Parameters
        ----------
        request : Request
            One of the models of `specflight.flight.requests`.
        upload : pyarrow.Table or None
            Columns ``specobjid``, or ``ra`` and ``dec``, in place of those in the request.

        Returns
        -------
        Stream
            Its `schema`, and an iterator of its record `batches`, which goes on where a connection broke; not so the
            answer to a query, which has no order of its own and ends with the error.

        Raises
        ------
        SpecflightError
            Of the kind that says what is wrong.
        """
        if isinstance(request, QueryRequest):
            return self._transport.stream_once(request)
        return self._transport.stream(request, upload)

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
        explain: bool = False,
        out: str | os.PathLike[str] | None = None,
    ) -> Any:  # noqa: ANN401 - depends on fmt and id_list
        """Get spectra.

        Parameters
        ----------
        id_list : id, list of ids, text, name of a file, or Query
            Spectra in the order wanted, duplicates kept: specobjids; tuples (plate, mjd, fiberid, run2d) with lists,
            ranges ``'1-5'`` and ``'*'`` in them; arrays, columns and tables of these; see
            `specflight.catalog.idlists.read_id_list`. Or a query that finds them.
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
        explain : bool
            Tell what the request will cost, and do not make it.
        out : str, path or None
            Folder to write a file for each spectrum into, in place of returning them: ``specobjid.npy``, or the
            original file for ``'FITS'``; ``vos://name`` for a folder in the user's storage on the service. Each file
            appears when it is complete.

        Returns
        -------
        object
            ``'OK'`` with `out`. For one id: a structured array of shape (npix,), a DataFrame, a Table of one row, or
            bytes. For a list: a list of these; a structured array of shape (n, npix) for aligned numpy (a list where
            None has to stand in a place); always one Table for arrow. A dict of rows, exact, bytes, seconds and missing
            with `explain`.

        Raises
        ------
        InvalidRequest
            If an id, a column, the cutout or the format cannot be understood; the text names the value.
        UnknownSpectrum
            If an id has no spectrum and `missing` is ``'raise'``.
        ServiceUnavailable
            If the service cannot be reached, or a broken stream cannot be resumed.
        """
        kind = _format(fmt)
        found = self._wanted(id_list)
        asked: SpectraRequest | FitsRequest
        if kind == "FITS":
            asked = self._originals(found, context, missing)
        else:
            asked = self._request(kind, found, align, cutout, context, columns, values, missing)
        if explain:
            ids = {} if found.upload is None else {"ids": found.upload[CATALOGUE_ID].to_pylist()}
            return self._transport.act("explain", asked.model_dump(mode="json", exclude_none=True) | ids)
        if out is not None and kind not in ("numpy", "FITS"):
            raise InvalidRequest(f"out: files are written as numpy or FITS, not as {kind}")
        if out is not None and str(out).startswith(STORED):
            self._store(str(out), found, asked)
            return "OK"
        stream = self._transport.stream(asked, found.upload)
        if out is not None:
            write_spectra(Path(out), stream.batches)
            return "OK"
        match kind:
            case "arrow":
                return pa.Table.from_batches(stream.batches, stream.schema)
            case "FITS":
                spectra: list[Any] = list(_contents(stream))
            case "pandas":
                spectra = list(spectra_frames(stream.batches))
            case _ if (align or cutout is not None) and not found.single:
                records, ok = aligned_array(stream.schema, stream.batches, found.count)
                return (
                    records if all(ok) else [record if good else None for record, good in zip(records, ok, strict=True)]
                )
            case _:
                spectra = list(spectra_records(stream.batches, kept=True))
        return _one(spectra) if found.single else spectra

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
        kind = _format(fmt)
        if kind == "FITS":
            found = self._wanted(id_list)
            return _contents(self._transport.stream(self._originals(found, context, missing), found.upload))
        found = self._wanted(id_list)
        request = self._request(kind, found, align, cutout, context, columns, values, missing)
        stream = self._transport.stream(request, found.upload)
        convert = {"numpy": spectra_records, "pandas": spectra_frames, "arrow": iter}[kind]
        return convert(stream.batches)  # type: ignore[no-any-return, operator]

    def _store(self, folder: str, found: Wanted, asked: SpectraRequest | FitsRequest) -> None:
        """Have the service write files into the user's storage, some spectra at a time."""
        if asked.missing != "raise":
            raise InvalidRequest(
                f"missing: the service writes files of spectra that are there only, not '{asked.missing}'"
            )
        if asked.query is not None:
            raise InvalidRequest("id_list: the service writes files of ids, not of a query; query their ids first")
        fields: dict[str, Any] = {"context": asked.context, "format": "fits"}
        if isinstance(asked, SpectraRequest):
            cutout = None if asked.cutout is None else "{!r}-{!r}".format(*asked.cutout)
            fields |= {"format": "npy", "align": asked.align, "cutout": cutout}
            fields |= {"values": "all" if asked.columns is None else list(asked.columns)}
        ids = (asked.ids or []) if found.upload is None else found.upload[CATALOGUE_ID].to_pylist()
        # Aligned ones have to be asked for together, so that they get one grid.
        size = len(ids) if fields.get("align") else STORED_AT_ONCE
        for start in range(0, len(ids), size):
            self._storage.store_spectra(folder, fields | {"id_list": ids[start : start + size]})

    def _request(
        self,
        kind: str,
        found: Wanted,
        align: bool,
        cutout: str | tuple[float, float] | None,
        context: str | None,
        columns: str | Sequence[str] | None,
        values: str | Sequence[str] | None,
        missing: Missing,
    ) -> SpectraRequest:
        if columns is not None and values is not None:
            raise InvalidRequest("values: is another name of columns; give one of them")
        names = columns if columns is not None else values
        vectors = choose_columns(names)
        return checked(
            SpectraRequest,
            {
                "context": context or self.context,
                "columns": None if names is None else vectors,
                "align": align,
                "cutout": cutout,
                "missing": missing,
                "layout": "records" if kind == "numpy" else "columns",
            }
            | found.fields,
        )

    def _originals(self, found: Wanted, context: str | None, missing: Missing) -> FitsRequest:
        return checked(FitsRequest, {"context": context or self.context, "missing": missing} | found.fields)


def _contents(stream: Stream) -> Iterator[bytes | None]:
    """Original files."""
    return (original for batch in stream.batches for original in batch.column("fits").to_pylist())


def _format(fmt: str) -> str:
    kind = _FORMATS.get(str(fmt).lower())
    if kind is None:
        raise InvalidRequest(f"fmt: '{fmt}' is not one of {', '.join(_FORMATS.values())}")
    if kind == "pandas" and find_spec("pandas") is None:
        raise InvalidRequest(f"fmt: '{fmt}' needs the package pandas: install specflight[pandas]")
    return kind


def _one(objects: list[Any]) -> Any:  # noqa: ANN401
    return objects[0] if objects else None
