"""Endpoints of spectra: ``/listSpan`` and ``/getSpec``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import AliasChoices, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from specflight.client._transport import Stream
from specflight.errors import InvalidRequest
from specflight.flight.protocol import VECTORS
from specflight.http.askedspectra import Asked, Batches, limits_of
from specflight.http.conditional import IN_PARTS, kept
from specflight.http.endpoints import OLD_CLIENT, Call, Endpoint
from specflight.http.idlists import IDS, STORED, read_ids
from specflight.http.npy import chunks, file_size
from specflight.http.parameters import Parameters
from specflight.http.spectrafiles import write_files
from specflight.http.spectraformats import FORMATS
from specflight.http.streamed import Streamed

__all__ = ["ENDPOINTS", "SpanParameters", "SpectraParameters", "get_spec", "list_span"]

BYTES = "application/octet-stream"
NPY = ("npy", "numpy", "pandas", "tables", "spectrum1d", "spectrumcollection")
"""Old clients make the last four of numpy's arrays by themselves."""

FITS = "fits"


class SpanParameters(Parameters):
    """Parameters of ``/listSpan``: those of ``/getSpec``, since old clients send the same to both."""

    id_list: str | int | list[Any] = Field(
        validation_alias=AliasChoices("id_list", "ids", "id"), description=f"{IDS}; also called ids, id"
    )
    context: str = Field("default", description="data set")
    values: str | list[str] = Field(
        "all",
        validation_alias=AliasChoices("values", "columns"),
        description=f"vectors wanted: all, or some of {', '.join(VECTORS)}; also called columns",
    )
    format: str = Field(
        "npy",
        validation_alias=AliasChoices("format", "fmt"),
        description=f"npy (also called numpy), {', '.join(FORMATS)}, fits; also called fmt",
    )
    align: bool = Field(False, description="put all on the smallest wavelength grid that holds them, zero-padded")
    cutout: str | None = Field(None, description="trim to a range in Angstrom, in vacuum: 6500-7200; implies align")
    w0: float = Field(0.0, description="with w1: log10(Angstrom) from which on the grid has to reach")
    w1: float = Field(0.0, description="with w0: log10(Angstrom) up to which the grid has to reach; implies align")


class SpectraParameters(SpanParameters):
    """Parameters of ``/getSpec``."""

    out: str | None = Field(
        None, description="vos://folder: write a file for each spectrum there, NAME.npy or the original FITS file"
    )


def list_span(parameters: SpanParameters, call: Call) -> Response:
    """Wavelength limits of a list of spectra.

    The lowest and the highest log10(wavelength / Angstrom), as ``{"w0" : 3.580000, "w1" : 3.968300 }``. Of the
    parameters only `id_list` and `context` say something here.
    """
    ids = read_ids(parameters.id_list, call)
    w0, w1 = Asked(call.client, parameters.context, ids, ()).span()
    return PlainTextResponse(f'{{"w0" : {w0:f}, "w1" : {w1:f} }}')


def get_spec(parameters: SpectraParameters, call: Call) -> Response:
    """Spectra of a list, in its order.

    As npy: a numpy file (format 1.0) of structures with a little-endian field for each vector, in the order flux,
    loglam, ivar, and_mask, or_mask, wdisp, sky, model; of shape (npix,) for one spectrum, (n, npix) for several, which
    have to be equally long or aligned. As arrow or parquet: a row for each spectrum, the vectors as lists. As csv: a
    row for each pixel. As fits: the original file of one spectrum, of which a range may be asked for.

    A grid that is aligned to holds all of the spectra, and the pixels from `w0` to `w1`; or just the cutout. Pixels
    without data are zero, but for their wavelengths.
    """
    kind = _kind(parameters.format, call.request)
    asked = Asked(
        call.client,
        parameters.context,
        read_ids(parameters.id_list, call),
        _columns(parameters.values, in_file_order=kind == "npy"),
        parameters.align and parameters.w0 == parameters.w1 == 0.0,
        limits_of(parameters.w0, parameters.w1),
        parameters.cutout,
    )
    if parameters.out is not None:
        return _stored(asked, kind, parameters.out, call)
    match kind:
        case "npy":
            return _npy(asked, call.request)
        case "fits":
            return _original(asked, call.request)
        case _:
            media_type, write = FORMATS[kind]
            found = _begun(asked.stream("columns"))
            return Streamed(write(Stream(found.schema, found)), media_type, found.close)


