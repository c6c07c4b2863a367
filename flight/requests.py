"""What clients may ask: the request models, which client and server share.

A Flight descriptor's command and a ticket are the UTF-8 JSON of one of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from specflight.errors import InvalidRequest
from specflight.flight.protocol import explain_validation

__all__ = [
    "FitsRequest",
    "Frame",
    "MatchRequest",
    "Missing",
    "Query",
    "QueryRequest",
    "Request",
    "SpanRequest",
    "SpectraRequest",
    "parse_request",
]


def _cutout(value: object) -> object:
    if isinstance(value, str):
        low, _dash, high = value.partition("-")
        try:
            return (float(low), float(high))
        except ValueError:
            raise ValueError(f"'{value}' is not of the form '<start>-<end>' in Angstrom") from None
    return value


def _cutout_range(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    # Beyond these no spectrograph of a survey looks, and a grid that wide would be a mistake.
    if not 100.0 <= low < high <= 1_000_000.0:
        raise ValueError(f"{low:g}-{high:g} is not a range of wavelengths: give 100 <= start < end <= 1000000 Angstrom")
    return value


Cutout = Annotated[tuple[float, float], BeforeValidator(_cutout), AfterValidator(_cutout_range)]
Missing = Literal["raise", "null", "skip"]
Frame = Literal["icrs", "fk5", "fk4", "galactic", "supergalactic", "barycentrictrueecliptic"]
Start = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Query(_Model):
    """Rows of a catalogue by position and SQL condition.

    Attributes
    ----------
    catalog : str or None
        ``schema.table``; the context's default catalogue when None.
    cone : (ra, dec, radius) or None
        In degrees.
    polygon : list of (ra, dec) or None
        Vertices in degrees, joined by great circles.
    box : (ra_min, ra_max, dec_min, dec_max) or None
        In degrees, between meridians and parallels; across RA 0 where ra_min > ra_max.
    frame : str
        Of the coordinates in `cone` and `polygon`.
    where : str or None
        SQL condition in PostgreSQL's dialect.
    order_by : str or None
        SQL expressions to sort by.
    limit, offset : int
        Rows wanted, and rows left out first.
    """

    catalog: str | None = None
    cone: tuple[float, float, float] | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    box: tuple[float, float, float, float] | None = None
    frame: Frame = "icrs"
    where: str | None = None
    order_by: str | None = None
    limit: Annotated[int, Field(ge=0)] | None = None
    offset: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_region(self) -> Query:
        given = [name for name in ("cone", "polygon", "box") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one region, not {' and '.join(given)}")
        return self


class QueryRequest(Query):
    """Catalogue columns of the rows that a query finds."""

    what: Literal["query"] = "query"
    context: str = "default"
    columns: tuple[str, ...] | None = None


class _ByIds(_Model):
    context: str = "default"
    ids: list[Any] | None = None
    query: Query | None = None
    missing: Missing = "raise"


class SpectraRequest(_ByIds):
    """Vectors of spectra, named by ids or found by a query.

    Attributes
    ----------
    ids : list or None
        Identifiers in the order wanted, duplicates kept (`specflight.catalog.idlists`); None when a query finds them
        or a DoExchange carries them.
    query : Query or None
        Finds the spectra in place of ids.
    columns : sequence of str or None
        Vector columns; all eight when None.
    align : bool
        Put all on one grid, zero-padded.
    cutout : (start, end) or None
        In Å, vacuum; implies `align`.
    grid : (k0, npix) or None
        The grid to align to, in place of the span of the list: for a part of a longer list.
    start : int
        Rows of the answer to leave out first: where a broken stream resumes.
    layout : {'columns', 'records'}
        A list column for each vector; or one column ``records``, whose values are the pixels as packed structures with
        a little-endian field for each vector, in the order of `columns`.
    compression : {'lz4', 'zstd'} or None
        Of the record batches, for slow links.
    """

    what: Literal["spectra"] = "spectra"
    columns: tuple[str, ...] | None = None
    align: bool = False
    cutout: Cutout | None = None
    grid: tuple[Annotated[int, Field(ge=0, le=100_000)], Annotated[int, Field(gt=0, le=100_000)]] | None = None
    start: Start = 0
    layout: Literal["columns", "records"] = "columns"
    compression: Literal["lz4", "zstd"] | None = None


class SpanRequest(_ByIds):
    """Wavelength limits of a list of spectra."""

    what: Literal["span"] = "span"


class FitsRequest(_ByIds):
    """Original FITS files."""

    what: Literal["fits"] = "fits"
    start: Start = 0


class MatchRequest(_Model):
    """Catalogue rows at each position, or with each identifier, of a list; their spectra too, if wanted.

    The list is `ra` and `dec`, or `ids`, or a table with these columns that a DoExchange carries.

    Attributes
    ----------
    catalog : str or None
        ``schema.table``; the context's default catalogue when None.
    ra, dec : list of float or None
        Positions in degrees.
    frame : str
        Of the positions.
    ids : list of int or str, or None
        specobjids.
    radius : float or None
        Largest separation in degrees; None for ids.
    nearest : bool
        Only the nearest row to each position, not all of them.
    columns : sequence of str or None
        Columns of the catalogue; ``specobjid`` when None.
    vectors : sequence of str or None
        Vectors of the spectra to send along; none when None.
    missing : {'null', 'skip', 'raise'}
        What to do where nothing is found: a row of nulls, no row, or an error.
    start : int
        Rows of the answer to leave out first.
    """

    what: Literal["match"] = "match"
    context: str = "default"
    catalog: str | None = None
    ra: list[float] | None = None
    dec: list[float] | None = None
    frame: Frame = "icrs"
    ids: list[Any] | None = None
    radius: Annotated[float, Field(gt=0)] | None = None
    nearest: bool = True
    columns: tuple[str, ...] | None = None
    vectors: tuple[str, ...] | None = None
    missing: Missing = "null"
    start: Start = 0

    @model_validator(mode="after")
    def _one_list(self) -> MatchRequest:
        if (self.ra is None) != (self.dec is None) or (self.ra is not None and len(self.ra) != len(self.dec or ())):
            raise ValueError("ra and dec are not lists of the same length")
        if self.ra is not None and self.ids is not None:
            raise ValueError("give positions or ids, not both")
        return self


Request = SpectraRequest | QueryRequest | SpanRequest | FitsRequest | MatchRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="what")])


def parse_request(text: bytes | str) -> Request:
    """Request of a ticket or descriptor.

    Parameters
    ----------
    text : bytes or str
        UTF-8 JSON of one of the request models.

    Returns
    -------
    Request
        One of the request models.

    Raises
    ------
    InvalidRequest
        Naming the field and its value.
    """
    try:
        return _REQUEST.validate_json(text)
    except ValidationError as error:
        # The place of a fault starts with the kind of the request.
        raise InvalidRequest(explain_validation(error, skip=1)) from None
