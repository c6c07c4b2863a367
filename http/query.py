"""The endpoint ``/query``: rows of a catalogue in the format that is wanted."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import AliasChoices, BeforeValidator, Field, WithJsonSchema
from starlette.responses import PlainTextResponse, Response

from specflight.catalog.identifiers import unpack_specobjid
from specflight.catalog.idlists import IdList, read_id_list
from specflight.client import Client
from specflight.client._arguments import column_names, region
from specflight.client._catalogue import checked
from specflight.client._transport import Stream
from specflight.errors import InvalidRequest, NotFound, UnknownSpectrum
from specflight.flight.protocol import CATALOGUE_ID, describe
from specflight.flight.requests import Frame, MatchRequest, QueryRequest, SpectraRequest
from specflight.http.endpoints import OLD_CLIENT, Call, Endpoint
from specflight.http.parameters import MissingParameter, Parameters
from specflight.http.streamed import Streamed
from specflight.http.tables import FORMATS, Pieces, choose_format

__all__ = ["ENDPOINTS", "QueryParameters", "query"]

TUPLE = ("plate", "mjd", "fiberid", "run2d")
"""Columns that the name ``tuple`` stands for."""

ALL_SPECTRA = "specobjall"

WHOLE = 1 << 20
"""Bytes up to which an answer is sent as one, with its length."""

_BRACKETS = re.compile(r"[\s,()\[\]]+")


def _numbers(value: object) -> object:
    """Numbers in a text, with or without brackets; a list of a JSON body as it is."""
    if not isinstance(value, str):
        return value
    words = [word for word in _BRACKETS.split(value) if word]
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ValueError(f"'{value}' is not a list of numbers") from None


def _pairs(value: object) -> object:
    pairs = isinstance(value, list) and all(isinstance(pair, list) for pair in value)
    return [number for pair in value for number in pair] if pairs and isinstance(value, list) else _numbers(value)


def _names(value: object) -> object:
    listed = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return ",".join(value) if listed and isinstance(value, list) else value


def _digits(value: object) -> object:
    return str(value) if isinstance(value, int | list) and not isinstance(value, bool) else value


_SHOWN_AS_TEXT = WithJsonSchema({"type": "string"})
Numbers = Annotated[list[float], BeforeValidator(_numbers), _SHOWN_AS_TEXT]
Vertices = Annotated[list[float], BeforeValidator(_pairs), _SHOWN_AS_TEXT]
Names = Annotated[str, BeforeValidator(_names)]
Id = Annotated[str, BeforeValidator(_digits)]


class QueryParameters(Parameters):
    """Parameters of `query`."""

    id: Id | None = Field(None, description="one spectrum, whose row is wanted: specobjid, tuple or plate-mjd-fiberid")
    fields: Names | None = Field(
        None,
        description="names of columns with commas between; tuple stands for plate,mjd,fiberid,run2d; specobjid comes "
        "first unless it is among them, or id is given",
    )
    catalog: str | None = Field(None, description="schema.table; the context's default catalogue when not given")
    cond: str | None = Field(
        None,
        validation_alias=AliasChoices("cond", "where"),
        description="condition as in SQL's WHERE, with Q3C's functions, then or alone ORDER BY, LIMIT and OFFSET; "
        "another name is where",
    )
    context: str = Field("default", description="data set")
    ra: float | None = Field(None, description="centre of a cone in degrees")
    dec: float | None = Field(None, description="centre of a cone in degrees")
    size: float | None = Field(None, description="radius of a cone in degrees")
    region: Vertices | None = Field(
        None, description="vertices of a polygon in degrees: ra1,dec1,ra2,dec2,... or [(ra1,dec1),(ra2,dec2),...]"
    )
    box: Numbers | None = Field(None, description="ra_min,ra_max,dec_min,dec_max in degrees")
    frame: Frame = Field("icrs", description="of ra and dec and of the vertices")
    order_by: str | None = Field(None, description="sort keys as in SQL")
    limit: int | None = Field(None, ge=0, description="rows wanted")
    offset: int = Field(0, ge=0, description="rows left out first")
    format: str | None = Field(
        None,
        validation_alias=AliasChoices("format", "fmt"),
        description=f"{', '.join(FORMATS)}; what the header Accept says when not given, else csv; another name is fmt",
    )
    out: str | None = Field(
        None, pattern="^vos://", description="vos://name of a file to write the answer to; the answer is OK then"
    )


def query(parameters: QueryParameters, call: Call) -> Response:
    """Find rows of a catalogue by position, by condition or by identifier.

    The answer is a table: CSV with a header, or JSON (an object of columns and rows, where integers of 64 bits, such as
    specobjid, are strings), an Arrow IPC stream, Parquet, or VOTable (where unsigned integers of 64 bits are texts).
    Floats read back to the same bits. What was found is never cut silently: more rows than the service's limit are
    an error. The row of an id that the context's default catalogue lacks is looked for among all observations, in other
    releases too where the context may look there.

    Parameters
    ----------
    parameters : QueryParameters
    call : Call
    """
    if parameters.id is not None and OLD_CLIENT in call.request.headers:
        # It names the default catalogue of whichever context it was set to last.
        parameters = parameters.model_copy(update={"catalog": None})
    chosen = choose_format(parameters.format, call.request.headers.get("accept"))
    stream = _find(parameters, call.client)
    pieces = chosen.write(stream)
    if parameters.out is not None:
        with call.state.storage.write(call.caller.name, parameters.out) as file:
            for piece in pieces:
                file.write(piece)
        return PlainTextResponse("OK")
    response = _response(pieces, stream, chosen.media_type)
    response.headers["vary"] = "accept"
    return response


def _response(pieces: Pieces, stream: Stream, media_type: str) -> Response:
    """Response that is sent while the rows come, if it is not short."""
    first: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        first.append(piece)
        size += len(piece)
        if size > WHOLE:
            return Streamed(chain(first, pieces), media_type, partial(_close, pieces, stream.batches))
    return Response(b"".join(first), media_type=media_type)


def _close(*sources: Iterator[object]) -> None:
    for source in sources:
        if isinstance(source, Generator):
            source.close()


def _find(parameters: QueryParameters, client: Client) -> Stream:
    """Answer of the Flight server, with the columns that were asked for."""
    names = column_names(parameters.fields or CATALOGUE_ID)
    if names == ["tuple"]:
        return _tuples(parameters, client)
    try:
        return _rows(parameters, client, names)
    except InvalidRequest:
        # What old clients send for tuple; not every catalogue has these columns, but all identifiers hold them.
        if tuple(names) != TUPLE:
            raise
        with suppress(InvalidRequest):
            return _tuples(parameters, client)
        raise


def _rows(parameters: QueryParameters, client: Client, names: Sequence[str]) -> Stream:
    if parameters.id is not None:
        return _one(parameters, client, names)
    common = {"context": parameters.context, "catalog": parameters.catalog}
    known = CATALOGUE_ID in (name.lower() for name in names)
    columns = [*([] if known else [CATALOGUE_ID]), *names]
    return client.stream(checked(QueryRequest, common | {"columns": columns} | _selection(parameters)))


def _selection(parameters: QueryParameters) -> dict[str, Any]:
    """Fields of a request for the rows at a place and under a condition."""
    given = parameters.model_dump(include={"ra", "dec", "size", "region", "box"}, exclude_none=True)
    if not parameters.model_fields_set & {"fields", "cond", "order_by", "limit", *given}:
        raise MissingParameter("fields")
    asked = parameters.model_dump(include={"frame", "order_by", "limit", "offset"})
    return asked | region((), given) | {"where": parameters.cond}


def _one(parameters: QueryParameters, client: Client, names: Sequence[str]) -> Stream:
    """Rows of one spectrum."""
    told = parameters.model_fields_set & {"cond", "ra", "dec", "size", "region", "box", "order_by", "limit", "offset"}
    if told:
        raise InvalidRequest(f"{min(told)}: id names the row already; give one of them")
    ids = read_id_list(parameters.id)
    if len(ids) != 1 or ids.patterns or not (ids.plain or ids.pattern(0).one):
        raise InvalidRequest(f"id: '{parameters.id}' is not one spectrum; ask for several by cond, specobjid IN (...)")
    common = {"context": parameters.context, "catalog": parameters.catalog, "columns": names}
    try:
        return _there(_rows_of(client, ids, common), parameters)
    except UnknownSpectrum:
        if parameters.catalog is not None:
            raise
        for release in _releases(client, parameters.context, ids):
            with suppress(NotFound, InvalidRequest):  # it may lack the catalogue, or a column
                return _there(_rows_of(client, ids, common | {"context": release, "catalog": ALL_SPECTRA}), parameters)
        raise


def _rows_of(client: Client, ids: IdList, common: dict[str, Any]) -> Stream:
    """Rows of the one spectrum of a list in a catalogue; none if it is not there."""
    first, last = int(ids.first[0]), int(ids.last[0])
    if first != last:
        where = f"specobjid BETWEEN {first} AND {last}"
        return client.stream(checked(QueryRequest, common | {"where": where}))
    # By the index of identifiers: a condition would look at all rows.
    match = client.stream(checked(MatchRequest, common | {"ids": [first], "missing": "skip"}))
    place = len(match.schema) - len(common["columns"])
    schema = pa.schema(list(match.schema)[place:])
    return Stream(schema, (pa.record_batch(batch.columns[place:], schema=schema) for batch in match.batches))


def _releases(client: Client, context: str, ids: IdList) -> Sequence[str]:
    """Contexts that have the one spectrum of a list."""
    with suppress(UnknownSpectrum):
        found = client.stream(SpectraRequest(context=context, ids=ids.to_wire(), columns=("flux",)))
        releases: Sequence[str] = describe(found.schema).get("found_in", (context,))
        return releases
    return ()


def _there(stream: Stream, parameters: QueryParameters) -> Stream:
    """The same stream; UnknownSpectrum if it has no rows."""
    for batch in stream.batches:
        if batch.num_rows:
            return Stream(stream.schema, chain([batch], stream.batches))
    where = f"'{parameters.catalog}'" if parameters.catalog else f"of context '{parameters.context}'"
    raise UnknownSpectrum(f"id: the catalogue {where} has no spectrum {parameters.id}")


def _tuples(parameters: QueryParameters, client: Client) -> Stream:
    """Plates, MJDs, fibres and reductions, as identifiers hold them."""
    stream = _rows(parameters, client, [CATALOGUE_ID])
    kinds = [pa.field(name, pa.string() if name == "run2d" else pa.int32()) for name in TUPLE]
    schema = pa.schema([*([stream.schema.field(0)] if parameters.id is None else []), *kinds])

    def unpacked() -> Iterator[pa.RecordBatch]:
        for batch in stream.batches:
            ids = batch.column(0)
            parts = unpack_specobjid(ids.fill_null(0).to_numpy())
            columns = [pa.array(getattr(parts, field.name), field.type, mask=~_valid(ids)) for field in kinds]
            yield pa.record_batch([*([ids] if parameters.id is None else []), *columns], schema=schema)

    return Stream(schema, unpacked())


def _valid(ids: pa.Array) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = ids.is_valid().to_numpy(zero_copy_only=False)
    return valid


ENDPOINTS = (
    Endpoint(
        "/query",
        query,
        QueryParameters,
        {"text/plain": {"type": "string"}} | {known.media_type: known.schema for known in FORMATS.values()},
    ),
)
