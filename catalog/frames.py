"""Celestial frames: positions and regions of other frames brought into ICRS, in which the tables are.

The transformations are those of astropy.coordinates for directions (no distance), under astropy's names: `fk5` and
`barycentrictrueecliptic` are of equinox J2000, `fk4` is of equinox and epoch B1950.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from specflight.catalog.healpix import Vector
from specflight.catalog.regions import Box, Cone, Polygon, Region
from specflight.errors import InvalidRequest

__all__ = ["FRAMES", "region_in_icrs", "to_icrs"]

FRAMES = ("icrs", "fk5", "fk4", "galactic", "supergalactic", "barycentrictrueecliptic")


def to_icrs(frame: str, ra: ArrayLike, dec: ArrayLike) -> tuple[Vector, Vector]:
    """Transform positions into ICRS.

    Parameters
    ----------
    frame : str
        One of `FRAMES`, in small or capital letters.
    ra, dec : array_like of float, shape (n,)
        Longitudes and latitudes of that frame in degrees.

    Returns
    -------
    ra, dec : ndarray of float64, shape (n,)
        Degrees; NaN where a coordinate is not finite. Those of ICRS are handed back as they are.

    Raises
    ------
    InvalidRequest
        For an unknown frame, or a latitude beyond a pole.
    """
    name = _known(frame)
    lon, lat = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    beyond = np.flatnonzero(np.abs(lat) > 90)
    if beyond.size:
        raise InvalidRequest(f"dec: row {beyond[0]} is {lat.ravel()[beyond[0]]} and not between -90 and 90 degrees")
    if name == "icrs":
        return lon, lat
    from astropy import units
    from astropy.coordinates import ICRS, UnitSphericalRepresentation, frame_transform_graph

    known = np.isfinite(lon) & np.isfinite(lat)
    directions = UnitSphericalRepresentation(np.where(known, lon, 0) * units.deg, np.where(known, lat, 0) * units.deg)
    icrs = frame_transform_graph.lookup_name(name)(directions).transform_to(ICRS())
    return np.where(known, icrs.ra.deg, np.nan), np.where(known, icrs.dec.deg, np.nan)


def region_in_icrs(frame: str, region: Region) -> Region:
    """Turn a region that is given in a frame into the same region of ICRS.

    A cone stays a cone and great circles stay great circles, as the frames are turned against each other; but for the
    terms of elliptic aberration of `fk4`, which shift positions by up to 0.35 arcsec: there the centre or the vertices
    are exact.

    Parameters
    ----------
    frame : str
        One of `FRAMES`, in small or capital letters.
    region : Cone, Polygon or Box
        In degrees of that frame.

    Returns
    -------
    Cone, Polygon or Box
        In degrees of ICRS.

    Raises
    ------
    InvalidRequest
        For an unknown frame, or a box of a frame other than ICRS.
    """
    if _known(frame) == "icrs":
        return region
    if isinstance(region, Box):
        raise InvalidRequest(
            f"box: its sides follow ra and dec of ICRS and not frame '{frame}'; give a polygon instead"
        )
    if isinstance(region, Cone):
        ra, dec = to_icrs(frame, [region.ra], [region.dec])
        return Cone(float(ra[0]), float(dec[0]), region.radius)
    ra, dec = to_icrs(frame, *np.array(region.vertices).T)
    return Polygon(tuple(zip(ra.tolist(), dec.tolist(), strict=True)))


def _known(frame: str) -> str:
    name = frame.lower()
    if name not in FRAMES:
        raise InvalidRequest(f"frame: '{frame}' is not one of {', '.join(FRAMES)}")
    return name