def _kind(name: str, request: Request) -> str:
    wanted = name.strip().lower()
    if wanted in FORMATS or wanted == FITS:
        return wanted
    # Old clients send whatever their user wants the arrays turned into.
    if wanted in NPY or OLD_CLIENT in request.headers:
        return "npy"
    raise InvalidRequest(f"format: '{name}' is not one of npy, {', '.join(FORMATS)}, {FITS}")


def _columns(values: str | list[str], in_file_order: bool) -> tuple[str, ...]:
    names = values.strip("[]() ").split(",") if isinstance(values, str) else values
    chosen = tuple(dict.fromkeys(name.strip(" '\"") for name in names))
    if chosen == ("all",):
        return tuple(VECTORS)
    for name in chosen:
        if name not in VECTORS:
            raise InvalidRequest(f"values: '{name}' is not one of all, {', '.join(VECTORS)}")
    if not chosen:
        raise InvalidRequest("values: the list is empty")
    return tuple(name for name in VECTORS if name in chosen) if in_file_order else chosen


def _begun(found: Batches) -> Batches:
    """A stream whose first batch has come, so that what is wrong with it is told by the status of the answer."""
    try:
        found.ahead(1)
    except BaseException:
        found.close()
        raise
    return found


def _npy(asked: Asked, request: Request) -> Response:
    single = asked.single()
    if single is not None:
        return kept(request, single, BYTES)
    if asked.aligned:
        found = _begun(asked.stream("records"))
        try:
            shape = asked.rows(found), found.schema.field("records").type.list_size
        except BaseException:
            found.close()
            raise
    else:
        shape = asked.common_length()
        found = _begun(asked.stream("records"))
    return Streamed(chunks(asked.columns, shape, found), BYTES, found.close, file_size(asked.columns, shape))


def _original(asked: Asked, request: Request) -> Response:
    several = InvalidRequest("format: fits gives the file of one spectrum, not of several: ask for each by itself")
    if len(asked.ids) > 1:
        raise several
    found = asked.originals()
    try:
        batches = found.ahead(2)
    finally:
        found.close()
    if sum(batch.num_rows for batch in batches) != 1:
        raise several
    name = batches[0].column("name")[0].as_py()
    content = memoryview(batches[0].column("fits")[0].as_buffer())
    disposition = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    if name.isascii() and name.isprintable() and not set(name) & set('"\\'):
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return kept(request, content, BYTES, disposition, in_parts=True)


def _stored(asked: Asked, kind: str, out: str, call: Call) -> Response:
    if not out.startswith(STORED):
        raise InvalidRequest(f"out: '{out}' is not the name of a folder on the service, {STORED}folder")
    if kind not in ("npy", FITS):
        raise InvalidRequest(f"out: files are written in the formats npy and fits, not in '{kind}'")
    write_files(asked, kind == FITS, call.state, call.caller.name, out)
    return PlainTextResponse("OK")


_CONTENT = {BYTES: {"type": "string", "format": "binary"}, "text/plain": {"type": "string"}} | {
    media_type: {"type": "string"} | ({} if media_type.startswith("text/") else {"format": "binary"})
    for media_type, _ in FORMATS.values()
}

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("/listSpan", list_span, SpanParameters, {"text/plain": {"type": "string"}}),
    Endpoint("/getSpec", get_spec, SpectraParameters, _CONTENT, also=IN_PARTS),
)
