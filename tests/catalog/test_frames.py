from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from specflight.catalog.frames import FRAMES, region_in_icrs, to_icrs
from specflight.catalog.regions import Box, Cone, Polygon
from specflight.errors import InvalidRequest

# M31, and the poles and centres that define the frames: that of fk4 is the north galactic pole of 1958
KNOWN = [
    ("galactic", (0.0, 0.0), (266.40499, -28.93617)),
    ("galactic", (122.93192, 27.12825), (0.0, 90.0)),
    ("galactic", (121.17432, -21.57331), (10.68471, 41.26875)),
    ("supergalactic", (0.0, 90.0), (283.75419, 15.70893)),
    ("barycentrictrueecliptic", (0.0, 90.0), (270.0, 66.56071)),
    ("fk4", (192.25, 27.4), (192.85948, 27.12825)),
    ("fk5", (10.68471, 41.26875), (10.68471, 41.26875)),
]


def apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Arcseconds between two positions in degrees."""
    ra, dec = np.radians([a, b]).T
    v = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return float(np.degrees(np.linalg.norm(v[:, 0] - v[:, 1])) * 3600)


@pytest.mark.parametrize(("frame", "given", "icrs"), KNOWN)
def test_published_positions_are_found_in_icrs(
    frame: str, given: tuple[float, float], icrs: tuple[float, float]
) -> None:
    ra, dec = to_icrs(frame, [given[0]], [given[1]])
    assert apart((ra[0], dec[0]), icrs) < 1


@pytest.mark.parametrize("frame", FRAMES)
def test_positions_are_those_of_astropy(frame: str) -> None:
    from astropy import units
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(1)
    lon, lat = rng.random(50) * 360, np.degrees(np.arcsin(rng.random(50) * 2 - 1))
    expected = SkyCoord(lon, lat, unit="deg", frame=frame)
    ra, dec = to_icrs(frame.upper(), lon, lat)
    assert SkyCoord(ra, dec, unit="deg").separation(expected.icrs).to_value(units.arcsec).max() < 1e-6


def test_icrs_is_handed_back_as_it_is_without_astropy() -> None:
    code = "import sys; from specflight.catalog.frames import to_icrs; to_icrs('icrs', [1], [2]); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "specflight.catalog.frames" in modules
    assert "astropy.coordinates" not in modules
    ra, dec = to_icrs("icrs", [370.0, np.nan], [2.0, 3.0])
    assert ra.tolist()[0] == 370
    assert dec.tolist() == [2, 3]


def test_missing_positions_stay_missing() -> None:
    ra, dec = to_icrs("galactic", [np.nan, 1.0, np.inf, 0.0], [1.0, np.nan, 1.0, 0.0])
    assert np.isnan(ra).tolist() == np.isnan(dec).tolist() == [True, True, True, False]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_latitude_beyond_a_pole_is_refused_with_its_row(frame: str) -> None:
    with pytest.raises(InvalidRequest, match=r"dec: row 1 is 90\.5"):
        to_icrs(frame, [0, 1, 2], [90, 90.5, -91])


@pytest.mark.parametrize("frame", ["", "altaz", "galactic2", "b1950"])
def test_an_unknown_frame_is_refused_with_the_known_ones(frame: str) -> None:
    with pytest.raises(InvalidRequest, match=f"frame: '{frame}' is not one of icrs, fk5"):
        to_icrs(frame, [0], [0])
    with pytest.raises(InvalidRequest, match=f"frame: '{frame}' is not one of icrs, fk5"):
        region_in_icrs(frame, Cone(0, 0, 1))


@pytest.mark.parametrize("frame", FRAMES)
def test_a_region_holds_the_same_sky_in_icrs(frame: str) -> None:
    cone, polygon = Cone(350, 62, 8), Polygon(((340, 58), (5, 55), (352, 63), (10, 72)))
    rng = np.random.default_rng(2)
    lon, lat = 350 + 60 * (rng.random(3000) - 0.5), 50 + 30 * rng.random(3000)
    icrs = to_icrs(frame, lon, lat)
    for region in (cone, polygon):
        inside = region.contains(lon, lat)
        assert 100 < inside.sum() < 2000
        assert (region_in_icrs(frame, region).contains(*icrs) == inside).all()


def test_a_box_is_taken_in_icrs_only() -> None:
    box = Box(10, 20, -5, 5)
    assert region_in_icrs("ICRS", box) is box
    with pytest.raises(InvalidRequest, match="frame 'galactic'; give a polygon instead"):
        region_in_icrs("galactic", box)
