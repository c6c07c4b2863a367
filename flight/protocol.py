"""The conventions of the record batches that client and server exchange.

The schema of an answer says everything about the numbers: units in the field metadata, and under the schema metadata
key ``specflight`` one JSON object with the context, the grid, the medium and the mask bits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from specflight.errors import InvalidRequest

__all__ = [
    "CATALOGUE_ID",
    "METADATA_KEY",
    "PIXEL",
    "SPPIXMASK",
    "STATUS_DAMAGED",
    "STATUS_MISSING",
    "STATUS_OK",
    "VECTORS",
    "VectorColumn",
    "choose_columns",
    "describe",
    "fits_schema",
    "grid_loglam",
    "list_of",
    "spectra_schema",
    "unidentified",
]

PIXEL = 1e-4
"""Width of a pixel of the SDSS grid in log10(wavelength / Å)."""

CATALOGUE_ID = "specobjid"
"""Name of the identifier column in every answer."""

METADATA_KEY = b"specflight"
STATUS_OK = "ok"
STATUS_MISSING = "missing"
STATUS_DAMAGED = "damaged"

SPPIXMASK: dict[str, int] = {
    "NOPLUG": 0,
    "BADTRACE": 1,
    "BADFLAT": 2,
    "BADARC": 3,
    "MANYBADCOLUMNS": 4,
    "MANYREJECTED": 5,
    "LARGESHIFT": 6,
    "BADSKYFIBER": 7,
    "NEARWHOPPER": 8,
    "WHOPPER": 9,
    "SMEARIMAGE": 10,
    "SMEARHIGHSN": 11,
    "SMEARMEDSN": 12,
    "NEARBADPIXEL": 16,
    "LOWFLAT": 17,
    "FULLREJECT": 18,
    "PARTIALREJECT": 19,
    "SCATTEREDLIGHT": 20,
    "CROSSTALK": 21,
    "NOSKY": 22,
    "BRIGHTSKY": 23,
    "NODATA": 24,
    "COMBINEREJ": 25,
    "BADFLUXFACTOR": 26,
    "BADSKYCHI": 27,
    "REDMONSTER": 28,
}
"""Bits of and_mask and or_mask, from idlutils' ``sdssMaskbits.par`` (SPPIXMASK)."""


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """One of the coadded vectors of a spectrum."""

    name: str
    type: pa.DataType
    unit: str
    description: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian numpy type of one pixel."""
        return np.dtype("<i4" if pa.types.is_int32(self.type) else "<f4")


_FLUX = "1e-17 erg s-1 cm-2 Angstrom-1"
VECTORS: dict[str, VectorColumn] = {
    column.name: column
    for column in (
        VectorColumn("flux", pa.float32(), _FLUX, "coadded calibrated flux density"),
        VectorColumn("loglam", pa.float32(), "log10(Angstrom)", "log10 of the vacuum wavelength, heliocentric"),
        VectorColumn("ivar", pa.float32(), "1e34 s2 cm4 Angstrom2 erg-2", "inverse variance of flux"),
        VectorColumn("and_mask", pa.int32(), "", "SPPIXMASK bits set in every exposure"),
        VectorColumn("or_mask", pa.int32(), "", "SPPIXMASK bits set in any exposure"),
        VectorColumn("wdisp", pa.float32(), "pixel", "wavelength dispersion (sigma)"),
        VectorColumn("sky", pa.float32(), _FLUX, "subtracted sky flux density"),
        VectorColumn("model", pa.float32(), _FLUX, "pipeline's best model fit"),
    )
}
"""The eight vectors in the order of the files."""


def choose_columns(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """Vector columns of a request.

    Parameters
    ----------
    names : str, sequence of str or None
        ``'flux,ivar'`` or ``['flux', 'ivar']``; None or ``'all'`` stands for all eight.

    Returns
    -------
    tuple of str
        The names in the order asked for.

    Raises
    ------
    InvalidRequest
        For a name that is not a vector column, a column named twice, or none at all.
    """
    if names is None or names == "all":
        return tuple(VECTORS)
    chosen = tuple(n.strip() for n in names.split(",")) if isinstance(names, str) else tuple(names)
    for name in chosen:
        if name not in VECTORS:
            raise InvalidRequest(f"columns: '{name}' is not one of {', '.join(VECTORS)}")
    if not chosen or len(set(chosen)) != len(chosen):
        raise InvalidRequest(f"columns: name each column once, got {list(chosen)}")
    return chosen


def grid_loglam(k0: int, npix: int) -> NDArray[np.float32]:
    """Wavelength column of a spectrum on the SDSS grid.

    Parameters
    ----------
    k0 : int
        First pixel: ``round(loglam[0] * 1e4)``.
    npix : int
        Number of pixels.

    Returns
    -------
    ndarray of float32, shape (npix,)
        ``float32((k0 + i) * 1e-4)``, bit for bit what the files hold.
    """
    return (np.arange(k0, k0 + npix, dtype=np.float64) * PIXEL).astype(np.float32)


def explain_validation(error: ValidationError, skip: int = 0) -> str:
    """First fault of a pydantic error as one sentence that names the field (less `skip` parts) and the value."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][skip:]) or "request"
    message = first["msg"].removeprefix("Value error, ")
    value = repr(first.get("input"))
    if len(value) > 80:
        value = value[:77] + "..."
    return f"{where}: {message} (got {value})"


