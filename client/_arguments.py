"""What users pass to the client, brought into the fields of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from specflight.catalog.idlists import IdList, read_id_list
from specflight.errors import InvalidRequest
from specflight.flight.protocol import CATALOGUE_ID
from specflight.flight.requests import Query

__all__ = ["Wanted", "column_names", "degrees", "positions", "region", "wanted"]

FEW = 8
"""Identifiers for which a table would take longer to make than the rest of the request."""

REGIONS = "region, or coord and size, or ra, dec and size, or box"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Spectra as a request names them.

    Attributes
    ----------
    fields : dict
        ``ids`` or ``query`` of the request; neither where the ids travel as a table.
    upload : pyarrow.Table or None
        Column ``specobjid``.
    count : int or None
        Rows of the answer, where they are known.
    single : bool
        Whether one spectrum was asked for, not a list.
    """

    fields: dict[str, Any]
    upload: pa.Table | None = None
    count: int | None = None
    single: bool = False


def wanted(id_list: Any) -> Wanted:  # noqa: ANN401 - an id, a tuple, or any list of them, or a Query
    """Spectra that a user names."""
    if isinstance(id_list, Query):
        return Wanted({"query": id_list})
    read = id_list if isinstance(id_list, IdList) else read_id_list(id_list, files=True)
    if not read.plain:
        return Wanted({"ids": read.to_wire()}, single=read.single)
    if len(read) <= FEW:
        return Wanted({"ids": read.first.tolist()}, None, len(read), read.single)
    return Wanted({}, pa.table({CATALOGUE_ID: read.first}), len(read), read.single)


def column_names(fields: str | Sequence[str]) -> list[str]:
    """Names in a list or in a text with commas."""
    if isinstance(fields, str):
        return [name.strip() for name in fields.split(",")]
    if not isinstance(fields, Iterable) or not all(isinstance(name, str) for name in fields):
        raise InvalidRequest(f"fields: {fields!r} is neither names of columns nor a list of them")
    return list(fields)


def positions(ra: Any, dec: Any) -> pa.Table:  # noqa: ANN401
    """Table of positions in degrees; `ra` may be an astropy SkyCoord of them all."""
    if hasattr(ra, "icrs"):
        if dec is not None:
            raise InvalidRequest("dec: the coordinates hold it already; leave it out")
        ra, dec = ra.icrs.ra, ra.icrs.dec
    columns = {}
    for name, values in (("ra", ra), ("dec", dec)):
        if values is None:
            raise InvalidRequest(f"{name}: a match needs positions, ra and dec, or ids")
        try:
            angles = values.to_value("deg") if hasattr(values, "to_value") else values
            columns[name] = np.atleast_1d(np.asarray(angles, np.float64))
        except (TypeError, ValueError):
            raise InvalidRequest(f"{name}: {values!r} is not a list of degrees") from None
    shapes = {name: values.shape for name, values in columns.items()}
    if shapes["ra"] != shapes["dec"] or columns["ra"].ndim != 1:
        raise InvalidRequest(
            f"ra, dec: their shapes {shapes['ra']} and {shapes['dec']} are not those of two equal lists"
        )
    return pa.table(columns)


def region(position: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Region of the documented ways to call `Client.query`."""
    orders: dict[int, tuple[str, ...]] = {0: (), 1: ("region",), 2: ("coord", "size"), 3: ("ra", "dec", "size")}
    if len(position) == 2 and not hasattr(position[0], "icrs"):
        orders[2] = ("ra", "dec")
    if len(position) not in orders:
        raise InvalidRequest(f"query: takes {REGIONS}, got {len(position)} values")
    if len(position) == 1 and getattr(position[0], "isscalar", False):
        orders[1] = ("coord",)
    given = dict(zip(orders[len(position)], position, strict=True))
    for name, value in named.items():
        if name not in ("region", "coord", "ra", "dec", "size", "box"):
            hint = "; the size of a cone is called size" if name == "radius" else ""
            raise InvalidRequest(f"{name}: is not a parameter of query{hint}")
        if name in given:
            raise InvalidRequest(f"{name}: is given twice")
        given[name] = value
    match sorted(given):
        case []:
            return {}
        case ["region"]:
            return {"polygon": _vertices(given["region"])}
        case ["coord"]:
            raise InvalidRequest("size: a search around coord needs one, in degrees")
        case ["box"]:
            return {"box": tuple(degrees("box", edge) for edge in given["box"])}
        case ["coord", "size"]:
            icrs = given["coord"].icrs
            return {"cone": (degrees("coord", icrs.ra), degrees("coord", icrs.dec), degrees("size", given["size"]))}
        case ["dec", "ra", "size"]:
            return {"cone": tuple(degrees(name, given[name]) for name in ("ra", "dec", "size"))}
        case names:
            raise InvalidRequest(f"query: {', '.join(names)} do not make a region; give {REGIONS}")


def _vertices(region: Any) -> list[list[float]]:  # noqa: ANN401 - pairs, a flat list, or a SkyCoord
    if hasattr(region, "icrs"):
        region = np.column_stack([region.icrs.ra.deg, region.icrs.dec.deg])
    try:
        vertices = np.asarray(region, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidRequest(f"region: {region!r} is not a list of (ra, dec) in degrees") from None
    if vertices.ndim == 1 and len(vertices) % 2 == 0:
        vertices = vertices.reshape(-1, 2)
    if vertices.ndim != 2 or vertices.shape[1] != 2:
        raise InvalidRequest(f"region: expected (ra, dec) pairs, got an array of shape {vertices.shape}")
    pairs: list[list[float]] = vertices.tolist()
    return pairs


def degrees(name: str, value: Any) -> float:  # noqa: ANN401 - a number or an astropy Quantity
    """Angle in degrees."""
    try:
        return float(value.to_value("deg") if hasattr(value, "to_value") else value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"{name}: {value!r} is not one number of degrees") from None
