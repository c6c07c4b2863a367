"""Endpoints of pictures: one spectrum, a grid of spectra, and an image with a spectrum in each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import AliasChoices, Field
from starlette.responses import Response

from specflight.catalog.identifiers import shown
from specflight.catalog.idlists import IdList
from specflight.errors import InvalidRequest, LimitExceeded
from specflight.flight.requests import SpectraRequest
from specflight.http.conditional import CHANGED_ONLY, kept
from specflight.http.drawing import MAX_SMOOTH, SIZES, LineKind, PreviewOptions, vectors_of
from specflight.http.endpoints import Call, Endpoint
from specflight.http.gridplot import draw_grid
from specflight.http.idlists import IDS, read_ids
from specflight.http.levels import parse_limits
from specflight.http.parameters import Parameters
from specflight.http.preview import draw_preview
from specflight.http.stack import MAX_THICKNESS, StackOptions, stacked_image
from specflight.http.streamed import Streamed
from specflight.http.subjects import Observed, read_observed

__all__ = ["ENDPOINTS", "GridParameters", "PreviewParameters", "StackParameters"]

PAGE = 5
"""Columns and rows of a page of a grid, unless asked for."""

_MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
_PNG: dict[str, dict[str, Any]] = {"image/png": {"type": "string", "format": "binary"}}
_SVG: dict[str, dict[str, Any]] = {"image/svg+xml": {"type": "string"}}
_NPY: dict[str, dict[str, Any]] = {"application/octet-stream": {"type": "string", "format": "binary"}}

Identifiers = str | int | list[Any]
Count = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(gt=0)]
Page = Annotated[int, Field(ge=0, le=1_000_000)]
Width = Annotated[int, Field(ge=SIZES["width"][0], le=SIZES["width"][1])]
Height = Annotated[int, Field(ge=SIZES["height"][0], le=SIZES["height"][1])]
Thickness = Annotated[int, Field(ge=1, le=MAX_THICKNESS)]
Smooth = Annotated[int, Field(ge=0, le=MAX_SMOOTH)]


class _Drawn(Parameters):
    """How a spectrum is drawn."""

    context: str = Field(default="default", description="data set")
    width: Width = Field(default=400, description="pixels of the picture of one spectrum")
    height: Height = Field(default=100, description="pixels of the picture of one spectrum")
    rest_frame: bool = Field(default=False, description="wavelengths at rest, by the redshift of the catalogue")
    smooth: Smooth = Field(
        default=1, description="width of a boxcar in pixels, weighted by inverse variance; 0 and 1 leave it as it is"
    )
    lines: str = Field(
        default="none", description="lines to mark: none, all, or some of emission, absorption, sky between commas"
    )
    model: bool = Field(default=False, description="draw the pipeline's best model fit, too")
    sky: bool = Field(default=False, description="draw the sky that was subtracted, too")
    theme: Literal["light", "dark"] = Field(default="light", description="dark on light, or light on dark")

    def options(self, form: Literal["png", "svg"] = "png") -> PreviewOptions:
        return PreviewOptions(
            width=self.width,
            height=self.height,
            rest_frame=self.rest_frame,
            smooth=self.smooth,
            lines=_marks(self.lines),
            model=self.model,
            sky=self.sky,
            theme=self.theme,
            format=form,
        )


class PreviewParameters(_Drawn):
    """Parameters of `preview`."""

    id: Identifiers = Field(
        description="one spectrum: a specobjid, plate-mjd-fiberid, or a tuple (plate, mjd, fiberid, run2d)"
    )
    format: Literal["png", "svg"] = Field(
        default="png", validation_alias=AliasChoices("format", "fmt"), description="kind of picture"
    )


class GridParameters(_Drawn):
    """Parameters of `grid_plot`."""

    id_list: Identifiers = Field(description=IDS)
    ncols: Count | None = Field(default=None, description="spectra in a row, for a grid of all of the list")
    nx: Count | None = Field(
        default=None, description="spectra in a row, for a grid of a page of the list; 5 when not given"
    )
    ny: Count | None = Field(default=None, description="rows of a page; 5 when not given")
    page: Page = Field(default=0, description="which nx x ny spectra of the list, from 0")
    align: bool = Field(default=False, description="show the same wavelengths in all")
    labels: bool = Field(default=True, description="say in each which spectrum it is")
    format: Literal["png"] = Field(
        default="png", validation_alias=AliasChoices("format", "fmt"), description="kind of picture"
    )


class StackParameters(Parameters):
    """Parameters of `stacked`."""

    context: str = Field(default="default", description="data set")
    id_list: Identifiers = Field(description=IDS)
    align: bool = Field(
        default=True, description="put all on one wavelength grid; if not, each row begins with its first pixel"
    )
    yflip: bool = Field(default=False, description="begin with the first spectrum at the top, not at the bottom")
    rest_frame: bool = Field(default=False, description="shift each to its rest frame, by its redshift")
    thickness: Thickness = Field(default=1, description="rows of the image for each spectrum")
    xscale: Factor = Field(default=1.0, description="width of the image as a factor")
    yscale: Factor = Field(default=1.0, description="height of the image as a factor")
    width: Pixels = Field(default=0, description="width of the image in pixels; 0: as it comes")
    height: Pixels = Field(default=0, description="height of the image in pixels; 0: as it comes")
    cmap: str = Field(default="gray", description="colours, by matplotlib's name")
    inverse: bool = Field(default=False, description="exchange bright and faint")
    limits: str = Field(
        default="zscale", description="fluxes that are darkest and brightest: zscale, or two percentiles such as 1,99"
    )
    format: Literal["png", "npy", "numpy"] = Field(
        default="png",
        validation_alias=AliasChoices("format", "fmt"),
        description="a PNG, or the fluxes as a two-dimensional .npy",
    )


def preview(parameters: PreviewParameters, call: Call) -> Response:
    """Picture of one spectrum: flux against wavelength in vacuum, with axes, units and what the catalogue says of it.

    It may be as old as the service's setting picture_seconds.
    """
    ids, options = read_ids(parameters.id, call), parameters.options(parameters.format)
    several = InvalidRequest(f"id: {shown(parameters.id)} names several spectra; /gridPlot draws a list of them")
    if len(ids) > 1:
        raise several

    def draw() -> tuple[bytes, str]:
        observed = _observed(call, parameters, ids, options, most=2)
        if len(observed) > 1:
            raise several
        with call.state.pictures.turn():
            content = draw_preview(observed[0].spectrum, observed[0].subject, options)
        return content, _MEDIA_TYPES[options.format]

    return _picture(call, _key(ids, "preview", parameters.context, options), draw)


def grid_plot(parameters: GridParameters, call: Call) -> Response:
    """Picture of a grid of spectra, row by row in the order of the list.

    Either the whole list, ncols in a row; or a page of nx x ny spectra. Each cell is like the picture of one spectrum.
    The paths /gridPlot and /plotGrid answer alike. The picture may be as old as the service's setting picture_seconds.
    """
    ids, options = read_ids(parameters.id_list, call), parameters.options()
    limit = call.state.settings.max_grid_cells
    columns, start, most = _place(parameters, limit)

    def draw() -> tuple[bytes, str]:
        observed = _observed(call, parameters, ids, options, start=start, most=most)
        if not observed:
            raise InvalidRequest(
                f"page: {parameters.page} is none of the {_pages(call, parameters, ids, most)} pages, from 0"
            )
        if len(observed) > limit:
            raise LimitExceeded(f"id_list: has more spectra than the limit max_grid_cells = {limit}")
        spectra, subjects = [one.spectrum for one in observed], [one.subject for one in observed]
        with call.state.pictures.turn():
            content = draw_grid(spectra, subjects, columns, options, align=parameters.align, labels=parameters.labels)
        return content, "image/png"

    what = (parameters.context, options, columns, start, most, parameters.align, parameters.labels)
    return _picture(call, _key(ids, "grid", *what), draw)


def stacked(parameters: StackParameters, call: Call) -> Response:
    """Image with a spectrum in each row, the first at the bottom, or their fluxes as an array.

    The spectra stand on one wavelength grid unless align is false. Where both xscale and yscale are 1, width and height
    count. The array is of float32 and has the first spectrum in row 0, or in the last with yflip.
    """
    options = StackOptions(
        align=parameters.align,
        yflip=parameters.yflip,
        thickness=parameters.thickness,
        xscale=parameters.xscale,
        yscale=parameters.yscale,
        width=parameters.width,
        height=parameters.height,
        cmap=parameters.cmap,
        inverse=parameters.inverse,
        limits=parse_limits(parameters.limits),
        rest_frame=parameters.rest_frame,
        format="png" if parameters.format == "png" else "numpy",
    )
    ids, limit = read_ids(parameters.id_list, call), call.state.settings.max_image_pixels
    media_type, length, body = stacked_image(call.client, parameters.context, ids, options, limit)
    return Streamed(body, media_type, getattr(body, "close", lambda: None), length)


def _observed(
    call: Call, parameters: _Drawn, ids: IdList, options: PreviewOptions, *, start: int = 0, most: int
) -> list[Observed]:
    vectors = vectors_of(options)
    return read_observed(call.client, call.state.catalogues, parameters.context, ids, vectors, start=start, most=most)


def _picture(call: Call, key: bytes, draw: Callable[[], tuple[bytes, str]]) -> Response:
    """Answer with a picture that may have been drawn before."""
    pictures = call.state.pictures
    picture = pictures.get(key, draw)
    answer = kept(call.request, picture.content, picture.media_type)
    if "cache-control" in answer.headers:
        answer.headers["cache-control"] = f"max-age={max(int(pictures.left(picture)), 0)}"
    return answer


def _key(ids: IdList, *what: object) -> bytes:
    told = ids.first.tobytes() if ids.plain else json.dumps(ids.to_wire()).encode()
    return hashlib.sha256(repr((ids.plain, *what)).encode() + told).digest()


def _marks(text: str) -> tuple[LineKind, ...]:
    """Kinds of lines that a text names."""
    kinds = get_args(LineKind)
    words = [word.strip().lower() for word in text.split(",")]
    if words in (["none"], ["all"]):
        return kinds if words == ["all"] else ()
    if unknown := [word for word in words if word not in kinds]:
        raise InvalidRequest(f"lines: '{unknown[0]}' is not one of none, all, {', '.join(kinds)}")
    return tuple(kind for kind in kinds if kind in words)


def _place(parameters: GridParameters, limit: int) -> tuple[int, int, int]:
    """Spectra in a row; spectra of the list before the first of them, and how many to read at most."""
    if parameters.ncols is not None:
        for name in ("nx", "ny", "page"):
            if value := getattr(parameters, name):
                raise InvalidRequest(f"{name}: {value} has no meaning beside ncols, which draws the whole list")
        return parameters.ncols, 0, limit + 1  # one more shows that there are too many
    across, down = parameters.nx or PAGE, parameters.ny or PAGE
    if across * down > limit:
        raise LimitExceeded(f"nx, ny: {across} x {down} spectra are more than the limit max_grid_cells = {limit}")
    return across, parameters.page * across * down, across * down


def _pages(call: Call, parameters: GridParameters, ids: IdList, cells: int) -> int:
    """Pages that a list has."""
    count = len(ids)
    if not ids.plain:
        request = SpectraRequest(context=parameters.context, ids=ids.to_wire(), columns=("flux",))
        count = call.client.act("explain", **request.model_dump(mode="json", exclude_none=True))["rows"]
    return -(-count // cells)


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("/preview", preview, PreviewParameters, _PNG | _SVG, also=CHANGED_ONLY),
    Endpoint("/gridPlot", grid_plot, GridParameters, _PNG, also=CHANGED_ONLY),
    Endpoint("/plotGrid", grid_plot, GridParameters, _PNG, also=CHANGED_ONLY),
    Endpoint("/stackedImage", stacked, StackParameters, _PNG | _NPY),
)