def list_of(kind: pa.DataType, grid: tuple[int, int] | None) -> pa.DataType:
    """Type of a column of spectra: lists of values, of npix each where the (k0, npix) of a grid is given."""
    return pa.list_(kind) if grid is None else pa.list_(kind, grid[1])


@lru_cache(maxsize=256)
def spectra_schema(
    columns: tuple[str, ...],
    context: str,
    release: str = "",
    grid: tuple[int, int] | None = None,
    on_grid: bool = True,
    layout: str = "columns",
    found_in: tuple[str, ...] = (),
) -> pa.Schema:
    """Schema of a stream of spectra.

    Parameters
    ----------
    columns : tuple of str
        Vector columns.
    context, release : str
        Named in the metadata.
    grid : (k0, npix) or None
        The common grid of an aligned answer.
    on_grid : bool
        Whether the wavelengths of every spectrum are those of the SDSS grid.
    layout : {'columns', 'records'}
        See `specflight.flight.requests.SpectraRequest`.
    found_in : tuple of str
        Contexts that the spectra come from, where the one asked for does not have all of them.

    Returns
    -------
    pyarrow.Schema
        ``specobjid`` uint64, ``status`` string and the vectors: lists, or fixed-size lists of npix when aligned. With
        the layout ``records`` one such list, of fixed-size binary values, whose field metadata ``dtype`` names the
        fields and their numpy types.
    """
    fields = [
        pa.field(CATALOGUE_ID, pa.uint64(), metadata={"description": "unique spectrum identifier"}),
        pa.field("status", pa.string(), metadata={"description": "ok, or what is wrong with this row"}),
    ]
    # A list's own item field would only repeat the metadata, so it stays bare.
    if layout == "records":
        dtype = json.dumps([[name, VECTORS[name].dtype.str] for name in columns])
        fields.append(pa.field("records", list_of(pa.binary(4 * len(columns)), grid), metadata={"dtype": dtype}))
    else:
        for vector in (VECTORS[name] for name in columns):
            about_it = {"unit": vector.unit, "description": vector.description}
            fields.append(pa.field(vector.name, list_of(vector.type, grid), metadata=about_it))
    place = {} if grid is None else {"k0": grid[0], "npix": grid[1]}
    about: dict[str, Any] = {
        "context": context,
        "release": release,
        "medium": "vacuum",
        "frame": "heliocentric",
        "grid": {"loglam": "float32((k0 + i) * 1e-4)", "step": PIXEL, **place} if on_grid else {},
    }
    if found_in:
        about["found_in"] = found_in
    if "and_mask" in columns or "or_mask" in columns:
        about["mask_bits"] = SPPIXMASK
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, separators=(",", ":"))})


def fits_schema(context: str) -> pa.Schema:
    """Schema of a stream of original FITS files: specobjid, status, file name and bytes."""
    return pa.schema(
        [
            pa.field(CATALOGUE_ID, pa.uint64()),
            pa.field("status", pa.string()),
            pa.field("name", pa.string()),
            pa.field("fits", pa.large_binary()),
        ],
        metadata={METADATA_KEY: json.dumps({"context": context})},
    )


def unidentified(name: str, column: pa.ChunkedArray) -> str:
    """What to say of rows without a specobjid, where identifiers are needed."""
    if column.null_count == len(column):
        return f"{name}: none of the {len(column)} rows has a specobjid; ask for other columns of this catalogue"
    return f"{name}: {column.null_count} of {len(column)} rows have no specobjid; add 'specobjid IS NOT NULL'"


def describe(schema: pa.Schema) -> dict[str, Any]:
    """Metadata object of a stream of spectra (`spectra_schema`), or an empty one."""
    text = (schema.metadata or {}).get(METADATA_KEY)
    about: dict[str, Any] = json.loads(text) if text else {}
    return about
